//! Reads ipamd every few seconds and publishes what follows. One request at a time, and nothing waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ConstantBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::advice::{Doubt, Trap};
use super::client::Client;
use super::departure::Departure;
use super::model::{Headroom, Model, Problem, Reading};
use super::node::NodeFacts;
use super::source::Source;
use super::warm::WarmTargets;
use crate::clock::Clock;
use crate::imds::documents::network::Network;
use crate::metrics::cni::CniMetrics;
use crate::monitor::network::Round;

/// Between two readings, of two requests each. ipamd logs each one and holds its lock meanwhile, so that there is to be
/// less than one in ten seconds.
const INTERVAL: Duration = Duration::from_secs(20);
/// The agents of a cluster that came up together drift apart.
const JITTER: Duration = Duration::from_secs(2);
/// Between two tries of an endpoint that has failed for long.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// The first reading waits for the own Node and its pods, but no longer: without them the room for pods seems to have no end.
const PATIENCE: Duration = Duration::from_secs(5);
/// The settings of the running process change with a restart of it alone.
const SETTINGS_INTERVAL: Duration = Duration::from_mins(5);

/// When an endpoint is to be asked again.
#[derive(Debug)]
struct Schedule {
    due: Instant,
    failures: u32,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { due: now, failures: 0 }
    }

    /// The first failures do not slow it down: after three of them another source takes over, and that should be soon.
    fn asked(&mut self, now: Instant, succeeded: bool) {
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        let doublings = self.failures.saturating_sub(super::source::PATIENCE).min(3);
        let pause = (INTERVAL * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        self.due = now + pause;
    }
}

/// What others read.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What Kubernetes knows.
    pub node: watch::Receiver<NodeFacts>,
    /// The network interfaces by IMDS.
    pub network: watch::Receiver<Option<Round>>,
}

/// Follows the pool of addresses for ever; `headroom` is what comes of it.
pub async fn follow(
    client: Client,
    clock: Clock,
    surroundings: Surroundings,
    headroom: watch::Sender<Option<Arc<Headroom>>>,
    metrics: CniMetrics,
) {
    let mut node = surroundings.node.clone();
    // Where the API server does not answer, addresses are known all the same.
    _ = timeout(PATIENCE, node.wait_for(|facts| facts.known && facts.listed)).await;
    let start = clock.now().instant;
    let mut reader = Reader {
        client,
        surroundings,
        clock,
        metrics,
        model: Model::default(),
        introspection: Schedule::new(start),
        scraping: Schedule::new(start),
        settings_due: start,
    };
    let mut log = Log::default();
    loop {
        let observed = reader.read().await;
        log.note(reader.model.problems(), observed.as_ref());
        headroom.send_replace(observed.map(Arc::new));
        sleep_until(reader.introspection.due.min(reader.scraping.due) + jitter()).await;
    }
}

/// Asks what is due, one question after the other.
struct Reader {
    client: Client,
    surroundings: Surroundings,
    clock: Clock,
    metrics: CniMetrics,
    model: Model,
    introspection: Schedule,
    scraping: Schedule,
    settings_due: Instant,
}

impl Reader {
    async fn read(&mut self) -> Option<Headroom> {
        let now = self.clock.now().instant;
        let interfaces = if self.introspection.due <= now { Some(self.client.interfaces().await) } else { None };
        // An endpoint that does not even have interfaces need not be asked for settings.
        let ask_settings = matches!(interfaces, Some(Ok(_))) && self.settings_due <= now;
        let settings = if ask_settings { self.client.settings().await.ok() } else { None };
        let scrape = if self.scraping.due <= now { Some(self.client.metrics().await) } else { None };
        if settings.is_some() {
            self.settings_due = now + SETTINGS_INTERVAL;
        }
        let reading = Reading {
            network: self.new_network(),
            interfaces: interfaces.as_ref().map(|answer| answer.as_deref().map_err(Clone::clone)),
            settings: settings.as_deref(),
            metrics: scrape.as_ref().map(|answer| answer.as_deref().map_err(Clone::clone)),
        };
        let facts = self.surroundings.node.borrow().clone();
        let told = reading.network.is_some();
        let headroom = self.model.observe(self.clock.now(), &reading, &facts);
        let asked =
            [(interfaces.is_some(), Source::Introspection), (scrape.is_some(), Source::Metrics), (told, Source::Imds)];
        for (_, source) in asked.into_iter().filter(|(asked, _)| *asked) {
            self.account(now, source);
        }
        if let Some(counters) = self.model.take_counted() {
            self.metrics.counted(&counters);
        }
        headroom
    }

    /// What the last round over the network interfaces ended with, once.
    fn new_network(&mut self) -> Option<Result<Arc<Network>, Problem>> {
        if !self.surroundings.network.has_changed().unwrap_or(false) {
            return None;
        }
        let round = self.surroundings.network.borrow_and_update().clone()?;
        Some(round.map_err(Problem::Interfacing))
    }

    fn account(&mut self, now: Instant, source: Source) {
        let succeeded = !self.model.problems().contains_key(source.as_str());
        match source {
            Source::Introspection => self.introspection.asked(now, succeeded),
            Source::Metrics => self.scraping.asked(now, succeeded),
            // It is read elsewhere, at its own pace.
            Source::Imds => {}
        }
        self.metrics.read(source, succeeded);
    }
}

