//! The kubelet's default limit of pods, of all sorts, and how each behaves when it is told to stop.

use std::time::Duration;

use spotwarden::drain::pod::{PodNetwork, PodRef, PodView};
use spotwarden::drain::wish::{DO_NOT_DISRUPT, Wish};

/// A pod and its ways.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) view: PodView,
    /// From SIGTERM to its exit.
    pub(crate) stops_after: Duration,
    /// A budget refuses every eviction.
    pub(crate) blocked: bool,
}

/// Name, number, own grace and time to stop, in seconds.
const SORTS: [(&str, u64, u64, u64); 9] = [
    ("web", 68, 30, 5),
    ("api", 14, 60, 48),
    ("queue", 6, 90, 72),
    ("batch", 4, 300, 240),
    ("blocked", 8, 30, 24),
    ("dns", 2, 30, 5),
    ("pinned", 2, 30, 5),
    ("log-agent", 5, 30, 5),
    ("kube-proxy", 1, 30, 5),
];

/// Pods on the node.
pub(crate) const PODS: usize = 110;

/// All of them, no two stopping in the same millisecond.
pub(crate) fn pods() -> Vec<Pod> {
    let sorts = SORTS.iter().flat_map(|&(name, count, grace, stops)| (0..count).map(move |_| (name, grace, stops)));
    sorts.zip(0_u64..).map(|((name, grace, stops), number)| pod(name, grace, stops, number)).collect()
}

fn pod(name: &str, grace: u64, stops: u64, number: u64) -> Pod {
    let view = PodView {
        // Of the length that names and UIDs of a Deployment's pods have: they are copied about.
        id: PodRef {
            namespace: "production".into(),
            name: format!("{name}-7d9c6b5f4d-{number:05}"),
            uid: format!("5f0c3a52-8d4e-4b7a-9c1f-{number:012}"),
        },
        grace: Duration::from_secs(grace),
        finished: false,
        daemon_set: name == "log-agent",
        daemon_set_eviction: false,
        mirror: name == "kube-proxy",
        critical: name == "dns",
        priority: 0,
        controlled: true,
        wish: (name == "pinned").then_some(Wish::Stay { asked_by: DO_NOT_DISRUPT, until: None }),
        marked: false,
        deletion: None,
        network: PodNetwork::default(),
    };
    let stops_after = Duration::from_secs(stops) + Duration::from_millis(number * 17);
    Pod { view, stops_after, blocked: name == "blocked" }
}
