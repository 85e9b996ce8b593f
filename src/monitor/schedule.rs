//! What to ask IMDS next, and when.
//!
//! A poll is due at most one interval after the previous one *started*, so that a notice is never older than the interval
//! when it is asked for. Jitter only shortens, for the same reason. The spot notice goes before everything that is due with
//! it; the others keep their distance from each other, so that they never come in a burst.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::imds::{Item, LEISURE};

/// Polls come between 90 % and 100 % of their interval apart: the middle ± 5 %.
const JITTER: f64 = 0.1;

/// At least so long lies between the starts of two polls besides those for the spot notice.
const SPACING: Duration = Duration::from_millis(500);

/// The polls of one worker.
#[derive(Debug)]
pub(super) struct Schedule {
    entries: Vec<Entry>,
    jitter: Jitter,
    /// When a poll besides those for the spot notice may start again.
    others_from: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    item: Item,
    interval: Duration,
    failure_pause: Duration,
    due: Instant,
    /// It is over with the first success.
    once: bool,
    /// Never starts unless it ends before the next poll for the spot notice is due.
    leisurely: bool,
    /// Present while the item fails.
    backoff: Option<ExponentialBackoff>,
}

impl Schedule {
    /// A schedule without polls.
    pub(super) fn new(seed: u64) -> Self {
        Self { entries: Vec::new(), jitter: Jitter(seed), others_from: None }
    }

