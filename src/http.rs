//! The clients for IMDS and for ipamd, and the capped reading of what comes back.
//!
//! It never uses a proxy, whatever the environment says: a metadata token sent to a corporate proxy is an outage and a leak
//! at once. It follows no redirects (the token's header would travel along) and retries nothing by itself: the caller's
//! loop is the retry. No answer is read without a limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, ClientBuilder, Response};

use crate::config::LocalAddress;
use crate::tls;

/// To establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two reads. Short enough to notice a swallowed answer well within a two-minute notice.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// For a whole request, connecting and the last byte included.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A client cannot be put together. A defect of the build, not of the surroundings.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The TLS configuration was refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client was refused.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// A body that was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is larger than the caller wants to hold.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection failed or the time was up.
    #[error(transparent)]
    Transfer(#[from] reqwest::Error),
}

/// A client for servers on this machine, over TCP or a Unix socket. Neither the environment's proxy nor a redirect has
/// anything to do with them, and everything is over within `limit`.
pub fn local(address: &LocalAddress, limit: Duration) -> Result<Client, BuildError> {
    let builder = base()?.no_proxy().timeout(limit);
    let builder = match address {
        LocalAddress::Tcp(_) => builder,
        LocalAddress::Unix(path) => builder.unix_socket(path.clone()),
    };
    Ok(builder.build()?)
}

/// A client for IMDS, with a fresh connection for each request, because IMDS closes every connection after its answer and
/// a stale one must not cost an attempt.
pub fn imds() -> Result<Client, BuildError> {
    Ok(base()?.no_proxy().build()?)
}

/// Reads a body of at most `cap` bytes; what is larger is refused without being held.
pub async fn read_capped(mut response: Response, cap: usize) -> Result<Bytes, ReadError> {
    if response.content_length().is_some_and(|length| length > cap as u64) {
        return Err(ReadError::TooLarge(cap));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > cap {
            return Err(ReadError::TooLarge(cap));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn base() -> Result<ClientBuilder, BuildError> {
    let builder = Client::builder()
        // IMDS is plain HTTP, so there is no root to trust.
        .tls_backend_preconfigured(tls::client_config(rustls::RootCertStore::empty(), None)?)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_max_idle_per_host(0);
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    /// Answers one connection with `answer`, byte for byte, and closes it.
    async fn answer_once(tasks: &mut JoinSet<()>, answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            // The peer may hang up in the middle of a body that it does not want.
            let _ = stream.write_all(&answer).await;
        });
        format!("http://{address}/")
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_cap_is_read_and_one_byte_more_is_refused() {
        for (length, accepted) in [(0_usize, true), (1000, true), (1001, false)] {
            for announced in [true, false] {
                let mut tasks = JoinSet::new();
                let header = if announced { format!("Content-Length: {length}\r\n") } else { String::new() };
                let mut answer = format!("HTTP/1.1 200 OK\r\n{header}Connection: close\r\n\r\n").into_bytes();
                answer.extend(vec![b'x'; length]);
                let url = answer_once(&mut tasks, answer).await;
                let read = read_capped(imds().unwrap().get(url).send().await.unwrap(), 1000).await;
                match read {
                    Ok(body) => assert!(accepted && body.len() == length, "{length} bytes, announced: {announced}"),
                    Err(ReadError::TooLarge(1000)) => assert!(!accepted, "{length} bytes, announced: {announced}"),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let mut tasks = JoinSet::new();
        let moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
        let url = answer_once(&mut tasks, moved).await;
        assert_eq!(imds().unwrap().get(url).send().await.unwrap().status(), 302);
    }

    #[test]
    fn the_proxy_variables_do_not_reach_imds() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "http::tests::with_a_proxy_in_the_environment", "--ignored"])
            // Nothing listens on the discard port: whoever asks the proxy fails.
            .envs([("HTTP_PROXY", "http://127.0.0.1:9"), ("http_proxy", "http://127.0.0.1:9"), ("NO_PROXY", "")])
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && output.contains("1 passed"), "{output}");
    }

    #[tokio::test]
    #[ignore = "run by the test above, which sets the environment"]
    async fn with_a_proxy_in_the_environment() {
        let with_proxy = base().and_then(|builder| Ok(builder.build()?));
        for (client, reaches) in [(imds(), true), (with_proxy, false)] {
            let mut tasks = JoinSet::new();
            let url = answer_once(&mut tasks, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await;
            assert_eq!(client.unwrap().get(url).send().await.is_ok(), reaches);
        }
    }
}
