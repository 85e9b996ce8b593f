//! The registry as OTLP messages.
//!
//! All that `/metrics` shows is there, read through the registry's structured form. Sums and histograms count from the
//! start of the process; for a collector that wants deltas they count from what it took last. Nothing is lost then when a
//! push fails; what the collector took although its answer never came is counted twice.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;

use super::names::{Instrument, Shape, instrument};
use super::resource::{SCHEMA_URL, attribute, scope};
use crate::config::otlp::Temporality;

/// All metrics, counted from `start`, as they are `now`; both in nanoseconds since the epoch.
pub fn cumulative(families: Vec<model::MetricFamily>, start: u64, now: u64) -> Vec<Metric> {
    families.into_iter().filter_map(|family| metric(family, start, now)).collect()
}

fn metric(family: model::MetricFamily, start: u64, now: u64) -> Option<Metric> {
    let shape = match family.r#type() {
        model::MetricType::Counter => Shape::Counter,
        model::MetricType::Histogram | model::MetricType::GaugeHistogram => Shape::Histogram,
        model::MetricType::Gauge | model::MetricType::Untyped | model::MetricType::Summary => Shape::Gauge,
    };
    let Instrument { name, unit, shape } = instrument(&family.name, shape)?;
    let data = match shape {
        Shape::Counter | Shape::UpDownCounter => Data::Sum(Sum {
            data_points: family.metric.into_iter().filter_map(|metric| number(metric, start, now)).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: shape == Shape::Counter,
        }),
        Shape::Gauge => Data::Gauge(Gauge {
            data_points: family.metric.into_iter().filter_map(|metric| number(metric, 0, now)).collect(),
        }),
        Shape::Histogram => Data::Histogram(Histogram {
            data_points: family.metric.into_iter().filter_map(|metric| distribution(metric, start, now)).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        }),
    };
    Some(Metric { name, unit, description: family.help, data: Some(data), ..Metric::default() })
}

fn attributes(labels: &[model::LabelPair]) -> Vec<KeyValue> {
    labels.iter().map(|label| attribute(&label.name, &label.value)).collect()
}

fn number(metric: model::Metric, start: u64, now: u64) -> Option<NumberDataPoint> {
    let counter = metric.counter.map(|counter| counter.value);
    let value = counter.or_else(|| metric.gauge.map(|gauge| gauge.value));
    let value = value.or_else(|| metric.untyped.map(|untyped| untyped.value))?;
    Some(NumberDataPoint {
        attributes: attributes(&metric.label),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    })
}

/// OTLP's buckets hold what is above the one before; the last one, up to infinity, has no bound.
fn distribution(metric: model::Metric, start: u64, now: u64) -> Option<HistogramDataPoint> {
    let histogram = metric.histogram?;
    let (mut bounds, mut counts, mut below) = (Vec::new(), Vec::new(), 0);
    for bucket in histogram.bucket.iter().filter(|bucket| bucket.upper_bound.is_finite()) {
        bounds.push(bucket.upper_bound);
        counts.push(bucket.cumulative_count.saturating_sub(below));
        below = bucket.cumulative_count;
    }
    counts.push(histogram.sample_count.saturating_sub(below));
    Some(HistogramDataPoint {
        attributes: attributes(&metric.label),
        start_time_unix_nano: start,
        time_unix_nano: now,
        count: histogram.sample_count,
        sum: Some(histogram.sample_sum),
        bucket_counts: counts,
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    })
}

/// What the collector took last.
#[derive(Debug)]
pub struct Taken {
    /// When it was read, in nanoseconds since the epoch.
    pub at: u64,
    /// Counted from the start.
    pub metrics: Vec<Metric>,
}

/// `metrics`, which count from the start, as `temporality` wants them. Sums that go up and down stay as they are.
pub fn counted_from(mut metrics: Vec<Metric>, temporality: Temporality, taken: Option<&Taken>) -> Vec<Metric> {
    for metric in &mut metrics {
        let before = taken.and_then(|taken| {
            let same = taken.metrics.iter().find(|one| one.name == metric.name)?;
            Some((taken.at, same.data.as_ref()?))
        });
        // What is read at the time of the push needs no memory to be cumulative.
        let is_read = metric.name.starts_with("process.");
        if temporality == Temporality::Cumulative || temporality == Temporality::LowMemory && is_read {
            continue;
        }
        match &mut metric.data {
            Some(Data::Sum(sum)) if sum.is_monotonic => {
                sum.aggregation_temporality = AggregationTemporality::Delta.into();
                if let Some((at, Data::Sum(before))) = before {
                    sum.data_points.iter_mut().for_each(|point| subtract_number(point, before, at));
                }
            }
            Some(Data::Histogram(histogram)) => {
                histogram.aggregation_temporality = AggregationTemporality::Delta.into();
                if let Some((at, Data::Histogram(before))) = before {
                    histogram.data_points.iter_mut().for_each(|point| subtract_distribution(point, before, at));
                }
            }
            _ => {}
        }
    }
    metrics
}

fn subtract_number(point: &mut NumberDataPoint, before: &Sum, at: u64) {
    point.start_time_unix_nano = at;
    let same = before.data_points.iter().find(|one| one.attributes == point.attributes);
    if let (Some(Value::AsDouble(value)), Some(Value::AsDouble(before))) =
        (&mut point.value, same.and_then(|one| one.value))
    {
        *value -= before;
    }
}

fn subtract_distribution(point: &mut HistogramDataPoint, before: &Histogram, at: u64) {
    point.start_time_unix_nano = at;
    let Some(before) = before.data_points.iter().find(|one| one.attributes == point.attributes) else { return };
    point.count = point.count.saturating_sub(before.count);
    point.sum = point.sum.zip(before.sum).map(|(sum, before)| sum - before);
    for (count, before) in point.bucket_counts.iter_mut().zip(&before.bucket_counts) {
        *count = count.saturating_sub(*before);
    }
}

/// The whole message.
pub fn request(resource: Resource, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, schema_url: SCHEMA_URL.into() }];
    let resource = Some(resource);
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, schema_url: SCHEMA_URL.into() }];
    ExportMetricsServiceRequest { resource_metrics }
}
