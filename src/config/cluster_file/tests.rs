//! Every fault of a `cluster.toml`, with the line that it is reported for.

use super::*;

const GOOD: &str = r#"# a comment
cluster = "00112233445566778899aabbccddeeff"
size = "1GiB"
processes = [
    "a:1",
    "b:1", # the second
    "c:1",
]
client_key = "client.key"
system_key = "keys/system.key"
"#;

fn parse(text: &str) -> Result<ClusterFile, ConfigError> {
    ClusterFile::parse(Path::new("/etc/atdd/cluster.toml"), text)
}

/// The message for the good file with one part replaced.
fn fault(part: &str, replacement: &str) -> String {
    assert!(GOOD.contains(part));
    parse(&GOOD.replace(part, replacement))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_good_file_is_read() {
    let file = parse(GOOD).unwrap();
    assert_eq!(file.id().to_string(), "00112233445566778899aabbccddeeff");
    assert_eq!(file.size().bytes(), 1 << 30);
    assert_eq!(file.processes().count(), 3);
    assert_eq!(file.client_key.value, Path::new("/etc/atdd/client.key"));
    assert_eq!(
        file.system_key.unwrap().value,
        Path::new("/etc/atdd/keys/system.key")
    );

    let number = parse(&GOOD.replace("\"1GiB\"", "1_073_741_824")).unwrap();
    assert_eq!(number.size().bytes(), 1 << 30);
    let absolute = parse(&GOOD.replace("\"client.key\"", "\"/run/keys/client\"")).unwrap();
    assert_eq!(absolute.client_key.value, Path::new("/run/keys/client"));
}

#[test]
fn what_init_writes_is_what_is_read() {
    let file = parse(GOOD).unwrap();
    let text = cluster_file_text(file.id(), file.size(), file.processes());
    let again = parse(&text).unwrap();
    assert_eq!(again.id(), file.id());
    assert_eq!(again.size(), file.size());
    assert_eq!(again.processes(), file.processes());
    assert!(again.system_key.is_some());
}

#[test]
fn every_fault_names_file_line_and_remedy() {
    for (part, replacement, line, said, remedy) in [
        (
            "size",
            "sise",
            3,
            "unknown key `sise`",
            "remove it, the keys are cluster, size",
        ),
        (
            "size = \"1GiB\"\n",
            "",
            1,
            "`size` is missing",
            "add a line such as size = \"1GiB\"",
        ),
        (
            "size = \"1GiB\"",
            "size = true",
            3,
            "type boolean",
            "as in size = \"1GiB\"",
        ),
        (
            "size = \"1GiB\"",
            "size = 1.5",
            3,
            "type float",
            "as in size = \"1GiB\"",
        ),
        ("1GiB", "1GB", 3, "not a multiple of 4096", "such as GiB"),
        ("\"1GiB\"", "-4096", 3, "is not a size", "write bytes"),
        ("1GiB", "2EiB", 3, "more than 1EiB", "write a smaller one"),
        ("size = \"1GiB\"", "size = ", 3, "", "mend this line"),
        ("size = \"1GiB\"", "[table]", 3, "", "remove it"),
        (
            "size = \"1GiB\"",
            "size = 1\nsize = 2",
            4,
            "duplicate key",
            "mend this line",
        ),
        ("0011", "11", 2, "`cluster`: `11", "write the 32 hex digits"),
        (
            "\"00112233445566778899aabbccddeeff\"",
            "7",
            2,
            "type integer",
            "write it as in",
        ),
        ("\"b:1\"", "\"b\"", 6, "`b` has no port", "write HOST:PORT"),
        (
            "\"b:1\"",
            "7",
            6,
            "type integer",
            "write it as in processes",
        ),
        (
            "\"c:1\"",
            "\"a:1\"",
            7,
            "a:1 is listed for rank 1 and for rank 3",
            "give each",
        ),
        (
            "\"client.key\"",
            "\"\"",
            9,
            "`client_key` is empty",
            "write it as in",
        ),
        (
            "client_key = \"client.key\"\n",
            "",
            1,
            "`client_key` is missing",
            "add a line",
        ),
        (
            "\"keys/system.key\"",
            "[]",
            10,
            "type array",
            "write it as in system_key",
        ),
    ] {
        let message = fault(part, replacement);
        let place = format!("/etc/atdd/cluster.toml:{line}: ");
        assert!(message.starts_with(&place), "{message}");
        assert!(message.contains(said), "{message}");
        assert!(message.contains(remedy), "{message}");
    }
    let none = GOOD
        .find('[')
        .zip(GOOD.find(']'))
        .map(|(from, to)| &GOOD[from..=to])
        .unwrap();
    assert!(fault(none, "[]").contains(":4: `processes`: a cluster has from 1 to 254 processes"));
    assert!(fault(none, "\"a:1\"").contains(":4: `processes` is of type string"));
}

#[test]
fn the_first_unknown_key_is_named() {
    let message = fault("client_key", "zzz = 1\naaa = 2\nclient_key");
    assert!(message.contains(":9: unknown key `zzz`"), "{message}");
}

#[test]
fn a_rank_out_of_range_names_the_line_of_the_processes() {
    let file = parse(GOOD).unwrap();
    assert_eq!(file.rank(3).unwrap().number(), 3);
    for rank in [0, 4, 256, 259, u64::MAX] {
        let message = file.rank(rank).unwrap_err().to_string();
        let expected = format!(
            "/etc/atdd/cluster.toml:4: rank {rank} is out of range; \
             the 3 processes listed here have ranks 1 to 3"
        );
        assert_eq!(message, expected);
    }
}

#[test]
fn a_client_needs_no_system_key() {
    let file = parse(&GOOD.replace("system_key = \"keys/system.key\"\n", "")).unwrap();
    let message = file.system_key().unwrap_err().to_string();
    assert!(
        message.contains("`system_key` is missing; add a line such as"),
        "{message}"
    );
}
