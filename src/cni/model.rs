//! From what was read to one plain [`Headroom`]: everything that gauges, page and events say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::advice::{Doubt, Doubts, Efficiency, Trap, traps};
use super::cause::Cause;
use super::counters::Counters;
use super::departure::Departure;
use super::document::{self, Document, Shape};
use super::drift::{self, Drift};
use super::exposition::{self, Scrape};
use super::forecast::{Forecast, Present, Recorder};
use super::growth::{Counted, Sight, State, Tracker};
use super::limits::{Instance, Limit, Limits, Outlook};
use super::node::NodeFacts;
use super::pool::{Mode, PREFIX_SIZE, Pool};
use super::settings::{self, Running, Settings};
use super::source::{Confidence, Source, Streak, choose};
use super::subnet::{Refusals, Refused, SubnetShare, shares};
use super::warm::{Advisor, WarmTargets};
use crate::clock::Now;
use crate::imds::documents::network::Network;

/// What IMDS said is worth nothing after so long; the first round over the largest instance takes half of it.
const STALE: Duration = Duration::from_mins(15);

/// Why an endpoint gave nothing that could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody listens there.
    Refused,
    /// No complete answer in time.
    Timeout,
    /// The connection broke, or it was no HTTP.
    Broken,
    /// Another status than 200.
    Status(u16),
    /// Larger than it is worth holding.
    TooLarge,
    /// Not ipamd's document of interfaces.
    Interfaces(document::Refusal),
    /// Not ipamd's metrics.
    Metrics(exposition::Refusal),
    /// IMDS did not tell the network interfaces.
    Interfacing(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nobody listens there"),
            Self::Timeout => f.write_str("no complete answer in time"),
            Self::Broken => f.write_str("the connection broke or does not speak HTTP"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Interfaces(refusal) => refusal.fmt(f),
            Self::Metrics(refusal) => refusal.fmt(f),
            Self::Interfacing(reason) => f.write_str(reason),
        }
    }
}

/// What the endpoints answered this time; `None` for what was not asked.
#[derive(Debug, Default)]
pub struct Reading<'a> {
    /// `/v1/enis`.
    pub interfaces: Option<Result<&'a [u8], Problem>>,
    /// `/v1/ipamd-env-settings`; nothing hangs on its failure.
    pub settings: Option<&'a [u8]>,
    /// `/metrics`.
    pub metrics: Option<Result<&'a [u8], Problem>>,
    /// The network interfaces by IMDS, if they were read anew.
    pub network: Option<Result<Arc<Network>, Problem>>,
}

/// Everything that is known of the node's addresses at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Headroom {
    /// Where the figures come from; `None` while nobody answers.
    pub source: Option<Source>,
    /// How far they can be trusted.
    pub confidence: Confidence,
    /// What is wrong with each source that did not answer as it should.
    pub problems: BTreeMap<&'static str, String>,
    /// The addresses; `None` without a source.
    pub pool: Option<Pool>,
    /// What the pool and the pods come up against.
    pub limits: Limits,
    /// How many more pods; `None` if nothing is known.
    pub outlook: Option<Outlook>,
    /// Whether the pool can grow.
    pub state: State,
    /// Every state since the start, so that a gauge that was 1 can be 0 again.
    pub states: Vec<State>,
    /// Every limit that was the binding one since the start.
    pub bindings: Vec<Limit>,
    /// What binds, in words.
    pub cause: String,
    /// How long it lasts.
    pub forecast: Forecast,
    /// What the node holds of each subnet.
    pub subnets: BTreeMap<String, SubnetShare>,
    /// Each subnet that ever refused: whether EC2 did so within the last ten minutes.
    pub refusals: BTreeMap<String, bool>,
    /// The same as one word, for a drain that can wait.
    pub refused: Option<Refused>,
    /// Warm targets that would do, once enough is known.
    pub warm: Option<WarmTargets>,
    /// Interfaces left for pods with security groups of their own; `None` where the node has none.
    pub branch_headroom: Option<i64>,
    /// What a cordoned node has given back.
    pub departure: Option<Departure>,
    /// The release of the CNI, if its metrics tell.
    pub version: Option<String>,
    /// How ipamd's document is laid out.
    pub shape: Option<Shape>,
    /// How well the addresses are used; `None` in IPv6 and without a source.
    pub efficiency: Option<Efficiency>,
    /// Settings that are traps.
    pub traps: Vec<Trap>,
    /// Sums that have not added up for some time.
    pub doubts: Vec<Doubt>,
}

