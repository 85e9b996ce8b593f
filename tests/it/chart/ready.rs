//! `helm install` on a real cluster, from its beginning to the agent being ready: a process with the arguments, the
//! environment and the token of the DaemonSet's pod.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use spotwarden::clock::Clock;
use spotwarden::sim::imds::{IdentitySpec, SimImds};
use spotwarden::sim::ipamd::{self, Endpoint, SimIpamd};
use spotwarden::sim::objects::NodeSpec;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cluster::{Cluster, namespace, runtime};
use super::{Helm, MAJORS, container, documents, environment, of_kind};
use crate::peers::{Folder, Program, eventually, request};

const NODE: &str = "ip-10-0-1-23.ec2.internal";
const PLACE: &str = "ready";

/// The metadata service and ipamd of a node, on a thread of their own until the process ends.
struct Services {
    imds: SimImds,
    /// Of IMDS, introspection and metrics.
    addresses: [String; 3],
}

fn node_services() -> Services {
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
            tasks.spawn(imds.clone().serve(listeners.pop().unwrap()));
            assert!(told.send(Services { imds, addresses: addresses.try_into().unwrap() }).is_ok());
            while tasks.join_next().await.is_some() {}
        });
    };
    std::thread::Builder::new().name("node services".into()).spawn(serve).unwrap();
    heard.recv().unwrap()
}

/// What the downward API gives a pod; on a node, the pod has the node's address.
fn field(pod: &Value, path: &str) -> String {
    let pointer = format!("/{}", path.replace('.', "/"));
    match path {
        "status.hostIP" | "status.podIP" => "127.0.0.1".to_owned(),
        _ => pod.pointer(&pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}")).to_owned(),
    }
}

/// The environment of the pod's container, and in the place of the token that a pod has mounted, a file for a process.
fn variables(pod: &Value, kubeconfig: &str) -> BTreeMap<String, String> {
    let mut variables = environment(container(pod), |path| field(pod, path));
    variables.insert("KUBECONFIG".into(), kubeconfig.to_owned());
    variables
}

/// Creates a pod on the node, as a controller and the scheduler do, and gets its token, as the kubelet does. What a process
/// needs to be it: program, arguments, variables.
fn place(cluster: &Cluster, pod: &Value, folder: &Folder) -> (Vec<String>, BTreeMap<String, String>) {
    let mut pod: Pod = serde_json::from_value(pod.clone()).unwrap();
    pod.spec.as_mut().unwrap().node_name = Some(NODE.into());
    let kubeconfig = folder.path("kubeconfig");
    let pod = runtime().block_on(async {
        let pods = Api::<Pod>::namespaced(cluster.plane.admin_client(), PLACE);
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        let account = pod.spec.as_ref().unwrap().service_account_name.clone().unwrap();
        let (name, uid) = (pod.metadata.name.clone().unwrap(), pod.metadata.uid.clone().unwrap());
        let token = cluster.plane.pod_token(PLACE, &account, &name, &uid).await;
        cluster.plane.write_kubeconfig(&kubeconfig, &token);
        pod
    });
    let arguments = pod.spec.as_ref().unwrap().containers[0].args.clone().unwrap();
    let mut pod = serde_json::to_value(pod).unwrap();
    pod["kind"] = json!("Pod");
    (arguments, variables(&pod, kubeconfig.to_str().unwrap()))
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The status of a GET of `path`; `None` while nobody listens.
fn status(port: u16, path: &str) -> Option<u16> {
    TcpStream::connect(("127.0.0.1", port)).ok()?;
    Some(request(&format!("127.0.0.1:{port}"), "GET", path, "", "").status)
}

struct Installed {
    seconds: f64,
    agent_seconds: f64,
    check: Output,
}

/// The rights and policies that were installed are enough for the first thing that counts, and the notes' way to see it shows
/// it.
fn react(cluster: &Cluster, imds: &SimImds) {
    let now = Clock::System.now().wall;
    imds.set_spot_action("terminate", now + SignedDuration::from_secs(120));
    eventually("a fenced node and its Event", Duration::from_secs(30), || {
        runtime().block_on(async {
            let client = cluster.plane.admin_client();
            let node = Api::<Node>::all(client.clone()).get(NODE).await.unwrap().spec.unwrap();
            let taints = node.taints.unwrap_or_default();
            let fenced = taints.iter().any(|taint| taint.key == "spotwarden/interruption");
            let ours = ListParams::default().fields("reportingComponent=spotwarden");
            let events = Api::<Event>::namespaced(client, "default").list(&ours).await.unwrap();
            let told = events.iter().any(|event| event.reason.as_deref() == Some("SpotInterruption"));
            (fenced && told).then_some(())
        })
    });
    imds.clear_spot_action();
}

/// A node as it comes, with nothing of an agent before.
fn renew_node(cluster: &Cluster) {
    runtime().block_on(async {
        let nodes = Api::<Node>::all(cluster.plane.admin_client());
        _ = nodes.delete(NODE, &DeleteParams::default()).await;
        let node = NodeSpec::new(NODE).build(Clock::System.now().wall);
        nodes.create(&PostParams::default(), &node).await.unwrap();
    });
}

/// Installs, runs what was installed, asks the doctor, and removes it all.
fn install(cluster: &Cluster, helm: Helm, services: &Services) -> Installed {
    let folder = Folder::new("chart-ready");
    let port = port();
    let [imds, introspection, metrics] = &services.addresses;
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
    let daemon_set = runtime().block_on(async {
        Api::<DaemonSet>::namespaced(cluster.plane.admin_client(), PLACE).get("spotwarden").await.unwrap()
    });
    let mut pod = serde_json::to_value(daemon_set.spec.unwrap().template).unwrap();
    pod["metadata"]["generateName"] = json!("spotwarden-");
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "spotwarden", "uid": daemon_set.metadata.uid, "controller": true,
    }]);
    let (arguments, variables) = place(cluster, &pod, &folder);
    let started = Instant::now();
    let variables: Vec<(&str, String)> = variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_spotwarden"));
    let (agent, ()) = Program::start(binary, &arguments, &variables, folder.path("log"), |line| {
        line.contains("\"starting\"").then_some(())
    });
    eventually("the agent being ready", Duration::from_secs(30), || {
        (status(port, "/readyz") == Some(200)).then_some(())
    });
    let (seconds, agent_seconds) = (begin.elapsed().as_secs_f64(), started.elapsed().as_secs_f64());
    assert_eq!(status(port, "/livez"), Some(200));
    react(cluster, &services.imds);
    drop(agent);

    let hooks = cluster.helm(helm, &["get", "hooks", "spotwarden", "--namespace", PLACE]);
    let hooks = documents(&hooks.out);
    let (arguments, variables) = place(cluster, of_kind(&hooks, "Pod").unwrap(), &folder);
    let check = Command::new(binary).args(arguments).env_clear().envs(variables).output().unwrap();
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
        namespace(&cluster.plane.admin_client(), PLACE, "privileged").await;
    });
    let services = node_services();
    for helm in MAJORS {
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            renew_node(&cluster);
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
