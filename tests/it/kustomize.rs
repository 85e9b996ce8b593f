//! What is installed with `kubectl apply -k`: base, components, overlays and the GitOps example, built by the kubectl that
//! belongs to the tests' control plane, and applied to its API server.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests; clippy excuses only the functions marked as tests"
)]

mod agent;
mod applied;
mod components;
mod contents;
mod definitions;
mod gitops;
mod objects;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::peers::{Folder, root};

/// kubectl of the tests' control plane. `KUBEBUILDER_ASSETS` counts if it has one, which is not usual.
fn kubectl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let build = |own: bool| {
            let mut command = Command::new(root().join("tests/controlplane/build.sh"));
            if own {
                command.env_remove("KUBEBUILDER_ASSETS");
            }
            command.arg("kubectl").stdin(Stdio::null()).output().unwrap()
        };
        let output = Some(build(false)).filter(|output| output.status.success()).unwrap_or_else(|| build(true));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Path::new(String::from_utf8(output.stdout).unwrap().trim_end()).join("kubectl")
    })
}

/// What `kubectl kustomize` makes of `folder`, or its complaint.
fn render(folder: &Path) -> Result<String, String> {
    // It ends before collecting garbage would pay; hundreds of them run.
    let mut command = Command::new(kubectl());
    let output = command.arg("kustomize").arg(folder).env("GOGC", "off").stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(format!("{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr)))
    }
}

/// The documents of `folder`, built.
///
/// # Panics
/// With kustomize's complaint.
fn build(folder: &Path) -> Vec<Value> {
    parsed(&render(folder).unwrap_or_else(|complaint| panic!("{complaint}")))
}

fn parsed(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).unwrap_or_else(|error| panic!("{error} in {manifest}"))
}

/// The names of the folders in `folder` of the repository, sorted.
fn folders(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let folders = entries.map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(!names.is_empty(), "{folder}");
    names
}

/// A copy of `manifests/`, beside which a test can put overlays of its own.
struct Copy(Folder);

impl Copy {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        copy(&root().join("manifests"), &folder.path("manifests"));
        Self(folder)
    }

    /// The folder of an overlay that adds `components` to the base, in this order.
    fn overlay(&self, name: &str, components: &[&str]) -> PathBuf {
        let folder = self.0.path("manifests/combined").join(name);
        fs::create_dir_all(&folder).unwrap();
        let components: Vec<String> = components.iter().map(|name| format!("../../components/{name}")).collect();
        let text = format!("resources: [../../base]\ncomponents: [{}]\n", components.join(", "));
        fs::write(folder.join("kustomization.yaml"), text).unwrap();
        folder
    }

    /// What comes out of these.
    fn render(&self, components: &[&str]) -> String {
        let name = if components.len() < 3 { components.join("+") } else { format!("{}-and-more", components[0]) };
        render(&self.overlay(&name, components)).unwrap_or_else(|complaint| panic!("{components:?}: {complaint}"))
    }

    fn build(&self, components: &[&str]) -> Vec<Value> {
        parsed(&self.render(components))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
