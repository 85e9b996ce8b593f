//! The configurations of the OpenTelemetry collector, judged and executed by a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::contents::keep_list;
use crate::peers::collector::{Collector, environment, plain, shipped};
use crate::peers::exposition::{Exposition, Series, WANDERS};
use crate::peers::simulation::Simulation;
use crate::peers::{Folder, eventually, request, tool, yaml};

const FILES: [&str; 2] = ["monitoring/collector/upstream.yaml", "monitoring/collector/adot.yaml"];
const LIMIT: Duration = Duration::from_secs(40);

const TOLD: &str = "\
title = \"t\"
[notice]
lead = 110
[[pods]]
name = \"web\"
count = 3
stops_after = 1
";

/// The collector on the files as they are shipped, discovery and signing included. Only `awsemf` is no component of the
/// one that the tests can build.
#[test]
fn the_collector_finds_nothing_to_complain_about() {
    let validate = |config: &Value| {
        let folder = Folder::new("validate");
        let path = folder.write("config.yaml", &config.to_string());
        let output = Command::new(tool("otelcol", "otelcol"))
            .args(["validate", "--config", &path])
            .env_clear()
            .envs(environment())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for path in FILES {
        let mut config = yaml(path);
        config["exporters"].as_object_mut().unwrap().remove("awsemf");
        let (passed, said) = validate(&config);
        assert!(passed, "{path}: {said}");
        config["processors"]["batch"]["timeoutt"] = "5s".into();
        assert!(!validate(&config).0, "{path}: a misspelt key has to be noticed");
    }
}

/// What arrived by OTLP as samples of Prometheus: a histogram becomes its buckets, sum and count.
fn samples(received: &[Value]) -> BTreeMap<Series, f64> {
    let mut samples = BTreeMap::new();
    for batch in received {
        for resource in batch["resourceMetrics"].as_array().into_iter().flatten() {
            for scope in resource["scopeMetrics"].as_array().unwrap() {
                for metric in scope["metrics"].as_array().unwrap() {
                    add(&mut samples, metric);
                }
            }
        }
    }
    samples
}

fn add(samples: &mut BTreeMap<Series, f64>, metric: &Value) {
    let name = metric["name"].as_str().unwrap();
    for point in ["gauge", "sum"].iter().filter_map(|kind| metric[kind]["dataPoints"].as_array()).flatten() {
        if let Some(value) = point["asDouble"].as_f64().or_else(|| point["asInt"].as_str()?.parse().ok()) {
            samples.insert((name.to_owned(), labels(point)), value);
        }
    }
    for point in metric["histogram"]["dataPoints"].as_array().into_iter().flatten() {
        let labels = labels(point);
        let count = |value: &Value| value.as_str().unwrap_or("0").parse::<f64>().unwrap();
        samples.insert((format!("{name}_count"), labels.clone()), count(&point["count"]));
        samples.insert((format!("{name}_sum"), labels.clone()), point["sum"].as_f64().unwrap_or_default());
        let bounds =
            point["explicitBounds"].as_array().unwrap().iter().map(|bound| format!("{:?}", bound.as_f64().unwrap()));
        let mut total = 0.0;
        for (bound, inside) in bounds.chain(["+Inf".to_owned()]).zip(point["bucketCounts"].as_array().unwrap()) {
            total += count(inside);
            let mut labels = labels.clone();
            labels.insert("le".to_owned(), bound);
            samples.insert((format!("{name}_bucket"), labels), total);
        }
    }
}

fn labels(point: &Value) -> BTreeMap<String, String> {
    let attributes = point["attributes"].as_array().into_iter().flatten();
    let pairs = attributes.map(|attribute| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&attribute["key"]), text(&attribute["value"]["stringValue"]))
    });
    pairs.collect()
}

/// The same metrics as the agent shows them, of those that are kept.
fn kept(shown: &Exposition, names: &BTreeSet<String>) -> BTreeMap<Series, f64> {
    shown
        .samples
        .iter()
        .filter(|((name, _), _)| names.contains(name))
        .map(|(series, value)| (series.clone(), *value))
        .collect()
}

