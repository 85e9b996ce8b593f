use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::tls::tests::{Authority, FUTURE, PAST, PRESENT, Scratch, Server, Signed, golden};

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

#[test]
fn a_file_is_trusted_beside_the_public_roots_and_a_peers_own_one_instead_of_both() {
    let beside = EgressConfig { ca_file: Some(golden("certificate.pem")), ..EgressConfig::default() };
    let own = PeerTls { ca_file: Some(golden("certificate.pem")), certificate: None };
    let trusted = |egress: &EgressConfig, peer: &PeerTls| roots(egress, peer).unwrap().len();
    let public = trusted(&EgressConfig::default(), &PeerTls::default());
    assert!(public > 100, "{public}");
    assert_eq!(trusted(&beside, &PeerTls::default()), public + 1);
    assert_eq!((trusted(&EgressConfig::default(), &own), trusted(&beside, &own)), (1, 1));
}

#[test]
fn a_clients_certificate_needs_its_key() {
    let with = |certificate: &str, key: &str| {
        let peer = PeerTls { ca_file: None, certificate: Some((golden(certificate), golden(key))) };
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
    let error = client(&EgressConfig { ca_file: Some(path.clone()), ..EgressConfig::default() }, &PeerTls::default());
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

/// Asks a server that shows `signed` for the address at which it is, trusting `trusted` beside the public ones.
async fn ask(signed: &Signed, trusted: &Authority) -> Result<StatusCode, SendError> {
    let scratch = Scratch::new(&format!("egress-{signed:p}"));
    let server = Server::start(signed, None).await;
    let egress = EgressConfig { ca_file: Some(scratch.put("ca.pem", &trusted.pem())), ..EgressConfig::default() };
    let client = client(&egress, &PeerTls::default()).unwrap();
    let answer = send(client.get(&server.url), Duration::from_secs(5), Timestamp::UNIX_EPOCH).await;
    assert_eq!(server.requests(), usize::from(answer.is_ok()), "nothing is said to a peer that is not trusted");
    answer.map(|answer| answer.status)
}

#[tokio::test]
async fn a_certificate_is_accepted_or_refused_with_the_reason() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let refused = |refusal| Err(SendError::Tls(refusal));
    for (signed, expected) in [
        (ours.sign("127.0.0.1", PRESENT), Ok(StatusCode::OK)),
        (others.sign("127.0.0.1", PRESENT), refused(Refusal::UnknownIssuer)),
        (ours.sign("collector.example.com", PRESENT), refused(Refusal::OtherName)),
        (ours.sign("127.0.0.1", PAST), refused(Refusal::Expired)),
        (ours.sign("127.0.0.1", FUTURE), refused(Refusal::NotYetValid)),
    ] {
        assert_eq!(ask(&signed, &ours).await, expected);
    }
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_told_apart_from_one_that_is_not_there() {
    let mut tasks = JoinSet::new();
    let (plain, _asked) = peer(&mut tasks, Some("HTTP/1.1 200 OK\r\n\r\n".into())).await;
    let answer = get(&EgressConfig::default(), &format!("https://{plain}/")).await;
    assert_eq!(answer, Err(SendError::Tls(Refusal::NoAgreement)));
}

#[tokio::test]
async fn a_peer_that_wants_a_client_certificate_gets_one_or_says_so() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let server = Server::start(&servers.sign("127.0.0.1", PRESENT), Some(&clients)).await;
    let scratch = Scratch::new("mutual");
    let ca_file = Some(scratch.put("ca.pem", &servers.pem()));
    let ask = async |certificate: Option<Signed>| {
        let certificate = certificate
            .map(|signed| (scratch.put("client.pem", &signed.certificate), scratch.put("client.key", &signed.key)));
        let peer = PeerTls { ca_file: ca_file.clone(), certificate };
        let client = client(&EgressConfig::default(), &peer).unwrap();
        let answer = send(client.get(&server.url), Duration::from_secs(5), Timestamp::UNIX_EPOCH).await;
        answer.map(|answer| answer.status)
    };
    let refused = Err(SendError::Tls(Refusal::ClientCertificate));
    assert_eq!(ask(None).await, refused);
    assert_eq!(ask(Some(servers.sign("agent", PRESENT))).await, refused, "of an issuer that the peer does not know");
    assert_eq!(ask(Some(clients.sign("agent", PAST))).await, refused);
    assert_eq!(server.requests(), 0);
    assert_eq!(ask(Some(clients.sign("agent", PRESENT))).await, Ok(StatusCode::OK));
}
