//! What the drain of a full node takes: time, API calls, memory.

use std::time::Duration;

use spotwarden::clock::Clock;
use spotwarden::sim::objects::PodSpec;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::calls::{Calls, summary};
use crate::lab::Lab;
use crate::report::{Row, megabytes, seconds};
use crate::stand::{Notice, Stand};

/// A node to be drained, with what must be reached.
pub(crate) struct Node {
    pods: usize,
    name: &'static str,
    /// How long the agent idles before the notice.
    idle: Duration,
    evictions: Duration,
    evictions_of_incumbent: &'static str,
    calls: usize,
    calls_of_incumbent: &'static str,
    /// Whether memory is looked at.
    memory: bool,
}

/// What VPC CNI allows on an m5.2xlarge.
pub(crate) const HALF: Node = Node {
    pods: 58,
    name: "drain-58",
    idle: Duration::from_secs(3),
    evictions: Duration::from_millis(1500),
    evictions_of_incumbent: "15.4 s",
    calls: 70,
    calls_of_incumbent: "98–131",
    memory: false,
};

/// The kubelet's default limit.
pub(crate) const FULL: Node = Node {
    pods: 110,
    name: "drain-110",
    idle: Duration::from_secs(30),
    evictions: Duration::from_secs(2),
    evictions_of_incumbent: "26.3 s",
    calls: 125,
    calls_of_incumbent: "152",
    memory: true,
};

/// Bytes, idle and at most.
const MEMORY_GOALS: (u64, u64) = (8_000_000, 12_000_000);
/// What follows the last pod: the record on the node, events.
const AFTER: Duration = Duration::from_secs(5);
/// The pods stop in two seconds; with a multiple of that nobody is waited for in vain.
const WITHIN: Duration = Duration::from_mins(1);

pub(crate) async fn measure(lab: &Lab, node: &Node) -> Result<Vec<Row>> {
    let pods = (0..node.pods).map(|pod| PodSpec::new(node.name, &format!("web-{pod}")).on(node.name).stops_after("2"));
    let stand = Stand::new(lab, node.name, pods.collect(), Vec::new()).await?;
    sleep(node.idle).await;
    let idle = stand.agent.memory("VmRSS")?;
    stand.after_a_poll().await;
    let notice = stand.give_notice();
    let gone = until_gone(&stand, notice).await?;
    sleep(AFTER).await;
    let most = stand.agent.memory("VmHWM")?;

    let calls = Calls::of(&lab.audit_log().await?, &stand.node);
    let evictions = calls.first_evictions_after(notice.at.wall);
    if evictions.len() != node.pods {
        return Err(format!("{} of {} pods were evicted:\n{}", evictions.len(), node.pods, stand.agent.log()).into());
    }
    let last = evictions.values().max().copied().unwrap_or_default();
    let all = calls.between(notice.at.wall, Clock::System.now().wall);
    let pods = node.pods;
    let mut rows = vec![
        Row {
            what: format!("notice readable → first eviction of the last of {pods} pods (notice just after a poll)"),
            goal: format!("≤ {}", seconds(node.evictions)),
            measured: format!("{}; last pod gone after {}", seconds(last), seconds(gone)),
            incumbent: node.evictions_of_incumbent,
            met: Some(last <= node.evictions),
        },
        Row {
            what: format!("API calls of the drain of {pods} pods that stop in 2 s, from notice to end"),
            goal: format!("≤ {}", node.calls),
            measured: format!("{} ({})", all.len(), summary(&all)),
            incumbent: node.calls_of_incumbent,
            met: Some(all.len() <= node.calls),
        },
    ];
    if node.memory {
        rows.push(Row {
            what: format!("memory (VmRSS) of an idle agent, every signal polled, on a node with {pods} pods"),
            goal: format!("≤ {}", megabytes(MEMORY_GOALS.0)),
            measured: megabytes(idle),
            incumbent: "46 MB",
            met: Some(idle <= MEMORY_GOALS.0),
        });
        rows.push(Row {
            what: format!("memory at most (VmHWM), from the agent's start to the end of the drain of {pods} pods"),
            goal: format!("≤ {}", megabytes(MEMORY_GOALS.1)),
            measured: megabytes(most),
            incumbent: "54 MB",
            met: Some(most <= MEMORY_GOALS.1),
        });
    }
    Ok(rows)
}

/// Waits for the last pod; returns how long after the notice it was gone.
async fn until_gone(stand: &Stand, notice: Notice) -> Result<Duration> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let gone: Option<Vec<_>> = stand.fates().iter().map(|fate| fate.gone_at).collect();
        if let Some(last) = gone.and_then(|gone| gone.into_iter().map(|gone| gone.instant).max()) {
            return Ok(last.saturating_duration_since(notice.at.instant));
        }
        if Instant::now() > deadline {
            return Err(format!("pods are left on {}:\n{}", stand.node, stand.agent.log()).into());
        }
        sleep(Duration::from_millis(50)).await;
    }
}