impl Headroom {
    /// Free addresses beyond the warm target that would do, where they are more than the CNI keeps by default, which is less
    /// than two interfaces' worth, or two prefixes.
    pub fn notable_idle(&self) -> Option<i64> {
        let (warm, pool) = self.warm.zip(self.pool.as_ref())?;
        let step = if pool.prefixes > 0 { PREFIX_SIZE } else { self.limits.per_eni? };
        Some(warm.idle(pool.free())).filter(|idle| *idle >= 2 * step)
    }
}

/// The memory from one reading to the next.
#[derive(Debug, Default)]
pub struct Model {
    introspection: Streak,
    metrics: Streak,
    imds: Streak,
    problems: BTreeMap<&'static str, String>,
    empty: bool,
    document: Option<Document>,
    network: Option<Arc<Network>>,
    running: Option<Running>,
    scrape: Option<Scrape>,
    instance: Instance,
    source: Option<Source>,
    /// Without a beat since then; restarted by each.
    beatless_since: Option<tokio::time::Instant>,
    tracker: Tracker,
    recorder: Recorder,
    doubts: Doubts,
    drift: Drift,
    refusals: Refusals,
    advisor: Advisor,
    departure: Option<Departure>,
    states: Vec<State>,
    bindings: Vec<Limit>,
    /// What ipamd counted between the last two scrapes, until somebody takes it.
    counted: Option<Counters>,
}

impl Model {
    /// Takes up a reading. `None` if there has never been a sign of the Amazon VPC CNI on this node.
    pub fn observe(&mut self, now: Now, reading: &Reading<'_>, node: &NodeFacts) -> Option<Headroom> {
        if let Some(answer) = &reading.interfaces {
            self.take_interfaces(answer);
        }
        if let Some(running) = reading.settings.and_then(settings::running) {
            self.running = Some(running);
        }
        if let Some(answer) = &reading.network {
            self.take_network(answer);
        }
        let counted = reading.metrics.as_ref().and_then(|answer| self.take_metrics(answer));
        if let Some(Counted::Since(counters)) = &counted {
            self.recorder.counted(now.instant, counters);
            self.counted = Some(*counters);
        }
        let known = self.introspection.has_answered() || self.metrics.has_answered() || node.aws_node.is_some();
        known.then(|| self.headroom(now, counted, node))
    }

    /// What ipamd has counted since the scrape before, once for each scrape.
    pub fn take_counted(&mut self) -> Option<Counters> {
        self.counted.take()
    }

