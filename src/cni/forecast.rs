//! How long the addresses will last, and whether ipamd keeps up with the pods.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::counters::{Counters, Latencies};

/// What a slope is taken from.
const WINDOW: Duration = Duration::from_mins(10);
/// What the rate of new pods is taken from: starvation is a matter of bursts.
const BURST: Duration = Duration::from_mins(2);
/// A pod that found no address counts for so long: the scrape after the one that told it comes within this.
const LATELY: Duration = Duration::from_secs(30);
/// Fewer are no trend.
const LEAST_SAMPLES: usize = 5;
/// However often somebody samples.
const MOST_SAMPLES: usize = 64;
/// Less than one address in ten minutes is rest.
const FLAT: f64 = 1.0 / 600.0;
/// ipamd looks at its pool about so often.
const PASS_SECONDS: f64 = 5.0;
/// Assumed for a fill and for a new interface, the pass included, as long as none was measured.
const ASSUMED_FILL: f64 = 6.0;
const ASSUMED_INTERFACE: f64 = 15.0;

/// What lies ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Assigned addresses per second; `None` while there are too few samples.
    pub slope: Option<f64>,
    /// Seconds until the free addresses are used up; `None` unless they become fewer.
    pub exhausted_now: Option<f64>,
    /// Seconds until everything that can be reached is used up; `None` unless it becomes less.
    pub exhausted_reachable: Option<f64>,
    /// Seconds that ipamd needs for the next addresses; `None` where it cannot tell (throttled).
    pub refill: Option<f64>,
    /// Pods ask for more addresses within a refill than are free.
    pub starvation: bool,
    /// No address is free, or none was when a pod asked lately, and some are resting: more addresses of the subnet would
    /// not help, a shorter rest would. An address that has just rested is free until the next pod's turn, so that a look at
    /// the free ones alone would see starvation come and go.
    pub starved: bool,
}

/// What the forecast is made of, beside its memory.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// Addresses held by pods.
    pub assigned: i64,
    /// Free addresses.
    pub free: i64,
    /// Resting addresses, if known.
    pub cooldown: Option<i64>,
    /// Pods that could start once the pool has grown.
    pub reachable: i64,
    /// An interface that is attached has room left.
    pub slot_free: bool,
    /// EC2 throttles: what a refill took before says nothing.
    pub throttled: bool,
}

/// The memory of the forecast.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    assigned: VecDeque<(Instant, i64)>,
    adds: VecDeque<(Instant, u64)>,
    latencies: Latencies,
    /// When a scrape last told of a pod that found no address.
    unavailable: Option<Instant>,
}

impl Recorder {
    /// Takes up what was counted since the scrape before.
    pub fn counted(&mut self, now: Instant, since: &Counters) {
        remember(&mut self.adds, BURST, now, since.adds);
        if since.unavailable > 0 {
            self.unavailable = Some(now);
        }
        let (total, new) = (&mut self.latencies, &since.latencies);
        for (total, new) in [
            (&mut total.assign, new.assign),
            (&mut total.create, new.create),
            (&mut total.attach, new.attach),
            (&mut total.modify, new.modify),
            (&mut total.wait, new.wait),
        ] {
            total.milliseconds += new.milliseconds;
            total.calls = total.calls.saturating_add(new.calls);
        }
    }

    /// Takes up the present and looks ahead from it.
    pub fn forecast(&mut self, now: Instant, present: &Present) -> Forecast {
        remember(&mut self.assigned, WINDOW, now, present.assigned);
        let slope = self.slope();
        let ends_in = |addresses: i64| slope.filter(|slope| *slope > 0.0).map(|slope| addresses.max(0) as f64 / slope);
        let refill = (!present.throttled).then(|| self.refill_seconds(present.slot_free));
        let lacked = self.unavailable.is_some_and(|at| now.duration_since(at) < LATELY);
        let wanted = self.adds_per_second(now) * refill.unwrap_or(ASSUMED_INTERFACE);
        Forecast {
            slope,
            exhausted_now: ends_in(present.free),
            exhausted_reachable: ends_in(present.reachable),
            refill,
            starvation: wanted > present.free.max(0) as f64,
            starved: (present.free <= 0 || lacked) && present.cooldown.is_some_and(|resting| resting > 0),
        }
    }

    /// Theil and Sen's: the median slope of all pairs, which a burst in between does not move.
    fn slope(&self) -> Option<f64> {
        if self.assigned.len() < LEAST_SAMPLES {
            return None;
        }
        let mut slopes = Vec::new();
        for (place, (from, before)) in self.assigned.iter().enumerate() {
            for (to, after) in self.assigned.iter().skip(place + 1) {
                let seconds = to.duration_since(*from).as_secs_f64();
                if seconds > 0.0 {
                    slopes.push((after - before) as f64 / seconds);
                }
            }
        }
        slopes.sort_by(f64::total_cmp);
        let median = slopes.get(slopes.len() / 2).copied().unwrap_or_default();
        Some(if median.abs() < FLAT { 0.0 } else { median })
    }

    fn adds_per_second(&self, now: Instant) -> f64 {
        let recent = self.adds.iter().filter(|(at, _)| now.duration_since(*at) < BURST);
        recent.map(|(_, adds)| *adds as f64).sum::<f64>() / BURST.as_secs_f64()
    }

    fn refill_seconds(&self, slot_free: bool) -> f64 {
        let latencies = &self.latencies;
        if slot_free {
            return latencies.assign.mean_seconds().map_or(ASSUMED_FILL, |assign| PASS_SECONDS + assign);
        }
        let steps = [latencies.create, latencies.attach, latencies.modify, latencies.wait];
        let measured: Option<f64> = steps.iter().map(super::counters::Latency::mean_seconds).sum();
        measured.map_or(ASSUMED_INTERFACE, |steps| PASS_SECONDS + steps)
    }
}

