//! The sources of the workspace.

use std::fs;
use std::path::{Path, PathBuf};

use crate::plain_code::plain_code;

/// A source file, whole and reduced to what a rule looks at.
pub(crate) struct Source {
    /// Where it is, from the workspace's root.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The code that is shipped: comments and the contents of literals are spaces, and what is
    /// compiled for tests only is empty lines. Line numbers are those of the text.
    pub(crate) code: String,
    /// The same with the code of tests.
    pub(crate) code_with_tests: String,
}

impl Source {
    /// Every Rust source of ours.
    pub(crate) fn all() -> Vec<Self> {
        let root = root();
        let mut paths = Vec::new();
        for directory in ["src", "nbd_frontend/src", "tests", "nbd_frontend/tests"] {
            collect(&root.join(directory), &mut paths);
        }
        paths.sort();
        let named = paths
            .iter()
            .map(|path| (path, path.strip_prefix(&root).unwrap()));
        named
            .map(|(path, name)| {
                Self::new(name.to_str().unwrap(), &fs::read_to_string(path).unwrap())
            })
            .collect()
    }

    /// The source of this path and text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code_with_tests = plain_code(text);
        let code = if is_test_file(path) {
            "\n".repeat(code_with_tests.lines().count())
        } else {
            without_test_items(&code_with_tests)
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            code_with_tests,
        }
    }

    /// The lines of the shipped code, numbered from 1 on.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.lines())
    }

    /// The module at the top of the crate that it belongs to, if it belongs to the library `atdd`.
    pub(crate) fn top_module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let top = inside.split('/').next()?;
        match top.trim_end_matches(".rs") {
            "bin" | "lib" => None,
            top => Some(top),
        }
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// A file that is a test module as a whole: `tests.rs`, or anything below a `tests` directory.
fn is_test_file(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "tests.rs")
}

/// The code with each item under `#[cfg(test)]` blanked. It is formatted by rustfmt, so an item
/// ends with the first line at its own indentation that closes a brace, or at its semicolon.
fn without_test_items(code: &str) -> String {
    let mut kept = String::new();
    let mut skipped_at: Option<usize> = None;
    for line in code.lines() {
        let indentation = line.len() - line.trim_start().len();
        if skipped_at.is_none() && line.trim() == "#[cfg(test)]" {
            skipped_at = Some(indentation);
        } else if let Some(start) = skipped_at {
            let ends =
                line.starts_with('}') || line.trim_start().starts_with('}') || line.ends_with(';');
            if indentation == start && (ends || line.ends_with('}')) {
                skipped_at = None;
            }
        } else {
            kept += line;
        }
        kept += "\n";
    }
    kept
}

#[test]
fn code_for_tests_is_not_shipped() {
    let text = "\
fn shipped() {}

#[cfg(test)]
mod tests;

impl X {
    #[cfg(test)]
    fn only_in_tests(&self) {
        one();
    }

    fn also_shipped(&self) {}
}

#[cfg(test)]
mod inline {
    fn two() {}
}
fn last() {}
";
    let source = Source::new("src/x.rs", text);
    for kept in ["fn shipped", "fn also_shipped", "fn last"] {
        assert!(source.code.contains(kept), "{}", source.code);
    }
    for dropped in ["mod tests", "only_in_tests", "one()", "two"] {
        assert!(!source.code.contains(dropped), "{}", source.code);
        assert!(source.code_with_tests.contains(dropped));
    }
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert!(!Source::new("src/x/tests.rs", text).code.contains("fn"));
}
