//! The chart on a real API server: every case is applied, and its pods are let in by the Pod Security level that they are
//! for.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Helm, cases, documents, objects, of_kind, rendered};
use crate::controlplane::ControlPlane;
use crate::peers::tool;

/// What the chart is for of the Prometheus operator's definitions.
const DEFINITIONS: [&str; 4] = ["alertmanagerconfigs", "podmonitors", "prometheusrules", "servicemonitors"];

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An API of the kind of `object`, in its namespace if it has one.
fn api(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.clone().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
    match object.metadata.namespace.as_deref() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Server-side apply that refuses unknown fields.
async fn apply(client: &Client, object: &Value) -> Result<DynamicObject, kube::Error> {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let parameters = PatchParams::apply("tests").force().validation_strict();
    api(client, &object).patch(object.metadata.name.as_deref().unwrap(), &parameters, &Patch::Apply(&object)).await
}

pub(super) async fn namespace(client: &Client, name: &str, level: &str) {
    let labels = json!({"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/audit": "restricted"});
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    apply(client, &object).await.unwrap();
}

/// Brings the definitions, and waits until the server serves them.
async fn define(client: &Client) {
    for name in DEFINITIONS {
        let file = tool("helm", "crds").join(format!("monitoring.coreos.com_{name}.yaml"));
        let definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        let object: DynamicObject = serde_json::from_value(definition).unwrap();
        let api = api(client, &object);
        api.create(&PostParams::default(), &object).await.unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let established = |object: DynamicObject| {
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
        };
        while !established(api.get(&name).await.unwrap()) {
            assert!(Instant::now() < end, "{name} was not established");
            sleep(Duration::from_millis(50)).await;
        }
        // Established is said a moment before its storage answers.
        let field = |path: &str| object.data["spec"].pointer(path).unwrap().as_str().unwrap().to_owned();
        let gvk = GroupVersionKind::gvk(&field("/group"), &field("/versions/0/name"), &field("/names/kind"));
        let served = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
        while served.list(&ListParams::default()).await.is_err() {
            assert!(Instant::now() < end, "{name} was not served");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An API server of the chart's own, as cluster-wide names would meet those of other tests; with a kubeconfig for helm.
pub(super) struct Cluster {
    pub(super) plane: ControlPlane,
    kubeconfig: PathBuf,
}

impl Cluster {
    pub(super) fn start() -> Self {
        let plane = ControlPlane::start();
        let kubeconfig = plane.dir().join("chart-kubeconfig.yaml");
        plane.write_kubeconfig(&kubeconfig, plane.admin_token());
        Self { plane, kubeconfig }
    }

    /// The one whose cluster has the definitions.
    pub(super) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let cluster = Self::start();
            runtime().block_on(async { define(&cluster.plane.admin_client()).await });
            cluster
        })
    }

    pub(super) fn helm(&self, helm: Helm, arguments: &[&str]) -> super::Said {
        helm.run_with(arguments, &[("KUBECONFIG", self.kubeconfig.to_str().unwrap())])
    }
}

/// The pods that a rendering asks for: the DaemonSet's, as its controller makes it, and the test's.
fn pods(objects: &[Value]) -> Vec<Value> {
    let daemon_set = of_kind(objects, "DaemonSet").unwrap();
    let mut agent = daemon_set["spec"]["template"].clone();
    agent["metadata"]["name"] = json!("agent");
    agent["metadata"]["namespace"] = daemon_set["metadata"]["namespace"].clone();
    agent["apiVersion"] = json!("v1");
    agent["kind"] = json!("Pod");
    vec![agent, of_kind(objects, "Pod").unwrap().clone()]
}

/// Each case in a namespace of its own. Where the pods have their own network, that namespace is a restricted one.
#[test]
fn every_case_is_applied_and_its_pods_are_let_in() {
    let cluster = Cluster::shared();
    runtime().block_on(async {
        let client = cluster.plane.admin_client();
        namespace(&client, "monitoring", "restricted").await;
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": "platform-critical"}, "value": 1_000_000});
        apply(&client, &class).await.unwrap();
        for (name, file) in cases() {
            let place = format!("case-{name}");
            let objects = documents(&rendered(Helm("helm4"), &["--values", &file, "--namespace", &place]));
            let own_network = pods(&objects)[0]["spec"]["hostNetwork"].is_null();
            assert_eq!(own_network, name == "no-host-network");
            namespace(&client, &place, if own_network { "restricted" } else { "privileged" }).await;
            for object in objects.iter().filter(|object| object["kind"] != "Pod").chain(&pods(&objects)) {
                let applied = apply(&client, object).await;
                let what = format!("{name}: {} {}", object["kind"], object["metadata"]["name"]);
                let applied = applied.unwrap_or_else(|error| panic!("{what}: {error}"));
                if let Some(namespace) = &applied.metadata.namespace {
                    let elsewhere = ["default", "monitoring"].contains(&namespace.as_str());
                    assert!(*namespace == place || elsewhere, "{what} is in {namespace}");
                }
            }
        }
    });
}

/// The node's network is the only thing that is asked for beyond the level restricted.
#[test]
fn restricted_refuses_the_pods_for_the_node_s_network_alone() {
    let cluster = Cluster::shared();
    runtime().block_on(async {
        let client = cluster.plane.admin_client();
        namespace(&client, "restricted", "restricted").await;
        let objects = documents(&rendered(Helm("helm4"), &["--namespace=restricted"]));
        let refusals = [
            "host namespaces (hostNetwork=true), hostPort (container \"spotwarden\" uses hostPort 9808)",
            "host namespaces (hostNetwork=true)",
        ];
        for (pod, refusal) in pods(&objects).iter().zip(refusals) {
            let kube::Error::Api(status) = apply(&client, pod).await.unwrap_err() else { panic!("no answer") };
            let (_, reasons) = status.message.split_once("violates PodSecurity \"restricted:latest\": ").unwrap();
            assert_eq!(reasons, refusal);
        }
    });
}

/// What is applied strictly can fail: a field that no object has.
#[test]
fn a_field_that_no_object_has_is_seen() {
    let cluster = Cluster::shared();
    runtime().block_on(async {
        let client = cluster.plane.admin_client();
        namespace(&client, "strict", "privileged").await;
        for values in
            ["{tolerations: [{operators: Exists}]}", "{podMonitor: {enabled: true, relabelings: [{targetLabels: x}]}}"]
        {
            let kind = if values.contains("podMonitor") { "PodMonitor" } else { "DaemonSet" };
            let mut object = of_kind(&objects(values), kind).unwrap().clone();
            object["metadata"]["namespace"] = json!("strict");
            let error = apply(&client, &object).await.unwrap_err().to_string();
            assert!(error.contains("operators") || error.contains("targetLabels"), "{error}");
        }
    });
}
