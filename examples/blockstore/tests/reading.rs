//! What a put does with files that are in use, cannot be read, or are those of the store.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::{
    PROGRAM, Server, blockstore, make_fifo, names_in, server_command, string, succeed, text,
};

/// The names in a list or in what a put prints.
fn names(printed: &str) -> Vec<String> {
    let lines = printed.lines();
    lines
        .map(|line| line.rsplit_once("  ").unwrap().1.to_owned())
        .collect()
}

/// Starts a put that reads a FIFO first: when somebody has opened that for writing, everything has
/// been found, and nothing read.
fn start_put(fifo: &Path, tree: &Path, data: &Path) -> (Child, File) {
    make_fifo(fifo);
    let child = Command::new(PROGRAM)
        .args(["put", &string(fifo), &string(tree)])
        .args(["--command", &server_command(data)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let writer = OpenOptions::new().write(true).open(fifo).unwrap();
    (child, writer)
}

/// Asserts what a put says that could not read everything.
fn is_incomplete(output: &Output, reasons: &[&str]) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    let mut lines = told.lines();
    for reason in reasons {
        let line = lines.next().unwrap_or_default();
        assert!(
            line.contains("cannot read ") && line.contains(reason),
            "{told}"
        );
    }
    let count = format!("what could not be read is not stored: {}", reasons.len());
    assert!(lines.next().unwrap().ends_with(&count), "{told}");
    assert_eq!(lines.next(), None, "{told}");
}

#[test]
fn a_file_that_grows_as_fast_as_it_is_read_ends() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        let is_done = AtomicBool::new(false);
        let output = thread::scope(|scope| {
            scope.spawn(|| {
                // Without being written, it grows faster than anybody reads.
                let mut len = 1 << 20;
                while !is_done.load(Ordering::Relaxed) {
                    len += 1024;
                    file.set_len(len).unwrap();
                }
            });
            let command = server_command(&directory.path().join("data"));
            let output = blockstore(&["put", &string(&path), "--command", &command]);
            is_done.store(true, Ordering::Relaxed);
            output
        });
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(
            told.ends_with("log was changed while it was read\n"),
            "{told}"
        );
        assert_eq!(names(&text(&output.stdout)), ["log"]);
    });
}

#[test]
fn the_store_itself_is_left_out_by_whatever_path() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let data = tree.join("deep/store");
        fs::create_dir_all(&data).unwrap();
        fs::write(tree.join("file"), vec![7; 100_000]).unwrap();
        // What else is there belongs to somebody.
        fs::write(data.join("notes"), "notes").unwrap();
        fs::write(tree.join("blocks.redb"), "named like the store").unwrap();
        symlink("tree", directory.path().join("by another name")).unwrap();

        let server = Server::start(&["--tcp", "127.0.0.1:0", "--data", &string(&data)]);
        let database = string(&data.join("blocks.redb"));
        for (paths, expected) in [
            (
                &["tree"][..],
                &["tree/blocks.redb", "tree/deep/store/notes", "tree/file"][..],
            ),
            (&["by another name/deep/store"], &["store/notes"]),
            (&[database.as_str(), "tree/file"], &["file"]),
        ] {
            let output = Command::new(PROGRAM)
                .arg("put")
                .args(paths)
                .args(["--tcp", &server.address])
                .current_dir(directory.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let told = text(&output.stderr);
            assert_eq!(names(&text(&output.stdout)), expected, "{told}");
            assert_eq!(output.status.code(), Some(0), "{told}");
            assert!(
                told.contains("blocks.redb belongs to the store itself; left out"),
                "{told}"
            );
        }
        drop(server);
        // To another store it is a file like others.
        let other = server_command(&directory.path().join("other"));
        let stored = succeed(&["put", &string(&data), "--command", &other]);
        assert_eq!(
            names(&stored),
            ["store/blocks.lock", "store/blocks.redb", "store/notes"]
        );
    });
}

