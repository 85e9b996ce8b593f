//! The node around ipamd: EC2, the pods with their sandboxes, the kubelet that tries again, and the process itself, which
//! comes and goes. Pure; it is told the time and runs up to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::cidr::Cidr;
use super::datastore::Holder;
use super::ec2::Ec2;
use super::pool::HALF_PASS;
use super::process::{Process, Setup};
use super::settings::{Instance, Settings, Timings};
use super::subnet::Subnet;
use super::version::Version;
use crate::clock::Now;

/// A node as it is when ipamd starts on it for the first time.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// The release of the VPC CNI.
    pub version: Version,
    /// The environment of aws-node.
    pub settings: Settings,
    /// The instance type.
    pub instance: Instance,
    /// `capacity.pods`, which ipamd reads when it starts.
    pub max_pods: i64,
    /// The first one is the primary ENI's. With subnet discovery, new ENIs go to whichever has most free addresses.
    pub subnets: Vec<Subnet>,
    /// The ENIConfig's name and subnet, for custom networking.
    pub eni_config: Option<(String, String)>,
    /// How long things take.
    pub timings: Timings,
    /// Where the walks over the datastore begin.
    pub seed: u64,
}

impl Default for NodeSpec {
    /// An m5.large with the latest release, its defaults and 29 pods at most, in a subnet of its own.
    fn default() -> Self {
        Self {
            version: Version(1, 23, 1),
            settings: Settings::default(),
            instance: Instance::m5_large(),
            max_pods: 29,
            subnets: vec![Subnet::new("subnet-0123456789abcdef0", [10, 8, 1, 0].into(), 24)],
            eni_config: None,
            timings: Timings::default(),
            seed: 1,
        }
    }
}

/// Why a sandbox could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Nothing to hand out: exhausted, or all that is left is cooling.
    #[error("add cmd: failed to assign an IP address to container")]
    NoAddress,
    /// ipamd does not answer.
    #[error("add cmd: failed to connect to backend server")]
    NoBackend,
}

/// What is the case, whatever the endpoints say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// ipamd is up and its ports are open.
    pub up: bool,
    /// Addresses that can carry pods.
    pub total: i64,
    /// Of these, held by pods.
    pub assigned: i64,
    /// Of these, resting.
    pub cooling: i64,
    /// Of these, to be had now.
    pub free: i64,
    /// Until the first address that rests is free.
    pub next_free: Option<SignedDuration>,
    /// Addresses by which the pool would grow if pods came as fast as they get addresses until none gets one any more,
    /// everything else staying as it is. Found by trying on a copy, not by a formula. In a subnet that is nearly full,
    /// pods that come more slowly can get a little further, because ipamd then asks for less at a time.
    pub growth: i64,
    /// `free + growth`.
    pub reachable: i64,
    /// ENIs attached, the primary one included.
    pub enis: i64,
    /// Pods that wait for an address.
    pub waiting: usize,
    /// Free addresses and free prefixes of each subnet.
    pub subnets: BTreeMap<String, (u32, u32)>,
}

#[derive(Clone, Debug)]
struct Pod {
    interfaces: u32,
    /// Its sandbox, once it has addresses.
    sandbox: Option<(Holder, Vec<IpAddr>, Timestamp)>,
    /// It is to end.
    leaving: bool,
    /// The kubelet tries again.
    retry: Option<Now>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) spec: NodeSpec,
    pub(super) ec2: Ec2,
    pub(super) unschedulable: bool,
    pub(super) process: Option<Process>,
    pods: BTreeMap<String, Pod>,
    random: u64,
    sandboxes: u64,
}

/// Longer than the pause after a refusal with the slowest growth.
const PATIENCE: Duration = Duration::from_secs(180);

impl Node {
    pub(super) fn new(spec: NodeSpec, at: Now) -> Self {
        let mut node = Self {
            ec2: Ec2::new(spec.subnets.clone()),
            unschedulable: false,
            process: None,
            pods: BTreeMap::new(),
            random: spec.seed.max(1),
            sandboxes: 0,
            spec,
        };
        node.launch(at);
        node.start(at);
        node
    }

