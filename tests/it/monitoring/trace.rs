//! The trace of an interruption, from an agent's binary to what a real collector has of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::scrape::{LIMIT, TOLD};
use crate::peers::collector::{Collector, shipped};
use crate::peers::eventually;
use crate::peers::simulation::Simulation;

/// The spans of all batches so far, by name; pods by theirs.
fn spans(collector: &Collector) -> BTreeMap<String, Value> {
    let batches = collector.received();
    let resources = batches.iter().flat_map(|batch| batch["resourceSpans"].as_array().into_iter().flatten());
    let scopes = resources.flat_map(|resource| resource["scopeSpans"].as_array().into_iter().flatten());
    let spans = scopes.flat_map(|scope| scope["spans"].as_array().into_iter().flatten());
    spans
        .map(|span| {
            let attributes = span["attributes"].as_array().into_iter().flatten();
            let pod = attributes.into_iter().find(|one| one["key"] == "k8s.pod.name");
            let name = pod.map_or(&span["name"], |pod| &pod["value"]["stringValue"]);
            (name.as_str().unwrap().to_owned(), span.clone())
        })
        .collect()
}

#[test]
fn the_trace_of_an_interruption_arrives_whole_and_under_the_id_of_the_report() {
    let mut config = shipped("monitoring/collector/upstream.yaml", "127.0.0.1:9", "nobody");
    config["service"]["pipelines"].as_object_mut().unwrap().remove("metrics/scrape");
    config["receivers"].as_object_mut().unwrap().remove("prometheus");
    let collector = Collector::start(&config);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_endpoint.clone()),
        ("OTEL_METRICS_EXPORTER", "none".to_owned()),
    ];
    let simulation = Simulation::with_agent("traced", TOLD, &variables);
    let report: Value = eventually("the report in the log", LIMIT, || {
        let log = simulation.agent_log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let report = lines.into_iter().find(|line| line["message"] == "interruption report")?["report"].clone();
        Some(report.as_str().map_or(report.clone(), |text| serde_json::from_str(text).unwrap()))
    });
    let names = ["drain", "fence", "web-0", "web-1", "web-2"];
    let spans = eventually("the spans", LIMIT, || {
        Some(spans(&collector)).filter(|spans| names.iter().all(|name| spans.contains_key(*name)))
    });
    for (name, span) in &spans {
        assert_eq!(span["traceId"], report["trace_id"], "{name}");
    }
    let (drain, web) = (&spans["drain"], &spans["web-0"]);
    assert_eq!(web["parentSpanId"], drain["spanId"]);
    assert_eq!(drain["parentSpanId"], spans["fence"]["parentSpanId"], "both are below the interruption");
    let attribute = |key: &str| {
        let all = web["attributes"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).map(|one| one["value"].clone())
    };
    assert_eq!(attribute("k8s.namespace.name").map(|value| value["stringValue"].is_string()), Some(true));
    let mut outcomes: Vec<&str> =
        report["pods"].as_array().unwrap().iter().map(|pod| pod["outcome"].as_str().unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["graceful", "graceful", "graceful", "skipped"]);
}
