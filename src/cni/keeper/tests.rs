//! The taint on a simulated API server, with a node that runs out of addresses.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::*;
use crate::agent::Agent;
use crate::config::{Config, LocalAddress, Response};
use crate::sim::apiserver::ApiServer;
use crate::sim::imds::{IdentitySpec, SimImds};
use crate::sim::ipamd::{Endpoint, SimIpamd};
use crate::sim::objects::{NodeSpec, PodSpec};

const NODE: &str = "n1";
const SUBNET: &str = "subnet-0123456789abcdef0";

/// A node with its instance, its ipamd and its API server.
struct Place {
    clock: Clock,
    server: ApiServer,
    imds: SimImds,
    ipamd: SimIpamd,
    config: Config,
    tasks: JoinSet<()>,
}

impl Place {
    async fn new() -> Self {
        let clock = Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap());
        let mut config = Config::for_node(NODE);
        let mut tasks = JoinSet::new();
        let imds = SimImds::new(clock, IdentitySpec::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.imds.endpoint = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(imds.clone().serve(listener));
        let ipamd = SimIpamd::new(clock, crate::sim::ipamd::NodeSpec::default());
        let tree = ipamd.clone();
        imds.set_network(move || tree.network_tree());
        for endpoint in [Endpoint::Introspection, Endpoint::Metrics] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = LocalAddress::Tcp(listener.local_addr().unwrap().to_string());
            match endpoint {
                Endpoint::Introspection => config.cni.introspection = address,
                Endpoint::Metrics => config.cni.metrics = address,
            }
            tasks.spawn(ipamd.clone().serve(endpoint, listener));
        }
        config.cni.taint_on_exhaustion = true;
        let server = ApiServer::new(clock);
        let mut node = serde_json::to_value(NodeSpec::new(NODE).build(clock.now().wall)).unwrap();
        (node["apiVersion"], node["kind"]) = ("v1".into(), "Node".into());
        server.seed(node).unwrap();
        let mut pod = serde_json::to_value(PodSpec::new("default", "web-0").on(NODE).build()).unwrap();
        (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
        pod["status"] = json!({"phase": "Running"});
        server.seed(pod).unwrap();
        sleep(Duration::from_mins(2)).await;
        Self { clock, server, imds, ipamd, config, tasks }
    }

    fn start(&mut self) -> (AbortHandle, watch::Receiver<Status>) {
        let agent = Agent::new(self.config.clone(), self.server.client(), self.clock).unwrap();
        let status = agent.status();
        (self.tasks.spawn(agent.run(std::future::pending())), status)
    }

    /// Pods take every address, and the subnet has no more.
    fn exhaust(&self) {
        self.ipamd.leave_free(SUBNET, 0);
        for pod in 0..40 {
            self.ipamd.pod_added(&format!("demo/p{pod}")).ok();
        }
    }

    fn relieve(&self) {
        for pod in 0..40 {
            self.ipamd.pod_removed(&format!("demo/p{pod}"));
        }
        self.ipamd.free_others(SUBNET);
    }

