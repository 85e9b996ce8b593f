//! From successive reads of `events/recommendations/rebalance` to one signal with one time of issue. Pure.
//!
//! A recommendation is never withdrawn and has no deadline. When it was issued tells an old one from a new one, so its
//! time is its name; a service whose time slides with each read must not seem to recommend again and again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::boot::Boot;
use super::reading::Reading;
use crate::clock::Now;
use crate::imds::Timing;
use crate::imds::deadline::{Basis, Interval};
use crate::imds::documents::{Oddity, RebalanceRecommendation};
use crate::signal::{Action, Kind, Signal};

/// Two recommendations do not come this close; the time has been moved.
const SLIDE: SignedDuration = SignedDuration::from_mins(10);

/// The item has to be absent for so long before its return with another time is another recommendation.
const GAP: Duration = Duration::from_mins(1);

/// A time of issue cannot be ahead; so much is left to clocks.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// What was read so far.
#[derive(Debug)]
pub(super) struct RebalanceTracker {
    boot: Boot,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    /// As it was read first, which is what it is called by.
    first: Option<Timestamp>,
    /// As it was read last.
    last: Option<Timestamp>,
    issued: Option<(Now, Basis)>,
    absent_since: Option<Instant>,
}

impl Known {
    /// Whether a recommendation of `time`, read now, is this one. One without a readable time is.
    fn is(&self, time: Option<Timestamp>) -> bool {
        let slid = |time: Timestamp| self.last.is_some_and(|last| time.duration_since(last).abs() <= SLIDE);
        time.is_none_or(|time| self.first == Some(time) || slid(time))
    }
}

impl RebalanceTracker {
    /// Nothing was read yet.
    pub(super) fn new(boot: Boot) -> Self {
        Self { boot, known: None }
    }

    /// The item is absent, which says nothing of what was recommended before.
    pub(super) fn absent(&mut self, now: Instant) {
        let Some(known) = &mut self.known else { return };
        let since = *known.absent_since.get_or_insert(now);
        if now.saturating_duration_since(since) > GAP {
            self.known = None;
        }
    }

    /// The item says `recommendation`.
    pub(super) fn read(&mut self, recommendation: RebalanceRecommendation, timing: &Timing) -> Reading {
        let time = recommendation.notice_time;
        if time.is_some_and(|time| self.boot.is_after(time, timing)) {
            return Reading { oddities: vec![Oddity::Stale], ..Reading::nothing() };
        }
        let ahead = time.is_some_and(|time| time.duration_since(timing.platform_now()) > CLOCK_TOLERANCE);
        let odd = [(time.is_none(), Oddity::NoTime), (ahead, Oddity::FarFuture)];
        let oddities = odd.into_iter().filter_map(|(is, oddity)| is.then_some(oddity)).collect();
        let known = match self.known.take().filter(|known| known.is(time)) {
            Some(known) => known,
            None => Known { first: time, last: time, issued: None, absent_since: None },
        };
        let fresh = known.first.map(|first| issued(first, timing));
        let issued = match (known.issued, fresh) {
            (Some(old), Some(new)) if new.1 > old.1 => Some(new),
            (old, new) => old.or(new),
        };
        self.known = Some(Known { first: known.first, last: time.or(known.last), issued, absent_since: None });
        let name = known.first.map_or_else(|| "unknown".to_owned(), |first| first.to_string());
        let id = format!("{}/{name}", Kind::RebalanceRecommendation.as_str());
        let signal = Signal {
            issued: issued.map(|(issued, _)| issued),
            ..Signal::new(Kind::RebalanceRecommendation, id, Action::Terminate)
        };
        Reading { signals: vec![signal], oddities, ..Reading::nothing() }
    }
}

