//! The program, as a person uses it.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share a function, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Noise, PROGRAM, Server, blockstore, fail, fail_with, server_command, succeed, text};

const MISSING: &str = "blake3:0000000000000000000000000000000000000000000000000000000000000000";

fn string(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Puts a directory and a file, and asks for everything, over one kind of transport.
fn everything_works_over(transport: [&str; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    let files = [
        ("a", 0),
        ("deep/b", 1),
        ("deep/er/ü", 1_000_000),
        ("deep/z", 70_000),
    ];
    for (name, len) in files {
        fs::write(
            tree.join(name),
            Noise::octets(len, usize::try_from(len).unwrap()),
        )
        .unwrap();
    }
    let single = directory.path().join("single");
    fs::write(&single, "single").unwrap();

    let run = |arguments: &[&str]| succeed(&[arguments, &transport].concat());
    let stat = run(&["stat"]);
    assert_eq!(stat, "chunks 0\nbytes 0\n");
    assert_eq!(run(&["ls"]), "");

    let put = run(&["put", &string(&tree), &string(&single)]);
    let names: Vec<&str> = put
        .lines()
        .map(|line| line.split_once("  ").unwrap().1)
        .collect();
    assert_eq!(
        names,
        [
            "tree/a",
            "tree/deep/b",
            "tree/deep/er/ü",
            "tree/deep/z",
            "single"
        ]
    );

    let output = string(&directory.path().join("output"));
    for line in put.lines() {
        let (root, name) = line.split_once("  ").unwrap();
        assert_eq!(run(&["has", root]), "complete\n");
        assert_eq!(run(&["get", root, "-o", &output]), "");
        let original = fs::read(directory.path().join(name)).unwrap();
        assert!(fs::read(&output).unwrap() == original, "{name}");
        let printed = blockstore(&[&["get", root, "-o", "-"][..], &transport].concat());
        assert!(
            printed.status.success() && printed.stdout == original,
            "{name}"
        );
    }

    let ls = run(&["ls"]);
    let listed: Vec<Vec<&str>> = ls
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(listed.len(), 5);
    assert_eq!((listed[0][0], listed[0][2]), ("6", "single"));
    assert_eq!((listed[3][0], listed[3][2]), ("1000000", "tree/deep/er/ü"));
    assert!(put.contains(listed[3][1]));

    let stat = run(&["stat"]);
    assert!(
        stat.starts_with("chunks ") && !stat.contains("unknown"),
        "{stat}"
    );
    assert_eq!(run(&["put", &string(&tree)]).lines().count(), 4);
    assert_eq!(run(&["stat"]), stat, "nothing new was stored");

    // A new version of a file takes its place in the list.
    fs::write(&single, "changed").unwrap();
    run(&["put", &string(&single)]);
    let ls = run(&["ls"]);
    assert_eq!(ls.lines().count(), 5);
    assert!(
        ls.lines().next().unwrap().trim_start().starts_with("7 "),
        "{ls}"
    );

    let output = blockstore(&[&["has", MISSING][..], &transport].concat());
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(1), "missing\n")
    );
    let error = fail(&[&["get", MISSING, "-o", "-"][..], &transport].concat());
    assert!(
        error.contains("the store does not have blake3:0000"),
        "{error}"
    );
}

#[test]
fn everything_works_over_a_command() {
    common::watched(|| {
        let data = tempfile::tempdir().unwrap();
        everything_works_over(["--command", &server_command(data.path())]);
    });
}

#[test]
fn everything_works_over_tcp() {
    common::watched(|| {
        let server = Server::start(&["--tcp", "127.0.0.1:0"]);
        everything_works_over(["--tcp", &server.address]);
    });
}

#[cfg(unix)]
#[test]
fn everything_works_over_a_unix_socket() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let socket = string(&directory.path().join("socket"));
        let data = string(&directory.path().join("data"));
        let arguments = ["--unix", &socket, "--data", &data];
        drop(Server::start(&arguments));
        // The socket of the one that was killed is still there.
        assert!(Path::new(&socket).exists());
        let _server = Server::start(&arguments);
        everything_works_over(["--unix", &socket]);
    });
}

#[test]
fn every_hash_function_can_be_chosen() {
    common::watched(|| {
        for hash in ["blake3", "sha256", "sha1"] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("file");
            fs::write(&file, Noise::octets(1, 200_000)).unwrap();
            let command = server_command(&directory.path().join("data"));
            let with_hash = format!("{command} --hash {hash}");
            let arguments = [
                "put",
                &string(&file),
                "--hash",
                hash,
                "--command",
                &with_hash,
            ];
            let put = succeed(&arguments);
            let root = put.split_whitespace().next().unwrap();
            assert!(root.starts_with(&format!("{hash}:")), "{root}");
            // The store knows what it has.
            assert_eq!(succeed(&["has", root, "--command", &command]), "complete\n");

            let other = if hash == "sha1" { "sha256" } else { "sha1" };
            let error = fail(&[
                "put",
                &string(&file),
                "--hash",
                other,
                "--command",
                &command,
            ]);
            assert!(error.contains(&format!("the hash function of this store is {hash}")));
            let data = string(&directory.path().join("data"));
            let error = fail(&["serve", "--stdio", "--data", &data, "--hash", other]);
            let expected = format!("the store has the hash function {hash}, not {other}");
            assert!(error.contains(&expected), "{error}");
        }
    });
}

