//! The chart on a real API server: every case is applied, its pods are let in by the Pod Security level that they are for,
//! and both majors of Helm install, upgrade and remove it.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Helm, MAJORS, cases, documents, objects, of_kind, rendered};
use crate::controlplane::ControlPlane;
use crate::peers::{Folder, tool};

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
struct Cluster {
    plane: ControlPlane,
    kubeconfig: PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let plane = ControlPlane::start();
        let kubeconfig = plane.dir().join("chart-kubeconfig.yaml");
        plane.write_kubeconfig(&kubeconfig, plane.admin_token());
        Self { plane, kubeconfig }
    }

    /// The one whose cluster has the definitions.
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let cluster = Self::start();
            runtime().block_on(async { define(&cluster.plane.admin_client()).await });
            cluster
        })
    }

    fn helm(&self, helm: Helm, arguments: &[&str]) -> super::Said {
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

/// Everything that carries the label of a release, by kind and name.
async fn left(client: &Client, release: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (group, version, kind) in [
        ("apps", "v1", "DaemonSet"),
        ("", "v1", "ServiceAccount"),
        ("", "v1", "ConfigMap"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io", "v1", "Role"),
        ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
        ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"),
        ("monitoring.coreos.com", "v1", "PodMonitor"),
        ("monitoring.coreos.com", "v1", "PrometheusRule"),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let selector = format!("app.kubernetes.io/instance={release},app.kubernetes.io/managed-by=Helm");
        let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let list = objects.list(&ListParams::default().labels(&selector)).await.unwrap();
        found.extend(list.into_iter().map(|object| format!("{kind}/{}", object.metadata.name.unwrap())));
    }
    found
}

#[test]
fn both_majors_of_helm_install_upgrade_and_remove_it() {
    let cluster = Cluster::shared();
    for helm in MAJORS {
        // Each its own release, so that names that reach over the cluster differ.
        let (release, place) = (format!("spotwarden-{}", helm.0), format!("install-{}", helm.0));
        let run = |arguments: &[&str]| {
            let said = cluster.helm(helm, &[arguments, &["--namespace", &place]].concat());
            assert!(said.passed, "{helm:?} {arguments:?}: {}", said.err);
            said.out
        };
        let daemon_set = || {
            runtime().block_on(async {
                let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "DaemonSet"));
                let api = Api::<DynamicObject>::namespaced_with(cluster.plane.admin_client(), &place, &resource);
                api.get(&release).await.unwrap()
            })
        };
        let notes = run(&["install", &release, "chart", "--create-namespace", "--set=podMonitor.enabled=auto"]);
        assert!(notes.contains(&format!("kubectl rollout status daemonset/{release} -n {place}")), "{notes}");
        assert!(!notes.contains("Left out"), "the cluster has the kind: {notes}");
        let before = daemon_set();
        let installed = runtime().block_on(async { left(&cluster.plane.admin_client(), &release).await });
        assert!(installed.contains(&format!("PodMonitor/{release}")), "{installed:?}");

        // The same again changes nothing, so that whoever compares sees no drift.
        run(&["upgrade", &release, "chart", "--reuse-values"]);
        assert_eq!(daemon_set().metadata.generation, before.metadata.generation, "{helm:?}");
        let values = ["--values=chart/ci/prometheus-operator-values.yaml", "--set=dryRun=true,image.tag=0.2.0"];
        run(&[&["upgrade", &release, "chart"], &values[..]].concat());
        let after = daemon_set();
        assert_ne!(after.metadata.generation, before.metadata.generation);
        assert_eq!(after.data["spec"]["selector"], before.data["spec"]["selector"]);
        assert_eq!(after.data["spec"]["template"]["spec"]["containers"][0]["image"], "spotwarden:0.2.0");
        run(&["rollback", &release, "1"]);
        assert_eq!(daemon_set().data["spec"]["template"], before.data["spec"]["template"]);

        run(&["uninstall", &release]);
        let left = runtime().block_on(async { left(&cluster.plane.admin_client(), &release).await });
        assert!(left.is_empty(), "{helm:?} leaves {left:?}");
    }
}

/// A cluster without the Prometheus operator: monitors are left out and that is said, or insisted on and refused before
/// anything is made.
#[test]
fn a_cluster_without_the_operator_gets_no_monitors_or_an_error() {
    let cluster = Cluster::start();
    for helm in MAJORS {
        let install = |values: &str, more: &[&str]| {
            let arguments =
                ["install", "spotwarden", "chart", "--namespace=bare", "--create-namespace", "--set", values];
            cluster.helm(helm, &[&arguments[..], more].concat())
        };
        let said = install("podMonitor.enabled=true,prometheusRule.enabled=true", &[]);
        assert!(!said.passed);
        for key in ["podMonitor.enabled is true, and the cluster has no PodMonitor", "prometheusRule.enabled is true"] {
            assert!(said.err.contains(key), "{helm:?}: {}", said.err);
        }
        let said = install("podMonitor.enabled=auto", &[]);
        assert!(said.passed, "{}", said.err);
        assert!(
            said.out.contains("Left out: podMonitor, as this cluster is not known to have the kind PodMonitor"),
            "{}",
            said.out
        );
        assert!(cluster.helm(helm, &["uninstall", "spotwarden", "--namespace=bare"]).passed);
    }
}