    /// The instance comes up with its primary ENI, and with one for each further card.
    fn launch(&mut self, at: Now) {
        let home = self.ec2.home();
        for card in 0..self.spec.instance.cards.max(1) {
            let taken = self.ec2.subnet(&home).and_then(|subnet| subnet.take_addresses(1).ok());
            let Some(address) = taken.and_then(|taken| taken.into_iter().next()) else { continue };
            let ipv6 = Cidr::new(Ipv6Addr::new(0x2001, 0xdb8, 7, 1, 0, 0, 0, 0).into(), 80);
            let cidrs = if self.spec.settings.ipv6 && card == 0 { vec![ipv6] } else { Vec::new() };
            self.ec2.attach(card, &home, address, cidrs, at.wall);
        }
    }

    /// Starts ipamd, or starts it anew.
    pub(super) fn start(&mut self, at: Now) {
        let running = self.pods.values().filter_map(|pod| pod.sandbox.as_ref());
        let setup = Setup {
            version: self.spec.version,
            settings: &self.spec.settings,
            instance: &self.spec.instance,
            timings: self.spec.timings,
            max_pods: self.spec.max_pods,
            pod_subnet: self.spec.eni_config.as_ref().map(|(_, subnet)| subnet.as_str()),
            unschedulable: self.unschedulable,
            allocations: running
                .flat_map(|(holder, addresses, since)| {
                    addresses.iter().map(|address| (*address, holder.clone(), *since))
                })
                .collect(),
        };
        self.process = Some(Process::start(&setup, &mut self.ec2, at));
    }

