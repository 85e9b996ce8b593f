//! How long a node stays open after its notice could be read.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::sleep;

use crate::Result;
use crate::calls::Calls;
use crate::lab::Lab;
use crate::report::{Row, percentile, seconds};
use crate::stand::Stand;

const BATCHES: usize = 6;
/// Agents at a time: few enough for two cores.
const AGENTS: usize = 10;
/// So that what follows a start is over.
const SETTLE: Duration = Duration::from_secs(2);
/// More than twice the goal.
pub(crate) const WAIT: Duration = Duration::from_secs(4);
/// One poll interval and 50 ms.
const GOAL: Duration = Duration::from_millis(1050);

pub(crate) async fn measure(lab: &Lab) -> Result<Vec<Row>> {
    let mut took = Vec::new();
    for batch in 0..BATCHES {
        took.extend(one_batch(lab, batch).await?);
    }
    let (half, most) = (percentile(&took, 50), percentile(&took, 99));
    let worst = took.iter().max().copied().unwrap_or_default();
    Ok(vec![Row {
        what: format!("notice readable → node fenced (patch acknowledged), {} notices at random moments", took.len()),
        goal: format!("p99 ≤ {}", seconds(GOAL)),
        measured: format!("p50 {}, p99 {}, max {}", seconds(half), seconds(most), seconds(worst)),
        incumbent: "p50 1.84 s, max 2.96 s",
        met: Some(most <= GOAL),
    }])
}

async fn one_batch(lab: &Lab, batch: usize) -> Result<Vec<Duration>> {
    let stands = (0..AGENTS).map(|agent| async move {
        let stand = Stand::new(lab, &format!("fence-{batch}-{agent}"), Vec::new(), Vec::new()).await?;
        sleep(SETTLE + random_below(Duration::from_secs(2))).await;
        let notice = stand.give_notice();
        sleep(WAIT).await;
        Ok::<_, Box<dyn std::error::Error>>((stand, notice))
    });
    let noticed = try_join_all(stands).await?;
    let log = lab.audit_log().await?;
    let took = noticed.iter().map(|(stand, notice)| {
        let fenced = Calls::of(&log, &stand.node).fence_after(notice.at.wall);
        fenced.ok_or_else(|| format!("{} was not fenced:\n{}", stand.node, stand.agent.log()).into())
    });
    took.collect()
}

/// Evenly distributed.
pub(crate) fn random_below(limit: Duration) -> Duration {
    limit.mul_f64(RandomState::new().hash_one(0) as f64 / u64::MAX as f64)
}
