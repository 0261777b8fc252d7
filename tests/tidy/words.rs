//! Words that stand in no source of ours.

use crate::Finding;
use crate::shape::functions;
use crate::source::Source;

const NUMBERS: [&str; 14] = [
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32",
    "f64",
];

/// No queue grows without bound.
pub(crate) fn queues_are_bounded(source: &Source) -> Vec<Finding> {
    let words = [
        "unbounded_channel",
        "UnboundedSender",
        "UnboundedReceiver",
        "unbounded()",
    ];
    forbidden(&source.code_with_tests, &words, "every queue is bounded")
}

/// Nothing is left for later without an issue.
pub(crate) fn nothing_unfinished(source: &Source) -> Vec<Finding> {
    let words = ["todo!", "unimplemented!", "dbg!"];
    forbidden(&source.code_with_tests, &words, "this is unfinished")
}

/// Numbers are converted by `from` and `try_from`; only a constant may have to cast.
pub(crate) fn no_bare_casts(source: &Source) -> Vec<Finding> {
    let functions = functions(&source.code);
    let in_const_fn = |line: usize| {
        let mut around = functions.iter().filter(|function| function.is_const);
        around.any(|function| function.first <= line && line <= function.last)
    };
    let mut in_const = false;
    let mut findings = Vec::new();
    for (number, line) in source.lines() {
        let item = line
            .trim_start()
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ");
        in_const |= item.starts_with("const ") && !item.starts_with("const fn");
        if has_cast(line) && !in_const && !in_const_fn(number) {
            findings.push((number, "a bare `as`; use `from` or `try_from`".to_owned()));
        }
        in_const &= !line.ends_with(';');
    }
    findings
}

/// The library never prints; the program does so in one place, which outlives its reader.
pub(crate) fn printing(source: &Source) -> Vec<Finding> {
    let words = ["println!", "eprintln!", "print!", "eprint!"];
    forbidden(
        &source.code,
        &words,
        "log it, or hand it to `output` in the program",
    )
}

/// What was removed is in the history, and nowhere else.
pub(crate) fn commented_out_code(source: &Source) -> Vec<Finding> {
    let commented = (1..).zip(source.text.lines()).filter(|(_, line)| {
        let comment = line.trim_start().strip_prefix("// ");
        comment.is_some_and(|comment| {
            let ends_like_code =
                comment.ends_with(");") || comment.ends_with('{') || comment == "}";
            ends_like_code || (comment.starts_with("let ") && comment.ends_with(';'))
        })
    });
    commented
        .map(|(line, _)| (line, "commented-out code".to_owned()))
        .collect()
}

fn forbidden(code: &str, words: &[&str], fault: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        for word in words {
            let found = line.match_indices(word).any(|(place, _)| {
                let before = line[..place].chars().next_back();
                !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
            });
            if found {
                findings.push((number, format!("`{word}`: {fault}")));
            }
        }
    }
    findings
}

fn has_cast(line: &str) -> bool {
    line.split(" as ").skip(1).any(|after| {
        let word: String = after
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        NUMBERS.contains(&word.as_str())
    })
}

#[test]
fn an_unbounded_queue_is_found() {
    let code = "let (a, b) = mpsc::unbounded_channel();";
    assert_eq!(queues_are_bounded(&Source::new("src/x.rs", code)).len(), 1);
    let code = "let (a, b) = mpsc::channel(1); // unbounded_channel";
    assert_eq!(queues_are_bounded(&Source::new("src/x.rs", code)), []);
}

#[test]
fn unfinished_code_is_found() {
    for code in ["todo!()", "x => unimplemented!(\"y\"),", "dbg!(x)"] {
        assert_eq!(
            nothing_unfinished(&Source::new("src/x.rs", code)).len(),
            1,
            "{code}"
        );
        assert_eq!(
            nothing_unfinished(&Source::new("tests/x.rs", code)).len(),
            1,
            "{code}"
        );
    }
    assert_eq!(
        nothing_unfinished(&Source::new("src/x.rs", "\"todo!\" // dbg!")),
        []
    );
}

#[test]
fn a_bare_cast_is_found() {
    for code in [
        "let x = y as u64;",
        "f(a as usize)",
        "fn f() {\n    x as i32\n}",
    ] {
        assert_eq!(
            no_bare_casts(&Source::new("src/x.rs", code)).len(),
            1,
            "{code}"
        );
        assert_eq!(no_bare_casts(&Source::new("tests/x.rs", code)), []);
    }
    for code in [
        "pub const fn f(x: u8) -> u64 {\n    x as u64\n}",
        "const X: u64 = Y as u64;",
        "const X: u64 =\n    Y as u64;",
        "use a as b; <X as Y>::z()",
        "&x as &dyn Z",
    ] {
        assert_eq!(no_bare_casts(&Source::new("src/x.rs", code)), [], "{code}");
    }
    let after = "const X: u8 = 1;\nlet x = y as u64;";
    assert_eq!(no_bare_casts(&Source::new("src/x.rs", after)).len(), 1);
}

#[test]
fn printing_is_found() {
    for code in ["println!(\"x\");", "eprint!(\"x\");"] {
        assert_eq!(printing(&Source::new("src/x.rs", code)).len(), 1, "{code}");
    }
    assert_eq!(printing(&Source::new("src/x.rs", "writeln!(x)")), []);
}

#[test]
fn commented_out_code_is_found() {
    for code in ["// let x = 1;", "    // f(x);", "// if x {", "// }"] {
        assert_eq!(
            commented_out_code(&Source::new("src/x.rs", code)).len(),
            1,
            "{code}"
        );
    }
    for prose in [
        "// This is so; that is not.",
        "/// let x = 1;",
        "// see f(x)",
        "f(); // g()",
    ] {
        assert_eq!(
            commented_out_code(&Source::new("src/x.rs", prose)),
            [],
            "{prose}"
        );
    }
}
