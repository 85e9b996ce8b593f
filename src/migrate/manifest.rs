//! A DaemonSet of NTH, rendered or out of a cluster, as the values that would make it. Pure.

use serde_json::{Map, Value, json};

use super::given::CHART;
use super::tree::{Place, Tree};

/// Values that make what is in `documents`. The error completes "FILE: …".
pub fn values(documents: &[Tree]) -> Result<Tree, String> {
    let workloads: Vec<Workload<'_>> = documents.iter().flat_map(workloads).collect();
    let is_windows = |one: &&Workload<'_>| one.os() == Some("windows");
    let daemon_set = workloads.iter().find(|one| one.kind == "DaemonSet" && !is_windows(one));
    let deployment = workloads.iter().find(|one| one.kind == "Deployment");
    let windows = workloads.iter().any(|one| is_windows(&one));
    let mut tree = match (daemon_set, deployment) {
        (Some(one), _) | (None, Some(one)) => one.values(),
        (None, None) if windows => Tree::default(),
        (None, None) => {
            return Err(format!("has no DaemonSet or Deployment with a container of the name or image {CHART}"));
        }
    };
    if windows {
        let systems = if daemon_set.is_some() { "linux windows" } else { "windows" };
        tree.values.insert("targetNodeOs".into(), systems.into());
    }
    Ok(tree)
}

/// A workload that runs NTH.
struct Workload<'a> {
    kind: &'a str,
    document: &'a Tree,
    /// Path of the pod's specification in the document.
    path: String,
    object: &'a Value,
    container: usize,
}

/// Those of a document, which may be a list as `kubectl get` prints it.
fn workloads(document: &Tree) -> Vec<Workload<'_>> {
    if let Some(items) = document.values.get("items").and_then(Value::as_array) {
        let item = |(index, item)| workload(document, item, &format!("items[{index}]."));
        return items.iter().enumerate().filter_map(item).collect();
    }
    // Without a root the whole document cannot be borrowed as a value; its parts can.
    let kind = document.values.get("kind").and_then(Value::as_str);
    let spec = document.values.get("spec");
    kind.zip(spec).and_then(|(kind, spec)| of_kind(document, kind, spec, "")).into_iter().collect()
}

fn workload<'a>(document: &'a Tree, item: &'a Value, above: &str) -> Option<Workload<'a>> {
    of_kind(document, item.get("kind")?.as_str()?, item.get("spec")?, above)
}

fn of_kind<'a>(document: &'a Tree, kind: &'a str, spec: &'a Value, above: &str) -> Option<Workload<'a>> {
    if !matches!(kind, "DaemonSet" | "Deployment") {
        return None;
    }
    let containers = spec.pointer("/template/spec/containers")?.as_array()?;
    let is_nth = |container: &Value| {
        let part = |part: &str| container.get(part).and_then(Value::as_str).unwrap_or_default();
        part("name") == CHART || part("image").contains(CHART)
    };
    let container = containers.iter().position(is_nth)?;
    Some(Workload { kind, document, path: format!("{above}spec."), object: spec, container })
}

/// What the chart sets by itself on every pod.
const OWN_LABELS: [&str; 2] = ["k8s-app", "kubernetes.io/os"];
/// What the API server sets where nothing is given.
const DEFAULT_GRACE: i64 = 30;

