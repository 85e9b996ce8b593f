//! Replays ramps: pods come to a simulated ipamd one after another until none gets an address, the agent's reading of it
//! goes on beside, and what it foretold all along is held against what became true.
//!
//! The clock has to be a paused one; a ramp of an hour is over in a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ipamd::{Endpoint, Instance, NodeSpec, SimIpamd};
use crate::clock::Clock;
use crate::cni::client::Client;
use crate::cni::model::{Model, Reading};
use crate::cni::node::NodeFacts;
use crate::config::{CniConfig, LocalAddress};

/// Between two readings: the agent's interval with the mean of its jitter.
const BETWEEN_READINGS: Duration = Duration::from_secs(21);
/// ipamd comes up and fills its pool.
const STARTS: Duration = Duration::from_mins(1);
/// Pods come one by one, so that nobody can tell their rate closer than by one pod: a forecast is judged once so many came,
/// and as long as so many are to come.
const JUDGED: i64 = 15;

/// How pods come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// Between two pods.
    pub every: Duration,
    /// By how much of `every` a pod comes earlier or later than its turn, in percent; its lot is the same in each replay.
    pub jitter: u32,
    /// The instance that is filled.
    pub instance: (i64, i64),
}

/// What was foretold at one reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foretold {
    /// Since the first pod.
    pub at: Duration,
    /// Seconds until everything in reach is used up, by the agent's word.
    pub seconds: f64,
    /// The same, as it came.
    pub truth: f64,
}

impl Foretold {
    /// The error by the truth: 0.1 is a tenth.
    pub fn error(self) -> f64 {
        (self.seconds - self.truth).abs() / self.truth
    }
}

