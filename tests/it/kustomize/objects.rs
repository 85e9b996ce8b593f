//! Kubernetes objects in a form that can be compared: by name where Kubernetes goes by name, with a path for each value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Kind, namespace and name.
pub(super) fn id(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!("{} {}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

/// Every value of `objects` under its path. Entries of lists that Kubernetes merges by a key have that key in the path;
/// other lists are one value, since their order may mean something. What is empty is not there.
///
/// # Panics
/// If there are two objects of one name, or two entries of one key in a list.
pub(super) fn values(objects: &[Value]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for object in objects {
        collect(&id(object), object, &mut found);
    }
    found
}

fn collect(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Array(entries) => match entries.iter().map(key).collect::<Option<Vec<String>>>() {
            Some(keys) => {
                for (key, entry) in keys.iter().zip(entries) {
                    collect(&format!("{path}[{key}]"), entry, found);
                }
            }
            None => insert(path, value, found),
        },
        Value::Null => {}
        _ => insert(path, value, found),
    }
}

fn insert(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    assert!(found.insert(path.to_owned(), value.to_string()).is_none(), "twice: {path}");
}

/// What Kubernetes knows an entry of a list by.
fn key(entry: &Value) -> Option<String> {
    ["mountPath", "containerPort", "name"].iter().find_map(|key| match entry.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// What is not the same in both, for messages that can be read.
pub(super) fn differences(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let paths: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let shown = |value: Option<&String>| value.map_or("nothing".to_owned(), |text| text.chars().take(100).collect());
    let different = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
    different.map(|path| format!("{path}: {} and {}", shown(one.get(path)), shown(other.get(path)))).collect()
}

/// The object of this kind and name.
pub(super) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

/// The agent's pod, as its DaemonSet makes it.
pub(super) fn agent_pod(objects: &[Value]) -> &Value {
    &find(objects, "DaemonSet", "spotwarden").expect("the DaemonSet")["spec"]["template"]
}

#[test]
fn entries_of_lists_are_known_by_their_key_and_other_lists_by_their_order() {
    let object = serde_json::json!({
        "kind": "K", "metadata": {"name": "n"},
        "env": [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}],
        "args": ["run", "--x"],
        "ports": [{"containerPort": 1, "name": "a"}],
        "annotations": {},
        "gone": null,
    });
    let expected = [
        ("K /n.args", r#"["run","--x"]"#),
        ("K /n.env[A].name", "\"A\""),
        ("K /n.env[A].value", "\"2\""),
        ("K /n.env[B].name", "\"B\""),
        ("K /n.env[B].value", "\"1\""),
        ("K /n.kind", "\"K\""),
        ("K /n.metadata.name", "\"n\""),
        ("K /n.ports[1].containerPort", "1"),
        ("K /n.ports[1].name", "\"a\""),
    ];
    let expected: BTreeMap<String, String> = expected.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    assert_eq!(values(&[object]), expected);
}

#[test]
#[should_panic(expected = "twice: K /n.env[A]")]
fn an_entry_that_is_there_twice_is_found() {
    values(&[serde_json::json!({"kind": "K", "metadata": {"name": "n"}, "env": [{"name": "A"}, {"name": "A"}]})]);
}