#[test]
fn what_is_incomplete_or_no_root_is_told() {
    common::watched(|| {
        let data = tempfile::tempdir().unwrap();
        let (incomplete, chunk) = {
            use blockstore::block::BlockReference;
            use blockstore::hash::{HashCode, HashKind};
            let store = blockstore::store::Store::open(data.path(), None).unwrap();
            let absent = BlockReference::Chunk {
                hash: HashCode::of(HashKind::Blake3, b"absent"),
                span: 6,
            };
            let list = packetstream::payload::encode(&absent);
            (
                store.add(list).unwrap(),
                store.add(b"no list".to_vec()).unwrap(),
            )
        };
        let command = server_command(data.path());
        for (hash, verdict, code) in [(incomplete, "incomplete\n", 1), (chunk, "chunk\n", 0)] {
            let output = blockstore(&["has", &hash.to_string(), "--command", &command]);
            assert_eq!(text(&output.stdout), verdict);
            assert_eq!(output.status.code(), Some(code));
        }
        let output = string(&data.path().join("output"));
        fs::write(&output, "as it was").unwrap();
        let arguments = [
            "get",
            &incomplete.to_string(),
            "-o",
            &output,
            "--command",
            &command,
        ];
        let error = fail(&arguments);
        assert!(
            error.contains("stopped after 0 bytes of blake3:"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&output).unwrap(), "as it was");
    });
}

#[test]
fn a_server_whose_client_ends_in_order_ends_with_success() {
    common::watched(|| {
        // The end of the input between two packets, and the original's two packets of the end.
        for input in [b"".as_slice(), b"\x03\x00\x02\x00\x03\x00\x02\x01"] {
            let mut server = Command::new(PROGRAM)
                .args(["serve", "--stdio"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = server.stdin.take().unwrap();
            std::io::Write::write_all(&mut stdin, input).unwrap();
            drop(stdin);
            let output = server.wait_with_output().unwrap();
            assert_eq!(text(&output.stderr), "");
            assert_eq!(output.status.code(), Some(0));
        }
    });
}

#[test]
fn what_goes_wrong_is_told_in_one_line() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let file = string(&directory.path().join("file"));
        fs::write(&file, "file").unwrap();
        let absent = string(&directory.path().join("absent"));

        // Nothing is put, whatever other arguments there are.
        let error = fail_with(2, &["put", &file, &absent, "--command", "cat"]);
        assert!(error.starts_with("blockstore: cannot read ") && error.contains("No such file"));
        // It has gone without reading. Whether a write or the input shows that first is chance,
        // but either way the reason is told.
        for _ in 0..20 {
            let error = fail(&["put", &file, "--command", "exit 3"]);
            assert!(
                error.starts_with("blockstore: ") && error.contains("exit status: 3"),
                "{error}"
            );
            let error = fail(&["ls", "--command", "echo no server here"]);
            assert!(error.contains("no server here"), "{error}");
            // A server behind it changes nothing.
            let store = directory.path().join("greeted");
            let greeted = format!("echo Welcome; {}", server_command(&store));
            let error = fail(&["ls", "--command", &greeted]);
            assert!(error.contains("it said: \"Welcome\""), "{error}");
        }
        let error = fail(&["stat", "--unix", &absent]);
        assert!(
            error.starts_with(&format!("blockstore: cannot reach {absent}: ")),
            "{error}"
        );
        let error = fail(&["serve", "--tcp", "nowhere"]);
        assert!(
            error.starts_with("blockstore: cannot listen at nowhere: "),
            "{error}"
        );
        let error = fail(&["serve", "--stdio", "--data", &file]);
        assert!(
            error.contains(&format!("cannot open the store in {file}: ")),
            "{error}"
        );
    });
}

#[cfg(unix)]
#[test]
fn what_is_neither_file_nor_directory_is_left_out_with_a_word() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "file").unwrap();
        std::os::unix::fs::symlink("file", tree.join("link")).unwrap();
        let command = server_command(&directory.path().join("data"));
        let output = blockstore(&["put", &string(&tree), "--command", &command]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout).lines().count(), 1);
        let warning = "blockstore: warn: left out what is neither file nor directory: 1;";
        assert!(text(&output.stderr).starts_with(warning));
    });
}

#[test]
fn wrong_usage_is_refused_with_status_2() {
    for arguments in [
        &["serve"][..],
        &["serve", "--stdio", "--tcp", "localhost:0"],
        &["put", "--command", "cat"],
        &["ls"],
        &["get", "blake3:00", "-o", "x", "--command", "cat"],
        &["has", "nonsense", "--command", "cat"],
        &["serve", "--stdio", "--hash", "md5"],
    ] {
        assert_eq!(
            blockstore(arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}

#[test]
fn the_demonstration_puts_gets_and_sends_nothing_twice() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        for seed in 0..20 {
            let path = directory.path().join(format!("file {seed}"));
            fs::write(path, Noise::octets(seed, 50_000)).unwrap();
        }
        fs::create_dir(directory.path().join("target")).unwrap();
        fs::write(directory.path().join("target/built"), "is left out").unwrap();
        let told = succeed(&["demo", &string(directory.path())]);
        assert!(told.starts_with("20 files of "), "{told}");
        let row = |name: &str| {
            let line = told
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            let row = line.split_whitespace().map(str::to_owned);
            row.collect::<Vec<_>>()
        };
        assert_eq!(row("put again")[2], "0", "{told}");
        assert_eq!(row("get")[3], "1000000", "{told}");
        assert!(!told.contains("\n0 callbacks"), "{told}");
    });
}
