//! The text that `/metrics` answers with, taken apart far enough to be compared.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy excuses only the functions marked as tests")]

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use spotwarden::metrics::PREFIX;
use spotwarden::metrics::otlp::OtlpMetrics;
use spotwarden::otlp::OtlpSignal;

/// The name of a sample and its labels.
pub(crate) type Series = (String, BTreeMap<String, String>);

/// What neither only grows nor comes to rest: two looks say nothing of what it was in between.
pub(crate) const WANDERS: [&str; 2] = ["process_resident_memory_bytes", "spotwarden_imds_clock_skew_seconds"];

/// An exposition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition {
    /// Family → type, as the `TYPE` lines have it.
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<Series, f64>,
}

impl Exposition {
    /// The value of a sample without labels.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.samples.get(&(name.to_owned(), BTreeMap::new())).copied()
    }
}

/// Reads either format. Values of labels have no commas and no quotes in them, which is so with all of ours.
pub(crate) fn parse(text: &str) -> Exposition {
    let mut exposition = Exposition::default();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (family, kind) = declared.split_once(' ').unwrap();
            exposition.types.insert(family.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            exposition.samples.insert(series_of(series), value.parse().unwrap_or_else(|_| panic!("{line}")));
        }
    }
    exposition
}

fn series_of(text: &str) -> Series {
    let (name, labels) = text.trim_end_matches('}').split_once('{').unwrap_or((text, ""));
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()));
    (name.to_owned(), pairs.collect())
}

/// Every sample that an agent can show, as its name and labels, from the golden file. What is there only with something to
/// push to is taken from its definition.
pub(crate) fn samples() -> Vec<String> {
    let mut registry = Registry::default();
    let signals = [OtlpSignal::Metrics, OtlpSignal::Traces];
    drop(OtlpMetrics::register(registry.sub_registry_with_prefix(PREFIX), signals.into_iter()));
    let mut pushed = String::new();
    encode(&mut pushed, &registry).unwrap();
    let pushed =
        pushed.lines().filter_map(|line| line.split(' ').next().filter(|name| *name != "#").map(str::to_owned));
    let text = super::text("tests/golden/metrics.txt");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    samples.chain(pushed).collect()
}

/// The names of [`samples`].
pub(crate) fn names() -> BTreeSet<String> {
    samples().iter().map(|sample| sample.split('{').next().unwrap().to_owned()).collect()
}
