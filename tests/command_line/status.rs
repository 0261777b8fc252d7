//! `atdd status`.

use std::path::Path;

use crate::program::{Running, command, new_cluster, run, until};

fn status(file: &Path, json: bool) -> crate::program::Finished {
    let mut arguments = vec!["status", "--config", file.to_str().unwrap()];
    arguments.extend(json.then_some("--json"));
    run(Path::new("/"), &arguments)
}

fn serve(file: &Path, rank: &str) -> Running {
    let data = file.with_file_name(format!("data-{rank}"));
    let arguments = [
        "serve",
        "--config",
        file.to_str().unwrap(),
        "--rank",
        rank,
        "--data",
    ];
    let arguments: Vec<_> = arguments.into_iter().chain(data.to_str()).collect();
    Running::start(Path::new("/"), &arguments)
}

#[test]
fn it_tells_healthy_from_degraded_from_none() {
    let (_directory, file) = new_cluster(3);
    let nobody = status(&file, false);
    assert_eq!(nobody.code, Some(2), "{}", nobody.stdout);
    assert!(
        nobody.stdout.contains("\nno majority: process 1 is down ("),
        "{}",
        nobody.stdout
    );

    let first = serve(&file, "1");
    let second = serve(&file, "2");
    let third = serve(&file, "3");
    until("all is well", || {
        (status(&file, false).code == Some(0)).then_some(())
    });
    let healthy = status(&file, false);
    assert_eq!(healthy.stdout.lines().count(), 5, "{}", healthy.stdout);
    assert!(
        healthy.stdout.ends_with("\nhealthy\n"),
        "{}",
        healthy.stdout
    );
    assert_eq!(healthy.stderr, "");

    second.stop();
    until("it is degraded", || {
        (status(&file, false).code == Some(1)).then_some(())
    });
    let degraded = status(&file, false);
    assert!(
        degraded.stdout.contains("process 2 is down ("),
        "{}",
        degraded.stdout
    );

    let json = status(&file, true);
    assert_eq!(json.code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["health"], "degraded");
    assert_eq!(json["size"], 1 << 30);
    assert_eq!(json["processes"][0]["up"], true);
    assert_eq!(json["processes"][0]["report"]["rank"], 1);
    assert_eq!(json["processes"][0]["report"]["state"]["is"], "serving");
    assert_eq!(json["processes"][1]["up"], false);
    assert!(json["processes"][1]["error"].is_string());

    first.stop();
    third.stop();
}

/// Wrong keys and another cluster's file were called a cluster that is down.
#[test]
fn whoever_is_not_let_in_is_told_why_and_what_to_do() {
    let (_directory, file) = new_cluster(1);
    let running = serve(&file, "1");
    until("all is well", || {
        (status(&file, false).code == Some(0)).then_some(())
    });
    let good = std::fs::read_to_string(&file).unwrap();
    let identity = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("cluster = "));
        line.unwrap().to_owned()
    };
    let (_other_directory, other) = new_cluster(1);
    let other = identity(&std::fs::read_to_string(other).unwrap());
    std::fs::write(&file, good.replace(&identity(&good), &other)).unwrap();
    let refused = status(&file, false);
    assert_eq!(refused.code, Some(78), "{}", refused.stdout);
    assert!(refused.stdout.contains(" refuses "), "{}", refused.stdout);
    let advice = "; name the cluster.toml of the cluster that is meant\n";
    assert!(refused.stdout.ends_with(advice), "{}", refused.stdout);
    std::fs::write(&file, good).unwrap();

    let key = file.with_file_name("client.key");
    let digits = std::fs::read_to_string(&key).unwrap();
    let other: String = digits.trim().chars().rev().collect();
    std::fs::write(&key, other).unwrap();
    let refused = status(&file, false);
    assert_eq!(refused.code, Some(78), "{}", refused.stdout);
    let said = "\nnot let in: process 1 does not let this client in: its client key is another one; \
                give both ends the client.key of the same cluster\n";
    assert!(refused.stdout.ends_with(said), "{}", refused.stdout);
    assert!(!refused.stdout.contains("down"), "{}", refused.stdout);
    let json = status(&file, true);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["health"], "refused");
    running.stop();
}

#[test]
fn a_reader_that_has_seen_enough_changes_nothing() {
    let (_directory, file) = new_cluster(1);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let arguments = ["status", "--config", file.to_str().unwrap()];
    let mut status = command(Path::new("/"), &arguments);
    assert_eq!(status.stdout(writer).status().unwrap().code(), Some(2));
}

#[test]
fn a_client_needs_no_system_key() {
    let (_directory, file) = new_cluster(1);
    std::fs::remove_file(file.with_file_name("system.key")).unwrap();
    assert_eq!(status(&file, false).code, Some(2));
}

#[test]
fn a_configuration_that_cannot_be_read_is_not_a_sick_cluster() {
    assert_eq!(
        status(Path::new("/nonexistent/cluster.toml"), false).code,
        Some(78)
    );
}
