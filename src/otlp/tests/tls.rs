//! Exports over TLS to a collector on loopback: whom the exporter trusts, what it shows of itself, and what it says if
//! that is not enough.

use std::path::PathBuf;

use prometheus_client::registry::Registry;
use rstest::rstest;
use tokio::time::{sleep, timeout};

use super::*;
use crate::metrics::otlp::OtlpMetrics;
use crate::tls::tests::{Authority, PAST, PRESENT, Scratch, Server, Signed};

const EXPORTS: &str = "spotwarden_otlp_exports_total{signal=\"metrics\"}";

fn over_tls(server: &Server, tls: PeerTls) -> OtlpConfig {
    let mut config = config(&server.url);
    config.metrics.as_mut().unwrap().tls = tls;
    config
}

fn trusting(ca_file: PathBuf) -> PeerTls {
    PeerTls { ca_file: Some(ca_file), certificate: None }
}

/// What one request without content comes to.
async fn tried(config: &OtlpConfig) -> Result<u16, String> {
    let counts = OtlpMetrics::register(&mut Registry::default(), std::iter::empty());
    let clock = Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap());
    let exporter = Exporter::new(OtlpSignal::Metrics, config, &EgressConfig::default(), counts, clock);
    exporter.unwrap().try_out().await.map(|status| status.as_u16())
}

/// Waits until the sample is no longer zero.
async fn counted(pushed: &Pushed, sample: &str) {
    let wait = async {
        while pushed.value(sample) == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{sample} stays 0"));
}

fn failures(reason: &str) -> String {
    format!("spotwarden_otlp_export_failures_total{{signal=\"metrics\",reason=\"{reason}\"}}")
}

#[tokio::test]
async fn a_collector_with_a_private_certificate_gets_metrics() {
    let (authority, scratch) = (Authority::new("ours"), Scratch::new("otlp-private"));
    let server = Server::start(&authority.sign("127.0.0.1", PRESENT), None).await;
    let pushed = Pushed::start(&over_tls(&server, trusting(scratch.put("ca.pem", &authority.pem()))));
    pushed.identified();
    counted(&pushed, EXPORTS).await;
    assert!(server.asked.lock().unwrap()[0].starts_with("POST /v1/metrics HTTP/1.1\r\n"));
    assert_eq!(pushed.value(&failures("tls")), 0);
}

#[rstest]
#[case::unknown_issuer(
    false,
    "127.0.0.1",
    PRESENT,
    "the issuer of its certificate is not trusted; give the issuer's certificate in OTEL_EXPORTER_OTLP_CERTIFICATE"
)]
#[case::other_name(
    true,
    "collector.example.com",
    PRESENT,
    "its certificate is for another name; write the host in OTEL_EXPORTER_OTLP_ENDPOINT as the certificate has it"
)]
#[case::expired(
    true,
    "127.0.0.1",
    PAST,
    "its certificate has expired, or the node's clock is wrong; look at the collector's certificate"
)]
#[tokio::test]
async fn a_collector_that_cannot_be_trusted_gets_nothing_and_the_reason_is_counted(
    #[case] ours: bool,
    #[case] name: &str,
    #[case] years: [i32; 2],
    #[case] words: &str,
) {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let scratch = Scratch::new(&format!("otlp-refused-{}", words.len()));
    let server = Server::start(&if ours { &authority } else { &other }.sign(name, years), None).await;
    let config = over_tls(&server, trusting(scratch.put("ca.pem", &authority.pem())));
    assert_eq!(tried(&config).await, Err(words.to_owned()));
    let pushed = Pushed::start(&config);
    pushed.identified();
    counted(&pushed, &failures("tls")).await;
    assert_eq!((pushed.value(EXPORTS), server.requests()), (0, 0));
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for_and_one_that_was_replaced_is_taken_up() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let scratch = Scratch::new("otlp-mutual");
    let write =
        |signed: &Signed| (scratch.put("client.pem", &signed.certificate), scratch.put("client.key", &signed.key));
    let server = Server::start(&servers.sign("127.0.0.1", PRESENT), Some(&clients)).await;
    let ca_file = Some(scratch.put("ca.pem", &servers.pem()));
    let without = over_tls(&server, PeerTls { ca_file: ca_file.clone(), certificate: None });
    let words = "it wants a client certificate that it accepts; see OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
                 OTEL_EXPORTER_OTLP_CLIENT_KEY";
    assert_eq!(tried(&without).await, Err(words.to_owned()));

    let certificate = Some(write(&clients.sign("agent", PAST)));
    let pushed = Pushed::start(&over_tls(&server, PeerTls { ca_file, certificate }));
    pushed.identified();
    counted(&pushed, &failures("tls")).await;
    assert_eq!((pushed.value(EXPORTS), server.requests()), (0, 0));
    write(&clients.sign("agent", PRESENT));
    counted(&pushed, EXPORTS).await;
}

#[tokio::test]
async fn an_authority_that_was_replaced_on_both_sides_is_taken_up() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let scratch = Scratch::new("otlp-rotated");
    let server = Server::start(&old.sign("127.0.0.1", PRESENT), None).await;
    let pushed = Pushed::start(&over_tls(&server, trusting(scratch.put("ca.pem", &old.pem()))));
    pushed.identified();
    counted(&pushed, EXPORTS).await;
    server.shows(&new.sign("127.0.0.1", PRESENT), None);
    pushed.news.send(announced(pushed.clock)).unwrap();
    counted(&pushed, &failures("tls")).await;
    let before = server.requests();
    scratch.put("ca.pem", &new.pem());
    timeout(Duration::from_secs(20), async {
        while server.requests() == before {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the new certificate is trusted");
}
