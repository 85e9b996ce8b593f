//! What a user of NTH has set: values of its chart, and variables in `extraEnv`, by the rows of the table. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::table::{Row, rows};
use super::tree::{Place, Tree};

/// What somebody has set to something else than NTH's default.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The value, of the default's type where it can be brought to it.
    pub value: Value,
    /// Where it stands.
    pub place: Option<Place>,
}

/// A key that NTH does not know, or that is not of the shape that it expects.
#[derive(Clone, Debug, PartialEq)]
pub struct Stray {
    /// Its path.
    pub key: String,
    /// Where it stands.
    pub place: Option<Place>,
    /// What is wrong.
    pub why: String,
}

/// A variable of `extraEnv` that is none of NTH's.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value; absent if it comes from somewhere else.
    pub value: Option<String>,
    /// The entry as it stands.
    pub entry: Value,
    /// Where it stands.
    pub place: Option<Place>,
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    rows: Vec<Row>,
    given: BTreeMap<&'static str, Given>,
    /// Keys that were given with NTH's default.
    pub idle: Vec<&'static str>,
    /// Keys that are none.
    pub strays: Vec<Stray>,
    /// Foreign variables.
    pub variables: Vec<Variable>,
    /// Key of the Secret of the webhook's URL, if it is not the chart's.
    pub secret_key: Option<String>,
}

/// The chart's name, under which a parent chart has its values.
pub const CHART: &str = "aws-node-termination-handler";

/// Variables that the chart or the cluster sets and that nobody chooses.
const PLUMBING: [&str; 5] =
    ["NODE_NAME", "POD_NAME", "NAMESPACE", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];

impl Settings {
    /// Reads the values of NTH's chart, or of a parent chart that has it.
    pub fn read(tree: &Tree) -> Self {
        let mut settings = Self { rows: rows(), ..Self::default() };
        let part = tree.below(CHART);
        let tree = part.as_ref().unwrap_or(tree);
        settings.walk(tree, &tree.values, "");
        settings.extra_env(tree);
        settings
    }

    /// The row of a key. Every key that the mapping asks for is one; a test makes sure of that.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }

    /// Every row in the table's order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// What was given for it other than the default.
    pub fn given(&self, key: &str) -> Option<&Given> {
        self.given.get(key)
    }

    /// What NTH would use.
    pub fn value(&self, key: &str) -> Value {
        let default = || self.row(key).map(|row| row.default.clone()).unwrap_or_default();
        self.given(key).map_or_else(default, |given| given.value.clone())
    }

    /// A switch.
    pub fn is_on(&self, key: &str) -> bool {
        self.value(key) == Value::Bool(true)
    }

