//! Whether something happened before this boot.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::clock::Now;
use crate::imds::Timing;

/// When the instance booted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    /// The uptime at a moment of the monotonic clock, so that later steps of the wall clock do not move the boot.
    uptime: Option<(SignedDuration, Instant)>,
}

impl Boot {
    /// `at` is read off the same wall clock as `now`. Without it nothing counts as older.
    pub(super) fn new(at: Option<Timestamp>, now: Now) -> Self {
        Self { uptime: at.map(|at| (now.wall.duration_since(at), now.instant)) }
    }

    /// `time` is older than this boot by the platform's clock and by the guest's: a clock that is off may cost a needless
    /// fence, but it must not hide an announcement.
    pub(super) fn is_after(&self, time: Timestamp, timing: &Timing) -> bool {
        self.uptime.zip(timing.date).is_some_and(|((uptime, at), date)| {
            let since = timing.answered.instant.saturating_duration_since(at);
            let up = SignedDuration::try_from(since).map_or(SignedDuration::MAX, |since| uptime.saturating_add(since));
            date.duration_since(time) > up && timing.answered.wall.duration_since(time) > up
        })
    }
}
