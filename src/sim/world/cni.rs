//! The node's VPC CNI: an ipamd on loopback, its pod in the API, and the control plane's taint of a cordoned node, which
//! ipamd heeds. A node without it has the two ports with nobody behind them.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::{EnvVar, Namespace};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{World, WorldError, bind, local};
use crate::clock::Clock;
use crate::config::{CniConfig, LocalAddress};
use crate::sim::imds::SimImds;
use crate::sim::ipamd::{Endpoint, Fault, FaultKind, Instance, NodeSpec, SimIpamd, Subnet, Truth};
use crate::sim::objects::{NODE_IP, Owner, PodSpec};
use crate::sim::report::HeadroomTruth;
use crate::sim::scenario::{CniEvent, CniFault, CniSpec, Environment, Scenario};
use crate::sim::seen::{self, Node, Pod};
use crate::sim::timeline::Actor;

/// Where the pod of the CNI is.
const NAMESPACE: &str = "kube-system";
/// Put on a cordoned node by the node lifecycle controller.
const CORDON_TAINT: &str = "node.kubernetes.io/unschedulable";
/// Longer than a pass of ipamd and a new interface: the pool is as large as it wants to be.
const SETTLE: Duration = Duration::from_secs(15);
/// Between two looks whether ipamd is up.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Empty lines that make an answer larger than the agent takes.
const HUGE: usize = 2 * 1024 * 1024;

/// What the node has of the VPC CNI.
pub(super) struct Cni {
    config: CniConfig,
    ipamd: Option<SimIpamd>,
    /// Ports of nobody, kept so that nobody else gets them.
    _reserved: Vec<TcpSocket>,
}

impl Cni {
    /// Binds the endpoints and starts what is behind them. What EC2 has attached shows in `imds`, whether ipamd lives or not.
    pub(super) async fn open(
        spec: Option<&CniSpec>,
        clock: Clock,
        imds: &SimImds,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, WorldError> {
        let Some(spec) = spec else { return Self::of_another() };
        let ipamd = SimIpamd::new(clock, node_spec(spec));
        let attached = ipamd.clone();
        imds.set_network(move || attached.network_tree());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (introspection, metrics) = (bind(any).await?, bind(any).await?);
        let config = config(address(&introspection)?, address(&metrics)?);
        tasks.spawn(ipamd.clone().serve(Endpoint::Introspection, introspection));
        tasks.spawn(ipamd.clone().serve(Endpoint::Metrics, metrics));
        Ok(Self { config, ipamd: Some(ipamd), _reserved: Vec::new() })
    }

    /// A node with another CNI: connections are refused, as where nobody listens.
    fn of_another() -> Result<Self, WorldError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let port = || {
            let bound = TcpSocket::new_v4().and_then(|socket| socket.bind(any).map(|()| socket));
            let socket = bound.map_err(|source| WorldError::Bind { address: any, source })?;
            Ok::<_, WorldError>((local(socket.local_addr())?, socket))
        };
        let ((introspection, one), (metrics, other)) = (port()?, port()?);
        Ok(Self { config: config(introspection, metrics), ipamd: None, _reserved: vec![one, other] })
    }

    /// Where the agent has to look.
    pub(super) fn config(&self) -> &CniConfig {
        &self.config
    }

    /// The ipamd, if there is one.
    pub(super) fn ipamd(&self) -> Option<&SimIpamd> {
        self.ipamd.as_ref()
    }

    /// The instance goes down, for good or not.
    pub(super) fn down(&self, for_good: bool) {
        let Some(ipamd) = &self.ipamd else { return };
        ipamd.kill();
        if for_good {
            ipamd.power_off();
        }
    }

    /// The instance is up again.
    pub(super) fn up(&self) {
        self.ipamd.iter().for_each(SimIpamd::restart);
    }
}

fn config(introspection: SocketAddr, metrics: SocketAddr) -> CniConfig {
    let tcp = |address: SocketAddr| LocalAddress::Tcp(address.to_string());
    CniConfig { enabled: true, introspection: tcp(introspection), metrics: tcp(metrics), taint_on_exhaustion: false }
}

fn address(listener: &TcpListener) -> Result<SocketAddr, WorldError> {
    local(listener.local_addr())
}

