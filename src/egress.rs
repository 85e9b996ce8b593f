//! The client for peers that are neither the platform nor the cluster: collectors, Alertmanager, Slack, webhooks.
//!
//! Only here a proxy may be used. Nothing is followed or repeated by the transport: a redirect could carry a secret
//! elsewhere, and whether there is time for another attempt is the caller's to know. No error of this module names the
//! address that was asked, for the address of a webhook is its secret; answers are read up to a limit.

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
use crate::tls::{self, Identity};

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
    /// No connection: name, route, port, proxy or TLS.
    #[error("no connection")]
    Unreachable,
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
    } else if error.is_connect() {
        SendError::Unreachable
    } else {
        SendError::Broken
    }
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
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    /// Answers every connection with `answer` and closes it, or never says a word; what it was asked.
    async fn peer(tasks: &mut JoinSet<()>, answer: Option<String>) -> (String, tokio::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, questions) = tokio::sync::mpsc::channel(8);
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let _ = asked.send(String::from_utf8_lossy(&head[..length]).into_owned()).await;
                match &answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => std::future::pending().await,
                }
            }
        });
        (address.to_string(), questions)
    }

    async fn get(egress: &EgressConfig, url: &str) -> Result<Answer, SendError> {
        let client = client(egress, &PeerTls::default()).unwrap();
        send(client.get(url), LIMIT, Timestamp::UNIX_EPOCH).await
    }

    #[tokio::test]
    async fn an_answer_is_its_status_its_pause_and_its_body() {
        let mut tasks = JoinSet::new();
        let answer = "HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nlate";
        let (address, _asked) = peer(&mut tasks, Some(answer.into())).await;
        let expected = Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(Duration::from_secs(7)),
            body: Bytes::from_static(b"late"),
        };
        assert_eq!(get(&EgressConfig::default(), &format!("http://{address}/")).await, Ok(expected));
    }

    #[tokio::test]
    async fn a_body_without_end_costs_nothing_and_the_status_counts() {
        let mut tasks = JoinSet::new();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n{}", "x".repeat(100_000));
        let (address, _asked) = peer(&mut tasks, Some(answer)).await;
        let answer = get(&EgressConfig::default(), &format!("http://{address}/")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    }

    #[tokio::test]
    async fn silence_a_closed_port_and_a_broken_connection_are_told_apart() {
        let mut tasks = JoinSet::new();
        let (silent, _asked) = peer(&mut tasks, None).await;
        let (broken, _asked) = peer(&mut tasks, Some("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".into())).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        for (address, error) in
            [(silent, SendError::TimedOut), (closed, SendError::Unreachable), (broken, SendError::Broken)]
        {
            assert_eq!(get(&EgressConfig::default(), &format!("http://{address}/secret")).await, Err(error));
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let mut tasks = JoinSet::new();
        let (other, mut asked) = peer(&mut tasks, Some("HTTP/1.1 200 OK\r\n\r\n".into())).await;
        let moved = format!("HTTP/1.1 308 Moved\r\nLocation: http://{other}/\r\nContent-Length: 0\r\n\r\n");
        let (address, _asked) = peer(&mut tasks, Some(moved)).await;
        assert_eq!(get(&EgressConfig::default(), &format!("http://{address}/")).await.unwrap().status, 308);
        assert!(asked.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_proxy_is_used_but_for_the_hosts_that_are_excepted() {
        let mut tasks = JoinSet::new();
        let (proxy, mut asked) = peer(&mut tasks, Some("HTTP/1.1 204 No Content\r\n\r\n".into())).await;
        let http_proxy = Some(format!("http://{proxy}"));
        let egress =
            EgressConfig { http_proxy, no_proxy: Some("127.0.0.1,.cluster.local".into()), ..EgressConfig::default() };
        let answer = get(&egress, "http://hooks.invalid/T0/secret").await.unwrap();
        assert_eq!(answer.status, 204);
        assert!(asked.recv().await.unwrap().starts_with("GET http://hooks.invalid/T0/secret HTTP/1.1\r\n"));
        let (direct, mut there) = peer(&mut tasks, Some("HTTP/1.1 200 OK\r\n\r\n".into())).await;
        assert_eq!(get(&egress, &format!("http://{direct}/")).await.unwrap().status, 200);
        assert!(there.recv().await.is_some() && asked.try_recv().is_err());
    }

    #[rstest]
    #[case::seconds("120", Some(120))]
    #[case::date("Thu, 01 Jan 1970 00:02:00 GMT", Some(120))]
    #[case::past_date("Thu, 01 Jan 1970 00:00:00 GMT", Some(0))]
    #[case::nonsense("soon", None)]
    #[case::negative("-1", None)]
    fn retry_after_is_seconds_or_a_date(#[case] text: &str, #[case] seconds: Option<u64>) {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&headers, Timestamp::UNIX_EPOCH), seconds.map(Duration::from_secs));
    }

    /// A self-signed certificate of nobody, valid for a hundred years, and its key.
    fn pem(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls").join(name)
    }

    #[test]
    fn a_file_is_trusted_beside_the_public_roots_and_a_peers_own_one_instead_of_both() {
        let beside = EgressConfig { ca_file: Some(pem("certificate.pem")), ..EgressConfig::default() };
        let own = PeerTls { ca_file: Some(pem("certificate.pem")), certificate: None };
        let trusted = |egress: &EgressConfig, peer: &PeerTls| roots(egress, peer).unwrap().len();
        let public = trusted(&EgressConfig::default(), &PeerTls::default());
        assert!(public > 100, "{public}");
        assert_eq!(trusted(&beside, &PeerTls::default()), public + 1);
        assert_eq!((trusted(&EgressConfig::default(), &own), trusted(&beside, &own)), (1, 1));
    }

    #[test]
    fn a_clients_certificate_needs_its_key() {
        let with = |certificate: &str, key: &str| {
            let peer = PeerTls { ca_file: None, certificate: Some((pem(certificate), pem(key))) };
            client(&EgressConfig::default(), &peer).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(with("certificate.pem", "key.pem"), Ok(()));
        assert!(with("certificate.pem", "certificate.pem").unwrap_err().contains("holds no key"));
        assert!(with("key.pem", "key.pem").unwrap_err().contains("holds no certificate"));
    }

    #[rstest]
    #[case::missing(None, "cannot be read")]
    #[case::empty(Some(""), "holds no certificate")]
    #[case::not_pem(Some("-----BEGIN CERTIFICATE-----\nä\n-----END CERTIFICATE-----\n"), "is not PEM")]
    fn a_file_of_no_use_is_named_with_its_problem(#[case] text: Option<&str>, #[case] problem: &str) {
        let path = std::env::temp_dir().join(format!("spotwarden-egress-{}-{}", problem.len(), std::process::id()));
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error =
            client(&EgressConfig { ca_file: Some(path.clone()), ..EgressConfig::default() }, &PeerTls::default());
        let message = error.unwrap_err().to_string();
        let _ = std::fs::remove_file(&path);
        assert!(message.starts_with(&path.display().to_string()) && message.contains(problem), "{message}");
    }

    #[test]
    fn the_address_of_a_proxy_is_not_repeated() {
        let egress = EgressConfig { https_proxy: Some("http://user:secret@[".into()), ..EgressConfig::default() };
        let error = client(&egress, &PeerTls::default()).unwrap_err().to_string();
        assert!(error.starts_with("HTTPS_PROXY ") && !error.contains("secret"), "{error}");
    }
}
