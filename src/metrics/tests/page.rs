//! `docs/metrics.md`, written from the registry.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{MetricFamily, MetricType};

use super::*;
use crate::otlp::names::{Shape, instrument};

const HEAD: &str = "\
# Metrics

What `/metrics` shows and what is pushed over OTLP ([how](otlp.md)). This page is written from the agent's registry by
`UPDATE_GOLDEN=1 cargo test --lib metrics`, and a test compares the two; names, types, labels and meanings are an interface.

Names are those of samples. In OpenMetrics text a family of counters is called without `_total` and an info metric without
`_info`, as that format wants. The name for OTLP has its unit behind it; it translates to the name of the sample in Prometheus
and in the collector, but for the four metrics of the process that the semantic conventions call otherwise.

| when | means |
| --- | --- |
| always | from the start; a counter with 0 for every value of its labels |
| node known | once the own Node, or in its place the instance's identity, and the node's pods were read |
| VPC CNI | where the Amazon VPC CNI answers, as far as it applies |
| OTLP | where telemetry is pushed |
| sinks | where messages are sent to somebody |
| applies | only while or after it applies; the meaning says so |

Of labels without an end (`…`) and of those whose values are names of the node's own the page does not list all values.

";

/// What a node shows that names of its own are the values of.
const OPEN_LABELS: [&str; 2] = ["eni", "subnet_id"];

fn names(metrics: &Metrics) -> BTreeSet<String> {
    let families = metrics.families().into_iter().filter(|family| !family.metric.is_empty());
    families.map(|family| family.name).collect()
}

fn labels(family: &MetricFamily) -> String {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for label in family.metric.iter().flat_map(|metric| &metric.label) {
        values.entry(&label.name).or_default().insert(&label.value);
    }
    let open = |name: &str| OPEN_LABELS.contains(&name) || family.name.ends_with("_info");
    let lists = values.iter().map(|(name, values)| {
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        let more = if ["spotwarden_api_requests_total", "spotwarden_cni_source"].contains(&family.name.as_str()) {
            ", …"
        } else {
            ""
        };
        if open(name) { format!("`{name}`") } else { format!("`{name}`: {}{more}", values.join(", ")) }
    });
    lists.collect::<Vec<_>>().join("; ")
}

fn pushed_as(family: &MetricFamily, shape: Shape) -> String {
    instrument(&family.name, shape).map_or_else(
        || "only scraped".to_owned(),
        |instrument| match instrument.unit.as_str() {
            "" => format!("`{}`", instrument.name),
            unit => format!("`{}`, `{unit}`", instrument.name),
        },
    )
}

fn page() -> String {
    let (start, idle, mut all) = (names(&metrics().1), names(&idle()), fullest());
    let without_otlp = names(&all);
    all.count_exports(&crate::otlp::tests::config("http://c"));
    let mut families = all.families();
    families.sort_by(|one, other| one.name.cmp(&other.name));
    let mut page = HEAD.to_owned();
    page.push_str("| metric | type | labels | when | meaning | over OTLP |\n| --- | --- | --- | --- | --- | --- |\n");
    for family in &families {
        let name = &family.name;
        let (word, shape) = match family.r#type() {
            MetricType::Counter => ("counter", Shape::Counter),
            MetricType::Histogram => ("histogram", Shape::Histogram),
            _ if name.ends_with("_info") => ("info", Shape::Gauge),
            _ => ("gauge", Shape::Gauge),
        };
        let when = if start.contains(name) {
            "always"
        } else if idle.contains(name) {
            "node known"
        } else if !without_otlp.contains(name) {
            "OTLP"
        } else if name.starts_with("spotwarden_cni_") {
            "VPC CNI"
        } else if name.starts_with("spotwarden_notifications_") {
            "sinks"
        } else {
            "applies"
        };
        let (labels, help) = (labels(family), family.help.replace('|', "\\|"));
        let pushed = pushed_as(family, shape);
        _ = writeln!(page, "| `{name}` | {word} | {labels} | {when} | {help} | {pushed} |");
    }
    page
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn the_page_about_metrics_says_what_the_registry_says() {
    let page = page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == page, "update docs/metrics.md with: UPDATE_GOLDEN=1 cargo test --lib metrics");
    assert!(page.lines().filter(|line| line.starts_with("| `")).count() > 40);
}
