//! One story of pods that stop, told through the gateway and the simulated kubelet against a simulated and a real API
//! server: the fates have to be the same.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use spotwarden::clock::Clock;
use spotwarden::sim::apiserver::ApiServer;
use spotwarden::sim::gateway::Gateway;
use spotwarden::sim::gateway::backend::{Backend, Remote, in_process};
use spotwarden::sim::kubelet::{Kubelet, KubeletSpec, PodFate};
use spotwarden::sim::objects::{NodeSpec, Owner, PodSpec, budget};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::controlplane::ControlPlane;

const NAMESPACE: &str = "stop-parity";
const NODE: &str = "stop-parity";

/// Name, told, grace in seconds, exited, killed, object gone, cut off.
type Fate = (String, bool, Option<u64>, bool, bool, bool, bool);

/// What a story leaves behind, free of what differs between two runs.
#[derive(Debug, PartialEq)]
struct End {
    fates: Vec<Fate>,
    /// Name, phase and readiness of the objects that stay behind.
    left: Vec<(String, String, String)>,
    /// Verb, resource, name and code of what went through the gateway.
    requests: Vec<(String, String, String, u16)>,
}

/// Sends requests through a gateway on loopback.
struct Teller {
    url: String,
    http: reqwest::Client,
}

impl Teller {
    async fn send(&self, method: Method, path: &str, body: &Value) -> u16 {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.expect("the gateway answers");
        let status = answer.status().as_u16();
        answer.bytes().await.expect("a whole answer");
        status
    }

    async fn make(&self, path: &str, object: Value) {
        assert_eq!(self.send(Method::POST, path, &object).await, 201, "POST {path} {object}");
    }

    async fn evict(&self, name: &str, grace: u32) -> u16 {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE},
            "deleteOptions": {"gracePeriodSeconds": grace},
        });
        self.send(Method::POST, &format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"), &eviction).await
    }
}

