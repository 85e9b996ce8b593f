//! ipamd's own metrics, reduced to the figures that the model needs.
//!
//! A reader of the Prometheus text format for exactly these families. Every other family is passed over by its name, above
//! all those of ipamd whose labels are without bound (`awscni_aws_utils_error_count`, `awscni_assigned_ip_per_cidr`).

use super::counters::{Counters, Latencies, Latency};

/// What one scrape of ipamd says. A family with labels has no series before its first use, so that absence is normal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// Interfaces that ipamd may use.
    pub eni_max: Option<i64>,
    /// Addresses on all of them.
    pub ip_max: Option<i64>,
    /// Interfaces in the data store.
    pub enis: Option<i64>,
    /// Addresses in the data store, unfiltered; can be negative.
    pub total: Option<i64>,
    /// Addresses held by pods.
    pub assigned: Option<i64>,
    /// The release of the CNI, as it calls itself; from v1.10.
    pub version: Option<String>,
    /// Everything that only grows.
    pub counters: Counters,
}

/// Why an answer is not taken for ipamd's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not end with a complete line, so that its last number may be cut.
    #[error("the metrics end within a line")]
    Truncated,
    /// A family that is needed is not written as the format has it.
    #[error("a line of ipamd's metrics cannot be read")]
    Malformed,
    /// Something else answers there.
    #[error("these are not ipamd's metrics")]
    Foreign,
}

/// One line with a value.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl Sample<'_> {
    fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value)
    }
}

/// Reads the answer of `/metrics`.
pub fn scrape(body: &[u8]) -> Result<Scrape, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Malformed)?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(Refusal::Truncated);
    }
    let mut scrape = Scrape::default();
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        // By bytes: most lines are of families that are passed over.
        let end = line.bytes().position(|byte| matches!(byte, b'{' | b' ' | b'\t')).unwrap_or(line.len());
        if line.get(..end).is_some_and(|name| FAMILIES.contains(&name)) {
            scrape.take(&sample(line).ok_or(Refusal::Malformed)?);
        }
    }
    if scrape.total.is_none() && scrape.assigned.is_none() && scrape.eni_max.is_none() {
        return Err(Refusal::Foreign);
    }
    Ok(scrape)
}

const LATENCY_SUM: &str = "awscni_aws_api_latency_ms_sum";
const LATENCY_COUNT: &str = "awscni_aws_api_latency_ms_count";

/// The families that are read.
const FAMILIES: [&str; 16] = [
    "awscni_build_info",
    "awscni_eni_max",
    "awscni_ip_max",
    "awscni_eni_allocated",
    "awscni_total_ip_addresses",
    "awscni_assigned_ip_addresses",
    "awscni_no_available_ip_addresses",
    "awscni_add_ip_req_count",
    "awscni_reconcile_count",
    "awscni_aws_api_error_count",
    LATENCY_SUM,
    LATENCY_COUNT,
    "awscni_force_removed_enis",
    "awscni_force_removed_ips",
    "awscni_ec2api_req_count",
    "process_start_time_seconds",
];

impl Scrape {
    fn take(&mut self, sample: &Sample<'_>) {
        let (value, counters) = (sample.value, &mut self.counters);
        match sample.name {
            "awscni_build_info" => self.version = Some(shortened(sample.label("version"))),
            "awscni_eni_max" => self.eni_max = whole(value),
            "awscni_ip_max" => self.ip_max = whole(value),
            "awscni_eni_allocated" => self.enis = whole(value),
            "awscni_total_ip_addresses" => self.total = whole(value),
            "awscni_assigned_ip_addresses" => self.assigned = whole(value),
            "awscni_no_available_ip_addresses" => counters.unavailable = count(value),
            "awscni_add_ip_req_count" => counters.adds = count(value),
            "awscni_reconcile_count" if sample.label("fn") == "eniDataStorePoolReconcileAdd" => {
                counters.heartbeat = Some(count(value));
            }
            "awscni_aws_api_error_count" => {
                counters.take_error(sample.label("api"), sample.label("error"), count(value));
            }
            "awscni_force_removed_enis" | "awscni_force_removed_ips" => {
                counters.forced = counters.forced.saturating_add(count(value));
            }
            "awscni_ec2api_req_count" if sample.label("fn") == "DetachNetworkInterface" => {
                counters.detachments = counters.detachments.saturating_add(count(value));
            }
            "process_start_time_seconds" => counters.started = Some(value),
            LATENCY_SUM | LATENCY_COUNT if sample.label("error") == "false" => {
                if let Some(latency) = counters.latencies.of(sample.label("api")) {
                    latency.take(sample.name == LATENCY_SUM, value);
                }
            }
            _ => {}
        }
    }
}

/// A version that is shown to people.
fn shortened(version: &str) -> String {
    version.chars().filter(|c| !c.is_control()).take(40).collect()
}

impl Latencies {
    fn of(&mut self, api: &str) -> Option<&mut Latency> {
        match api {
            "AssignPrivateIpAddresses" => Some(&mut self.assign),
            "CreateNetworkInterface" => Some(&mut self.create),
            "AttachNetworkInterface" => Some(&mut self.attach),
            "ModifyNetworkInterfaceAttribute" => Some(&mut self.modify),
            "waitForENIAndIPsAttached" => Some(&mut self.wait),
            _ => None,
        }
    }
}

impl Latency {
    /// A series for each status adds up.
    fn take(&mut self, is_sum: bool, value: f64) {
        if is_sum {
            self.milliseconds += if value.is_finite() { value.max(0.0) } else { 0.0 };
        } else {
            self.calls = self.calls.saturating_add(count(value));
        }
    }
}

/// Beyond this a gauge is not whole any more. It leaves room to calculate with what is larger than any real pool.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// A gauge, within reason; what is no number is not known.
#[allow(clippy::cast_possible_truncation, reason = "the bounds are those of whole numbers")]
fn whole(value: f64) -> Option<i64> {
    (!value.is_nan()).then(|| value.clamp(-LARGEST, LARGEST) as i64)
}

/// A counter. What is no number or negative counts as nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
fn count(value: f64) -> u64 {
    value as u64
}

/// `name{label="value",…} value [timestamp]`.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) if !name.contains([' ', '\t']) => {
            let (labels, rest) = labels(rest)?;
            (name, labels, rest)
        }
        _ => {
            let (name, rest) = line.split_once([' ', '\t'])?;
            (name, Vec::new(), rest)
        }
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// `label="value",…}`, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (label, quoted) = rest.split_once('=')?;
        let (value, after) = quoted_text(quoted.trim_start().strip_prefix('"')?)?;
        labels.push((label.trim(), value));
        rest = after;
    }
}

/// Text up to the closing quote, with `\\`, `\"` and `\n` undone, and what follows it.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests;
