//! What a strict parser refuses; a scrape that fails is an alert that does not fire.

use std::collections::BTreeSet;

use super::*;

/// Label names that targets have: on a series of ours they would be renamed or collide. The info metric is for them.
const OF_TARGETS: [&str; 13] = [
    "availability_zone",
    "az",
    "cluster",
    "env",
    "environment",
    "instance",
    "instance_type",
    "job",
    "namespace",
    "node",
    "pod",
    "region",
    "zone",
];

/// The family that lines belong to.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    has_samples: bool,
}

/// Reads the whole text by the rules of one of the formats.
struct Reader {
    openmetrics: bool,
    family: Family,
    families: BTreeSet<String>,
    series: BTreeSet<String>,
    ended: bool,
}

impl Reader {
    fn read(text: &str, openmetrics: bool) -> Result<usize, String> {
        let mut reader = Self {
            openmetrics,
            family: Family::default(),
            families: BTreeSet::new(),
            series: BTreeSet::new(),
            ended: false,
        };
        if !text.ends_with('\n') {
            return Err("no line end at the end".into());
        }
        for line in text.lines() {
            reader.line(line).map_err(|why| format!("{why}: {line}"))?;
        }
        if reader.ended != openmetrics {
            return Err("the end mark belongs to OpenMetrics alone".into());
        }
        Ok(reader.series.len())
    }

    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if self.ended {
            return Err("something behind the end");
        }
        let Some(comment) = line.strip_prefix('#') else { return self.sample(line) };
        let words: Vec<_> = comment.splitn(4, ' ').collect();
        match words.as_slice() {
            ["", "EOF"] if self.openmetrics => self.ended = true,
            ["", keyword @ ("HELP" | "TYPE"), name, text] => {
                self.enter(name)?;
                if *keyword == "TYPE" {
                    self.family.kind = (*text).to_owned();
                    let known =
                        if self.openmetrics { "counter gauge histogram info" } else { "counter gauge histogram" };
                    let suffix = ["_total", "_info", "_bucket", "_sum", "_count", "_created"];
                    if !known.split(' ').any(|kind| kind == *text) {
                        return Err("an unknown type");
                    }
                    if self.openmetrics && suffix.iter().any(|suffix| name.ends_with(suffix)) {
                        return Err("a family's name with the suffix of a sample");
                    }
                } else if text.is_empty() || text.contains('"') && self.openmetrics && !text.contains("\\\"") {
                    return Err("a help text that is empty or not escaped");
                }
            }
            ["", "UNIT", name, unit] if self.openmetrics => {
                self.enter(name)?;
                if !name.ends_with(&format!("_{unit}")) {
                    return Err("a unit that is no suffix");
                }
            }
            _ => return Err("a comment that is none of the format's"),
        }
        Ok(())
    }

    /// Each family once, in one piece, described before its samples.
    fn enter(&mut self, name: &str) -> Result<(), &'static str> {
        if self.family.name != name {
            if !self.families.insert(name.to_owned()) {
                return Err("a family in two pieces, or defined twice");
            }
            self.family = Family { name: name.to_owned(), ..Family::default() };
        }
        if self.family.has_samples { Err("a description behind samples") } else { Ok(()) }
    }

    fn sample(&mut self, line: &str) -> Result<(), &'static str> {
        self.family.has_samples = true;
        let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').ok_or("labels without an end")?),
            None => (series, ""),
        };
        let value: f64 = value.parse().map_err(|_| "no number")?;
        let rest = name.strip_prefix(&self.family.name).ok_or("a sample of another family")?;
        let fits = match (self.family.kind.as_str(), self.openmetrics) {
            ("counter", true) => rest == "_total" && value >= 0.0,
            ("counter", false) => rest.is_empty() && name.ends_with("_total") && value >= 0.0,
            ("info", _) => rest == "_info" && value.to_bits() == 1.0_f64.to_bits(),
            ("histogram", _) => ["_bucket", "_sum", "_count"].contains(&rest),
            ("gauge", _) => rest.is_empty() && !name.ends_with("_total"),
            _ => return Err("a sample without a type"),
        };
        if !fits || value.is_nan() {
            return Err("a sample that its type does not have");
        }
        if !(name.starts_with("spotwarden_") || name.starts_with("process_")) || name.contains("__") {
            return Err("a name that is not ours");
        }
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once("=\"").ok_or("a label without a value")?;
            if name != "spotwarden_node_info" && OF_TARGETS.contains(&key) {
                return Err("a label that targets have");
            }
            let bound = value.trim_end_matches('"');
            if key == "le" && bound != "+Inf" && !bound.contains('.') {
                return Err("a bound that is no float");
            }
        }
        if self.series.insert(series.to_owned()) { Ok(()) } else { Err("a series twice") }
    }
}

#[test]
fn both_formats_keep_their_rules() {
    let mut metrics = fullest();
    metrics.count_exports(&crate::otlp::tests::config("http://c"));
    let (content_type, openmetrics) = metrics.text(Some("application/openmetrics-text"));
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let (content_type, classic) = metrics.text(Some("text/plain"));
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    let read = (Reader::read(&openmetrics, true).unwrap(), Reader::read(&classic, false).unwrap());
    assert_eq!(read, (samples(&openmetrics), samples(&classic)));
    assert_eq!(read.0, read.1);
    assert!(Reader::read(&openmetrics, false).is_err() && Reader::read(&classic, true).is_err());
}

#[test]
fn what_breaks_a_rule_is_noticed() {
    let family = "# HELP spotwarden_x A.\n# TYPE spotwarden_x counter\n";
    let good = format!("{family}spotwarden_x_total{{a=\"1\"}} 0\n# EOF\n");
    assert_eq!(Reader::read(&good, true), Ok(1));
    for (from, to) in [
        ("# EOF\n", ""),
        ("_total{", "{"),
        ("x_total", "y_total"),
        (" 0\n", " NaN\n"),
        (" 0\n", " -1\n"),
        ("a=", "zone="),
        ("counter", "meter"),
        ("# HELP", "# NOTE"),
        ("spotwarden_x", "warden_x"),
        ("# EOF", "spotwarden_x_total{a=\"1\"} 0\n# EOF"),
        ("# EOF", "# TYPE spotwarden_y gauge\nspotwarden_y 1\n# TYPE spotwarden_x counter\n# EOF"),
        ("# TYPE spotwarden_x", "# UNIT spotwarden_x seconds\n# TYPE spotwarden_x"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert!(Reader::read(&bad, true).is_err(), "{bad}");
    }
}

/// Prometheus asks for it with every scrape. Measured, not promised, but a page that did not shrink would be a mistake.
#[test]
fn an_exposition_shrinks_to_less_than_a_third() {
    let text = classic(&idle());
    let compressed = crate::gzip::gzip(text.as_bytes()).len();
    assert!(compressed * 3 < text.len(), "{compressed} of {}", text.len());
}
