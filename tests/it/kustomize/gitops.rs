//! The GitOps example: every cluster that the ApplicationSets name, as Argo CD would have it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{build, folders, kubectl, objects, render};
use crate::peers::{Folder, ask, root, text, tool, yaml};

const FOLDER: &str = "examples/gitops";

fn cluster(name: &str) -> PathBuf {
    root().join(FOLDER).join("clusters").join(name)
}

/// What there is to apply, with its name.
pub(super) fn everything() -> Vec<(String, String)> {
    let of = |name: String| (format!("cluster {name}"), render(&cluster(&name)).unwrap());
    let clusters = folders(&format!("{FOLDER}/clusters")).into_iter().map(of);
    let sets = ["applicationset.yaml", "applicationset-helm.yaml"];
    clusters.chain(sets.map(|file| (file.to_owned(), text(&format!("{FOLDER}/{file}"))))).collect()
}

/// The template of `set` for one of its elements: `{{ .name }}` is all that it uses of Go's templates.
fn application(set: &Value, element: &Value) -> Value {
    let mut template = set["spec"]["template"].to_string();
    for (name, value) in element.as_object().unwrap() {
        template = template.replace(&format!("{{{{ .{name} }}}}"), value.as_str().expect("text"));
    }
    assert!(!template.contains("{{"), "a field that {element} does not have: {template}");
    serde_json::from_str(&template).unwrap()
}

fn applications(set: &Value) -> Vec<(String, Value)> {
    let elements = set["spec"]["generators"][0]["list"]["elements"].as_array().unwrap();
    elements.iter().map(|one| (one["cluster"].as_str().unwrap().to_owned(), application(set, one))).collect()
}

#[test]
fn each_cluster_of_the_list_has_its_folder_and_its_name() {
    let set = yaml(&format!("{FOLDER}/applicationset.yaml"));
    let applications = applications(&set);
    let listed: Vec<String> = applications.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(listed, folders(&format!("{FOLDER}/clusters")));
    for (name, application) in applications {
        let spec = &application["spec"];
        assert_eq!(application["metadata"]["name"], format!("spotwarden-{name}"));
        assert_eq!(spec["destination"]["name"].as_str(), Some(&*name));
        assert_eq!(root().join(spec["source"]["path"].as_str().unwrap()), cluster(&name));
        let objects = build(&cluster(&name));
        let config = super::agent::configuration(&objects, "192.0.2.23");
        assert_eq!(config.agent.notify.cluster.as_deref(), Some(&*name), "its ConfigMap says who it is");
        assert!(config.agent.notify.slack.is_some(), "{name}");
        let image = &objects::agent_pod(&objects)["spec"]["containers"][0]["image"];
        assert_eq!(*image, format!("registry.example.com/spotwarden:{}", env!("CARGO_PKG_VERSION")));
        // What is sealed becomes the Secret that the pods mount.
        let sealed = objects::find(&objects, "SealedSecret", "spotwarden-slack").expect("a SealedSecret");
        assert_eq!(sealed["spec"]["template"]["metadata"]["name"], "spotwarden-slack");
        assert_eq!(sealed["spec"]["template"]["metadata"]["namespace"], "spotwarden");
        assert!(sealed["spec"]["encryptedData"]["url"].is_string(), "the key that the agent reads");
        assert!(text(&format!("{FOLDER}/clusters/{name}/sealed-secret.yaml")).contains(&format!("--context {name} ")));
    }
}