impl Workload<'_> {
    fn pod(&self, pointer: &str) -> Option<&Value> {
        self.object.pointer(&format!("/template/spec/{pointer}"))
    }

    fn part(&self, pointer: &str) -> Option<&Value> {
        self.pod(&format!("containers/{}/{pointer}", self.container))
    }

    fn os(&self) -> Option<&str> {
        self.pod("nodeSelector/kubernetes.io~1os")?.as_str()
    }

    fn values(&self) -> Tree {
        let mut out = Sketch { workload: self, tree: Tree::default() };
        out.env();
        let mut selector = self.pod("nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
        selector.remove("kubernetes.io/os");
        out.put("daemonsetNodeSelector", selector.into(), "template.spec.nodeSelector");
        for (key, pointer) in [
            ("daemonsetAffinity", "affinity"),
            ("daemonsetTolerations", "tolerations"),
            ("daemonsetPriorityClassName", "priorityClassName"),
            ("linuxDnsPolicy", "dnsPolicy"),
            ("dnsConfig", "dnsConfig"),
            ("podSecurityContext", "securityContext"),
            ("terminationGracePeriodSeconds", "terminationGracePeriodSeconds"),
        ] {
            let value = self.pod(pointer).filter(|value| **value != json!(DEFAULT_GRACE));
            out.put_some(key, value, &format!("template.spec.{pointer}"));
        }
        // Absent is off for Kubernetes, which the chart writes out.
        let network = self.pod("hostNetwork").cloned().unwrap_or(Value::Bool(false));
        out.put("useHostNetwork", network, "template.spec.hostNetwork");
        let container = format!("template.spec.containers[{}]", self.container);
        for (key, pointer) in [("securityContext", "securityContext"), ("resources", "resources")] {
            out.put_some(key, self.part(pointer), &format!("{container}.{pointer}"));
        }
        out.image(&container);
        out.update_strategy();
        out.labels();
        out.tree
    }
}

struct Sketch<'a> {
    workload: &'a Workload<'a>,
    tree: Tree,
}

impl Sketch<'_> {
    fn put(&mut self, key: &str, value: Value, from: &str) {
        let place = self.workload.document.places.get(&format!("{}{from}", self.workload.path));
        self.tree.places.extend(place.map(|place| (key.to_owned(), place.clone())));
        let mut parts = key.split('.').rev();
        let Some(last) = parts.next() else { return };
        match parts.next() {
            None => _ = self.tree.values.insert(last.to_owned(), value),
            Some(parent) => {
                let below = self.tree.values.entry(parent).or_insert_with(|| Value::Object(Map::new()));
                if let Some(below) = below.as_object_mut() {
                    below.insert(last.to_owned(), value);
                }
            }
        }
    }

    fn put_some(&mut self, key: &str, value: Option<&Value>, from: &str) {
        if let Some(value) = value {
            self.put(key, value.clone(), from);
        }
    }

    /// Every variable, those of the chart's own values too: read as `extraEnv` they find their settings.
    fn env(&mut self) {
        let Some(entries) = self.workload.part("env").and_then(Value::as_array) else { return };
        self.tree.values.insert("extraEnv".into(), entries.clone().into());
        let (path, container) = (&self.workload.path, self.workload.container);
        for index in 0..entries.len() {
            let at = format!("{path}template.spec.containers[{container}].env[{index}].name");
            let place: Option<&Place> = self.workload.document.places.get(&at);
            self.tree.places.extend(place.map(|place| (format!("extraEnv[{index}].name"), place.clone())));
        }
    }

    fn image(&mut self, container: &str) {
        let from = format!("{container}.image");
        if let Some(image) = self.workload.part("image").and_then(Value::as_str) {
            let bare = image.split('@').next().unwrap_or(image);
            // A colon before the last slash is that of a registry's port.
            let cut = bare.rfind(':').filter(|at| bare.rfind('/').is_none_or(|slash| slash < *at));
            let repository = cut.and_then(|at| bare.get(..at)).unwrap_or(bare);
            self.put("image.repository", repository.into(), &from);
        }
        self.put_some(
            "image.pullPolicy",
            self.workload.part("imagePullPolicy"),
            &format!("{container}.imagePullPolicy"),
        );
        self.put_some("image.pullSecrets", self.workload.pod("imagePullSecrets"), "template.spec.imagePullSecrets");
    }

    fn update_strategy(&mut self) {
        let Some(strategy) = self.workload.object.get("updateStrategy") else { return };
        let mut strategy = strategy.clone();
        if let Some(rolling) = strategy.pointer_mut("/rollingUpdate").and_then(Value::as_object_mut) {
            rolling.retain(|key, value| key != "maxSurge" || *value != json!(0));
        }
        self.put("updateStrategy", strategy, "updateStrategy");
    }

    fn labels(&mut self) {
        for (key, part) in [("podLabels", "labels"), ("podAnnotations", "annotations")] {
            let found = self.workload.object.pointer(&format!("/template/metadata/{part}")).and_then(Value::as_object);
            let mut found = found.cloned().unwrap_or_default();
            found.retain(|name, _| !OWN_LABELS.contains(&name.as_str()) && !name.starts_with("app.kubernetes.io/"));
            self.put(key, found.into(), &format!("template.metadata.{part}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::given::Settings;
    use crate::migrate::read;

    const MANIFEST: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: aws-node-termination-handler}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: x}
spec:
  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 25%, maxSurge: 0}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: x, kubernetes.io/os: linux, team: a}
    spec:
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      priorityClassName: system-node-critical
      terminationGracePeriodSeconds: 30
      nodeSelector: {kubernetes.io/os: linux, lifecycle: spot}
      tolerations: [{operator: Exists}]
      containers:
        - name: sidecar
          image: proxy
        - name: aws-node-termination-handler
          image: registry.example.com:5000/aws-node-termination-handler:v1.25.6@sha256:0
          env:
            - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
            - name: TAINT_NODE
              value: "true"
            - {name: DRY_RUN, value: "false"}
