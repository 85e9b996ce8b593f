//! The Helm chart: rendered by both majors of Helm for every case of `chart/ci`, refused where it has to be, applied to a
//! real API server, and run with what it rendered.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod contents;
#[cfg(test)]
mod equality;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod install;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod ready;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::peers::{Folder, root, tool};

/// The majors that the chart is for.
const MAJORS: [Helm; 2] = [Helm("helm3"), Helm("helm4")];

/// What cases are rendered for. Nothing in the chart depends on it but the least that it is for.
const KUBERNETES: &str = "1.36.0";

/// One of the two programs.
#[derive(Clone, Copy, Debug)]
struct Helm(&'static str);

/// What a call of helm ended with.
#[derive(Debug)]
struct Said {
    passed: bool,
    out: String,
    err: String,
}

impl Helm {
    /// Runs it without any configuration of who runs the tests.
    fn run(self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[])
    }

    fn run_with(self, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        let home = Folder::new(self.0);
        let output = Command::new(tool("helm", self.0))
            .args(arguments)
            .env_clear()
            .env("HOME", home.path(""))
            .envs(environment.iter().copied())
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { passed: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// `helm template` as release `spotwarden` in the namespace of that name; more arguments come last.
    fn template(self, more: &[&str]) -> Said {
        let mut arguments = vec!["template", "spotwarden", "chart", "--namespace=spotwarden"];
        if !more.iter().any(|argument| argument.starts_with("--kube-version")) {
            arguments.extend(["--kube-version", KUBERNETES]);
        }
        arguments.extend(more);
        self.run(&arguments)
    }
}

/// The text that is rendered.
fn rendered(helm: Helm, more: &[&str]) -> String {
    let said = helm.template(more);
    assert!(said.passed, "{helm:?} {more:?}: {}", said.err);
    tidied(&said.out)
}

/// Without the empty lines before a separator, of which Helm 4 writes more.
fn tidied(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        while line == "---" && lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        lines.push(line);
    }
    format!("{}\n", lines.join("\n").trim_end())
}

/// The objects that values, given as YAML, render.
fn objects(values: &str) -> Vec<Value> {
    objects_with(values, &[])
}

fn objects_with(values: &str, more: &[&str]) -> Vec<Value> {
    let folder = Folder::new("chart-values");
    let file = folder.write("values.yaml", values);
    let mut arguments = vec!["--values", file.as_str()];
    arguments.extend(more);
    documents(&rendered(Helm("helm4"), &arguments))
}

fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// The only object of a kind, if it is there.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found.next();
    assert!(found.next().is_none(), "several of kind {kind}");
    first
}

/// The cases of `chart/ci`, by name.
fn cases() -> Vec<(String, String)> {
    let mut cases: Vec<(String, String)> = fs::read_dir(root().join("chart/ci"))
        .unwrap()
        .map(|entry| {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix("-values.yaml").unwrap_or_else(|| panic!("chart/ci/{file} is no case"));
            (name.to_owned(), format!("chart/ci/{file}"))
        })
        .collect();
    cases.sort();
    assert!(cases.len() > 5, "the cases have gone");
    cases
}

/// The container of a pod template or of a pod.
fn container(object: &Value) -> &Value {
    let spec = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
    &spec["containers"][0]
}

/// A container's environment as the kubelet makes it: `field` is what the downward API gives, and references to variables
/// that stand before are replaced.
fn environment(container: &Value, field: impl Fn(&str) -> String) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = BTreeMap::new();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let value = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().map(&field);
        let mut value = value.unwrap_or_else(|| variable["value"].as_str().unwrap().to_owned());
        for (before, replacement) in &environment {
            value = value.replace(&format!("$({before})"), replacement);
        }
        assert!(!value.contains("$("), "{name} names a variable that does not stand before it: {value}");
        assert!(environment.insert(name.to_owned(), value).is_none(), "{name} is there twice");
    }
    environment
}
