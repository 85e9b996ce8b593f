//! A real Prometheus that scrapes a real agent as prometheus.yaml says, and evaluates the rules while a notice comes.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::alertmanager::{self, Alertmanager};
use crate::peers::collector::{self, Collector};
use crate::peers::exposition::{Exposition, Series, WANDERS, parse};
use crate::peers::prometheus::{Prometheus, shipped};
use crate::peers::simulation::Simulation;
use crate::peers::slack::SlackStandIn;
use crate::peers::{Folder, eventually, yaml};

/// A node that is told soon and cleared within seconds, so that its metrics come to rest.
pub(super) const TOLD: &str = "\
title = \"t\"
[notice]
lead = 110
[[pods]]
name = \"web\"
count = 3
stops_after = 1
[[pods]]
name = \"log-agent\"
owner = \"DaemonSet\"
";

/// A node that is told too late for its pod.
const TOLD_LATE: &str = "\
title = \"t\"
[notice]
lead = 12
[[pods]]
name = \"slow\"
grace = 60
stops_after = 50
";

/// The shipped scrape, and the same in the classic format.
const JOBS: [&str; 2] = ["spotwarden", "classic"];

pub(super) const LIMIT: Duration = Duration::from_secs(40);

/// Labels that prometheus.yaml gives to each target.
const TARGET: [&str; 6] = ["job", "instance", "node", "nodegroup", "zone", "instance_type"];

/// What Prometheus has of a job, with the labels of the exposition again: where a target has a label of the same name, the
/// exposition's is kept as `exported_…`.
fn stored(prometheus: &Prometheus, job: &str) -> BTreeMap<Series, f64> {
    let samples = prometheus.query(&format!("{{job=\"{job}\"}}"));
    let restored = samples.into_iter().map(|(metric, value)| {
        let mut labels: BTreeMap<String, String> = serde_json::from_value(metric).unwrap();
        let name = labels.remove("__name__").unwrap();
        labels.retain(|label, _| !TARGET.contains(&label.as_str()));
        let labels = labels.into_iter().map(|(label, value)| (label.trim_start_matches("exported_").to_owned(), value));
        ((name, labels.collect()), value)
    });
    restored.filter(|((name, _), _)| name != "up" && !name.starts_with("scrape_")).collect()
}

/// Why what was stored is not what the agent showed before and after.
fn difference(stored: &BTreeMap<Series, f64>, before: &Exposition, after: &Exposition) -> Option<String> {
    let names: BTreeSet<_> = stored.keys().collect();
    let shown: BTreeSet<_> = after.samples.keys().collect();
    if names != shown {
        let (more, less) = (names.difference(&shown), shown.difference(&names));
        return Some(format!(
            "stored alone: {:?}, shown alone: {:?}",
            more.collect::<Vec<_>>(),
            less.collect::<Vec<_>>()
        ));
    }
    stored.iter().find_map(|(series, value)| {
        let (first, last) = (before.samples.get(series)?, after.samples[series]);
        let within = WANDERS.contains(&series.0.as_str()) || (first.min(last)..=first.max(last)).contains(value);
        (!within).then(|| format!("{series:?} is {value}, and was shown as {first} and {last}"))
    })
}

/// Family → type as a target's metadata has them.
fn types(prometheus: &Prometheus, job: &str) -> BTreeMap<String, String> {
    let target = format!("/api/v1/targets/metadata?match_target=%7Bjob%3D%22{job}%22%7D");
    let data = prometheus.api(&target);
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    data.as_array().unwrap().iter().map(|entry| (text(entry, "metric"), text(entry, "type"))).collect()
}

/// The metrics of an agent whose drain is over.
fn at_rest(simulation: &Simulation) -> Exposition {
    eventually("the end of the drain", LIMIT, || {
        let metrics = simulation.metrics();
        metrics.value("spotwarden_drain_slack_seconds").is_some().then_some(metrics)
    })
}

