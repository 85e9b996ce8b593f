//! The tellers with sockets: the simulated sinks, with everything that they can have.

use rstest::rstest;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;
use crate::interruption::account::{Account, Finish, Outcomes};
use crate::interruption::chronicle::Milestone;
use crate::metrics::Metrics;
use crate::notify::facts::tests as samples;
use crate::notify::settings::ContentType;
use crate::sim::sinks::{Received, SimSinks, SinkFault, SinkName};
use crate::tls::tests::{Authority, PRESENT, Scratch, Server};

/// Everything around the tellers of one agent.
struct Lab {
    sinks: SimSinks,
    metrics: Arc<Metrics>,
    news: broadcast::Sender<News>,
    closing: watch::Sender<bool>,
    seen: watch::Receiver<Vec<SinkStatus>>,
    tellers: JoinSet<()>,
    _serving: JoinSet<()>,
}

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

fn all_at(at: std::net::SocketAddr) -> NotifyConfig {
    let address = |sink| Address::Known(SimSinks::url(at, sink).into());
    let webhook = WebhookConfig { address: address(SinkName::Webhook), template: None, content: ContentType::Json };
    NotifyConfig {
        slack: Some(address(SinkName::Slack)),
        alertmanagers: vec![SimSinks::url(at, SinkName::Alertmanager)],
        webhook: Some(webhook),
        ..NotifyConfig::default()
    }
}

impl Lab {
    async fn new(change: impl FnOnce(&mut NotifyConfig)) -> Self {
        let (listener, at) = listener().await;
        let sinks = SimSinks::default();
        let mut serving = JoinSet::new();
        serving.spawn(sinks.clone().serve(listener));
        let mut config = all_at(at);
        change(&mut config);
        let status = watch::Sender::new(Status::default());
        let identity = watch::Sender::new(samples::place());
        let metrics = Arc::new(Metrics::new(status.subscribe(), watch::channel(None).1, identity.subscribe()));
        let results = watch::Sender::new(super::sinks(&config));
        let (news, closing) = (broadcast::Sender::new(16), watch::Sender::new(false));
        let sources = Sources {
            status: status.subscribe(),
            identity: identity.subscribe(),
            clock: Clock::System,
            metrics: metrics.notify.clone(),
            sinks: results.clone(),
        };
        let futures = tellers(&config, &EgressConfig::default(), &sources, || news.subscribe(), &closing).unwrap();
        let mut tellers = JoinSet::new();
        for teller in futures {
            tellers.spawn(teller);
        }
        Self { sinks, metrics, news, closing, seen: results.subscribe(), tellers, _serving: serving }
    }

    fn tell(&self, milestone: Milestone, account: Account) {
        _ = self.news.send(News { milestone, account: Arc::new(account) });
    }