#[rstest::rstest]
#[case::upstream(FILES[0])]
#[case::adot(FILES[1])]
fn what_the_collector_scrapes_is_what_the_agent_shows(#[case] path: &str) {
    let simulation = Simulation::start("collected", TOLD);
    let collector = Collector::start(&shipped(path, &simulation.admin, &simulation.node));
    eventually("the end of the drain", LIMIT, || simulation.metrics().value("spotwarden_drain_slack_seconds"));
    let names = super::contents::names_of(&keep_list(path));
    let mut found = String::new();
    let end = eventually("the same in the collector", LIMIT, || {
        let before = kept(&simulation.metrics(), &names);
        let skip = collector.received().len();
        std::thread::sleep(Duration::from_millis(2500));
        let received = collector.received();
        let after = kept(&simulation.metrics(), &names);
        // What came since, but for the first, which may have been on its way: it was scraped between the two looks.
        let stored: BTreeMap<Series, f64> = samples(received.get(skip + 1..)?)
            .into_iter()
            .filter(|((name, _), _)| name != "up" && !name.starts_with("scrape_"))
            .map(|((name, mut labels), value)| {
                for label in ["node", "nodegroup"] {
                    labels.remove(label);
                }
                let labels =
                    labels.into_iter().map(|(label, value)| (label.trim_start_matches("exported_").to_owned(), value));
                ((name, labels.collect()), value)
            })
            .collect();
        let different = difference(&stored, &before, &after)?;
        if different != found {
            println!("{different}");
            found.clone_from(&different);
        }
        different.is_empty().then_some(stored.len())
    });
    assert!(end > 60, "{end} samples: {found}");

    // The labels that the rules want, and that nobody else has.
    let batch = collector.received().pop().unwrap();
    let resource: BTreeMap<String, String> = labels(&batch["resourceMetrics"][0]["resource"]);
    assert_eq!(resource["cluster"], "test");
    assert_eq!(resource["service.instance.id"], simulation.node);
    assert_eq!(resource["node"], simulation.node);
    let told = |key: &String| matches!(key.as_str(), "cluster" | "node") || key.starts_with("service.");
    assert!(resource.keys().all(told), "{resource:?}");
    let point = &batch["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
    let point = ["gauge", "sum", "histogram"].iter().find_map(|kind| point[kind]["dataPoints"].get(0)).unwrap();
    assert_eq!(
        (labels(point)["node"].as_str(), labels(point)["nodegroup"].as_str()),
        (simulation.node.as_str(), "pool")
    );
    assert!(!collector.log().contains("\terror\t"), "{}", collector.log());
}

/// Empty if all that was stored was shown, with values that were shown before, after or in between; `None` if nothing came.
fn difference(
    stored: &BTreeMap<Series, f64>,
    before: &BTreeMap<Series, f64>,
    after: &BTreeMap<Series, f64>,
) -> Option<String> {
    if stored.is_empty() {
        return None;
    }
    let (names, shown): (BTreeSet<_>, BTreeSet<_>) = (stored.keys().collect(), after.keys().collect());
    if names != shown {
        let (more, less): (Vec<_>, Vec<_>) = (names.difference(&shown).collect(), shown.difference(&names).collect());
        return Some(format!("stored alone: {more:?}, shown alone: {less:?}"));
    }
    let wrong = stored.iter().find(|(series, value)| {
        let (first, last) = (before.get(series).copied().unwrap_or(f64::NAN), after[series]);
        let within = (first.min(last)..=first.max(last)).contains(*value);
        !within && !WANDERS.contains(&series.0.as_str())
    });
    Some(wrong.map(|(series, value)| format!("{series:?} is {value}")).unwrap_or_default())
}

/// What is pushed goes through the list too, and gets the labels of the rules from its resource.
#[rstest::rstest]
#[case::upstream(FILES[0])]
#[case::adot(FILES[1])]
fn what_is_pushed_is_filtered_and_labelled(#[case] path: &str) {
    let mut config = shipped(path, "127.0.0.1:9", "nobody");
    // The scrape would only be in the way.
    config["service"]["pipelines"].as_object_mut().unwrap().remove("metrics/scrape");
    config.as_object_mut().unwrap()["receivers"].as_object_mut().unwrap().remove("prometheus");
    let collector = Collector::start(&config);
    let metric = |name: &str| json!({"name": name, "gauge": {"dataPoints": [{"timeUnixNano": "1790000000000000000", "asInt": "1"}]}});
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "spotwarden"),
            attribute("k8s.node.name", "n1"),
            attribute("host.id", "i-1"),
        ]},
        "scopeMetrics": [{"metrics": [metric("spotwarden.fenced"), metric("somebody.else")]}],
    }]});
    push(&collector, "/v1/metrics", &body);
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "interruption",
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000000000000001"});
    push(&collector, "/v1/traces", &json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}));
    let received = eventually("both", LIMIT, || Some(collector.received()).filter(|received| received.len() >= 2));
    let metrics = received.iter().find(|batch| !batch["resourceMetrics"].is_null()).unwrap();
    assert_eq!(samples(&received).into_keys().map(|(name, _)| name).collect::<Vec<_>>(), ["spotwarden.fenced"]);
    let resource = labels(&metrics["resourceMetrics"][0]["resource"]);
    let expected = [("cluster", "test"), ("node", "n1"), ("service.name", "spotwarden")];
    assert_eq!(resource, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let spans = received.iter().find(|batch| !batch["resourceSpans"].is_null()).unwrap();
    assert_eq!(spans["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"], "interruption");
}

/// Posts JSON to the collector as OTLP over HTTP has it.
fn push(collector: &Collector, path: &str, body: &Value) {
    let address = collector.http_endpoint.trim_start_matches("http://");
    let answer = request(address, "POST", path, "Content-Type: application/json\r\n", &body.to_string());
    assert_eq!(answer.status, 200, "{}\n{}", answer.body, collector.log());
}

/// What other tests of exporters start from.
#[test]
fn a_plain_collector_keeps_what_it_is_sent() {
    let collector = Collector::start(&plain());
    let metric =
        json!({"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": "1790000000000000000", "asDouble": 1.5}]}});
    push(&collector, "/v1/metrics", &json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}));
    let received =
        eventually("the batch", LIMIT, || Some(collector.received()).filter(|received| !received.is_empty()));
    assert_eq!(samples(&received), [(("x".to_owned(), BTreeMap::new()), 1.5)].into());
}
