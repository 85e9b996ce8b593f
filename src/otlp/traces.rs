//! Spans on their way: a bounded queue and one request at a time.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::closed;
use super::exporter::Exporter;
use super::resource::{SCHEMA_URL, resource, scope};
use super::schedule::{FAREWELL, IN_FLIGHT_GRACE, Outcome, Pauses};
use crate::config::otlp::ResourceConfig;
use crate::identity::NodeIdentity;
use crate::interruption::chronicle::News;

/// Spans that may wait for the collector. An interruption of a full node has some 120; of more the oldest go.
const MOST_WAITING: usize = 256;

/// Sends spans.
#[derive(Debug)]
pub struct Traces {
    exporter: Exporter,
    resource: ResourceConfig,
    node: watch::Receiver<NodeIdentity>,
    waiting: VecDeque<Span>,
    pauses: Pauses,
}

impl Traces {
    /// Nothing is sent before [`Traces::run`]. `node` tells what the resource's attributes are made of.
    pub fn new(exporter: Exporter, resource: ResourceConfig, node: watch::Receiver<NodeIdentity>) -> Self {
        Self { exporter, resource, node, waiting: VecDeque::new(), pauses: Pauses::default() }
    }

    /// Sends what `spans_of` makes of each turn of an interruption: spans that have ended, each once. Ends some seconds
    /// after `closing` became true at the latest, having tried to deliver what was left.
    pub async fn run(
        mut self,
        mut news: broadcast::Receiver<News>,
        mut spans_of: impl FnMut(&News) -> Vec<Span> + Send,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut due: Option<Instant> = None;
        loop {
            let spans = tokio::select! {
                // Whatever was told before the end is still taken up.
                biased;
                heard = news.recv() => match heard {
                    Ok(news) => spans_of(&news),
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                () = closed(&mut closing) => break,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = self.push(&mut news, &mut spans_of, &mut closing).await;
                    continue;
                }
            };
            self.keep(spans);
            if !self.waiting.is_empty() {
                due = due.or(Some(Instant::now()));
            }
        }
        self.farewell().await;
    }

    fn keep(&mut self, spans: Vec<Span>) {
        for span in spans {
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.pop_front();
                self.exporter.dropped();
            }
            self.waiting.push_back(span);
        }
    }

    /// One request with all that waits, while news is taken up; when to send next, if anything waits then.
    async fn push(
        &mut self,
        news: &mut broadcast::Receiver<News>,
        spans_of: &mut (impl FnMut(&News) -> Vec<Span> + Send),
        closing: &mut watch::Receiver<bool>,
    ) -> Option<Instant> {
        let batch: Vec<Span> = self.waiting.drain(..).collect();
        let body = self.request(batch.clone());
        let (mut fresh, mut lost) = (Vec::new(), 0);
        let outcome = {
            let mut sending = pin!(self.exporter.send(body, Duration::MAX));
            loop {
                tokio::select! {
                    outcome = &mut sending => break outcome,
                    Ok(news) = news.recv() => {
                        fresh.extend(spans_of(&news));
                        // More than this cannot be kept in any case.
                        let excess = fresh.len().saturating_sub(MOST_WAITING);
                        lost += fresh.drain(..excess).len();
                    }
                    () = closed(closing) => {
                        break timeout(IN_FLIGHT_GRACE, sending).await.unwrap_or(Outcome::Later(None));
                    }
                }
            }
        };
        (0..lost).for_each(|_| self.exporter.dropped());
        if let Outcome::Later(_) = outcome {
            self.keep(batch);
        }
        self.keep(fresh);
        let pause = self.pauses.after(outcome);
        (!self.waiting.is_empty()).then(|| Instant::now() + pause)
    }

    /// One last request, whatever pause was due: nobody comes after.
    async fn farewell(&mut self) {
        if !self.waiting.is_empty() {
            let body = self.request(self.waiting.iter().cloned().collect());
            self.exporter.send(body, FAREWELL).await;
        }
    }

    fn request(&self, spans: Vec<Span>) -> Vec<u8> {
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, schema_url: SCHEMA_URL.into() }];
        let resource = Some(resource(&self.resource, &self.node.borrow()));
        let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: SCHEMA_URL.into() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }
}
