//! The connection to the API server: `kube::Client` over one reqwest connection.
//!
//! kube's own transport stack is not used. It retries 429 and 503 by itself for minutes, which hides a budget's refusal
//! until the node is gone, and speaks HTTP/1.1 only, which needs a TLS connection per eviction in flight. Here every
//! request is sent exactly once, over HTTP/2 where the server offers it, and the time-outs are the callers'. The service
//! account's token and the cluster's CA are read again as they are rotated.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions};
use kube::{Client, Config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;

use super::{chain, kubeconfig};
use crate::tls::{self, Identity};

/// Bound tokens live for an hour and are replaced by the kubelet well before; once a minute is often enough.
const REREAD: Duration = Duration::from_secs(60);
/// Establishing TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that answers no ping within this is replaced; otherwise a dead peer would look like a slow one.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no client can be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither in a pod nor told where the cluster is.
    #[error(
        "no way to the API server: not in a pod with a service account ({0}); set KUBECONFIG or --kubeconfig to use a \
         kubeconfig file"
    )]
    NotInCluster(String),
    /// The kubeconfig cannot be read or makes no sense.
    #[error("kubeconfig {path} cannot be used: {reason}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Certificates or keys that TLS cannot use.
    #[error("TLS to the API server cannot be set up: {0}")]
    Tls(String),
}

/// A client from the kubeconfig file, or from the pod's service account if none is given.
pub async fn build(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster().map_err(|error| ClientError::NotInCluster(chain(&error)))?,
    };
    from_config(config)
}

/// A client for `config`. Kept apart from [`build`] for tests that make their own.
pub fn from_config(config: Config) -> Result<Client, ClientError> {
    let namespace = config.default_namespace.clone();
    let transport = Arc::new(Transport::new(config)?);
    let service = tower::service_fn(move |request| {
        let transport = transport.clone();
        async move { transport.send(request).await }
    });
    Ok(Client::new(service, namespace))
}

async fn from_file(path: &Path) -> Result<Config, ClientError> {
    let unusable = |reason: String| ClientError::Kubeconfig { path: path.to_owned(), reason };
    let file = kubeconfig::read(path).map_err(unusable)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(chain(&error)))?;
    if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        return Err(unusable(
            "its user needs an external program to log in, which an agent in an empty image cannot run; use a token, a \
             client certificate, or `kubectl proxy`"
                .into(),
        ));
    }
    if config.accept_invalid_certs || config.tls_server_name.is_some() {
        return Err(unusable("insecure-skip-tls-verify and tls-server-name are not supported; give the CA".into()));
    }
    Ok(config)
}

/// Sends requests to one API server.
struct Transport {
    base: Uri,
    auth: AuthInfo,
    roots: Option<Vec<Vec<u8>>>,
    root_file: Option<PathBuf>,
    current: Mutex<Current>,
}

