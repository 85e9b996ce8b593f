//! Counts every request that leaves through a client, at the one place that all of them pass.

use kube::Client;

use super::attributes::Attributes;
use crate::metrics::ApiMetrics;

/// The same client, counted into `metrics`.
pub fn metered(client: Client, metrics: ApiMetrics) -> Client {
    let namespace = client.default_namespace().to_owned();
    let inner = client;
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (inner, metrics) = (inner.clone(), metrics.clone());
        let attributes = Attributes::of(request.method(), request.uri());
        async move {
            let mut unanswered = Unanswered { metrics, attributes, answered: false };
            let result = inner.send(request).await;
            unanswered.answered(result.as_ref().ok().map(|response| response.status().as_u16()));
            result
        }
    });
    Client::new(service, namespace)
}

/// Counts a request as unanswered if its caller gave up on it.
struct Unanswered {
    metrics: ApiMetrics,
    attributes: Attributes,
    answered: bool,
}

impl Unanswered {
    fn answered(&mut self, code: Option<u16>) {
        self.answered = true;
        self.metrics.request(self.attributes.verb, &self.attributes.resource_path(), code);
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.answered {
            self.answered(None);
        }
    }
}
