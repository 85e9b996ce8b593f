//! Writes YAML with comments: block style, strings quoted unless they are plain words. Pure.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Longest line of a comment.
const WIDTH: usize = 110;

/// A mapping in the making. Keys keep their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    entries: Vec<(String, Node)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Below(Document),
    Value { value: Value, comments: Vec<String> },
}

impl Document {
    /// Puts a value at `path`, with comments before it. What was there before is replaced.
    pub fn put(&mut self, path: &[&str], value: Value, comments: &[String]) {
        let Some((key, rest)) = path.split_first() else { return };
        let at = self.entries.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
            self.entries.push(((*key).to_owned(), Node::Below(Self::default())));
            self.entries.len() - 1
        });
        let Some((_, node)) = self.entries.get_mut(at) else { return };
        if rest.is_empty() {
            *node = Node::Value { value, comments: comments.to_vec() };
            return;
        }
        if !matches!(node, Node::Below(_)) {
            *node = Node::Below(Self::default());
        }
        if let Node::Below(below) = node {
            below.put(rest, value, comments);
        }
    }

    /// The text; `{}` if there is nothing.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.entries.is_empty() {
            out.push_str("{}\n");
        }
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, indent: usize) {
        for (key, node) in &self.entries {
            let margin = " ".repeat(indent);
            match node {
                Node::Below(below) => {
                    _ = writeln!(out, "{margin}{}:", string(key));
                    below.write(out, indent + 2);
                }
                Node::Value { value, comments } => {
                    for words in comments {
                        comment(out, &margin, words);
                    }
                    _ = write!(out, "{margin}{}:", string(key));
                    behind(out, value, indent);
                }
            }
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let entry = |(key, node): &(String, Node)| {
            let value = match node {
                Node::Below(below) => below.json(),
                Node::Value { value, .. } => value.clone(),
            };
            (key.clone(), value)
        };
        Value::Object(self.entries.iter().map(entry).collect())
    }
}

/// Words as comment lines, broken at spaces.
pub fn comment(out: &mut String, margin: &str, words: &str) {
    let mut line = format!("{margin}#");
    let start = line.chars().count();
    for word in words.split_whitespace() {
        let length = line.chars().count();
        if length > start && length + 1 + word.chars().count() > WIDTH {
            _ = writeln!(out, "{line}");
            line = format!("{margin}#");
        }
        line.push(' ');
        line.extend(word.chars().map(|c| if breaks(c) { '\u{fffd}' } else { c }));
    }
    _ = writeln!(out, "{line}");
}

/// A value behind `key:` or `-`.
fn behind(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            mapping(out, entries, indent + 2, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            list(out, items, indent + 2);
        }
        scalar => _ = writeln!(out, " {}", self::scalar(scalar)),
    }
}

/// Entries, the first of them in a line that has its margin already if `begun`.
fn mapping(out: &mut String, entries: &Map<String, Value>, indent: usize, begun: bool) {
    for (index, (key, value)) in entries.iter().enumerate() {
        let margin = if begun && index == 0 { 0 } else { indent };
        _ = write!(out, "{}{}:", " ".repeat(margin), string(key));
        behind(out, value, indent);
    }
}

fn list(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        _ = write!(out, "{}-", " ".repeat(indent));
        match item {
            Value::Object(entries) if !entries.is_empty() => {
                out.push(' ');
                mapping(out, entries, indent + 2, true);
            }
            other => behind(out, other, indent),
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        // `{}` and `[]` among them.
        other => other.to_string(),
    }
}

/// A string, bare if no reader of YAML takes it for anything else.
fn string(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// Words that YAML 1.1 or 1.2 reads as something else than a string.
const RESERVED: [&str; 11] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];

fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(inner)
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}

/// JSON's form of a string, in which YAML differs in what has to be escaped.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for character in Value::from(text).to_string().chars() {
        if breaks(character) {
            _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Not printable for YAML, or the end of a line for some version of it.
fn breaks(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_reads_like_a_file_of_values() {
        let mut document = Document::default();
        document.put(&["responses", "spot"], "drain".into(), &["because ".repeat(20)]);
        document.put(&["tolerations"], json!([{"operator": "Exists"}, {"key": "a/b", "value": "true"}]), &[]);
        document.put(&["responses", "asg"], "ignore".into(), &[]);
        document.put(&["podLabels"], json!({"a": {"b": ["x: y", []]}, "on": {}}), &["one".into(), "two".into()]);
        document.put(&["dryRun"], true.into(), &[]);
        let long = "because ".repeat(13);
        let text = format!(
            "responses:\n  # {}\n  # {}\n  spot: drain\n  asg: ignore\ntolerations:\n  - operator: Exists\n  - key: a/b\n    \
             value: \"true\"\n# one\n# two\npodLabels:\n  a:\n    b:\n      - \"x: y\"\n      - []\n  \"on\": {{}}\ndryRun: true\n",
            long.trim(),
            "because ".repeat(7).trim(),
        );
        assert_eq!(document.text(), text);
        assert_eq!(Document::default().text(), "{}\n");
    }

    fn values() -> impl Strategy<Value = Value> {
        let words = [
            "no",
            "~",
            "1e3",
            "0x1",
            "2001-01-01",
            "a: b",
            "- a",
            "#",
            "",
            " a",
            "a\n",
            "\u{85}",
            "{{x}}",
            ".5",
            "=",
            "<<",
        ];
        let string = prop_oneof![prop::sample::select(words.to_vec()).prop_map(str::to_owned), "\\PC{0,12}", ".{0,6}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            string.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(string.clone(), inner, 0..5)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(value in values(), key in "\\PC{1,8}", words in ".{0,300}") {
            let mut document = Document::default();
            document.put(&["top", &key], value, &[words]);
            let text = document.text();
            let read: Value = serde_saphyr::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(read, document.json(), "{}", text);
        }
    }
}
