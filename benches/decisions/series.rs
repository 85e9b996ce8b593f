//! Many times of the same things, and what they say together.

use std::time::Duration;

/// What each of a row of inputs cost, in every pass over the row.
pub(crate) struct Series {
    /// Per input, one time of each pass.
    inputs: Vec<Vec<Duration>>,
}

impl Series {
    /// `None` if the passes differ in length: then they did not measure the same inputs.
    pub(crate) fn of(passes: Vec<Vec<Duration>>) -> Option<Self> {
        let length = passes.first()?.len();
        let mut inputs = vec![Vec::with_capacity(passes.len()); length];
        for pass in passes {
            if pass.len() != length {
                return None;
            }
            inputs.iter_mut().zip(pass).for_each(|(times, time)| times.push(time));
        }
        for times in &mut inputs {
            times.sort();
        }
        Some(Self { inputs })
    }

    /// Number of inputs in one pass.
    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// What each input costs: the median of its passes, for what a busy machine adds is no property of the input.
    fn costs(&self) -> impl Iterator<Item = Duration> {
        self.inputs.iter().filter_map(|times| times.get(times.len() / 2)).copied()
    }

    /// The mean over the inputs.
    pub(crate) fn mean(&self) -> Duration {
        self.costs().sum::<Duration>() / u32::try_from(self.len().max(1)).unwrap_or(u32::MAX)
    }

    /// The smallest cost that 99 of 100 inputs do not exceed.
    pub(crate) fn p99(&self) -> Duration {
        let mut costs: Vec<Duration> = self.costs().collect();
        costs.sort();
        let rank = (costs.len() * 99).div_ceil(100).saturating_sub(1);
        costs.get(rank).copied().unwrap_or_default()
    }

    /// The dearest input.
    pub(crate) fn most(&self) -> Duration {
        self.costs().max().unwrap_or_default()
    }
}

pub(crate) fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}
