//! The shape of files and functions.

use crate::Finding;
use crate::source::Source;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const VAGUE_NAMES: [&str; 7] = [
    "util", "utils", "common", "helper", "helpers", "misc", "stuff",
];

/// A file has at most 500 lines without its tests.
pub(crate) fn file_length(source: &Source) -> Vec<Finding> {
    let lines = source.code.trim_end().lines().count();
    if lines > FILE_LINES_MAX {
        let fault = format!("{lines} lines without its tests, more than {FILE_LINES_MAX}");
        return vec![(lines, fault)];
    }
    Vec::new()
}

/// A function has at most 70 lines.
pub(crate) fn function_length(source: &Source) -> Vec<Finding> {
    let long = |function: &Function| function.lines() > FUNCTION_LINES_MAX;
    let functions = functions(&source.code).into_iter().filter(long);
    functions
        .map(|function| {
            let lines = function.lines();
            (
                function.first,
                format!("a function of {lines} lines, more than {FUNCTION_LINES_MAX}"),
            )
        })
        .collect()
}

/// A `mod.rs` has its doc, `mod` and `use` lines only.
pub(crate) fn mod_files(source: &Source) -> Vec<Finding> {
    if !source.path.ends_with("/mod.rs") {
        return Vec::new();
    }
    let mut in_use = false;
    for (number, line) in source.lines().map(|(number, line)| (number, line.trim())) {
        let item = line
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ");
        if in_use || item.starts_with("use ") {
            in_use = !line.ends_with(';');
        } else if !(line.is_empty() || line.starts_with('#') || is_mod_line(item)) {
            let fault = "a mod.rs has its doc, `mod` and `use` lines only".to_owned();
            return vec![(number, fault)];
        }
    }
    Vec::new()
}

/// A file is named after what is in it.
pub(crate) fn file_names(source: &Source) -> Vec<Finding> {
    let mut parts = source
        .path
        .split('/')
        .map(|part| part.trim_end_matches(".rs"));
    match parts.find(|part| VAGUE_NAMES.contains(part)) {
        Some(name) => vec![(1, format!("`{name}` says nothing of what is in it"))],
        None => Vec::new(),
    }
}

/// A function's place in a source.
pub(crate) struct Function {
    /// Its first line.
    pub(crate) first: usize,
    /// Its last line.
    pub(crate) last: usize,
    /// Whether it can be evaluated by the compiler.
    pub(crate) is_const: bool,
}

impl Function {
    fn lines(&self) -> usize {
        self.last + 1 - self.first
    }
}

/// The functions of plain code. It is formatted by rustfmt, so a body ends with the first line
/// that begins with a brace at the function's own indentation.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let lines: Vec<_> = code.lines().collect();
    let mut functions = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let Some(is_const) = function_head(line.trim_start()) else {
            continue;
        };
        let indentation = line.len() - line.trim_start().len();
        let closes = |line: &&str| {
            let own = line.len() - line.trim_start().len() == indentation;
            own && (line.trim_start().starts_with('}')
                || line.ends_with(';')
                || line.ends_with('}'))
        };
        let last = lines[place..]
            .iter()
            .position(closes)
            .map_or(lines.len(), |count| place + count);
        functions.push(Function {
            first: place + 1,
            last: last + 1,
            is_const,
        });
    }
    functions
}

/// Whether a function begins with this line, and whether it is a constant one.
fn function_head(line: &str) -> Option<bool> {
    let (before, _) = line.split_once("fn ")?;
    let qualifier = |word: &str| {
        matches!(
            word,
            "const" | "async" | "unsafe" | "extern" | "pub" | "\"C\""
        ) || word.starts_with("pub(")
            || word == "in"
            || word.ends_with(')')
    };
    let words = || before.split_whitespace();
    words()
        .all(qualifier)
        .then(|| words().any(|word| word == "const"))
}

fn is_mod_line(item: &str) -> bool {
    item.starts_with("mod ") && item.ends_with(';')
}

#[test]
fn a_long_file_is_found() {
    let long = "x();\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(file_length(&Source::new("src/x.rs", &long)).len(), 1);
    assert_eq!(file_length(&Source::new("src/x/tests.rs", &long)), []);
    let tested = format!(
        "x();\n#[cfg(test)]\nmod tests {{\n{}}}\n",
        "    x();\n".repeat(600)
    );
    assert_eq!(file_length(&Source::new("src/x.rs", &tested)), []);
}

#[test]
fn a_long_function_is_found() {
    let body = |lines| "        x();\n".repeat(lines);
    let long = format!(
        "impl X {{\n    pub(crate) async fn f(\n        self,\n    ) {{\n{}    }}\n}}\n",
        body(67)
    );
    let findings = function_length(&Source::new("src/x.rs", &long));
    assert_eq!(
        findings,
        [(2, "a function of 71 lines, more than 70".to_owned())]
    );
    let short = format!(
        "    fn f() {{\n{}    }}\n    fn g();\n    fn h() {{}}\n",
        body(68)
    );
    assert_eq!(function_length(&Source::new("src/x.rs", &short)), []);
}

#[test]
fn code_in_a_mod_file_is_found() {
    let good = "//! Doc.\n\n#[cfg(test)]\nmod tests;\nmod a;\npub(crate) mod b;\n\npub use a::{\n    X,\n    Y,\n};\n";
    assert_eq!(mod_files(&Source::new("src/x/mod.rs", good)), []);
    for bad in [
        "const X: u8 = 1;",
        "fn f() {}",
        "mod a {\n}",
        "pub struct S;",
    ] {
        assert!(
            !mod_files(&Source::new("src/x/mod.rs", bad)).is_empty(),
            "{bad}"
        );
        assert_eq!(mod_files(&Source::new("src/x/y.rs", bad)), []);
    }
}

#[test]
fn a_vague_name_is_found() {
    for path in [
        "src/util.rs",
        "src/net/helpers/socket.rs",
        "tests/common/mod.rs",
    ] {
        assert_eq!(file_names(&Source::new(path, "")).len(), 1, "{path}");
    }
    assert_eq!(file_names(&Source::new("src/store/map.rs", "")), []);
}