/// When it was issued on both clocks; what lies ahead was issued now.
fn issued(time: Timestamp, timing: &Timing) -> (Now, Basis) {
    let (interval, basis) = Interval::place(time, timing);
    let now = Now { instant: timing.asked.instant, wall: timing.platform_now() };
    (Now { instant: interval.lo.min(now.instant), wall: time.min(now.wall) }, basis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::signal::Others;

    const ORIGIN: i64 = 1_774_974_744;

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(ORIGIN + seconds).unwrap()
    }

    fn origin() -> Now {
        Now { instant: Instant::now() + Duration::from_secs(1_000_000), wall: wall(0) }
    }

    /// An answer that took no time, `seconds` after the origin, from a platform whose clock equals the guest's.
    fn timing(origin: Now, seconds: u64) -> Timing {
        let now = origin.plus(Duration::from_secs(seconds));
        Timing { asked: now, answered: now, date: Some(now.wall) }
    }

    fn recommended(time: Option<i64>) -> RebalanceRecommendation {
        RebalanceRecommendation { notice_time: time.map(wall) }
    }

    fn tracker(origin: Now) -> RebalanceTracker {
        RebalanceTracker::new(Boot::new(Some(wall(-3600)), origin))
    }

    #[rstest]
    #[case::just_now(0, Some(-1), 0, &[])]
    #[case::an_hour_ago(-3000, Some(-3001), -3000, &[])]
    #[case::clocks_differ(30, Some(0), 0, &[])]
    #[case::far_ahead(9_000_000, Some(0), 0, &[Oddity::FarFuture])]
    #[tokio::test(start_paused = true)]
    async fn a_recommendation_is_called_by_its_time_and_placed_on_both_clocks(
        #[case] time: i64,
        #[case] instant: Option<i64>,
        #[case] written: i64,
        #[case] oddities: &[Oddity],
    ) {
        let origin = origin();
        let reading = tracker(origin).read(recommended(Some(time)), &timing(origin, 0));
        let signal = &reading.signals[0];
        assert_eq!(signal.id, format!("rebalance-recommendation/{}", wall(time)));
        let issued = instant.map(|at| Now { instant: origin.instant_of(wall(at)), wall: wall(written) });
        assert_eq!((signal.issued, reading.oddities.as_slice()), (issued, oddities));
        assert_eq!((signal.kind, signal.deadline), (Kind::RebalanceRecommendation, None));
        assert_eq!(reading.others, Others::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_readable_time_it_is_a_recommendation_all_the_same() {
        let origin = origin();
        let mut tracker = tracker(origin);
        let reading = tracker.read(recommended(None), &timing(origin, 0));
        assert_eq!(reading.oddities, [Oddity::NoTime]);
        let expected =
            Signal::new(Kind::RebalanceRecommendation, "rebalance-recommendation/unknown", Action::Terminate);
        assert_eq!(reading.signals, [expected]);
        let timed = tracker.read(recommended(Some(5)), &timing(origin, 5));
        let untimed = tracker.read(recommended(None), &timing(origin, 10));
        assert_eq!(untimed.signals, timed.signals);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_slides_with_each_read_is_one_recommendation() {
        let origin = origin();
        let mut tracker = tracker(origin);
        let first = tracker.read(recommended(Some(0)), &timing(origin, 0));
        for at in (5_u64..7200).step_by(5) {
            // Even if it is gone for a moment now and then.
            if at % 15 == 0 {
                tracker.absent(timing(origin, at).answered.instant);
                continue;
            }
            assert_eq!(tracker.read(recommended(Some(i64::try_from(at).unwrap())), &timing(origin, at)), first);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_jumps_or_returns_after_a_gap_is_another_recommendation() {
        let origin = origin();
        let mut tracker = tracker(origin);
        let mut id = |time, at| tracker.read(recommended(Some(time)), &timing(origin, at)).signals[0].id.clone();
        let first = id(0, 5);
        assert_eq!(id(600, 600), first);
        assert_ne!(id(1201, 1201), first);
        assert_eq!(id(1201, 1300), format!("rebalance-recommendation/{}", wall(1201)));
        tracker.absent(timing(origin, 1305).answered.instant);
        tracker.absent(timing(origin, 1366).answered.instant);
        let after = tracker.read(recommended(Some(1370)), &timing(origin, 1370));
        assert_eq!(after.signals[0].id, format!("rebalance-recommendation/{}", wall(1370)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_recommendation_from_before_this_boot_is_stale() {
        let origin = origin();
        let reading = tracker(origin).read(recommended(Some(-3601)), &timing(origin, 0));
        assert_eq!((reading.signals.len(), reading.oddities), (0, vec![Oddity::Stale]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_platform_clock_replaces_the_guest_clock_and_a_step_of_the_guest_clock_moves_nothing() {
        let origin = origin();
        let mut tracker = tracker(origin);
        let ahead = Now { wall: wall(3000), ..origin };
        let blind = Timing { asked: ahead, answered: ahead, date: None };
        let guessed = tracker.read(recommended(Some(0)), &blind).signals[0].issued.unwrap();
        assert_eq!(guessed.instant, origin.instant_of(wall(-3000)));
        let placed = tracker.read(recommended(Some(0)), &timing(origin, 0)).signals[0].issued.unwrap();
        assert_eq!(placed.instant, origin.instant_of(wall(-1)));
        assert_eq!(tracker.read(recommended(Some(0)), &blind).signals[0].issued, Some(placed));
        let stepped = Timing { asked: ahead, answered: ahead, date: Some(wall(0)) };
        assert_eq!(tracker.read(recommended(Some(0)), &stepped).signals[0].issued, Some(placed));
    }

    proptest! {
        /// Whatever is read in whatever order: no panic, never ahead of now, never said to be over.
        #[test]
        fn a_recommendation_is_never_from_the_future(
            reads in proptest::collection::vec(
                (proptest::option::of(proptest::option::of(-9_000_000_000_i64..9_000_000_000)), 0_u64..500, any::<bool>()),
                1..50,
            ),
        ) {
            let origin = origin();
            let mut tracker = tracker(origin);
            let mut at = 0;
            for (read, pause, dated) in reads {
                at += pause;
                let mut timing = timing(origin, at);
                timing.date = timing.date.filter(|_| dated);
                let Some(time) = read else {
                    tracker.absent(timing.answered.instant);
                    continue;
                };
                let reading = tracker.read(recommended(time), &timing);
                prop_assert_eq!(reading.others, Others::Unknown);
                for issued in reading.signals.iter().filter_map(|signal| signal.issued) {
                    prop_assert!(issued.instant <= timing.asked.instant && issued.wall <= timing.platform_now());
                }
            }
        }
    }
}
