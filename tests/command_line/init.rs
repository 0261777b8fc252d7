//! `atdd init`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::program::run;

const INIT: [&str; 6] = [
    "init",
    "new/cluster",
    "--processes",
    "10.0.0.1:7000,[::1]:7000,disk3:7000",
    "--size",
    "2TiB",
];

#[test]
fn it_writes_what_the_others_read() {
    let directory = tempfile::tempdir().unwrap();
    let finished = run(directory.path(), &INIT);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    assert!(
        finished
            .stdout
            .contains("atdd serve --config new/cluster/cluster.toml --rank N")
    );

    let cluster = directory.path().join("new/cluster");
    let mut names: Vec<_> = fs::read_dir(&cluster)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let names: Vec<_> = names.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!(names, ["client.key", "cluster.toml", "system.key"]);

    for (name, digits) in [("client.key", 64), ("system.key", 128)] {
        let path = cluster.join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), digits + 1, "{name}");
        let (key, newline) = text.split_at(digits);
        assert!(
            key.bytes().all(|byte| byte.is_ascii_hexdigit()) && newline == "\n",
            "{name}"
        );
    }
    let file = atdd::config::ClusterFile::load(&cluster.join("cluster.toml")).unwrap();
    assert_eq!(file.size().to_string(), "2TiB");
    assert_eq!(file.processes().addresses()[2].to_string(), "disk3:7000");
    assert!(file.cluster().is_ok() && file.system_key().is_ok());
}

#[test]
fn two_clusters_have_nothing_in_common() {
    let made = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()].map(|directory| {
        assert_eq!(run(directory.path(), &INIT).code, Some(0));
        let path = directory.path().join("new/cluster/cluster.toml");
        let file = atdd::config::ClusterFile::load(&path).unwrap();
        (
            file.id(),
            file.cluster().unwrap().client_key,
            file.system_key().unwrap(),
        )
    });
    let [first, second] = made;
    assert!(first.0 != second.0 && first.1 != second.1 && first.2 != second.2);
    assert_ne!(first.2.bytes()[..32], first.1.bytes()[..]);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_done_stays() {
    for name in ["cluster.toml", "client.key", "system.key"] {
        let directory = tempfile::tempdir().unwrap();
        let cluster = directory.path().join("new/cluster");
        fs::create_dir_all(&cluster).unwrap();
        fs::write(cluster.join(name), "precious").unwrap();

        let refused = run(directory.path(), &INIT);
        assert_eq!(refused.code, Some(1));
        let said = format!("new/cluster/{name} exists already and is not overwritten; choose");
        assert!(refused.stderr.contains(&said), "{}", refused.stderr);
        assert_eq!(fs::read(cluster.join(name)).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&cluster).unwrap().count(), 1);
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("new"), "a file").unwrap();
    let refused = run(directory.path(), &INIT);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("new/cluster cannot be written"),
        "{}",
        refused.stderr
    );
}
