//! Every fault of a configuration is an error that names file, line and remedy.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::program::{Finished, new_cluster, run};

fn serve(file: &Path, rank: &str) -> Finished {
    let data = file.with_file_name("data");
    let arguments = [
        "serve",
        "--config",
        file.to_str().unwrap(),
        "--rank",
        rank,
        "--data",
    ];
    let arguments: Vec<_> = arguments.into_iter().chain(data.to_str()).collect();
    let finished = run(Path::new("/"), &arguments);
    assert!(!data.exists(), "a fault is found before anything is made");
    finished
}

fn assert_refused(finished: &Finished, said: &str) {
    let stderr = &finished.stderr;
    assert_eq!(finished.code, Some(78), "{stderr}");
    assert!(stderr.contains(said), "`{stderr}` has no `{said}`");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// The number of the first line of this file that contains the part.
fn line_of(file: &Path, part: &str) -> usize {
    let text = fs::read_to_string(file).unwrap();
    1 + text.lines().position(|line| line.contains(part)).unwrap()
}

#[test]
fn faults_of_the_file_name_its_line() {
    for (part, replacement, said) in [
        ("size = ", "sise = ", "unknown key `sise`; remove it"),
        (
            "cluster = ",
            "cluster = 7 # ",
            "`cluster` is of type integer; write it as in cluster",
        ),
        (
            "\"1GiB\"",
            "\"1GB\"",
            "`size`: 1000000000 bytes are not a multiple",
        ),
        (
            "# rank 2",
            "\"x\", # rank 2",
            "`processes`: `x` has no port; write HOST:PORT",
        ),
        ("processes = [", "processes = [[", "mend this line"),
    ] {
        let (_directory, file) = new_cluster(3);
        let good = fs::read_to_string(&file).unwrap();
        assert!(good.contains(part));
        fs::write(&file, good.replacen(part, replacement, 1)).unwrap();
        let refused = serve(&file, "1");
        assert_refused(&refused, said);
        let place = format!("{}:", file.display());
        let line = refused.stderr.split_once(&place).expect(&refused.stderr).1;
        let line: usize = line.split_once(':').unwrap().0.parse().unwrap();
        assert!(
            line > 1 && line <= good.lines().count(),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    assert_refused(
        &serve(Path::new("/nonexistent/cluster.toml"), "1"),
        "/nonexistent/cluster.toml: cannot be read: No such file or directory (os error 2); name \
         the cluster.toml that `atdd init` wrote",
    );
    assert_refused(
        &serve(Path::new("/dev/zero"), "1"),
        "it is not a plain file; name",
    );
}

#[test]
fn a_rank_out_of_range_names_the_line_of_the_processes() {
    let (_directory, file) = new_cluster(3);
    let line = line_of(&file, "processes = [");
    for rank in ["0", "4", "256"] {
        let said = format!(
            "{}:{line}: rank {rank} is out of range; the 3 processes listed here have ranks 1 to 3",
            file.display()
        );
        assert_refused(&serve(&file, rank), &said);
    }
}

#[test]
fn faults_of_the_keys_name_the_line_and_the_key_file() {
    type Spoil = fn(&Path);
    let faults: [(Spoil, &str); 5] = [
        (
            |key| fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap(),
            "is open to other users (its mode is 0644); run: chmod 600 ",
        ),
        (
            |key| fs::write(key, "00".repeat(31)).unwrap(),
            "has 62 hex digits instead of ",
        ),
        (
            |key| fs::write(key, "no key").unwrap(),
            "has something else than a hex digit at place 1; copy the file again",
        ),
        (
            |key| fs::remove_file(key).unwrap(),
            "cannot be read: No such file",
        ),
        (
            |key| {
                fs::remove_file(key).unwrap();
                fs::create_dir(key).unwrap();
            },
            "is not a plain file; name the key file",
        ),
    ];
    for name in ["client", "system"] {
        for (spoil, said) in faults {
            let (_directory, file) = new_cluster(1);
            let key = file.with_file_name(format!("{name}.key"));
            spoil(&key);
            let place = format!(
                "{}:{}: `{name}_key`: the file {} ",
                file.display(),
                line_of(&file, &format!("{name}_key = ")),
                key.display(),
            );
            let refused = serve(&file, "1");
            assert_refused(&refused, &place);
            assert_refused(&refused, said);
        }
    }
}