/// Why a ramp cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum RampError {
    /// Nothing can be bound on loopback.
    #[error("no listener on loopback: {0}")]
    Listen(#[from] std::io::Error),
    /// No client can be built.
    #[error("no client: {0}")]
    Client(#[from] crate::http::BuildError),
}

/// An ipamd with its two endpoints on loopback; dropping it ends them.
pub struct Served {
    /// The ipamd.
    pub ipamd: SimIpamd,
    /// The agent's client to it.
    pub client: Client,
    _tasks: JoinSet<()>,
}

impl Served {
    /// Serves an ipamd on a node of this kind.
    pub async fn start(clock: Clock, spec: NodeSpec) -> Result<Self, RampError> {
        let ipamd = SimIpamd::new(clock, spec);
        let mut tasks = JoinSet::new();
        let mut addresses = Vec::new();
        for endpoint in [Endpoint::Introspection, Endpoint::Metrics] {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(LocalAddress::Tcp(listener.local_addr()?.to_string()));
            tasks.spawn(ipamd.clone().serve(endpoint, listener));
        }
        let nobody = || LocalAddress::Tcp("127.0.0.1:1".into());
        let metrics = addresses.pop().unwrap_or_else(nobody);
        let introspection = addresses.pop().unwrap_or_else(nobody);
        let client = Client::new(&CniConfig { enabled: true, introspection, metrics, taint_on_exhaustion: false })?;
        Ok(Self { ipamd, client, _tasks: tasks })
    }
}

impl Ramp {
    /// Everything that was foretold after fifteen pods had come and while fifteen were still to come.
    pub async fn replay(self, clock: Clock) -> Result<Vec<Foretold>, RampError> {
        let (enis, addresses_per_eni) = self.instance;
        let instance = Instance { enis, addresses_per_eni, cards: 1, nitro: true };
        let most = enis * (addresses_per_eni - 1);
        // The instance is what ends it.
        let spec = NodeSpec { instance, max_pods: 10 * most, ..NodeSpec::default() };
        let served = Served::start(clock, spec).await?;
        let begin = Instant::now() + STARTS;
        let (mut pods, mut next_pod, mut next_reading) = (0_i64, begin, begin);
        let (mut model, mut said) = (Model::default(), Vec::new());
        let end = loop {
            sleep_until(next_pod.min(next_reading)).await;
            if next_reading <= next_pod {
                let facts = facts(10 * most, pods);
                if let Some(seconds) = read(&mut model, clock, &served.client, &facts).await {
                    said.push((next_reading, most - pods, seconds));
                }
                next_reading += BETWEEN_READINGS;
                continue;
            }
            // A pod that comes while a new interface is on its way gets its address a little later.
            let found = served.ipamd.pod_added(&format!("ramp/{pods}"));
            if found.is_err() && pods >= most {
                break next_pod;
            }
            pods += 1;
            next_pod = begin + self.turn(pods);
        };
        let meant = said.into_iter().filter(|(_, left, _)| (JUDGED..=most - JUDGED).contains(left));
        let foretold =
            meant.map(|(at, _, seconds)| Foretold { at: at - begin, seconds, truth: (end - at).as_secs_f64() });
        Ok(foretold.collect())
    }

    /// When the pod of this number comes, since the first one.
    fn turn(self, pod: i64) -> Duration {
        let number = u32::try_from(pod).unwrap_or(u32::MAX);
        // Knuth's multiplicative hash: a lot that every replay draws again.
        let lot = f64::from(number.wrapping_mul(2_654_435_761) >> 16) / f64::from(u16::MAX) - 0.5;
        let turn = f64::from(number) + lot * 2.0 * f64::from(self.jitter.min(50)) / 100.0;
        self.every.mul_f64(turn.max(0.0))
    }
}

fn facts(max_pods: i64, pods: i64) -> NodeFacts {
    let aws_node = Some(Arc::new(BTreeMap::new()));
    NodeFacts { max_pods: Some(max_pods), pods, addressed_pods: pods, aws_node, ..NodeFacts::default() }
}

async fn read(model: &mut Model, clock: Clock, client: &Client, node: &NodeFacts) -> Option<f64> {
    let (interfaces, metrics) = (client.interfaces().await, client.metrics().await);
    let reading = Reading {
        network: None,
        interfaces: Some(interfaces.as_deref().map_err(Clone::clone)),
        settings: None,
        metrics: Some(metrics.as_deref().map_err(Clone::clone)),
    };
    model.observe(clock.now(), &reading, node)?.forecast.exhausted_reachable
}

/// Ramps from a pod in two seconds to one in thirty, regular and irregular ones.
pub const RAMPS: [Ramp; 6] = [
    Ramp { every: Duration::from_secs(2), jitter: 0, instance: (8, 30) },
    Ramp { every: Duration::from_secs(5), jitter: 50, instance: (4, 30) },
    Ramp { every: Duration::from_secs(10), jitter: 0, instance: (4, 15) },
    Ramp { every: Duration::from_secs(20), jitter: 50, instance: (4, 15) },
    Ramp { every: Duration::from_secs(30), jitter: 0, instance: (4, 15) },
    Ramp { every: Duration::from_secs(30), jitter: 50, instance: (4, 15) },
];

/// So slow that the agent's window of ten minutes holds ten pods: one more or less is a tenth.
pub const SLOW_RAMP: Ramp = Ramp { every: Duration::from_secs(60), jitter: 50, instance: (4, 15) };

/// The mean error of what was foretold, and the largest.
pub fn errors(foretold: &[Foretold]) -> (f64, f64) {
    let errors = || foretold.iter().map(|one| one.error());
    let number = f64::from(u32::try_from(foretold.len().max(1)).unwrap_or(u32::MAX));
    (errors().sum::<f64>() / number, errors().fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn replayed(ramp: Ramp) -> (usize, (f64, f64)) {
        let clock = Clock::anchored("2026-05-04T10:00:00Z".parse().unwrap());
        let foretold = ramp.replay(clock).await.unwrap();
        (foretold.len(), errors(&foretold))
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_addresses_is_foretold_within_a_tenth() {
        for ramp in RAMPS {
            let (readings, (mean, worst)) = replayed(ramp).await;
            // Pods that come half a turn early or late move the end itself.
            let most = if ramp.jitter == 0 { 0.1 } else { 0.15 };
            assert!(readings >= 8 && mean <= 0.05 && worst <= most, "{ramp:?}: {readings} readings, {mean} {worst}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_end_is_foretold_to_a_pod_more_or_less() {
        let (readings, (mean, worst)) = replayed(SLOW_RAMP).await;
        assert!(readings >= 8 && mean <= 0.1 && worst <= 0.2, "{readings} readings, {mean} {worst}");
    }

    #[test]
    fn a_replay_draws_the_same_lots() {
        let ramp = Ramp { jitter: 50, ..RAMPS[0] };
        let turns: Vec<Duration> = (0..200).map(|pod| ramp.turn(pod)).collect();
        assert_eq!(turns, (0..200).map(|pod| ramp.turn(pod)).collect::<Vec<_>>());
        assert!(turns.is_sorted() && turns[100] != ramp.every * 100, "early or late, never out of turn");
        assert_eq!(Ramp { jitter: 0, ..ramp }.turn(7), ramp.every * 7);
    }

    #[test]
    fn the_error_is_by_the_truth() {
        let foretold = |seconds, truth| Foretold { at: Duration::ZERO, seconds, truth };
        let (mean, worst) = errors(&[foretold(110.0, 100.0), foretold(150.0, 200.0)]);
        assert!((mean - 0.175).abs() < 1e-9 && (worst - 0.25).abs() < 1e-9, "{mean} {worst}");
        assert!(errors(&[]).0.abs() < 1e-9);
    }
}
