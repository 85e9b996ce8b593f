//! Watches IMDS: one worker that asks for one thing at a time, each when it is due, and reports the levels that it read.
//!
//! It never ends and never fails. What it cannot read or understand it counts, logs once per change, and asks again;
//! meanwhile it is silent, because silence means "not known". It decides nothing: a notice that is gone after one poll is
//! reported as gone, and whether that means anything is the business of [`crate::interruption`].
//!
//! Each kind of signal has a tracker, a pure function of what was read so far; this file asks, and hands them the answers.

mod boot;
mod health;
mod lifecycle;
pub mod network;
mod reading;
mod rebalance;
mod schedule;
mod scheduled;
mod spot;

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

use self::boot::Boot;
use self::health::Health;
use self::lifecycle::LifecycleTracker;
use self::network::{Round, Walk};
use self::reading::Reading;
use self::rebalance::RebalanceTracker;
use self::schedule::Schedule;
use self::scheduled::ScheduledTracker;
use self::spot::SpotTracker;
use crate::clock::Clock;
use crate::config::ImdsConfig;
use crate::imds::documents::{self, Malformed, Oddity, ScheduledEvents};
use crate::imds::{Answer, Client, Item, LEISURE, Timing};
use crate::metrics::imds::ImdsMetrics;
use crate::signal::{Kind, Observation, SignalSource};

/// Polling faster gains little and eats into the packets that IMDS shares with DNS.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Between two attempts on the spot path while IMDS fails, so that a notice still finds dozens of polls.
const SPOT_FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Between two attempts elsewhere.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);

/// Between the first polls of the others, which do not matter by the second: not all at once with the spot notice.
const STAGGER: Duration = Duration::from_millis(500);

/// Before the second attempt at the history of events, which an announcement of an end waits for.
const HISTORY_PAUSE: Duration = Duration::from_secs(2);

/// A difference between the node's clock and the platform's that deserves a line in the log.
const NOTABLE_SKEW_SECONDS: f64 = 5.0;

/// The signals of one EC2 instance, read from IMDS.
pub struct ImdsMonitor {
    client: Client,
    clock: Clock,
    metrics: ImdsMetrics,
    schedule: Schedule,
    health: Health,
    spot: SpotTracker,
    rebalance: RebalanceTracker,
    scheduled: ScheduledTracker,
    lifecycle: LifecycleTracker,
    walk: Walk,
    /// Where the network interfaces are told.
    network: watch::Sender<Option<Round>>,
    reported: Vec<(Item, Oddity)>,
    skewed: bool,
}

impl ImdsMonitor {
    /// A monitor of `kinds`, and of nothing else, that starts with a poll at once. `boot` is when the instance booted, by
    /// the same `clock`: announcements older than that belong to an earlier life of the instance. Without it none is
    /// considered stale.
    pub fn new(
        client: Client,
        config: &ImdsConfig,
        kinds: impl IntoIterator<Item = Kind>,
        clock: Clock,
        metrics: ImdsMetrics,
        boot: Option<Timestamp>,
    ) -> Self {
        let now = clock.now();
        // Nodes need not agree on anything here; the fraction of the second of their start spreads them.
        let mut schedule = Schedule::new(u64::from(now.wall.subsec_nanosecond().unsigned_abs()));
        let mut others_from = now.instant;
        for kind in kinds {
            let (item, interval) = match kind {
                Kind::SpotInterruption => (Item::SpotAction, config.spot_interval),
                Kind::RebalanceRecommendation => (Item::Rebalance, config.rebalance_interval),
                Kind::ScheduledEvent => (Item::ScheduledEvents, config.scheduled_interval),
                Kind::AsgTermination => (Item::TargetLifecycleState, config.asg_interval),
            };
            let interval = interval.max(SHORTEST_INTERVAL);
            if kind == Kind::SpotInterruption {
                schedule.add(item, interval, SPOT_FAILURE_PAUSE, now.instant);
            } else {
                others_from += STAGGER;
                schedule.add(item, interval, FAILURE_PAUSE, others_from);
            }
        }
        let boot = Boot::new(boot, now);
        Self {
            client,
            clock,
            metrics,
            schedule,
            health: Health::default(),
            spot: SpotTracker::new(boot),
            rebalance: RebalanceTracker::new(boot),
            scheduled: ScheduledTracker::new(boot),
            lifecycle: LifecycleTracker::default(),
            walk: Walk::new(),
            network: watch::Sender::new(None),
            reported: Vec::new(),
            skewed: false,
        }
    }