fn node_spec(spec: &CniSpec) -> NodeSpec {
    NodeSpec {
        version: spec.version,
        settings: spec.settings.settings(),
        instance: Instance {
            enis: spec.enis.into(),
            addresses_per_eni: spec.addresses_per_eni.into(),
            cards: spec.cards,
            nitro: true,
        },
        max_pods: spec.max_pods.into(),
        subnets: spec.subnets.iter().map(|subnet| Subnet::new(&subnet.id, subnet.base, subnet.len)).collect(),
        eni_config: spec.pod_subnet.clone().map(|subnet| ("default".to_owned(), subnet)),
        ..NodeSpec::default()
    }
}

/// The pod of aws-node, and what follows the node's cordon; before the pods of the scenario come.
pub(super) async fn begin(
    cni: &Cni,
    scenario: &Scenario,
    client: &Client,
    node: &str,
    tasks: &mut JoinSet<()>,
) -> Result<(), WorldError> {
    let (Some(spec), Some(ipamd)) = (&scenario.cni, cni.ipamd()) else { return Ok(()) };
    let failed =
        |source: kube::Error| WorldError::Api { what: "create the pod of aws-node".into(), source: Box::new(source) };
    create_aws_node(client, node, &spec.settings).await.map_err(failed)?;
    tasks.spawn(follow_cordon(client.clone(), node.to_owned(), ipamd.clone()));
    // The kubelet calls a node ready only then.
    while !ipamd.truth().up {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Returns when the pool is as large as it wants to be.
pub(super) async fn settled(cni: &Cni) {
    if cni.ipamd.is_some() {
        tokio::time::sleep(SETTLE).await;
    }
}

fn aws_node(node: &str) -> String {
    format!("aws-node-{node}")
}

async fn create_aws_node(client: &Client, node: &str, environment: &Environment) -> kube::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let metadata = kube::api::ObjectMeta { name: Some(NAMESPACE.into()), ..Default::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        made => drop(made?),
    }
    let name = aws_node(node);
    let spec = PodSpec { host_network: true, ..PodSpec::new(NAMESPACE, &name) };
    let mut pod = spec.on(node).owned_by(Owner::DaemonSet).label("k8s-app", "aws-node").build();
    if let Some(container) = pod.spec.as_mut().and_then(|spec| spec.containers.first_mut()) {
        container.name = "aws-node".into();
        let variable =
            |(name, value): (&str, String)| EnvVar { name: name.into(), value: Some(value), value_from: None };
        container.env = Some(environment.variables().into_iter().map(variable).collect());
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    seen::send(client, Method::POST, &path, &pod).await?;
    let running = json!({"status": {"phase": "Running", "hostIP": NODE_IP, "podIP": NODE_IP}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(running)).await?;
    Ok(())
}

/// The roll-out of aws-node with another environment. A DaemonSet's new pod has a name of its own, which matters to nobody.
async fn replace_aws_node(client: Client, node: String, environment: Environment) -> kube::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    match pods.delete(&aws_node(&node), &at_once).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        deleted => drop(deleted?),
    }
    create_aws_node(&client, &node, &environment).await
}

/// Does what the control plane's node lifecycle controller does: a cordoned node has a taint, and no other has it.
async fn follow_cordon(client: Client, node: String, ipamd: SimIpamd) {
    let nodes: Api<Node> = Api::all(client.clone());
    let only = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let mut changes = pin!(watcher(nodes, only).default_backoff().applied_objects());
    let path = format!("/api/v1/nodes/{node}");
    while let Some(change) = changes.next().await {
        // An error is the watcher's to overcome.
        let Ok(seen) = change else { continue };
        let spec = seen.spec.unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        let tainted = taints.iter().any(is_cordon_taint);
        ipamd.set_unschedulable(tainted);
        if spec.unschedulable.unwrap_or(false) != tainted {
            // Whoever wrote the node meanwhile makes another change come.
            _ = taint(&client, &path, !tainted).await;
        }
    }
}

async fn taint(client: &Client, path: &str, wanted: bool) -> kube::Result<()> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let mut node: Value = client.request(request).await?;
    let Some(spec) = node.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let taints = spec.entry("taints").or_insert_with(|| json!([]));
    let Some(taints) = taints.as_array_mut() else { return Ok(()) };
    taints.retain(|taint| !is_cordon_taint(taint));
    if wanted {
        taints.push(json!({"key": CORDON_TAINT, "effect": "NoSchedule"}));
    }
    seen::send(client, Method::PUT, path, &node).await
}

/// Whether a taint is the control plane's for a cordon; it follows from `spec.unschedulable` and is nobody's mark.
pub(super) fn is_cordon_taint(taint: &Value) -> bool {
    taint.get("key").and_then(Value::as_str) == Some(CORDON_TAINT)
}