/// `helm install` on a real cluster, from its beginning to the agent being ready: a process with the arguments, the
/// environment and the token of the DaemonSet's pod.
mod ready {
    use std::collections::BTreeMap;
    use std::net::TcpListener;
    use std::process::{Command, Output};
    use std::sync::mpsc;

    use k8s_openapi::api::core::v1::{Node, Pod};
    use spotwarden::clock::Clock;
    use spotwarden::sim::imds::{IdentitySpec, SimImds};
    use spotwarden::sim::ipamd::{self, Endpoint, SimIpamd};
    use spotwarden::sim::objects::NodeSpec;
    use tokio::task::JoinSet;

    use super::*;
    use crate::peers::Program;

    const NODE: &str = "ip-10-0-1-23.ec2.internal";
    const PLACE: &str = "ready";

    /// The metadata service and ipamd of a node, on a thread of their own until the process ends: where they are.
    fn node_services() -> [String; 3] {
        let (told, heard) = mpsc::channel();
        let serve = move || {
            runtime().block_on(async {
                let imds = SimImds::new(Clock::System, IdentitySpec::default());
                let ipamd = SimIpamd::new(Clock::System, ipamd::NodeSpec::default());
                let mut tasks = JoinSet::new();
                let mut listeners = Vec::new();
                for _ in 0..3 {
                    listeners.push(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
                }
                let addresses: Vec<String> =
                    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
                tasks.spawn(ipamd.clone().serve(Endpoint::Metrics, listeners.pop().unwrap()));
                tasks.spawn(ipamd.serve(Endpoint::Introspection, listeners.pop().unwrap()));
                tasks.spawn(imds.serve(listeners.pop().unwrap()));
                told.send(<[String; 3]>::try_from(addresses).unwrap()).unwrap();
                while tasks.join_next().await.is_some() {}
            });
        };
        std::thread::Builder::new().name("node services".into()).spawn(serve).unwrap();
        heard.recv().unwrap()
    }

    /// The environment of a pod's container as its kubelet makes it, and what a pod has by its mounted token and a
    /// process by a file.
    fn environment(pod: &Pod, kubeconfig: &str) -> BTreeMap<String, String> {
        let field = |path: &str| match path {
            "spec.nodeName" => pod.spec.as_ref().unwrap().node_name.clone().unwrap(),
            "metadata.name" => pod.metadata.name.clone().unwrap(),
            "metadata.namespace" => pod.metadata.namespace.clone().unwrap(),
            "metadata.uid" => pod.metadata.uid.clone().unwrap(),
            "status.hostIP" | "status.podIP" => "127.0.0.1".to_owned(),
            other => panic!("{other}"),
        };
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        for variable in pod.spec.as_ref().unwrap().containers[0].env.iter().flatten() {
            let reference = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
            let mut value =
                reference.map_or_else(|| variable.value.clone().unwrap(), |field_ref| field(&field_ref.field_path));
            for (name, replacement) in &environment {
                value = value.replace(&format!("$({name})"), replacement);
            }
            environment.insert(variable.name.clone(), value);
        }
        environment.insert("KUBECONFIG".into(), kubeconfig.to_owned());
        environment
    }

    /// Creates a pod on the node, as a controller and the scheduler do, and gets its token, as the kubelet does.
    fn place(cluster: &Cluster, pod: &Value, folder: &Folder) -> (Pod, String) {
        let mut pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        pod.spec.as_mut().unwrap().node_name = Some(NODE.into());
        pod.metadata.namespace = Some(PLACE.into());
        let (pod, token) = runtime().block_on(async {
            let pods = Api::<Pod>::namespaced(cluster.plane.admin_client(), PLACE);
            let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
            let account = pod.spec.as_ref().unwrap().service_account_name.clone().unwrap();
            let (name, uid) = (pod.metadata.name.clone().unwrap(), pod.metadata.uid.clone().unwrap());
            let token = cluster.plane.pod_token(PLACE, &account, &name, &uid).await;
            (pod, token)
        });
        let kubeconfig = folder.path(pod.metadata.name.as_deref().unwrap());
        cluster.plane.write_kubeconfig(&kubeconfig, &token);
        (pod, kubeconfig.to_str().unwrap().to_owned())
    }

    fn arguments(pod: &Pod) -> Vec<String> {
        pod.spec.as_ref().unwrap().containers[0].args.clone().unwrap()
    }

    /// A port that was free a moment ago.
    fn port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// The status of a GET of `path`; `None` while nobody listens.
    fn status(port: u16, path: &str) -> Option<u16> {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        Some(crate::peers::request(&format!("127.0.0.1:{port}"), "GET", path, "", "").status)
    }

    struct Installed {
        seconds: f64,
        agent_seconds: f64,
        check: Output,
    }

    /// Installs, runs what was installed, asks the doctor, and removes it all.
    fn install(cluster: &Cluster, helm: Helm, services: &[String; 3]) -> Installed {
        let folder = Folder::new("chart-ready");
        let port = port();
        let [imds, introspection, metrics] = services;
        let values = folder.write(
            "values.yaml",
            &json!({
                "imds": {"endpoint": format!("http://{imds}")},
                "cni": {"introspectionAddress": introspection, "metricsAddress": metrics},
                "metrics": {"port": port},
                "log": {"format": "json"},
            })
            .to_string(),
        );

        let begin = Instant::now();
        let said = cluster.helm(helm, &["install", "spotwarden", "chart", "--namespace", PLACE, "--values", &values]);
        assert!(said.passed, "{}", said.err);
        let (uid, template) = runtime().block_on(async {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "DaemonSet"));
            let api = Api::<DynamicObject>::namespaced_with(cluster.plane.admin_client(), PLACE, &resource);
            let daemon_set = api.get("spotwarden").await.unwrap();
            (daemon_set.metadata.uid.unwrap(), daemon_set.data["spec"]["template"].clone())
        });
        let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["generateName"] = json!("spotwarden-");
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "spotwarden", "uid": uid, "controller": true});
        pod["metadata"]["ownerReferences"] = json!([owner]);
        let (pod, kubeconfig) = place(cluster, &pod, &folder);
        let started = Instant::now();
        let variables = environment(&pod, &kubeconfig);
        let variables: Vec<(&str, String)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_spotwarden"));
        let (agent, ()) = Program::start(binary, &arguments(&pod), &variables, folder.path("log"), |line| {
            line.contains("\"starting\"").then_some(())
        });
        crate::peers::eventually("the agent being ready", Duration::from_secs(30), || {
            (status(port, "/readyz") == Some(200)).then_some(())
        });
        let (seconds, agent_seconds) = (begin.elapsed().as_secs_f64(), started.elapsed().as_secs_f64());
        assert_eq!(status(port, "/livez"), Some(200));
        drop(agent);

        let hooks = cluster.helm(helm, &["get", "hooks", "spotwarden", "--namespace", PLACE]);
        let hooks = documents(&hooks.out);
        let (check, kubeconfig) = place(cluster, of_kind(&hooks, "Pod").unwrap(), &folder);
        let check = Command::new(binary)
            .args(arguments(&check))
            .env_clear()
            .envs(environment(&check, &kubeconfig))
            .output()
            .unwrap();
        assert!(cluster.helm(helm, &["uninstall", "spotwarden", "--namespace", PLACE]).passed);
        runtime().block_on(async {
            let pods = Api::<Pod>::namespaced(cluster.plane.admin_client(), PLACE);
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete_collection(&at_once, &ListParams::default()).await.unwrap();
        });
        Installed { seconds, agent_seconds, check }
    }

    /// Other tests and their control planes share the machine, so the best of three tries is what counts.
    #[test]
    fn from_the_install_to_a_ready_agent_it_takes_at_most_five_seconds() {
        let cluster = Cluster::start();
        runtime().block_on(async {
            let client = cluster.plane.admin_client();
            namespace(&client, PLACE, "privileged").await;
            let node = NodeSpec::new(NODE).build(Clock::System.now().wall);
            Api::<Node>::all(client).create(&PostParams::default(), &node).await.unwrap();
        });
        let services = node_services();
        for helm in MAJORS {
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                let installed = install(&cluster, helm, &services);
                let said = String::from_utf8_lossy(&installed.check.stdout).into_owned();
                assert_eq!(installed.check.status.code(), Some(0), "the doctor: {said}");
                assert!(said.contains("Result: nothing that is needed is missing"), "{said}");
                best = best.min(installed.seconds);
                println!(
                    "{helm:?}: install to ready {:.2} s, of which the agent {:.2} s",
                    installed.seconds, installed.agent_seconds
                );
                if best <= 5.0 {
                    break;
                }
            }
            assert!(best <= 5.0, "{helm:?}: {best:.2} s");
        }
    }
}