"#;

    #[test]
    fn a_daemon_set_gives_the_values_that_make_it() {
        let tree = values(&read::manifest("all.yaml", MANIFEST).unwrap()).unwrap();
        let settings = Settings::read(&tree);
        assert!(settings.is_on("taintNode") && settings.strays.is_empty() && settings.variables.is_empty());
        assert_eq!(settings.given("taintNode").unwrap().place.as_ref().unwrap().to_string(), "all.yaml:28");
        assert_eq!(settings.value("image.repository"), "registry.example.com:5000/aws-node-termination-handler");
        assert_eq!(settings.value("daemonsetNodeSelector"), json!({"lifecycle": "spot"}));
        assert_eq!(settings.value("podLabels"), json!({"team": "a"}));
        let mut idle = settings.idle.clone();
        idle.sort_unstable();
        let expected = ["daemonsetPriorityClassName", "daemonsetTolerations", "dryRun", "linuxDnsPolicy"];
        assert_eq!(idle, [&expected[..], &["podAnnotations", "updateStrategy", "useHostNetwork"]].concat());
    }

    #[test]
    fn a_list_from_a_cluster_and_nodes_with_windows_are_understood() {
        let windows = MANIFEST.replace("kubernetes.io/os: linux, lifecycle", "kubernetes.io/os: windows, lifecycle");
        let tree = |text: &str| values(&read::manifest("-", text).unwrap()).unwrap();
        assert_eq!(tree(&windows).values, *json!({"targetNodeOs": "windows"}).as_object().unwrap());
        let both = format!("{MANIFEST}---{}", windows.split("---").nth(1).unwrap());
        assert_eq!(tree(&both).values["targetNodeOs"], "linux windows");
        let document = MANIFEST.split("---").nth(1).unwrap().replace('\n', "\n    ");
        let list = format!("kind: List\nitems:\n  - {}\n", document.trim());
        assert!(Settings::read(&tree(&list)).given("taintNode").unwrap().place.is_some(), "{list}");
    }

    #[test]
    fn a_manifest_of_something_else_is_refused() {
        let other = "kind: DaemonSet\nspec: {template: {spec: {containers: [{name: a, image: b}]}}}\n";
        let error = values(&read::manifest("-", other).unwrap()).unwrap_err();
        assert!(error.starts_with("has no DaemonSet or Deployment with a container"), "{error}");
    }
}