#[test]
fn prometheus_stores_in_both_formats_what_the_agent_shows() {
    let simulation = Simulation::start("scraped", TOLD);
    let mut config = shipped(&simulation.admin, &simulation.node);
    let mut classic = config["scrape_configs"][0].clone();
    classic["job_name"] = "classic".into();
    classic["scrape_protocols"] = json!(["PrometheusText0.0.4"]);
    config["scrape_configs"][0]["scrape_protocols"] = json!(["OpenMetricsText1.0.0"]);
    config["scrape_configs"].as_array_mut().unwrap().push(classic);
    let prometheus = Prometheus::start(&config);
    at_rest(&simulation);
    // One scrape at least lies between the two looks, and what changes meanwhile only grows.
    let mut last = None;
    eventually("the same in both", LIMIT, || {
        let before = simulation.metrics();
        thread::sleep(Duration::from_millis(2500));
        let stored = JOBS.map(|job| stored(&prometheus, job));
        let after = simulation.metrics();
        let different = stored.iter().find_map(|stored| difference(stored, &before, &after));
        if different.is_some() && different != last {
            println!("{different:?}");
            last.clone_from(&different);
        }
        (different.is_none() && stored.iter().all(|stored| stored.len() > 60)).then_some(())
    });
    for job in JOBS {
        let up = prometheus.query(&format!("up{{job=\"{job}\"}}"));
        let labels = json!({"__name__": "up", "job": job, "instance": simulation.node, "node": simulation.node,
            "nodegroup": "pool", "zone": "eu-central-1a", "instance_type": "m5.large"});
        assert_eq!(up, [(labels, 1.0)]);
    }

    let openmetrics = simulation.scraped_as("application/openmetrics-text; version=1.0.0");
    assert!(
        openmetrics.head.to_ascii_lowercase().contains("content-type: application/openmetrics-text"),
        "{}",
        openmetrics.head
    );
    // What has to be told apart: in the classic format a counter is declared with the name of its sample.
    let declared = parse(&openmetrics.body).types;
    assert_types(&prometheus, "spotwarden", &declared, "spotwarden_notices");
    assert_types(&prometheus, "classic", &simulation.metrics().types, "spotwarden_notices_total");
}

/// Prometheus remembers also what the agent does not show any more.
fn assert_types(prometheus: &Prometheus, job: &str, declared: &BTreeMap<String, String>, counter: &str) {
    let known = types(prometheus, job);
    let different = declared.iter().find(|(family, kind)| known.get(*family) != Some(kind));
    assert_eq!(different, None, "{job}: {known:?}");
    assert_eq!(known[counter], "counter");
}

