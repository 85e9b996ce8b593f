//! Which warm targets would do for what this node has been asked for: advice, never a change.
//!
//! `WARM_IP_TARGET` has to carry the node over one refill: as many addresses as pods asked for within that time in all but
//! one of a hundred readings, and those that rest. `MINIMUM_IP_TARGET` is that beside the pods that are usually there.

use std::collections::BTreeMap;

/// Fewer readings than an hour's say too little.
const LEAST: u32 = 240;
/// After a day's readings the older ones count half.
const MOST: u32 = 5760;
/// More of anything than a node has.
const LARGEST: i64 = 4096;
/// Seconds between two readings.
const READING: f64 = 15.0;
/// A refill that takes longer than ten minutes is a fault, and none that a reserve should make up for.
const MOST_SPANS: i32 = 40;

/// What would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmTargets {
    /// For `WARM_IP_TARGET`.
    pub warm_ip: i64,
    /// For `MINIMUM_IP_TARGET`.
    pub minimum_ip: i64,
}

impl WarmTargets {
    /// Whether `other` is so close that a change would be restlessness.
    fn is_like(self, other: Self) -> bool {
        let close = |a: i64, b: i64| (a - b).abs() <= (b / 4).max(1);
        close(self.warm_ip, other.warm_ip) && close(self.minimum_ip, other.minimum_ip)
    }

    /// Free addresses beyond the target, which the subnet could have back.
    pub fn idle(self, free: i64) -> i64 {
        (free - self.warm_ip).max(0)
    }
}

/// How often each number was read.
#[derive(Clone, Debug, Default)]
struct Tally(BTreeMap<i64, u32>);

impl Tally {
    fn note(&mut self, number: i64) {
        *self.0.entry(number.clamp(0, LARGEST)).or_default() += 1;
    }

    fn halve(&mut self) {
        self.0.values_mut().for_each(|times| *times /= 2);
        self.0.retain(|_, times| *times > 0);
    }

    /// The least number that `hundredths` of all readings do not exceed.
    fn percentile(&self, hundredths: u64) -> i64 {
        let all: u64 = self.0.values().map(|times| u64::from(*times)).sum();
        let mut below = 0;
        for (number, times) in &self.0 {
            below += u64::from(*times);
            if below * 100 >= all * hundredths {
                return *number;
            }
        }
        0
    }
}

/// The memory of the advice: three histograms.
#[derive(Clone, Debug, Default)]
pub struct Advisor {
    adds: Tally,
    resting: Tally,
    assigned: Tally,
    readings: u32,
    told: Option<WarmTargets>,
}

impl Advisor {
    /// Takes up one reading: addresses that pods asked for since the one before, those that rest and those in use.
    pub fn note(&mut self, adds: u64, resting: i64, assigned: i64) {
        self.adds.note(i64::try_from(adds).unwrap_or(i64::MAX));
        self.resting.note(resting);
        self.assigned.note(assigned);
        self.readings += 1;
        if self.readings >= MOST {
            self.readings /= 2;
            [&mut self.adds, &mut self.resting, &mut self.assigned].into_iter().for_each(Tally::halve);
        }
    }

    /// What would do, if a refill takes `refill` seconds; `None` before enough was read. Stays as it is until it is off by
    /// more than a quarter.
    pub fn advice(&mut self, refill: Option<f64>) -> Option<WarmTargets> {
        if self.readings < LEAST {
            return None;
        }
        // A reading is the least span that is counted.
        let refill = refill.unwrap_or(READING);
        let spans = (1..MOST_SPANS).find(|spans| f64::from(*spans) * READING >= refill).unwrap_or(MOST_SPANS);
        let warm_ip = self.adds.percentile(99).saturating_mul(spans.into()) + self.resting.percentile(95);
        let new = WarmTargets { warm_ip, minimum_ip: self.assigned.percentile(50) + warm_ip };
        let kept = self.told.filter(|told| new.is_like(*told)).unwrap_or(new);
        self.told = Some(kept);
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_advice_before_an_hour() {
        let mut advisor = Advisor::default();
        (1..LEAST).for_each(|_| advisor.note(1, 0, 8));
        assert_eq!(advisor.advice(None), None);
        advisor.note(1, 0, 8);
        assert_eq!(advisor.advice(None), Some(WarmTargets { warm_ip: 1, minimum_ip: 9 }));
    }

    #[test]
    fn the_target_is_what_comes_within_a_refill_and_what_rests() {
        let mut advisor = Advisor::default();
        // Three in a reading, five in one of fifty; two rest in one of ten; six to ten are in use.
        for reading in 0..1000_u64 {
            let adds = if reading % 50 == 0 { 5 } else { 3 };
            let resting = if reading % 10 == 0 { 2 } else { 0 };
            advisor.note(adds, resting, 6 + i64::try_from(reading % 5).unwrap());
        }
        assert_eq!(advisor.advice(Some(6.0)), Some(WarmTargets { warm_ip: 5 + 2, minimum_ip: 8 + 7 }));
        advisor.told = None;
        assert_eq!(advisor.advice(Some(31.0)).map(|targets| targets.warm_ip), Some(3 * 5 + 2));
    }

    #[test]
    fn advice_does_not_follow_every_pod_and_forgets_what_is_long_ago() {
        let mut advisor = Advisor::default();
        (0..LEAST).for_each(|_| advisor.note(4, 0, 20));
        assert_eq!(advisor.advice(None), Some(WarmTargets { warm_ip: 4, minimum_ip: 24 }));
        (0..LEAST * 4).for_each(|_| advisor.note(5, 0, 21));
        assert_eq!(advisor.advice(None), Some(WarmTargets { warm_ip: 4, minimum_ip: 24 }), "close enough");
        (0..MOST * 10).for_each(|_| advisor.note(0, 0, 2));
        assert_eq!(advisor.advice(None), Some(WarmTargets { warm_ip: 0, minimum_ip: 2 }));
        assert!(advisor.readings < MOST && advisor.adds.0.len() == 1, "{advisor:?}");
    }

    #[test]
    fn what_is_beyond_the_target_is_idle() {
        let targets = WarmTargets { warm_ip: 3, minimum_ip: 9 };
        assert_eq!([-2, 3, 10].map(|free| targets.idle(free)), [0, 0, 7]);
    }
}
