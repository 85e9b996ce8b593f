//! How fast a simulated world's time passes for the person who watches.
//!
//! A world at its own pace runs on the real clock. A faster one runs on a paused clock that is either moved in steps
//! (a pacer) or jumps whenever nothing is left to do (`max`). The runtime must be built accordingly: [`Speed::runtime`].

use std::str::FromStr;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// How many simulated seconds pass in a real one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Real time.
    Real,
    /// This many.
    Times(f64),
    /// As many as the machine can do.
    Max,
}

/// Real time between two steps.
const STEP: Duration = Duration::from_millis(2);
/// Longest step of the simulated clock: well below the shortest time-out in the agent. A machine that is busy or was
/// asleep makes the world slower, not jumpy.
const LONGEST_STEP: Duration = Duration::from_millis(100);
/// Above this every step would be the longest one; `max` has no such limit.
const FASTEST: f64 = 50.0;

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(1.0) => Ok(Self::Real),
            Ok(times) if (0.1..=FASTEST).contains(&times) => Ok(Self::Times(times)),
            _ => Err(format!("a number between 0.1 and {FASTEST}, or `max`, is valid")),
        }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Real => write!(f, "real time"),
            Self::Times(times) => write!(f, "{times} times real time"),
            Self::Max => write!(f, "as fast as the machine can"),
        }
    }
}

impl Speed {
    /// A runtime on whose clock a world at this speed can run.
    pub fn runtime(self) -> std::io::Result<Runtime> {
        Builder::new_current_thread().enable_all().start_paused(self != Self::Real).build()
    }

    /// Moves the paused clock for as long as the future is polled; never resolves.
    pub async fn pace(self) {
        match self {
            Self::Times(times) => Pacer { times }.run().await,
            Self::Real | Self::Max => std::future::pending().await,
        }
    }
}

/// Moves a paused clock in proportion to real time.
struct Pacer {
    times: f64,
}

impl Pacer {
    #[allow(clippy::disallowed_types, reason = "here real time is turned into simulated time")]
    async fn run(self) {
        let mut before = std::time::Instant::now();
        loop {
            // A blocking task keeps the runtime from jumping ahead while everything waits.
            _ = tokio::task::spawn_blocking(|| std::thread::sleep(STEP)).await;
            let now = std::time::Instant::now();
            let passed = (now - before).mul_f64(self.times);
            before = now;
            tokio::time::advance(passed.min(LONGEST_STEP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_or_max() {
        assert_eq!("1".parse(), Ok(Speed::Real));
        assert_eq!("10".parse(), Ok(Speed::Times(10.0)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        for wrong in ["0", "-3", "1000", "fast", "NaN"] {
            assert!(wrong.parse::<Speed>().unwrap_err().contains("`max`"), "{wrong}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_types, reason = "real time is what is measured")]
    fn a_paced_clock_neither_jumps_nor_stands_still() {
        let speed = Speed::Times(50.0);
        let real = std::time::Instant::now();
        speed.runtime().unwrap().block_on(async {
            tokio::select! {
                () = speed.pace() => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        });
        let took = real.elapsed();
        assert!(took >= Duration::from_millis(90), "jumped: {took:?}");
        assert!(took < Duration::from_secs(5), "stood still: {took:?}");
    }

    #[test]
    #[allow(clippy::disallowed_types, reason = "real time is what is measured")]
    fn the_fastest_clock_jumps() {
        let real = std::time::Instant::now();
        Speed::Max.runtime().unwrap().block_on(async { tokio::time::sleep(Duration::from_hours(1)).await });
        assert!(real.elapsed() < Duration::from_secs(60));
    }
}
