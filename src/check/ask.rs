//! The questions: sockets and time-outs, no judgement. Nothing here changes anything.

use std::time::Duration;

use futures::StreamExt as _;
use kube::api::ListParams;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::access::{Review, Right};
use super::addresses::Answers;
use super::cluster::{NodeRead, Trouble, Version};
use super::metadata::{Read, Unread};
use super::telemetry::Asked;
use crate::clock::Clock;
use crate::cni;
use crate::cni::model::Problem;
use crate::config::{CniConfig, Config};
use crate::drain::eviction::EvictionAnswer;
use crate::drain::pod::{PodRef, PodView};
use crate::http::BuildError;
use crate::imds;
use crate::imds::documents::Identity;
use crate::k8s::api::Api;
use crate::k8s::chain;
use crate::k8s::wire::{WireNode, WirePod};
use crate::metrics::otlp::OtlpMetrics;
use crate::otlp::OtlpSignal;
use crate::otlp::exporter::Exporter;

/// One item, a token before it included. IMDS answers within milliseconds or not at all.
const ITEM_TIMEOUT: Duration = Duration::from_millis(3500);
/// All of the instance's names.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);
/// One answer of the API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
/// All dry-run evictions together.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Dry-run evictions at a time: enough for a full node in a second, too few to be felt.
const TRIALS_AT_ONCE: usize = 8;

/// The metadata service.
pub(super) struct Instance(imds::Client);

impl Instance {
    pub(super) fn new(client: imds::Client) -> Self {
        Self(client)
    }

    pub(super) async fn read(&self, item: imds::Item) -> Read {
        Ok(timeout(ITEM_TIMEOUT, self.0.get(item)).await.map_err(|_| Unread::TooSlow)??)
    }

    pub(super) async fn identity(&self) -> Option<Identity> {
        timeout(IDENTITY_TIMEOUT, self.0.identity()).await.ok()?.ok()
    }
}

/// The API server, as far as it concerns one node.
pub(super) struct Cluster {
    client: kube::Client,
    api: Api,
    node: String,
}

impl Cluster {
    pub(super) fn new(client: kube::Client, node: &str) -> Self {
        Self { api: Api::new(client.clone(), node), client, node: node.to_owned() }
    }

    /// A server that keeps its version to itself answers all the same.
    pub(super) async fn version(&self) -> Result<Version, Trouble> {
        let asked = Instant::now();
        let request = http::Request::get("/version").body(Vec::new());
        let name = match self.call::<Value>(request).await {
            Ok(version) => version.get("gitVersion").and_then(Value::as_str).unwrap_or_default().to_owned(),
            Err(Trouble::Refused { code: 403 | 404, .. }) => String::new(),
            Err(trouble) => return Err(trouble),
        };
        Ok(Version { name, after: asked.elapsed() })
    }

    /// As the agent's watch lists it.
    pub(super) async fn node(&self) -> NodeRead {
        let params = ListParams::default().fields(&format!("metadata.name={}", self.node)).match_any();
        let nodes = within(CALL_TIMEOUT, kube::Api::<WireNode>::all(self.client.clone()).list(&params)).await?;
        Ok(nodes.items.into_iter().next().map(|node| node.view))
    }

    /// As the agent's watch lists them.
    pub(super) async fn pods(&self) -> Result<Vec<PodView>, Trouble> {
        let params = ListParams::default().fields(&format!("spec.nodeName={}", self.node)).match_any();
        let pods = within(CALL_TIMEOUT, kube::Api::<WirePod>::all(self.client.clone()).list(&params)).await?;
        Ok(pods.items.into_iter().map(|pod| pod.view).collect())
    }

    pub(super) async fn review(&self, right: &Right) -> Result<Review, Trouble> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Answer {
            status: Status,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status {
            allowed: bool,
            reason: String,
        }
        // Requests about the Node name it, and RBAC may be limited to it.
        let name = if right.resource == "nodes" { self.node.as_str() } else { "" };
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "group": right.group, "resource": right.resource, "subresource": right.subresource, "verb": right.verb,
                "namespace": right.namespace(), "name": name,
            } },
        });
        let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes());
        let Answer { status: Status { allowed, reason } } = self.call(request).await?;
        Ok(Review { allowed, reason })
    }

    /// Asks for each pod whether its eviction would be refused now. What is not answered in time is left open.
    pub(super) async fn try_out(&self, pods: &[PodRef]) -> Vec<(PodRef, EvictionAnswer)> {
        let end = Instant::now() + TRIAL_TIMEOUT;
        let trials = pods.iter().map(|pod| async move {
            let answer = tokio::time::timeout_at(end, self.api.probe(pod)).await;
            (pod.clone(), answer.unwrap_or_else(|_| EvictionAnswer::Unknown("no answer in time".into())))
        });
        futures::stream::iter(trials).buffered(TRIALS_AT_ONCE).collect().await
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, http::Error>,
    ) -> Result<T, Trouble> {
        let request = request.map_err(|error| Trouble::NoClient(error.to_string()))?;
        within(CALL_TIMEOUT, self.client.request(request)).await
    }
}

/// All that ipamd is asked, one question after the other; each has the time-out that it has in the agent.
pub(super) async fn addresses(config: &CniConfig) -> Result<Answers, BuildError> {
    let client = cni::client::Client::new(config)?;
    if !config.enabled {
        return Ok(Answers { interfaces: Err(Problem::Refused), settings: None, metrics: Err(Problem::Refused) });
    }
    let interfaces = client.interfaces().await;
    let settings = if interfaces.is_ok() { client.settings().await.ok() } else { None };
    Ok(Answers { interfaces, settings, metrics: client.metrics().await })
}

/// Sends each signal's collector an empty export.
pub(super) async fn collectors(config: &Config, clock: Clock) -> Vec<Asked> {
    let Some(otlp) = &config.otlp else { return Vec::new() };
    let asked =
        [(OtlpSignal::Metrics, &otlp.metrics), (OtlpSignal::Traces, &otlp.traces)].map(|(signal, target)| async move {
            let counts = OtlpMetrics::register(&mut Registry::default(), std::iter::empty());
            let mut exporter = Exporter::new(signal, otlp, &config.egress, counts, clock)?;
            let answer = exporter.try_out().await.map(|status| status.as_u16());
            Some(Asked { signal, endpoint: target.as_ref()?.endpoint.clone(), answer })
        });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
    match timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => {
            Err(Trouble::Refused { code: status.code, message: status.message.clone() })
        }
        Ok(Err(error)) => Err(Trouble::Unreachable(chain(&error))),
        Err(_) => Err(Trouble::Slow(limit)),
    }
}
