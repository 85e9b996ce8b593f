//! Reads the paths out of Rust source: enough of the language to follow `use` trees, `self` and `super`, and to leave out
//! comments, literals and items under `#[cfg(test)]`.

/// A path in the source, made absolute where it began with `self`, `super` or `crate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// For example `crate::sim::World`, `tokio::time::Instant`, or a single word.
    pub(super) path: String,
    /// Counted from 1.
    pub(super) line: usize,
    /// Stands in a `use`. Elsewhere a single word may as well be a variable.
    pub(super) imported: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Every path that `source` names, as seen from `module` (`interruption::fence`; `lib` and `main` are the root).
pub(super) fn mentions(source: &str, module: &str) -> Vec<Mention> {
    let (tokens, _) = split_tests(&tokens(source));
    let mut here = vec!["crate".to_owned()];
    if !matches!(module, "lib" | "main") {
        here.extend(module.split("::").map(str::to_owned));
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "use" {
            at = use_tree(&tokens, at + 1, &[], &here, &mut found);
        } else if is_word(&tokens[at].text) {
            let line = tokens[at].line;
            let (path, next) = plain_path(&tokens, at);
            found.push(Mention { path: absolute(&path, &here), line, imported: false });
            at = next;
        } else {
            at += 1;
        }
    }
    found
}

/// `a::b::c` from `at`; turbofish and generics end it.
fn plain_path(tokens: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[at].text.clone()];
    at += 1;
    while text(tokens, at) == "::" && is_word(text(tokens, at + 1)) {
        path.push(tokens[at + 1].text.clone());
        at += 2;
    }
    (path, at)
}

/// One tree of a `use` from `at`, below `prefix`; returns where it ended.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &[String], here: &[String], found: &mut Vec<Mention>) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        match text(tokens, at) {
            "::" | "*" => at += 1,
            "{" => {
                at += 1;
                while !matches!(text(tokens, at), "}" | "") {
                    at = use_tree(tokens, at, &path, here, found);
                    if text(tokens, at) == "," {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => at += 2,
            // `{self}` is its parent.
            "self" if !path.is_empty() => at += 1,
            word if is_word(word) => {
                path.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
    }
    found.push(Mention { path: absolute(&path, here), line, imported: true });
    at
}

fn absolute(path: &[String], here: &[String]) -> String {
    let mut base = here.to_vec();
    let mut rest = path;
    match rest.first().map(String::as_str) {
        Some("self") => rest = &rest[1..],
        Some("super") => {
            while rest.first().is_some_and(|word| word == "super") {
                if base.len() > 1 {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        _ => return path.join("::"),
    }
    base.extend_from_slice(rest);
    base.join("::")
}

/// The modules in files of their own that `source` declares under `#[cfg(test)]`.
pub(super) fn test_modules(source: &str) -> Vec<String> {
    let (_, tests) = split_tests(&tokens(source));
    let declarations = tests.windows(3).filter(|window| window[0].text == "mod" && window[2].text == ";");
    declarations.map(|window| window[1].text.clone()).collect()
}

/// What is compiled into the agent, and what stands under `#[cfg(test)]`: the item behind it, up to its `;` or over its
/// braces.
fn split_tests(tokens: &[Token]) -> (Vec<Token>, Vec<Token>) {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut tests) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if CFG_TEST.iter().enumerate().all(|(offset, word)| text(tokens, at + offset) == *word) {
            let begin = at + CFG_TEST.len();
            at = end_of_item(tokens, begin);
            tests.extend_from_slice(&tokens[begin..at]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, tests)
}

fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < tokens.len() {
        let closed = text(tokens, at) == "}" && depth == 1;
        match text(tokens, at) {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
        // `use a::{b};` has its semicolon behind the braces.
        if closed && text(tokens, at) != ";" {
            return at;
        }
    }
    at
}

fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single characters; comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let begin = at;
        let peek = |offset: usize| chars.get(begin + offset).copied().unwrap_or('\0');
        match chars[at] {
            '/' if peek(1) == '/' => at = end_of_line(&chars, at),
            '/' if peek(1) == '*' => at = end_of_block_comment(&chars, at),
            '"' => at = end_of_string(&chars, at),
            '\'' if peek(1) == '\\' => at = end_of_escaped_char(&chars, at),
            '\'' if peek(2) == '\'' => at += 3,
            // A lifetime: its name must not be taken for a word.
            '\'' => at = end_of_word(&chars, at + 1),
            c if c.is_alphabetic() || c == '_' => {
                let end = end_of_word(&chars, at);
                let word: String = chars[at..end].iter().collect();
                at = match raw_string(&chars, &word, end) {
                    Some(after) => after,
                    None if matches!(word.as_str(), "b" | "c") && chars.get(end) == Some(&'"') => end,
                    None if word == "r" && chars.get(end) == Some(&'#') => end + 1,
                    None => {
                        found.push(Token { text: word, line });
                        end
                    }
                };
            }
            ':' if peek(1) == ':' => {
                found.push(Token { text: "::".into(), line });
                at += 2;
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token { text: c.into(), line });
                }
                at += 1;
            }
        }
        line += chars[begin..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn end_of_word(chars: &[char], mut at: usize) -> usize {
    while chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        at += 1;
    }
    at
}

fn end_of_line(chars: &[char], mut at: usize) -> usize {
    while chars.get(at).is_some_and(|c| *c != '\n') {
        at += 1;
    }
    at
}

fn end_of_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn end_of_escaped_char(chars: &[char], mut at: usize) -> usize {
    at += 3;
    while chars.get(at).is_some_and(|c| *c != '\'') {
        at += 1;
    }
    at + 1
}

/// The end of `r"…"`, `br#"…"#` and the like, if `word` begins one and `at` is behind it.
fn raw_string(chars: &[char], word: &str, at: usize) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr") {
        return None;
    }
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    let mut at = at + hashes;
    if chars.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < chars.len() {
        if chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(at)
}
