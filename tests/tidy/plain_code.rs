//! Rust code without its comments and the contents of its literals.

/// The code with every comment, and everything between the quotes of a literal, replaced by
/// spaces: lines and columns stay where they are.
pub(crate) fn plain_code(text: &str) -> String {
    let mut scanner = Scanner {
        rest: text,
        plain: String::with_capacity(text.len()),
    };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.plain
}

struct Scanner<'text> {
    rest: &'text str,
    plain: String,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.blank(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.blank(block_comment(rest));
        } else if let Some(hashes) = raw_string(rest).filter(|_| !self.in_word()) {
            let open = rest.find('"').expect("a raw string begins with a quote") + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let length = rest[open..].find(&close).unwrap_or(rest.len() - open);
            self.keep(open);
            self.blank(length);
            self.keep(close.len().min(self.rest.len()));
        } else if rest.starts_with('"') {
            self.keep(1);
            self.blank(quoted(self.rest, '"'));
            self.keep(1.min(self.rest.len()));
        } else if let Some(length) = character(rest) {
            self.keep(1);
            self.blank(length);
            self.keep(1);
        } else {
            self.keep(rest.chars().next().map_or(0, char::len_utf8));
        }
    }

    /// Whether what comes next continues a word: the `r` of `for"` begins no raw string.
    fn in_word(&self) -> bool {
        let last = self.plain.chars().next_back();
        last.is_some_and(|last| last.is_alphanumeric() || last == '_')
    }

    fn keep(&mut self, bytes: usize) {
        let (kept, rest) = self.rest.split_at(bytes);
        self.plain += kept;
        self.rest = rest;
    }

    fn blank(&mut self, bytes: usize) {
        let (blanked, rest) = self.rest.split_at(bytes);
        let blanks = blanked
            .chars()
            .map(|letter| if letter == '\n' { '\n' } else { ' ' });
        self.plain.extend(blanks);
        self.rest = rest;
    }
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for (place, _) in text.char_indices() {
        if text[place..].starts_with("/*") {
            depth += 1;
        } else if text[place..].starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return place + 2;
            }
        }
    }
    text.len()
}

/// The number of hashes of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let quote = after.trim_start_matches('#');
    quote.starts_with('"').then_some(after.len() - quote.len())
}

/// The length up to the quote that ends a literal.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        if !escaped && letter == quote {
            return place;
        }
        escaped = !escaped && letter == '\\';
    }
    text.len()
}

/// The length between the quotes of a character that begins here; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let is_literal = first == '\\' || inside[first.len_utf8()..].starts_with('\'');
    is_literal.then(|| quoted(inside, '\''))
}

#[test]
fn comments_and_literals_are_blanked_in_place() {
    for (text, plain) in [
        ("a // b \"c\nd", "a        \nd"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a // b\" c") // d"#, r#"f("          ")     "#),
        (r##"f(r#"a " b"#) + g"##, r##"f(r#"     "#) + g"##),
        (r"f('\'', 'x', b'\n')", "f('  ', ' ', b'  ')"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("for\"x\"", "for\" \""),
        ("\"two\nlines\"", "\"   \n     \""),
    ] {
        assert_eq!(plain_code(text), plain, "{text}");
    }
}
