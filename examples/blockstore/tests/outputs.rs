//! What a get does to what is at the path that it writes to.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use support::{
    Noise, PROGRAM, Server, blockstore, make_fifo, names_in, put_contents, server_command, string,
    succeed, text,
};
use tempfile::TempDir;

const CONTENTS: &str = "what was stored";

/// A stored file, and a directory to write to.
struct Fetch {
    store: TempDir,
    root: String,
    directory: TempDir,
}

impl Fetch {
    fn new() -> Self {
        let store = tempfile::tempdir().unwrap();
        Self {
            root: put_contents(store.path(), CONTENTS.as_bytes()),
            directory: tempfile::tempdir().unwrap(),
            store,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn get(&self, output: &Path) {
        let command = server_command(self.store.path());
        let arguments = ["get", &self.root, "-o", &string(output), "--command"];
        let printed = succeed(&[&arguments[..], &[&command]].concat());
        assert_eq!(printed, "");
    }

    /// Runs a script of the shell in which `get` gets to the path behind it.
    fn shell(&self, shell: &str, script: &str) -> Output {
        let command = server_command(self.store.path());
        let get = format!(
            "get() {{ '{PROGRAM}' get {} --command \"{command}\" -o \"$1\"; }}",
            self.root
        );
        let output = Command::new(shell)
            .args(["-c", &format!("{get}\n{script}")])
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(text(&output.stderr), "", "{script}");
        assert!(output.status.success(), "{script}");
        output
    }
}

#[test]
fn a_file_is_replaced_and_keeps_its_permissions_and_owner() {
    common::watched(|| {
        let fetch = Fetch::new();
        let file = fetch.path("file");
        fs::write(&file, "something that is longer than what was stored").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o604)).unwrap();
        if let Err(error) = chown(&file, Some(12345), Some(23456)) {
            eprintln!("NOT TESTED with another owner: {error}");
        }
        let before = fs::metadata(&file).unwrap();
        fetch.get(&file);
        let after = fs::metadata(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), CONTENTS);
        assert_eq!(after.mode(), before.mode());
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino(), "there never was half of it");
        assert_eq!(names_in(fetch.directory.path()), ["file"]);
    });
}

#[test]
fn a_new_file_has_the_permissions_of_any_new_file() {
    common::watched(|| {
        let fetch = Fetch::new();
        let script = "umask 027; : > other; get file";
        fetch.shell("sh", script);
        let mode = |name| fs::metadata(fetch.path(name)).unwrap().mode();
        assert_eq!(mode("file"), mode("other"));
        assert_eq!(fs::read_to_string(fetch.path("file")).unwrap(), CONTENTS);
    });
}

#[test]
fn a_link_stays_and_what_it_stands_for_is_written() {
    common::watched(|| {
        let fetch = Fetch::new();
        let (there, link) = (fetch.path("there"), fetch.path("link"));
        fs::write(&there, "as it was").unwrap();
        fs::create_dir(fetch.path("links")).unwrap();
        symlink("../link", fetch.path("links/chain")).unwrap();
        symlink("there", &link).unwrap();
        // One to nothing makes what it names.
        symlink("new", fetch.path("dangling")).unwrap();
        fetch.get(&fetch.path("links/chain"));
        fetch.get(&fetch.path("dangling"));
        for name in ["there", "new"] {
            assert_eq!(fs::read_to_string(fetch.path(name)).unwrap(), CONTENTS);
        }
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("there"));
        assert_eq!(
            fs::read_link(fetch.path("dangling")).unwrap(),
            Path::new("new")
        );
        let names = ["dangling", "link", "links", "new", "there"];
        assert_eq!(names_in(fetch.directory.path()), names);
    });
}

#[test]
fn a_file_with_further_names_stays_one_file() {
    common::watched(|| {
        let fetch = Fetch::new();
        let (file, further) = (fetch.path("file"), fetch.path("further"));
        fs::write(&file, "something that is longer than what was stored").unwrap();
        fs::hard_link(&file, &further).unwrap();
        fetch.get(&file);
        for path in [&file, &further] {
            assert_eq!(fs::read_to_string(path).unwrap(), CONTENTS);
            assert_eq!(fs::metadata(path).unwrap().nlink(), 2);
        }
        assert_eq!(names_in(fetch.directory.path()), ["file", "further"]);
    });
}

#[test]
fn a_fifo_is_written_through() {
    common::watched(|| {
        let fetch = Fetch::new();
        let fifo = fetch.path("fifo");
        make_fifo(&fifo);
        thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read_to_string(&fifo).unwrap());
            fetch.get(&fifo);
            assert_eq!(reader.join().unwrap(), CONTENTS);
        });
        assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
        assert_eq!(names_in(fetch.directory.path()), ["fifo"]);
    });
}

/// One of its own in a directory of its own, never that of the machine.
#[test]
fn a_device_is_written_through() {
    common::watched(|| {
        let fetch = Fetch::new();
        let device = fetch.path("null");
        let made = Command::new("mknod")
            .arg(&device)
            .args(["c", "1", "3"])
            .stderr(Stdio::null())
            .status();
        let opened = OpenOptions::new().write(true).open(&device);
        if !made.is_ok_and(|status| status.success()) || opened.is_err() {
            eprintln!("NOT TESTED: devices cannot be made or opened here");
            return;
        }
        fetch.get(&device);
        let kind = fs::metadata(&device).unwrap().file_type();
        assert!(kind.is_char_device(), "{kind:?}");
        assert_eq!(names_in(fetch.directory.path()), ["null"]);
    });
}

