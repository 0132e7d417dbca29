//! The example `peer` at both ends, over each way to join them: what it promises to whoever tests
//! an implementation with it, and, since its tests use most of the crate, a test of that.
//!
//! The same against the Python implementation is in `interop_python.rs`.

mod common;
#[path = "common/processes.rs"]
mod processes;
#[path = "../examples/peer/shell_words.rs"]
mod shell_words;

use std::process::Command;

use common::watched;
use processes::{Over, example, play, run};

fn peer() -> Command {
    Command::new(example("peer"))
}

/// Both ends, with `arguments` for the client.
fn play_both(over: Over, arguments: &[&str]) {
    let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
    watched(move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let printed = play(&peer(), &arguments, &peer(), &[], over);
        assert!(printed.contains("ok      another_channel"), "{printed}");
    });
}

#[test]
fn client_and_server_agree_over_pipes() {
    play_both(Over::Stdio, &[]);
}

#[test]
fn client_and_server_agree_over_tcp() {
    play_both(Over::Tcp, &["--grace", "0"]);
}

#[cfg(unix)]
#[test]
fn client_and_server_agree_over_a_unix_socket() {
    play_both(Over::Unix, &[]);
}

#[test]
fn connection_on_demand_starts_the_server_when_it_is_opened() {
    play_both(
        Over::Stdio,
        &["--on-demand", "--skip", "out_of_order", "--repeat", "2"],
    );
}

#[test]
fn server_that_closes_first_ends_in_order() {
    watched(|| {
        // The first test makes seven requests.
        let printed = play(
            &peer(),
            &["--only", "echo"],
            &peer(),
            &["--close-after", "7"],
            Over::Stdio,
        );
        assert!(printed.contains("3 passed, 0 failed"), "{printed}");
    });
}

#[test]
fn input_that_ends_without_a_goodbye_is_an_orderly_end_of_a_server() {
    watched(|| {
        let output = run(peer().args(["serve", "--stdio"]));
        assert!(output.status.success(), "{output:?}");
        // Its own end of requests and end of stream, and nothing else.
        assert_eq!(output.stdout, [3, 1, 2, 0, 3, 0, 2, 0]);
    });
}

#[test]
fn command_that_is_no_server_is_a_failure_with_its_reason() {
    watched(|| {
        let output = run(peer().args(["call", "--command", "echo 'Last login: today'"]));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains("FAILED  echo: "), "{printed}");
        assert!(printed.contains("Last login: today"), "{printed}");
    });
}

#[test]
fn hard_limit_ends_a_server_with_status_3() {
    watched(|| {
        let output = run(peer().args(["serve", "--tcp", "0", "--max-seconds", "0.1"]));
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    });
}

#[test]
fn bad_arguments_end_with_status_2() {
    watched(|| {
        for arguments in [
            &["listen"][..],
            &["serve"],
            &["serve", "--stdio", "--tcp", "0"],
            &["serve", "--stdio=yes"],
            &["serve", "--tcp", "port"],
            &["serve", "--stdio", "--grace", "-1"],
            &["call", "--command", "'unclosed"],
            &["call", "--tcp", "1", "--only", "no_such_test"],
            &["demo", "--fast"],
        ] {
            let output = run(peer().args(arguments));
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
            assert!(!output.stderr.is_empty(), "{arguments:?}");
        }
    });
}

#[test]
fn demonstration_goes_well() {
    watched(|| {
        let output = run(peer().arg("demo"));
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(printed.ends_with("all went well\n"), "{printed}");
    });
}

#[test]
fn command_line_splits_as_in_a_shell() {
    for (line, words) in [
        ("", &[][..]),
        ("  a\tb \n c ", &["a", "b", "c"]),
        ("'a b' \"c d\"", &["a b", "c d"]),
        ("a'b'\"c\"d", &["abcd"]),
        ("'' \"\"", &["", ""]),
        (r"a\ b \'c", &["a b", "'c"]),
        (r#"'a\' "\"\\\$\`\x""#, &[r"a\", r#""\$`\x"#]),
        ("a\\\nb \"c\\\nd\"", &["ab", "cd"]),
        ("a \\\n b", &["a", "b"]),
    ] {
        assert_eq!(shell_words::split(line).unwrap(), words, "{line:?}");
    }
}

#[test]
fn command_line_with_an_open_quote_or_a_last_backslash_is_refused() {
    for line in ["'a", "\"a", "\"a\\", "a\\"] {
        assert!(shell_words::split(line).is_err(), "{line:?}");
    }
}
