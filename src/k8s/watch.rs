//! The two kept watches: the own Node and its pods. They feed the machine and are the agent's whole load on an idle API
//! server.
//!
//! A broken watch is opened again with growing pauses of at most a few seconds, because pods come and go unseen meanwhile;
//! the re-list that follows is a full snapshot. Lists ask for "any" resource version, which the API server answers from
//! its cache.

use std::fmt::Debug;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::wire::{WireNode, WirePod};
use crate::interruption::Input;

/// The object that a watch delivers, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The own Node.
    Node,
    /// The own node's pods.
    Pods,
}

/// What a watch yields: something to tell the machine, or a failure to count.
pub type WatchItem = Result<Input, watcher::Error>;

/// Follows the own Node.
pub fn node(client: Client, name: &str) -> impl Stream<Item = WatchItem> + Send + use<> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).any_semantic();
    let name = name.to_owned();
    let mut found = false;
    kept::<WireNode>(Api::all(client), config).filter_map(move |event| {
        let item = match event {
            Ok(Event::Apply(node) | Event::InitApply(node)) => {
                found = true;
                Some(Ok(Input::Node(node.view)))
            }
            Ok(Event::InitDone) if !found => {
                tracing::warn!(
                    node = name,
                    "there is no such Node; set NODE_NAME to the name that kubectl get nodes shows"
                );
                None
            }
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => None,
            Err(error) => Some(Err(error)),
        };
        std::future::ready(item)
    })
}

/// Follows the pods that are bound to the node `name`.
pub fn pods(client: Client, name: &str) -> impl Stream<Item = WatchItem> + Send + use<> {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={name}")).any_semantic();
    let mut listed = Vec::new();
    kept::<WirePod>(Api::all(client), config).filter_map(move |event| {
        let item = match event {
            Ok(Event::Init) => {
                listed.clear();
                None
            }
            Ok(Event::InitApply(pod)) => {
                listed.push(pod.view);
                None
            }
            Ok(Event::InitDone) => Some(Ok(Input::Pods(std::mem::take(&mut listed)))),
            Ok(Event::Apply(pod)) => Some(Ok(Input::Pod(pod.view))),
            Ok(Event::Delete(pod)) => Some(Ok(Input::PodGone(pod.view.id))),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(item)
    })
}

fn kept<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config).backoff(Reopen::new())
}

/// Pauses between attempts to open a watch again: at most 2 s with jitter, since an agent that sees nothing can neither
/// take up late pods nor tell when the last one is gone.
struct Reopen {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
}

impl Reopen {
    fn new() -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(1))
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        Self { builder, pauses: builder.build() }
    }
}

impl Iterator for Reopen {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.pauses.next()
    }
}

impl Backoff for Reopen {
    fn reset(&mut self) {
        self.pauses = self.builder.build();
    }
}
