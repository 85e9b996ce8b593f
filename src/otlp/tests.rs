mod collector;
mod message;
mod pushing;
mod spans;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use rstest::rstest;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use super::OtlpSignal;
use super::exporter::Exporter;
use super::pusher::Pusher;
use super::resource::resource;
use crate::clock::Clock;
use crate::config::otlp::{OtlpConfig, OtlpTarget, ResourceConfig, Temporality};
use crate::config::{Config, EgressConfig};
use crate::egress::PeerTls;
use crate::identity::NodeIdentity;
use crate::interruption::Effect;
use crate::interruption::chronicle::{Chronicle, News};
use crate::interruption::record::{Record, Status};
use crate::metrics::Metrics;
use crate::signal::{Action, Kind, Signal};

/// Everything at its default, with both signals going to `base`.
pub(crate) fn config(base: &str) -> OtlpConfig {
    let target = |path: &str| OtlpTarget {
        endpoint: format!("{base}{path}"),
        headers: http::HeaderMap::new(),
        timeout: Duration::from_secs(10),
        gzip: false,
        tls: PeerTls::default(),
    };
    OtlpConfig {
        metrics: Some(target("/v1/metrics")),
        traces: Some(target("/v1/traces")),
        headers_file: None,
        interval: Duration::from_mins(1),
        export_timeout: Duration::from_secs(30),
        temporality: Temporality::Cumulative,
        resource: ResourceConfig::default(),
    }
}

/// A pusher at work, with everything that it listens to.
struct Pushed {
    metrics: Arc<Metrics>,
    status: watch::Sender<Status>,
    node: watch::Sender<NodeIdentity>,
    news: broadcast::Sender<News>,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
    clock: Clock,
}

impl Pushed {
    fn start(config: &OtlpConfig) -> Self {
        let clock = Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap());
        let (status, node) = (watch::Sender::new(Status::default()), watch::Sender::new(NodeIdentity::default()));
        let (news, closing) = (broadcast::Sender::new(16), watch::Sender::new(false));
        let mut metrics =
            Metrics::new(status.subscribe(), watch::channel(None).1, watch::channel(NodeIdentity::default()).1);
        let counts = metrics.count_exports(config);
        let metrics = Arc::new(metrics);
        let exporter = Exporter::new(OtlpSignal::Metrics, config, &EgressConfig::default(), counts, clock).unwrap();
        let pusher = Pusher::new(exporter, config, metrics.clone(), node.subscribe(), clock);
        let mut tasks = JoinSet::new();
        tasks.spawn(pusher.run(news.subscribe(), status.subscribe(), closing.subscribe()));
        Self { metrics, status, node, news, closing, tasks, clock }
    }

    /// The instance's identity was read.
    fn identified(&self) {
        self.node.send_modify(|node| node.is_complete = true);
    }

    /// The value of the sample that is written exactly so.
    fn value(&self, sample: &str) -> u64 {
        value(&self.metrics, sample)
    }

    fn failures(&self, reason: &str) -> u64 {
        self.value(&format!("spotwarden_otlp_export_failures_total{{signal=\"metrics\",reason=\"{reason}\"}}"))
    }
}

fn value(metrics: &Metrics, sample: &str) -> u64 {
    let text = metrics.text(None).1;
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok()).expect(sample)
}

fn text_of(attribute: &KeyValue) -> &str {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn on_ec2() -> NodeIdentity {
    NodeIdentity {
        node: "ip-10-0-0-1.ec2.internal".into(),
        instance_id: "i-0123456789abcdef0".into(),
        instance_type: "m7g.large".into(),
        zone: "eu-central-1a".into(),
        region: "eu-central-1".into(),
        lifecycle: "spot".into(),
        node_uid: "a-uid".into(),
        account_id: "123456789012".into(),
        image_id: "ami-0123456789abcdef0".into(),
        architecture: "x86_64".into(),
        nodegroup: "spot-a".into(),
        is_complete: true,
    }
}

#[test]
fn the_resource_speaks_the_words_of_the_conventions() {
    let config = ResourceConfig {
        pod_name: Some("spotwarden-x7".into()),
        pod_namespace: Some("kube-system".into()),
        pod_uid: Some("p-uid".into()),
        ..ResourceConfig::default()
    };
    let resource = resource(&config, &on_ec2());
    let said: Vec<_> = resource.attributes.iter().map(|one| (one.key.as_str(), text_of(one))).collect();
    let expected = [
        ("service.name", "spotwarden"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.namespace", "kube-system"),
        ("service.instance.id", "kube-system.spotwarden-x7.spotwarden"),
        ("k8s.node.name", "ip-10-0-0-1.ec2.internal"),
        ("k8s.node.uid", "a-uid"),
        ("k8s.namespace.name", "kube-system"),
        ("k8s.container.name", "spotwarden"),
        ("k8s.pod.name", "spotwarden-x7"),
        ("k8s.pod.uid", "p-uid"),
        ("cloud.provider", "aws"),
        ("cloud.platform", "aws_eks"),
        ("cloud.region", "eu-central-1"),
        ("cloud.availability_zone", "eu-central-1a"),
        ("cloud.account.id", "123456789012"),
        ("host.id", "i-0123456789abcdef0"),
        ("host.type", "m7g.large"),
        ("host.name", "ip-10-0-0-1.ec2.internal"),
        ("host.image.id", "ami-0123456789abcdef0"),
        ("host.arch", "amd64"),
    ];
    assert_eq!(said, expected);
}

#[rstest]
#[case::nothing_given(&[], None, "spotwarden", None)]
#[case::own_name(&[("service.name", "a")], None, "a", None)]
#[case::name_beats(&[("service.name", "a")], Some("b"), "b", None)]
#[case::last_wins(&[("k8s.cluster.name", "x"), ("k8s.cluster.name", "y")], None, "spotwarden", Some("y"))]
fn what_is_given_wins_over_what_is_found_out(
    #[case] given: &[(&str, &str)],
    #[case] name: Option<&str>,
    #[case] service: &str,
    #[case] cluster: Option<&str>,
) {
    let config = ResourceConfig {
        attributes: given.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        service_name: name.map(str::to_owned),
        ..ResourceConfig::default()
    };
    let resource = resource(&config, &NodeIdentity::named("n1"));
    let of = |key: &str| {
        let mut all = resource.attributes.iter().filter(|one| one.key == key).map(text_of);
        let first = all.next();
        assert!(all.next().is_none(), "{key} is there twice");
        first
    };
    assert_eq!((of("service.name"), of("k8s.cluster.name")), (Some(service), cluster));
    assert_eq!(of("service.instance.id"), Some("n1"), "without a pod's name");
    assert_eq!((of("cloud.provider"), of("host.id")), (None, None), "not on EC2, as far as is known");
}

/// A notice, as it is told.
fn announced(clock: Clock) -> News {
    let signal = Signal::new(Kind::SpotInterruption, "i", Action::Terminate);
    let seen = Record::NoticeSeen { signal, first_seen: clock.now().wall };
    let mut chronicle = Chronicle::new(Arc::new(Config::for_node("n1")));
    chronicle.note(clock.now(), &Effect::Record(seen)).unwrap()
}
