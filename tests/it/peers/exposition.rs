//! The text that `/metrics` answers with, taken apart far enough to be compared.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy excuses only the functions marked as tests")]

use std::collections::{BTreeMap, BTreeSet};

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

/// Names of samples that an agent can show, from the golden file.
pub(crate) fn golden() -> BTreeSet<String> {
    let text = super::text("tests/golden/metrics.txt");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split('{').next().unwrap().to_owned()).collect()
}
