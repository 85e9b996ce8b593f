//! `spotwarden check` as a process beside a real API server: with the rights of the manifests, and with one less.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use spotwarden::clock::Clock;
use spotwarden::sim::imds::{IdentitySpec, SimImds};
use spotwarden::sim::kubelet::{Kubelet, KubeletSpec};
use spotwarden::sim::objects::{NodeSpec, PodSpec, budget};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::access::agent_token;
use crate::controlplane::ControlPlane;

const NODE: &str = "check-test";

async fn create<K>(api: Api<K>, object: Value)
where
    K: Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// A node with a pod that may go and one whose budget does not let it. The kubelet ends with the set.
async fn furnish(admin: &Client) -> JoinSet<()> {
    create(Api::<Namespace>::all(admin.clone()), json!({"metadata": {"name": NODE}})).await;
    let node = NodeSpec::new(NODE).build(Clock::System.now().wall);
    create(Api::<Node>::all(admin.clone()), serde_json::to_value(node).unwrap()).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(Kubelet::new(admin.clone(), NODE, Clock::System, KubeletSpec::default()).run());
    let pods = Api::<Pod>::namespaced(admin.clone(), NODE);
    for pod in [PodSpec::new(NODE, "web-0"), PodSpec::new(NODE, "till-0")] {
        create(pods.clone(), serde_json::to_value(pod.on(NODE).build()).unwrap()).await;
    }
    let end = Instant::now() + Duration::from_secs(60);
    let ready = |pod: Pod| {
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    while !ready(pods.get("till-0").await.unwrap()) || !ready(pods.get("web-0").await.unwrap()) {
        assert!(Instant::now() < end, "the pods were not ready in time");
        sleep(Duration::from_millis(100)).await;
    }
    let no_way = budget(NODE, "no-way", &[("app", "till")], None, Some(0));
    create(Api::<PodDisruptionBudget>::namespaced(admin.clone(), NODE), serde_json::to_value(no_way).unwrap()).await;
    tasks
}

/// The agent's role without evictions, for an account of its own.
async fn token_without_evictions(admin: &Client) -> String {
    const NAME: &str = "check-without-evictions";
    let mut role = Api::<ClusterRole>::all(admin.clone()).get("spotwarden").await.unwrap();
    let mut rules = role.rules.take().unwrap();
    rules.retain(|rule| rule.resources.as_deref() != Some(&["pods/eviction".to_owned()]));
    create(Api::<ServiceAccount>::namespaced(admin.clone(), "spotwarden"), json!({"metadata": {"name": NAME}})).await;
    create(Api::<ClusterRole>::all(admin.clone()), json!({"metadata": {"name": NAME}, "rules": rules})).await;
    let binding = json!({
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": "spotwarden"}],
    });
    create(Api::<ClusterRoleBinding>::all(admin.clone()), binding).await;
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), "spotwarden");
    accounts.create_token_request(NAME, &PostParams::default(), &request).await.unwrap().status.unwrap().token
}

/// The exit code and the checks that are not ok, by id.
async fn check(kubeconfig: &Path, imds: &str) -> (Option<i32>, serde_json::Map<String, Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotwarden"));
    command
        .args(["check", "--output=json"])
        .env_clear()
        .env("NODE_NAME", NODE)
        .env("KUBECONFIG", kubeconfig)
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds);
    // Not on this thread, which is the metadata service's.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    // No VPC CNI runs beside a test.
    let no_cni = |check: &Value| check["status"] == "skipped" && check["found"].as_str().unwrap().contains("ipamd");
    let others = object["checks"].as_array().unwrap().iter().filter(|check| check["status"] != "ok" && !no_cni(check));
    let others = others.map(|check| (check["id"].as_str().unwrap().to_owned(), check.clone())).collect();
    (output.status.code(), others)
}

#[tokio::test]
async fn the_rights_of_the_manifests_are_enough_and_a_missing_one_is_named() {
    let plane = ControlPlane::shared();
    let admin = plane.admin_client();
    let _kubelet = furnish(&admin).await;
    let imds = SimImds::new(Clock::System, IdentitySpec::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(imds.serve(listener));

    let kubeconfig = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-agent-kubeconfig.yaml");
    plane.write_kubeconfig(&kubeconfig, &agent_token(plane, NODE).await);
    let (code, others) = check(&kubeconfig, &url).await;
    assert_eq!(others.keys().collect::<Vec<_>>(), ["budgets", "forecast"], "{others:?}");
    assert_eq!(others["budgets"]["found"], "1 of 2 evictions would be refused now");
    let words = others["budgets"]["details"][0].as_str().unwrap();
    assert!(words.starts_with("check-test/till-0: ") && words.contains("disruption budget"), "{words}");
    assert_eq!(code, Some(0));
    let pods = Api::<Pod>::namespaced(admin.clone(), NODE);
    assert_eq!(pods.get("web-0").await.unwrap().metadata.deletion_timestamp, None, "tried out only");

    plane.write_kubeconfig(&kubeconfig, &token_without_evictions(&admin).await);
    let (code, others) = check(&kubeconfig, &url).await;
    let missing: Vec<_> =
        others.values().filter(|check| check["status"] == "missing").map(|check| &check["id"]).collect();
    // Events are granted by a Role that the other account was not bound to.
    assert_eq!(others["confinement"]["status"], "warning", "the policies mean another account");
    assert_eq!(missing, ["events-create", "pods-eviction-create"], "{others:?}");
    let rule = "- {apiGroups: [\"\"], resources: [pods/eviction], verbs: [create]}";
    assert_eq!(others["pods-eviction-create"]["paste"], rule);
    assert_eq!(others["budgets"]["status"], "skipped");
    assert_eq!(code, Some(1));
}
