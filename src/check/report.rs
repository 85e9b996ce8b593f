//! What was found, and how it is written: a table for people, one JSON object for machines. Pure.
//!
//! The names in the JSON object and the ids of the findings are an interface; `docs/check.md` documents them.

use serde::Serialize;
use serde_json::{Value, json};

use super::access::RIGHTS;
use crate::config::parse::Effective;
use crate::drain::forecast::{Forecast, Verdict};
use crate::notify::Sink;
use crate::signal::Kind;

/// The metadata service answers with a session token.
pub const IMDS: &str = "imds";
/// Who the instance is.
pub const IDENTITY: &str = "identity";
/// The node's clock beside the platform's.
pub const CLOCK: &str = "clock";
/// The API server answers.
pub const API_SERVER: &str = "api-server";
/// There is a Node of the given name.
pub const NODE: &str = "node";
/// What is on the Node.
pub const NODE_MARKS: &str = "node-marks";
/// Evictions that would be refused now.
pub const BUDGETS: &str = "budgets";
/// Whether the node could be cleared in time.
pub const FORECAST: &str = "forecast";

/// ipamd's introspection answers.
pub const IPAMD_INTROSPECTION: &str = "ipamd-introspection";
/// ipamd's metrics are served.
pub const IPAMD_METRICS: &str = "ipamd-metrics";
/// How many more pods get an address.
pub const POD_ADDRESSES: &str = "pod-addresses";
/// Settings of the CNI that are traps.
pub const CNI_SETTINGS: &str = "cni-settings";

/// The collector takes metrics.
pub const OTLP_METRICS: &str = "otlp-metrics";
/// The collector takes traces.
pub const OTLP_TRACES: &str = "otlp-traces";

/// Every id, in the order of the report.
pub fn ids() -> Vec<&'static str> {
    let signals = Kind::ALL.into_iter().map(Kind::as_str);
    let rights = RIGHTS.iter().map(|right| right.id);
    let first = [IMDS, IDENTITY].into_iter().chain(signals);
    first
        .chain([CLOCK, API_SERVER, NODE, NODE_MARKS])
        .chain(rights)
        .chain([BUDGETS, FORECAST, IPAMD_INTROSPECTION, IPAMD_METRICS, POD_ADDRESSES, CNI_SETTINGS])
        .chain(Sink::ALL.map(Sink::as_str))
        .chain([OTLP_METRICS, OTLP_TRACES])
        .collect()
}

/// Of pods with trouble, so many are named.
pub const MOST_NAMED: usize = 5;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// The agent works; somebody should look at it all the same.
    Warning,
    /// Needed, and not there.
    Missing,
    /// Not looked at: these settings do not need it, or what it depends on is missing.
    Skipped,
}

impl Status {
    /// The word in both forms of the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check; one of [`ids`].
    pub id: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found, in one sentence.
    pub found: String,
    /// What to do about it, in one sentence; `None` if there is nothing to do.
    pub remedy: Option<String>,
    /// One line each, for what comes in numbers.
    pub details: Vec<String>,
    /// What the remedy wants somewhere else, to be copied as it is.
    pub paste: Option<String>,
}

impl Finding {
    /// A finding without a remedy.
    pub fn new(id: &'static str, status: Status, found: impl Into<String>) -> Self {
        Self { id, status, found: plain(&found.into()), remedy: None, details: Vec::new(), paste: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(plain(&remedy.into()));
        self
    }

    /// Adds lines.
    #[must_use]
    pub fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details = lines.into_iter().map(|line| plain(&line)).collect();
        self
    }
}

impl Finding {
    /// Adds what to do, and what to copy for it.
    #[must_use]
    pub fn remedy_with(self, remedy: impl Into<String>, paste: impl Into<String>) -> Self {
        Self { paste: Some(paste.into()), ..self.remedy(remedy) }
    }
}

/// Text from outside must not move the cursor of a terminal, nor fill it.
fn plain(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut clean: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        clean.push('…');
    }
    clean
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The node's name as it was given.
    pub node: String,
    /// In the order of [`ids`].
    pub findings: Vec<Finding>,
    /// `None` if the pods could not be read.
    pub forecast: Option<Forecast>,
    /// What applies, and who said so.
    pub settings: Vec<Effective>,
}

/// Of a table's line.
const WIDTH: usize = 80;
/// Of the words of [`Status`].
const STATUS_WIDTH: usize = 7;
/// Between columns.
const GAP: &str = "  ";

impl Report {
    /// Nothing that is needed is missing.
    pub fn passed(&self) -> bool {
        self.count(Status::Missing) == 0
    }

    fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }

    /// At most 80 columns, but for what has to be copied in one piece.
    pub fn table(&self) -> String {
        let mut lines =
            vec![format!("spotwarden {}, node {}", env!("CARGO_PKG_VERSION"), plain(&self.node)), String::new()];
        let widest = ids().into_iter().map(str::len).max().unwrap_or(0);
        for finding in &self.findings {
            let head = format!("{:STATUS_WIDTH$}{GAP}{:widest$}{GAP}", finding.status.as_str(), finding.id);
            hang(&mut lines, &head, &finding.found);
            let below = " ".repeat(STATUS_WIDTH + GAP.len());
            for line in &finding.details {
                hang(&mut lines, &format!("{below}- "), line);
            }
            if let Some(remedy) = &finding.remedy {
                hang(&mut lines, &format!("{below}Remedy: "), remedy);
            }
            lines.extend(finding.paste.iter().map(|text| format!("{below}{text}")));
        }
        if !self.settings.is_empty() {
            lines.extend([String::new(), "Settings, and where each comes from".to_owned()]);
        }
        let name =
            |setting: &Effective| setting.flag.map_or_else(|| setting.env.to_owned(), |flag| format!("--{flag}"));
        let widest = self.settings.iter().map(|setting| name(setting).len()).max().unwrap_or(0);
        for setting in &self.settings {
            let value = setting.value.as_deref().map_or_else(|| "(not set)".to_owned(), plain);
            lines.push(format!("{:11}{GAP}{:widest$}{GAP}{value}", setting.source.as_str(), name(setting)));
        }
        lines.extend([String::new(), self.verdict(), String::new()]);
        lines.join("\n")
    }

    fn verdict(&self) -> String {
        let warnings = match self.count(Status::Warning) {
            0 => String::new(),
            1 => "; 1 warning".to_owned(),
            several => format!("; {several} warnings"),
        };
        match self.count(Status::Missing) {
            0 => format!("Result: nothing that is needed is missing{warnings}"),
            1 => format!("Result: 1 needed thing is missing{warnings}"),
            several => format!("Result: {several} needed things are missing{warnings}"),
        }
    }

    /// One object on one line.
    pub fn json(&self) -> String {
        let object = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node,
            "passed": self.passed(),
            "checks": self.findings,
            "forecast": self.forecast.as_ref().map(forecast_json),
            "settings": self.settings,
        });
        format!("{object}\n")
    }
}

fn forecast_json(forecast: &Forecast) -> Value {
    let counts = Verdict::ALL.into_iter().zip(forecast.counts());
    let counts: serde_json::Map<String, Value> =
        counts.map(|(verdict, count)| (verdict.as_str().to_owned(), count.into())).collect();
    let worst = forecast.pods.iter().filter(|pod| pod.verdict != Verdict::Fits).take(MOST_NAMED).map(|pod| {
        json!({
            "namespace": pod.pod.namespace,
            "name": pod.pod.name,
            "verdict": pod.verdict.as_str(),
            "reason": pod.reason,
            "slack_seconds": pod.slack_seconds,
        })
    });
    json!({
        "pods": counts,
        "least_slack_seconds": forecast.least_slack_seconds,
        "worst": worst.collect::<Vec<_>>(),
    })
}

/// Writes `text` behind `head`, and what does not fit on the line below `text`.
fn hang(lines: &mut Vec<String>, head: &str, text: &str) {
    let indent = head.chars().count();
    let mut line = head.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let width = line.chars().count() + usize::from(!empty) + word.chars().count();
        if !empty && width > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line.trim_end().to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hung(head: &str, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        hang(&mut lines, head, text);
        lines
    }

    #[test]
    fn what_does_not_fit_goes_below_its_column() {
        let lines = hung("head  ", &"word ".repeat(30));
        assert!(
            lines.len() == 2 && lines[0].starts_with("head  word") && lines[1].starts_with("      word"),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| line.len() <= WIDTH));
        assert_eq!(lines.join(" ").matches("word").count(), 30);
    }

    #[test]
    fn a_word_longer_than_a_line_stays_in_one_piece() {
        let long = "x".repeat(100);
        assert_eq!(hung("head  ", &long), [format!("head  {long}")]);
        assert_eq!(hung("head  ", &format!("a {long}")), ["head  a".to_owned(), format!("      {long}")]);
    }

    #[test]
    fn text_from_outside_is_made_plain_and_bounded() {
        let finding = Finding::new(IMDS, Status::Ok, format!("a\u{1b}[31m\n{}", "x".repeat(5000)));
        assert!(
            finding.found.starts_with("a [31m x") && finding.found.chars().count() == 601,
            "{}",
            finding.found.len()
        );
    }
}
