//! What is pushed beside what is scraped.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, HistogramDataPoint, Metric};

use super::super::metrics::{Taken, counted_from, cumulative};
use super::text_of;
use crate::config::otlp::Temporality;
use crate::interruption::record::Record;
use crate::metrics::Metrics;
use crate::metrics::tests::fullest;

const START: u64 = 1_000;
const NOW: u64 = 9_000;

/// The names that the conventions have and Prometheus does not.
const EXCEPTIONS: [(&str, &str); 4] = [
    ("process.cpu.time", "process_cpu_seconds_total"),
    ("process.memory.usage", "process_resident_memory_bytes"),
    ("process.memory.virtual", "process_virtual_memory_bytes"),
    ("process.unix.file_descriptor.count", "process_open_fds"),
];
/// What is only scraped: the conventions have nothing of the kind, and every point has the start already.
const ONLY_SCRAPED: [&str; 2] = ["process_max_fds", "process_start_time_seconds"];

/// The name that the translators of Prometheus and of the collector give an instrument: dots to underscores, the unit's
/// word unless it is in the name already, `_total` behind a monotonic sum. A gauge of unit `1` gets `_ratio`, which is in
/// their sources and not in the specification.
fn translated(metric: &Metric) -> String {
    let mut name = metric.name.replace('.', "_");
    let (monotonic, gauge) = match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => (sum.is_monotonic, false),
        Data::Gauge(_) => (false, true),
        _ => (false, false),
    };
    let word = match metric.unit.as_str() {
        "s" => "seconds",
        "By" => "bytes",
        "1" if gauge => "ratio",
        unit => {
            assert!(unit.is_empty() || unit.starts_with('{') && unit.ends_with('}'), "{name}: {unit}");
            ""
        }
    };
    if !word.is_empty() && !name.split('_').any(|token| token == word) {
        name = format!("{name}_{word}");
    }
    assert!(!name.split('_').any(|token| token == "total" || token.is_empty()), "{name} would be changed");
    if monotonic { format!("{name}_total") } else { name }
}

fn labels(attributes: &[KeyValue], more: &[(&str, String)]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let own = attributes.iter().map(|one| format!("{}=\"{}\"", one.key, escape(text_of(one))));
    let more = more.iter().map(|(key, value)| format!("{key}=\"{value}\""));
    let all: Vec<_> = own.chain(more).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn buckets(name: &str, point: &HistogramDataPoint, samples: &mut BTreeMap<String, f64>) {
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{name}");
    let bounds = point.explicit_bounds.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
    let mut below = 0;
    for (bound, count) in bounds.zip(&point.bucket_counts) {
        below += count;
        samples.insert(format!("{name}_bucket{}", labels(&point.attributes, &[("le", bound)])), below as f64);
    }
    assert_eq!(below, point.count, "{name}");
    samples.insert(format!("{name}_count{}", labels(&point.attributes, &[])), point.count as f64);
    samples.insert(format!("{name}_sum{}", labels(&point.attributes, &[])), point.sum.unwrap());
}

/// Every sample that a scraper of the translated metrics would see.
fn pushed(metrics: &[Metric]) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for metric in metrics {
        let exception = EXCEPTIONS.iter().find(|(name, _)| *name == metric.name);
        let name = exception.map_or_else(|| translated(metric), |(_, scraped)| (*scraped).to_owned());
        let points = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => {
                assert_eq!(sum.aggregation_temporality, i32::from(AggregationTemporality::Cumulative));
                assert!(sum.data_points.iter().all(|point| point.start_time_unix_nano == START), "{name}");
                &sum.data_points
            }
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (START, NOW), "{name}");
                    buckets(&name, point, &mut samples);
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        for point in points {
            assert_eq!(point.time_unix_nano, NOW, "{name}");
            let Some(Value::AsDouble(value)) = point.value else { panic!("{name}") };
            let twice = samples.insert(format!("{name}{}", labels(&point.attributes, &[])), value);
            assert!(twice.is_none(), "{name} is there twice");
        }
    }
    samples
}