    /// The same monitor with another, reproducible jitter.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.schedule.reseed(seed);
        self
    }

    /// Whether the network interfaces are read too, at leisure: at most one round a minute, and never so that a poll for the
    /// spot notice waits for it.
    pub fn read_network(&mut self, wanted: bool) {
        if wanted {
            self.schedule.add_leisurely(Item::Interfaces, self.clock.now().instant);
        } else {
            self.schedule.remove(Item::Interfaces);
        }
    }

    /// What the last round over the network interfaces ended with; `None` before the first.
    pub fn network(&self) -> watch::Receiver<Option<Round>> {
        self.network.subscribe()
    }

    /// Asks the next question of the round over the network interfaces.
    async fn step_network(&mut self) {
        let (item, started) = (self.walk.item(), self.clock.now().instant);
        self.schedule.started(item, started);
        let read = match timeout(LEISURE, self.client.get(item)).await {
            Ok(Ok(answer)) => self.walk.read(item, answer.body.as_deref(), started).map_err(|malformed| {
                self.metrics.rejected(Oddity::Malformed);
                (Oddity::Malformed.as_str(), malformed.to_string())
            }),
            Ok(Err(error)) => Err((error.reason(), error.to_string())),
            Err(_) => Err(("timeout", "IMDS is too slow to ask for network interfaces now".to_owned())),
        };
        match read {
            Ok(None) => {}
            Ok(Some(network)) => {
                self.health.succeeded(Item::Interfaces);
                self.network.send_replace(Some(Ok(network.into())));
            }
            Err((reason, message)) => {
                self.walk.abandon(started);
                self.health.failed(Item::Interfaces, reason, &message);
                self.network.send_replace(Some(Err(message)));
            }
        }
        let next = self.walk.next_at(self.clock.now().instant);
        self.schedule.postpone(Item::Interfaces, next);
    }

    async fn poll(&mut self, item: Item) -> Option<Observation> {
        let started = self.clock.now().instant;
        self.schedule.started(item, started);
        let read = match self.client.get(item).await {
            Ok(answer) => self.understand(item, &answer).map_err(|malformed| {
                self.metrics.rejected(Oddity::Malformed);
                (Oddity::Malformed.as_str(), malformed.to_string())
            }),
            Err(error) => Err((error.reason(), error.to_string())),
        };
        let now = self.clock.now();
        match read {
            Ok(observation) => {
                self.schedule.succeeded(item, started, now.instant);
                self.health.succeeded(item);
                // The history is read now and then, and says nothing of whether the events to come can be read.
                if item != Item::EventHistory {
                    self.metrics.succeeded(item.endpoint(), now.wall);
                }
                self.plan_history();
                observation
            }
            Err((reason, message)) => {
                self.schedule.failed(item, now.instant);
                self.health.failed(item, reason, &message);
                None
            }
        }
    }

    /// What the answer amounts to; nothing if it is only a part of it.
    fn understand(&mut self, item: Item, answer: &Answer) -> Result<Option<Observation>, Malformed> {
        let timing = &answer.timing;
        self.compare_clocks(timing);
        let (kind, reading) = match (item, &answer.body) {
            (Item::Rebalance, body) => (Kind::RebalanceRecommendation, self.rebalance(body.as_deref(), timing)?),
            (Item::ScheduledEvents, body) => {
                let list = body.as_ref().map_or(Ok(nothing_planned()), |body| documents::scheduled_events(body))?;
                self.count_elements(item, &list);
                (Kind::ScheduledEvent, self.scheduled.read(&list, timing))
            }
            (Item::EventHistory, body) => {
                let list = body.as_ref().map_or(Ok(nothing_planned()), |body| documents::event_history(body))?;
                self.count_elements(item, &list);
                let Some(reading) = self.scheduled.read_history(&list) else { return Ok(None) };
                (Kind::ScheduledEvent, reading)
            }
            (Item::TargetLifecycleState, body) => (Kind::AsgTermination, self.lifecycle(body.as_deref())?),
            (_, body) => (Kind::SpotInterruption, self.spot(body.as_deref(), timing)?),
        };
        for oddity in &reading.oddities {
            self.count(item, *oddity, &String::from_utf8_lossy(answer.body.as_deref().unwrap_or_default()));
        }
        if reading.without_date {
            self.metrics.deadline_without_date();
        }
        Ok(Some(reading.observation(kind)))
    }

    fn spot(&mut self, body: Option<&[u8]>, timing: &Timing) -> Result<Reading, Malformed> {
        let Some(body) = body else {
            self.spot.absent(timing.answered.instant);
            return Ok(Reading::nothing());
        };
        Ok(self.spot.read(documents::spot_notice(body)?, timing))
    }

    fn rebalance(&mut self, body: Option<&[u8]>, timing: &Timing) -> Result<Reading, Malformed> {
        let Some(body) = body else {
            self.rebalance.absent(timing.answered.instant);
            return Ok(Reading::nothing());
        };
        Ok(self.rebalance.read(documents::rebalance_recommendation(body)?, timing))
    }

    fn lifecycle(&mut self, body: Option<&[u8]>) -> Result<Reading, Malformed> {
        let Some(body) = body else {
            self.lifecycle.absent();
            return Ok(Reading::nothing());
        };
        Ok(self.lifecycle.read(documents::lifecycle_state(body)?))
    }

    /// Asks for the history as long as an event is missing that it may tell of.
    fn plan_history(&mut self) {
        if self.scheduled.wants_history() {
            let now = self.clock.now().instant;
            self.schedule.add_once(Item::EventHistory, HISTORY_PAUSE, FAILURE_PAUSE, now);
        } else {
            self.schedule.remove(Item::EventHistory);
        }
    }

    fn compare_clocks(&mut self, timing: &Timing) {
        let Some(skew) = timing.clock_skew() else { return };
        let seconds = skew.as_secs_f64();
        self.metrics.clock_skew(seconds);
        let skewed = seconds.abs() > NOTABLE_SKEW_SECONDS;
        if skewed && !self.skewed {
            tracing::warn!(seconds, "the node's clock differs from the platform's; deadlines follow the platform's");
        }
        self.skewed = skewed;
    }

    fn count_elements(&mut self, item: Item, list: &ScheduledEvents) {
        for (oddity, element) in &list.oddities {
            self.count(item, *oddity, element);
        }
    }

    /// Counts it each time and logs it once.
    fn count(&mut self, item: Item, oddity: Oddity, document: &str) {
        self.metrics.rejected(oddity);
        if !self.reported.contains(&(item, oddity)) {
            self.reported.push((item, oddity));
            let document: String = document.chars().take(200).collect();
            let (path, oddity) = (item.path(), oddity.as_str());
            tracing::warn!(%path, oddity, ?document, "a document of IMDS was not taken as it came; reported once");
        }
    }
}

/// An absent list is an empty one.
fn nothing_planned() -> ScheduledEvents {
    ScheduledEvents { complete: true, ..ScheduledEvents::default() }
}

impl SignalSource for ImdsMonitor {
    /// Waits for the next level that was read. May be dropped at any time: a poll under way is then asked again.
    async fn next(&mut self) -> Observation {
        loop {
            let (item, due) = self.schedule.next(self.clock.now().instant);
            tokio::time::sleep_until(due).await;
            if item.is_leisurely() {
                self.step_network().await;
            } else if let Some(observation) = self.poll(item).await {
                return observation;
            }
        }
    }
}
