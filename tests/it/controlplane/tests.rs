//! The control plane of the tests is itself what it claims to be: real decisions, real identities, nothing left behind.

use std::fmt::Debug;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, EvictParams, PostParams};
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ADMIN, ControlPlane};

/// Asks until the answer is there.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    for _ in 0..200 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not so after 10 s: {what}");
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let object = serde_json::from_value(object).expect("a well-formed object");
    api.create(&PostParams::default(), &object).await.expect("the object is accepted")
}

fn api<K>(plane: &ControlPlane, namespace: &str) -> Api<K>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(plane.admin_client(), namespace)
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "agent",
            "containers": [{"name": "main", "image": "example.invalid/web"}],
        },
    })
}

/// A node with one pod that runs, in a namespace of its own.
async fn node_with_pod(plane: &ControlPlane, name: &str) -> Pod {
    let client = plane.admin_client();
    create(&Api::<Namespace>::all(client.clone()), json!({"metadata": {"name": name}})).await;
    create(&Api::<Node>::all(client), json!({"metadata": {"name": name}})).await;
    create(&api::<ServiceAccount>(plane, name), json!({"metadata": {"name": "agent"}})).await;
    let pods = api::<Pod>(plane, name);
    let mut running = create(&pods, pod("web", name)).await;
    running.status = serde_json::from_value(json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
    }))
    .expect("a well-formed status");
    pods.replace_status("web", &PostParams::default(), &running).await.expect("the test is the kubelet")
}

#[tokio::test]
async fn the_disruption_controller_decides_about_an_eviction() {
    let plane = ControlPlane::shared();
    node_with_pod(plane, "decides").await;
    let budgets = api::<PodDisruptionBudget>(plane, "decides");
    let budget = |least: u8| {
        json!({
            "metadata": {"name": "web"},
            "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}},
        })
    };
    create(&budgets, budget(1)).await;
    let allowed =
        || async { budgets.get("web").await.ok()?.status.filter(|status| status.observed_generation.is_some()) };
    let status = eventually("the budget has a status", allowed).await;
    assert_eq!((status.current_healthy, status.disruptions_allowed), (1, 0));

    let pods = api::<Pod>(plane, "decides");
    let refused = pods.evict("web", &EvictParams::default()).await.expect_err("the budget allows none");
    let kube::Error::Api(refused) = refused else { panic!("not an answer: {refused}") };
    assert_eq!((refused.code, refused.reason.as_str()), (429, "TooManyRequests"));
    let causes = refused.details.expect("a refusal has details").causes;
    assert_eq!(causes.first().map(|cause| cause.reason.as_str()), Some("DisruptionBudget"));

    budgets.delete("web", &DeleteParams::default()).await.expect("the budget goes");
    pods.evict("web", &EvictParams::default()).await.expect("nothing is in the way any more");
    let evicted = pods.get("web").await.expect("the pod waits for its kubelet");
    assert!(evicted.metadata.deletion_timestamp.is_some());

    eventually("both evictions are in the audit log", || async {
        let mut log = plane.audit_log();
        log.retain(|entry| entry.subresource == "eviction" && entry.namespace == "decides");
        let seen: Vec<_> = log.iter().map(|entry| (entry.user.as_str(), entry.uri.as_str(), entry.code)).collect();
        let uri = "/api/v1/namespaces/decides/pods/web/eviction?";
        (seen == [(ADMIN, uri, 429), (ADMIN, uri, 201)]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_token_is_the_account_on_its_node_and_the_audit_log_says_so() {
    let plane = ControlPlane::shared();
    let pod = node_with_pod(plane, "identity").await;
    let uid = pod.metadata.uid.expect("a created pod has a UID");
    let token = plane.pod_token("identity", "agent", "web", &uid).await;

    let review = plane
        .http()
        .post(format!("{}/apis/authentication.k8s.io/v1/selfsubjectreviews", plane.server_url()))
        .bearer_auth(&token)
        .header("content-type", "application/json")
        .header("user-agent", "identity-test")
        .body(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string())
        .send()
        .await
        .expect("the server answers");
    assert_eq!(review.status(), 201);
    let review: Value = serde_json::from_slice(&review.bytes().await.expect("a body")).expect("JSON");
    let user = &review["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:identity:agent");
    assert_eq!(user["extra"]["authentication.kubernetes.io/node-name"], json!(["identity"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["web"]));

    let forbidden = Api::<Node>::all(plane.client(&token)).get("identity").await.expect_err("it has no rights yet");
    assert!(matches!(forbidden, kube::Error::Api(status) if status.code == 403));

    let entries = eventually("both requests are in the audit log", || async {
        let mut log = plane.audit_log();
        log.retain(|entry| entry.user == "system:serviceaccount:identity:agent");
        (log.len() == 2).then_some(log)
    })
    .await;
    assert_eq!((entries[0].verb.as_str(), entries[0].code), ("create", 201));
    assert_eq!(entries[0].user_agent, "identity-test");
    let (node_get, node) = (&entries[1], "authentication.kubernetes.io/node-name");
    assert_eq!(
        (node_get.verb.as_str(), node_get.resource.as_str(), node_get.name.as_str(), node_get.code),
        ("get", "nodes", "identity", 403)
    );
    assert_eq!(node_get.extra[node], ["identity"]);
    assert_eq!(node_get.stage, "ResponseComplete");
    assert!(node_get.received <= node_get.at);
}

#[test]
fn a_dropped_control_plane_leaves_nothing_behind() {
    let plane = ControlPlane::start();
    let dir = plane.dir().to_owned();
    assert_eq!(running_in(&dir).len(), 3);
    drop(plane);
    assert_eq!(running_in(&dir), Vec::<String>::new());
    assert!(!dir.exists());
}

#[tokio::test]
async fn an_outage_of_the_api_server_keeps_objects_and_tokens() {
    let mut plane = ControlPlane::start();
    node_with_pod(&plane, "outage").await;
    plane.stop("kube-apiserver");
    Api::<Node>::all(plane.admin_client()).get("outage").await.expect_err("nobody listens");
    plane.resume("kube-apiserver");
    Api::<Node>::all(plane.admin_client()).get("outage").await.expect("the node is still there");
}

#[test]
fn a_killed_test_process_leaves_nothing_behind() {
    let mut victim = Command::new(std::env::current_exe().expect("the test program has a path"))
        .args(["--exact", "controlplane::tests::victim", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test program starts");
    let output = BufReader::new(victim.stdout.take().expect("a pipe"));
    let dir = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("runs in ").map(|(_, dir)| PathBuf::from(dir)))
        .expect("the victim says where its control plane runs");
    assert_eq!(running_in(&dir).len(), 3);

    // This is SIGKILL.
    victim.kill().expect("the victim is ours");
    victim.wait().expect("the victim is ours");
    for _ in 0..200 {
        if running_in(&dir).is_empty() && !dir.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("left behind after 10 s: {:?}, folder there: {}", running_in(&dir), dir.exists());
}

#[test]
#[ignore = "waits to be killed: the other half of a_killed_test_process_leaves_nothing_behind"]
fn victim() {
    let plane = ControlPlane::start();
    println!("runs in {}", plane.dir().display());
    // Its end means that the test which wants to kill this process is gone itself.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("standard input can be read");
}

/// The programs that have `dir` as their working directory.
fn running_in(dir: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("this test needs /proc").filter_map(Result::ok);
    processes
        .filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)))
        .map(|process| std::fs::read_to_string(process.path().join("comm")).unwrap_or_default())
        .collect()
}
