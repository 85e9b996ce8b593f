//! ipamd's metrics and their text: what exists in which release, and which families have no series before first use.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::version::Version;

/// Sorted by name, as the text has them.
type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    /// Sums and counts alone: it has no quantiles.
    Summary,
    Histogram,
}

struct Family {
    name: &'static str,
    kind: Kind,
    /// It has one series without labels, from the start.
    plain: bool,
    since: Version,
    before: Version,
    help: &'static str,
}

const ALWAYS: Version = Version(0, 0, 0);
const NEVER: Version = Version(u16::MAX, 0, 0);

const fn family(name: &'static str, kind: Kind, plain: bool, since: Version, help: &'static str) -> Family {
    Family { name, kind, plain, since, before: NEVER, help }
}

const PLAIN: bool = true;
const LABELLED: bool = false;

/// Every family by name, as the text is sorted.
const FAMILIES: [Family; 34] = {
    use Kind::{Counter, Gauge, Histogram, Summary};
    [
        family("awscni_add_ip_req_count", Counter, PLAIN, ALWAYS, "The number of add IP address requests"),
        family("awscni_assigned_ip_addresses", Gauge, PLAIN, ALWAYS, "The number of IP addresses assigned to pods"),
        family(
            "awscni_assigned_ip_per_cidr",
            Gauge,
            LABELLED,
            Version(1, 10, 0),
            "The total number of IP addresses assigned per cidr",
        ),
        family(
            "awscni_assigned_ip_per_eni",
            Gauge,
            LABELLED,
            Version(1, 15, 1),
            "The total number of IP addresses assigned per ENI",
        ),
        Family {
            before: Version(1, 10, 0),
            ..family(
                "awscni_assigned_ip_per_ipv4cidr",
                Gauge,
                LABELLED,
                Version(1, 9, 0),
                "The total number of IP addresses assigned per cidr",
            )
        },
        family("awscni_aws_api_error_count", Counter, LABELLED, ALWAYS, "The number of times AWS API returns an error"),
        family("awscni_aws_api_latency_ms", Summary, LABELLED, ALWAYS, "AWS API call latency in ms"),
        family(
            "awscni_aws_utils_error_count",
            Counter,
            LABELLED,
            ALWAYS,
            "The number of errors not handled in awsutils library",
        ),
        family(
            "awscni_build_info",
            Gauge,
            LABELLED,
            Version(1, 10, 0),
            "A metric with a constant '1' value labeled by version, revision, and goversion from which amazon-vpc-cni-k8s was built.",
        ),
        family("awscni_connmark_backend", Gauge, LABELLED, Version(1, 23, 0), "The backend in use for connmark rules"),
        family(
            "awscni_connmark_reconcile_total",
            Counter,
            LABELLED,
            Version(1, 23, 0),
            "The number of reconciliations of connmark rules",
        ),
        family("awscni_del_ip_req_count", Counter, LABELLED, ALWAYS, "The number of delete IP address requests"),
        family(
            "awscni_ec2api_error_count",
            Counter,
            LABELLED,
            Version(1, 12, 0),
            "The number of failed EC2 API requests",
        ),
        family("awscni_ec2api_req_count", Counter, LABELLED, Version(1, 12, 0), "The number of EC2 API requests"),
        family("awscni_eni_allocated", Gauge, PLAIN, ALWAYS, "The number of ENIs allocated"),
        family(
            "awscni_eni_max",
            Gauge,
            PLAIN,
            ALWAYS,
            "The maximum number of ENIs that can be attached to the instance, accounting for unmanaged ENIs",
        ),
        family(
            "awscni_force_removed_enis",
            Counter,
            PLAIN,
            ALWAYS,
            "The number of ENIs force removed while they had assigned pods",
        ),
        family(
            "awscni_force_removed_ips",
            Counter,
            PLAIN,
            ALWAYS,
            "The number of IPs force removed while they had assigned pods",
        ),
        family(
            "awscni_ip_max",
            Gauge,
            PLAIN,
            ALWAYS,
            "The maximum number of IP addresses that can be allocated to the instance",
        ),
        family("awscni_ipamd_action_inprogress", Gauge, LABELLED, ALWAYS, "The number of ipamd actions in progress"),
        family("awscni_ipamd_error_count", Counter, LABELLED, ALWAYS, "The number of errors encountered in ipamd"),
        family(
            "awscni_ipamd_node_initialization_duration_seconds",
            Histogram,
            LABELLED,
            Version(1, 20, 0),
            "Duration of the initialization of the node",
        ),
        family(
            "awscni_ipamd_startup_duration_seconds",
            Histogram,
            LABELLED,
            Version(1, 20, 0),
            "Duration of the start of ipamd",
        ),
        family(
            "awscni_no_available_ip_addresses",
            Counter,
            PLAIN,
            Version(1, 15, 1),
            "The number of pod IP assignments that fail due to no available IP addresses",
        ),
        family(
            "awscni_pod_eni_error_count",
            Counter,
            LABELLED,
            ALWAYS,
            "The number of errors encountered for pod ENIs",
        ),
        family(
            "awscni_reconcile_count",
            Counter,
            LABELLED,
            ALWAYS,
            "The number of times ipamd reconciles on ENIs and IP/Prefix addresses",
        ),
        family("awscni_total_ip_addresses", Gauge, PLAIN, ALWAYS, "The total number of IP addresses"),
        family("awscni_total_ipv4_prefixes", Gauge, PLAIN, Version(1, 9, 0), "The total number of IPv4 prefixes"),
        family("go_goroutines", Gauge, PLAIN, ALWAYS, "Number of goroutines that currently exist."),
        family("go_info", Gauge, LABELLED, ALWAYS, "Information about the Go environment."),
        family("process_cpu_seconds_total", Counter, PLAIN, ALWAYS, "Total user and system CPU time spent in seconds."),
        family("process_resident_memory_bytes", Gauge, PLAIN, ALWAYS, "Resident memory size in bytes."),
        family(
            "process_start_time_seconds",
            Gauge,
            PLAIN,
            ALWAYS,
            "Start time of the process since unix epoch in seconds.",
        ),
        family(
            "promhttp_metric_handler_requests_total",
            Counter,
            LABELLED,
            ALWAYS,
            "Total number of scrapes by HTTP status code.",
        ),
    ]
};

