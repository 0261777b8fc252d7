//! Help, and what cannot be meant.

use std::path::Path;

use crate::program::run;

fn anywhere() -> &'static Path {
    Path::new("/")
}

#[test]
fn help_has_examples_and_goes_to_stdout() {
    for command in [
        vec!["--help"],
        vec!["dev", "--help"],
        vec!["init", "--help"],
        vec!["serve", "--help"],
        vec!["status", "--help"],
        vec!["store", "check", "--help"],
        vec!["nbd", "--help"],
        vec!["read", "--help"],
        vec!["write", "--help"],
        vec!["attachments", "--help"],
        vec!["bench", "--help"],
    ] {
        let help = run(anywhere(), &command);
        assert_eq!(
            (help.code, help.stderr.as_str()),
            (Some(0), ""),
            "{command:?}"
        );
        assert!(
            help.stdout.contains("Example"),
            "{command:?}: {}",
            help.stdout
        );
    }
    let version = run(anywhere(), &["--version"]);
    assert_eq!(
        version.stdout,
        format!("atdd {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_usage_has_an_exit_code_of_its_own_and_names_the_remedy() {
    for (command, said) in [
        ("", "Usage: atdd"),
        ("frobnicate", "For more information"),
        ("init", "--processes <HOST:PORT,…>"),
        ("init d --processes a --size 1GiB", "write HOST:PORT"),
        (
            "init d --processes a:1,a:1 --size 1GiB",
            "give each process an address of its own",
        ),
        ("init d --processes a:1 --size 1000", "write 4KiB or more"),
        ("init d --processes a:1 --size huge", "for example 512MiB"),
        ("dev --processes 0", "1..=254"),
        ("dev --processes 255", "1..=254"),
        ("dev --size 0", "write a size, for example 1GiB"),
        ("dev --nbd 10809", "write HOST:PORT"),
        ("dev --nbd unix:", "or unix:PATH"),
        ("serve --config c --rank 1", "--data <DIR>"),
        (
            "serve --config c --rank 1 --data d --threads 0",
            "invalid value '0'",
        ),
        (
            "serve --config c --rank 1 --data d --io-timeout 0",
            "invalid value '0'",
        ),
        (
            "nbd --config c --io-timeout 0",
            "write 1 or more seconds, or leave --io-timeout out",
        ),
        (
            "serve --config c --rank one --data d",
            "invalid value 'one'",
        ),
        ("nbd --config c --unix s --port 1", "cannot be used with"),
        ("nbd --config c --read-only --shared", "cannot be used with"),
        ("nbd --config c --join-secret s", "--join <NAME>"),
        ("read --config c", "--sector <N>"),
        ("read --config c --sector 0 --count 0", "invalid value '0'"),
        ("write --config c --sector -1", "unexpected argument"),
        (
            "attachments --config c --release abc",
            "an owner is written as 32 hex digits",
        ),
        ("bench --config c --read 101", "0..=100"),
        ("bench --config c --depth 0", "1..=1024"),
        ("bench --config c --block-size 1000", "write 4KiB or more"),
        ("bench --config c --block-size 64MiB", "write 32MiB or less"),
        (
            "status --config c --log a=b=c",
            "write for example info,atdd=debug",
        ),
    ] {
        let arguments: Vec<_> = command.split_whitespace().collect();
        let refused = run(anywhere(), &arguments);
        assert_eq!(refused.code, Some(64), "{command}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(said),
            "{command}: {}",
            refused.stderr
        );
        assert_eq!(refused.stdout, "", "{command}");
    }
}
