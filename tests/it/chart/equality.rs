//! Chart and kustomize base are two ways to the same objects: with default values, and with each value that has a component.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::{documents, objects};
use crate::peers::{Folder, root};

/// The kubectl of the tests' control plane.
fn kubectl() -> PathBuf {
    let output = Command::new(root().join("tests/controlplane/build.sh")).arg("kubectl").stdin(Stdio::null()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Path::new(String::from_utf8(output.stdout).unwrap().trim_end()).join("kubectl")
}

/// The base with some components.
fn built(components: &[&str]) -> Vec<Value> {
    let folder = Folder::new("chart-equality");
    // Kustomize takes no absolute paths.
    let depth = folder.path("").canonicalize().unwrap().components().count() - 1;
    let manifests =
        format!("{}{}", "../".repeat(depth), root().join("manifests").display().to_string().trim_start_matches('/'));
    let mut text = format!("resources: [{manifests}/base]\ncomponents:\n");
    for component in components {
        writeln!(text, "  - {manifests}/components/{component}").unwrap();
    }
    if components.is_empty() {
        text = text.replace("components:\n", "");
    }
    folder.write("kustomization.yaml", &text);
    let output = Command::new(kubectl()).arg("kustomize").arg(folder.path("")).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

fn sort_by_name(list: Option<&mut Value>) {
    if let Some(list) = list.and_then(Value::as_array_mut) {
        list.sort_by_key(|entry| entry["name"].as_str().map(str::to_owned));
    }
}

/// Without what says which of the two made it, and in one order. The order of variables means something only where one
/// refers to another, which the tests of the settings follow.
fn normalised(mut objects: Vec<Value>) -> Vec<Value> {
    objects.retain(|object| {
        let hook = object["metadata"]["annotations"].get("helm.sh/hook").is_some();
        object["kind"] != "Namespace" && !hook
    });
    for object in &mut objects {
        if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
            for label in ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"] {
                labels.remove(label);
            }
        }
        let pod = &mut object["spec"]["template"]["spec"];
        if pod.is_null() {
            // Reading has put a null there.
            tidy(object);
            continue;
        }
        sort_by_name(pod.get_mut("volumes"));
        sort_by_name(pod["containers"][0].get_mut("env"));
        sort_by_name(pod["containers"][0].get_mut("volumeMounts"));
        for volume in pod.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            // The chart names the one key that it wants, which has the name of the file.
            let secret = volume["secret"].as_object_mut().unwrap();
            if secret.get("items") == Some(&json!([{"key": "url", "path": "url"}])) {
                secret.remove("items");
            }
        }
        let annotations = &mut object["spec"]["template"]["metadata"];
        if annotations["annotations"] == Value::Object(Map::new()) || annotations["annotations"].is_null() {
            annotations.as_object_mut().unwrap().remove("annotations");
        }
    }
    objects.sort_by_key(|object| (object["kind"].to_string(), object["metadata"]["name"].to_string()));
    objects
}

fn tidy(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.values_mut().for_each(tidy);
        map.retain(|_, value| !value.is_null() && *value != json!({}));
    }
}

#[rstest::rstest]
#[case("{}", &[])]
#[case("{admissionPolicy: {evictions: true}}", &["eviction-policy"])]
#[case("{admissionPolicy: {enabled: false}}", &["without-admission-policy"])]
#[case("{dryRun: true}", &["dry-run"])]
#[case("{nodeMarks: aws-node-termination-handler}", &["nth-compatible-taints"])]
#[case("{dryRun: true, nodeMarks: aws-node-termination-handler}", &["beside-nth"])]
#[case("{log: {format: json}}", &["json-logs"])]
#[case("{metrics: {scrapeAnnotations: false}}", &["no-scrape-annotations"])]
#[case("{podMonitor: {enabled: true}}", &["podmonitor", "no-scrape-annotations"])]
#[case("{serviceMonitor: {enabled: true}}", &["servicemonitor", "no-scrape-annotations"])]
#[case("{prometheusRule: {enabled: true}}", &["prometheusrule"])]
#[case("{grafanaDashboards: {enabled: true}}", &["grafana-dashboard"])]
#[case("{alertmanagerConfig: {enabled: true, slack: {webhookUrlSecret: {name: spotwarden-slack}}}}",
    &["alertmanager-config"])]
#[case("{hostNetwork: false}", &["no-host-network"])]
#[case("{hostNetwork: false, networkPolicy: {enabled: true, extraEgress: [{ports: \
    [{protocol: TCP, port: 4318}, {protocol: TCP, port: 9093}]}]}}", &["no-host-network", "networkpolicy"])]
#[case("{notifications: {slack: {webhookUrlSecret: {name: spotwarden-slack}}}}", &["slack"])]
#[case("{notifications: {webhook: {urlSecret: {name: spotwarden-webhook}}}}", &["webhook"])]
#[case("{notifications: {alertmanager: {urls: ['http://alertmanager-operated.monitoring.svc:9093']}}}",
    &["notify-alertmanager"])]
#[case("{drain: {shutdownTail: 150s}}", &["al2023-shutdown-tail"])]
#[case("{cni: {podIPExhaustionTaint: true}}", &["pod-ip-exhaustion-taint"])]
#[case("{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: \
    [{key: eks.amazonaws.com/compute-type, operator: NotIn, values: [auto, fargate, hybrid]}]}]}}}}", &["all-nodes"])]
fn values_and_components_lead_to_the_same_objects(#[case] values: &str, #[case] components: &[&str]) {
    let (chart, base) = (normalised(objects(values)), normalised(built(components)));
    let names = |objects: &[Value]| {
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        objects.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&chart), names(&base));
    for (chart, base) in chart.iter().zip(&base) {
        if let Some(difference) = difference("", chart, base) {
            panic!("{} {}: chart and base differ at {difference}", chart["kind"], chart["metadata"]["name"]);
        }
    }
}

/// The first place at which two values differ, and what is there.
fn difference(place: &str, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let null = Value::Null;
            keys.into_iter().find_map(|key| {
                let (one, other) = (one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null));
                difference(&format!("{place}.{key}"), one, other)
            })
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(number, (one, other))| difference(&format!("{place}[{number}]"), one, other))
        }
        _ => (one != other).then(|| format!("{place}: {one} and {other}")),
    }
}