/// The chart, rendered with these values.
pub(super) fn chart(release: &str, namespace: &str, values: &Value) -> Vec<Value> {
    let folder = Folder::new("helm");
    let values = folder.write("values.yaml", &values.to_string());
    let output = Command::new(tool("helm", "helm4"))
        .args(["template", release])
        .arg(root().join("chart"))
        .args(["--namespace", namespace, "--values", &values])
        .env_clear()
        .env("HOME", folder.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    super::parsed(&String::from_utf8(output.stdout).unwrap())
}

/// An agent of the chart is told what one of the folder is told, but for where the Secret is mounted.
#[test]
fn the_chart_comes_to_the_same_settings_as_the_folder() {
    let set = yaml(&format!("{FOLDER}/applicationset-helm.yaml"));
    for (name, application) in applications(&set) {
        let spec = &application["spec"];
        assert_eq!(spec["source"]["targetRevision"], env!("CARGO_PKG_VERSION"), "{name}");
        let (helm, namespace) = (&spec["source"]["helm"], spec["destination"]["namespace"].as_str().unwrap());
        let of_chart = chart(helm["releaseName"].as_str().unwrap(), namespace, &helm["valuesObject"]);
        let of_folder = build(&cluster(&name));
        let [mut one, mut other] =
            [&of_chart, &of_folder].map(|objects| super::agent::configuration(objects, "192.0.2.23"));
        assert!(one.agent.notify.slack.take().is_some() && other.agent.notify.slack.take().is_some(), "{name}");
        assert_eq!(one, other, "{name}");
        let image = |objects: &[Value]| objects::agent_pod(objects)["spec"]["containers"][0]["image"].clone();
        assert_eq!(image(&of_chart), image(&of_folder), "{name}");
        let namespace = objects::find(&of_folder, "Namespace", "spotwarden").unwrap();
        for (label, value) in spec["syncPolicy"]["managedNamespaceMetadata"]["labels"].as_object().unwrap() {
            assert_eq!(namespace["metadata"]["labels"][label], *value, "{label}");
        }
    }
}

/// Runs the script as the CI job does, in a copy of the example that may have been changed.
fn rendered(change: impl FnOnce(&Folder)) -> (bool, String, Vec<String>) {
    let folder = Folder::new("gitops");
    super::copy(&root().join("manifests"), &folder.path("manifests"));
    super::copy(&root().join(FOLDER), &folder.path(FOLDER));
    change(&folder);
    let path = format!("{}:/usr/bin:/bin", kubectl().parent().unwrap().display());
    let output = Command::new(folder.path("examples/gitops/render.sh"))
        .arg("rendered")
        .current_dir(folder.path(""))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut files: Vec<String> = fs::read_dir(folder.path("rendered"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned(), files)
}

#[test]
fn the_job_renders_every_cluster_and_refuses_a_secret_in_clear() {
    let (passed, complaint, files) = rendered(|_| {});
    assert!(passed, "{complaint}");
    let clusters = folders(&format!("{FOLDER}/clusters"));
    assert_eq!(files, clusters.iter().map(|name| format!("{name}.yaml")).collect::<Vec<_>>());

    let (passed, complaint, _) = rendered(|folder| {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: spotwarden-slack, namespace: spotwarden}\n";
        folder.write("examples/gitops/clusters/green/sealed-secret.yaml", secret);
    });
    assert!(!passed && complaint.contains("clusters/green/ holds a Secret in clear"), "{complaint}");

    let (passed, complaint, _) = rendered(|folder| {
        folder.write("examples/gitops/clusters/blue/sealed-secret.yaml", "kind: [");
    });
    assert!(!passed && complaint.contains("sealed-secret.yaml"), "{complaint}");
}

/// What the page tells people to run is what the job runs.
#[test]
fn the_page_and_the_job_have_the_same_commands() {
    let path = format!("{FOLDER}/.github/workflows/manifests.yaml");
    let steps = yaml(&path)["jobs"]["validate"]["steps"].clone();
    let commands = steps.as_array().unwrap().iter().filter_map(|step| step["run"].as_str());
    let commands: BTreeSet<&str> = commands.filter(|command| !command.starts_with("pip ")).collect();
    assert_eq!(commands.len(), 2);
    let page = text("docs/gitops.md");
    for command in commands {
        assert!(page.lines().any(|line| line == command), "docs/gitops.md has no line {command}");
    }
    let (passed, said) = ask("actionlint", "actionlint", &["-no-color", root().join(path).to_str().unwrap()]);
    assert!(passed, "{said}");
}