/// Makes happen what an event says.
pub(super) fn happen(world: &mut World, event: &CniEvent) {
    let Some(ipamd) = world.cni.ipamd().cloned() else { return };
    let first = world.scenario.cni.as_ref().and_then(|cni| cni.subnets.first()).map(|subnet| subnet.id.clone());
    let named = |subnet: &Option<String>| subnet.clone().or_else(|| first.clone()).unwrap_or_default();
    let what = match event {
        CniEvent::Restart => {
            ipamd.restart();
            "restarts".to_owned()
        }
        CniEvent::Kill => {
            ipamd.kill();
            "ends and stays away".to_owned()
        }
        CniEvent::Upgrade(version) => {
            ipamd.upgrade(*version);
            format!("is {version} from now on")
        }
        CniEvent::Set(environment) => {
            ipamd.configure(environment.settings());
            let (client, node, notes) = (world.backend.client.clone(), world.node.clone(), world.notes.clone());
            let environment = environment.clone();
            world.tasks.spawn(async move {
                if let Err(error) = replace_aws_node(client, node, *environment).await {
                    notes.add(Actor::World, format!("aws-node cannot be rolled out: {error}"), None);
                }
            });
            "starts anew with other settings".to_owned()
        }
        CniEvent::Fill { subnet, free } => {
            ipamd.leave_free(&named(subnet), *free);
            format!("has {free} free addresses left in {}, others took the rest", named(subnet))
        }
        CniEvent::Fragment { subnet, blocks } => {
            ipamd.fragment(&named(subnet), *blocks);
            format!("has {blocks} whole blocks left in {}, others hold an address of each other one", named(subnet))
        }
        CniEvent::Empty { subnet } => {
            ipamd.free_others(&named(subnet));
            format!("has {} to itself, the others left", named(subnet))
        }
        CniEvent::Refuse(api, refusal) => {
            ipamd.refuse(*api, *refusal);
            format!("is refused {} by EC2: {}", api.name(), refusal.code())
        }
        CniEvent::Allow(api) => {
            ipamd.allow(*api);
            format!("is not refused {} any more", api.name())
        }
        CniEvent::Trunk => {
            let attached = ipamd.attach_trunk();
            if attached.is_some() { "finds a trunk interface attached" } else { "cannot get a trunk interface" }
                .to_owned()
        }
        CniEvent::Fault { fault, endpoint, lasts } => {
            let (kind, what) = match fault {
                CniFault::Hangs => (FaultKind::Hang, "does not answer"),
                CniFault::CatchAll => (FaultKind::CatchAll, "answers everything with the list of its commands"),
                CniFault::Malformed => (FaultKind::Malformed, "answers with half of each document"),
                CniFault::Huge => (FaultKind::Huge(HUGE), "answers with more than anybody should hold"),
            };
            let fault = Fault::new(kind).until(Instant::now() + *lasts);
            ipamd.fault(endpoint.iter().fold(fault, |fault, endpoint| fault.endpoint(*endpoint)));
            format!("{what} for {:.0} s", lasts.as_secs_f64())
        }
    };
    world.notes.add(Actor::Ipamd, what, None);
}

/// What is the case now, with the pods that are on the node.
pub(super) fn truth(world: &World) -> Option<impl Future<Output = HeadroomTruth> + Send + use<>> {
    let truth = world.cni.ipamd()?.truth();
    let max_pods = i64::from(world.scenario.cni.as_ref()?.max_pods);
    let ipv6 = world.scenario.cni.as_ref()?.settings.enable_ipv6 == Some(true);
    let pods: Api<Pod> = Api::all(world.backend.client.clone());
    let here = kube::api::ListParams::default().fields(&format!("spec.nodeName={}", world.node));
    Some(async move {
        let there = pods.list(&here).await.map(|pods| pods.iter().filter(|pod| takes_a_place(pod)).count());
        let room = (max_pods - there.map_or(0, |pods| i64::try_from(pods).unwrap_or(i64::MAX))).max(0);
        within(&truth, room, ipv6)
    })
}

fn takes_a_place(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn within(truth: &Truth, room: i64, ipv6: bool) -> HeadroomTruth {
    let pods = |addresses: i64| if ipv6 { room } else { addresses.clamp(0, room) };
    HeadroomTruth {
        now: pods(truth.free),
        reachable: pods(truth.reachable),
        enis: truth.enis,
        waiting: i64::try_from(truth.waiting).unwrap_or(i64::MAX),
    }
}