    /// Starts the jitter anew.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.jitter = Jitter(seed);
    }

    /// Polls `item` every `interval`, the first time at `from`; while it fails, pauses grow to at most `failure_pause`.
    pub(super) fn add(&mut self, item: Item, interval: Duration, failure_pause: Duration, from: Instant) {
        self.entries.push(Entry {
            item,
            interval,
            failure_pause,
            due: from,
            once: false,
            leisurely: false,
            backoff: None,
        });
    }

    /// Polls `item` until it was read once, beginning at `from`; pauses are those of failures, from `pause` on. Does nothing
    /// if that is under way.
    pub(super) fn add_once(&mut self, item: Item, pause: Duration, failure_pause: Duration, from: Instant) {
        if self.entry(item).is_none() {
            self.entries.push(Entry {
                item,
                interval: pause,
                failure_pause,
                due: from,
                once: true,
                leisurely: false,
                backoff: None,
            });
        }
    }

    /// Asks for `item` at leisure, the first time at `from`, then when [`Schedule::postpone`] says. Does nothing if that is
    /// under way.
    pub(super) fn add_leisurely(&mut self, item: Item, from: Instant) {
        if self.entry(item).is_none() {
            let (interval, failure_pause) = (Duration::ZERO, Duration::ZERO);
            let entry = Entry { item, interval, failure_pause, due: from, once: false, leisurely: true, backoff: None };
            self.entries.push(entry);
        }
    }

    /// Asks for `item` not before `until`.
    pub(super) fn postpone(&mut self, item: Item, until: Instant) {
        if let Some(entry) = self.entry(item) {
            entry.due = until;
        }
    }

    /// Polls `item` no more.
    pub(super) fn remove(&mut self, item: Item) {
        self.entries.retain(|entry| entry.item != item);
    }

    /// What to ask next, and when: of what is due by `now` the spot notice, else what is due for longest.
    pub(super) fn next(&self, now: Instant) -> (Item, Instant) {
        let notice = self.entries.iter().find(|entry| entry.item == Item::SpotAction);
        let due = |entry: &Entry| {
            let from = self.others_from.filter(|_| entry.item != Item::SpotAction);
            let due = from.map_or(entry.due, |from| entry.due.max(from));
            // What is at leisure comes after the notice unless it is over before that is due.
            let before = notice.map(|notice| notice.due).filter(|at| entry.leisurely && *at < due.max(now) + LEISURE);
            before.map_or(due, |at| due.max(at + Duration::from_millis(1)))
        };
        let spot = notice.filter(|entry| entry.due <= now);
        let first = spot.or_else(|| self.entries.iter().min_by_key(|entry| (due(entry), entry.due)));
        // Without entries there is nothing to poll: look again some day.
        first.map_or_else(|| (Item::SpotAction, now + Duration::from_hours(24)), |entry| (entry.item, due(entry)))
    }

    /// A request for `item` starts.
    pub(super) fn started(&mut self, item: Item, now: Instant) {
        if item != Item::SpotAction {
            self.others_from = Some(now + SPACING);
        }
    }

    /// `item` was read; the request had been started at `started`.
    pub(super) fn succeeded(&mut self, item: Item, started: Instant, now: Instant) {
        let share = self.jitter.share();
        self.entries.retain(|entry| !(entry.once && entry.item == item));
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
            let (_, due) = schedule.next(now);
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
        assert!(schedule.next(start).1 <= start + Duration::from_secs(1));
        let late = start + Duration::from_secs(3);
        schedule.succeeded(Item::SpotAction, start, late);
        assert_eq!(schedule.next(start).1, late);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_after_failures_grow_to_their_limit_and_start_over_after_a_success() {
        for interval in [1, 5] {
            let now = Instant::now();
            let mut schedule = spot(interval, now);
            let mut pauses = Vec::new();
            for _ in 0..50 {
                schedule.failed(Item::SpotAction, now);
                pauses.push(schedule.next(now).1 - now);
            }
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(2)), "{pauses:?}");
            assert!(pauses[10..].iter().all(|pause| *pause >= Duration::from_millis(1800)), "{pauses:?}");
            schedule.succeeded(Item::SpotAction, now, now);
            schedule.failed(Item::SpotAction, now);
            assert!(schedule.next(now).1 - now <= Duration::from_secs(interval));
        }
    }

    impl Schedule {
        fn notice_due(&self) -> Instant {
            self.entries.iter().find(|entry| entry.item == Item::SpotAction).unwrap().due
        }
    }

    /// A schedule of everything, all due at `now`.
    fn all(now: Instant) -> Schedule {
        let mut schedule = Schedule::new(7);
        let items =
            [(Item::TargetLifecycleState, 5), (Item::ScheduledEvents, 30), (Item::Rebalance, 5), (Item::SpotAction, 1)];
        for (item, seconds) in items {
            let pause = if item == Item::SpotAction { 2 } else { 10 };
            schedule.add(item, Duration::from_secs(seconds), Duration::from_secs(pause), now);
        }
        schedule
    }

    #[tokio::test(start_paused = true)]
    async fn the_spot_notice_goes_first_of_what_is_due_and_others_in_the_order_of_their_time() {
        let now = Instant::now();
        let mut schedule = all(now);
        assert_eq!(schedule.next(now), (Item::SpotAction, now));
        schedule.succeeded(Item::SpotAction, now, now);
        assert_eq!(schedule.next(now), (Item::TargetLifecycleState, now));
        schedule.started(Item::TargetLifecycleState, now);
        schedule.succeeded(Item::TargetLifecycleState, now, now);
        assert_eq!(schedule.next(now), (Item::ScheduledEvents, now + SPACING));
        let late = now + Duration::from_secs(2);
        assert_eq!(schedule.next(late).0, Item::SpotAction);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_once_is_asked_until_it_was_read() {
        let now = Instant::now();
        let mut schedule = Schedule::new(7);
        schedule.add_once(Item::EventHistory, Duration::from_secs(2), Duration::from_secs(10), now);
        assert_eq!(schedule.next(now), (Item::EventHistory, now));
        schedule.failed(Item::EventHistory, now);
        let (item, due) = schedule.next(now);
        assert!(item == Item::EventHistory && due > now && due <= now + Duration::from_secs(2));
        schedule.add_once(Item::EventHistory, Duration::from_secs(2), Duration::from_secs(10), now);
        assert_eq!(schedule.next(now).1, due, "it is under way already");
        schedule.succeeded(Item::EventHistory, due, due);
        assert_eq!(schedule.next(now).0, Item::SpotAction, "nothing is left");
    }

    proptest::proptest! {
        /// Whatever requests take and whether they fail: the spot notice is never kept waiting by more than one of the
        /// others, and those neither come in a burst nor starve.
        #[test]
        fn nobody_starves(polls in proptest::collection::vec((0_u64..=1500, proptest::bool::ANY), 200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let start = runtime.block_on(async { Instant::now() });
            let mut schedule = all(start);
            schedule.add_leisurely(Item::Interfaces, start);
            let mut now = start;
            let mut seen: Vec<(Item, Instant, Instant)> = Vec::new();
            for (takes, fails) in polls {
                let (item, due) = schedule.next(now);
                let begin = due.max(now);
                let leisurely = item.is_leisurely();
                now = begin + Duration::from_millis(takes).min(if leisurely { LEISURE } else { Duration::MAX });
                schedule.started(item, begin);
                if leisurely {
                    schedule.postpone(item, begin + Duration::from_secs(4));
                    let notice = schedule.notice_due();
                    proptest::prop_assert!(notice >= now, "the notice waits for what is at leisure");
                } else if fails { schedule.failed(item, now) } else { schedule.succeeded(item, begin, now) }
                seen.push((item, begin, now));
            }
            for pair in seen.windows(2) {
                let two_others = pair.iter().all(|(item, ..)| *item != Item::SpotAction);
                proptest::prop_assert!(!two_others || pair[1].1 - pair[0].1 >= SPACING);
            }
            let spot: Vec<_> = seen.iter().filter(|(item, ..)| *item == Item::SpotAction).collect();
            for pair in spot.windows(2) {
                // The pause after a failure, and one other request.
                proptest::prop_assert!(pair[1].1 - pair[0].2 <= Duration::from_millis(2000 + 1500));
            }
            let span = now - start;
            for item in [Item::Rebalance, Item::TargetLifecycleState] {
                let polls = seen.iter().filter(|(other, ..)| *other == item).count();
                proptest::prop_assert!(polls as u128 >= span.as_millis() / 20_000, "{item:?}: {polls} in {span:?}");
            }
        }
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
