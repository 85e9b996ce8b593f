//! What the machine costs per input: `handle`, `status` and `next_timeout`, as the agent calls them.

use std::time::Duration;

use spotwarden::interruption::Input;

use crate::full_node::PODS;
use crate::replay::{POLL, Replay};
use crate::series::{Series, micros};
use crate::{Result, Row};

/// Mean of an input.
const GOAL: Duration = Duration::from_micros(20);
/// Passes over each row of inputs.
const PASSES: usize = 41;
/// So that every pod has its turn several times.
const UPDATES: usize = 500;
/// Longer than the pause between two forecasts.
const BETWEEN_UPDATES: Duration = Duration::from_secs(2);

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut drained = Vec::new();
    let mut noticed = Vec::new();
    let mut polled = Vec::new();
    let mut seen = Vec::new();
    let mut foreseen = Vec::new();
    for _ in 0..PASSES {
        let inputs = Replay::idle().interruption()?;
        noticed.push(inputs.iter().take(1).copied().collect());
        drained.push(inputs);
        polled.push(idle_polls());
        let (updates, forecasts) = pod_updates();
        seen.push(updates);
        foreseen.push(forecasts);
    }
    let series = |passes| Series::of(passes).ok_or("the passes did not measure the same");
    let (polled, seen, foreseen) = (series(polled)?, series(seen)?, series(foreseen)?);
    let (noticed, drained) = (series(noticed)?, series(drained)?);
    let inputs = drained.len();
    Ok(vec![
        with_goal(format!("decision on an input, {PODS} pods: a poll while idle"), &polled),
        with_goal(format!("decision on an input, {PODS} pods: a pod's update while idle"), &seen),
        with_goal(format!("decision on an input, {PODS} pods of all sorts: the {inputs} of an interruption"), &drained),
        without_goal(format!("of these the notice, which asks for every pod's stop, {PODS} pods"), noticed.mean()),
        without_goal(format!("forecast, {PODS} pods, at most once a second"), foreseen.mean()),
    ])
}

fn with_goal(what: String, series: &Series) -> Row {
    let (mean, p99, most) = (series.mean(), series.p99(), series.most());
    Row {
        what,
        goal: format!("mean ≤ {}", micros(GOAL)),
        measured: format!("mean {}, p99 {}, max {}", micros(mean), micros(p99), micros(most)),
        met: Some(mean <= GOAL),
    }
}

fn without_goal(what: String, time: Duration) -> Row {
    Row { what, goal: "–".into(), measured: micros(time), met: None }
}

fn idle_polls() -> Vec<Duration> {
    let mut replay = Replay::idle();
    let mut took = Vec::new();
    for _ in 0..UPDATES {
        replay.at += POLL;
        took.extend(replay.poll().map(|input| replay.feed(input)));
    }
    took
}

/// Pods' updates, and the forecasts that follow them.
fn pod_updates() -> (Vec<Duration>, Vec<Duration>) {
    let mut replay = Replay::idle();
    let (mut updates, mut forecasts) = (Vec::new(), Vec::new());
    for number in 0..UPDATES {
        replay.at += BETWEEN_UPDATES;
        updates.extend(replay.pod_update(number).map(|input| replay.feed(input)));
        replay.at += BETWEEN_UPDATES;
        forecasts.push(replay.feed(Input::Timeout));
    }
    (updates, forecasts)
}
