//! The two kept watches: the own Node and its pods. They feed the machine and are the agent's whole load on an idle API
//! server.
//!
//! A broken watch is opened again with growing pauses of at most a few seconds, because pods come and go unseen meanwhile;
//! the re-list that follows is a full snapshot. Lists ask for "any" resource version, which the API server answers from
//! its cache.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{Stream, StreamExt};
use kube::client::Body;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::attributes::Attributes;
use super::wire::{WireNode, WirePod};
use crate::interruption::Input;

/// What a watch yields: something to tell the machine, or a failure to count.
pub type WatchItem = Result<Input, watcher::Error>;

/// Whether a watch works, for the log: one line when it breaks off, one when it is back.
#[derive(Debug)]
pub struct Health {
    resource: &'static str,
    failing: bool,
}

impl Health {
    /// A watch that has not failed yet.
    pub fn new(resource: &'static str) -> Self {
        Self { resource, failing: false }
    }

    /// Lets through what is news to the machine.
    pub fn pass(&mut self, item: WatchItem) -> Option<Input> {
        let resource = self.resource;
        match (&item, self.failing) {
            (Err(error), false) => {
                let error = super::chain(error);
                tracing::warn!(resource, error, "watch broke off; it is opened again until the API server answers");
            }
            (Err(error), true) => tracing::debug!(resource, error = super::chain(error), "watch cannot be opened yet"),
            (Ok(_), true) => tracing::info!(resource, "watch works again"),
            (Ok(_), false) => {}
        }
        self.failing = item.is_err();
        item.ok()
    }
}

/// Follows the own Node.
pub fn node(client: Client, name: &str) -> impl Stream<Item = WatchItem> + Send + use<> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).any_semantic();
    let name = name.to_owned();
    let mut found = false;
    kept::<WireNode>(Api::all(paced(client)), config).filter_map(move |event| {
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
    kept::<WirePod>(Api::all(paced(client)), config).filter_map(move |event| {
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

/// A client that opens one watch per [`SHORTEST_WATCH`] at most. A watch that ends is no failure to the watcher: it opens
/// the next one at once, and a proxy that ends each at once would be asked without a pause.
fn paced(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let next_watch = Arc::new(Mutex::new(None::<Instant>));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (client, next_watch) = (client.clone(), next_watch.clone());
        async move {
            if Attributes::of(request.method(), request.uri()).verb == "watch" {
                let now = Instant::now();
                let mut next = next_watch.lock().await;
                let start = next.map_or(now, |next| next.max(now));
                *next = Some(start + SHORTEST_WATCH);
                tokio::time::sleep_until(start).await;
            }
            client.send(request).await
        }
    });
    Client::new(service, namespace)
}

/// Watches live for minutes.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// A watch that worked for this long starts over with short pauses.
const CALM: Duration = Duration::from_secs(30);

/// Pauses between attempts to open a watch again: at most 2 s with jitter, since an agent that sees nothing can neither
/// take up late pods nor tell when the last one is gone.
struct Reopen {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
    failed_at: Option<Instant>,
}

impl Reopen {
    fn new() -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(1))
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        Self { builder, pauses: builder.build(), failed_at: None }
    }
}

impl Iterator for Reopen {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.failed_at.replace(now).is_some_and(|failed| now > failed + CALM) {
            self.pauses = self.builder.build();
        }
        self.pauses.next()
    }
}

impl Backoff for Reopen {
    /// Called after every item, also after the one that only says that a list is about to be asked for. Time without a
    /// failure is the better sign of recovery.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A client whose API server answers lists like this and ends every watch at once, and the number of requests.
    fn client(code: u16, list: &'static str) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            let body = if request.uri().to_string().contains("watch=true") { "" } else { list };
            let answer = http::Response::builder().status(code).body(Body::from(body.as_bytes().to_vec()));
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        (Client::new(service, "default"), asked)
    }

    async fn follow(client: Client, time: Duration) {
        let mut pods = pin!(pods(client, "n1"));
        let all = async { while pods.next().await.is_some() {} };
        assert!(tokio::time::timeout(time, all).await.is_err(), "a kept watch never ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_lists_is_asked_with_growing_pauses() {
        let (client, asked) = client(503, "not now");
        follow(client, Duration::from_secs(60)).await;
        let asked = asked.load(Ordering::Relaxed);
        assert!((25..=60).contains(&asked), "{asked} requests in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_at_once_are_not_opened_without_a_pause() {
        let list = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
        let (client, asked) = client(200, list);
        follow(client, Duration::from_secs(60)).await;
        let asked = asked.load(Ordering::Relaxed);
        assert!((55..=65).contains(&asked), "{asked} requests in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_time_the_pauses_are_short_again() {
        let mut reopen = Reopen::new();
        let grown = reopen.by_ref().take(10).last().unwrap();
        tokio::time::advance(CALM + Duration::from_secs(1)).await;
        let next = reopen.next().unwrap();
        assert!(grown >= Duration::from_secs(1) && next < Duration::from_millis(500), "{grown:?} {next:?}");
    }
}
