//! A YAML document with the line of each key, and how Helm lays one over another. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was given.
    pub file: Arc<str>,
    /// Its line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if &*self.file == "-" { "stdin" } else { &self.file };
        write!(f, "{file}:{}", self.line)
    }
}

/// A mapping, and where its keys stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// What is in it.
    pub values: Map<String, Value>,
    /// The places of keys by their path, joined by dots.
    pub places: BTreeMap<String, Place>,
}

impl Tree {
    /// Lays `above` over this one as Helm does with `--values` given more than once: mappings are merged, everything else is
    /// replaced.
    pub fn lay(&mut self, above: Self) {
        merge(&mut self.values, above.values);
        self.places.extend(above.places);
    }

    /// What is below `key` alone, as a chart gets it from the values of its parent.
    pub fn below(&self, key: &str) -> Option<Self> {
        let values = self.values.get(key)?.as_object()?.clone();
        let inside = |(path, place): (&String, &Place)| {
            Some((path.strip_prefix(key)?.strip_prefix('.')?.to_owned(), place.clone()))
        };
        Some(Self { values, places: self.places.iter().filter_map(inside).collect() })
    }
}

fn merge(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => _ = below.insert(key, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(values: Value, file: &str, paths: &[&str]) -> Tree {
        let Value::Object(values) = values else { panic!("no mapping") };
        let place = Place { file: file.into(), line: 3 };
        Tree { values, places: paths.iter().map(|path| ((*path).to_owned(), place.clone())).collect() }
    }

    #[test]
    fn the_later_file_wins_and_mappings_are_merged() {
        let mut below = tree(json!({"a": {"b": 1, "c": [1, 2]}, "d": 1}), "one", &["a", "a.b", "d"]);
        below.lay(tree(json!({"a": {"c": [3], "e": null}, "d": {"f": 1}}), "two", &["a", "a.c"]));
        assert_eq!(Value::Object(below.values.clone()), json!({"a": {"b": 1, "c": [3], "e": null}, "d": {"f": 1}}));
        assert_eq!(below.places["a"].to_string(), "two:3");
        assert_eq!(below.places["a.b"].to_string(), "one:3");
    }

    #[test]
    fn a_chart_gets_its_part_of_the_parents_values() {
        let parent = tree(json!({"nth": {"x": {"y": 1}}, "nthx": 1}), "-", &["nth", "nth.x", "nth.x.y", "nthx"]);
        let part = parent.below("nth").unwrap();
        assert_eq!(Value::Object(part.values), json!({"x": {"y": 1}}));
        assert_eq!(part.places.keys().collect::<Vec<_>>(), ["x", "x.y"]);
        assert_eq!(part.places["x"].to_string(), "stdin:3");
        assert_eq!(parent.below("nthx"), None);
    }
}