/// A random part of [`JITTER`].
fn jitter() -> Duration {
    let pause = ConstantBuilder::default().with_delay(JITTER).with_jitter().build().next();
    pause.map_or(JITTER, |pause| pause.saturating_sub(JITTER))
}

/// Says what changed, once each time.
#[derive(Debug, Default)]
struct Log {
    problems: BTreeMap<&'static str, String>,
    state: Option<(&'static str, Option<&'static str>)>,
    traps: Vec<Trap>,
    doubts: Vec<Doubt>,
    warm: Option<WarmTargets>,
    waste: Waste,
    departure: Option<Departure>,
}

/// What is told of the use of addresses; each once it is so, and again when it has become so anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waste {
    beyond_max_pods: bool,
    overcommitted: bool,
    scattered: bool,
    branches_used_up: bool,
}

impl Log {
    fn note(&mut self, problems: &BTreeMap<&'static str, String>, headroom: Option<&Headroom>) {
        self.note_problems(problems, headroom.is_some());
        let Some(headroom) = headroom else { return };
        let state = (headroom.state.as_str(), headroom.source.map(Source::as_str));
        if self.state.replace(state) != Some(state) {
            let (state, source) = (state.0, state.1.unwrap_or("none"));
            tracing::info!(state, source, cause = headroom.cause, "growth of the pool of pod addresses");
        }
        for trap in headroom.traps.iter().filter(|trap| !self.traps.contains(trap)) {
            tracing::warn!(trap = trap.as_str(), advice = trap.advice(), "a setting of the CNI is a trap");
        }
        for doubt in headroom.doubts.iter().filter(|doubt| !self.doubts.contains(doubt)) {
            tracing::warn!(doubt = doubt.as_str(), advice = doubt.advice(), "what ipamd says does not add up");
        }
        self.note_use(headroom);
        self.note_departure(headroom.departure);
        self.traps.clone_from(&headroom.traps);
        self.doubts.clone_from(&headroom.doubts);
    }

    /// Advice alone: nothing is ever changed by the agent.
    fn note_use(&mut self, headroom: &Headroom) {
        if let Some(warm) = headroom.warm.filter(|warm| self.warm != Some(*warm)) {
            let idle = headroom.pool.as_ref().map_or(0, |pool| warm.idle(pool.free()));
            let (warm_ip, minimum_ip) = (warm.warm_ip, warm.minimum_ip);
            tracing::info!(warm_ip, minimum_ip, idle, "warm targets that would do for this node");
            self.warm = Some(warm);
        }
        let Some(efficiency) = headroom.efficiency else { return };
        let waste = Waste {
            beyond_max_pods: efficiency.idle_beyond_max_pods.is_some_and(|idle| idle > 0),
            overcommitted: efficiency.overcommit.is_some_and(|pods| pods > 0),
            scattered: efficiency.is_scattered(),
            branches_used_up: headroom.branch_headroom.is_some_and(|left| left <= 0),
        };
        let before = std::mem::replace(&mut self.waste, waste);
        if waste.beyond_max_pods && !before.beyond_max_pods {
            let addresses = efficiency.idle_beyond_max_pods;
            tracing::info!(addresses, "more addresses are attached than the kubelet takes pods");
        }
        if waste.overcommitted && !before.overcommitted {
            let pods = efficiency.overcommit;
            tracing::warn!(pods, "the kubelet takes more pods than there can be addresses; lower max-pods");
        }
        if waste.scattered && !before.scattered {
            let addresses = efficiency.returnable;
            tracing::info!(addresses, "pods are scattered over prefixes; packed, they would leave these to the subnet");
        }
        if waste.branches_used_up && !before.branches_used_up {
            tracing::warn!("no interface is left for pods with security groups of their own");
        }
    }

    /// What a cordoned node gives back before it goes.
    fn note_departure(&mut self, departure: Option<Departure>) {
        let before = self.departure.unwrap_or_default();
        if let Some(now) = departure.filter(|now| now.returned > before.returned) {
            tracing::info!(returned = now.returned, held = now.held, "the cordoned node has given back addresses");
        }
        if let Some(now) = departure.filter(|now| now.detached > before.detached) {
            // An instance that dies between the two steps of it leaves the interface behind, with its addresses.
            tracing::warn!(interfaces = now.detached, "ipamd detached network interfaces of a cordoned node");
        }
        self.departure = departure;
    }

    fn note_problems(&mut self, problems: &BTreeMap<&'static str, String>, known: bool) {
        for (source, problem) in problems.iter().filter(|(source, now)| self.problems.get(*source) != Some(now)) {
            if known {
                tracing::warn!(source, problem, "ipamd cannot be read here");
            } else {
                // Where the CNI is another one this is as it should be.
                tracing::debug!(source, problem, "ipamd cannot be read here");
            }
        }
        for source in self.problems.keys().filter(|source| !problems.contains_key(*source)) {
            tracing::info!(source, "ipamd can be read here again");
        }
        self.problems.clone_from(problems);
    }
}

#[cfg(test)]
mod tests;
