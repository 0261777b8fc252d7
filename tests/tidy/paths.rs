//! Every path that code names, `use` trees written out.

/// A path such as `crate::domain::Rank`, with its line.
pub(crate) struct NamedPath {
    pub(crate) line: usize,
    pub(crate) parts: Vec<String>,
}

impl NamedPath {
    /// Whether the path begins with these parts.
    pub(crate) fn starts_with(&self, parts: &[&str]) -> bool {
        self.parts.len() >= parts.len() && self.parts.iter().zip(parts).all(|(a, b)| a == b)
    }
}

/// All paths in plain code, those of one part included.
pub(crate) fn paths(code: &str) -> Vec<NamedPath> {
    let mut reader = Reader {
        tokens: tokens(code),
        place: 0,
        paths: Vec::new(),
    };
    while reader.place < reader.tokens.len() {
        if reader.word().is_some() {
            reader.path(&[]);
        } else {
            reader.place += 1;
        }
    }
    reader.paths
}

struct Reader<'code> {
    tokens: Vec<(usize, &'code str)>,
    place: usize,
    paths: Vec<NamedPath>,
}

impl<'code> Reader<'code> {
    /// The token at the place, if it is a word.
    fn word(&self) -> Option<&'code str> {
        let (_, token) = self.tokens.get(self.place)?;
        is_word(token).then_some(*token)
    }

    fn at(&self, token: &str) -> bool {
        self.tokens
            .get(self.place)
            .is_some_and(|(_, other)| *other == token)
    }

    /// Reads a path, or a `use` tree, that follows these parts.
    fn path(&mut self, before: &[String]) {
        let mut parts = before.to_vec();
        let line = self.tokens[self.place].0;
        while let Some(word) = self.word() {
            parts.push(word.to_owned());
            self.place += 1;
            if !self.at("::") {
                break;
            }
            self.place += 1;
            if self.at("{") {
                self.place += 1;
                self.tree(&parts);
                return;
            }
        }
        self.paths.push(NamedPath { line, parts });
        // The other name that is given to it, or the type that it is cast to.
        if self.at("as") {
            self.place += 2;
        }
    }

    /// Reads the branches of a `use` tree, after its brace.
    fn tree(&mut self, before: &[String]) {
        while self.place < self.tokens.len() && !self.at("}") {
            if self.word().is_some() {
                self.path(before);
            } else {
                self.place += 1;
            }
        }
        self.place += 1;
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Words, `::`, and every other sign by itself, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (line, mut rest) in (1..).zip(code.lines()) {
        while let Some(first) = rest.chars().next() {
            let in_word = |letter: char| letter.is_alphanumeric() || letter == '_';
            let length = if in_word(first) {
                rest.find(|letter| !in_word(letter)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(length);
            if !token.trim().is_empty() {
                tokens.push((line, token));
            }
            rest = after;
        }
    }
    tokens
}

#[test]
fn use_trees_are_written_out() {
    let code = "use a::{b::{self, C as D}, e,\n  f::*};\nfn g() -> h::I<j::K> { super::l() }";
    let found = paths(code);
    let found: Vec<_> = found
        .iter()
        .map(|path| (path.line, path.parts.join("::")))
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(line, path)| (*line, path.as_str()))
        .collect();
    let expected = [
        (1, "use"),
        (1, "a::b::self"),
        (1, "a::b::C"),
        (1, "a::e"),
        (2, "a::f"),
        (3, "fn"),
        (3, "g"),
        (3, "h::I"),
        (3, "j::K"),
        (3, "super::l"),
    ];
    assert_eq!(found, expected);
}
