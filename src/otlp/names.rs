//! From the name of a sample to the name and unit of its instrument.
//!
//! Both say the same: the collector's and Prometheus' translation of the instrument gives the name that `/metrics` shows,
//! so that dashboards and alerts fit both ways. Names have dots between namespaces and neither unit nor `_total`; units are
//! UCUM's, and what is counted is one of it in braces, as the semantic conventions want.

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A sum that only grows.
    Counter,
    /// A sum that goes up and down.
    UpDownCounter,
    /// A value of now.
    Gauge,
    /// A distribution.
    Histogram,
}

/// What an instrument is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// With dots.
    pub name: String,
    /// UCUM; empty for what is 0 or 1, or a number of nothing in particular.
    pub unit: String,
    /// What it measures.
    pub shape: Shape,
}

/// Words behind the prefix that are namespaces.
const AREAS: [&str; 6] = ["api", "cni", "drain", "imds", "interruption", "otlp"];

/// Units as names have them, and as UCUM has them. A ratio's `1` is turned back into `_ratio` for gauges only, which is
/// where the translators do so; the specification does not mention it.
const UNITS: [(&str, &str); 3] = [("_seconds", "s"), ("_bytes", "By"), ("_ratio", "1")];

/// The conventions have other names for some of what Prometheus calls `process_*`; what they do not have is only scraped.
const PROCESS: [(&str, &str, &str, Shape); 4] = [
    ("process_cpu_seconds_total", "process.cpu.time", "s", Shape::Counter),
    ("process_resident_memory_bytes", "process.memory.usage", "By", Shape::UpDownCounter),
    ("process_virtual_memory_bytes", "process.memory.virtual", "By", Shape::UpDownCounter),
    ("process_open_fds", "process.unix.file_descriptor.count", "{file_descriptor}", Shape::UpDownCounter),
];

/// The instrument of a family whose samples are called `name`; `None` if it is only scraped.
pub fn instrument(name: &str, shape: Shape) -> Option<Instrument> {
    if name.starts_with("process_") {
        let (_, name, unit, shape) = PROCESS.into_iter().find(|(scraped, ..)| *scraped == name)?;
        return Some(Instrument { name: name.to_owned(), unit: unit.to_owned(), shape });
    }
    let bare = if shape == Shape::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
    let unit = UNITS.iter().find_map(|(suffix, unit)| Some((bare.strip_suffix(suffix)?, *unit)));
    let (bare, unit) = unit.map_or_else(|| (bare, counted(bare)), |(bare, unit)| (bare, unit.to_owned()));
    Some(Instrument { name: dotted(bare), unit, shape })
}

/// The first word is a namespace, and the second one if it is an area with something in it.
fn dotted(name: &str) -> String {
    let Some((prefix, rest)) = name.split_once('_') else { return name.to_owned() };
    match rest.split_once('_') {
        Some((area, rest)) if AREAS.contains(&area) => format!("{prefix}.{area}.{rest}"),
        _ => format!("{prefix}.{rest}"),
    }
}

/// The last plural in a name, as one of it in braces.
fn counted(name: &str) -> String {
    let words = name.split('_').skip(1).filter(|word| !AREAS.contains(word));
    words.filter_map(singular).last().map(|word| format!("{{{word}}}")).unwrap_or_default()
}

fn singular(word: &str) -> Option<String> {
    let stem = word.strip_suffix('s')?;
    if stem.is_empty() || stem.ends_with(['s', 'u', 'i']) && stem != "eni" {
        return None;
    }
    let stem = match stem.strip_suffix("ie") {
        Some(stem) => format!("{stem}y"),
        None if ["sse", "xe", "che", "she"].iter().any(|end| stem.ends_with(end)) => {
            stem.trim_end_matches('e').to_owned()
        }
        None => stem.to_owned(),
    };
    Some(stem)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("spotwarden_imds_requests_total", Shape::Counter, "spotwarden.imds.requests", "{request}")]
    #[case("spotwarden_notices_total", Shape::Counter, "spotwarden.notices", "{notice}")]
    #[case("spotwarden_fence_parts_refused_total", Shape::Counter, "spotwarden.fence_parts_refused", "{part}")]
    #[case("spotwarden_drain_duration_seconds", Shape::Histogram, "spotwarden.drain.duration", "s")]
    #[case("spotwarden_drained_pods_total", Shape::Counter, "spotwarden.drained_pods", "{pod}")]
    #[case("spotwarden_cni_enis", Shape::Gauge, "spotwarden.cni.enis", "{eni}")]
    #[case("spotwarden_cni_prefixes", Shape::Gauge, "spotwarden.cni.prefixes", "{prefix}")]
    #[case("spotwarden_cni_subnet_addresses", Shape::Gauge, "spotwarden.cni.subnet_addresses", "{address}")]
    #[case("spotwarden_x_retries_total", Shape::Counter, "spotwarden.x_retries", "{retry}")]
    #[case("spotwarden_fenced", Shape::Gauge, "spotwarden.fenced", "")]
    #[case("spotwarden_x_status", Shape::Gauge, "spotwarden.x_status", "")]
    #[case("spotwarden_build_info", Shape::Gauge, "spotwarden.build_info", "")]
    #[case("spotwarden_x_bytes", Shape::Gauge, "spotwarden.x", "By")]
    #[case("spotwarden_x_ratio", Shape::Gauge, "spotwarden.x", "1")]
    fn names_and_units_follow_the_conventions(
        #[case] name: &str,
        #[case] shape: Shape,
        #[case] dotted: &str,
        #[case] unit: &str,
    ) {
        let expected = Instrument { name: dotted.into(), unit: unit.into(), shape };
        assert_eq!(instrument(name, shape), Some(expected));
    }

    #[test]
    fn process_metrics_have_the_names_of_the_conventions_or_are_scraped_only() {
        let cpu = instrument("process_cpu_seconds_total", Shape::Counter).unwrap();
        assert_eq!((cpu.name.as_str(), cpu.unit.as_str()), ("process.cpu.time", "s"));
        assert_eq!(instrument("process_resident_memory_bytes", Shape::Gauge).unwrap().shape, Shape::UpDownCounter);
        assert_eq!(instrument("process_start_time_seconds", Shape::Gauge), None);
    }
}
