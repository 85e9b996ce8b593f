//! What a full pool of the largest ordinary size says of itself: 15 interfaces of 50 addresses, each address with a pod.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spotwarden::clock::Clock;
use spotwarden::cni::model::Problem;
use spotwarden::cni::node::NodeFacts;
use spotwarden::sim::ipamd::{Instance, NodeSpec, Subnet};
use spotwarden::sim::pace::Speed;
use spotwarden::sim::ramp::Served;

use crate::Result;

/// For the figures' names.
pub(crate) const WHAT: &str = "15 interfaces × 50 addresses, all in use";
const INTERFACES: i64 = 15;
/// One of each is the interface's own.
const ADDRESSES: i64 = 50;
const PODS: i64 = INTERFACES * (ADDRESSES - 1);
/// EKS lets the kubelet take so many more: aws-node and kube-proxy have the node's own address.
const ON_HOST_NETWORK: i64 = 2;
/// A new interface takes some ten seconds.
const GROWS: Duration = Duration::from_secs(20);

/// Bodies of the three answers.
pub(crate) struct Documents {
    pub(crate) interfaces: Bytes,
    pub(crate) settings: Bytes,
    pub(crate) metrics: Bytes,
    pods: i64,
}

impl Documents {
    /// The node beside it: every address is a pod's.
    pub(crate) fn facts(&self) -> NodeFacts {
        NodeFacts {
            max_pods: Some(PODS + ON_HOST_NETWORK),
            pods: self.pods,
            addressed_pods: self.pods,
            aws_node: Some(Arc::default()),
            ..NodeFacts::default()
        }
    }
}

/// Fills a pool in virtual time and asks its ipamd. On a thread of its own: there may be a runtime on this one.
pub(crate) fn documents() -> Result<Documents> {
    let filled = std::thread::spawn(|| {
        let runtime = Speed::Max.runtime().map_err(|error| error.to_string())?;
        runtime.block_on(filled()).map_err(|error| error.to_string())
    });
    Ok(filled.join().map_err(|_| "the pool could not be filled")??)
}

async fn filled() -> Result<Documents> {
    let clock = Clock::anchored("2026-01-05T12:00:00Z".parse()?);
    let instance = Instance { enis: INTERFACES, addresses_per_eni: ADDRESSES, cards: 1, nitro: true };
    let subnets = vec![Subnet::new("subnet-0123456789abcdef0", [10, 8, 0, 0].into(), 20)];
    let served =
        Served::start(clock, NodeSpec { instance, subnets, max_pods: PODS + ON_HOST_NETWORK, ..NodeSpec::default() })
            .await?;
    let (mut pods, mut patience) = (0, 10 * INTERFACES);
    while pods < PODS {
        tokio::time::sleep(GROWS).await;
        while pods < PODS && served.ipamd.pod_added(&format!("full/web-{pods}")).is_ok() {
            pods += 1;
        }
        served.ipamd.pod_removed(&format!("full/web-{pods}"));
        patience -= 1;
        if patience == 0 {
            return Err(format!("the pool ends at {pods} pods").into());
        }
    }
    let refused = |problem: Problem| problem.to_string();
    let client = &served.client;
    Ok(Documents {
        interfaces: client.interfaces().await.map_err(refused)?,
        settings: client.settings().await.map_err(refused)?,
        metrics: client.metrics().await.map_err(refused)?,
        pods,
    })
}