#[test]
fn what_the_shell_has_opened_is_written_by_its_descriptor() {
    common::watched(|| {
        let fetch = Fetch::new();
        for name in ["/dev/stdout", "/proc/self/fd/1", "-"] {
            let output = fetch.shell("sh", &format!("get {name}"));
            assert_eq!(text(&output.stdout), CONTENTS, "{name}");
            let script = format!("(echo before; get {name}; echo after) > file; cat file");
            let output = fetch.shell("sh", &script);
            let expected = format!("before\n{CONTENTS}after\n");
            assert_eq!(text(&output.stdout), expected, "{name}");
        }
        let script = "(echo before >&2; get /dev/stderr; echo after >&2) 2> file; cat file";
        let expected = format!("before\n{CONTENTS}after\n");
        assert_eq!(text(&fetch.shell("sh", script).stdout), expected);
        let script = "exec 3<> gone; rm gone; ln -s /dev/fd/3 link; get link; rm link; cat <&3";
        assert_eq!(text(&fetch.shell("sh", script).stdout), CONTENTS);
        let output = fetch.shell("sh", "get /dev/fd/3 3>&1 >/dev/null | cat");
        assert_eq!(text(&output.stdout), CONTENTS);
        // A file that has no name any more.
        let script = "exec 3<> gone; rm gone; get /dev/fd/3; cat <&3";
        assert_eq!(text(&fetch.shell("sh", script).stdout), CONTENTS);
        if Command::new("bash").arg("-c").arg(":").status().is_ok() {
            let script = "exec 4>&1; get >(cat >&4) | cat; wait $!";
            assert_eq!(text(&fetch.shell("bash", script).stdout), CONTENTS);
        } else {
            eprintln!("NOT TESTED with the pipes of bash, which is not here");
        }
        assert_eq!(names_in(fetch.directory.path()), ["file"]);
    });
}

#[test]
fn a_directory_is_refused() {
    common::watched(|| {
        let fetch = Fetch::new();
        let output = string(fetch.directory.path());
        let command = server_command(fetch.store.path());
        let error = support::fail(&["get", &fetch.root, "-o", &output, "--command", &command]);
        assert!(error.contains("Is a directory"), "{error}");
    });
}

/// A get that has its temporary file and waits for an answer that does not come.
struct Stuck {
    child: Child,
    directory: TempDir,
    _client: std::os::unix::net::UnixStream,
}

impl Stuck {
    /// Starts it with something in front of its command line.
    fn start(wrapper: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "as it was").unwrap();
        let sockets = tempfile::tempdir().unwrap();
        let socket = sockets.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let root = format!("blake3:{}", "0".repeat(64));
        let script = format!(
            "{wrapper} exec '{PROGRAM}' get {root} -o file --unix '{}'",
            socket.display()
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (mut client, _) = listener.accept().unwrap();
        // The file is there before the first request is made.
        client.read_exact(&mut [0]).unwrap();
        let names = names_in(directory.path());
        let temporary = &names[0];
        assert!(
            names.len() == 2
                && temporary.starts_with(".blockstore-get-")
                && Path::new(temporary)
                    .extension()
                    .is_some_and(|part| part == "part"),
            "{names:?}"
        );
        Self {
            child,
            directory,
            _client: client,
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for it and returns the signal that has ended it.
    fn finish(mut self) -> Option<i32> {
        let status = self.child.wait().unwrap();
        assert_eq!(names_in(self.directory.path()), ["file"]);
        let file = fs::read_to_string(self.directory.path().join("file"));
        assert_eq!(file.unwrap(), "as it was");
        status.signal()
    }
}

/// Whether this process ignores a signal, as its children then do, and go on doing.
fn is_ignored_here(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[test]
fn a_temporary_file_tells_what_it_is_and_is_gone_after_signals() {
    common::watched(|| {
        let signals = [("HUP", 1), ("INT", 2), ("ALRM", 14), ("TERM", 15)];
        for (name, number) in signals {
            if is_ignored_here(number) {
                eprintln!("NOT TRIED: these tests were started with SIG{name} ignored");
                continue;
            }
            let stuck = Stuck::start("");
            stuck.signal(name);
            assert_eq!(stuck.finish(), Some(number));
        }
    });
}

#[test]
fn a_signal_that_is_to_be_ignored_is_ignored() {
    common::watched(|| {
        let stuck = Stuck::start("trap '' HUP;");
        stuck.signal("HUP");
        stuck.signal("TERM");
        assert_eq!(stuck.finish(), Some(15));
    });
}

#[test]
fn a_get_that_fails_leaves_everything_as_it_was() {
    common::watched(|| {
        let fetch = Fetch::new();
        let missing = format!("blake3:{}", "0".repeat(64));
        let command = server_command(fetch.store.path());
        fs::write(fetch.path("file"), "as it was").unwrap();
        for output in ["file", "new"] {
            let output = string(&fetch.path(output));
            let got = blockstore(&["get", &missing, "-o", &output, "--command", &command]);
            assert_eq!(got.status.code(), Some(1));
        }
        assert_eq!(names_in(fetch.directory.path()), ["file"]);
        let mut file = File::open(fetch.path("file")).unwrap();
        let mut contents = String::new();
        file.read_to_string(&mut contents).unwrap();
        assert_eq!(contents, "as it was");
    });
}

#[test]
fn a_file_longer_than_the_limit_of_the_system_is_an_error_in_words_and_nothing_is_left() {
    common::watched(|| {
        let store = tempfile::tempdir().unwrap();
        let root = put_contents(store.path(), &Noise::octets(1, 2_000_000));
        let server = Server::start(&["--tcp", "127.0.0.1:0", "--data", &string(store.path())]);
        let directory = tempfile::tempdir().unwrap();
        let script = format!(
            "ulimit -f 1024; exec '{PROGRAM}' get {root} -o file --tcp {}",
            server.address
        );
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("File too large"), "{told}");
        assert_eq!(names_in(directory.path()), [""; 0]);
    });
}
