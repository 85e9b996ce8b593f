//! The admin HTTP server: `/metrics`, `/livez`, `/readyz` and a page for people.
//!
//! Binding and serving are two steps, so that a taken port stops the start before anything else begins. Whoever can reach
//! the port can only read, and cannot keep the agent from its work: connections, header size and every duration are
//! bounded, and one connection serves one request.

pub mod page;
pub mod readiness;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::cni::model::Headroom;
use crate::gzip::gzip;
use crate::identity::NodeIdentity;
use crate::interruption::record::Status;
use crate::metrics::{Metrics, negotiate};
use crate::notify::SinkStatus;
use readiness::Readiness;

/// Connections served at once; later ones wait in the kernel's queue. Probes and two scrapers need three.
const MAX_CONNECTIONS: usize = 16;
/// Until the request's header is complete.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// For one connection from its first byte to its last: a reader that stops reading holds no place for longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest header.
const MAX_BUFFER: usize = 16 * 1024;
/// After a failed accept, which is nearly always "too many open files" and would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For answers that are under way when the server is told to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Why the admin server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be bound.
    #[error("the admin server cannot listen on {address}: {source}; choose another one with --admin-address")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// What the server shows.
#[derive(Clone, Debug)]
pub struct Handles {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/`.
    pub status: watch::Receiver<Status>,
    /// For `/`, too.
    pub headroom: watch::Receiver<Option<Arc<Headroom>>>,
    /// For `/`, too.
    pub sinks: watch::Receiver<Vec<SinkStatus>>,
    /// For "in 1 min 12 s".
    pub clock: Clock,
    /// The own Node and its instance.
    pub identity: watch::Receiver<NodeIdentity>,
    /// The agent changes nothing; the page says so.
    pub dry_run: bool,
}

/// Takes the address. Nothing is answered before [`serve`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address).await.map_err(|source| AdminError::Bind { address, source })
}

/// Answers until `shutdown` resolves, then lets what is under way finish within a second.
pub async fn serve(listener: TcpListener, handles: Handles, shutdown: impl Future<Output = ()>) {
    let handles = Arc::new(handles);
    let mut shutdown = pin!(shutdown);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, handles.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin server cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let finish = async { while connections.join_next().await.is_some() {} };
    // Whatever is left is dropped with the set.
    _ = timeout(SHUTDOWN_GRACE, finish).await;
}

async fn connection(stream: TcpStream, handles: Arc<Handles>) {
    let service = service_fn(|request| {
        let response = respond(&request, &handles);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection ended early"),
        Err(_) => tracing::debug!("admin connection took too long"),
    }
}

fn respond(request: &Request<Incoming>, handles: &Handles) -> Response<Full<Bytes>> {
    let answer: fn(&Request<Incoming>, &Handles) -> Response<Full<Bytes>> = match request.uri().path() {
        "/metrics" => metrics,
        "/livez" => |_, _| text(StatusCode::OK, "ok\n".into()),
        "/readyz" => |_, handles| readyz(handles),
        "/" => |_, handles| page(handles),
        _ => {
            let paths = "not found; there are /, /metrics, /livez and /readyz\n";
            return text(StatusCode::NOT_FOUND, paths.into());
        }
    };
    if request.method() == Method::GET || request.method() == Method::HEAD {
        // The body of an answer to HEAD is left out by the HTTP library; its length is still told.
        return answer(request, handles);
    }
    let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refusal
}

fn metrics(request: &Request<Incoming>, handles: &Handles) -> Response<Full<Bytes>> {
    // The header may be sent in several lines, which mean the same as one with commas.
    let header = |name| {
        let values = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    let (content_type, body) = handles.metrics.text(Some(&header(ACCEPT)));
    let compressed = negotiate::gzip(&header(ACCEPT_ENCODING)).then(|| gzip(body.as_bytes()));
    let encoded = compressed.is_some();
    let mut response = response(StatusCode::OK, content_type, compressed.map_or_else(|| body.into(), Bytes::from));
    if encoded {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// 200 or 503, and always one line for each condition.
fn readyz(handles: &Handles) -> Response<Full<Bytes>> {
    let report = handles.readiness.report(handles.status.borrow().node_seen);
    let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, report.to_string())
}

fn page(handles: &Handles) -> Response<Full<Bytes>> {
    let (status, headroom) = (handles.status.borrow().clone(), handles.headroom.borrow().clone());
    let body = page::render(&page::Facts {
        node: &handles.identity.borrow(),
        status: &status,
        headroom: headroom.as_deref(),
        sinks: &handles.sinks.borrow(),
        report: handles.readiness.report(status.node_seen),
        dry_run: handles.dry_run,
        now: handles.clock.now(),
    });
    response(StatusCode::OK, HTML, body.into())
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    response(status, TEXT, body.into())
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Names of pods and messages of servers are escaped; should that ever fail, nothing of it is executed.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
