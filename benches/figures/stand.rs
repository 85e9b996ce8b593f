//! One node with everything on it: pods, kubelet, IMDS, and the agent under test.

use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use spotwarden::clock::{Clock, Now};
use spotwarden::sim::imds::{IdentitySpec, SimImds};
use spotwarden::sim::ipamd::{Endpoint, Instance, NodeSpec as IpamdNode, Settings as IpamdSettings, SimIpamd};
use spotwarden::sim::kubelet::{Kubelet, KubeletHandle, KubeletSpec, PodFate};
use spotwarden::sim::objects::{NodeSpec, Owner, PodSpec};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::agent::{Agent, Settings};
use crate::lab::Lab;

/// Namespace and service account of `manifests/base`.
const OWN: &str = "spotwarden";
/// What EC2 gives.
const LEAD: Duration = Duration::from_mins(2);
/// Calls under way at once while pods are made.
const AT_ONCE: usize = 16;
/// A real disruption controller needs seconds to count the pods of a full node.
const READY_WITHIN: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const NOTICE_PATH: &str = "/latest/meta-data/spot/instance-action";

/// A notice as it was given.
#[derive(Clone, Copy)]
pub(crate) struct Notice {
    /// From here on IMDS told.
    pub(crate) at: Now,
    /// What it told: when the power goes.
    pub(crate) deadline: Instant,
}

/// A node whose agent is ready. Dropping it ends the agent and what was simulated; the API objects stay.
pub(crate) struct Stand {
    /// Name of the node and of the namespace with its pods.
    pub(crate) node: String,
    pub(crate) imds: SimImds,
    pub(crate) ipamd: SimIpamd,
    pub(crate) agent: Agent,
    pub(crate) kubelet: KubeletHandle,
    _tasks: JoinSet<()>,
}

impl Stand {
    /// `pods` and `budgets` belong to the namespace `node`.
    pub(crate) async fn new(
        lab: &Lab,
        node: &str,
        pods: Vec<PodSpec>,
        budgets: Vec<PodDisruptionBudget>,
    ) -> Result<Self> {
        Self::build(lab, node, pods, budgets, &[]).await
    }