#[test]
fn what_vanishes_or_becomes_something_else_is_left_out_and_the_rest_is_stored() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let tree = path("tree");
        fs::create_dir(&tree).unwrap();
        for name in ["1 vanishes", "2 fifo", "3 link", "4 directory", "5 stays"] {
            fs::write(tree.join(name), name).unwrap();
        }
        fs::write(path("secret"), "secret").unwrap();
        let (put, mut fifo) = start_put(&path("fifo"), &tree, &path("data"));
        for name in ["1 vanishes", "2 fifo", "3 link", "4 directory"] {
            fs::remove_file(tree.join(name)).unwrap();
        }
        // It has no writer, and is not waited for.
        make_fifo(&tree.join("2 fifo"));
        symlink("../secret", tree.join("3 link")).unwrap();
        fs::create_dir(tree.join("4 directory")).unwrap();
        fifo.write_all(b"from the pipe").unwrap();
        drop(fifo);
        let output = put.wait_with_output().unwrap();
        assert_eq!(names(&text(&output.stdout)), ["fifo", "tree/5 stays"]);
        let not_regular = "it is no regular file any more";
        is_incomplete(
            &output,
            &["No such file", not_regular, "3 link", not_regular],
        );
        let listed = succeed(&["ls", "--command", &server_command(&path("data"))]);
        assert_eq!(names(&listed), ["fifo", "tree/5 stays"]);
    });
}

#[test]
fn what_cannot_be_read_is_left_out_and_the_rest_is_stored() {
    common::watched(|| {
        if !Path::new("/proc/self/mem").exists() {
            eprintln!("NOT TESTED: there is no file here that can be opened and not be read");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "file").unwrap();
        let command = server_command(&directory.path().join("data"));
        // It can be opened, and there is nothing at its beginning.
        let arguments = [
            "put",
            "/proc/self/mem",
            &string(&file),
            "--command",
            &command,
        ];
        let output = blockstore(&arguments);
        is_incomplete(&output, &["/proc/self/mem: Input/output error"]);
        assert_eq!(names(&text(&output.stdout)), ["file"]);
        assert_eq!(names(&succeed(&["ls", "--command", &command])), ["file"]);
    });
}

/// Nothing is hidden from root, so a put of root's becomes that of somebody else.
#[test]
fn unreadable_files_and_directories_are_left_out_and_the_rest_is_stored() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("a closed one")).unwrap();
        for name in ["a closed one/file", "b closed", "c"] {
            fs::write(tree.join(name), name).unwrap();
        }
        for name in ["a closed one", "b closed"] {
            let nobody = PermissionsExt::from_mode(0o000);
            fs::set_permissions(tree.join(name), nobody).unwrap();
        }
        for path in [directory.path(), &tree] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let server = Server::start(&["--tcp", "127.0.0.1:0"]);
        let mut put = Command::new(PROGRAM);
        put.args(["put", &string(&tree), "--tcp", &server.address]);
        put.stdin(Stdio::null());
        if File::open(tree.join("b closed")).is_ok() {
            put.uid(65534).gid(65534);
        }
        match put.output() {
            Ok(output) => {
                is_incomplete(
                    &output,
                    &["a closed one: Permission denied", "b closed: Permi"],
                );
                assert_eq!(names(&text(&output.stdout)), ["tree/c"]);
            }
            Err(error) => eprintln!("NOT TESTED as somebody else than root: {error}"),
        }
        // So that the directory can be removed by others than root.
        fs::set_permissions(tree.join("a closed one"), PermissionsExt::from_mode(0o755)).unwrap();
    });
}

