//! YAML into [`Tree`]s.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::tree::{Place, Tree};

/// The one document of a file of values. The error completes "FILE: …".
pub fn values(file: &str, text: &str) -> Result<Tree, String> {
    // Helm takes an empty file for no values.
    let node: Option<Node> = serde_saphyr::from_str(text).map_err(|error| words(&error))?;
    match node {
        None | Some(Node::Scalar(Value::Null)) => Ok(Tree::default()),
        Some(node) => tree(node, &Arc::from(file)).ok_or_else(|| "is not a mapping of values".to_owned()),
    }
}

/// Every document of a manifest that is a mapping. The error completes "FILE: …".
pub fn manifest(file: &str, text: &str) -> Result<Vec<Tree>, String> {
    let nodes: Vec<Node> = serde_saphyr::from_multiple(text).map_err(|error| words(&error))?;
    let file = Arc::from(file);
    Ok(nodes.into_iter().filter_map(|node| tree(node, &file)).collect())
}

/// One line without the picture of the source, in which a secret may stand.
fn words(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().trim().trim_start_matches("error: ");
    match error.location() {
        Some(at) if !first.contains("line ") => {
            format!("is not the YAML that Helm reads: line {}, column {}: {first}", at.line(), at.column())
        }
        _ => format!("is not the YAML that Helm reads: {first}"),
    }
}

fn tree(node: Node, file: &Arc<str>) -> Option<Tree> {
    let mut tree = Tree::default();
    match value(node, "", file, &mut tree) {
        Value::Object(values) => tree.values = values,
        _ => return None,
    }
    Some(tree)
}

fn value(node: Node, path: &str, file: &Arc<str>, tree: &mut Tree) -> Value {
    match node {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let item = |(index, item)| value(item, &format!("{path}[{index}]"), file, tree);
            Value::Array(items.into_iter().enumerate().map(item).collect())
        }
        Node::Mapping(entries) => {
            let mut values = Map::new();
            for (key, line, node) in entries {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                tree.places.insert(below.clone(), Place { file: file.clone(), line });
                let value = value(node, &below, file, tree);
                values.insert(key, value);
            }
            Value::Object(values)
        }
    }
}

enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<(String, u64, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML that is JSON too")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            list.push((key.value, line, entries.next_value()?));
        }
        Ok(Node::Mapping(list))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_come_with_the_lines_of_their_keys() {
        let text = "# comment\na: 1\nb:\n  c: {d: yes, \"e\": null}\n  f: [x, {g: 1.5}]\nh: -1\ni: \"1\"\n";
        let tree = values("f.yaml", text).unwrap();
        assert_eq!(
            Value::Object(tree.values),
            json!({"a": 1, "b": {"c": {"d": true, "e": null}, "f": ["x", {"g": 1.5}]}, "h": -1, "i": "1"})
        );
        let lines: Vec<(&str, u64)> = tree.places.iter().map(|(path, place)| (path.as_str(), place.line)).collect();
        let expected = [("a", 2), ("b", 3), ("b.c", 4), ("b.c.d", 4), ("b.c.e", 4), ("b.f", 5), ("b.f[1].g", 5)];
        assert_eq!(lines, [&expected[..], &[("h", 6), ("i", 7)]].concat());
    }

    #[rstest]
    #[case("")]
    #[case("# nothing\n")]
    #[case("---\n")]
    #[case("null\n")]
    #[case("{}\n")]
    fn no_values_are_values(#[case] text: &str) {
        assert_eq!(values("-", text), Ok(Tree::default()), "{text:?}");
    }

    #[rstest]
    #[case("a: [1\n", "is not the YAML that Helm reads: line ")]
    #[case("a: 1\na: 2\n", "is not the YAML that Helm reads: line 2")]
    #[case("a:\n\t- 1\n", "is not the YAML that Helm reads: line 2")]
    #[case("[1]\n", "is not a mapping of values")]
    #[case("words\n", "is not a mapping of values")]
    fn bad_yaml_gives_one_line(#[case] text: &str, #[case] beginning: &str) {
        let words = values("-", text).unwrap_err();
        assert!(words.starts_with(beginning) && words.lines().count() == 1, "{words}");
    }

    #[test]
    fn an_anchor_counts_where_it_is_used() {
        let tree = values("-", "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n").unwrap();
        assert_eq!(Value::Object(tree.values), json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}}));
    }
}
