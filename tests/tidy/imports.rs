//! Who may name whom: `domain` <- {`wire`, `register`, `store`} <- `net`, `process`, `client` <-
//! the program.

use crate::Finding;
use crate::paths::{NamedPath, paths};
use crate::source::Source;

/// Each module of the library with the others that it may name. `wire`, `register` and `store`
/// never see one another; they meet in `domain`.
const MAY_NAME: [(&str, &[&str]); 9] = [
    ("domain", &[]),
    ("attachment", &["domain"]),
    ("config", &["domain"]),
    ("wire", &["domain"]),
    ("register", &["domain"]),
    ("store", &["domain"]),
    ("net", &["config", "domain", "register", "store", "wire"]),
    (
        "process",
        &[
            "attachment",
            "config",
            "domain",
            "net",
            "register",
            "store",
            "wire",
        ],
    ),
    ("client", &["config", "domain", "net", "register", "wire"]),
];

/// The pure parts take time, randomness and bytes as inputs.
const PURE: [&str; 4] = ["attachment", "domain", "register", "wire"];
const IMPURE: [&[&str]; 10] = [
    &["tokio"],
    &["rand"],
    &["rustix"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "time"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "env"],
    &["futures_util"],
];

/// A module names only those below it.
pub(crate) fn directions(source: &Source) -> Vec<Finding> {
    let Some(module) = source.top_module() else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
        return vec![(
            1,
            format!("`{module}` has no place in the import directions of DESIGN"),
        )];
    };
    let mut findings = Vec::new();
    for path in paths(&source.code) {
        let Some(other) = named_module(source, &path) else {
            continue;
        };
        let known = MAY_NAME.iter().any(|(name, _)| *name == other);
        if known && other != module && !allowed.contains(&other.as_str()) {
            findings.push((path.line, format!("`{module}` must not name `{other}`")));
        }
    }
    findings
}

/// The pure parts name no runtime, file, socket, clock or random source.
pub(crate) fn pure_parts(source: &Source) -> Vec<Finding> {
    if !source
        .top_module()
        .is_some_and(|module| PURE.contains(&module))
    {
        return Vec::new();
    }
    let impure = |path: &NamedPath| IMPURE.iter().any(|parts| path.starts_with(parts));
    let named = paths(&source.code).into_iter().filter(impure);
    named
        .map(|path| {
            (
                path.line,
                format!("a pure part names `{}`", path.parts.join("::")),
            )
        })
        .collect()
}

/// The NBD server knows NBD, and nothing of clusters.
pub(crate) fn frontend_knows_no_cluster(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("nbd_frontend/") {
        return Vec::new();
    }
    let named = paths(&source.code_with_tests)
        .into_iter()
        .filter(|path| path.parts[0] == "atdd");
    named
        .map(|path| (path.line, "`nbd_frontend` names `atdd`".to_owned()))
        .collect()
}

/// The module at the top of the crate that a path leads to, when it leads from the top.
fn named_module(source: &Source, path: &NamedPath) -> Option<String> {
    let supers = path
        .parts
        .iter()
        .take_while(|part| *part == "super")
        .count();
    let from_top = match path.parts.first().map(String::as_str) {
        Some("crate" | "atdd") => 1,
        Some("super") if supers >= depth(source) => supers,
        _ => return None,
    };
    path.parts.get(from_top).cloned()
}

/// How many `super` lead from a source's own module to the top of the crate.
fn depth(source: &Source) -> usize {
    let parts = source.path.split('/').count() - 1;
    if source.path.ends_with("/mod.rs") {
        parts - 1
    } else {
        parts
    }
}

#[test]
fn a_wrong_direction_is_found() {
    for (path, code) in [
        ("src/domain/rank.rs", "use crate::wire::Frame;"),
        (
            "src/register/quorum.rs",
            "use crate::{domain::Rank, store::Store};",
        ),
        ("src/wire/frame.rs", "fn f() -> crate::register::Ticket {}"),
        ("src/store/mod.rs", "use super::wire;"),
        ("src/store/map.rs", "use super::super::net::Link;"),
        ("src/net/listener.rs", "use crate::process::Router;"),
        ("src/config/key.rs", "use crate::net::Link;"),
        ("src/elsewhere.rs", ""),
    ] {
        assert_eq!(
            directions(&Source::new(path, code)).len(),
            1,
            "{path}: {code}"
        );
    }
    for (path, code) in [
        (
            "src/store/map.rs",
            "use crate::domain::Rank; use super::slots; // crate::wire",
        ),
        (
            "src/process/router.rs",
            "use crate::{net, register::Ticket, wire::Frame};",
        ),
        (
            "src/bin/atdd/main.rs",
            "use atdd::process::run_register_process;",
        ),
        ("src/lib.rs", "pub mod wire;"),
        (
            "src/wire/frame.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::store::X;\n}\n",
        ),
    ] {
        assert_eq!(directions(&Source::new(path, code)), [], "{path}: {code}");
    }
}

#[test]
fn an_impure_name_is_found() {
    for code in [
        "use tokio::sync::mpsc;",
        "use std::{fmt, fs};",
        "use std::time::Duration;",
        "fn f() { std::thread::yield_now() }",
        "let x: u8 = rand::random();",
        "use rustix;",
    ] {
        assert_eq!(
            pure_parts(&Source::new("src/register/x.rs", code)).len(),
            1,
            "{code}"
        );
        assert_eq!(
            pure_parts(&Source::new("src/wire/x.rs", code)).len(),
            1,
            "{code}"
        );
        assert_eq!(pure_parts(&Source::new("src/net/x.rs", code)), []);
    }
    let harmless = "use std::fmt; fn random() {} // tokio::spawn\nuse crate::domain::rand;";
    assert_eq!(pure_parts(&Source::new("src/wire/x.rs", harmless)), []);
}

#[test]
fn a_frontend_that_knows_the_cluster_is_found() {
    let code = "use atdd::domain::Rank;";
    let path = "nbd_frontend/src/lib.rs";
    assert_eq!(frontend_knows_no_cluster(&Source::new(path, code)).len(), 1);
    assert_eq!(
        frontend_knows_no_cluster(&Source::new("src/bin/atdd/main.rs", code)),
        []
    );
}
