//! What tests of TLS share: an authority that signs whatever is asked of it, and a server that shows what it signed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rstest::rstest;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A folder of its own, gone with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spotwarden-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file; where it is.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The years of which a certificate is good.
pub(crate) const PRESENT: [i32; 2] = [2020, 2999];
pub(crate) const PAST: [i32; 2] = [2020, 2021];
pub(crate) const FUTURE: [i32; 2] = [2998, 2999];

/// A certificate with its key, in PEM form.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Somebody who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this host, or a client of this name.
    pub(crate) fn sign(&self, name: &str, years: [i32; 2]) -> Signed {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

/// A server on loopback that shows a certificate.
pub(crate) struct Server {
    /// `https://127.0.0.1:PORT`
    pub(crate) url: String,
    /// Heads and bodies of the requests that came through.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Wants a client's certificate by `clients`, if any. Answers each request with 200 and closes the connection.
    pub(crate) async fn start(shown: &Signed, clients: Option<&Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (asked, config) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new(server(shown, clients))));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, config.clone(), asked.clone()));
        Self { url, asked, config, _tasks: tasks }
    }

    /// From the next connection on.
    pub(crate) fn shows(&self, shown: &Signed, clients: Option<&Authority>) {
        *self.config.lock().unwrap() = server(shown, clients);
    }

    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn server(shown: &Signed, clients: Option<&Authority>) -> Arc<ServerConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots().into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
    let key = PrivatePkcs8KeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain, key.into()).unwrap())
}

async fn serve(listener: TcpListener, config: Arc<Mutex<Arc<ServerConfig>>>, asked: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, asked) = (TlsAcceptor::from(config.lock().unwrap().clone()), asked.clone());
        connections.spawn(async move {
            // What the client does not like of it, or it of the client, is the client's to tell.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = vec![0; 256 * 1024];
            let mut read = 0;
            while !is_whole(&request[..read]) {
                match stream.read(&mut request[read..]).await {
                    Ok(0) | Err(_) => return,
                    Ok(more) => read += more,
                }
            }
            asked.lock().unwrap().push(String::from_utf8_lossy(&request[..read]).into_owned());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            let _ = stream.shutdown().await;
        });
    }
}

/// Head and as much of a body as it announces.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}

/// A file below `tests/golden/tls`.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls").join(name)
}

#[rstest]
#[case(AlertDescription::CertificateRequired, Refusal::ClientCertificate)]
#[case(AlertDescription::UnknownCA, Refusal::ClientCertificate)]
#[case(AlertDescription::ProtocolVersion, Refusal::NoAgreement)]
fn an_alert_of_the_peer_says_whose_certificate_it_is_about(#[case] alert: AlertDescription, #[case] refusal: Refusal) {
    assert_eq!(Refusal::of(&Error::AlertReceived(alert)), refusal);
}

#[test]
fn a_certificate_that_is_wrong_in_another_way_is_of_no_use() {
    let of = |error: CertificateError| Refusal::of(&Error::InvalidCertificate(error));
    assert_eq!(of(CertificateError::BadSignature), Refusal::Unusable);
    assert_eq!(of(CertificateError::NotValidForName), Refusal::OtherName);
}
