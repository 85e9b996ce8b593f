//! Definitions of the custom resources that the manifests hold, out of the modules of their operators: those of the
//! Prometheus operator come with Helm (tests/tools), the others from the Go module proxy, pinned by version and hash.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::peers::{Folder, tool};

/// Module, version, hash as in a go.sum, files.
const MODULES: &[(&str, &str, &str, &[&str])] = &[
    (
        "github.com/argoproj/argo-cd/v3",
        "v3.4.13",
        "h1:kmnF4nE5SQ83OhtdX6DMmLSpH0eRIa1gNYdCLNHqB+A=",
        &["manifests/crds/application-crd.yaml", "manifests/crds/applicationset-crd.yaml"],
    ),
    (
        "github.com/external-secrets/external-secrets",
        "v1.3.2",
        "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
        &["config/crds/bases/external-secrets.io_externalsecrets.yaml"],
    ),
    (
        "github.com/bitnami-labs/sealed-secrets",
        "v0.40.0",
        "h1:rvCP35JL8ZV5LNA2SrwNR6iLyoM3ulrSFWN0lBtYEYI=",
        &["helm/sealed-secrets/crds/bitnami.com_sealedsecrets.yaml"],
    ),
];

/// Of the Prometheus operator.
const MONITORING: &[&str] = &["alertmanagerconfigs", "podmonitors", "prometheusrules", "servicemonitors"];

/// The files of all of them.
pub(super) fn files() -> Vec<PathBuf> {
    let of_helm = MONITORING.iter().map(|kind| tool("helm", &format!("crds/monitoring.coreos.com_{kind}.yaml")));
    let of_modules = MODULES.iter().flat_map(|(module, version, sum, files)| {
        let folder = downloaded(module, version, sum);
        files.iter().map(move |file| folder.join(file))
    });
    of_helm.chain(of_modules).collect()
}

/// Where the module cache has it. Nothing of it is built, so that its own dependencies stay where they are.
fn downloaded(module: &str, version: &str, sum: &str) -> PathBuf {
    // In no module, whose go.mod would be asked about all the others.
    let nowhere = Folder::new("go");
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .current_dir(nowhere.path(""))
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("go: {error}; install Go, see tests/controlplane/go.mod"));
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{module} {version} cannot be had: {said}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(answer["Sum"], sum, "{module} {version} is not what was pinned");
    Path::new(answer["Dir"].as_str().unwrap()).to_owned()
}
