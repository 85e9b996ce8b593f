//! What a reading of ipamd costs, and how far the agent's forecast is from what comes.

use std::hint::black_box;
use std::time::Duration;

use spotwarden::clock::Clock;
use spotwarden::cni::model::{Model, Reading};
use spotwarden::sim::pace::Speed;
use spotwarden::sim::ramp::{Foretold, RAMPS, Ramp, SLOW_RAMP, errors};

use crate::pool::{self, Documents};
use crate::series::{Series, micros};
use crate::{Result, Row};

const GOAL: Duration = Duration::from_millis(1);
/// Largest error of a forecast.
const ERROR_GOAL: f64 = 0.1;
const PASSES: usize = 41;
/// Readings in each pass.
const READINGS: usize = 20;
/// As in the agent.
const BETWEEN_READINGS: Duration = Duration::from_secs(21);

pub(crate) fn measure() -> Result<Vec<Row>> {
    let documents = pool::documents()?;
    let mut rows = vec![reading(&documents)?];
    rows.extend(forecast()?);
    Ok(rows)
}

#[allow(clippy::disallowed_types, reason = "real time is what is measured")]
fn reading(documents: &Documents) -> Result<Row> {
    let facts = documents.facts();
    let mut passes = Vec::new();
    for _ in 0..PASSES {
        let (mut model, mut now, mut took) = (Model::default(), Clock::System.now(), Vec::new());
        for _ in 0..READINGS {
            let reading = Reading {
                network: None,
                interfaces: Some(Ok(&documents.interfaces)),
                settings: Some(&documents.settings),
                metrics: Some(Ok(&documents.metrics)),
            };
            let begin = std::time::Instant::now();
            black_box(model.observe(now, &reading, &facts));
            took.push(begin.elapsed());
            now = now.plus(BETWEEN_READINGS);
        }
        passes.push(took);
    }
    let series = Series::of(passes).ok_or("the passes did not measure the same")?;
    let (mean, most) = (series.mean(), series.most());
    let kilobytes = (documents.interfaces.len() + documents.settings.len() + documents.metrics.len()) as f64 / 1e3;
    Ok(Row {
        what: format!("decoding and modelling ipamd's documents, {} ({kilobytes:.0} kB)", pool::WHAT),
        goal: "≤ 1 ms".into(),
        measured: format!("mean {}, max {}", micros(mean), micros(most)),
        met: Some(most <= GOAL),
    })
}

fn forecast() -> Result<Vec<Row>> {
    let (regular, irregular): (Vec<Ramp>, Vec<Ramp>) = RAMPS.into_iter().partition(|ramp| ramp.jitter == 0);
    let percent = |error: f64| format!("{:.1} %", error * 100.0);
    let row = |what: &str, ramps: &[Ramp], goal: Option<f64>| {
        let foretold = replayed(ramps)?;
        let (mean, worst) = errors(&foretold);
        Ok::<_, Box<dyn std::error::Error>>(Row {
            what: format!("error of the foretold end of addresses, {what}, {} forecasts", foretold.len()),
            goal: goal.map_or("–".into(), |goal| format!("≤ {}", percent(goal))),
            measured: format!("mean {}, max {}", percent(mean), percent(worst)),
            met: goal.map(|goal| worst <= goal),
        })
    };
    Ok(vec![
        row("pods that come regularly, every 2 to 30 s", &regular, Some(ERROR_GOAL))?,
        row("pods that come half a turn early or late, every 5 to 30 s", &irregular, None)?,
        row("pods that come every minute, half a turn early or late", &[SLOW_RAMP], None)?,
    ])
}

fn replayed(ramps: &[Ramp]) -> Result<Vec<Foretold>> {
    let mut foretold = Vec::new();
    for ramp in ramps {
        // A runtime of its own: the clock of the one before has run ahead.
        let clock = || Ok::<_, Box<dyn std::error::Error>>(Clock::anchored("2026-01-05T12:00:00Z".parse()?));
        foretold.extend(
            Speed::Max
                .runtime()?
                .block_on(async { Ok::<_, Box<dyn std::error::Error>>(ramp.replay(clock()?).await?) })?,
        );
    }
    Ok(foretold)
}
