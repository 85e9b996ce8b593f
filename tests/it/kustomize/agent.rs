//! What the agent itself makes of a rendered pod: the container's arguments and environment, as a kubelet gives them, go
//! through the agent's own command line.

use serde_json::Value;
use spotwarden::cli::{self, Command};
use spotwarden::config::parse::RunConfig;
use spotwarden::config::settings::Environment;

use super::objects::{agent_pod, find};

/// What the kubelet puts in for the fields that pods ask for.
fn field(path: &str, address: &str) -> String {
    match path {
        "spec.nodeName" => "ip-10-0-1-23.eu-central-1.compute.internal",
        "metadata.name" => "spotwarden-x7k2p",
        "metadata.namespace" => "spotwarden",
        "metadata.uid" => "2f1f6a0e-6e0e-4d0a-9c39-0d6f6f6b5d11",
        "status.hostIP" | "status.podIP" => address,
        other => panic!("no kubelet knows {other}, or this test does not"),
    }
    .to_owned()
}

/// The value of a key of a ConfigMap that comes with the pod.
fn configured(objects: &[Value], reference: &Value) -> Option<String> {
    let name = reference["name"].as_str().expect("a name");
    let value = find(objects, "ConfigMap", name).and_then(|map| map["data"][reference["key"].as_str()?].as_str());
    assert!(value.is_some() || reference["optional"] == true, "{reference} is not there, so that no pod would start");
    value.map(str::to_owned)
}

/// `value` with each `$(NAME)` replaced, which happens only for names that stand before it.
fn expanded(value: &str, before: &[(String, String)]) -> String {
    let mut value = value.to_owned();
    for (name, replacement) in before {
        value = value.replace(&format!("$({name})"), replacement);
    }
    assert!(!value.contains("$("), "{value}: what it refers to does not stand before it");
    value
}

/// The environment of the agent's container, on a node with this address.
pub(super) fn environment(objects: &[Value], address: &str) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for entry in agent_pod(objects)["spec"]["containers"][0]["env"].as_array().expect("env") {
        let name = entry["name"].as_str().expect("a name");
        let from = &entry["valueFrom"];
        let value = match (entry["value"].as_str(), from["fieldRef"]["fieldPath"].as_str()) {
            (Some(value), None) => Some(expanded(value, &variables)),
            (None, Some(path)) => Some(field(path, address)),
            (None, None) => configured(objects, &from["configMapKeyRef"]),
            (Some(_), Some(_)) => panic!("{name} has a value and a field"),
        };
        assert!(variables.iter().all(|(other, _)| other != name), "{name} is there twice");
        variables.extend(value.map(|value| (name.to_owned(), value)));
    }
    variables
}

/// What the agent would run with, or its refusal to start.
pub(super) fn try_configuration(objects: &[Value], address: &str) -> Result<RunConfig, String> {
    let arguments = agent_pod(objects)["spec"]["containers"][0]["args"].as_array().expect("args");
    let arguments = arguments.iter().map(|argument| argument.as_str().expect("text").to_owned());
    let environment: Environment = environment(objects, address).into_iter().collect();
    match cli::parse(["spotwarden".to_owned()].into_iter().chain(arguments), &environment) {
        Ok(Command::Run(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// What the agent would run with.
///
/// # Panics
/// With its refusal.
pub(super) fn configuration(objects: &[Value], address: &str) -> RunConfig {
    try_configuration(objects, address).unwrap_or_else(|refusal| panic!("the agent would not start: {refusal}"))
}
