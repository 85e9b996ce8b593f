//! Watches IMDS: one worker that asks for one thing at a time, each when it is due, and reports the levels that it read.
//!
//! It never ends and never fails. What it cannot read or understand it counts, logs once per change, and asks again;
//! meanwhile it is silent, because silence means "not known". It decides nothing: a notice that is gone after one poll is
//! reported as gone, and whether that means anything is the business of [`crate::interruption`].

mod health;
mod schedule;
mod spot;

use std::time::Duration;

use jiff::Timestamp;

use self::health::Health;
use self::schedule::Schedule;
use self::spot::SpotTracker;
use crate::clock::Clock;
use crate::config::ImdsConfig;
use crate::imds::documents::{self, Oddity};
use crate::imds::{Answer, Client, Item, Timing};
use crate::metrics::imds::ImdsMetrics;
use crate::signal::{Kind, Observation, SignalSource};

/// Polling faster gains little and eats into the packets that IMDS shares with DNS.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Between two attempts on the spot path while IMDS fails, so that a notice still finds dozens of polls.
const SPOT_FAILURE_PAUSE: Duration = Duration::from_secs(2);

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
    reported: Vec<Oddity>,
    skewed: bool,
}

impl ImdsMonitor {
    /// A monitor that starts with a poll at once. `boot` is when the instance booted, by the same `clock`: notices older
    /// than that belong to an earlier life of the instance. Without it no notice is considered stale.
    pub fn new(
        client: Client,
        config: &ImdsConfig,
        clock: Clock,
        metrics: ImdsMetrics,
        boot: Option<Timestamp>,
    ) -> Self {
        let now = clock.now();
        // Nodes need not agree on anything here; the fraction of the second of their start spreads them.
        let mut schedule = Schedule::new(u64::from(now.wall.subsec_nanosecond().unsigned_abs()));
        schedule.add(Item::SpotAction, config.spot_interval.max(SHORTEST_INTERVAL), SPOT_FAILURE_PAUSE, now.instant);
        Self {
            client,
            clock,
            metrics,
            schedule,
            health: Health::default(),
            spot: SpotTracker::new(boot, now),
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

    async fn poll(&mut self, item: Item) -> Option<Observation> {
        let started = self.clock.now().instant;
        let read = match self.client.get(item).await {
            Ok(answer) => self.understand(item, &answer),
            Err(error) => Err((error.reason(), error.to_string())),
        };
        let now = self.clock.now();
        match read {
            Ok(observation) => {
                self.schedule.succeeded(item, started, now.instant);
                self.metrics.succeeded(item.endpoint(), now.wall);
                self.health.succeeded(item.endpoint());
                Some(observation)
            }
            Err((reason, message)) => {
                self.schedule.failed(item, now.instant);
                self.health.failed(item.endpoint(), reason, &message);
                None
            }
        }
    }

    fn understand(&mut self, item: Item, answer: &Answer) -> Result<Observation, (&'static str, String)> {
        self.compare_clocks(&answer.timing);
        let Some(body) = &answer.body else {
            self.spot.absent(answer.timing.answered.instant);
            return Ok(Observation::of(Kind::SpotInterruption, None));
        };
        let notice = documents::spot_notice(body).map_err(|malformed| {
            self.metrics.rejected(item.endpoint(), Oddity::Malformed);
            (Oddity::Malformed.as_str(), malformed.to_string())
        })?;
        let reading = self.spot.read(notice, &answer.timing);
        for oddity in reading.oddities {
            self.metrics.rejected(item.endpoint(), oddity);
            self.report_once(oddity, &String::from_utf8_lossy(body));
        }
        if reading.without_date {
            self.metrics.deadline_without_date();
        }
        Ok(Observation::of(Kind::SpotInterruption, reading.signal))
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

    fn report_once(&mut self, oddity: Oddity, document: &str) {
        if !self.reported.contains(&oddity) {
            self.reported.push(oddity);
            let document: String = document.chars().take(200).collect();
            tracing::warn!(oddity = oddity.as_str(), ?document, "spot notice not taken as it came; reported once");
        }
    }
}

impl SignalSource for ImdsMonitor {
    /// Waits for the next level that was read. May be dropped at any time: a poll under way is then asked again.
    async fn next(&mut self) -> Observation {
        loop {
            let (item, due) = self.schedule.next();
            tokio::time::sleep_until(due).await;
            if let Some(observation) = self.poll(item).await {
                return observation;
            }
        }
    }
}
