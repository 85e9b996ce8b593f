//! Everything that is shipped, applied to the real API server: strictly, so that no field is misspelt, and server-side.
//! The pods of what was applied are accepted under the Pod Security level that the namespace then has.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::objects::id;
use super::{Copy, definitions, folders, gitops, kubectl, parsed, render};
use crate::controlplane::ControlPlane;
use crate::peers::{eventually, root};

/// A control plane that knows the custom resources.
struct Cluster {
    plane: ControlPlane,
    kubeconfig: PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let plane = ControlPlane::start();
        let kubeconfig = plane.dir().join("kubectl.yaml");
        plane.write_kubeconfig(&kubeconfig, plane.admin_token());
        let cluster = Self { plane, kubeconfig };
        for file in definitions::files() {
            cluster.must(&["apply", "--server-side", "-f", file.to_str().unwrap()], "");
        }
        // kubectl gives up on a definition that has no condition at all yet.
        let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
        eventually("an API of every definition", Duration::from_mins(1), || cluster.kubectl(&wait, "").ok());
        // Where Argo CD is.
        cluster.must(&["create", "namespace", "argocd"], "");
        cluster
    }

    /// What kubectl says, given `input`; its complaint, if it fails.
    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(kubectl())
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.plane.dir().join("kubectl"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Pipes are larger than what kubectl says before it has read all.
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (said, complaint) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(format!("{arguments:?}: {complaint}")) }
    }

    fn must(&self, arguments: &[&str], input: &str) -> String {
        let complaint = |text: String| panic!("{text}\n{}", self.plane.log_tails());
        self.kubectl(arguments, input).unwrap_or_else(complaint)
    }

    /// As `kubectl apply --server-side` of whoever installs it.
    fn apply(&self, what: &str, manifest: &str) {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"];
        self.kubectl(&arguments, manifest).unwrap_or_else(|complaint| panic!("{what}: {complaint}"));
    }

    /// Whether the API server would take a pod of this template, and why not.
    fn takes(&self, template: &Value) -> Result<String, String> {
        let mut metadata = template["metadata"].clone();
        metadata["name"] = json!("of-the-test");
        metadata["namespace"] = json!("spotwarden");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
        self.kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &pod.to_string())
    }
}

/// What there is to apply, with its name.
fn everything() -> Vec<(String, String)> {
    let copy = Copy::new("applied");
    let of = |name: &str, folder: PathBuf| (name.to_owned(), render(&folder).unwrap());
    let mut all = vec![of("base", root().join("manifests/base"))];
    let components = folders("manifests/components");
    all.extend(components.iter().map(|name| of(name, copy.overlay(name, &[name]))));
    let together: Vec<&str> = components.iter().map(String::as_str).collect();
    all.push(of("all components", copy.overlay("together", &together)));
    for name in folders("manifests/overlays") {
        all.push(of(&name, root().join("manifests/overlays").join(&name)));
    }
    all.extend(gitops::everything());
    all
}

#[test]
fn everything_is_accepted_by_the_api_server_and_its_pods_by_the_level_of_the_namespace() {
    let cluster = Cluster::start();
    let mut kinds: BTreeMap<String, Value> = BTreeMap::new();
    let mut levels: BTreeMap<String, usize> = BTreeMap::new();
    for (what, manifest) in everything() {
        cluster.apply(&what, &manifest);
        let objects = parsed(&manifest);
        let level = cluster.must(
            &[
                "get",
                "namespace",
                "spotwarden",
                "-o",
                r"jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}",
            ],
            "",
        );
        for object in &objects {
            if object["kind"] == "DaemonSet" || object["kind"] == "Deployment" {
                let taken = cluster.takes(&object["spec"]["template"]);
                taken.unwrap_or_else(|complaint| panic!("{what}: {} under {level}: {complaint}", id(object)));
                *levels.entry(level.clone()).or_default() += 1;
            }
        }
        kinds.extend(objects.into_iter().map(|object| (object["kind"].as_str().unwrap().to_owned(), object)));
    }
    assert!(levels.keys().eq(["privileged", "restricted"]), "{levels:?}");
    nothing_misspelt_would_pass(&cluster, &kinds);
    the_host_network_is_all_that_keeps_it_from_being_restricted(&cluster);
}

/// Otherwise the test above would say nothing of a kind whose definition lets everything through.
fn nothing_misspelt_would_pass(cluster: &Cluster, kinds: &BTreeMap<String, Value>) {
    let mut refused = Vec::new();
    for (kind, object) in kinds {
        if !object["spec"].is_object() {
            continue;
        }
        let mut object = object.clone();
        object["spec"]["misspelt"] = json!("x");
        let arguments =
            ["apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server", "-f", "-"];
        let complaint = cluster.kubectl(&arguments, &object.to_string()).expect_err(kind);
        assert!(complaint.contains(".spec.misspelt"), "{kind}: {complaint}");
        refused.push(kind.as_str());
    }
    for kind in ["AlertmanagerConfig", "ApplicationSet", "DaemonSet", "ExternalSecret", "PodMonitor", "SealedSecret"] {
        assert!(refused.contains(&kind), "{kind} is not among {refused:?}");
    }
}

/// The namespace is `privileged` for two reasons, and for no third.
fn the_host_network_is_all_that_keeps_it_from_being_restricted(cluster: &Cluster) {
    let base = render(&root().join("manifests/base")).unwrap();
    cluster.apply("base", &base);
    let strict = "pod-security.kubernetes.io/enforce=restricted";
    cluster.must(&["label", "namespace", "spotwarden", "--overwrite", strict], "");
    let objects = parsed(&base);
    let template = super::objects::agent_pod(&objects);
    let complaint = cluster.takes(template).expect_err("the host's network is not restricted");
    let found = complaint.split_once("violates PodSecurity \"restricted:latest\": ").map(|(_, reasons)| reasons.trim());
    assert_eq!(
        found,
        Some("host namespaces (hostNetwork=true), hostPort (container \"spotwarden\" uses hostPort 9808)"),
        "{complaint}"
    );
}
