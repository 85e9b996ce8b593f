//! One life of the ipamd process: what it loses when it ends. Pure; it is told the time and runs up to it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::cidr::Cidr;
use super::datastore::{Datastore, Holder, Moved, Stats};
use super::ec2::{Api, Ec2, Wanted};
use super::metrics::Metrics;
use super::pool::{self, HALF_PASS, Pool, RECONCILE_INTERVAL, RETURN_INTERVAL};
use super::settings::{Instance, PREFIX_SIZE, Settings, Timings};
use super::subnet::Refusal;
use super::version::Version;
use crate::clock::Now;

/// Between the detachment of an ENI and its deletion.
const DELETE_DELAY: Duration = Duration::from_secs(2);

/// What is on the node when a process starts.
pub(super) struct Setup<'a> {
    pub(super) version: Version,
    pub(super) settings: &'a Settings,
    pub(super) instance: &'a Instance,
    pub(super) timings: Timings,
    pub(super) max_pods: i64,
    /// The subnet of pods under custom networking.
    pub(super) pod_subnet: Option<&'a str>,
    pub(super) unschedulable: bool,
    /// What the checkpoint file has.
    pub(super) allocations: Vec<(IpAddr, Holder, Timestamp)>,
}

/// What happens at a later moment of a pass.
#[derive(Clone, Debug)]
enum Effect {
    Called {
        api: Api,
        result: Result<(), Refusal>,
        took: Duration,
    },
    Failed(&'static str),
    Cidrs {
        card: u32,
        eni: String,
        cidrs: Vec<Cidr>,
    },
    Eni {
        card: u32,
        id: String,
    },
    /// The pool has changed; reconciliation waits.
    Acted,
    /// The subnet was recognised as full; growth waits.
    Refused,
}

/// What a pass does, call after call.
struct Work {
    at: Now,
    effects: Vec<(Now, Effect)>,
}

impl Work {
    fn call(&mut self, api: Api, took: Duration, result: Result<(), Refusal>) {
        self.at = self.at.plus(took);
        self.then(Effect::Called { api, result, took });
    }

    fn then(&mut self, effect: Effect) {
        self.effects.push((self.at, effect));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The pool manager looks at the pool next.
    Decide,
    /// The datastore is compared with EC2 next, if it is time.
    Reconcile,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) version: Version,
    pub(super) settings: Settings,
    /// Its ports open.
    pub(super) ready: Now,
    pub(super) stores: BTreeMap<u32, Datastore>,
    pub(super) metrics: Metrics,
    pub(super) prefixes: bool,
    pub(super) slots: i64,
    pub(super) eni_max: i64,
    timings: Timings,
    max_pods: i64,
    pod_subnet: Option<String>,
    phase: Phase,
    next: Now,
    queue: VecDeque<(Now, Effect)>,
    last_refusal: Option<Now>,
    last_action: Now,
    last_return: Option<Now>,
}

impl Process {
    /// Starts at `at`: takes up what is attached and allocated, and makes the first step of growth before its ports open.
    pub(super) fn start(setup: &Setup<'_>, ec2: &mut Ec2, at: Now) -> Self {
        let settings = setup.settings.understood_by(setup.version);
        let prefixes = settings.prefix_delegation && setup.instance.nitro && !settings.ipv6;
        let enis = setup.instance.enis;
        let mut process = Self {
            version: setup.version,
            prefixes,
            slots: setup.instance.slots(),
            eni_max: if settings.max_eni < 1 { enis } else { enis.min(settings.max_eni) },
            timings: setup.timings,
            max_pods: setup.max_pods,
            pod_subnet: setup.pod_subnet.filter(|_| settings.custom_networking).map(str::to_owned),
            settings,
            ready: at,
            stores: BTreeMap::new(),
            metrics: Metrics::default(),
            phase: Phase::Decide,
            next: at,
            queue: VecDeque::new(),
            last_refusal: None,
            last_action: at,
            last_return: None,
        };
        process.take_up(setup, ec2, at);
        let mut work = Work { at: at.plus(setup.timings.startup), effects: Vec::new() };
        work.call(Api::Describe, Duration::from_millis(100), ec2.check(Api::Describe));
        if !process.settings.ipv6 {
            for card in process.cards() {
                let pool = process.pool(card, at.wall);
                if pool.is_too_low() && !process.is_blocked(setup.unschedulable, at) {
                    process.grow(ec2, card, &pool, &mut work);
                }
            }
        }
        process.ready = work.at;
        process.last_action = work.at;
        process.next = work.at.plus(HALF_PASS);
        process.queue.extend(work.effects);
        process.announce(at);
        process
    }

