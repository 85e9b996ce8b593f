//! What an agent costs while nothing happens and every signal is polled, as it is by default.

use std::time::Duration;

use spotwarden::clock::Clock;
use spotwarden::sim::objects::PodSpec;
use tokio::time::sleep;

use crate::Result;
use crate::calls::{Calls, summary};
use crate::lab::Lab;
use crate::report::Row;
use crate::stand::Stand;

const NODE: &str = "idle";
const PODS: usize = 30;
/// So that what follows a start is over.
const SETTLE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(90);
const MILLICORES: f64 = 2.0;
const IMDS_PER_SECOND: f64 = 2.0;

pub(crate) async fn measure(lab: &Lab) -> Result<Vec<Row>> {
    let pods = (0..PODS).map(|pod| PodSpec::new(NODE, &format!("web-{pod}")).on(NODE));
    let stand = Stand::new(lab, NODE, pods.collect(), Vec::new()).await?;
    sleep(SETTLE).await;
    let (begin, cpu, asked) = (Clock::System.now(), stand.agent.cpu()?, stand.imds.requests().len());
    sleep(WINDOW).await;
    let (end, cpu_after, asked_after) = (Clock::System.now(), stand.agent.cpu()?, stand.imds.requests().len());

    let window = end.instant.saturating_duration_since(begin.instant);
    let millicores = cpu_after.saturating_sub(cpu).as_secs_f64() / window.as_secs_f64() * 1000.0;
    let per_second = (asked_after - asked) as f64 / window.as_secs_f64();
    let calls = Calls::of(&lab.audit_log().await?, NODE);
    let new = calls.between(begin.wall, end.wall);
    let threads = stand.agent.threads()?;
    Ok(vec![
        Row {
            what: format!("CPU while idle, every signal polled, over {} s", WINDOW.as_secs()),
            goal: format!("≤ {MILLICORES} millicores"),
            measured: format!("{millicores:.2} millicores, threads: {threads}"),
            incumbent: "1–2 millicores",
            met: Some(millicores <= MILLICORES),
        },
        Row {
            what: "requests to the API server while idle, every signal polled".into(),
            goal: "none but the kept watches".into(),
            measured: match new.as_slice() {
                [] => format!("none; {} kept watches", calls.open_watches()),
                new => format!("{} ({}); {} kept watches", new.len(), summary(new), calls.open_watches()),
            },
            incumbent: "0",
            met: Some(new.is_empty()),
        },
        Row {
            what: "requests to IMDS while idle, every signal polled".into(),
            goal: format!("≤ {IMDS_PER_SECOND} per second"),
            measured: format!("{per_second:.2} per second"),
            incumbent: "1 per second",
            met: Some(per_second <= IMDS_PER_SECOND),
        },
    ])
}