/// The client's default buckets.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What one process has counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    series: BTreeMap<&'static str, BTreeMap<Labels, f64>>,
    /// Of summaries and histograms.
    observed: BTreeMap<&'static str, BTreeMap<Labels, Vec<f64>>>,
}

impl Metrics {
    /// Adds to a series, which comes into being with it.
    pub(super) fn add(&mut self, name: &'static str, labels: &[(&'static str, &str)], by: i64) {
        *self.entry(name, labels) += by as f64;
    }

    pub(super) fn set(&mut self, name: &'static str, labels: &[(&'static str, &str)], to: f64) {
        *self.entry(name, labels) = to;
    }

    pub(super) fn forget(&mut self, name: &'static str, labels: &[(&'static str, &str)]) {
        if let Some(series) = self.series.get_mut(name) {
            series.remove(&owned(labels));
        }
    }

    /// Adds an observation to a summary or histogram.
    pub(super) fn observe(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.observed.entry(name).or_default().entry(owned(labels)).or_default().push(value);
    }

    /// The value of a series; 0 if there is none.
    pub(super) fn get(&self, name: &str, labels: &[(&'static str, &str)]) -> f64 {
        self.series.get(name).and_then(|series| series.get(&owned(labels))).copied().unwrap_or_default()
    }

    fn entry(&mut self, name: &'static str, labels: &[(&'static str, &str)]) -> &mut f64 {
        self.series.entry(name).or_default().entry(owned(labels)).or_default()
    }

    /// The exposition of a release.
    pub(super) fn text(&self, version: Version) -> String {
        let mut text = String::new();
        for family in FAMILIES.iter().filter(|family| family.since <= version && version < family.before) {
            let mut series = String::new();
            if matches!(family.kind, Kind::Summary | Kind::Histogram) {
                self.observations(family, &mut series);
            } else {
                for (labels, value) in self.series.get(family.name).into_iter().flatten() {
                    line(&mut series, family.name, "", labels, *value);
                }
                if family.plain && series.is_empty() {
                    line(&mut series, family.name, "", &Labels::new(), 0.0);
                }
            }
            if !series.is_empty() {
                let kind = match family.kind {
                    Kind::Gauge => "gauge",
                    Kind::Counter => "counter",
                    Kind::Summary => "summary",
                    Kind::Histogram => "histogram",
                };
                let name = family.name;
                let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n{series}", family.help);
            }
        }
        text
    }

    fn observations(&self, family: &Family, text: &mut String) {
        for (labels, values) in self.observed.get(family.name).into_iter().flatten() {
            if family.kind == Kind::Histogram {
                let up_to = |bound: f64| values.iter().filter(|value| **value <= bound).count() as f64;
                for bound in BUCKETS.into_iter().chain([f64::INFINITY]) {
                    let mut labels = labels.clone();
                    labels.push(("le", number(bound)));
                    line(text, family.name, "_bucket", &labels, up_to(bound));
                }
            }
            line(text, family.name, "_sum", labels, values.iter().sum());
            line(text, family.name, "_count", labels, values.len() as f64);
        }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    let mut labels: Labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    labels.sort_unstable();
    labels
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &Labels, value: f64) {
    let pairs: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
    let _ = writeln!(text, "{name}{suffix}{labels} {}", number(value));
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A number as Go's `%g` writes it with the shortest digits: with an exponent from a million on and below 0.0001.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const LATEST: Version = Version(1, 23, 1);

    #[rstest]
    #[case(0.0, "0")]
    #[case(-2.0, "-2")]
    #[case(0.25, "0.25")]
    #[case(0.000_05, "5e-05")]
    #[case(999_999.0, "999999")]
    #[case(1_000_000.0, "1e+06")]
    #[case(1_777_888_830.25, "1.77788883025e+09")]
    #[case(281_474_976_710_656.0, "2.81474976710656e+14")]
    #[case(f64::INFINITY, "+Inf")]
    fn numbers_are_written_as_go_does(#[case] value: f64, #[case] text: &str) {
        assert_eq!(number(value), text);
    }

    fn names(version: Version) -> Vec<String> {
        let text = Metrics::default().text(version);
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').next().unwrap().into()).collect()
    }

    #[test]
    fn before_first_use_only_plain_families_have_a_series() {
        let names = names(LATEST);
        assert!(names.contains(&"awscni_no_available_ip_addresses".into()), "{names:?}");
        assert!(names.iter().all(|name| !name.contains('{')), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("latency") || name.contains("reconcile")), "{names:?}");
    }

    #[rstest]
    #[case("awscni_assigned_ip_per_ipv4cidr", "cidr", Version(1, 9, 0), Some(Version(1, 10, 0)))]
    #[case("awscni_assigned_ip_per_cidr", "cidr", Version(1, 10, 0), None)]
    #[case("awscni_build_info", "version", Version(1, 10, 0), None)]
    #[case("awscni_ec2api_req_count", "fn", Version(1, 12, 0), None)]
    #[case("awscni_assigned_ip_per_eni", "eni", Version(1, 15, 1), None)]
    #[case("awscni_connmark_reconcile_total", "result", Version(1, 23, 0), None)]
    fn a_family_exists_from_its_release_on(
        #[case] name: &'static str,
        #[case] label: &'static str,
        #[case] since: Version,
        #[case] before: Option<Version>,
    ) {
        let mut metrics = Metrics::default();
        metrics.add(name, &[(label, "x")], 1);
        let has = |version: Version| metrics.text(version).contains(&format!("\n{name}{{{label}=\"x\"}} 1\n"));
        let Version(major, minor, patch) = since;
        let earlier = if patch > 0 { Version(major, minor, patch - 1) } else { Version(major, minor - 1, 9) };
        assert!(has(since) && !has(earlier));
        assert_eq!(has(LATEST), before.is_none());
    }

    #[test]
    fn families_are_sorted_and_explained() {
        let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        let written = names.clone();
        names.sort_unstable();
        assert_eq!(written, names);
        let text = Metrics::default().text(LATEST);
        assert!(text.contains("# HELP awscni_eni_max "), "{text}");
        assert!(text.contains("# TYPE awscni_add_ip_req_count counter\nawscni_add_ip_req_count 0\n"), "{text}");
    }

    #[test]
    fn a_summary_has_no_quantiles_and_sorted_escaped_labels() {
        let mut metrics = Metrics::default();
        let labels = [("status", "a\"b\\c\nd"), ("api", "x"), ("error", "true")];
        metrics.observe("awscni_aws_api_latency_ms", &labels, 200.0);
        metrics.observe("awscni_aws_api_latency_ms", &labels, 220.0);
        let text = metrics.text(LATEST);
        let pairs = r#"{api="x",error="true",status="a\"b\\c\nd"}"#;
        let expected = format!(
            "# TYPE awscni_aws_api_latency_ms summary\nawscni_aws_api_latency_ms_sum{pairs} 420\n\
             awscni_aws_api_latency_ms_count{pairs} 2\n"
        );
        assert!(text.contains(&expected), "{text}");
        assert!(!text.contains("quantile"));
    }

    #[test]
    fn a_histogram_has_the_default_buckets() {
        let mut metrics = Metrics::default();
        metrics.observe("awscni_ipamd_startup_duration_seconds", &[("success", "true")], 3.0);
        let text = metrics.text(LATEST);
        for line in ["_bucket{success=\"true\",le=\"2.5\"} 0", "_bucket{success=\"true\",le=\"5\"} 1"] {
            assert!(text.contains(&format!("awscni_ipamd_startup_duration_seconds{line}\n")), "{text}");
        }
        assert!(text.contains("_bucket{success=\"true\",le=\"+Inf\"} 1\n"), "{text}");
        assert!(!metrics.text(Version(1, 19, 0)).contains("startup"));
    }
}
