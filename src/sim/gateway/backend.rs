//! Where the gateway sends what it lets through: a handler in this process or a real API server.

use std::future::Future;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// Any failure below HTTP.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streamed answer body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Answers requests.
pub trait Backend: Send + Sync {
    /// Answers one request. The body may stream for as long as a watch lasts.
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, BoxError>>;
}

/// A body that is known in full.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A backend in this process: an async function from request to response.
pub fn in_process<H, F, B>(handler: H) -> impl Backend
where
    H: Fn(Request<Bytes>) -> F + Send + Sync,
    F: Future<Output = Response<B>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    InProcess(handler)
}

struct InProcess<H>(H);

impl<H, F, B> Backend for InProcess<H>
where
    H: Fn(Request<Bytes>) -> F + Send + Sync,
    F: Future<Output = Response<B>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        let answer = (self.0)(request);
        async move { Ok(answer.await.map(|body| body.map_err(Into::into).boxed_unsync())) }.boxed()
    }
}

/// A real API server.
#[derive(Clone)]
pub struct Remote {
    base: String,
    client: reqwest::Client,
    bearer: Option<HeaderValue>,
}

impl Remote {
    /// A server at `base` (scheme, host and port, e.g. `https://127.0.0.1:6443`). Trust, client certificates and
    /// timeouts are the `client`'s; a total timeout would end watches.
    pub fn new(base: &str, client: reqwest::Client) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), client, bearer: None }
    }

    /// Sends this token in place of whatever `Authorization` a request carries.
    ///
    /// # Errors
    /// When the token cannot be the value of a header.
    pub fn with_bearer(mut self, token: &str) -> Result<Self, header::InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        self.bearer = Some(value);
        Ok(self)
    }
}

impl Backend for Remote {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        let (head, body) = request.into_parts();
        let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut headers = end_to_end(head.headers);
        if let Some(bearer) = &self.bearer {
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        let call =
            self.client.request(head.method, format!("{}{target}", self.base)).headers(headers).body(body).send();
        async move {
            let (mut head, body) = Response::<reqwest::Body>::from(call.await?).into_parts();
            head.headers = end_to_end(head.headers);
            head.version = http::Version::HTTP_11;
            Ok(Response::from_parts(head, body.map_err(Into::into).boxed_unsync()))
        }
        .boxed()
    }
}

/// Without what belongs to one connection (RFC 9110 §7.6.1) or is derived from the body again.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    const HOP: [HeaderName; 7] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    for name in HOP {
        headers.remove(name);
    }
    headers
}
