//! What each case renders: the same as in `tests/golden/chart`, by both majors of Helm, each time.
//! `UPDATE_GOLDEN=1 cargo test --test it chart::golden`, and read the difference.

use std::fs;
use std::process::{Command, Stdio};

use super::{Helm, KUBERNETES, MAJORS, cases, rendered, tidied};
use crate::peers::{Folder, root};

const FOLDER: &str = "tests/golden/chart";

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn every_case_renders_what_was_looked_at() {
    let folder = root().join(FOLDER);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, file) in cases() {
        let text = rendered(Helm("helm4"), &["--values", &file]);
        let golden = folder.join(format!("{name}.yaml"));
        if update {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert!(text == expected, "{FOLDER}/{name}.yaml: look at the difference, then UPDATE_GOLDEN=1: {text}");
    }
    let golden = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut golden: Vec<_> = golden.collect();
    golden.sort();
    let expected: Vec<_> = cases().iter().map(|(name, _)| format!("{name}.yaml")).collect();
    assert_eq!(golden, expected, "one for each case");
}

/// Both render the same, and so does each a second time: nothing is random, and nothing is looked up in a cluster.
#[test]
fn both_majors_of_helm_render_the_same_each_time() {
    for (name, file) in cases() {
        let arguments = ["--values", &file];
        let [three, four] = MAJORS.map(|helm| rendered(helm, &arguments));
        assert!(three == four, "{name} differs between Helm 3 and Helm 4");
        assert!(four == rendered(Helm("helm4"), &arguments), "{name} is not the same twice");
    }
}

#[test]
fn both_majors_of_helm_find_nothing_to_complain_about() {
    for helm in MAJORS {
        for (name, file) in cases() {
            let arguments = ["lint", "--strict", "--kube-version", KUBERNETES, "--values", &file, "chart"];
            let said = helm.run(&arguments);
            assert!(said.passed, "{helm:?} {name}: {}{}", said.out, said.err);
        }
    }
}

/// A cluster's kinds decide about monitors alone, and a namespace or a release of another name about names alone.
#[test]
fn another_kubernetes_version_renders_the_same() {
    let oldest = rendered(Helm("helm4"), &["--kube-version=1.30.0"]);
    assert_eq!(oldest, rendered(Helm("helm4"), &["--kube-version=1.37.0"]));
    for helm in MAJORS {
        let said = helm.template(&["--kube-version=1.29.9"]);
        assert!(!said.passed && said.err.contains("requires kubeVersion: >=1.30.0-0"), "{}", said.err);
    }
}

/// What is published is the package: it renders the same, and holds nothing that is only for us.
#[test]
fn the_package_renders_the_same_and_has_what_belongs_into_it() {
    let folder = Folder::new("chart-package");
    let version = env!("CARGO_PKG_VERSION");
    for helm in MAJORS {
        let place = folder.path(helm.0);
        let said = helm.run(&["package", "chart", "--destination", place.to_str().unwrap()]);
        assert!(said.passed, "{}", said.err);
        let package = place.join(format!("spotwarden-{version}.tgz"));
        let arguments = ["template", "spotwarden", package.to_str().unwrap(), "--namespace=spotwarden"];
        let said = helm.run(&[&arguments[..], &["--kube-version", KUBERNETES]].concat());
        assert!(said.passed, "{}", said.err);
        assert_eq!(tidied(&said.out), rendered(helm, &[]));

        let list = Command::new("tar").arg("-tzf").arg(&package).stdin(Stdio::null()).output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        for file in
            ["README.md", "values.schema.json", "files/rules.yaml", "templates/NOTES.txt", "templates/tests/check.yaml"]
        {
            assert!(list.lines().any(|line| line == format!("spotwarden/{file}")), "{file} is not in {list}");
        }
        assert!(!list.contains("spotwarden/ci/") && !list.contains("gotmpl"), "{list}");
    }
}
