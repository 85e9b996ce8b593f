//! Slack, Alertmanager and a webhook, as far as a sender can tell: they take what is well-formed and complain of the rest.
//!
//! All three are one listener on loopback, each with its own path and its own fault. Nothing here comes from the agent:
//! what a payload has to be is what the services document.

mod judge;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Larger than any message.
const MAX_BODY: usize = 1024 * 1024;
/// What [`SinkFault::Huge`] answers with.
const HUGE: usize = 10 * 1024 * 1024;
/// What [`SinkFault::Throttles`] asks for.
const PAUSE_SECONDS: u64 = 2;
/// After a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The sorts of sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkName {
    /// Slack's incoming webhook.
    Slack,
    /// Alertmanager's API.
    Alertmanager,
    /// A webhook.
    Webhook,
}

impl SinkName {
    /// Every sort.
    pub const ALL: [Self; 3] = [Self::Slack, Self::Alertmanager, Self::Webhook];

    /// The name in scenarios.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Alertmanager => "alertmanager",
            Self::Webhook => "webhook",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Slack => "/services/T0/B0/secret",
            Self::Alertmanager => "/api/v2/alerts",
            Self::Webhook => "/hook/secret",
        }
    }
}

/// What is wrong with a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkFault {
    /// It accepts connections and says nothing.
    Hangs,
    /// 400 to everything.
    Refuses,
    /// 404: the webhook was revoked.
    Revoked,
    /// 429 with `Retry-After`.
    Throttles,
    /// 500 to everything.
    Fails,
    /// It takes the message, and answers with 10 MB.
    Huge,
}

/// A fault while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Faulty {
    fault: SinkFault,
    /// None = for good.
    until: Option<Instant>,
}

/// One request that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Where.
    pub sink: SinkName,
    /// What was answered; 0 if nothing was.
    pub status: u16,
    /// The body.
    pub body: Value,
    /// What is wrong with it, by the service's rules.
    pub complaints: Vec<String>,
}

impl Received {
    /// The sink has the message.
    pub fn is_taken(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The sinks of one world; clones share them.
#[derive(Clone, Debug, Default)]
pub struct SimSinks(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    faults: BTreeMap<SinkName, Faulty>,
    received: Vec<Received>,
}

impl SimSinks {
    /// Where a sink is on a listener with this address.
    pub fn url(address: SocketAddr, sink: SinkName) -> String {
        match sink {
            // A base URL; the client knows the path.
            SinkName::Alertmanager => format!("http://{address}"),
            SinkName::Slack | SinkName::Webhook => format!("http://{address}{}", sink.path()),
        }
    }

    /// Something is wrong with a sink from now on, for so long or for good.
    pub fn fault(&self, sink: SinkName, fault: SinkFault, lasts: Option<Duration>) {
        let until = lasts.map(|lasts| Instant::now() + lasts);
        self.state().faults.insert(sink, Faulty { fault, until });
    }

    /// Everything that arrived, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// Serves connections until the future is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let sinks = self.clone();
                        connections.spawn(async move {
                            let service = service_fn(move |request| {
                                let sinks = sinks.clone();
                                async move { Ok::<_, Infallible>(sinks.answer(request).await) }
                            });
                            // A client that went away is no error here.
                            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                        });
                    }
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(sink) = SinkName::ALL.into_iter().find(|sink| sink.path() == request.uri().path()) else {
            return response(StatusCode::NOT_FOUND, Bytes::from_static(b"no_service"));
        };
        let json =
            request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let (method, at) = (request.method().clone(), Instant::now());
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map(http_body_util::Collected::to_bytes);
        let parsed = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok());
        let mut complaints =
            parsed.as_ref().map_or_else(|| vec!["this is no JSON".to_owned()], |body| judge::complaints(sink, body));
        if method != Method::POST || !json {
            complaints.push(format!("a POST of application/json is wanted, this is {method}"));
        }
        let faulty =
            self.state().faults.get(&sink).copied().filter(|faulty| faulty.until.is_none_or(|until| at < until));
        let status = match faulty.map(|faulty| faulty.fault) {
            Some(SinkFault::Hangs) => 0,
            Some(SinkFault::Refuses) => 400,
            Some(SinkFault::Revoked) => 404,
            Some(SinkFault::Throttles) => 429,
            Some(SinkFault::Fails) => 500,
            Some(SinkFault::Huge) | None => {
                if complaints.is_empty() {
                    200
                } else {
                    400
                }
            }
        };
        let body = parsed.unwrap_or_default();
        self.state().received.push(Received { at, sink, status, body, complaints });
        let code = StatusCode::from_u16(status).unwrap_or_default();
        match faulty.map(|faulty| faulty.fault) {
            Some(SinkFault::Hangs) => std::future::pending().await,
            Some(SinkFault::Huge) => response(code, Bytes::from(vec![b'x'; HUGE])),
            Some(SinkFault::Throttles) => {
                let mut response = response(StatusCode::TOO_MANY_REQUESTS, Bytes::from_static(b"rate_limited"));
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(PAUSE_SECONDS));
                response
            }
            _ => response(code, Bytes::from_static(b"ok")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
