//! How many whole worlds a core plays in a second: agent, API server, kubelet and IMDS, in virtual time.

use std::fs;
use std::time::Duration;

use spotwarden::clock::Clock;
use spotwarden::sim::pace::Speed;
use spotwarden::sim::scenario::Scenario;
use spotwarden::sim::world::{BackendHandle, World};

use crate::{Result, Row};

const SCENARIOS: [&str; 2] = ["plain-notice", "mixed-node"];
/// How long each is played again and again.
const WINDOW: Duration = Duration::from_secs(5);

pub(crate) fn measure() -> Result<Vec<Row>> {
    SCENARIOS.into_iter().map(one).collect()
}

#[allow(clippy::disallowed_types, reason = "real time is what is measured")]
fn one(name: &str) -> Result<Row> {
    let scenario = Scenario::load(name)?;
    let pods: u32 = scenario.pods.iter().map(|group| group.count).sum();
    play(&scenario)?;
    let (begin, before) = (std::time::Instant::now(), cpu()?);
    let mut worlds = 0_u32;
    while begin.elapsed() < WINDOW {
        play(&scenario)?;
        worlds += 1;
    }
    let took = begin.elapsed();
    let (each, busy) = (took / worlds.max(1), cpu()?.saturating_sub(before) / worlds.max(1));
    Ok(Row {
        what: format!("simulated worlds per second on one core: `{name}`, {pods} pods, two minutes each"),
        goal: "–".into(),
        measured: format!("{:.1} ({} each, CPU {})", each.as_secs_f64().recip(), millis(each), millis(busy)),
        met: None,
    })
}

/// From nothing to the verdict, on a runtime of its own as each has in the tests.
fn play(scenario: &Scenario) -> Result<()> {
    let report = Speed::Max.runtime()?.block_on(async {
        let clock = Clock::anchored("2026-01-05T12:00:00.25Z".parse()?);
        Ok::<_, Box<dyn std::error::Error>>(World::run(scenario, BackendHandle::embedded(clock), clock, drop).await?)
    })?;
    if report.passed { Ok(()) } else { Err(format!("{}: {}", scenario.name, report.text(false)).into()) }
}

/// CPU time of this process so far: on a busy machine the world waits for its core, which is not its own fault.
fn cpu() -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += stat.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
