//! A stand-in collector: answers as it is told to, and keeps what it got.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// An answer.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    With(u16, Option<&'static str>, Vec<u8>),
    Never,
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self::With(status, None, Vec::new())
    }
}

/// One request as it came.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) at: Instant,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Received {
    /// The body as it was before it was compressed.
    pub(super) fn plain(&self) -> Vec<u8> {
        if self.headers.get("content-encoding").is_none_or(|coding| coding != "gzip") {
            return self.body.to_vec();
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(self.body.as_ref()).read_to_end(&mut plain).unwrap();
        plain
    }

    pub(super) fn metrics(&self) -> Vec<Metric> {
        let request = ExportMetricsServiceRequest::decode(self.plain().as_slice()).unwrap();
        let [resource] = request.resource_metrics.try_into().unwrap();
        let [scope] = resource.scope_metrics.try_into().unwrap();
        scope.metrics
    }

    /// The only point of a sum or gauge, or the one with this attribute value.
    pub(super) fn number(&self, name: &str, label: Option<&str>) -> u64 {
        let metrics = self.metrics();
        let metric = metrics.iter().find(|metric| metric.name == name).expect(name);
        let points = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => &sum.data_points,
            Data::Gauge(gauge) => &gauge.data_points,
            other => panic!("{other:?}"),
        };
        let wanted = |point: &&opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
            label.is_none_or(|label| point.attributes.iter().any(|one| super::text_of(one) == label))
        };
        match points.iter().find(wanted).expect(name).value {
            Some(Value::AsDouble(value)) => value.to_string().parse().expect("a whole number"),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) struct Collector {
    pub(super) url: String,
    pub(super) received: mpsc::UnboundedReceiver<Received>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    _tasks: JoinSet<()>,
}

impl Collector {
    /// Gives these answers one after the other, then the last one for ever; success if there are none.
    pub(super) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let (sender, received) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, replies.clone(), sender));
        Self { url, received, replies, _tasks: tasks }
    }

    pub(super) fn answer(&self, replies: impl IntoIterator<Item = Reply>) {
        *self.replies.lock().unwrap() = replies.into_iter().collect();
    }

    pub(super) async fn next(&mut self) -> Received {
        self.received.recv().await.unwrap()
    }
}

async fn serve(listener: TcpListener, replies: Arc<Mutex<VecDeque<Reply>>>, sender: mpsc::UnboundedSender<Received>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (replies, sender) = (replies.clone(), sender.clone());
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let (replies, sender) = (replies.clone(), sender.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let path = head.uri.path().to_owned();
                    let _ = sender.send(Received { at: Instant::now(), path, headers: head.headers, body });
                    let reply = {
                        let mut replies = replies.lock().unwrap();
                        let last = replies.front().cloned();
                        if replies.len() > 1 { replies.pop_front() } else { last }
                    };
                    match reply.unwrap_or(Reply::status(200)) {
                        Reply::Never => std::future::pending().await,
                        Reply::With(status, retry_after, body) => {
                            let mut response = Response::builder().status(status);
                            if let Some(text) = retry_after {
                                response = response.header("retry-after", text);
                            }
                            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                        }
                    }
                }
            });
            // A client that goes away is none of the collector's business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
