//! What an answer of `/metrics` costs while a full node is drained.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use spotwarden::clock::Clock;
use spotwarden::cni::model::{Model, Reading};
use spotwarden::gzip::gzip;
use spotwarden::identity::NodeIdentity;
use spotwarden::metrics::Metrics;
use tokio::sync::watch;

use crate::full_node::PODS;
use crate::pool;
use crate::replay::Replay;
use crate::series::{Series, micros};
use crate::{Result, Row};

/// A fifth of what an answer may take in all.
const GOAL: Duration = Duration::from_millis(1);
const PASSES: usize = 41;
const ANSWERS: usize = 20;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let documents = pool::documents()?;
    let facts = documents.facts();
    let reading = Reading {
        network: None,
        interfaces: Some(Ok(&documents.interfaces)),
        settings: Some(&documents.settings),
        metrics: Some(Ok(&documents.metrics)),
    };
    let headroom = Model::default().observe(Clock::System.now(), &reading, &facts);
    let mut replay = Replay::idle();
    let notice = replay.notice();
    replay.feed(notice);
    let status = watch::channel(replay.status.clone()).1;
    let headroom = watch::channel(headroom.map(Arc::new)).1;
    let identity = watch::channel(NodeIdentity::named("n1")).1;
    let metrics = Metrics::new(status, headroom, identity);
    let prometheus = Some("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2");
    let text = metrics.text(prometheus).1;
    let (plain, compressed) = (text.len(), gzip(text.as_bytes()).len());
    let answer = timed(|| drop(black_box(gzip(metrics.text(prometheus).1.as_bytes()))))?;
    let row = |what: String, series: &Series, goal: Option<Duration>| Row {
        what,
        goal: goal.map_or("–".into(), |goal| format!("≤ {}", micros(goal))),
        measured: format!("mean {}, max {}", micros(series.mean()), micros(series.most())),
        met: goal.map(|goal| series.most() <= goal),
    };
    Ok(vec![
        row(
            format!(
                "`/metrics` as a Prometheus asks for it, {PODS} pods to drain, {plain} bytes as {compressed} of gzip"
            ),
            &answer,
            Some(GOAL),
        ),
        row("of this compression".into(), &timed(|| drop(black_box(gzip(text.as_bytes()))))?, None),
        row(
            "the same as classic text without compression".into(),
            &timed(|| drop(black_box(metrics.text(None))))?,
            None,
        ),
    ])
}

#[allow(clippy::disallowed_types, reason = "real time is what is measured")]
fn timed(answer: impl Fn()) -> Result<Series> {
    let pass = |_| {
        let one = |_| {
            let begin = std::time::Instant::now();
            answer();
            begin.elapsed()
        };
        (0..ANSWERS).map(one).collect::<Vec<Duration>>()
    };
    Ok(Series::of((0..PASSES).map(pass).collect()).ok_or("the passes did not measure the same")?)
}
