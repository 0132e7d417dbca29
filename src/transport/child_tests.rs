//! Tests of the transports made of child processes.

use std::io::{BufRead, Read, Write};
use std::sync::mpsc;
use std::thread;

use super::super::testing::{assert_carries, assert_shutdown_frees, within_deadline};
use super::*;

const LONG: Duration = Duration::from_secs(20);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Starts a child as `Transport::spawn` does, and tells its number.
fn spawn(command: &mut Command) -> (Transport, u32) {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    (child.try_into().unwrap(), id)
}

/// Asks for the diagnosis until the child has exited: it may take longer to start than one waits.
fn diagnosis_after_exit(transport: &Transport) -> String {
    let diagnosis = transport.hooks.diagnosis.as_ref().unwrap();
    (0..100)
        .map(|_| diagnosis().unwrap())
        .find(|told| !told.contains("running"))
        .unwrap()
}

/// Asserts that the process is neither running nor a zombie.
#[cfg(target_os = "linux")]
fn assert_reaped(id: u32) {
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) {
        panic!("process {id} is still there: {stat}");
    }
}

#[cfg(not(target_os = "linux"))]
fn assert_reaped(_id: u32) {}

#[test]
fn cat_echoes() {
    let (reader, writer) = Transport::spawn(&mut Command::new("cat"))
        .unwrap()
        .into_parts();
    assert_carries(writer, reader);
}

#[test]
fn end_of_write_closes_stdin() {
    let mut parts = Transport::spawn(&mut Command::new("cat")).unwrap().split();
    parts.writer.write_all(b"all of it").unwrap();
    parts.hooks.end_of_write.take().unwrap()();
    let error = parts.writer.write(b"more").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let output = within_deadline(move || {
        let mut output = Vec::new();
        parts.reader.read_to_end(&mut output).unwrap();
        output
    });
    assert_eq!(output, b"all of it");
}

#[test]
fn diagnosis_tells_exit_status_and_stderr() {
    let transport = Transport::spawn(sh("echo oops >&2; exit 3").stderr(Stdio::piped())).unwrap();
    assert_eq!(
        diagnosis_after_exit(&transport),
        "exit status: 3; stderr: \"oops\""
    );
}

#[test]
fn diagnosis_without_stderr_tells_exit_status() {
    let mut transport = Transport::spawn(&mut sh("exit 127")).unwrap();
    assert_eq!(transport.reader.fill_buf().unwrap(), b"");
    assert_eq!(diagnosis_after_exit(&transport), "exit status: 127");
}

#[test]
fn diagnosis_of_a_running_child_says_so() {
    let transport = Transport::spawn(&mut Command::new("cat")).unwrap();
    let diagnosis = transport.hooks.diagnosis.as_ref().unwrap();
    assert_eq!(diagnosis().as_deref(), Some("the child is still running"));
}

#[test]
fn diagnosis_names_the_signal() {
    let transport = Transport::spawn(&mut sh("kill -KILL $$")).unwrap();
    let told = diagnosis_after_exit(&transport);
    assert!(
        told.starts_with("signal: 9") && !told.contains("this end"),
        "{told}"
    );
}

#[test]
fn shutdown_frees_stuck_threads() {
    let (transport, id) = spawn(Command::new("sleep").arg("600"));
    assert_shutdown_frees(transport, ());
    assert_reaped(id);
}

#[test]
fn dropped_transport_leaves_no_zombie() {
    let (transport, id) = spawn(&mut Command::new("cat"));
    within_deadline(|| drop(transport));
    assert_reaped(id);
}

#[test]
fn dropped_transport_kills_a_child_that_ignores_the_end_of_its_input() {
    let (transport, id) = spawn(Command::new("sleep").arg("600"));
    within_deadline(|| drop(transport));
    assert_reaped(id);
}

#[test]
fn dropped_transport_does_not_wait_for_a_child_stuck_in_its_output() {
    let (transport, id) = spawn(&mut Command::new("yes"));
    let diagnosis = Arc::clone(transport.hooks.diagnosis.as_ref().unwrap());
    within_deadline(|| drop(transport));
    let told = diagnosis().unwrap();
    assert!(!told.contains("signal: 9"), "it had to be killed");
    assert_reaped(id);
}

#[test]
fn second_part_to_go_reaps() {
    let (transport, id) = spawn(&mut Command::new("cat"));
    let (mut reader, writer) = transport.into_parts();
    drop(writer);
    assert!(within_deadline(move || reader
        .fill_buf()
        .unwrap()
        .is_empty()));
    assert_reaped(id);

    let (transport, id) = spawn(&mut Command::new("cat"));
    let (reader, writer) = transport.into_parts();
    drop(reader);
    within_deadline(|| drop(writer));
    assert_reaped(id);
}

#[test]
fn finish_waits_without_limit() {
    let (transport, id) = spawn(&mut Command::new("cat"));
    let mut parts = transport.split();
    let finish = parts.hooks.finish.take().unwrap();
    within_deadline(move || finish(None));
    assert_reaped(id);
    drop(parts);
}