/// What is replaced as files are rotated.
struct Current {
    http: reqwest::Client,
    roots_seen: Option<Vec<u8>>,
    bearer: Option<HeaderValue>,
    read_at: Instant,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Transport {
    fn new(config: Config) -> Result<Self, ClientError> {
        let root_file = config.root_cert_file.clone();
        let roots_seen = root_file.as_deref().and_then(|path| std::fs::read(path).ok());
        let roots = roots_of(config.root_cert.as_deref(), roots_seen.as_deref())?;
        let http = http_client(roots, &config.auth_info)?;
        let current = Current { http, roots_seen, bearer: bearer(&config.auth_info), read_at: Instant::now() };
        Ok(Self {
            base: config.cluster_url,
            auth: config.auth_info,
            roots: config.root_cert,
            root_file,
            current: Mutex::new(current),
        })
    }

    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<reqwest::Body>, BoxError> {
        let (http, bearer) = self.current();
        let (mut parts, body) = request.into_parts();
        parts.uri = self.absolute(&parts.uri)?;
        if let Some(bearer) = bearer {
            parts.headers.insert(AUTHORIZATION, bearer);
        }
        let body = body.collect().await?.to_bytes();
        let request = reqwest::Request::try_from(http::Request::from_parts(parts, body))?;
        let response = http.execute(request).await?;
        if response.status() == reqwest::StatusCode::UNAUTHORIZED {
            // The token was replaced sooner than expected; the caller's next try takes the new one.
            self.reread(&mut self.lock());
        }
        Ok(response.into())
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn absolute(&self, uri: &Uri) -> Result<Uri, BoxError> {
        let prefix = self.base.path().trim_end_matches('/');
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(format!("{prefix}{path}"))?);
        Ok(Uri::from_parts(parts)?)
    }

    fn current(&self) -> (reqwest::Client, Option<HeaderValue>) {
        let mut current = self.lock();
        if current.read_at.elapsed() >= REREAD {
            self.reread(&mut current);
        }
        (current.http.clone(), current.bearer.clone())
    }

    /// Takes over rotated files; what cannot be read or used now leaves the present credentials in force.
    fn reread(&self, current: &mut Current) {
        current.read_at = Instant::now();
        if let Some(bearer) = bearer(&self.auth) {
            current.bearer = Some(bearer);
        }
        let Some(found) = self.root_file.as_deref().and_then(|path| std::fs::read(path).ok()) else { return };
        if current.roots_seen.as_ref() == Some(&found) {
            return;
        }
        let rebuilt = roots_of(self.roots.as_deref(), Some(&found)).and_then(|roots| http_client(roots, &self.auth));
        match rebuilt {
            Ok(http) => {
                current.http = http;
                current.roots_seen = Some(found);
            }
            Err(error) => tracing::warn!(%error, "the rotated CA cannot be used; the present one stays"),
        }
    }
}

fn http_client(roots: rustls::RootCertStore, auth: &AuthInfo) -> Result<reqwest::Client, ClientError> {
    let tls_error = |error: &dyn std::error::Error| ClientError::Tls(chain(error));
    let mut config = tls::client_config(roots, identity(auth)?).map_err(|error| tls_error(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        // The API server is never behind the proxies that webhooks may need.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .user_agent(concat!("spotwarden/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| tls_error(&error))
}

fn roots_of(der: Option<&[Vec<u8>]>, pem: Option<&[u8]>) -> Result<rustls::RootCertStore, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    let unusable = |error: &dyn std::error::Error| ClientError::Tls(format!("cluster CA: {}", chain(error)));
    for certificate in der.into_iter().flatten() {
        roots.add(certificate.clone().into()).map_err(|error| unusable(&error))?;
    }
    for certificate in pem.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    Ok(roots)
}

/// The client certificate of a kubeconfig's user.
fn identity(auth: &AuthInfo) -> Result<Option<Identity>, ClientError> {
    use secrecy::ExposeSecret as _;
    let key_data = auth.client_key_data.as_ref().map(|secret| secret.expose_secret().to_owned());
    let certificate = pem(auth.client_certificate_data.as_deref(), auth.client_certificate.as_deref())?;
    let key = pem(key_data.as_deref(), auth.client_key.as_deref())?;
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
    let unusable = |error: rustls::pki_types::pem::Error| ClientError::Tls(format!("client certificate: {error}"));
    let certificates = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>().map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(unusable)?;
    Ok(Some((certificates, key)))
}

/// PEM from inline base64 or from a file.
fn pem(data: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>, ClientError> {
    if let Some(data) = data {
        // ByteString is the API's own base64 type.
        let decoded: k8s_openapi::ByteString = serde_json::from_value(data.into())
            .map_err(|error| ClientError::Tls(format!("client certificate data is not base64: {error}")))?;
        return Ok(Some(decoded.0));
    }
    file.map(|path| std::fs::read(path).map_err(|error| ClientError::Tls(format!("{path}: {error}")))).transpose()
}

/// The bearer token, from its file if there is one; None if it cannot be read or has no place in a header.
fn bearer(auth: &AuthInfo) -> Option<HeaderValue> {
    use secrecy::ExposeSecret as _;
    let token = match &auth.token_file {
        Some(path) => std::fs::read_to_string(path).ok()?,
        None => auth.token.as_ref()?.expose_secret().to_owned(),
    };
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use rstest::rstest;
    use tokio::net::TcpListener;

    use super::*;

    /// A folder of its own, gone with the value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("spotwarden-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn kubeconfig(user: &str, cluster: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: \"https://127.0.0.1:1\"{cluster}}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        )
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let error = build(Some(Path::new("/nowhere/kubeconfig"))).await.err().unwrap().to_string();
        assert!(error.contains("/nowhere/kubeconfig") && error.contains("No such file"), "{error}");
    }

    #[rstest]
    #[case::not_yaml("{{{", "", "kubeconfig")]
    #[case::exec(
        &kubeconfig("{exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}}", ""),
        "exec", "kubectl proxy"
    )]
    #[case::insecure(&kubeconfig("{token: t}", ", insecure-skip-tls-verify: true"), "insecure", "give the CA")]
    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_says_why(#[case] text: &str, #[case] name: &str, #[case] words: &str) {
        let folder = Folder::new(&format!("kubeconfig-{name}"));
        let path = folder.file("kubeconfig", text);
        let error = build(Some(&path)).await.err().unwrap().to_string();
        assert!(error.contains(&*path.to_string_lossy()) && error.contains(words), "{error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }

    #[tokio::test]
    async fn a_kubeconfig_with_a_token_is_enough() {
        let folder = Folder::new("kubeconfig-token");
        assert!(build(Some(&folder.file("kubeconfig", &kubeconfig("{token: t}", "")))).await.is_ok());
    }

    /// A server that wants the token `fresh`.
    async fn server() -> (Uri, tokio::task::JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serve = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                    let fresh = request.headers().get(AUTHORIZATION).is_some_and(|value| value == "Bearer fresh");
                    let code = if fresh { 200 } else { 401 };
                    http::Response::builder().status(code).body(Full::new(bytes::Bytes::from_static(b"{}")))
                });
                _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
            }
        });
        (uri, tasks)
    }

    async fn status(client: &Client) -> u16 {
        let request = http::Request::get("/version").body(Body::empty()).unwrap();
        client.send(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_token_that_is_refused_is_read_again_at_once() {
        let folder = Folder::new("token");
        let token = folder.file("token", "stale");
        let (uri, _tasks) = server().await;
        let mut config = Config::new(uri);
        config.auth_info.token_file = Some(token.to_string_lossy().into_owned());
        let client = from_config(config).unwrap();
        folder.file("token", "fresh\n");
        assert_eq!(status(&client).await, 401, "the token was read when the client was made");
        assert_eq!(status(&client).await, 200);
    }
}
