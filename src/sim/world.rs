//! Plays a scenario: one node with its metadata service, its kubelet and its agent, against an embedded or a real API
//! server, in real or in virtual time.
//!
//! ```text
//!  scenario ─► World ── sets up, acts, switches the power off ──► API server (directly, as an administrator)
//!                │                                                   ▲      ▲
//!                ├─ SimImds ◄── agent ──HTTP──► Gateway (log, faults)┘      │
//!                ├─ SimIpamd ◄───┘ (where there is a VPC CNI)               │
//!                │     ▲ pods come and go                                   │
//!                └─ Kubelet ────────────────────────────────────────────────┘
//! ```
//!
//! Only the agent goes through the gateway, so that its log and its faults are the agent's alone. Every scenario has a
//! node and a namespace of its own; many worlds can share one API server. Only loopback is bound.

mod actor;
mod agents;
mod announce;
mod cni;
mod driver;
mod facts;
mod faults;
mod headroom;
mod look;
mod marks;
mod observer;
mod reboot;
mod setup;
mod sinks;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::apiserver::ApiServer;
use super::gateway::Gateway;
use super::gateway::backend::{Backend, Body, BoxError, in_process};
use super::gateway::log::LoggedRequest;
use super::imds::{IdentitySpec, SimImds};
use super::kubelet::{Kubelet, KubeletHandle, KubeletSpec};
use super::objects::{NODE_IP, NodeSpec};
use super::report::Report;
use super::scenario::Scenario;
use super::sinks::SimSinks;
use super::timeline::TimelineEntry;
use crate::clock::{Clock, Now};
use crate::config::otlp::OtlpConfig;
use crate::interruption::account::Account;
use agents::Agents;
use announce::Maintenance;
use cni::Cni;
use headroom::Headrooms;
use look::Looks;
use marks::Marks;
use observer::Notes;

/// Why a world cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The API server refuses what the scenario needs, or does not answer.
    #[error("the world cannot be set up: {what}: {source}")]
    Api {
        /// What was being done.
        what: String,
        /// The client's reason.
        #[source]
        source: Box<kube::Error>,
    },
    /// Something that has to happen did not happen in time.
    #[error("the world cannot be set up: {what} within {} s", within.as_secs())]
    Late {
        /// What did not happen.
        what: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// A local address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Other machines could reach the simulated services.
    #[error("cannot listen on {0}: simulated services are for this machine alone, use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The agent's connection to the gateway cannot be made.
    #[error("no client for the agent: {0}")]
    Client(String),
}

/// An API server for worlds; clones share it.
#[derive(Clone)]
pub struct BackendHandle {
    /// An administrator's way to it.
    client: kube::Client,
    backend: Arc<dyn Backend>,
    embedded: Option<ApiServer>,
}

impl BackendHandle {
    /// A new, empty API server in this process. Must be called inside the runtime.
    pub fn embedded(clock: Clock) -> Self {
        let server = ApiServer::new(clock);
        let handler = {
            let server = server.clone();
            move |request: Request<Bytes>| {
                let server = server.clone();
                async move { server.handle(&request) }
            }
        };
        Self { client: server.client(), backend: Arc::new(in_process(handler)), embedded: Some(server) }
    }

    /// A real API server: `client` is an administrator's, `backend` is where the gateway sends the agent's requests.
    pub fn remote(client: kube::Client, backend: impl Backend + 'static) -> Self {
        Self { client, backend: Arc::new(backend), embedded: None }
    }
}

/// A gateway takes its backend by value; this lets many gateways have the same one.
struct Shared(Arc<dyn Backend>);

impl Backend for Shared {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        self.0.call(request)
    }
}

/// What is particular to one run of a scenario.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where IMDS listens; port 0 takes any.
    pub imds_address: SocketAddr,
    /// Where the way to the API server listens.
    pub api_address: SocketAddr,
    /// Where the agent's admin page listens; absent = nowhere.
    pub admin_address: Option<SocketAddr>,
    /// Whether there is an agent at all; without one, another can be tried.
    pub with_agent: bool,
    /// Where the agent pushes telemetry, if anywhere.
    pub otlp: Option<OtlpConfig>,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { imds_address: any, api_address: any, admin_address: None, with_agent: true, otlp: None }
    }
}

/// Where a world can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// IMDS.
    pub imds: SocketAddr,
    /// The API server, through the gateway.
    pub api: SocketAddr,
    /// The agent's admin page, if it has one.
    pub admin: Option<SocketAddr>,
}

/// One world, set up and not begun.
pub struct World {
    scenario: Scenario,
    node: String,
    namespace: String,
    backend: BackendHandle,
    clock: Clock,
    gateway: Gateway,
    imds: SimImds,
    kubelet: KubeletHandle,
    kubelet_spec: KubeletSpec,
    /// Times that the kernel booted.
    boots: u32,
    agents: Agents,
    addresses: Addresses,
    notes: Notes,
    looks: Looks,
    cni: Cni,
    headrooms: Headrooms,
    maintenance: Maintenance,
    sinks: SimSinks,
    /// What would be on the node if there were no agent.
    without_agent: Marks,
    tasks: JoinSet<()>,
}

impl World {
    /// Sets a world up and plays its scenario to the end.
    pub async fn run(
        scenario: &Scenario,
        backend: BackendHandle,
        clock: Clock,
        observer: impl FnMut(TimelineEntry),
    ) -> Result<Report, WorldError> {
        let mut world = Self::open(scenario, backend, clock, &Options::default()).await?;
        Ok(world.play(observer).await)
    }