    /// A text that is not empty.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.value(key) {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn default_rows() -> Vec<Row> {
        rows()
    }

    fn walk(&mut self, tree: &Tree, values: &Map<String, Value>, above: &str) {
        for (key, value) in values {
            let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
            let place = tree.places.get(&path).cloned();
            let row = self.rows.iter().find(|row| row.key == path).map(|row| (row.key, row.default.clone()));
            let is_parent = self.rows.iter().any(|row| row.key.strip_prefix(&path).is_some_and(|k| k.starts_with('.')));
            match (row, value) {
                (Some((key, default)), value) => self.take(key, &default, value, place),
                (None, Value::Object(below)) if is_parent => self.walk(tree, below, &path),
                (None, Value::Null) if is_parent => {}
                // Helm hands these to every chart.
                (None, _) if path == "global" => {}
                (None, _) => {
                    let why = if is_parent { "is not a mapping".to_owned() } else { self.unknown(&path) };
                    self.strays.push(Stray { key: path, place, why });
                }
            }
        }
    }

    fn unknown(&self, path: &str) -> String {
        if path.starts_with("probes.") {
            return "belongs to NTH's probe; here `livenessProbe` and `readinessProbe` are the whole probes".into();
        }
        let distance = |row: &&Row| crate::config::settings::edit_distance(path, row.key);
        match self.rows.iter().min_by_key(distance) {
            Some(row) if distance(&row) <= path.len() / 3 => {
                format!("is not a value of NTH's chart; did you mean `{}`?", row.key)
            }
            _ => "is not a value of NTH's chart 0.27.6".into(),
        }
    }

    fn take(&mut self, key: &'static str, default: &Value, value: &Value, place: Option<Place>) {
        match fit(default, value) {
            Ok(value) if value == *default => {
                self.given.remove(key);
                self.idle.push(key);
            }
            Ok(value) => _ = self.given.insert(key, Given { value, place }),
            Err(why) => self.strays.push(Stray { key: key.to_owned(), place, why }),
        }
    }

    /// Variables win over values: Kubernetes takes the last of a name, and the chart puts them last.
    fn extra_env(&mut self, tree: &Tree) {
        let entries = tree.values.get("extraEnv").and_then(Value::as_array).cloned().unwrap_or_default();
        for (index, entry) in entries.into_iter().enumerate() {
            let at = |part: &str| tree.places.get(&format!("extraEnv[{index}]{part}")).cloned();
            let place = at(".name").or_else(|| tree.places.get("extraEnv").cloned());
            let Some(name) = entry.get("name").and_then(Value::as_str).map(str::to_owned) else {
                let (key, why) = (format!("extraEnv[{index}]"), "has no name".to_owned());
                self.strays.push(Stray { key, place, why });
                continue;
            };
            self.variable(&name, entry, place);
        }
        self.given.remove("extraEnv");
    }

    fn variable(&mut self, name: &str, entry: Value, place: Option<Place>) {
        let text = match entry.get("value") {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null) | None => None,
            Some(other) => Some(other.to_string()),
        };
        let key = self.rows.iter().find(|row| row.env == Some(name)).map(|row| (row.key, row.default.clone()));
        let reference = entry.pointer("/valueFrom/secretKeyRef");
        let part = |part: &str| reference.and_then(|secret| secret.get(part)?.as_str()).map(str::to_owned);
        match (key, text) {
            _ if PLUMBING.contains(&name) => {}
            // The chart's variable is the file that it mounts; as a variable it may be any.
            (Some(_), Some(file)) if name == "WEBHOOK_TEMPLATE_FILE" => {
                let given = Given { value: file.into(), place };
                self.given.insert("webhookTemplateConfigMapKey", given);
            }
            // An empty variable is none for NTH.
            (Some(_), Some(text)) if text.is_empty() => {}
            (Some((key, default)), Some(text)) => self.take(key, &default, &text.into(), place),
            (Some(("webhookURL", _)), None) if part("name").is_some() => {
                let value = part("name").unwrap_or_default().into();
                self.given.insert("webhookURLSecretName", Given { value, place });
                self.secret_key = part("key");
            }
            (Some((key, _)), None) if entry.get("valueFrom").is_some() => {
                let why = "comes from somewhere else (valueFrom), so its value is not known here".into();
                self.strays.push(Stray { key: format!("{key} ({name})"), place, why });
            }
            (Some(_), None) => {}
            (None, value) => self.variables.push(Variable { name: name.to_owned(), value, entry, place }),
        }
    }
}

