//! From a wall time in a document to an instant on the monotonic clock.
//!
//! The platform writes the time `A` of an action and, in the `Date` header of the same answer, its own clock `S`,
//! truncated to seconds. So at some instant between asking (`t0`) and having the head of the answer (`t1`) its clock was
//! in `[S, S + 1 s)`, and the action comes within
//!
//! ```text
//! t0 + (A − S) − 1 s  <  D  ≤  t1 + (A − S)
//! ```
//!
//! The guest's wall clock has no part in this: it may be wrong or step. Every poll gives such an interval, and their
//! intersection narrows; plans use the lower end.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::clock::Now;
use crate::imds::Timing;

/// `Date` has no fractions.
const DATE_RESOLUTION: Duration = Duration::from_secs(1);

/// Where on the monotonic clock an action lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// No earlier than this; plans use it.
    pub lo: Instant,
    /// No later than this.
    pub hi: Instant,
}

/// What an interval rests on, in ascending trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The guest's wall clock: right as far as that is.
    GuestClock,
    /// The platform's own clock.
    PlatformClock,
}

impl Interval {
    /// A known instant.
    pub fn at(instant: Instant) -> Self {
        Self { lo: instant, hi: instant }
    }

    /// Where an action at `time` lies, given the `timing` of the answer that announced it. A time in the past gives an
    /// instant in the past.
    pub fn place(time: Timestamp, timing: &Timing) -> (Self, Basis) {
        let Some(date) = timing.date else {
            let interval = Self { lo: timing.asked.instant_of(time), hi: timing.answered.instant_of(time) };
            // The wall clock may step while the answer is under way.
            return (Self { lo: interval.lo.min(interval.hi), hi: interval.lo.max(interval.hi) }, Basis::GuestClock);
        };
        let lo = Now { instant: timing.asked.instant, wall: date }.instant_of(time);
        let hi = Now { instant: timing.answered.instant, wall: date }.instant_of(time);
        (Self { lo: lo.checked_sub(DATE_RESOLUTION).unwrap_or(lo), hi }, Basis::PlatformClock)
    }

    /// What both say. If they exclude each other a clock was set in between, and the newer one counts alone.
    #[must_use]
    pub fn refined_by(self, newer: Self) -> Self {
        let (lo, hi) = (self.lo.max(newer.lo), self.hi.min(newer.hi));
        if lo <= hi { Self { lo, hi } } else { newer }
    }
}

impl Timing {
    /// The platform's clock at the answer, or the guest's if the platform did not say.
    pub fn platform_now(&self) -> Timestamp {
        self.date.unwrap_or(self.asked.wall)
    }

    /// The guest's wall clock minus the platform's, within half a second and half of the round trip; `None` without a
    /// `Date`.
    pub fn clock_skew(&self) -> Option<SignedDuration> {
        let half_trip = self.answered.wall.duration_since(self.asked.wall) / 2;
        let guest = self.asked.wall.duration_since(self.date?) + half_trip;
        // On average the truncated part of `Date` is half of its resolution.
        Some(guest - SignedDuration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: i64 = 1_774_974_744;

    fn wall(seconds: f64) -> Timestamp {
        Timestamp::from_second(ORIGIN).unwrap() + SignedDuration::from_secs_f64(seconds)
    }

    /// The answer of a platform whose clock shows `ORIGIN` at `start`, to a guest whose wall clock is off by `skew`.
    fn answer(start: Instant, asked: f64, made: f64, answered: f64, skew: f64) -> Timing {
        let now = |at: f64| Now { instant: start + Duration::from_secs_f64(at), wall: wall(at + skew) };
        let date = Timestamp::from_second(wall(made).as_second()).unwrap();
        Timing { asked: now(asked), answered: now(answered), date: Some(date) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lower_end_is_one_second_before_asking_plus_the_lead() {
        let start = Instant::now() + Duration::from_secs(1000);
        let (interval, basis) = Interval::place(wall(120.0), &answer(start, 0.0, 0.0, 0.25, 300.0));
        assert_eq!(basis, Basis::PlatformClock);
        assert_eq!(interval.lo, start + Duration::from_secs(119));
        assert_eq!(interval.hi, start + Duration::from_millis(120_250));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_date_the_guest_clock_counts() {
        let start = Instant::now() + Duration::from_secs(1000);
        let timing = Timing { date: None, ..answer(start, 0.0, 0.0, 0.25, 5.0) };
        let (interval, basis) = Interval::place(wall(120.0), &timing);
        assert_eq!(basis, Basis::GuestClock);
        assert_eq!(interval, Interval::at(start + Duration::from_secs(115)));
        assert_eq!(timing.clock_skew(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_in_the_past_lies_in_the_past() {
        let start = Instant::now() + Duration::from_secs(1000);
        let (interval, _) = Interval::place(wall(-30.0), &answer(start, 0.0, 0.0, 0.0, 0.0));
        assert_eq!(interval.hi, start - Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn readings_that_exclude_each_other_restart_from_the_newer_one() {
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        let (old, new) = (Interval { lo: at(10), hi: at(12) }, Interval { lo: at(20), hi: at(21) });
        assert_eq!(old.refined_by(new), new);
        assert_eq!(new.refined_by(old), old);
    }

    #[tokio::test(start_paused = true)]
    async fn extreme_times_are_clamped_and_never_panic() {
        let timing = answer(Instant::now(), 0.0, 0.0, 0.1, 0.0);
        for time in [Timestamp::MIN, Timestamp::MAX] {
            for date in [None, Some(Timestamp::MIN), Some(Timestamp::MAX)] {
                let timing = Timing { date, ..timing };
                let (interval, _) = Interval::place(time, &timing);
                assert!(interval.lo <= interval.hi);
                let _ = timing.clock_skew();
            }
        }
    }

    proptest! {
        /// Over any polls the truth stays inside, the interval only narrows, and neither the guest's clock nor its skew
        /// has any part in it.
        #[test]
        fn the_true_instant_is_always_inside(
            lead in -600.0_f64..600.0,
            skew in -86_400.0_f64..86_400.0,
            phase in 0.0_f64..1.0,
            polls in proptest::collection::vec((0.0_f64..3.0, 0.0_f64..=1.0, 0.0_f64..=1.0), 1..40),
        ) {
            let start = Instant::now() + Duration::from_secs(10_000);
            // A is in whole seconds, the polls are not.
            let action = Timestamp::from_second(wall(lead).as_second()).unwrap();
            let truth = Now { instant: start, wall: wall(0.0) }.instant_of(action);
            let mut at = phase;
            let mut known: Option<Interval> = None;
            for (pause, trip, share) in polls {
                at += pause;
                let timing = answer(start, at, at + trip * share, at + trip, skew);
                let (read, basis) = Interval::place(action, &timing);
                prop_assert_eq!(basis, Basis::PlatformClock);
                let next = known.map_or(read, |known| known.refined_by(read));
                // Floating point seconds are good to a microsecond here.
                let slack = Duration::from_micros(1);
                prop_assert!(next.lo <= truth + slack && truth <= next.hi + slack);
                if let Some(known) = known {
                    prop_assert!(known.lo <= next.lo && next.hi <= known.hi + slack);
                }
                let measured = timing.clock_skew().unwrap().as_secs_f64();
                prop_assert!((measured - skew).abs() <= 0.5 + trip / 2.0 + 1e-3);
                known = Some(next);
            }
        }
    }
}
