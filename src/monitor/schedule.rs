//! What to ask IMDS next, and when.
//!
//! A poll is due at most one interval after the previous one *started*, so that a notice is never older than the interval
//! when it is asked for. Jitter only shortens, for the same reason.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::imds::Item;

/// Polls come between 90 % and 100 % of their interval apart: the middle ± 5 %.
const JITTER: f64 = 0.1;

/// The polls of one worker.
#[derive(Debug)]
pub(super) struct Schedule {
    entries: Vec<Entry>,
    jitter: Jitter,
}

#[derive(Debug)]
struct Entry {
    item: Item,
    interval: Duration,
    failure_pause: Duration,
    due: Instant,
    /// Present while the item fails.
    backoff: Option<ExponentialBackoff>,
}

impl Schedule {
    /// A schedule without polls.
    pub(super) fn new(seed: u64) -> Self {
        Self { entries: Vec::new(), jitter: Jitter(seed) }
    }

    /// Starts the jitter anew.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.jitter = Jitter(seed);
    }

    /// Polls `item` every `interval`, the first time at `now`; while it fails, pauses grow to at most `failure_pause`.
    pub(super) fn add(&mut self, item: Item, interval: Duration, failure_pause: Duration, now: Instant) {
        self.entries.push(Entry { item, interval, failure_pause, due: now, backoff: None });
    }

    /// What is due first, and when. Of equals the one that was added first.
    pub(super) fn next(&self) -> (Item, Instant) {
        let first = self.entries.iter().min_by_key(|entry| entry.due);
        // Without entries there is nothing to poll: look again some day.
        first.map_or_else(
            || (Item::SpotAction, Instant::now() + Duration::from_hours(24)),
            |entry| (entry.item, entry.due),
        )
    }

    /// `item` was read; the request had been started at `started`.
    pub(super) fn succeeded(&mut self, item: Item, started: Instant, now: Instant) {
        let share = self.jitter.share();
        if let Some(entry) = self.entry(item) {
            entry.backoff = None;
            entry.due = (started + entry.interval.mul_f64(share)).max(now);
        }
    }

    /// `item` could not be read.
    pub(super) fn failed(&mut self, item: Item, now: Instant) {
        let share = self.jitter.share();
        if let Some(entry) = self.entry(item) {
            let (shortest, longest) = (entry.interval.min(entry.failure_pause), entry.failure_pause);
            let backoff = entry.backoff.get_or_insert_with(|| exponential(shortest, longest));
            let pause = backoff.next().unwrap_or(longest).min(longest);
            entry.due = now + pause.mul_f64(share);
        }
    }

    fn entry(&mut self, item: Item) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.item == item)
    }
}

fn exponential(shortest: Duration, longest: Duration) -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_factor(1.5).with_min_delay(shortest).with_max_delay(longest);
    builder.without_max_times().build()
}

/// SplitMix64: small, good enough to spread polls, and the same everywhere for the same seed.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// Between `1 − JITTER` and 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        1.0 - JITTER * unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(interval: u64, now: Instant) -> Schedule {
        let mut schedule = Schedule::new(7);
        schedule.add(Item::SpotAction, Duration::from_secs(interval), Duration::from_secs(2), now);
        schedule
    }

    #[tokio::test(start_paused = true)]
    async fn polls_are_never_further_apart_than_the_interval_and_spread_below_it() {
        let mut now = Instant::now();
        let mut schedule = spot(1, now);
        let mut pauses = Vec::new();
        for _ in 0..1000 {
            schedule.succeeded(Item::SpotAction, now, now);
            let (_, due) = schedule.next();
            pauses.push(due - now);
            now = due;
        }
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*most <= Duration::from_secs(1) && *most > Duration::from_millis(995), "{most:?}");
        assert!(*least >= Duration::from_millis(900) && *least < Duration::from_millis(905), "{least:?}");
        let mean = pauses.iter().sum::<Duration>() / 1000;
        assert!(mean > Duration::from_millis(945) && mean < Duration::from_millis(955), "{mean:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_delays_the_next_poll_only_beyond_the_interval() {
        let start = Instant::now();
        let mut schedule = spot(1, start);
        schedule.succeeded(Item::SpotAction, start, start + Duration::from_millis(800));
        assert!(schedule.next().1 <= start + Duration::from_secs(1));
        let late = start + Duration::from_secs(3);
        schedule.succeeded(Item::SpotAction, start, late);
        assert_eq!(schedule.next().1, late);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_after_failures_grow_to_their_limit_and_start_over_after_a_success() {
        for interval in [1, 5] {
            let now = Instant::now();
            let mut schedule = spot(interval, now);
            let mut pauses = Vec::new();
            for _ in 0..50 {
                schedule.failed(Item::SpotAction, now);
                pauses.push(schedule.next().1 - now);
            }
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(2)), "{pauses:?}");
            assert!(pauses[10..].iter().all(|pause| *pause >= Duration::from_millis(1800)), "{pauses:?}");
            schedule.succeeded(Item::SpotAction, now, now);
            schedule.failed(Item::SpotAction, now);
            assert!(schedule.next().1 - now <= Duration::from_secs(interval));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_first_comes_first() {
        let now = Instant::now();
        let mut schedule = spot(1, now + Duration::from_secs(1));
        schedule.add(Item::LifeCycle, Duration::from_secs(5), Duration::from_secs(10), now);
        assert_eq!(schedule.next(), (Item::LifeCycle, now));
        schedule.succeeded(Item::LifeCycle, now, now);
        assert_eq!(schedule.next().0, Item::SpotAction);
    }

    #[test]
    fn the_same_seed_gives_the_same_times_and_another_seed_others() {
        let times = |seed| {
            let mut jitter = Jitter(seed);
            [jitter.share(), jitter.share(), jitter.share()].map(f64::to_bits)
        };
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }
}