    /// One whose agent has more settings than the others'.
    pub(crate) async fn telling(
        lab: &Lab,
        node: &str,
        pods: Vec<PodSpec>,
        environment: &[(&'static str, String)],
    ) -> Result<Self> {
        Self::build(lab, node, pods, Vec::new(), environment).await
    }

    async fn build(
        lab: &Lab,
        node: &str,
        pods: Vec<PodSpec>,
        budgets: Vec<PodDisruptionBudget>,
        environment: &[(&'static str, String)],
    ) -> Result<Self> {
        let mut tasks = JoinSet::new();
        create_node(lab, node).await?;
        let (ipamd, endpoints) = serve_ipamd(&mut tasks).await?;
        let kubelet = Kubelet::new(lab.client.clone(), node, Clock::System, KubeletSpec::default());
        let kubelet = kubelet.on_network(ipamd.clone());
        let handle = kubelet.handle();
        tasks.spawn(kubelet.run());
        create_pods(lab, node, pods, budgets).await?;

        let imds = SimImds::new(Clock::System, IdentitySpec::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        tasks.spawn(imds.clone().serve(listener));

        let token = own_pod(lab, node).await?;
        let kubeconfig = lab.plane.dir().join(format!("{node}.kubeconfig"));
        lab.plane.write_kubeconfig(&kubeconfig, &token);
        let settings = Settings {
            binary: &lab.binary,
            node,
            kubeconfig: &kubeconfig,
            imds: &endpoint,
            ipamd: &endpoints,
            more: environment,
            log: lab.plane.dir().join(format!("{node}.log")),
        };
        let agent = Agent::start(settings, &lab.http).await?;
        Ok(Self { node: node.to_owned(), imds, ipamd, agent, kubelet: handle, _tasks: tasks })
    }

    /// EC2 decides. The announced time is a whole second.
    pub(crate) fn give_notice(&self) -> Notice {
        let at = Clock::System.now();
        let wanted = at.plus(LEAD).wall;
        let second = wanted.as_second() + i64::from(wanted.subsec_nanosecond() > 0);
        let time = Timestamp::from_second(second).unwrap_or(wanted);
        self.imds.set_spot_action("terminate", time);
        Notice { at, deadline: at.instant_of(time) }
    }

    /// Returns when the agent has just been told that there is nothing: a notice now waits for a whole interval.
    pub(crate) async fn after_a_poll(&self) {
        let polls = || self.imds.requests().iter().filter(|request| request.path == NOTICE_PATH).count();
        let before = polls();
        while polls() == before {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// What became of the pods in its namespace.
    pub(crate) fn fates(&self) -> Vec<PodFate> {
        self.kubelet.fates().into_iter().filter(|fate| fate.namespace == self.node).collect()
    }
}

/// An ipamd whose pool has an address for every pod of a full node, and where it answers.
async fn serve_ipamd(tasks: &mut JoinSet<()>) -> Result<(SimIpamd, [String; 2])> {
    let settings = IpamdSettings {
        prefix_delegation: true,
        minimum_ip_target: 128,
        warm_ip_target: 16,
        ..IpamdSettings::default()
    };
    let instance = Instance { enis: 8, addresses_per_eni: 30, cards: 1, nitro: true };
    let ipamd = SimIpamd::new(Clock::System, IpamdNode { settings, instance, max_pods: 110, ..IpamdNode::default() });
    let mut addresses = [String::new(), String::new()];
    for (endpoint, address) in [Endpoint::Introspection, Endpoint::Metrics].into_iter().zip(&mut addresses) {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        *address = listener.local_addr()?.to_string();
        tasks.spawn(ipamd.clone().serve(endpoint, listener));
    }
    Ok((ipamd, addresses))
}

async fn create_node(lab: &Lab, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let node = NodeSpec::new(name).build(Clock::System.now().wall);
    nodes.create(&PostParams::default(), &node).await?;
    let status = Patch::Merge(json!({"status": node.status}));
    nodes.patch_status(name, &PatchParams::default(), &status).await?;
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(lab.client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok(())
}

/// Returns when all run and the budgets have counted them.
async fn create_pods(lab: &Lab, namespace: &str, specs: Vec<PodSpec>, budgets: Vec<PodDisruptionBudget>) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), namespace);
    let api: Api<PodDisruptionBudget> = Api::namespaced(lab.client.clone(), namespace);
    for budget in &budgets {
        api.create(&PostParams::default(), budget).await?;
    }
    let made = stream::iter(specs).map(|spec| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &spec.build()).await.map(drop) }
    });
    made.buffer_unordered(AT_ONCE).try_collect::<()>().await?;

    let deadline = Instant::now() + READY_WITHIN;
    let everything = kube::api::ListParams::default();
    loop {
        let running = pods.list(&everything).await?.iter().all(is_ready);
        if running && api.list(&everything).await?.iter().all(is_counted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the pods of {namespace} are not ready after {} s", READY_WITHIN.as_secs()).into());
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The budgets of the figures allow nothing, so they are right as soon as every pod is healthy.
fn is_counted(budget: &PodDisruptionBudget) -> bool {
    let status = budget.status.as_ref();
    status.is_some_and(|status| status.desired_healthy > 0 && status.current_healthy >= status.desired_healthy)
}

/// The agent's own pod, as the DaemonSet's controller would make it; returns its token.
async fn own_pod(lab: &Lab, node: &str) -> Result<String> {
    let name = format!("spotwarden-{node}");
    let mut pod = PodSpec::new(OWN, &name).on(node).owned_by(Owner::DaemonSet).build();
    if let Some(spec) = &mut pod.spec {
        spec.service_account_name = Some(OWN.into());
    }
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), OWN);
    let uid = pods.create(&PostParams::default(), &pod).await?.metadata.uid.unwrap_or_default();
    Ok(lab.plane.pod_token(OWN, OWN, &name, &uid).await)
}
