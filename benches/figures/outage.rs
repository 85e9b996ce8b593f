//! IMDS answers 503 for a minute, and with its recovery there is a notice.

use std::time::Duration;

use futures::future::try_join_all;
use spotwarden::sim::imds::{Fault, FaultKind};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Result;
use crate::calls::Calls;
use crate::fence::{WAIT, random_below};
use crate::lab::Lab;
use crate::report::{Row, seconds};
use crate::stand::Stand;

/// The more, the closer the worst phase of the retries is met.
const AGENTS: usize = 10;
const OUTAGE: Duration = Duration::from_mins(1);
/// The longest pause between two attempts, and 100 ms.
const GOAL: Duration = Duration::from_millis(2100);

pub(crate) async fn measure(lab: &Lab) -> Result<Vec<Row>> {
    let stands = (0..AGENTS).map(|agent| async move {
        let mut stand = Stand::new(lab, &format!("outage-{agent}"), Vec::new(), Vec::new()).await?;
        sleep(Duration::from_secs(2) + random_below(Duration::from_secs(2))).await;
        let recovery = Instant::now() + OUTAGE;
        stand.imds.fault(Fault::new(FaultKind::Status(503)).until(recovery));
        sleep_until(recovery).await;
        let notice = stand.give_notice();
        sleep(WAIT).await;
        let alive = stand.agent.is_alive()?;
        Ok::<_, Box<dyn std::error::Error>>((stand, notice, alive))
    });
    let stands = try_join_all(stands).await?;
    let log = lab.audit_log().await?;
    let alive = stands.iter().filter(|(_, _, alive)| *alive).count();
    let fences: Vec<Duration> = stands
        .iter()
        .filter_map(|(stand, notice, _)| Calls::of(&log, &stand.node).fence_after(notice.at.wall))
        .collect();
    let worst = fences.iter().max().copied().unwrap_or_default();
    Ok(vec![Row {
        what: format!("IMDS answers 503 for {} s, then a notice: {AGENTS} agents", OUTAGE.as_secs()),
        goal: format!("alive; fence ≤ {} after recovery", seconds(GOAL)),
        measured: format!("{alive} alive, {} fenced, the last after {}", fences.len(), seconds(worst)),
        incumbent: "the process panics",
        met: Some(alive == AGENTS && fences.len() == AGENTS && worst <= GOAL),
    }])
}