    /// The process, if its ports are open.
    pub(super) fn open(&mut self, at: Now) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.ready.instant <= at.instant)
    }

    /// Runs up to `to`.
    pub(super) fn advance(&mut self, to: Now) {
        loop {
            let retry = self.pods.iter().filter_map(|(name, pod)| Some((pod.retry?, name)));
            let retry = retry.min_by_key(|(at, _)| at.instant).map(|(at, name)| (at, name.clone()));
            let step = self.process.as_ref().map(Process::next);
            let pods_turn = match (&retry, step) {
                (Some((retry, _)), Some(step)) => retry.instant < step.instant,
                (retry, _) => retry.is_some(),
            };
            if pods_turn {
                let Some((at, name)) = retry.filter(|(at, _)| at.instant <= to.instant) else { return };
                // The outcome shows in the pod.
                let _ = self.sync(&name, at);
            } else {
                if step.is_none_or(|at| at.instant > to.instant) {
                    return;
                }
                if let Some(process) = self.process.as_mut() {
                    process.step(&mut self.ec2, self.unschedulable);
                }
            }
        }
    }

    pub(super) fn add(&mut self, name: &str, interfaces: u32, at: Now) -> Result<Vec<IpAddr>, AddError> {
        let pod = Pod { interfaces, sandbox: None, leaving: false, retry: None };
        self.pods.entry(name.to_owned()).or_insert(pod);
        self.sync(name, at)
    }

    pub(super) fn remove(&mut self, name: &str, at: Now) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.leaving = true;
            // Without ipamd it is tried again.
            let _ = self.sync(name, at);
        }
    }

    pub(super) fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let sandbox = self.pods.get(name).and_then(|pod| pod.sandbox.as_ref());
        sandbox.map(|(_, addresses, _)| addresses.clone()).unwrap_or_default()
    }

    /// The kubelet brings a pod's sandbox to where it should be, or notes when to try again.
    fn sync(&mut self, name: &str, at: Now) -> Result<Vec<IpAddr>, AddError> {
        let Some(pod) = self.pods.get(name).cloned() else { return Err(AddError::NoAddress) };
        let outcome = match (&pod.sandbox, pod.leaving) {
            (None, true) => {
                self.pods.remove(name);
                return Ok(Vec::new());
            }
            (Some((holder, _, _)), true) => {
                let container = holder.container.clone();
                let gone = self.open(at).map(|process| process.delete(&container, at.wall));
                if gone.is_some() {
                    self.pods.remove(name);
                    return Ok(Vec::new());
                }
                Err(AddError::NoBackend)
            }
            (Some((_, addresses, _)), false) => Ok(addresses.clone()),
            (None, false) => self.set_up(name, pod.interfaces, at),
        };
        let retry = outcome.is_err().then(|| at.plus(self.spec.timings.sandbox_retry));
        if let Some(pod) = self.pods.get_mut(name) {
            pod.retry = retry;
        }
        outcome
    }

    fn set_up(&mut self, name: &str, interfaces: u32, at: Now) -> Result<Vec<IpAddr>, AddError> {
        self.sandboxes += 1;
        let (namespace, pod) = name.split_once('/').unwrap_or(("default", name));
        let holder = Holder {
            namespace: namespace.to_owned(),
            name: pod.to_owned(),
            container: format!("{:064x}", self.sandboxes.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            interfaces,
        };
        let mut random = self.random;
        let process = self.open(at).ok_or(AddError::NoBackend)?;
        let addresses = process.add(&holder, at.wall, || next_random(&mut random));
        self.random = random;
        let addresses = addresses.ok_or(AddError::NoAddress)?;
        if let Some(pod) = self.pods.get_mut(name) {
            pod.sandbox = Some((holder, addresses.clone(), at.wall));
        }
        Ok(addresses)
    }

    /// Attaches a trunk ENI, as the controller of branch ENIs does. ipamd sees it at its next reconciliation.
    pub(super) fn attach_trunk(&mut self, at: Now) -> Option<String> {
        let home = self.ec2.home();
        let address = self.ec2.subnet(&home)?.take_addresses(1).ok()?.into_iter().next()?;
        let id = self.ec2.attach(0, &home, address, Vec::new(), at.wall);
        self.ec2.enis.get_mut(&id)?.trunk = true;
        Some(id)
    }

    /// Whether pods may use an ENI's addresses.
    pub(super) fn exclude(&mut self, id: &str, excluded: bool) {
        if let Some(eni) = self.ec2.enis.get_mut(id) {
            eni.excluded = excluded;
        }
        if let Some(process) = &mut self.process {
            process.exclude(id, excluded);
        }
    }

    /// Takes an ENI away under the pods on it, which keep running without network.
    pub(super) fn force_out(&mut self, id: &str) {
        self.ec2.remove(id);
        if let Some(process) = &mut self.process {
            process.force_out(id);
        }
        for (_, addresses, _) in self.pods.values_mut().filter_map(|pod| pod.sandbox.as_mut()) {
            addresses.retain(|address| self.ec2.has_address(*address));
        }
    }

    pub(super) fn truth(&self, at: Now) -> Truth {
        let mut open = self.clone();
        let up = open.open(at).is_some();
        let stats = self.process.as_ref().map(|process| process.stats(at.wall)).unwrap_or_default();
        let stores = || self.process.iter().flat_map(|process| process.stores.values());
        let free = stats.total - stats.assigned - stats.cooling;
        let growth = self.clone().outgrow(at) - stats.total;
        Truth {
            up,
            total: stats.total,
            assigned: stats.assigned,
            cooling: stats.cooling,
            free,
            next_free: stores().filter_map(|store| store.next_free(at.wall)).min(),
            growth,
            reachable: free + growth,
            enis: stores().map(|store| i64::try_from(store.enis.len()).unwrap_or(i64::MAX)).sum(),
            waiting: self.pods.values().filter(|pod| pod.sandbox.is_none()).count(),
            subnets: self
                .ec2
                .subnets
                .iter()
                .map(|subnet| (subnet.id().to_owned(), (subnet.free(), subnet.free_blocks())))
                .collect(),
        }
    }

    /// Fills the node with pods until no more get an address, and says how large the pool was then.
    fn outgrow(mut self, from: Now) -> i64 {
        let total = |node: &Self, at: Now| node.process.as_ref().map_or(0, |process| process.stats(at.wall).total);
        self.pods.retain(|_, pod| pod.sandbox.is_some());
        let (mut at, mut quiet, mut largest) = (from, Duration::ZERO, total(&self, from));
        // An IPv6 prefix has no end, and does not grow either.
        if self.process.as_ref().is_none_or(|process| process.settings.ipv6) {
            return largest;
        }
        let mut pods = 0_u64;
        while quiet < PATIENCE {
            loop {
                pods += 1;
                if self.add(&format!("growth/{pods}"), 1, at).is_err() {
                    self.pods.remove(&format!("growth/{pods}"));
                    break;
                }
            }
            at = at.plus(HALF_PASS);
            quiet += HALF_PASS;
            self.advance(at);
            if total(&self, at) > largest {
                (largest, quiet) = (total(&self, at), Duration::ZERO);
            }
        }
        largest
    }
}

/// A xorshift generator: worlds repeat themselves.
fn next_random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).unwrap_or_default()
}
