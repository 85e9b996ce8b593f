//! A simulated ipamd, the daemon of the VPC CNI that manages a node's pod addresses: its pool manager with the warm
//! targets, its datastore with the cooldown, EC2 and the subnets behind it, and its two endpoints behind listeners that the
//! caller binds.
//!
//! Pods come and go by [`SimIpamd::pod_added`] and [`SimIpamd::pod_removed`]; everything else follows from the time that
//! passes. It has no task of its own: every call and every request first brings it up to the clock, so that on a paused
//! clock a day of growth costs nothing. [`SimIpamd::truth`] says what is the case; the endpoints say what a release of the
//! CNI would say, and [`Fault`]s can be laid over that.

mod cidr;
mod datastore;
mod ec2;
mod fault;
mod metrics;
mod node;
mod pool;
mod process;
mod schema;
mod settings;
mod subnet;
mod version;
mod wire;

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::ec2::Api;
pub use self::fault::{Fault, FaultKind};
use self::node::Node;
pub use self::node::{AddError, NodeSpec, Truth};
pub use self::settings::{Instance, Settings, Timings};
pub use self::subnet::{Refusal, Subnet};
pub use self::version::{NoVersion, Version};
use self::wire::{Reply, Request};
use super::imds::NetworkTree;
use super::onlooker::is_onlooker;
use crate::clock::{Clock, Now};

/// A service that is kept up for days must not grow without end.
const LOG_CAP: usize = 100_000;

/// Go's server gives a client this long for its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `127.0.0.1:61679` of the real one.
    Introspection,
    /// `:61678`.
    Metrics,
}

/// One request as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamdRequest {
    /// When its head was complete.
    pub at: Now,
    /// The server that got it.
    pub endpoint: Endpoint,
    /// In upper case.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The status of the answer; `None` if it got none.
    pub status: Option<u16>,
}

/// A handle to one simulated ipamd with its node. Clones control the same one.
#[derive(Clone)]
pub struct SimIpamd {
    state: Arc<Mutex<State>>,
    off: watch::Sender<bool>,
}

struct State {
    clock: Clock,
    node: Node,
    faults: Vec<Fault>,
    log: VecDeque<IpamdRequest>,
    in_flight: usize,
    most_in_flight: usize,
}

impl SimIpamd {
    /// A node on which ipamd starts now, for the first time. `clock` is the node's: the cooldown's times are read off it.
    pub fn new(clock: Clock, spec: NodeSpec) -> Self {
        let node = Node::new(spec, clock.now());
        let state = State { clock, node, faults: Vec::new(), log: VecDeque::new(), in_flight: 0, most_in_flight: 0 };
        Self { state: Arc::new(Mutex::new(state)), off: watch::Sender::new(false) }
    }

    /// Serves one of the endpoints until [`SimIpamd::power_off`]; dropping the future ends it too. While no ipamd is up,
    /// connections are reset.
    pub async fn serve(self, endpoint: Endpoint, listener: TcpListener) {
        let mut off = self.off.subscribe();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = off.wait_for(|off| *off) => return,
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(self.clone().connection(endpoint, stream));
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }

    /// The instance is gone: open connections are closed, [`SimIpamd::serve`] returns.
    pub fn power_off(&self) {
        self.off.send_replace(true);
    }

    /// A pod, `namespace/name` or a name alone, is to run: the kubelet asks for its address. If there is none it keeps
    /// asking until the pod is removed. Asking for a pod that runs tells its address.
    pub fn pod_added(&self, name: &str) -> Result<Vec<IpAddr>, AddError> {
        self.change(|node, now| node.add(name, 1, now))
    }

    /// The same for a pod that wants an interface on every network card.
    pub fn multi_nic_pod_added(&self, name: &str) -> Result<Vec<IpAddr>, AddError> {
        self.change(|node, now| node.add(name, node.spec.instance.cards.max(2), now))
    }

