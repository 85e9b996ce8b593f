//! The gateway on a TCP listener: HTTP/1.1, one task per connection, all of them ended with the listener.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::answers::CannedAnswer;
use super::backend::Body;
use super::{Disconnected, Gateway};

/// Largest request body; kube-apiserver's own limit is 3 MiB.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Gateway {
    /// Serves connections until the future is dropped; open connections end with it.
    pub async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(_) if self.faults.unavailable() => {}
                    Ok((stream, _)) => drop(connections.spawn(self.clone().connection(stream))),
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }

    async fn connection(self, stream: TcpStream) {
        // Without it a small answer may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let gone = self.faults.clone().until_unavailable();
        let service = service_fn(move |request| self.clone().answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // A client that went away, or a fault that closed the connection: neither is an error here.
            _ = connection => {}
            () = gone => {}
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Disconnected> {
        let (head, body) = request.into_parts();
        match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => self.handle(Request::from_parts(head, body.to_bytes())).await,
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Ok(CannedAnswer::text(StatusCode::PAYLOAD_TOO_LARGE, Bytes::from_static(b"request body too large\n"))
                    .response())
            }
            Err(_) => Err(Disconnected),
        }
    }
}
