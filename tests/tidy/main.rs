//! The house rules that a program can check, over the text of the sources.
//!
//! Each rule is a function from a [`Source`] to its findings, and has a test on a small bad sample
//! that proves that it can fail.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking; the lint spares only functions marked as tests"
)]

mod imports;
mod manifest;
mod paths;
mod plain_code;
mod shape;
mod source;
mod words;

use source::Source;

/// What is wrong with a source: the line, and the rule in words.
type Finding = (usize, String);

/// A rule over one source.
type Rule = fn(&Source) -> Vec<Finding>;

const RULES: [Rule; 12] = [
    imports::directions,
    imports::pure_parts,
    imports::frontend_knows_no_cluster,
    shape::file_length,
    shape::function_length,
    shape::mod_files,
    shape::file_names,
    words::queues_are_bounded,
    words::nothing_unfinished,
    words::no_bare_casts,
    words::printing,
    words::commented_out_code,
];

#[test]
fn the_sources_keep_the_house_rules() {
    let sources = Source::all();
    assert!(sources.len() > 20, "the sources were found");
    let mut findings = Vec::new();
    for source in &sources {
        for (line, fault) in RULES.iter().flat_map(|rule| rule(source)) {
            findings.push(format!("{}:{line}: {fault}", source.path));
        }
    }
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn every_dependency_says_what_it_is_for() {
    for name in ["Cargo.toml", "nbd_frontend/Cargo.toml"] {
        let text = std::fs::read_to_string(source::root().join(name)).unwrap();
        let findings = manifest::unexplained_dependencies(&text);
        assert!(findings.is_empty(), "{name}: {findings:?}");
    }
}