#[test]
fn a_name_that_is_no_text_is_told_escaped_and_left_out_and_the_rest_is_stored() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let odd = |name: &'static [u8]| tree.join(OsStr::from_bytes(name));
        fs::create_dir_all(odd(b"a\xff/b")).unwrap();
        fs::write(odd(b"a\xff/b/unreachable"), "unreachable").unwrap();
        fs::write(odd(b"caf\xe9\x1b[2J"), "odd").unwrap();
        fs::write(tree.join("file"), "file").unwrap();
        let command = server_command(&directory.path().join("data"));
        let output = blockstore(&["put", &string(&tree), "--command", &command]);
        let odd_names = [
            r"/a\xff: its name is not UTF-8",
            r"/caf\xe9\x1b[2J: its name",
        ];
        is_incomplete(&output, &odd_names);
        assert_eq!(names(&text(&output.stdout)), ["tree/file"]);
        // An argument too: the others are stored.
        let odd = odd(b"caf\xe9\x1b[2J");
        let output = Command::new(PROGRAM)
            .arg("put")
            .arg(&odd)
            .args([&string(&tree.join("file")), "--command", &command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        is_incomplete(&output, &[r"/caf\xe9\x1b[2J: its name is not UTF-8"]);
        assert_eq!(names(&text(&output.stdout)), ["file"]);
    });
}

/// Starts the program with a standard output that nobody reads.
fn with_broken_pipe(arguments: &[&str]) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.wait_with_output().unwrap()
}

#[test]
fn a_put_goes_on_and_a_list_ends_quietly_when_nobody_reads_what_they_print() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // More than are recorded at a time.
        for number in 0..2500 {
            fs::write(tree.join(number.to_string()), "file").unwrap();
        }
        let command = server_command(&directory.path().join("data"));
        let output = with_broken_pipe(&["put", &string(&tree), "--command", &command]);
        assert_eq!(text(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(
            succeed(&["ls", "--command", &command]).lines().count(),
            2500
        );

        for question in ["ls", "stat"] {
            let output = with_broken_pipe(&[question, "--command", &command]);
            assert_eq!(text(&output.stderr), "");
            assert_eq!(output.status.code(), Some(0));
        }

        // A full disk below standard output stops no put either, and is told in the end.
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
            eprintln!("NOT TESTED with /dev/full, which is not here");
            return;
        };
        fs::write(tree.join("more"), "more").unwrap();
        let output = Command::new(PROGRAM)
            .args(["put", &string(&tree), "--command", &command])
            .stdin(Stdio::null())
            .stdout(full)
            .output()
            .unwrap();
        assert!(text(&output.stderr).contains("cannot print: No space left"));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            succeed(&["ls", "--command", &command]).lines().count(),
            2501
        );
        assert_eq!(names_in(&tree).len(), 2501);
    });
}

#[test]
fn what_is_only_named_like_the_lock_of_a_store_is_not_waited_for() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (tree, is_fifo) in [("fifo", true), ("endless", false)] {
            fs::create_dir(path(tree)).unwrap();
            fs::write(path(tree).join("blocks.redb"), "somebody's").unwrap();
            let lock = path(tree).join("blocks.lock");
            if is_fifo {
                make_fifo(&lock);
            } else {
                symlink("/dev/zero", lock).unwrap();
            }
            let command = server_command(&path("data"));
            let output = blockstore(&["put", &string(&path(tree)), "--command", &command]);
            assert_eq!(output.status.code(), Some(0), "{tree}");
            let printed = text(&output.stdout);
            assert_eq!(names(&printed), [format!("{tree}/blocks.redb")]);
        }
    });
}

#[test]
fn a_file_without_a_length_that_goes_on_and_on_is_not_taken_for_whole() {
    common::watched(|| {
        // As long as the memory that a process may have, and regular.
        let endless = Path::new("/proc/self/pagemap");
        if !endless.exists() {
            eprintln!("NOT TESTED: there is no regular file without a length here");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let command = server_command(&directory.path().join("data"));
        let output = blockstore(&["put", &string(endless), "--command", &command]);
        let reason = "pagemap: it does not say how long it is; its first 16777216 bytes are stored";
        is_incomplete(&output, &[reason]);
        assert_eq!(names(&text(&output.stdout)), ["pagemap"]);
    });
}