#[test]
fn finish_kills_at_the_deadline() {
    let (transport, id) = spawn(Command::new("sleep").arg("600"));
    let hooks = transport.split().hooks;
    let (finish, diagnosis) = (hooks.finish.unwrap(), hooks.diagnosis.unwrap());
    within_deadline(move || finish(Some(Instant::now())));
    let told = diagnosis().unwrap();
    assert!(
        told.starts_with("signal: 9") && told.ends_with(", sent by this end"),
        "{told}"
    );
    assert_reaped(id);
}

#[test]
fn kill_ends_a_finish_without_limit() {
    let (transport, id) = spawn(Command::new("sleep").arg("600"));
    let mut parts = transport.split();
    let finish = parts.hooks.finish.take().unwrap();
    let (done, finished) = mpsc::channel();
    thread::Builder::new()
        .spawn(move || {
            finish(None);
            done.send(()).unwrap();
        })
        .unwrap();
    assert!(finished.recv_timeout(Duration::from_millis(100)).is_err());
    parts.hooks.shutdown.unwrap()();
    finished.recv_timeout(LONG).unwrap();
    assert_reaped(id);
}

#[test]
fn flood_of_stderr_blocks_nobody() {
    let flood = "head -c 10000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last words >&2; cat";
    let transport = Transport::spawn(sh(flood).stderr(Stdio::piped())).unwrap();
    let diagnosis = Arc::clone(transport.hooks.diagnosis.as_ref().unwrap());
    let (mut reader, mut writer) = transport.into_parts();
    within_deadline(move || {
        writer.write_all(b"answer").unwrap();
        drop(writer);
        let mut output = Vec::new();
        reader.read_to_end(&mut output).unwrap();
        assert_eq!(output, b"answer");
    });
    let told = diagnosis().unwrap();
    assert!(
        told.starts_with("exit status: 0; stderr: \"xxx"),
        "{}",
        &told[..40]
    );
    assert!(told.ends_with("x\\nlast words\""));
}

#[test]
fn grandchild_that_holds_stderr_holds_up_nobody() {
    // The grandchild ends with our end of the stdin that it shares.
    let script = "exec 3<&0; cat <&3 >&2 & echo oops >&2; exit 1";
    let (transport, id) = spawn(sh(script).stderr(Stdio::piped()));
    assert_eq!(
        diagnosis_after_exit(&transport),
        "exit status: 1; stderr: \"oops\""
    );
    within_deadline(|| drop(transport));
    assert_reaped(id);
}

#[test]
fn child_without_pipes_is_refused_and_reaped() {
    for (stdin, stdout, missing) in [
        (Stdio::null(), Stdio::piped(), "stdin"),
        (Stdio::piped(), Stdio::null(), "stdout"),
        (Stdio::null(), Stdio::null(), "stdin and stdout"),
    ] {
        let child = Command::new("cat")
            .stdin(stdin)
            .stdout(stdout)
            .spawn()
            .unwrap();
        let id = child.id();
        let error = within_deadline(|| Transport::try_from(child).unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            error.to_string(),
            format!("the child's {missing} is not piped")
        );
        assert_reaped(id);
    }
}

#[test]
fn program_that_is_not_there_is_an_error() {
    let error = Transport::spawn(&mut Command::new("no-such-program")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// Runs the calling test once more, in a process of its own that is started by the given shell
/// command. Tells whether this is that process.
#[cfg(target_os = "linux")]
fn runs_alone(start: &str) -> bool {
    const ALONE: &str = "PACKETSTREAM_TEST_RUNS_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = thread::current().name().unwrap().to_owned();
    let output = sh(start)
        .arg(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "it did not run: {text}");
    false
}

/// Other tests open descriptors too, so this one is alone.
#[cfg(target_os = "linux")]
#[test]
fn all_descriptors_are_closed_in_the_end() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    if !runs_alone(r#"exec "$0" "$@""#) {
        return;
    }
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let round = || {
        let (one, other) = UnixStream::pair().unwrap();
        drop(Transport::try_from(one).unwrap().into_parts());
        drop(Transport::try_from(OwnedFd::from(other)).unwrap());
        drop(Transport::stdio().unwrap());
        drop(Transport::spawn(&mut Command::new("cat")).unwrap());
        drop(
            Transport::spawn(&mut Command::new("cat"))
                .unwrap()
                .into_parts(),
        );
    };
    round();
    let before = count();
    for _ in 0..20 {
        round();
    }
    assert_eq!(count(), before);
}

/// A host that ignores `SIGCHLD` has its children reaped by the system: their exit is seen, their
/// status is not.
#[cfg(target_os = "linux")]
#[test]
fn child_that_the_system_reaps_is_neither_waited_for_nor_killed() {
    if !runs_alone(r#"exec env --ignore-signal=CHLD "$0" "$@""#) {
        return;
    }
    let transport = Transport::spawn(&mut sh("exit 3")).unwrap();
    assert_eq!(
        diagnosis_after_exit(&transport),
        "the child has exited, its status is lost"
    );
    transport.hooks.shutdown.as_ref().unwrap()();
    within_deadline(|| drop(transport));
}