fn scraped(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.text(None).1;
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect()
}

#[test]
fn every_sample_that_is_scraped_is_pushed_with_its_value_under_a_name_that_translates_to_its_own() {
    let mut metrics = fullest();
    metrics.count_exports(&super::config("http://c"));
    let (mut pushed, mut scraped) = (pushed(&cumulative(metrics.families(), START, NOW)), scraped(&metrics));
    assert!(ONLY_SCRAPED.iter().all(|name| scraped.remove(*name).is_some()));
    // They go on while they are read.
    for (_, name) in EXCEPTIONS {
        assert!(scraped.remove(name).is_some() && pushed.remove(name).is_some(), "{name}");
    }
    assert!(scraped.len() > 150, "{}", scraped.len());
    assert_eq!(pushed, scraped);
}

/// A counter without a unit says nothing of what it counts.
#[test]
fn every_counter_has_a_unit_and_every_metric_a_description() {
    for metric in cumulative(fullest().families(), START, NOW) {
        let counts = matches!(metric.data, Some(Data::Sum(_)));
        assert!(!counts || !metric.unit.is_empty(), "{} counts what?", metric.name);
        assert!(metric.description.ends_with('.'), "{}", metric.name);
        assert!(metric.name.starts_with("spotwarden.") || metric.name.starts_with("process."), "{}", metric.name);
    }
}

/// Start and value of a sum's first point, or the sum and buckets of a histogram's.
fn first(metrics: &[Metric], name: &str) -> (i32, u64, f64) {
    match metrics.iter().find(|metric| metric.name == name).unwrap().data.as_ref().unwrap() {
        Data::Sum(sum) => {
            let point = &sum.data_points[0];
            let Some(Value::AsDouble(value)) = point.value else { panic!() };
            (sum.aggregation_temporality, point.start_time_unix_nano, value)
        }
        Data::Histogram(histogram) => {
            let point = &histogram.data_points[0];
            assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
            (histogram.aggregation_temporality, point.start_time_unix_nano, point.count as f64)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn deltas_count_from_what_was_taken_and_gauges_stay() {
    let metrics = fullest();
    let (restores, drains, cpu) = ("spotwarden.restores", "spotwarden.drain.duration", "process.cpu.time");
    let (delta, whole) = (AggregationTemporality::Delta.into(), AggregationTemporality::Cumulative.into());
    metrics.record(&Record::Restored);
    let before = cumulative(metrics.families(), START, 2_000);
    let fresh = counted_from(before.clone(), Temporality::Delta, None);
    assert_eq!(first(&fresh, restores), (delta, START, 1.0), "nothing was taken yet");
    assert_eq!(first(&fresh, drains), (delta, START, 1.0));

    metrics.record(&Record::Restored);
    metrics.record(&Record::Restored);
    let taken = Taken { at: 2_000, metrics: before };
    let now = cumulative(metrics.families(), START, NOW);
    let deltas = counted_from(now.clone(), Temporality::Delta, Some(&taken));
    assert_eq!(first(&deltas, restores), (delta, 2_000, 2.0));
    assert_eq!(first(&deltas, drains), (delta, 2_000, 0.0));
    assert_eq!(first(&deltas, cpu).0, delta);
    let low = counted_from(now.clone(), Temporality::LowMemory, Some(&taken));
    assert_eq!((first(&low, restores), first(&low, cpu).0), ((delta, 2_000, 2.0), whole));
    assert_eq!(counted_from(now.clone(), Temporality::Cumulative, Some(&taken)), now);
    let gauges = |metrics: &[Metric]| {
        metrics.iter().filter(|one| matches!(one.data, Some(Data::Gauge(_)))).cloned().collect::<Vec<_>>()
    };
    assert_eq!(gauges(&deltas), gauges(&now));
    assert!(gauges(&now).len() > 10);
}