fn remember<T>(samples: &mut VecDeque<(Instant, T)>, window: Duration, now: Instant, value: T) {
    samples.push_back((now, value));
    while samples.len() > MOST_SAMPLES || samples.front().is_some_and(|(at, _)| now.duration_since(*at) > window) {
        samples.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::counters::Latency;

    fn present(assigned: i64, free: i64) -> Present {
        Present { assigned, free, cooldown: Some(0), reachable: free, slot_free: true, throttled: false }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// Samples every 15 s, the last of them with its forecast.
    fn after(assigned: &[i64], free: i64) -> Forecast {
        let start = Instant::now();
        let mut recorder = Recorder::default();
        let mut forecast = Forecast::default();
        for (place, assigned) in assigned.iter().enumerate() {
            forecast = recorder.forecast(at(start, 15 * place as u64), &present(*assigned, free));
        }
        forecast
    }

    #[tokio::test]
    async fn the_time_to_exhaustion_is_what_is_free_by_the_slope() {
        let forecast = after(&[10, 13, 16, 19, 22], 40);
        assert_eq!(forecast.slope, Some(0.2));
        assert_eq!((forecast.exhausted_now, forecast.exhausted_reachable), (Some(200.0), Some(200.0)));
    }

    #[tokio::test]
    async fn fewer_than_five_samples_are_no_trend() {
        assert_eq!(after(&[10, 13, 16, 19], 40).slope, None);
    }

    #[tokio::test]
    async fn rest_and_decline_have_no_time_to_exhaustion() {
        for samples in [[10, 10, 10, 10, 10], [22, 19, 16, 13, 10]] {
            let forecast = after(&samples, 40);
            assert_eq!((forecast.exhausted_now, forecast.exhausted_reachable), (None, None));
        }
        // One more in ten minutes is at the border, less is rest.
        let start = Instant::now();
        let mut recorder = Recorder::default();
        for place in 0..5 {
            recorder.forecast(at(start, 149 * place), &present(10, 4));
        }
        assert_eq!(recorder.forecast(at(start, 600), &present(10, 4)).slope, Some(0.0));
    }

    #[tokio::test]
    async fn one_burst_does_not_move_the_slope() {
        assert_eq!(after(&[10, 10, 10, 40, 10, 10, 10], 5).slope, Some(0.0));
    }

    #[tokio::test]
    async fn samples_older_than_ten_minutes_and_more_than_can_be_kept_go() {
        let start = Instant::now();
        let mut recorder = Recorder::default();
        for place in 0..10 {
            recorder.forecast(at(start, place), &present(10, 4));
        }
        assert_eq!(recorder.forecast(at(start, 700), &present(90, 4)).slope, None, "one sample is left");
        for place in 0..1000 {
            recorder.forecast(at(start, 700) + Duration::from_millis(place), &present(90, 4));
        }
        assert_eq!(recorder.assigned.len(), MOST_SAMPLES);
    }

    #[tokio::test]
    async fn a_refill_takes_what_ec2_took_lately() {
        let start = Instant::now();
        let mut recorder = Recorder::default();
        let none = recorder.forecast(start, &present(1, 1));
        assert_eq!(none.refill, Some(ASSUMED_FILL));
        let fresh = recorder.forecast(start, &Present { slot_free: false, ..present(1, 1) });
        assert_eq!(fresh.refill, Some(ASSUMED_INTERFACE));
        let each = |milliseconds| Latency { milliseconds, calls: 2 };
        let latencies = Latencies {
            assign: each(1000.0),
            create: each(2000.0),
            attach: each(3000.0),
            modify: each(1000.0),
            wait: each(8000.0),
        };
        recorder.counted(start, &Counters { latencies, ..Counters::default() });
        assert_eq!(recorder.forecast(start, &present(1, 1)).refill, Some(5.5));
        let interface = recorder.forecast(start, &Present { slot_free: false, ..present(1, 1) });
        assert_eq!(interface.refill, Some(12.0));
        let throttled = recorder.forecast(start, &Present { throttled: true, ..present(1, 1) });
        assert_eq!(throttled.refill, None);
    }

    #[tokio::test]
    async fn starvation_is_foreseen_when_pods_ask_faster_than_a_refill_comes() {
        let start = Instant::now();
        let mut recorder = Recorder::default();
        // Half a pod per second, six seconds for a fill.
        recorder.counted(start, &Counters { adds: 60, ..Counters::default() });
        assert!(recorder.forecast(start, &present(10, 2)).starvation);
        assert!(!recorder.forecast(start, &present(10, 3)).starvation);
        assert!(!recorder.forecast(at(start, 121), &present(10, 0)).starvation, "the burst is over");
    }

    #[tokio::test]
    async fn starved_is_no_free_address_while_some_rest() {
        let start = Instant::now();
        let mut recorder = Recorder::default();
        for (free, cooldown, starved) in
            [(0, Some(2), true), (1, Some(2), false), (0, Some(0), false), (0, None, false)]
        {
            let present = Present { cooldown, ..present(4, free) };
            assert_eq!(recorder.forecast(start, &present).starved, starved, "{present:?}");
        }
        // A pod found none; a moment later one has rested enough.
        recorder.counted(start, &Counters { unavailable: 1, ..Counters::default() });
        for (seconds, cooldown, starved) in [(0, 2, true), (29, 2, true), (29, 0, false), (30, 2, false)] {
            let present = Present { cooldown: Some(cooldown), ..present(4, 1) };
            assert_eq!(recorder.forecast(at(start, seconds), &present).starved, starved, "{seconds} {cooldown}");
        }
    }
}
