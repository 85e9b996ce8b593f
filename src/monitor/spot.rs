//! From successive reads of `spot/instance-action` to one signal with one deadline. Pure.
//!
//! Two reads of one announcement must give one id and a deadline that only moves for a reason: a repeated time narrows
//! the interval, an earlier time is taken, and a later one (a time that slides with each read, say) is not.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::boot::Boot;
use super::reading::Reading;
use crate::imds::Timing;
use crate::imds::deadline::{Basis, Interval};
use crate::imds::documents::{Oddity, SpotNotice};
use crate::signal::{Action, Deadline, Kind, Signal};

/// What EC2 gives before it terminates or stops a spot instance. Assumed when a notice does not say its time.
const MINIMUM_NOTICE: Duration = Duration::from_mins(2);

/// No spot notice comes this far ahead; a time beyond it is a defect of whoever wrote it.
const LONGEST_NOTICE: SignedDuration = SignedDuration::from_mins(15);

/// A notice that is gone is forgotten this long after its deadline. Until then its absence is taken for noise, and its
/// return for the same announcement.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What was read so far.
#[derive(Debug)]
pub(super) struct SpotTracker {
    boot: Boot,
    /// At most one per action.
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    action: Action,
    time: Timestamp,
    interval: Interval,
    basis: Basis,
}

impl SpotTracker {
    /// Nothing was read yet.
    pub(super) fn new(boot: Boot) -> Self {
        Self { boot, known: Vec::new() }
    }

    /// The item is absent.
    pub(super) fn absent(&mut self, now: Instant) {
        self.known.retain(|known| now.saturating_duration_since(known.interval.hi) < REMEMBERED);
    }

    /// The item says `notice`.
    pub(super) fn read(&mut self, notice: SpotNotice, timing: &Timing) -> Reading {
        let mut oddities = Vec::new();
        if notice.time.is_some_and(|time| self.boot.is_after(time, timing)) {
            return Reading { oddities: vec![Oddity::Stale], ..Reading::nothing() };
        }
        let action = notice.action.unwrap_or_else(|| {
            oddities.push(Oddity::UnknownWord);
            Action::Terminate
        });
        let fresh = match notice.time {
            None => {
                oddities.push(Oddity::NoTime);
                assumed(action, timing)
            }
            Some(time) if time.duration_since(timing.platform_now()) > LONGEST_NOTICE => {
                oddities.push(Oddity::FarFuture);
                assumed(action, timing)
            }
            Some(time) => {
                let (interval, basis) = Interval::place(time, timing);
                Known { action, time, interval, basis }
            }
        };
        let known = self.merge(fresh);
        let id = format!("{}/{}", Kind::SpotInterruption.as_str(), action.as_str());
        let deadline = Some(Deadline { instant: known.interval.lo, wall: known.time });
        let signal = Signal { deadline, ..Signal::new(Kind::SpotInterruption, id, action) };
        let without_date = known.basis == Basis::GuestClock;
        Reading { signals: vec![signal], oddities, without_date, ..Reading::nothing() }
    }

    fn merge(&mut self, fresh: Known) -> Known {
        let Some(known) = self.known.iter_mut().find(|known| known.action == fresh.action) else {
            self.known.push(fresh);
            return fresh;
        };
        if fresh.time < known.time || (fresh.time == known.time && fresh.basis > known.basis) {
            *known = fresh;
        } else if fresh.time == known.time && fresh.basis == known.basis {
            known.interval = known.interval.refined_by(fresh.interval);
        }
        *known
    }
}

