//! Time as a value. Decisions receive a [`Now`]; only this module reads the machine's wall clock.
//!
//! Deadlines are compared on the monotonic clock alone, so a step of the guest's wall clock moves nothing. Wall time is
//! kept beside it for what leaves the process: annotations, events, pages.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic; every comparison uses this.
    pub instant: Instant,
    /// Wall clock in UTC; for people and for what is written down.
    pub wall: Timestamp,
}

impl Now {
    /// The same moment shifted on both clocks.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self { instant: self.instant + by, wall: saturating_add(self.wall, by) }
    }

    /// The monotonic instant at which the wall clock shows `wall`, seen from this moment. A time before the clock's
    /// origin is clamped to now: a deadline that has passed needs no further distinction.
    pub fn instant_of(self, wall: Timestamp) -> Instant {
        let ahead = wall.duration_since(self.wall);
        if ahead.is_negative() {
            self.instant.checked_sub(ahead.unsigned_abs()).unwrap_or(self.instant)
        } else {
            // A far future beyond the clock's range is as good as ten years ahead.
            let ahead = ahead.unsigned_abs();
            self.instant.checked_add(ahead).unwrap_or(self.instant + Duration::from_secs(315_360_000))
        }
    }

    /// The wall time at `instant`, seen from this moment.
    pub fn wall_of(self, instant: Instant) -> Timestamp {
        if instant >= self.instant {
            saturating_add(self.wall, instant - self.instant)
        } else {
            saturating_sub(self.wall, self.instant - instant)
        }
    }
}

/// Where a process takes its time from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clocks.
    System,
    /// Wall time derived from the runtime's clock: `wall` was shown at `instant`. On a paused runtime both move together.
    Anchored(Now),
}

impl Clock {
    /// A clock whose wall time starts at `wall` now and follows the runtime's monotonic clock.
    pub fn anchored(wall: Timestamp) -> Self {
        Self::Anchored(Now { instant: Instant::now(), wall })
    }

    /// Reads both clocks.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Now {
        let instant = Instant::now();
        match self {
            Self::System => Now { instant, wall: Timestamp::now() },
            Self::Anchored(origin) => Now { instant, wall: origin.wall_of(instant) },
        }
    }
}

/// When the kernel booted, by the machine's wall clock; None where `/proc` does not tell.
pub fn booted_at() -> Option<Timestamp> {
    boot_time(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// Identity of the kernel's boot, in the form in which the kubelet reports it; None where `/proc` does not tell.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The `btime` line of `/proc/stat`: seconds since the epoch.
fn boot_time(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

fn saturating_add(wall: Timestamp, by: Duration) -> Timestamp {
    wall.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn saturating_sub(wall: Timestamp, by: Duration) -> Timestamp {
    wall.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_time_is_one_line_of_proc_stat() {
        let stat = "cpu  1 2 3\nintr 5\nbtime 1774974744\nprocesses 9\n";
        assert_eq!(boot_time(stat), Timestamp::from_second(1_774_974_744).ok());
        assert_eq!(boot_time("cpu 1\n"), None);
        assert_eq!(boot_time("btime soon\n"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn wall_time_and_instants_convert_both_ways() {
        let clock = Clock::anchored("2026-03-31T16:32:24Z".parse().unwrap());
        let now = clock.now();
        let later = now.plus(Duration::from_secs(120));
        assert_eq!(now.instant_of(later.wall), later.instant);
        assert_eq!(now.wall_of(later.instant), later.wall);
        assert_eq!(later.instant_of(now.wall), now.instant);
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(clock.now(), later);
    }

    #[tokio::test]
    async fn times_beyond_the_clocks_range_are_clamped() {
        let now = Clock::anchored(Timestamp::UNIX_EPOCH).now();
        assert!(now.instant_of(Timestamp::MAX) > now.instant);
        assert!(now.instant_of(Timestamp::MIN) <= now.instant);
        assert_eq!(Now { wall: Timestamp::MAX, ..now }.plus(Duration::from_secs(1)).wall, Timestamp::MAX);
    }
}
