//! The binary as a process beside a real API server: a notice, a crash in the middle of the drain, a clean stop.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use spotwarden::clock::Clock;
use spotwarden::sim::imds::{IdentitySpec, SimImds};
use spotwarden::sim::kubelet::{Kubelet, KubeletSpec};
use spotwarden::sim::objects::{NodeSpec, PodSpec};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::access::agent_token;
use crate::binary::Agent;
use crate::controlplane::ControlPlane;

const NODE: &str = "cluster-test";

/// Node, namespace, kubelet and IMDS, as they are before a notice.
struct Place {
    client: Client,
    imds: SimImds,
    imds_url: String,
    _tasks: JoinSet<()>,
}

impl Place {
    async fn new(plane: &ControlPlane) -> Self {
        let (client, clock) = (plane.admin_client(), Clock::System);
        let namespace: Namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": NODE}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let node = NodeSpec::new(NODE).build(clock.now().wall);
        Api::<Node>::all(client.clone()).create(&PostParams::default(), &node).await.unwrap();
        let imds = SimImds::new(clock, IdentitySpec::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let imds_url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(imds.clone().serve(listener));
        tasks.spawn(Kubelet::new(client.clone(), NODE, clock, KubeletSpec::default()).run());
        Self { client, imds, imds_url, _tasks: tasks }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NODE)
    }

    async fn add_pod(&self, name: &str, grace: u32, stops_after: &str) {
        let pod = PodSpec::new(NODE, name).on(NODE).grace(grace).stops_after(stops_after).build();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    async fn node(&self) -> Node {
        Api::<Node>::all(self.client.clone()).get(NODE).await.unwrap()
    }

    /// Events about the node, counted by reason.
    async fn events(&self) -> BTreeMap<String, usize> {
        let events =
            Api::<Event>::namespaced(self.client.clone(), "default").list(&ListParams::default()).await.unwrap();
        let mut counted = BTreeMap::new();
        for event in
            events.items.into_iter().filter(|event| event.regarding.as_ref().unwrap().name.as_deref() == Some(NODE))
        {
            *counted.entry(event.reason.unwrap()).or_default() += 1;
        }
        counted
    }
}

/// Polls until `wanted` holds; the bound is far above anything that a loaded machine needs.
async fn eventually<F: Future<Output = bool>>(what: &str, mut wanted: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(60);
    while !wanted().await {
        assert!(Instant::now() < end, "{what} did not happen");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn ready(agent: &Agent) {
    eventually("readiness", async || agent.get("/readyz").starts_with("HTTP/1.1 200 ")).await;
}

#[tokio::test]
async fn a_crash_in_the_drain_changes_nothing_and_a_stop_leaves_the_node_as_it_is() {
    let control_plane = ControlPlane::shared();
    let place = Place::new(control_plane).await;
    place.add_pod("quick", 10, "1").await;
    place.add_pod("slow", 20, "15").await;
    let kubeconfig = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster-kubeconfig.yaml");
    control_plane.write_kubeconfig(&kubeconfig, &agent_token(control_plane, NODE).await);

    let agent = Agent::start(NODE, &kubeconfig, &place.imds_url);
    ready(&agent).await;
    let at = Clock::System.now().plus(Duration::from_secs(60)).wall;
    place.imds.set_spot_action("terminate", at);
    let slow = || async { place.pods().get("slow").await.unwrap() };
    eventually("the stop of the slow pod", async || slow().await.metadata.deletion_timestamp.is_some()).await;
    let before = (slow().await.metadata.deletion_timestamp, place.node().await);
    agent.kill();

    let agent = Agent::start(NODE, &kubeconfig, &place.imds_url);
    ready(&agent).await;
    eventually("the end of the drain", async || place.events().await.contains_key("DrainFinished")).await;
    let metrics = agent.get("/metrics");
    assert!(metrics.contains("spotwarden_notices_total{kind=\"spot-interruption\"} 0"), "news once only: {metrics}");
    assert!(metrics.contains("spotwarden_interruption_pending{kind=\"spot-interruption\"} 1"), "{metrics}");
    assert!(place.pods().list(&ListParams::default()).await.unwrap().items.is_empty());
    let (code, log) = agent.terminate();
    assert_eq!(code, Some(0), "{log}");

    let reasons = ["DrainFinished", "DrainStarted", "Fenced", "SpotInterruption"];
    assert_eq!(place.events().await, reasons.map(|reason| (reason.to_owned(), 1)).into());
    let (grace, fenced) = before;
    assert!(grace.is_some());
    let after = place.node().await;
    assert_eq!((after.spec, after.metadata.annotations), (fenced.spec, fenced.metadata.annotations));
}