/// A notice without a usable time: the minimum lead from the moment it was seen.
fn assumed(action: Action, timing: &Timing) -> Known {
    let time = timing.platform_now().checked_add(MINIMUM_NOTICE).unwrap_or(Timestamp::MAX);
    let interval = Interval::at(timing.asked.instant + MINIMUM_NOTICE);
    Known { action, time, interval, basis: Basis::PlatformClock }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::clock::Now;

    const ORIGIN: i64 = 1_774_974_744;

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(ORIGIN + seconds).unwrap()
    }

    /// The start of a test; far from the origin of the monotonic clock.
    fn origin() -> Now {
        Now { instant: Instant::now() + Duration::from_secs(1_000_000), wall: wall(0) }
    }

    /// An answer that took no time, `seconds` after the origin, from a platform whose clock equals the guest's.
    fn timing(origin: Now, seconds: u64) -> Timing {
        let now = origin.plus(Duration::from_secs(seconds));
        Timing { asked: now, answered: now, date: Some(now.wall) }
    }

    fn terminate(time: Option<i64>) -> SpotNotice {
        SpotNotice { action: Some(Action::Terminate), time: time.map(wall) }
    }

    fn deadline(reading: &Reading) -> Deadline {
        reading.signals[0].deadline.unwrap()
    }

    #[rstest]
    #[case::as_announced(Some(120), 119, 120, &[])]
    #[case::late(Some(40), 39, 40, &[])]
    #[case::now(Some(0), -1, 0, &[])]
    #[case::in_the_past(Some(-600), -601, -600, &[])]
    #[case::at_the_limit(Some(900), 899, 900, &[])]
    #[case::beyond_the_limit(Some(901), 120, 120, &[Oddity::FarFuture])]
    #[case::absurd(Some(9_000_000), 120, 120, &[Oddity::FarFuture])]
    #[case::no_time(None, 120, 120, &[Oddity::NoTime])]
    #[tokio::test(start_paused = true)]
    async fn a_notice_gets_a_deadline(
        #[case] time: Option<i64>,
        #[case] instant: i64,
        #[case] written: i64,
        #[case] oddities: &[Oddity],
    ) {
        let origin = origin();
        let reading = SpotTracker::new(Boot::new(None, origin)).read(terminate(time), &timing(origin, 0));
        let expected = Deadline { instant: origin.instant_of(wall(instant)), wall: wall(written) };
        assert_eq!((deadline(&reading), reading.oddities.as_slice()), (expected, oddities));
        assert!(!reading.without_date);
    }

    #[tokio::test(start_paused = true)]
    async fn an_assumed_deadline_stays_where_it_was_first_assumed() {
        for time in [None, Some(100_000)] {
            let origin = origin();
            let mut tracker = SpotTracker::new(Boot::new(None, origin));
            let first = deadline(&tracker.read(terminate(time), &timing(origin, 0)));
            let later = deadline(&tracker.read(terminate(time), &timing(origin, 50)));
            assert_eq!(later, first);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_action_is_read_as_terminate() {
        let origin = origin();
        let notice = SpotNotice { action: None, time: Some(wall(120)) };
        let reading = SpotTracker::new(Boot::new(None, origin)).read(notice, &timing(origin, 0));
        assert_eq!(reading.signals[0].action, Action::Terminate);
        assert_eq!(reading.oddities, [Oddity::UnknownWord]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sliding_time_is_one_event_with_the_earliest_deadline() {
        let origin = origin();
        let mut tracker = SpotTracker::new(Boot::new(None, origin));
        let read: Vec<_> = (0_u64..100)
            .map(|at| tracker.read(terminate(Some(120 + i64::try_from(at).unwrap())), &timing(origin, at)))
            .collect();
        assert!(read.iter().all(|reading| reading == &read[0]));
        let earlier = tracker.read(terminate(Some(110)), &timing(origin, 100));
        assert_eq!(deadline(&earlier).wall, wall(110));
    }

    #[tokio::test(start_paused = true)]
    async fn ids_follow_the_action_alone() {
        let origin = origin();
        let mut tracker = SpotTracker::new(Boot::new(None, origin));
        for (action, id) in [
            (Action::Terminate, "spot-interruption/terminate"),
            (Action::Stop, "spot-interruption/stop"),
            (Action::Hibernate, "spot-interruption/hibernate"),
        ] {
            let notice = SpotNotice { action: Some(action), time: Some(wall(5)) };
            assert_eq!(tracker.read(notice, &timing(origin, 0)).signals[0].id, id);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_older_than_boot_is_stale_and_a_clock_that_is_off_makes_no_other_one_stale() {
        for (skew, old_is_stale) in [(-3600, false), (0, true), (3600, true)] {
            let origin = origin();
            let guest = Now { wall: wall(skew), ..origin };
            let mut tracker = SpotTracker::new(Boot::new(Some(wall(skew - 300)), guest));
            let at = |seconds| {
                let guest = guest.plus(Duration::from_secs(seconds));
                Timing { asked: guest, answered: guest, date: Some(wall(i64::try_from(seconds).unwrap())) }
            };
            for (time, stale) in [(-301, old_is_stale), (-299, false), (120, false)] {
                let reading = tracker.read(terminate(Some(time)), &at(100));
                assert_eq!(reading.oddities == [Oddity::Stale], stale, "{time} s at a skew of {skew} s");
                assert_eq!(reading.signals.is_empty(), stale);
                let blind = Timing { date: None, ..at(100) };
                assert!(!tracker.read(terminate(Some(time)), &blind).signals.is_empty());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_platform_clock_replaces_the_guest_clock_and_not_the_other_way_round() {
        let origin = origin();
        let mut tracker = SpotTracker::new(Boot::new(None, origin));
        let skewed = Now { wall: wall(60), ..origin };
        let blind = Timing { asked: skewed, answered: skewed, date: None };
        let first = tracker.read(terminate(Some(120)), &blind);
        assert!(first.without_date);
        assert_eq!(deadline(&first).instant, origin.instant_of(wall(60)));
        let seen = tracker.read(terminate(Some(120)), &timing(origin, 0));
        assert!(!seen.without_date);
        assert_eq!(deadline(&seen).instant, origin.instant_of(wall(119)));
        assert_eq!(tracker.read(terminate(Some(120)), &blind), seen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_is_noise_until_long_after_the_deadline() {
        let origin = origin();
        let mut tracker = SpotTracker::new(Boot::new(None, origin));
        let first = tracker.read(terminate(Some(120)), &timing(origin, 0));
        tracker.absent(origin.plus(Duration::from_secs(700)).instant);
        assert_eq!(tracker.read(terminate(Some(125)), &timing(origin, 2)), first);
        tracker.absent(origin.plus(Duration::from_secs(721)).instant);
        let second = tracker.read(terminate(Some(1120)), &timing(origin, 1000));
        assert_eq!(deadline(&second).wall, wall(1120));
    }

    proptest! {
        /// Whatever is read in whatever order, the announced time never moves back to a later one.
        #[test]
        fn the_announced_time_never_gets_later(
            reads in proptest::collection::vec((proptest::option::of(-1000_i64..2000), 0_u64..5, any::<bool>()), 1..50),
        ) {
            let origin = origin();
            let mut tracker = SpotTracker::new(Boot::new(None, origin));
            let (mut at, mut last) = (0, None);
            for (time, pause, dated) in reads {
                at += pause;
                let mut timing = timing(origin, at);
                timing.date = timing.date.filter(|_| dated);
                let read = deadline(&tracker.read(terminate(time), &timing));
                prop_assert!(last.is_none_or(|last| read.wall <= last));
                last = Some(read.wall);
            }
        }
    }
}
