//! The arithmetic of stopping a pod before the power goes.
//!
//! With deadline `D`, shutdown tail and safety margin, every process must have ended by the *limit*
//! `D + tail − margin`. All functions are exact on whole seconds, which is the API's resolution.

use std::time::Duration;

use tokio::time::Instant;

/// A stop this close past the limit is on time: an accepted eviction ends its grace one round trip after the instant
/// that the grace was cut to fit.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A re-truncation must leave the API server's rebased deletion time in the future; deletion times have whole seconds.
const REBASE_GUARD: Duration = Duration::from_secs(2);

/// The last act comes this long before the limit: one second of grace and the two seconds that the kubelet always leaves
/// between SIGTERM and SIGKILL.
pub const LAST_ACT: Duration = Duration::from_secs(3);

/// The grace to send now: the pod's own, cut to what is left until the limit, at least 1 s.
///
/// A pod whose own grace fits but for a fraction of a second keeps it. What is sent at the latest start always goes out a
/// moment after it, and would otherwise lose a whole second to rounding.
pub fn granted(own: Duration, now: Instant, limit: Option<Instant>) -> u32 {
    let left = limit.map_or(own, |limit| limit.saturating_duration_since(now));
    let fitting = if own < left + TOLERANCE { own } else { left };
    u32::try_from(fitting.as_secs()).unwrap_or(u32::MAX).max(1)
}

/// The latest instant at which a stop with the pod's full grace still ends by the limit.
pub fn latest_start(own: Duration, limit: Instant) -> Instant {
    // Subtraction fails only where the clock's type ends, centuries before boot on Linux.
    limit.checked_sub(own).unwrap_or(limit)
}

/// A stop that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When the first deletion was accepted; a later, shorter grace is rebased on this by the API server.
    pub began: Instant,
    /// The grace in force.
    pub grace: Duration,
    /// When the kubelet will kill what still runs.
    pub ends: Instant,
}

/// What to do about a stop that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// It ends in time.
    None,
    /// Delete again with this grace: the API server accepts it and the kubelet restarts the stop with it.
    Shorten(u32),
    /// A shorter grace sent now would collapse to one second; come back for the last act.
    LastActAt(Instant),
}

/// Whether a stop ends too late, and the one thing that helps.
///
/// The API server rebases a shorter grace `r` on the first deletion (`began + r`), and collapses it to 1 s when that lies
/// in the past. So it is sent only while `r ≥ elapsed + 2 s`; otherwise nothing is gained before the last act.
pub fn correction(stopping: Stopping, now: Instant, limit: Instant) -> Correction {
    if stopping.ends <= limit + TOLERANCE {
        return Correction::None;
    }
    let remaining = Duration::from_secs(limit.saturating_duration_since(now).as_secs());
    if stopping.grace <= Duration::from_secs(1) {
        // Nothing shorter exists; asking again would only be answered "no change".
        return Correction::None;
    }
    let elapsed = now.saturating_duration_since(stopping.began);
    if remaining >= elapsed + REBASE_GUARD && remaining < stopping.grace {
        return Correction::Shorten(granted(remaining, now, Some(limit)));
    }
    let last_act = limit.checked_sub(LAST_ACT).unwrap_or(limit);
    if now >= last_act { Correction::Shorten(1) } else { Correction::LastActAt(last_act) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[rstest]
    #[case::fits(30, 117, 30)]
    #[case::cut_to_what_is_left(300, 117, 117)]
    #[case::a_second_short_is_short(30, 29, 29)]
    #[case::at_least_one(30, 0, 1)]
    #[case::own_zero_is_one(0, 117, 1)]
    #[tokio::test]
    async fn grace_is_the_own_one_cut_to_the_time_left(#[case] own: u64, #[case] left: u64, #[case] expected: u32) {
        let now = Instant::now();
        assert_eq!(granted(secs(own), now, Some(now + secs(left))), expected);
    }

    #[tokio::test]
    async fn fractions_of_a_second_are_rounded_down() {
        let now = Instant::now();
        assert_eq!(granted(secs(300), now, Some(now + Duration::from_millis(9_999))), 9);
    }

    #[tokio::test]
    async fn a_moment_after_the_latest_start_the_own_grace_is_still_granted() {
        let now = Instant::now();
        assert_eq!(granted(secs(30), now, Some(now + Duration::from_millis(29_980))), 30);
    }

    #[tokio::test]
    async fn without_a_deadline_the_own_grace_is_granted() {
        assert_eq!(granted(secs(3600), Instant::now(), None), 3600);
    }

    /// Vectors: deletion with 300 s at 0, limit at 120.
    #[rstest]
    #[case::early(10, Correction::Shorten(110))]
    #[case::exact(58, Correction::Shorten(62))]
    #[case::just_possible(59, Correction::Shorten(61))]
    #[tokio::test]
    async fn a_foreign_stop_is_shortened_while_rebasing_is_exact(#[case] at: u64, #[case] expected: Correction) {
        let began = Instant::now();
        let stopping = Stopping { began, grace: secs(300), ends: began + secs(300) };
        assert_eq!(correction(stopping, began + secs(at), began + secs(120)), expected);
    }

    #[rstest]
    #[case(60)]
    #[case(70)]
    #[case(116)]
    #[tokio::test]
    async fn past_the_middle_nothing_is_sent_before_the_last_act(#[case] at: u64) {
        let began = Instant::now();
        let stopping = Stopping { began, grace: secs(300), ends: began + secs(300) };
        let limit = began + secs(120);
        assert_eq!(correction(stopping, began + secs(at), limit), Correction::LastActAt(began + secs(117)));
        assert_eq!(correction(stopping, began + secs(117), limit), Correction::Shorten(1));
    }

    #[tokio::test]
    async fn a_stop_that_ends_at_the_limit_is_left_alone() {
        let began = Instant::now();
        let stopping = Stopping { began, grace: secs(120), ends: began + secs(120) + Duration::from_millis(900) };
        assert_eq!(correction(stopping, began + secs(119), began + secs(120)), Correction::None);
    }
}
