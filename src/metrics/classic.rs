//! From OpenMetrics text to the classic Prometheus text format 0.0.4.
//!
//! The two differ in what a family is called and in what may be said of it. A classic parser that is given OpenMetrics
//! text keeps the samples but loses the types, without a word.

use std::fmt::Write as _;

/// Translates a whole exposition. What classic text cannot say is left out: units, exemplars, the end mark.
pub fn from_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // HELP precedes TYPE in our encoder's output, but only TYPE tells how the family is called here.
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some((name, words)) = descriptor(line, "# HELP ") {
            help = Some((name, words));
        } else if let Some((name, openmetrics_type)) = descriptor(line, "# TYPE ") {
            let (suffix, classic_type) = family(openmetrics_type);
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                _ = writeln!(out, "# HELP {name}{suffix} {}", words.replace("\\\"", "\""));
            }
            _ = writeln!(out, "# TYPE {name}{suffix} {classic_type}");
        } else if !line.starts_with('#') && !line.is_empty() {
            out.push_str(without_exemplar(line));
            out.push('\n');
        }
    }
    out
}

fn descriptor<'a>(line: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(keyword)?.split_once(' ')
}

/// What the family's name gets appended and what its type is called.
fn family(openmetrics_type: &str) -> (&'static str, &'static str) {
    match openmetrics_type {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "gauge" | "stateset" => ("", "gauge"),
        "histogram" => ("", "histogram"),
        "summary" => ("", "summary"),
        _ => ("", "untyped"),
    }
}

/// Cuts ` # {…} value` behind a sample; a `#` inside a label value stays.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in line.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted => return line.get(..at).map_or(line, str::trim_end),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_named_as_their_samples_and_typed() {
        let openmetrics = "\
# HELP x_polls Polls.
# TYPE x_polls counter
x_polls_total{kind=\"a\"} 3
# HELP x_build The version.
# TYPE x_build info
x_build_info{version=\"1\"} 1
# EOF
";
        let classic = "\
# HELP x_polls_total Polls.
# TYPE x_polls_total counter
x_polls_total{kind=\"a\"} 3
# HELP x_build_info The version.
# TYPE x_build_info gauge
x_build_info{version=\"1\"} 1
";
        assert_eq!(from_openmetrics(openmetrics), classic);
    }

    #[test]
    fn units_and_the_end_mark_do_not_exist_and_histograms_stay() {
        let openmetrics = "\
# HELP x_took_seconds Time.
# TYPE x_took_seconds histogram
# UNIT x_took_seconds seconds
x_took_seconds_sum 0.5
x_took_seconds_count 1
x_took_seconds_bucket{le=\"1.0\"} 1
x_took_seconds_bucket{le=\"+Inf\"} 1
# EOF
";
        let classic = from_openmetrics(openmetrics);
        assert!(
            classic.starts_with("# HELP x_took_seconds Time.\n# TYPE x_took_seconds histogram\nx_took_seconds_sum")
        );
        assert!(!classic.contains("UNIT") && !classic.contains("EOF"));
        assert_eq!(classic.lines().count(), 6);
    }

    #[test]
    fn an_exemplar_is_cut_and_a_hash_in_a_label_value_is_not() {
        let sample = r#"x_total{a="b # {\"c\"}"} 1"#;
        assert_eq!(from_openmetrics(&format!("{sample} # {{trace=\"t\"}} 0.5 1.0\n")), format!("{sample}\n"));
        assert_eq!(from_openmetrics(sample), format!("{sample}\n"));
    }

    #[test]
    fn an_unknown_type_is_untyped() {
        assert_eq!(from_openmetrics("# TYPE x unknown\nx 1\n"), "# TYPE x untyped\nx 1\n");
    }
}
