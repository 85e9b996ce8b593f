//! What the agent costs the API server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Label value for everything outside a closed set.
const OTHER: &str = "other";

/// Verbs as RBAC names them.
const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// Resources as RBAC names them.
const RESOURCES: [&str; 6] = ["nodes", "pods", "pods/eviction", "pods/status", "events", "selfsubjectaccessreviews"];

/// Status codes that an API server is known to answer these calls with, and their label values.
const CODES: [(u16, &str); 16] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
];

/// The calls that an idle agent makes, and the fence. They exist with 0 from the start; the whole product of verbs,
/// resources and codes would be some 800 series, nearly all of which never happen. Evictions have a metric of their own.
const EXPECTED: [(&str, &str, u16); 5] = [
    ("list", "nodes", 200),
    ("watch", "nodes", 200),
    ("patch", "nodes", 200),
    ("list", "pods", 200),
    ("watch", "pods", 200),
];

/// Resources that are watched.
const WATCHED: [&str; 2] = ["nodes", "pods"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabel {
    resource: &'static str,
}

/// Counters of calls to the API server. Clones count into the same place.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    requests: Family<RequestLabels, Counter>,
    watch_restarts: Family<ResourceLabel, Counter>,
}

impl ApiMetrics {
    /// Registers everything under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { requests: Family::default(), watch_restarts: Family::default() };
        let Self { requests, watch_restarts } = &metrics;
        registry.register(
            "api_requests",
            "Requests to the API server; code `error` when no answer came in time",
            requests.clone(),
        );
        registry.register(
            "watch_restarts",
            "Times that a watch broke off and was started again with a new list",
            watch_restarts.clone(),
        );
        for (verb, resource, code) in EXPECTED {
            drop(requests.get_or_create(&labels(verb, resource, Some(code))));
        }
        for resource in WATCHED {
            drop(watch_restarts.get_or_create(&ResourceLabel { resource }));
        }
        metrics
    }

    /// Counts one request. `verb` and `resource` are spelled as in RBAC rules (`patch`, `pods/eviction`); what is not
    /// known is counted as `other`. `code` is the HTTP status, or `None` when no answer came.
    pub fn request(&self, verb: &str, resource: &str, code: Option<u16>) {
        self.requests.get_or_create(&labels(verb, resource, code)).inc();
    }

    /// Counts a watch that had to be started anew.
    pub fn watch_restarted(&self, resource: &str) {
        self.watch_restarts.get_or_create(&ResourceLabel { resource: known(&WATCHED, resource) }).inc();
    }
}

fn labels(verb: &str, resource: &str, code: Option<u16>) -> RequestLabels {
    RequestLabels { verb: known(&VERBS, verb), resource: known(&RESOURCES, resource), code: code_label(code) }
}

fn known(set: &[&'static str], value: &str) -> &'static str {
    set.iter().copied().find(|known| *known == value).unwrap_or(OTHER)
}

fn code_label(code: Option<u16>) -> &'static str {
    let Some(code) = code else { return "error" };
    CODES.iter().find(|(known, _)| *known == code).map_or(OTHER, |(_, label)| label)
}