    /// Waits until a sink has so many requests, taken or not.
    async fn until(&self, sink: SinkName, requests: usize) -> Vec<Received> {
        let wait = async {
            loop {
                let of = self.sinks.received().into_iter().filter(|received| received.sink == sink);
                let of: Vec<Received> = of.collect();
                if of.len() >= requests {
                    return of;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(8), wait).await.unwrap_or_else(|_| panic!("{sink:?} did not get {requests}"))
    }

    fn count(&self, sink: Sink, outcome: &str) -> Option<f64> {
        let series = format!("spotwarden_notifications_total{{sink=\"{}\",outcome=\"{outcome}\"}} ", sink.as_str());
        let text = self.metrics.text(None).1;
        text.lines().find_map(|line| line.strip_prefix(series.as_str())?.parse().ok())
    }

    async fn finish(mut self) -> Duration {
        let start = Instant::now();
        self.closing.send_replace(true);
        while self.tellers.join_next().await.is_some() {}
        start.elapsed()
    }
}

fn account() -> Account {
    samples::account()
}

fn drained() -> Account {
    let mut account = account();
    let finish = Finish { at: 1.0, took: 1.0, slack: Some(100.0), outcomes: Outcomes::default() };
    account.drain.as_mut().unwrap().finished = Some(finish);
    account
}

#[tokio::test]
async fn every_sink_has_the_notice_in_its_own_form() {
    let lab = Lab::new(|_| {}).await;
    assert_eq!(lab.count(Sink::Slack, "delivered"), Some(0.0), "there from the start");
    lab.tell(Milestone::Announced, account());
    let slack = &lab.until(SinkName::Slack, 1).await[0];
    let header = slack.body["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(header.starts_with(":warning: ip-10-0-1-23 is terminated in 118 s: spot interruption"), "{header}");
    let alerts = &lab.until(SinkName::Alertmanager, 1).await[0].body;
    assert_eq!(alerts[0]["labels"]["alertname"], "SpotwardenNodeInterruption");
    assert_eq!(lab.until(SinkName::Webhook, 1).await[0].body["instance_id"], "i-0123456789abcdef0");
    assert!(lab.sinks.received().iter().all(|received| received.complaints.is_empty()));
    lab.tell(Milestone::DrainFinished, drained());
    let result = &lab.until(SinkName::Webhook, 2).await[1];
    assert_eq!((result.body["event"].as_str(), result.body["slack_seconds"].as_f64()), (Some("result"), Some(100.0)));
    lab.until(SinkName::Slack, 2).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(lab.count(Sink::Webhook, "delivered"), Some(2.0));
    assert!(lab.seen.borrow().iter().all(|sink| sink.last.as_ref().is_some_and(|last| last.delivered)));
}

#[rstest]
#[case::refused(SinkFault::Refuses, "failed", "400: it does not accept the message; given up")]
#[case::revoked(SinkFault::Revoked, "failed", "404: there is no such webhook, or it was revoked; given up")]
#[case::throttled(SinkFault::Throttles, "retried", "429, try again in 2 s; it is tried again")]
#[case::ill(SinkFault::Fails, "retried", "500: it is not well; it is tried again")]
#[case::huge(SinkFault::Huge, "delivered", "")]
#[tokio::test]
async fn a_misbehaving_sink_is_counted_told_in_one_line_and_in_nobodys_way(
    #[case] fault: SinkFault,
    #[case] outcome: &str,
    #[case] detail: &str,
) {
    let mut lab = Lab::new(|_| {}).await;
    lab.sinks.fault(SinkName::Slack, fault, None);
    lab.tell(Milestone::Announced, account());
    lab.until(SinkName::Alertmanager, 1).await;
    lab.until(SinkName::Slack, 1).await;
    let told = lab.seen.wait_for(|sinks| sinks[0].last.is_some());
    let last = timeout(Duration::from_secs(8), told).await.unwrap().unwrap()[0].last.clone().unwrap();
    assert_eq!((last.detail.as_str(), last.delivered), (detail, outcome == "delivered"));
    assert_eq!(lab.count(Sink::Slack, outcome), Some(1.0));
    assert!(!last.detail.contains("secret") && !last.detail.contains("127.0.0.1"));
}

#[tokio::test]
async fn a_sink_that_hangs_keeps_nobody_waiting() {
    let lab = Lab::new(|_| {}).await;
    lab.sinks.fault(SinkName::Slack, SinkFault::Hangs, None);
    let start = Instant::now();
    lab.tell(Milestone::Announced, account());
    lab.until(SinkName::Alertmanager, 1).await;
    lab.until(SinkName::Webhook, 1).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    lab.until(SinkName::Slack, 1).await;
    // Nor does it keep the agent from stopping.
    let took = lab.finish().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn an_agent_that_stops_at_once_has_told_the_notice() {
    let lab = Lab::new(|_| {}).await;
    lab.tell(Milestone::Announced, account());
    let sinks = lab.sinks.clone();
    let took = lab.finish().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(sinks.received().len(), 3);
}

#[tokio::test]
async fn an_address_that_appears_or_changes_is_used_with_the_next_try() {
    let path = std::env::temp_dir().join(format!("spotwarden-notify-url-{}", std::process::id()));
    _ = std::fs::remove_file(&path);
    let mut url = None;
    let lab = Lab::new(|config| {
        let Some(Address::Known(known)) = config.slack.replace(Address::File(path.clone())) else { panic!("known") };
        url = Some(known);
    })
    .await;
    lab.tell(Milestone::Announced, account());
    lab.until(SinkName::Webhook, 1).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(lab.count(Sink::Slack, "retried"), Some(1.0));
    let last = lab.seen.borrow()[0].last.clone().unwrap();
    assert!(last.detail.starts_with(&format!("{} cannot be read", path.display())), "{}", last.detail);
    std::fs::write(&path, format!("{}\n", url.unwrap())).unwrap();
    lab.until(SinkName::Slack, 1).await;
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_template_makes_the_body() {
    let path = std::env::temp_dir().join(format!("spotwarden-notify-template-{}", std::process::id()));
    std::fs::write(&path, "{\"message\": \"{{headline}}\", \"left\": {{seconds_left}}}").unwrap();
    let lab = Lab::new(|config| config.webhook.as_mut().unwrap().template = Some(path.clone())).await;
    // A change for the worse does not keep the message from going out.
    std::fs::write(&path, "{{nonsense}}").unwrap();
    lab.tell(Milestone::Announced, account());
    let body = lab.until(SinkName::Webhook, 1).await.remove(0).body;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(body["message"], "ip-10-0-1-23 is terminated in 118 s: spot interruption");
}

#[tokio::test]
async fn a_trial_reaches_every_sink_and_says_that_it_is_one() {
    let (listener, at) = listener().await;
    let sinks = SimSinks::default();
    let mut serving = JoinSet::new();
    serving.spawn(sinks.clone().serve(listener));
    let config = all_at(at);
    let look = |send| trial::look(&config, &EGRESS, "n1", Clock::System, send);
    let reached = look(false).await;
    assert!(reached.iter().all(|found| found.result.is_ok() && !found.refused), "{reached:?}");
    assert_eq!((reached.len(), sinks.received().len()), (3, 0), "nothing is sent");
    assert!(look(true).await.iter().all(|found| found.result.is_ok()));
    let received = sinks.received();
    assert!(received.len() == 3 && received.iter().all(|one| one.is_taken() && one.complaints.is_empty()));
    assert!(received.iter().all(|one| one.body.to_string().contains("est message")), "{received:?}");
    sinks.fault(SinkName::Slack, SinkFault::Revoked, None);
    let refused = look(true).await.remove(0);
    assert_eq!(
        refused.result.unwrap_err(),
        "a test message was not delivered: 404: there is no such webhook, or it was revoked"
    );
}

const EGRESS: EgressConfig = EgressConfig { https_proxy: None, http_proxy: None, no_proxy: None, ca_file: None };

#[tokio::test]
async fn what_cannot_be_reached_is_said_without_its_address() {
    let closed = listener().await.1;
    let address = Address::Known(format!("http://{closed}/secret").into());
    let config = NotifyConfig { slack: Some(address), ..NotifyConfig::default() };
    let found = trial::look(&config, &EGRESS, "n1", Clock::System, false).await.remove(0);
    assert_eq!(found.result.unwrap_err(), "its host takes no connection: connection refused");
}

#[tokio::test]
async fn an_alertmanager_with_a_private_certificate_needs_the_file_that_vouches_for_it() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let scratch = Scratch::new("notify");
    let (trusted, untrusted) = (scratch.put("ours.pem", &ours.pem()), scratch.put("other.pem", &other.pem()));
    let server = Server::start(&ours.sign("127.0.0.1", PRESENT), None).await;
    let elsewhere = Server::start(&ours.sign("alertmanager.example.com", PRESENT), None).await;
    let not_delivered = |why: &str| Err(format!("a test message was not delivered: {why}"));
    for (server, ca_file, expected) in [
        (&server, trusted.clone(), Ok("a test message was delivered".to_owned())),
        (&server, untrusted, not_delivered("the issuer of its certificate is not trusted")),
        (&elsewhere, trusted, not_delivered("its certificate is for another name")),
    ] {
        let egress = EgressConfig { ca_file: Some(ca_file), ..EGRESS };
        let config = NotifyConfig { alertmanagers: vec![server.url.clone()], ..NotifyConfig::default() };
        let found = trial::look(&config, &egress, "n1", Clock::System, true).await.remove(0);
        assert_eq!(found.result, expected);
    }
    assert!(server.asked.lock().unwrap()[0].starts_with("POST /api/v2/alerts HTTP/1.1\r\n"));
    assert_eq!((server.requests(), elsewhere.requests()), (1, 0));
}