/// Starts pods, stops most of them in different ways, then takes the power away.
async fn tell(backend: impl Backend + 'static, kubelet: Client, clock: Clock, http: reqwest::Client) -> End {
    let gateway = Gateway::new(backend, clock);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let spec = KubeletSpec { namespace: Some(NAMESPACE.into()), ..KubeletSpec::default() };
    let pods = Api::<Pod>::namespaced(kubelet.clone(), NAMESPACE);
    let kubelet = Kubelet::new(kubelet, NODE, clock, spec);
    let handle = kubelet.handle();
    let mut tasks = JoinSet::new();
    tasks.spawn(gateway.clone().serve(listener));
    let teller = Teller { url, http };

    teller.make("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}})).await;
    teller.make("/api/v1/nodes", to_json(NodeSpec::new(NODE).build(clock.now().wall))).await;
    let guard = budget(NAMESPACE, "guarded", &[("app", "guarded")], Some(1), None);
    teller.make(&format!("/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"), to_json(guard)).await;
    for pod in cast() {
        teller.make(&format!("/api/v1/namespaces/{NAMESPACE}/pods"), to_json(pod.on(NODE).build())).await;
    }
    let running = tasks.spawn(kubelet.run());
    // Started, ready, no longer fresh, and seen by the disruption controller.
    sleep(Duration::from_secs(4)).await;
    for name in ["quick-1", "slow-1", "stubborn-1", "guarded-1", "late-1"] {
        teller.evict(name, 3).await;
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/forced-1");
    teller.send(Method::DELETE, &path, &json!({"gracePeriodSeconds": 0})).await;
    sleep(Duration::from_millis(4500)).await;
    teller.evict("late-1", 1).await;
    teller.evict("cut-1", 30).await;
    handle.power_off(clock.now().instant + Duration::from_millis(500));
    while !running.is_finished() {
        sleep(Duration::from_millis(50)).await;
    }
    End { fates: fates(handle.fates()), left: left(&pods).await, requests: requests(&gateway) }
}

fn cast() -> Vec<PodSpec> {
    let pod = |name| PodSpec::new(NAMESPACE, name);
    vec![
        pod("quick-1"),
        pod("slow-1").stops_after("2").owned_by(Owner::StatefulSet).grace(300),
        pod("stubborn-1").stops_after("never").owned_by(Owner::Job),
        pod("guarded-1").priority_class("system-cluster-critical"),
        pod("forced-1").stops_after("never").owned_by(Owner::None),
        pod("late-1"),
        pod("cut-1").stops_after("50%"),
        pod("untold-1").owned_by(Owner::DaemonSet).priority_class("system-node-critical"),
    ]
}

fn fates(fates: Vec<PodFate>) -> Vec<Fate> {
    let plain = |fate: PodFate| {
        let grace = fate.grace_granted.map(|grace| grace.as_secs());
        let (told, exited, gone) = (fate.told_at.is_some(), fate.exited_at.is_some(), fate.gone_at.is_some());
        (fate.name, told, grace, exited, fate.killed, gone, fate.cut_off)
    };
    let mut fates: Vec<_> = fates.into_iter().map(plain).collect();
    fates.sort();
    fates
}

async fn left(pods: &Api<Pod>) -> Vec<(String, String, String)> {
    let plain = |pod: Pod| {
        let status = pod.status.unwrap_or_default();
        let ready = status.conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
        (
            pod.metadata.name.unwrap_or_default(),
            status.phase.unwrap_or_default(),
            ready.map(|r| r.status).unwrap_or_default(),
        )
    };
    pods.list(&ListParams::default()).await.expect("a list").items.into_iter().map(plain).collect()
}

fn requests(gateway: &Gateway) -> Vec<(String, String, String, u16)> {
    let plain = |request: spotwarden::sim::gateway::log::LoggedRequest| {
        let attributes = request.attributes;
        (attributes.verb.to_owned(), attributes.resource_path(), attributes.name, request.code)
    };
    gateway.requests().into_iter().map(plain).collect()
}

fn to_json(object: impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("objects are JSON")
}

fn loopback() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls =
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("a client")
}

async fn simulated() -> End {
    let clock = Clock::anchored("2026-01-01T12:00:00Z".parse().expect("a time"));
    let server = ApiServer::new(clock);
    let handler = server.clone();
    let backend = in_process(move |request| {
        let server = handler.clone();
        async move { server.handle(&request) }
    });
    tell(backend, server.client(), clock, loopback()).await
}

#[tokio::test(start_paused = true)]
async fn every_pod_of_the_simulated_story_ends_as_its_kind_does() {
    let end = simulated().await;
    let fate = |name: &str, told, grace, exited, killed, gone, cut_off| {
        (name.to_owned(), told, grace, exited, killed, gone, cut_off)
    };
    assert_eq!(
        end.fates,
        [
            fate("cut-1", true, Some(30), false, false, false, true),
            fate("forced-1", true, Some(0), true, true, true, false),
            fate("guarded-1", false, None, false, false, false, true),
            fate("late-1", true, Some(3), true, false, true, false),
            fate("quick-1", true, Some(3), true, false, true, false),
            fate("slow-1", true, Some(3), true, false, true, false),
            fate("stubborn-1", true, Some(3), true, true, true, false),
            fate("untold-1", false, None, false, false, false, true),
        ]
    );
    let left =
        ["cut-1", "guarded-1", "untold-1"].map(|name| (name.to_owned(), "Running".to_owned(), "True".to_owned()));
    assert_eq!(end.left, left);
    let evictions: Vec<_> = end.requests.iter().filter(|r| r.1 == "pods/eviction").map(|r| (&*r.2, r.3)).collect();
    let expected = [
        ("quick-1", 201),
        ("slow-1", 201),
        ("stubborn-1", 201),
        ("guarded-1", 429),
        ("late-1", 201),
        ("late-1", 404),
        ("cut-1", 201),
    ];
    assert_eq!(evictions, expected);
}

#[tokio::test]
async fn a_real_api_server_tells_the_same_story() {
    let plane = tokio::task::spawn_blocking(ControlPlane::shared).await.expect("a control plane");
    let remote = Remote::new(&plane.server_url(), plane.http()).with_bearer(plane.admin_token()).expect("a token");
    let real = tell(remote, plane.admin_client(), Clock::System, loopback()).await;

    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        send.send(runtime.expect("a runtime").block_on(simulated()))
    });
    let simulated = receive.recv().expect("the simulated story ends");
    assert_eq!(real, simulated);
}