    fn take_up(&mut self, setup: &Setup<'_>, ec2: &Ec2, at: Now) {
        let cards = if self.settings.multi_nic { setup.instance.cards.max(1) } else { 1 };
        for card in 0..cards {
            let mut store = Datastore::new(self.prefixes, self.settings.cooldown);
            for (id, attached) in ec2.enis.iter().filter(|(_, eni)| eni.card == card) {
                // Its age is counted from when this process first sees it.
                let eni = super::datastore::Eni { since: at.wall, ..attached.for_datastore(id) };
                self.metrics.set("awscni_assigned_ip_per_eni", &[("eni", id)], 0.0);
                store.add_eni(eni);
            }
            self.stores.insert(card, store);
        }
        for (address, holder, since) in &setup.allocations {
            let moved = self.stores.values_mut().find_map(|store| store.restore(*address, holder, *since));
            self.count_assigned(moved.as_ref());
        }
        self.cards().into_iter().for_each(|card| self.refresh(card));
        let ip_max = if self.settings.ipv6 { 0 } else { self.eni_max * self.chunk() };
        self.metrics.set("awscni_eni_max", &[], self.eni_max as f64);
        self.metrics.set("awscni_ip_max", &[], ip_max as f64);
    }

    /// What is known of the process itself.
    fn announce(&mut self, at: Now) {
        let metrics = &mut self.metrics;
        let seconds = at.wall.as_millisecond() / 10;
        metrics.set("process_start_time_seconds", &[], seconds as f64 / 100.0);
        metrics.set("process_resident_memory_bytes", &[], 61_000_000.0);
        metrics.set("go_goroutines", &[], 41.0);
        metrics.set("go_info", &[("version", "go1.26.4")], 1.0);
        let version = self.version.to_string();
        metrics.set("awscni_build_info", &[("goversion", "go1.26.4"), ("version", &version)], 1.0);
        metrics.add("awscni_connmark_reconcile_total", &[("result", "success")], 0);
        let took = (self.ready.instant - at.instant).as_secs_f64();
        let start = [("failure_reason", ""), ("success", "true"), ("with_api_server", "true")];
        metrics.observe("awscni_ipamd_startup_duration_seconds", &start, took);
        metrics.observe("awscni_ipamd_node_initialization_duration_seconds", &[("success", "true")], took);
        for action in ["nodeInit", "increaseDatastorePool", "decreaseDatastorePool", "nodeIPPoolReconcile"] {
            metrics.set("awscni_ipamd_action_inprogress", &[("fn", action)], 0.0);
        }
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Now {
        self.queue.front().map(|(at, _)| *at).filter(|at| at.instant <= self.next.instant).unwrap_or(self.next)
    }

    /// Does what is due at [`Process::next`].
    pub(super) fn step(&mut self, ec2: &mut Ec2, unschedulable: bool) {
        let at = self.next();
        if self.queue.front().is_some_and(|(due, _)| due.instant <= at.instant) {
            if let Some((at, effect)) = self.queue.pop_front() {
                self.happen(effect, ec2, at);
            }
            return;
        }
        let end = match self.phase {
            Phase::Decide => {
                let mut work = Work { at, effects: Vec::new() };
                if !self.settings.ipv6 && !self.settings.provisioning_disabled {
                    self.cards().into_iter().for_each(|card| self.pass(ec2, card, unschedulable, &mut work));
                }
                self.queue.extend(work.effects);
                self.phase = Phase::Reconcile;
                work.at
            }
            Phase::Reconcile => {
                if !self.settings.ipv6 && at.instant - self.last_action.instant > RECONCILE_INTERVAL {
                    self.reconcile(ec2, at);
                }
                self.phase = Phase::Decide;
                at
            }
        };
        self.next = end.plus(HALF_PASS);
    }

    fn pass(&mut self, ec2: &mut Ec2, card: u32, unschedulable: bool, work: &mut Work) {
        let pool = self.pool(card, work.at.wall);
        if pool.is_too_low() {
            if !self.is_blocked(unschedulable, work.at) {
                self.grow(ec2, card, &pool, work);
            }
        } else if pool.over() > 0 {
            self.give_back(ec2, card, &pool, work);
        }
        let cordoned = unschedulable && !self.settings.manage_enis_non_schedulable;
        let without_pods = self.stores.get(&card).is_some_and(Datastore::has_eni_without_pods);
        if !cordoned && pool.may_remove_eni(without_pods) {
            self.remove_eni(ec2, card, &pool, work);
        }
    }

    /// One step: fill one ENI, or attach a new one.
    fn grow(&mut self, ec2: &mut Ec2, card: u32, pool: &Pool, work: &mut Work) {
        let Some(store) = self.stores.get(&card) else { return };
        for (eni, attached) in store.fillable(self.slots, self.settings.custom_networking) {
            match self.fill(ec2, &eni, pool.ask(attached), work) {
                Ok(cidrs) => {
                    work.then(Effect::Cidrs { card, eni, cidrs });
                    return work.then(Effect::Acted);
                }
                Err(Refusal::PrivateIpAddressLimitExceeded) => return,
                Err(refusal) => {
                    work.then(Effect::Failed("increaseIPPoolAllocIPAddressesFailed"));
                    match (refusal.is_recognised(), self.settings.subnet_discovery) {
                        (true, true) => {}
                        (true, false) => return work.then(Effect::Refused),
                        (false, _) => return,
                    }
                }
            }
        }
        let awaits_trunk = self.settings.pod_eni && !store.has_trunk();
        if pool::has_room_for_eni(enis(store), store.excluded(), self.eni_max, awaits_trunk) {
            self.add_eni(ec2, card, pool, work);
        }
    }

    /// Asks for `count`, and once more for a single one if that is refused.
    fn fill(&self, ec2: &mut Ec2, eni: &str, count: i64, work: &mut Work) -> Result<Vec<Cidr>, Refusal> {
        let mut result = Ok(Vec::new());
        for count in [count, 1] {
            result = ec2.assign(eni, count, self.prefixes);
            work.call(Api::Assign, self.timings.assign, result.as_ref().map(drop).map_err(|refusal| *refusal));
            if matches!(result, Ok(_) | Err(Refusal::PrivateIpAddressLimitExceeded)) {
                break;
            }
        }
        result
    }

    fn add_eni(&mut self, ec2: &mut Ec2, card: u32, pool: &Pool, work: &mut Work) {
        let subnets = match &self.pod_subnet {
            Some(subnet) => vec![subnet.clone()],
            None if self.settings.subnet_discovery => ec2.by_free(),
            None => vec![ec2.home()],
        };
        let custom_networking = self.settings.custom_networking;
        let wanted = Wanted { card, slots: pool.ask(0), prefixes: self.prefixes, custom_networking };
        let mut failed = None;
        for subnet in subnets {
            let created = ec2.create(&subnet, wanted, work.at.wall);
            work.call(Api::Create, self.timings.create, created.as_ref().map(drop).map_err(|refusal| *refusal));
            match created {
                Ok(id) => return self.attach(ec2, card, id, work),
                Err(refusal) => failed = Some(refusal),
            }
        }
        work.then(Effect::Failed("increaseIPPoolAllocENI"));
        if failed.is_some_and(Refusal::is_recognised) {
            work.then(Effect::Failed("increaseIPPoolAllocIPAddressesFailed"));
            work.then(Effect::Refused);
        }
    }

    fn attach(&self, ec2: &mut Ec2, card: u32, id: String, work: &mut Work) {
        let attached = ec2.check(Api::Attach);
        work.call(Api::Attach, self.timings.attach, attached);
        if attached.is_err() {
            ec2.remove(&id);
            work.call(Api::Delete, self.timings.modify, Ok(()));
            return work.then(Effect::Failed("increaseIPPoolAllocENI"));
        }
        work.call(Api::Modify, self.timings.modify, Ok(()));
        work.call(Api::Wait, self.timings.imds, Ok(()));
        work.then(Effect::Eni { card, id });
        work.then(Effect::Acted);
    }

    fn give_back(&mut self, ec2: &mut Ec2, card: u32, pool: &Pool, work: &mut Work) {
        if self.last_return.is_some_and(|last| work.at.instant - last.instant <= RETURN_INTERVAL) {
            return;
        }
        self.last_return = Some(work.at);
        let taken = self.stores.get_mut(&card).map(|store| store.take_freeable(pool.over())).unwrap_or_default();
        let mut enis: Vec<&String> = taken.iter().map(|(eni, _)| eni).collect();
        enis.dedup();
        for _ in enis {
            work.call(Api::Unassign, self.timings.assign, Ok(()));
        }
        for (eni, cidr) in &taken {
            ec2.unassign(eni, *cidr);
        }
        self.refresh(card);
        work.then(Effect::Acted);
    }

    fn remove_eni(&mut self, ec2: &mut Ec2, card: u32, pool: &Pool, work: &mut Work) {
        let Some(store) = self.stores.get_mut(&card) else { return };
        let Some(eni) = store.take_unneeded_eni(pool.reserve(), work.at.wall) else { return };
        ec2.remove(&eni.id);
        self.metrics.forget("awscni_assigned_ip_per_eni", &[("eni", &eni.id)]);
        self.refresh(card);
        work.call(Api::Detach, self.timings.attach, Ok(()));
        work.at = work.at.plus(DELETE_DELAY);
        work.call(Api::Delete, self.timings.modify, Ok(()));
    }

    /// Counts every attached CIDR, and takes up ENIs that others attached.
    fn reconcile(&mut self, ec2: &Ec2, at: Now) {
        for card in self.cards() {
            let known = |id: &String| self.stores.get(&card).is_some_and(|store| store.enis.contains_key(id));
            let new: Vec<String> =
                ec2.enis.iter().filter(|(id, eni)| eni.card == card && !known(id)).map(|(id, _)| id.clone()).collect();
            for id in new {
                self.metrics.add("awscni_reconcile_count", &[("fn", "eniReconcileAdd")], 1);
                self.happen(Effect::Eni { card, id }, ec2, at);
            }
            let cidrs = self.stores.get(&card).map_or(0, |store| store.cidrs().0);
            self.metrics.add("awscni_reconcile_count", &[("fn", "eniDataStorePoolReconcileAdd")], cidrs);
        }
        self.last_action = at;
    }

    fn happen(&mut self, effect: Effect, ec2: &Ec2, at: Now) {
        match effect {
            Effect::Called { api, result, took } => self.count_call(api, result, took, at),
            Effect::Failed(name) => self.metrics.add("awscni_ipamd_error_count", &[("fn", name)], 1),
            Effect::Cidrs { card, eni, cidrs } => {
                if let Some(store) = self.stores.get_mut(&card) {
                    for cidr in cidrs {
                        store.add_cidr(&eni, cidr);
                    }
                }
                self.refresh(card);
            }
            Effect::Eni { card, id } => {
                let eni = ec2.enis.get(&id).map(|attached| attached.for_datastore(&id));
                if let (Some(eni), Some(store)) = (eni, self.stores.get_mut(&card)) {
                    store.add_eni(super::datastore::Eni { since: at.wall, ..eni });
                    self.metrics.set("awscni_assigned_ip_per_eni", &[("eni", &id)], 0.0);
                }
                self.refresh(card);
            }
            Effect::Acted => self.last_action = at,
            Effect::Refused => self.last_refusal = Some(at),
        }
    }

    fn count_call(&mut self, api: Api, result: Result<(), Refusal>, took: Duration, at: Now) {
        let name = api.name();
        let metrics = &mut self.metrics;
        let (error, status) = result.map_or_else(|refusal| ("true", refusal.code()), |()| ("false", "200"));
        let labels = [("api", name), ("error", error), ("status", status)];
        metrics.observe("awscni_aws_api_latency_ms", &labels, took.as_secs_f64() * 1000.0);
        if api == Api::Wait {
            return;
        }
        metrics.add("awscni_ec2api_req_count", &[("fn", name)], 1);
        let Err(refusal) = result else { return };
        metrics.add("awscni_ec2api_error_count", &[("fn", name)], 1);
        metrics.add("awscni_aws_api_error_count", &[("api", name), ("error", refusal.code())], 1);
        // The request's id makes a new series of each error.
        let text = format!(
            "operation error EC2: {name}, https response error StatusCode: 400, RequestID: {:016x}, api error {}: {}",
            at.wall.as_nanosecond(),
            refusal.code(),
            refusal.message()
        );
        metrics.add("awscni_aws_utils_error_count", &[("error", &text), ("fn", name)], 1);
    }

    /// A pod's sandbox asks for its addresses: one, or one on every card. `None` if a card has none; what it got before
    /// goes back.
    pub(super) fn add(
        &mut self,
        holder: &Holder,
        at: Timestamp,
        mut random: impl FnMut() -> usize,
    ) -> Option<Vec<IpAddr>> {
        self.metrics.add("awscni_add_ip_req_count", &[], 1);
        let every_card = holder.interfaces > 1;
        let mut addresses = Vec::new();
        for card in self.cards() {
            let moved = self.stores.get_mut(&card).and_then(|store| store.assign(holder, at, &mut random));
            if moved.is_none() {
                self.metrics.add("awscni_no_available_ip_addresses", &[], 1);
            }
            self.count_assigned(moved.as_ref());
            self.refresh(card);
            match moved {
                Some(moved) => addresses.push(moved.address),
                None if every_card => {
                    self.release(&holder.container, at);
                    return None;
                }
                None => {}
            }
            if !every_card && !addresses.is_empty() {
                break;
            }
        }
        (!addresses.is_empty()).then_some(addresses)
    }

    /// The sandbox is gone; its addresses rest.
    pub(super) fn delete(&mut self, container: &str, at: Timestamp) {
        self.metrics.add("awscni_del_ip_req_count", &[("reason", "PodDeleted")], 1);
        self.release(container, at);
    }

    fn release(&mut self, container: &str, at: Timestamp) {
        for card in self.cards() {
            let moved = self.stores.get_mut(&card).and_then(|store| store.release(container, at));
            if let Some(moved) = moved {
                self.metrics.add(self.per_cidr(), &[("cidr", &moved.cidr.to_string())], -1);
                self.metrics.add("awscni_assigned_ip_per_eni", &[("eni", &moved.eni)], -1);
                self.refresh(card);
            }
        }
    }

    /// An ENI has vanished with the pods on it.
    pub(super) fn force_out(&mut self, id: &str) {
        for card in self.cards() {
            let Some((eni, pods)) = self.stores.get_mut(&card).and_then(|store| store.force_out(id)) else { continue };
            self.metrics.add("awscni_reconcile_count", &[("fn", "eniReconcileDel")], 1);
            self.metrics.forget("awscni_assigned_ip_per_eni", &[("eni", &eni.id)]);
            if pods == 0 {
                return self.refresh(card);
            }
            self.metrics.add("awscni_force_removed_enis", &[], 1);
            self.metrics.add("awscni_force_removed_ips", &[], i64::try_from(pods).unwrap_or(i64::MAX));
            // The totals are not brought up to date on this way.
            if let Some(store) = self.stores.get(&card) {
                self.metrics.set("awscni_assigned_ip_addresses", &[], store.assigned as f64);
                self.metrics.set("awscni_eni_allocated", &[], enis(store) as f64);
            }
        }
    }

    /// An ENI's tag says whether pods get its addresses.
    pub(super) fn exclude(&mut self, id: &str, excluded: bool) {
        for eni in self.stores.values_mut().filter_map(|store| store.enis.get_mut(id)) {
            eni.excluded = excluded;
        }
    }

    /// Sums over all cards.
    pub(super) fn stats(&self, at: Timestamp) -> Stats {
        self.stores.values().map(|store| store.stats(at)).fold(Stats::default(), |sum, card| Stats {
            total: sum.total.saturating_add(card.total),
            assigned: sum.assigned + card.assigned,
            cooling: sum.cooling + card.cooling,
            cidrs: sum.cidrs + card.cidrs,
            empty_cidrs: sum.empty_cidrs + card.empty_cidrs,
        })
    }

    pub(super) fn count_scrape(&mut self, at: Now) {
        self.metrics.add("promhttp_metric_handler_requests_total", &[("code", "200")], 1);
        let up = at.instant - self.ready.instant;
        self.metrics.set("process_cpu_seconds_total", &[], (up.as_secs_f64() / 10.0).round() / 10.0);
    }

    fn cards(&self) -> Vec<u32> {
        self.stores.keys().copied().collect()
    }

    fn pool(&self, card: u32, at: Timestamp) -> Pool {
        let stats = self.stores.get(&card).map(|store| store.stats(at)).unwrap_or_default();
        Pool::new(&self.settings, stats, card, self.prefixes, self.slots, self.max_pods)
    }

    fn is_blocked(&self, unschedulable: bool, at: Now) -> bool {
        let since_refusal = self.last_refusal.map(|last| at.instant - last.instant);
        pool::is_growth_blocked(&self.settings, unschedulable, since_refusal)
    }

    /// Addresses per ENI.
    pub(super) fn chunk(&self) -> i64 {
        self.slots * if self.prefixes { PREFIX_SIZE } else { 1 }
    }

    fn per_cidr(&self) -> &'static str {
        if self.version < Version(1, 10, 0) { "awscni_assigned_ip_per_ipv4cidr" } else { "awscni_assigned_ip_per_cidr" }
    }

    fn count_assigned(&mut self, moved: Option<&Moved>) {
        let Some(moved) = moved else { return };
        // In IPv6 it only ever goes down.
        if moved.cidr.is_ipv4() {
            self.metrics.add(self.per_cidr(), &[("cidr", &moved.cidr.to_string())], 1);
        }
        self.metrics.add("awscni_assigned_ip_per_eni", &[("eni", &moved.eni)], 1);
    }

    /// Gauges are the process's, but each card writes its own figures into them.
    fn refresh(&mut self, card: u32) {
        let Some(store) = self.stores.get(&card) else { return };
        self.metrics.set("awscni_total_ip_addresses", &[], store.total as f64);
        self.metrics.set("awscni_assigned_ip_addresses", &[], store.assigned as f64);
        self.metrics.set("awscni_total_ipv4_prefixes", &[], store.cidrs().1 as f64);
        self.metrics.set("awscni_eni_allocated", &[], enis(store) as f64);
    }
}

fn enis(store: &Datastore) -> i64 {
    i64::try_from(store.enis.len()).unwrap_or(i64::MAX)
}
