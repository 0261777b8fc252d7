//! `atdd serve`.

use rustix::process::Signal;

use crate::program::{Running, new_cluster, run, until};

fn arguments(file: &std::path::Path) -> Vec<String> {
    let data = file.with_file_name("data");
    let arguments = [
        "serve",
        "--config",
        file.to_str().unwrap(),
        "--rank",
        "1",
        "--data",
    ];
    arguments
        .into_iter()
        .chain(data.to_str())
        .map(str::to_owned)
        .collect()
}

#[test]
fn it_serves_until_it_is_told_to_end() {
    for with in [Signal::TERM, Signal::INT] {
        let (directory, file) = new_cluster(1);
        let mut serve = Running::start(directory.path(), &arguments(&file));
        let status = ["status", "--config", file.to_str().unwrap()];
        until("it serves", || {
            (run(directory.path(), &status).code == Some(0)).then_some(())
        });
        serve.close_stdin();
        serve.signal(with);
        assert_eq!(serve.wait().code(), Some(0));
    }
}

#[test]
fn a_child_of_dev_ends_with_its_stdin() {
    let (directory, file) = new_cluster(1);
    let mut arguments = arguments(&file);
    arguments.push("--exit-with-stdin".to_owned());
    let mut serve = Running::start(directory.path(), &arguments);
    let status = ["status", "--config", file.to_str().unwrap()];
    until("it serves", || {
        (run(directory.path(), &status).code == Some(0)).then_some(())
    });
    serve.close_stdin();
    assert_eq!(serve.wait().code(), Some(0));
}