    fn taints(&self) -> Vec<String> {
        let node = self.server.object("/api/v1/nodes/n1").unwrap();
        let text = |taint: &Value, field: &str| taint[field].as_str().unwrap_or_default().to_owned();
        let words =
            |taint: &Value| format!("{}={}:{}", text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        node["spec"]["taints"].as_array().into_iter().flatten().map(words).collect()
    }

    async fn patch_node(&self, patch: Value) {
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(self.server.client());
        nodes.patch(NODE, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    }
}

const OURS: &str = "spotwarden/pod-ips-exhausted=no-free-address:NoSchedule";

async fn minutes(minutes: u64) {
    sleep(Duration::from_mins(minutes)).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_addresses_is_tainted_and_healed_beside_the_taints_of_others() {
    let mut place = Place::new().await;
    place.patch_node(json!({"spec": {"taints": [{"key": "team", "value": "a", "effect": "NoSchedule"}]}})).await;
    place.start();
    minutes(3).await;
    assert_eq!(place.taints(), ["team=a:NoSchedule"]);
    place.exhaust();
    minutes(3).await;
    assert_eq!(place.taints(), ["team=a:NoSchedule", OURS]);
    place.relieve();
    minutes(2).await;
    assert_eq!(place.taints(), ["team=a:NoSchedule", OURS], "relief has to last");
    minutes(3).await;
    assert_eq!(place.taints(), ["team=a:NoSchedule"]);
}

#[tokio::test(start_paused = true)]
async fn by_default_there_is_no_taint_and_a_left_over_one_goes() {
    let mut place = Place::new().await;
    let (agent, _) = place.start();
    place.exhaust();
    minutes(3).await;
    assert_eq!(place.taints(), [OURS]);
    agent.abort();
    place.config.dry_run = true;
    place.config.cni.taint_on_exhaustion = false;
    let (agent, _) = place.start();
    minutes(3).await;
    assert_eq!(place.taints(), [OURS], "a rehearsal changes nothing");
    agent.abort();
    place.config.dry_run = false;
    place.start();
    minutes(1).await;
    assert_eq!(place.taints(), [""; 0]);
    minutes(5).await;
    assert_eq!(place.taints(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_goes_on_from_what_is_on_the_node() {
    let mut place = Place::new().await;
    let (agent, _) = place.start();
    place.exhaust();
    minutes(3).await;
    agent.abort();
    place.relieve();
    minutes(30).await;
    assert_eq!(place.taints(), [OURS], "nobody is there to take it away");
    place.start();
    minutes(4).await;
    assert_eq!(place.taints(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn while_something_is_announced_the_node_belongs_to_the_fence() {
    let mut place = Place::new().await;
    place.start();
    minutes(1).await;
    place.imds.set_rebalance(Some(place.clock.now().wall));
    minutes(1).await;
    place.exhaust();
    minutes(5).await;
    assert_eq!(place.taints(), ["spotwarden/interruption=rebalance-recommendation:PreferNoSchedule"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_for_a_recommendation_waits_for_the_subnet_and_a_notice_does_not() {
    let mut place = Place::new().await;
    place.config.on_rebalance_recommendation = Response::Drain;
    place.config.cni.taint_on_exhaustion = false;
    let (_, mut status) = place.start();
    minutes(1).await;
    place.exhaust();
    minutes(3).await;
    place.imds.set_rebalance(Some(place.clock.now().wall));
    minutes(1).await;
    let now = status.borrow_and_update().clone();
    assert_eq!(now.postponed.as_ref().map(|refused| refused.subnets.as_str()), Some(SUBNET));
    assert!(now.fenced && now.pods.is_empty(), "{now:?}");
    let start = place.clock.now();
    place.imds.set_spot_action("terminate", start.plus(Duration::from_secs(120)).wall);
    status.wait_for(|status| !status.pods.is_empty()).await.unwrap();
    let took = place.clock.now().instant - start.instant;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(status.borrow().postponed, None);
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_ten_minutes_after_the_last_refusal() {
    let mut place = Place::new().await;
    place.config.on_rebalance_recommendation = Response::Drain;
    place.config.cni.taint_on_exhaustion = false;
    let (_, mut status) = place.start();
    minutes(1).await;
    place.exhaust();
    minutes(3).await;
    place.imds.set_rebalance(Some(place.clock.now().wall));
    let waits_from = place.clock.now().instant;
    // Cordoned, ipamd asks for no more, so that no other refusal follows.
    place.ipamd.set_unschedulable(true);
    status.wait_for(|status| status.postponed.is_some()).await.unwrap();
    status.wait_for(|status| !status.pods.is_empty()).await.unwrap();
    let waited = (place.clock.now().instant - waits_from).as_secs();
    assert!((420..=610).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn interfaces_are_read_where_the_vpc_cni_is_and_nowhere_else() {
    let asked =
        |place: &Place| place.imds.requests().iter().filter(|request| request.path.contains("/network/")).count();
    let mut place = Place::new().await;
    let agent = Agent::new(place.config.clone(), place.server.client(), place.clock).unwrap();
    let (headroom, metrics) = (agent.headroom(), agent.metrics());
    let agent = place.tasks.spawn(agent.run(std::future::pending()));
    minutes(3).await;
    let found = headroom.borrow().clone().unwrap();
    assert_eq!(found.subnets[SUBNET].usable(), Some(251), "{found:?}");
    let text = metrics.text(None).1;
    let series = format!("spotwarden_cni_subnet_usable_addresses{{subnet_id=\"{SUBNET}\",cidr=\"10.8.1.0/24\"}} 251");
    assert!(text.contains(&series), "{text}");
    let shown = text.lines().filter(|line| line.starts_with("spotwarden_cni_")).count();
    assert!(shown <= 20, "{shown} series:\n{text}");
    // Something with a deadline ends it.
    place.imds.set_spot_action("terminate", place.clock.now().plus(Duration::from_secs(120)).wall);
    sleep(Duration::from_secs(3)).await;
    let before = asked(&place);
    minutes(2).await;
    assert_eq!((asked(&place), before > 10), (before, true));
    agent.abort();

    let mut place = Place::new().await;
    let nobody = LocalAddress::Tcp("127.0.0.1:1".into());
    (place.config.cni.introspection, place.config.cni.metrics) = (nobody.clone(), nobody);
    place.start();
    minutes(5).await;
    assert_eq!(asked(&place), 0);
}