    /// The pod's sandbox is taken down and its address begins to rest, at the latest when ipamd is up again.
    pub fn pod_removed(&self, name: &str) {
        self.change(|node, now| node.remove(name, now));
    }

    /// The addresses of a pod that runs; empty while it waits for them.
    pub fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        self.change(|node, _| node.addresses_of(name))
    }

    /// Whether the node has the taint of a cordon, which ipamd heeds.
    pub fn set_unschedulable(&self, unschedulable: bool) {
        self.change(|node, _| node.unschedulable = unschedulable);
    }

    /// `capacity.pods`; ipamd reads it when it starts.
    pub fn set_max_pods(&self, max_pods: i64) {
        self.change(|node, _| node.spec.max_pods = max_pods);
    }

    /// Changes the environment of aws-node, which starts it anew.
    pub fn configure(&self, settings: Settings) {
        self.change(|node, now| {
            node.spec.settings = settings;
            node.start(now);
        });
    }

    /// Another release takes over, newer or older.
    pub fn upgrade(&self, version: Version) {
        self.change(|node, now| {
            node.spec.version = version;
            node.start(now);
        });
    }

    /// ipamd ends and starts again: counters and cooldowns are gone, assigned addresses are not. Brings a killed one back.
    pub fn restart(&self) {
        self.change(Node::start);
    }

    /// ipamd ends and stays away.
    pub fn kill(&self) {
        self.change(|node, _| node.process = None);
    }

    /// Others take addresses of a subnet until `free` are left.
    pub fn leave_free(&self, subnet: &str, free: u32) {
        self.change(|node, _| node.ec2.subnet(subnet).into_iter().for_each(|subnet| subnet.leave_free(free)));
    }

    /// Others take one address of each free block of a subnet but `blocks`.
    pub fn fragment(&self, subnet: &str, blocks: u32) {
        self.change(|node, _| node.ec2.subnet(subnet).into_iter().for_each(|subnet| subnet.fragment(blocks)));
    }

    /// Others leave a subnet.
    pub fn free_others(&self, subnet: &str) {
        self.change(|node, _| {
            let held = node.ec2.held_of(subnet);
            node.ec2.subnet(subnet).into_iter().for_each(|subnet| subnet.free_others(held.clone()));
        });
    }

    /// EC2 refuses a call, whatever the subnet has.
    pub fn refuse(&self, api: Api, refusal: Refusal) {
        self.change(|node, _| node.ec2.refused.insert(api, refusal));
    }

    /// Undoes [`SimIpamd::refuse`].
    pub fn allow(&self, api: Api) {
        self.change(|node, _| node.ec2.refused.remove(&api));
    }

    /// A trunk ENI is attached; ipamd sees it within its next reconciliation. `None` if the subnet has no address for it.
    pub fn attach_trunk(&self) -> Option<String> {
        self.change(Node::attach_trunk)
    }

    /// Whether an ENI is excluded from carrying pods.
    pub fn exclude(&self, eni: &str, excluded: bool) {
        self.change(|node, _| node.exclude(eni, excluded));
    }

    /// Takes an ENI away under its pods.
    pub fn force_remove_eni(&self, eni: &str) {
        self.change(|node, _| node.force_out(eni));
    }

    /// The ids of the attached ENIs, in the order in which they were made.
    pub fn enis(&self) -> Vec<String> {
        self.change(|node, _| node.ec2.enis.keys().cloned().collect())
    }

    /// The same ENIs as IMDS has them, below `network/interfaces/macs/`: EC2's truth, whatever ipamd believes.
    pub fn network_tree(&self) -> NetworkTree {
        self.change(|node, _| node.ec2.network_tree())
    }

    /// What is the case now. Costs a simulation of its own.
    pub fn truth(&self) -> Truth {
        self.change(|node, now| node.truth(now))
    }

    /// The value of a series of ipamd, as it counts; 0 if it is down.
    pub fn metric(&self, name: &str, labels: &[(&'static str, &str)]) -> f64 {
        self.change(|node, _| node.process.as_ref().map_or(0.0, |process| process.metrics.get(name, labels)))
    }

    /// Adds a fault. Faults act in the order in which they were added; several may act on one request.
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Every request so far, oldest first; of very many the last 100,000.
    pub fn requests(&self) -> Vec<IpamdRequest> {
        self.lock().log.iter().cloned().collect()
    }

    /// The largest number of connections that were open when one of them had sent its request.
    pub fn most_in_flight(&self) -> usize {
        self.lock().most_in_flight
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the node up to now, then does `change`.
    fn change<T>(&self, change: impl FnOnce(&mut Node, Now) -> T) -> T {
        let mut state = self.lock();
        let now = state.clock.now();
        state.node.advance(now);
        change(&mut state.node, now)
    }

    async fn connection(self, endpoint: Endpoint, mut stream: TcpStream) {
        let in_flight = InFlight::enter(&self);
        let Ok(Some(request)) = tokio::time::timeout(HEAD_TIMEOUT, wire::read_head(&mut stream)).await else { return };
        // Held to the end, unless it is none of the agent's.
        let _in_flight = (!is_onlooker(&request.user_agent)).then_some(in_flight);
        let (reply, date) = self.lock().handle(endpoint, &request);
        // A client that has gone away is its own business.
        let _ = reply.carry_out(stream, date.wall, request.method == "HEAD").await;
    }
}

/// Counts a connection for as long as it lives, aborted ones included.
struct InFlight(SimIpamd);

impl InFlight {
    fn enter(sim: &SimIpamd) -> Self {
        sim.lock().in_flight += 1;
        Self(sim.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl State {
    /// Decides about one request and logs it.
    fn handle(&mut self, endpoint: Endpoint, request: &Request) -> (Reply, Now) {
        let now = self.clock.now();
        self.node.advance(now);
        let commands = schema::commands(self.log.len());
        let mut reply = self.reply(endpoint, &request.path, &commands, now);
        let up = reply.status().is_some();
        for fault in &mut self.faults {
            if let Some(kind) = fault.strike(endpoint, &request.path, now.instant).filter(|_| up) {
                reply.suffer(kind, &commands);
            }
        }
        if is_onlooker(&request.user_agent) {
            return (reply, now);
        }
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        if self.log.len() == LOG_CAP {
            self.log.pop_front();
        }
        let (method, path) = (request.method.clone(), request.path.clone());
        self.log.push_back(IpamdRequest { at: now, endpoint, method, path, status: reply.status() });
        (reply, now)
    }

    fn reply(&mut self, endpoint: Endpoint, path: &str, commands: &str, now: Now) -> Reply {
        let config = self.node.spec.eni_config.as_ref().map_or("default", |(name, _)| name).to_owned();
        let Some(process) = self.node.open(now) else { return Reply::refused() };
        let settings = &process.settings;
        match (endpoint, path) {
            (Endpoint::Metrics, _) if settings.metrics_disabled => Reply::refused(),
            (Endpoint::Introspection, _) if settings.introspection_disabled => Reply::refused(),
            (Endpoint::Metrics, "/metrics") => {
                process.count_scrape(now);
                Reply::new(200, wire::EXPOSITION, process.metrics.text(process.version))
            }
            (Endpoint::Metrics, _) => Reply::new(404, wire::TEXT, "404 page not found\n"),
            (Endpoint::Introspection, path) => {
                let body = match path {
                    "/v1/enis" => schema::enis(process.version, &process.stores),
                    "/v1/eni-configs" => schema::eni_config(&config),
                    "/v1/networkutils-env-settings" => schema::network_settings(),
                    "/v1/ipamd-env-settings" => schema::ipamd_settings(process.version, settings),
                    _ => commands.to_owned(),
                };
                Reply::new(200, wire::TEXT, body)
            }
        }
    }
}