    /// What is wrong with each source at present.
    pub fn problems(&self) -> &BTreeMap<&'static str, String> {
        &self.problems
    }

    fn take_interfaces(&mut self, answer: &Result<&[u8], Problem>) {
        let read = answer.clone().and_then(|body| document::document(body).map_err(Problem::Interfaces));
        self.empty = read == Err(Problem::Interfaces(document::Refusal::Empty));
        match read {
            Ok(document) => {
                self.document = Some(document);
                self.introspection.succeeded();
                self.problems.remove(Source::Introspection.as_str());
            }
            Err(problem) => {
                self.introspection.failed();
                self.problems.insert(Source::Introspection.as_str(), problem.to_string());
            }
        }
    }

    fn take_metrics(&mut self, answer: &Result<&[u8], Problem>) -> Option<Counted> {
        match answer.clone().and_then(|body| exposition::scrape(body).map_err(Problem::Metrics)) {
            Ok(new) => {
                self.metrics.succeeded();
                self.problems.remove(Source::Metrics.as_str());
                let counters = new.counters;
                let instance = Instance::of(new.eni_max, new.ip_max);
                self.instance = Instance {
                    eni_max: instance.eni_max.or(self.instance.eni_max),
                    per_eni: instance.per_eni.or(self.instance.per_eni),
                };
                let before = self.scrape.replace(new);
                Some(match before {
                    None => Counted::First(counters),
                    Some(before) => Counted::Since(counters.since(&before.counters)),
                })
            }
            Err(problem) => {
                self.metrics.failed();
                self.problems.insert(Source::Metrics.as_str(), problem.to_string());
                None
            }
        }
    }

    fn take_network(&mut self, answer: &Result<Arc<Network>, Problem>) {
        match answer {
            Ok(network) => {
                self.network = Some(network.clone());
                self.imds.succeeded();
                self.problems.remove(Source::Imds.as_str());
            }
            Err(problem) => {
                self.imds.failed();
                self.problems.insert(Source::Imds.as_str(), problem.to_string());
            }
        }
    }

    /// What IMDS said last, if it is still worth something.
    fn fresh_network(&self, now: Now) -> Option<Arc<Network>> {
        let fresh = |network: &&Arc<Network>| now.instant.duration_since(network.since) < STALE;
        self.network.as_ref().filter(fresh).filter(|_| !self.imds.is_gone()).cloned()
    }

    fn headroom(&mut self, now: Now, scraped: Option<Counted>, node: &NodeFacts) -> Headroom {
        let settings = Settings::of(node.aws_node.as_deref(), self.running.as_ref());
        let network = self.fresh_network(now);
        let imds = if network.is_some() { self.imds } else { Streak::default() };
        let source = choose(self.introspection, self.metrics, imds);
        let source_changed = std::mem::replace(&mut self.source, source) != source;
        let mode = Mode::of(self.instance.per_eni, &settings, self.document.as_ref());
        let pool = self.pool(source, mode, &settings, now, network.as_deref(), node);
        let nothing = Pool::default();
        let limits =
            Limits::of(pool.as_ref().unwrap_or(&nothing), mode, self.instance, &settings, node.max_pods, node.pods);
        let neither = self.introspection.is_gone() && self.metrics.is_gone();
        let sight = Sight {
            down: neither,
            pool: pool.as_ref(),
            source_changed,
            mode,
            limits: &limits,
            settings: &settings,
            cordoned: node.cordoned,
            scraped,
        };
        let state = self.tracker.step(now.instant, &sight);
        let since = match scraped {
            Some(Counted::Since(counters)) => Some(counters),
            _ => None,
        };
        self.refusals.step(now.instant, pool.as_ref(), limits.per_eni, since, self.tracker.grew());
        let outlook = Outlook::of(pool.as_ref(), &limits, state);
        let forecast = self.forecast(now, pool.as_ref(), &limits, outlook, state);
        let exact_pool = pool.as_ref().filter(|_| source == Some(Source::Introspection));
        self.departure = Departure::step(self.departure, node.cordoned, exact_pool, since);
        let warm = self.warm(exact_pool, since, &forecast);
        let subnets = shares(pool.as_ref().unwrap_or(&nothing), network.as_deref(), node);
        remember(&mut self.states, Some(state));
        remember(&mut self.bindings, outlook.map(|outlook| outlook.binding));
        let cards = pool.as_ref().map_or(0, |pool| pool.cards);
        let exact = source == Some(Source::Introspection) && cards == 1 && state != State::Stalled;
        let ipv4 = pool.as_ref().filter(|pool| !pool.ipv6);
        Headroom {
            source,
            confidence: if exact { Confidence::Exact } else { Confidence::Estimate },
            problems: self.problems.clone(),
            cause: Cause {
                state,
                binding: outlook.map(|outlook| outlook.binding),
                limits: &limits,
                mode,
                refusals: self.tracker.refusals(),
                refused: self.refused(),
                subnets: &subnets,
                hint: self.tracker.hint(),
            }
            .to_string(),
            limits,
            outlook,
            state,
            states: self.states.clone(),
            bindings: self.bindings.clone(),
            forecast,
            refusals: self.refusals.told(&subnets),
            refused: self.refused(),
            warm,
            branch_headroom: node.branch_capacity.map(|capacity| capacity.saturating_sub(node.branches)),
            departure: self.departure,
            version: self.scrape.as_ref().and_then(|scrape| scrape.version.clone()),
            shape: self.document.as_ref().map(|document| document.shape),
            subnets,
            efficiency: ipv4.map(|pool| Efficiency::of(pool, &limits, node)),
            traps: traps(&settings, mode, &limits),
            doubts: self.doubts(now, source, scraped, pool.as_ref(), node, network.as_deref()),
            pool,
        }
    }

    /// Said only of the pool that is known address by address, of one card, of IPv4.
    fn warm(&mut self, pool: Option<&Pool>, since: Option<Counters>, forecast: &Forecast) -> Option<WarmTargets> {
        let pool = pool.filter(|pool| !pool.ipv6 && pool.cards == 1)?;
        if let Some(counters) = since {
            self.advisor.note(counters.adds, pool.cooldown.unwrap_or_default(), pool.assigned);
        }
        self.advisor.advice(forecast.refill)
    }

    fn refused(&self) -> Option<Refused> {
        let subnets: Vec<String> = self.refusals.lately().into_iter().filter(|subnet| !subnet.is_empty()).collect();
        self.refusals.until().map(|until| Refused { subnets: subnets.join(" or "), until })
    }

    fn pool(
        &self,
        source: Option<Source>,
        mode: Mode,
        settings: &Settings,
        now: Now,
        network: Option<&Network>,
        node: &NodeFacts,
    ) -> Option<Pool> {
        let mut pool = match source? {
            Source::Introspection => Pool::of(self.document.as_ref()?, mode, settings.cooldown_seconds(), now.wall),
            Source::Metrics => Pool::estimate(self.scrape.as_ref()?)?,
            Source::Imds => Pool::attached(network?, settings, node.addressed_pods),
        };
        if let Some(network) = network {
            pool.name_subnets(network);
        }
        pool.ipv6 |= settings.ipv6 == Some(true);
        Some(pool)
    }

    fn forecast(
        &mut self,
        now: Now,
        pool: Option<&Pool>,
        limits: &Limits,
        outlook: Option<Outlook>,
        state: State,
    ) -> Forecast {
        let Some((pool, outlook)) = pool.filter(|pool| !pool.ipv6).zip(outlook) else { return Forecast::default() };
        let carried = limits.per_eni.map(|each| each.saturating_mul(pool.enis));
        let present = Present {
            assigned: pool.assigned,
            free: pool.free(),
            cooldown: pool.cooldown,
            reachable: outlook.reachable,
            slot_free: carried.is_some_and(|most| pool.total < most),
            throttled: state == State::Throttled,
        };
        self.recorder.forecast(now.instant, &present)
    }

    fn doubts(
        &mut self,
        now: Now,
        source: Option<Source>,
        scraped: Option<Counted>,
        pool: Option<&Pool>,
        node: &NodeFacts,
        network: Option<&Network>,
    ) -> Vec<Doubt> {
        let exact = pool.filter(|_| source == Some(Source::Introspection));
        let (empty, beats) = (self.empty, self.beats(now, scraped));
        let ipv6 = pool.is_some_and(|pool| pool.ipv6);
        let both = self.document.as_ref().filter(|_| exact.is_some()).zip(network);
        let drifts = both.is_some_and(|(document, network)| self.drift.step(now.instant, document, network));
        if both.is_none() {
            self.drift.forget();
        }
        let primary = both.is_some_and(|(document, network)| drift::holds_a_primary(document, network));
        self.doubts.step(now.instant, |doubt| match doubt {
            Doubt::TotalMismatch => exact.is_some_and(|pool| pool.mismatch != 0),
            Doubt::Leak => exact.is_some_and(|pool| node.max_pods.is_some() && pool.assigned > node.addressed_pods),
            Doubt::PoolManagerStuck => !beats && !ipv6,
            Doubt::EmptyDocument => empty,
            Doubt::Drift => drifts,
            Doubt::PrimaryInPool => primary,
        })
    }

    /// Whether the pool manager showed a sign of life since the last scrape, or could not because there was none.
    fn beats(&mut self, now: Now, scraped: Option<Counted>) -> bool {
        match scraped {
            Some(Counted::Since(Counters { heartbeat: Some(0), .. })) => {
                self.beatless_since.get_or_insert(now.instant);
            }
            Some(_) => self.beatless_since = None,
            None => {}
        }
        self.beatless_since.is_none()
    }
}

fn remember<T: PartialEq>(seen: &mut Vec<T>, new: Option<T>) {
    if let Some(new) = new.filter(|new| !seen.contains(new)) {
        seen.push(new);
    }
}

#[cfg(test)]
mod tests;
