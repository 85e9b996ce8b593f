//! What the server offers, for clients that ask first: kubectl, dashboards, health checks.

use serde_json::{Value, json};

use super::resource::{CORE_EVENTS, RESOURCES, Resource};

/// The version it claims; the one its answers were compared with.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// The document at a fixed path.
pub(super) fn document(path: &str) -> Option<Value> {
    match path {
        "/version" => Some(version()),
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "/apis" => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        "/api/v1" => Some(resources("")),
        _ => {
            let rest = path.strip_prefix("/apis/")?;
            let name = rest.strip_suffix("/v1").unwrap_or(rest);
            let known = groups().into_iter().find(|known| *known == name)?;
            Some(if name == rest { with_kind(group(known)) } else { resources(known) })
        }
    }
}

fn version() -> Value {
    let (major, minor, full) = VERSION;
    json!({
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor, "gitVersion": full,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "",
        "platform": "linux/amd64",
    })
}

fn groups() -> Vec<&'static str> {
    let mut names = vec!["authorization.k8s.io"];
    for resource in RESOURCES.iter().filter(|resource| !resource.group.is_empty()) {
        if !names.contains(&resource.group) {
            names.push(resource.group);
        }
    }
    names
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn with_kind(mut group: Value) -> Value {
    if let Some(map) = group.as_object_mut() {
        map.insert("kind".to_owned(), json!("APIGroup"));
        map.insert("apiVersion".to_owned(), json!("v1"));
    }
    group
}

fn resources(group: &str) -> Value {
    let mut list: Vec<Value> = RESOURCES.iter().filter(|row| row.group == group).flat_map(entries).collect();
    if group.is_empty() {
        list.extend(entries(&CORE_EVENTS));
    }
    if group == "authorization.k8s.io" {
        list.push(json!({
            "name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview", "namespaced": false,
            "kind": "SelfSubjectAccessReview", "verbs": ["create"],
        }));
    }
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
}

fn entries(row: &Resource) -> Vec<Value> {
    let mut out = vec![json!({
        "name": row.plural, "singularName": row.kind.to_lowercase(), "namespaced": row.namespaced, "kind": row.kind,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"], "shortNames": row.short,
        "categories": if matches!(row.group, "apps") || row.kind == "Pod" { vec!["all"] } else { vec![] },
    })];
    if row.has_status {
        out.push(json!({
            "name": format!("{}/status", row.plural), "singularName": "", "namespaced": row.namespaced,
            "kind": row.kind, "verbs": ["get", "patch", "update"],
        }));
    }
    if row.kind == "Pod" {
        out.push(json!({
            "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
            "kind": "Eviction", "verbs": ["create"],
        }));
        out.push(json!({
            "name": "pods/binding", "singularName": "", "namespaced": true, "kind": "Binding", "verbs": ["create"],
        }));
    }
    out
}