    /// Sets a world up: when this returns, all pods that the scenario begins with are ready.
    pub async fn open(
        scenario: &Scenario,
        backend: BackendHandle,
        clock: Clock,
        options: &Options,
    ) -> Result<Self, WorldError> {
        let (node, namespace) = (Self::node_of(scenario), format!("sim-{}", scenario.name));
        let imds_listener = bind(options.imds_address).await?;
        let api_listener = bind(options.api_address).await?;
        let admin = options.admin_address.map(admin_listener).transpose()?;
        let addresses = Addresses {
            imds: local(imds_listener.local_addr())?,
            api: local(api_listener.local_addr())?,
            admin: admin.as_ref().map(|listener| local(listener.local_addr())).transpose()?,
        };

        let identity =
            IdentitySpec { local_hostname: node.clone(), private_ip: NODE_IP.into(), ..IdentitySpec::default() };
        let imds = SimImds::new(clock, identity);
        let gateway = Gateway::new(Shared(backend.backend.clone()), clock);
        let spec = KubeletSpec { namespace: Some(namespace.clone()), ..KubeletSpec::default() };
        let mut tasks = JoinSet::new();
        let cni = Cni::open(scenario.cni.as_ref(), clock, &imds, &mut tasks).await?;
        let kubelet = Kubelet::new(backend.client.clone(), node.as_str(), clock, spec.clone());
        let kubelet = cni.ipamd().cloned().into_iter().fold(kubelet, Kubelet::on_network);
        let handle = kubelet.handle();

        tasks.spawn(imds.clone().serve(imds_listener));
        tasks.spawn(gateway.clone().serve(api_listener));
        let setup = setup::Setup { client: backend.client.clone(), node: &node, namespace: &namespace, scenario };
        setup.before_the_kubelet(clock.now().wall).await?;
        cni::begin(&cni, scenario, &backend.client, &node, &mut tasks).await?;
        tasks.spawn(kubelet.run());
        setup.workloads().await?;
        cni::settled(&cni).await;

        let without_agent = Marks::of(&setup.read_node().await?);
        let mut agents = Agents::new(scenario, &node, addresses, cni.config().clone(), clock, admin, options);
        let (sinks, notify) = sinks::open(scenario, &mut tasks).await?;
        agents.tells(notify);
        let (scenario, notes) = (scenario.clone(), Notes::default());
        Ok(Self {
            scenario,
            node,
            namespace,
            backend,
            clock,
            gateway,
            imds,
            kubelet: handle,
            kubelet_spec: spec,
            boots: 1,
            agents,
            addresses,
            notes,
            looks: Looks::default(),
            cni,
            headrooms: Headrooms::default(),
            maintenance: Maintenance::default(),
            sinks,
            without_agent,
            tasks,
        })
    }

    /// The name of the node that a scenario is played on. A token for its agent may have to be there before the world is.
    pub fn node_of(scenario: &Scenario) -> String {
        format!("spot-{}", scenario.name)
    }

    /// Where this world can be reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The node's name.
    pub fn node_name(&self) -> &str {
        &self.node
    }

    /// Everything that the agent asked the API server so far.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.gateway.requests()
    }

    /// What the last process of the agent writes of the interruption, or of the last one.
    pub fn account(&self) -> Option<Arc<Account>> {
        self.agents.account()
    }

    /// Plays the scenario from its beginning to its end. Afterwards the API server still answers; the instance is as dead
    /// or alive as the scenario left it.
    pub async fn play(&mut self, observer: impl FnMut(TimelineEntry)) -> Report {
        sinks::begin(self);
        let run = driver::play(self, observer).await;
        let facts = facts::collect(self, &run).await;
        Report::judge(&self.scenario, &facts)
    }
}

/// When things happened in one run of a scenario.
struct Run {
    start: Now,
    /// When IMDS began to tell the spot notice.
    notice_at: Option<Now>,
    /// The time that the spot notice announces.
    deadline: Option<Now>,
    /// When the instance went down for the first time.
    down_at: Option<Now>,
    /// When it went down for good.
    powered_off: Option<Now>,
    /// When the power will go by the spot notice.
    off_at: Option<Instant>,
    /// The time that people count down to, and since when.
    countdown: Option<Countdown>,
}

#[derive(Clone, Copy)]
struct Countdown {
    since: Instant,
    until: Instant,
}

impl Run {
    fn beginning(start: Now) -> Self {
        Self { start, notice_at: None, deadline: None, down_at: None, powered_off: None, off_at: None, countdown: None }
    }

    /// Time since the start of the world.
    fn since_start(&self, moment: Now) -> Duration {
        moment.instant.saturating_duration_since(self.start.instant)
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, WorldError> {
    if !address.ip().is_loopback() {
        return Err(WorldError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|source| WorldError::Bind { address, source })
}

/// A listener that every process of the agent can take over from the one before.
fn admin_listener(address: SocketAddr) -> Result<std::net::TcpListener, WorldError> {
    if !address.ip().is_loopback() {
        return Err(WorldError::NotLoopback(address));
    }
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| WorldError::Bind { address, source })
}

fn local(address: std::io::Result<SocketAddr>) -> Result<SocketAddr, WorldError> {
    address.map_err(|source| WorldError::Bind { address: Options::default().api_address, source })
}
