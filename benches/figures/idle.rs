//! What an agent costs while nothing happens, every signal is polled and ipamd is read, as it is by default.

use std::time::Duration;

use spotwarden::clock::{Clock, Now};
use spotwarden::sim::objects::PodSpec;
use tokio::time::{Instant, sleep};

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
/// In ten seconds.
const IPAMD_GOAL: f64 = 1.0;
/// Requests that come closer to each other belong to one reading.
const READING: Duration = Duration::from_secs(5);

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
    let (ipamd, asked_of_ipamd) = ipamd(&stand, begin, end).ok_or("ipamd was not read twice")?;
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
        Row {
            what: "requests to ipamd while idle, from the first reading to the last".into(),
            goal: format!("≤ {IPAMD_GOAL} in 10 s"),
            measured: format!("{ipamd:.2} in 10 s ({asked_of_ipamd} requests)"),
            incumbent: "–",
            met: Some(ipamd <= IPAMD_GOAL),
        },
    ])
}

/// Requests to ipamd in ten seconds and their number. A window of any length would count a reading more or less, so it is
/// the one from the first reading to the beginning of the last.
fn ipamd(stand: &Stand, begin: Now, end: Now) -> Option<(f64, usize)> {
    let requests = stand.ipamd.requests();
    let within =
        requests.iter().map(|request| request.at.instant).filter(|at| (begin.instant..end.instant).contains(at));
    let times: Vec<Instant> = within.collect();
    let (first, latest) = (times.first()?, times.last()?);
    let last = times.iter().find(|at| latest.saturating_duration_since(**at) < READING)?;
    let before = times.iter().filter(|at| *at < last).count();
    let seconds = last.saturating_duration_since(*first).as_secs_f64();
    (before > 0 && seconds > 0.0).then(|| (before as f64 / seconds * 10.0, before))
}