/// A value in the type of the default, as the chart's quotes and the binary's parsing bring it there.
fn fit(default: &Value, value: &Value) -> Result<Value, String> {
    let wrong = |what: &str| Err(format!("is not {what}; NTH would not take it either"));
    match (default, value) {
        // Helm drops a default for which null is given.
        (Value::Array(_), Value::Null) => Ok(Value::Array(Vec::new())),
        (Value::Object(_), Value::Null) => Ok(Value::Object(Map::new())),
        (_, Value::Null) => Ok(default.clone()),
        (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Array(_), Value::Array(_))
        | (Value::Object(_), Value::Object(_))
        | (Value::String(_), Value::String(_))
        | (Value::Null, _) => Ok(value.clone()),
        (Value::Bool(_), Value::Number(number)) => fit(default, &number.to_string().into()),
        (Value::Bool(_), Value::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" | "yes" | "on" => Ok(true.into()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" | "no" | "off" => Ok(false.into()),
            _ => wrong("true or false"),
        },
        (Value::Number(_), Value::String(text)) => {
            text.trim().parse::<i64>().map(Value::from).or_else(|_| wrong("a whole number"))
        }
        (Value::String(_), Value::Bool(_) | Value::Number(_)) => Ok(value.to_string().into()),
        (Value::Bool(_), _) => wrong("true or false"),
        (Value::Number(_), _) => wrong("a whole number"),
        (Value::String(_), _) => wrong("a text"),
        (Value::Array(_), _) => wrong("a list"),
        (Value::Object(_), _) => wrong("a mapping"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn settings(values: Value) -> Settings {
        let Value::Object(values) = values else { panic!("no mapping") };
        Settings::read(&Tree { values, places: BTreeMap::new() })
    }

    #[rstest]
    #[case(json!(true), json!("False"), Ok(json!(false)))]
    #[case(json!(true), json!(1), Ok(json!(true)))]
    #[case(json!(true), json!(2), Err("is not true or false; NTH would not take it either"))]
    #[case(json!(5), json!("7"), Ok(json!(7)))]
    #[case(json!(5), json!("x"), Err("is not a whole number; NTH would not take it either"))]
    #[case(json!(""), json!(5), Ok(json!("5")))]
    #[case(json!([]), json!(null), Ok(json!([])))]
    #[case(json!(true), json!(null), Ok(json!(true)))]
    #[case(json!(true), json!("perhaps"), Err("is not true or false; NTH would not take it either"))]
    #[case(json!({}), json!([]), Err("is not a mapping; NTH would not take it either"))]
    fn a_value_is_brought_to_its_type(#[case] default: Value, #[case] value: Value, #[case] fits: Result<Value, &str>) {
        assert_eq!(fit(&default, &value), fits.map_err(str::to_owned));
    }

    #[test]
    fn what_equals_the_default_is_idle_and_what_is_unknown_is_named() {
        let found = settings(json!({
            "dryRun": false, "taintNode": true, "taintNodes": true, "probes": {"httpGet": {"port": 8080}, "timeoutSeconds": 3},
            "image": "x", "zebra": {"a": 1}, "global": {}, "podMonitor": null,
        }));
        assert_eq!(found.idle, ["dryRun", "probes.httpGet.port"]);
        assert!(found.is_on("taintNode") && !found.is_on("dryRun") && found.is_on("deleteLocalData"));
        let strays: Vec<(&str, &str)> = found.strays.iter().map(|one| (one.key.as_str(), one.why.as_str())).collect();
        let probe = "belongs to NTH's probe; here `livenessProbe` and `readinessProbe` are the whole probes";
        assert_eq!(
            strays,
            [
                ("image", "is not a mapping"),
                ("probes.timeoutSeconds", probe),
                ("taintNodes", "is not a value of NTH's chart; did you mean `taintNode`?"),
                ("zebra", "is not a value of NTH's chart 0.27.6"),
            ]
        );
    }

    #[test]
    fn variables_win_over_values_and_foreign_ones_are_kept_apart() {
        let secret = json!({"name": "WEBHOOK_URL", "valueFrom": {"secretKeyRef": {"name": "hook", "key": "u"}}});
        let found = settings(json!({"cordonOnly": true, "extraEnv": [
            {"name": "CORDON_ONLY", "value": "false"}, {"name": "TAINT_EFFECT", "value": "NoExecute"}, secret,
            {"name": "NODE_TERMINATION_GRACE_PERIOD", "value": "300"}, {"name": "NODE_NAME", "value": "x"},
            {"name": "DRY_RUN", "value": ""}, {"name": "MINE", "value": "1"}, {"value": "nameless"},
            {"name": "LOG_LEVEL", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}},
        ]}));
        assert!(!found.is_on("cordonOnly") && found.given("cordonOnly").is_none());
        assert_eq!(found.value("TAINT_EFFECT"), "NoExecute");
        assert_eq!(found.value("nodeTerminationGracePeriod"), 300);
        assert_eq!((found.text("webhookURLSecretName"), found.secret_key.as_deref()), (Some("hook".into()), Some("u")));
        assert_eq!(found.variables.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["MINE"]);
        assert_eq!(
            found.strays.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(),
            ["logLevel (LOG_LEVEL)", "extraEnv[7]"].into_iter().rev().collect::<Vec<_>>()
        );
    }

    #[test]
    fn values_of_a_parent_chart_are_found_under_the_charts_name() {
        let found = settings(json!({CHART: {"dryRun": true}, "other": {"dryRun": 1}}));
        assert!(found.is_on("dryRun") && found.strays.is_empty());
    }
}