/// The path that is recommended, from the notice to the message: scrape, rule, route, Slack.
#[test]
fn a_notice_becomes_one_message() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let alertmanager = Alertmanager::start(&alertmanager::shipped(&slack, &urls));
    let simulation = Simulation::start("told", TOLD);
    let mut config = shipped(&simulation.admin, &simulation.node);
    config["alerting"] = json!({"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]});
    config["global"] = json!({"external_labels": {"cluster": "test"}});
    let prometheus = Prometheus::start(&config);
    let first = eventually("a message", LIMIT, || slack.messages().first().cloned());
    let words = first.words();
    assert!(words.contains("[FIRING:1] SpotwardenNodeInterruption (test)"), "{words}");
    assert!(words.contains(&format!("• Node {} is to stop at 20", simulation.node)), "{words}");
    at_rest(&simulation);
    thread::sleep(Duration::from_secs(3));
    slack.assert_content();
    assert_eq!(slack.messages().len(), 1, "{:#?}", slack.messages());
    let pushed: Vec<Value> = alertmanager.alerts();
    let expected = json!({"alertname": "SpotwardenNodeInterruption", "severity": "warning", "cluster": "test",
        "node": simulation.node, "nodegroup": "pool"});
    assert_eq!(pushed, [expected]);

    let groups = prometheus.api("/api/v1/rules");
    let rules: Vec<&Value> =
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 30 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
}

/// What the agent pushes to Alertmanager by itself has the labels of what the rule makes of its metrics: one alert, and one
/// message, whoever is first.
#[test]
fn what_the_agent_pushes_and_what_the_rule_makes_is_one_alert() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let alertmanager = Alertmanager::start(&alertmanager::shipped(&slack, &urls));
    let variables = [
        ("SPOTWARDEN_ALERTMANAGER_URL", format!("http://{}", alertmanager.address)),
        ("SPOTWARDEN_CLUSTER_NAME", "test".to_owned()),
    ];
    let simulation = Simulation::with_agent("pushing", TOLD, &variables);
    let pushed = eventually("a pushed alert", LIMIT, || alertmanager.alerts().first().cloned());
    assert_eq!(pushed["alertname"], "SpotwardenNodeInterruption");
    let mut config = shipped(&simulation.admin, &simulation.node);
    config["alerting"] = json!({"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]});
    config["global"] = json!({"external_labels": {"cluster": "test"}});
    // As the simulated node has it, from which the agent knows it.
    let labels = config["scrape_configs"][0]["static_configs"][0]["labels"].as_object_mut().unwrap();
    labels.remove("__meta_kubernetes_node_label_karpenter_sh_nodepool");
    labels.insert("__meta_kubernetes_node_label_eks_amazonaws_com_nodegroup".to_owned(), "spot".into());
    let prometheus = Prometheus::start(&config);
    eventually("the alert of the rule", LIMIT, || {
        let firing = prometheus.query("ALERTS{alertname=\"SpotwardenNodeInterruption\",alertstate=\"firing\"}");
        (!firing.is_empty()).then_some(())
    });
    let delivered = "spotwarden_notifications_total{sink=\"alertmanager\",outcome=\"delivered\"}";
    eventually("the count of what was delivered", LIMIT, || {
        prometheus.query(delivered).first().filter(|(_, count)| *count >= 1.0).map(|_| ())
    });
    at_rest(&simulation);
    thread::sleep(Duration::from_secs(3));
    slack.assert_content();
    assert_eq!(slack.messages().len(), 1, "{:#?}", slack.messages());
    let labels = json!({"alertname": "SpotwardenNodeInterruption", "severity": "warning", "cluster": "test",
        "node": simulation.node, "nodegroup": "spot"});
    assert_eq!(alertmanager.alerts(), [labels]);
}

/// The direct way, which is opt-in: two messages at most for a node, that Slack would take.
#[test]
fn an_agent_that_posts_to_slack_itself_says_what_slack_takes() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let variables = [("SPOTWARDEN_SLACK_WEBHOOK_URL_FILE", urls.write("url", &slack.url("/services/T0/B0/x")))];
    let simulation = Simulation::with_agent("posting", TOLD, &variables);
    eventually("the notice and the result", LIMIT, || (slack.messages().len() >= 2).then_some(()));
    at_rest(&simulation);
    slack.assert_content();
    let messages = slack.messages();
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(messages.iter().all(|message| message.words().contains(&simulation.node)), "{messages:#?}");
}

#[test]
fn a_drain_that_cannot_be_finished_is_told() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let alertmanager = Alertmanager::start(&alertmanager::shipped(&slack, &urls));
    let simulation = Simulation::start("late", TOLD_LATE);
    let mut config = shipped(&simulation.admin, &simulation.node);
    config["alerting"] = json!({"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]});
    let _prometheus = Prometheus::start(&config);
    let told = eventually("the message", LIMIT, || {
        slack.messages().into_iter().find(|message| message.words().contains("SpotwardenDrainIncomplete"))
    });
    assert!(told.words().contains(&format!("Node {} still had pods", simulation.node)), "{}", told.words());
    slack.assert_content();
}

/// The metrics that a push has: those of the process come by scrape alone.
fn pushed(shown: &Exposition) -> Exposition {
    let own = shown.samples.iter().filter(|((name, _), _)| name.starts_with("spotwarden_"));
    // The push counts itself, and the labels of the node's identity are those of the target.
    let kept = own.filter(|((name, _), _)| !name.starts_with("spotwarden_otlp_") && name != "spotwarden_node_info");
    Exposition { samples: kept.map(|(series, value)| (series.clone(), *value)).collect(), ..Exposition::default() }
}

/// What Prometheus has got by OTLP of the node, without the labels of the resource.
fn received(prometheus: &Prometheus) -> BTreeMap<Series, f64> {
    const RESOURCE: [&str; 8] =
        ["job", "instance", "node", "nodegroup", "cluster", "cloud_availability_zone", "host_type", "service_version"];
    let samples = prometheus
        .query("{__name__=~\"spotwarden_.*\",node!=\"\",__name__!~\"spotwarden_otlp_.*|spotwarden_node_info\"}");
    let named = samples.into_iter().map(|(metric, value)| {
        let mut labels: BTreeMap<String, String> = serde_json::from_value(metric).unwrap();
        let name = labels.remove("__name__").unwrap();
        let of_target =
            |label: &str| RESOURCE.contains(&label) || label.starts_with("service_") || label.starts_with("otel_");
        labels.retain(|label, _| !of_target(label));
        // The same bound, which a push spells without its `.0`.
        if let Some(bound) = labels.get_mut("le").filter(|bound| !bound.contains('.') && *bound != "+Inf") {
            bound.push_str(".0");
        }
        ((name, labels), value)
    });
    named.collect()
}

/// Gone from `/metrics` once no pod is left. Prometheus is not told by a push that something ended, and keeps the last
/// value for five minutes.
const LINGERS: &str = "spotwarden_drain_forecast_slack_seconds";

/// Until what arrived is what is shown.
fn arrives(simulation: &Simulation, prometheus: &Prometheus) {
    let mut last = None;
    eventually("the same by push", LIMIT, || {
        let before = pushed(&simulation.metrics());
        thread::sleep(Duration::from_millis(3500));
        let mut received = received(prometheus);
        received.remove(&(LINGERS.to_owned(), BTreeMap::new()));
        let different = difference(&received, &before, &pushed(&simulation.metrics()));
        if different.is_some() && different != last {
            println!("{different:?}");
            last.clone_from(&different);
        }
        (different.is_none() && received.len() > 60).then_some(())
    });
}

/// Prometheus takes the push of the agent itself; names, labels and values are those of `/metrics`.
#[test]
fn what_is_pushed_to_prometheus_is_what_is_shown() {
    let mut config = shipped("127.0.0.1:9", "nobody");
    config["scrape_configs"] = json!([]);
    let prometheus = Prometheus::start(&config);
    let endpoint = format!("http://{}/api/v1/otlp/v1/metrics", prometheus.address);
    let variables = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES", "node=told,cluster=test".to_owned()),
    ];
    let simulation = Simulation::with_agent("pushed", TOLD, &variables);
    at_rest(&simulation);
    arrives(&simulation, &prometheus);
    eventually("the alert of the rule", LIMIT, || {
        let firing =
            prometheus.query("ALERTS{alertname=\"SpotwardenNodeInterruption\",node=\"told\",cluster=\"test\"}");
        (!firing.is_empty()).then_some(())
    });
}

/// Through the shipped collector, with its exporter for remote write: the same, with the labels that the rules want.
#[test]
fn what_is_pushed_through_the_collector_is_what_is_shown() {
    let mut config = shipped("127.0.0.1:9", "nobody");
    config["scrape_configs"] = json!([]);
    let prometheus = Prometheus::start(&config);
    let path = "monitoring/collector/upstream.yaml";
    let mut config = collector::shipped(path, "127.0.0.1:9", "nobody");
    let mut exporter = yaml(path)["exporters"]["prometheusremotewrite"].clone();
    exporter["endpoint"] = format!("http://{}/api/v1/write", prometheus.address).into();
    config["exporters"] = json!({"prometheusremotewrite": exporter});
    let otlp = config["service"]["pipelines"]["metrics/otlp"].clone();
    config["service"]["pipelines"] = json!({"metrics/otlp": otlp});
    config["service"]["pipelines"]["metrics/otlp"]["exporters"] = json!(["prometheusremotewrite"]);
    config["receivers"].as_object_mut().unwrap().remove("prometheus");
    let collector = Collector::start(&config);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_endpoint.clone()),
        ("OTEL_TRACES_EXPORTER", "none".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned()),
    ];
    let simulation = Simulation::with_agent("collected", TOLD, &variables);
    at_rest(&simulation);
    arrives(&simulation, &prometheus);
    let firing = eventually("the alert of the rule", LIMIT, || {
        let firing = prometheus.query("ALERTS{alertname=\"SpotwardenNodeInterruption\",alertstate=\"firing\"}");
        firing.first().map(|(labels, _)| labels.clone())
    });
    assert_eq!((&firing["cluster"], firing["node"].as_str()), (&"test".into(), Some(simulation.node.as_str())));
}
