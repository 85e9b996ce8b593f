//! The client for peers that are neither the platform nor the cluster: collectors, Alertmanager, Slack, webhooks.
//!
//! Only here a proxy may be used. Nothing is followed or repeated by the transport: a redirect could carry a secret
//! elsewhere, and whether there is time for another attempt is the caller's to know. No error of this module names the
//! address that was asked, for the address of a webhook is its secret; answers are read up to a limit.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::{NoProxy, Proxy, RequestBuilder, Response};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::EgressConfig;
use crate::http::{ReadError, read_capped};
use crate::tls::{self, Identity, Refusal};

/// Establishing TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Of an answer no more than this is looked at.
const BODY_CAP: usize = 64 * 1024;

/// What one peer needs of TLS beyond the rest; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTls {
    /// Certificates in PEM form to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate in PEM form, with the key beside it.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why no client can be built.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A file cannot be read, or holds no certificate or key.
    #[error("{path} {problem}; give a readable file in PEM form")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A proxy's address cannot be used. It may hold a password, so it is not repeated.
    #[error("{variable} is not an address of a proxy; use http://HOST:PORT")]
    Proxy {
        /// The environment variable.
        variable: &'static str,
    },
    /// TLS was refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client was refused.
    #[error("the HTTP client cannot be set up")]
    Client,
}

/// A peer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// How long the peer asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The body; empty if it was larger than anybody wants to read.
    pub body: Bytes,
}

/// Why there is no answer. Whether the peer acted on the request is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The time was up.
    #[error("no answer in time")]
    TimedOut,
    /// No connection: name, route, port or proxy.
    #[error("no connection")]
    Unreachable,
    /// One side does not accept what the other showed of itself.
    #[error("{0}")]
    Tls(Refusal),
    /// The connection broke.
    #[error("the connection broke off")]
    Broken,
}

/// A client that reaches the outside as `egress` says, with what `peer` needs of TLS.
pub fn client(egress: &EgressConfig, peer: &PeerTls) -> Result<reqwest::Client, EgressError> {
    let identity = peer.certificate.as_ref().map(|(certificate, key)| identity(certificate, key)).transpose()?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(roots(egress, peer)?, identity)?)
        // The environment was read by the configuration, and only there.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("spotwarden/", env!("CARGO_PKG_VERSION")));
    for proxy in proxies(egress)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|_| EgressError::Client)
}

/// Sends a request once; `limit` covers all of it. `now` is for a `Retry-After` that names a date.
pub async fn send(request: RequestBuilder, limit: Duration, now: Timestamp) -> Result<Answer, SendError> {
    let response = request.timeout(limit).send().await.map_err(|error| failure(&error))?;
    let (status, retry_after) = (response.status(), retry_after(response.headers(), now));
    Ok(Answer { status, retry_after, body: body(response).await? })
}

async fn body(response: Response) -> Result<Bytes, SendError> {
    match read_capped(response, BODY_CAP).await {
        Ok(body) => Ok(body),
        // The status has said what matters.
        Err(ReadError::TooLarge(_)) => Ok(Bytes::new()),
        Err(ReadError::Transfer(error)) => Err(failure(&error)),
    }
}

fn failure(error: &reqwest::Error) -> SendError {
    if error.is_timeout() {
        SendError::TimedOut
    } else if let Some(refusal) = refusal(error) {
        SendError::Tls(refusal)
    } else if error.is_connect() {
        SendError::Unreachable
    } else {
        SendError::Broken
    }
}

/// What TLS says, however deep it stands; `None` if it is not to blame.
fn refusal(error: &reqwest::Error) -> Option<Refusal> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(Refusal::of(error));
        }
        next = match error.downcast_ref::<io::Error>() {
            // It holds another one, and names as its source not that one but what is behind it.
            Some(error) => error.get_ref().map(|held| held as _),
            None => error.source(),
        };
    }
    None
}

/// RFC 9110, 10.2.3: seconds, or a date. One that cannot be read counts as absent.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    static DATE: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let left = DATE.parse_timestamp(text).ok()?.duration_since(now);
    Some(left.try_into().unwrap_or(Duration::ZERO))
}

fn proxies(egress: &EgressConfig) -> Result<Vec<Proxy>, EgressError> {
    let no_proxy = egress.no_proxy.as_deref().and_then(NoProxy::from_string);
    let made = |proxy: reqwest::Result<Proxy>, variable| match proxy {
        Ok(proxy) => Ok(proxy.no_proxy(no_proxy.clone())),
        Err(_) => Err(EgressError::Proxy { variable }),
    };
    let https = egress.https_proxy.as_deref().map(|url| made(Proxy::https(url), "HTTPS_PROXY"));
    let http = egress.http_proxy.as_deref().map(|url| made(Proxy::http(url), "HTTP_PROXY"));
    https.into_iter().chain(http).collect()
}

fn roots(egress: &EgressConfig, peer: &PeerTls) -> Result<RootCertStore, EgressError> {
    if let Some(path) = &peer.ca_file {
        let mut roots = RootCertStore::empty();
        trust(&mut roots, path)?;
        return Ok(roots);
    }
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    egress.ca_file.iter().try_for_each(|path| trust(&mut roots, path))?;
    Ok(roots)
}

fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), EgressError> {
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| file(path, format!("holds a certificate of no use: {error}")))?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EgressError> {
    let text = std::fs::read(path).map_err(|error| file(path, format!("cannot be read: {error}")))?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| file(path, format!("is not PEM: {error}")))?;
    if all.is_empty() {
        return Err(file(path, "holds no certificate".to_owned()));
    }
    Ok(all)
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, EgressError> {
    let chain = certificates(certificate)?;
    let text = std::fs::read(key).map_err(|error| file(key, format!("cannot be read: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| file(key, format!("holds no key: {error}")))?;
    Ok((chain, key))
}

fn file(path: &Path, problem: String) -> EgressError {
    EgressError::File { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests;
