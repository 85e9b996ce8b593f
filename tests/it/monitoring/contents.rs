//! That the files of `monitoring/` and the pages about them fit together and to what the agent exports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::peers::exposition::{Exposition, names, parse, samples};
use crate::peers::{Folder, ask, root, text, yaml};

/// Metrics of others that the rules and the dashboard use.
const FOREIGN: [&str; 6] = [
    "ALERTS",
    "kube_daemonset_status_desired_number_scheduled",
    "kube_daemonset_status_number_ready",
    "kube_node_labels",
    "scrape_samples_post_metric_relabeling",
    "up",
];

/// Headings of every runbook, in this order.
const HEADINGS: [&str; 4] = ["Meaning", "Impact", "Diagnosis", "Mitigation"];

/// All rules of rules.yaml, in their order.
pub(super) fn rules() -> Vec<Value> {
    let file = yaml("monitoring/rules.yaml");
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The alerts of rules.yaml by name.
pub(super) fn alerts() -> &'static BTreeMap<String, Value> {
    static ALERTS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        let named = rules().into_iter().filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule)));
        named.collect()
    });
    &ALERTS
}

fn records() -> BTreeSet<String> {
    rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect()
}

/// Names in an expression that stand for metrics: neither a function or keyword nor a label.
///
/// What stands in braces, after `by`, `on` and their like, or in quotes is skipped.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    const WORDS: [&str; 16] = [
        "and",
        "or",
        "unless",
        "bool",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "offset",
        "atan2",
        "inf",
        "nan",
        "start",
        "end",
    ];
    const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let mut plain = String::new();
    let (mut depth, mut quoted) = (0_u32, false);
    for c in expression.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            _ if quoted || depth > 0 => {}
            _ => plain.push(c),
        }
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut found = BTreeSet::new();
    let mut rest = plain.as_str();
    while let Some(at) = rest.find(is_name) {
        let name: String = rest[at..].chars().take_while(|c| is_name(*c)).collect();
        rest = rest[at + name.len()..].trim_start();
        if LISTS.contains(&name.as_str()) {
            if let Some(list) = rest.strip_prefix('(') {
                rest = list.split_once(')').unwrap().1;
            }
        } else if !rest.starts_with('(') && !name.starts_with(|c: char| c.is_ascii_digit()) && !WORDS.contains(&&*name)
        {
            // `sum (…)` and `sum by (…) (…)` are functions, which are all lower case letters.
            let aggregates = LISTS.iter().any(|list| rest.starts_with(&format!("{list} ")));
            if !aggregates {
                found.insert(name);
            }
        }
    }
    found
}

#[rstest::rstest]
#[case("sum by (a, b) (increase(x_total{y=\"z\"}[5m])) > 0", &["x_total"])]
#[case("a:b:c >= on (c) clamp_min(0.1 * d, 3)", &["a:b:c", "d"])]
#[case("time() - max by (n) (x > 0 or on (n) (y{a=\"sum(q)\"} and on (n) x)) > 60", &["x", "y"])]
#[case("count(x == 1) or vector(0)", &["x"])]
fn metrics_of_an_expression_are_found(#[case] expression: &str, #[case] metrics: &[&str]) {
    assert_eq!(metrics_in(expression).iter().map(String::as_str).collect::<Vec<_>>(), metrics);
}

/// The expressions of the dashboard, with the panel's title.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("monitoring/dashboard.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    found
}

/// An expression of Grafana as one of Prometheus.
fn substituted(expression: &str) -> String {
    let values = [("$__rate_interval", "1m"), ("$__range", "3h"), ("$cluster", ".*"), ("$job", ".*"), ("$node", ".*")];
    values.iter().fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

/// What the scraping half of a collector's configuration keeps.
pub(super) fn keep_list(path: &str) -> String {
    let config = yaml(path);
    let scrape = &config["receivers"]["prometheus"]["config"]["scrape_configs"][0];
    scrape["metric_relabel_configs"][0]["regex"].as_str().unwrap().to_owned()
}

/// The names that a regular expression of the form `a_(b|c)|d_(e)` stands for.
pub(super) fn names_of(regex: &str) -> BTreeSet<String> {
    let groups = regex.trim_end_matches(')').split(")|");
    let named = groups.flat_map(|group| {
        let (prefix, rest) = group.split_once('(').unwrap_or_else(|| panic!("{group}"));
        rest.split('|').map(move |rest| format!("{prefix}{rest}"))
    });
    named.collect()
}

#[test]
fn every_metric_that_is_used_is_exported() {
    let (exported, records) = (names(), records());
    let known = |name: &String| exported.contains(name) || records.contains(name) || FOREIGN.contains(&name.as_str());
    let of_rules = rules().into_iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let of_panels = panels().into_iter().map(|(_, expression)| substituted(&expression));
    for expression in of_rules.chain(of_panels) {
        let metrics = metrics_in(&expression);
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            assert!(known(&metric), "{metric} is not exported: {expression}");
        }
    }
}

/// Also by labels: a value that is not in a closed set can never match.
#[test]
fn every_label_that_is_asked_for_exists_with_that_value() {
    let shown: Vec<String> = samples().iter().map(|sample| format!("{sample} 0")).collect();
    let exported: Exposition = parse(&shown.join("\n"));
    let expressions = rules().into_iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let expressions = expressions.chain(panels().into_iter().map(|(_, expression)| substituted(&expression)));
    let mut asked = 0;
    for expression in expressions {
        for (before, after) in expression.match_indices('{').map(|(at, _)| expression.split_at(at)) {
            let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            let matchers = after[1..].split('}').next().unwrap();
            if !name.starts_with("spotwarden_") {
                continue;
            }
            let mut quoted = matchers.split('"');
            while let (Some(matcher), Some(value)) = (quoted.next(), quoted.next()) {
                let label = matcher.trim_matches([',', ' ']).trim_end_matches(['=', '~', '!']);
                if matches!(label, "cluster" | "job" | "node") {
                    continue;
                }
                for word in value.split('|') {
                    let mut samples = exported.samples.keys().filter(|(metric, _)| metric == name);
                    let there = samples.any(|(_, labels)| labels.get(label).is_some_and(|found| found == word));
                    // The codes of the API server's answers are no closed set.
                    assert!(there || label == "code", "{name} has no {label}=\"{word}\": {expression}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 20, "{asked}");
}

/// promtool is the judge of PromQL: each expression of the dashboard becomes a rule.
#[test]
fn every_expression_of_the_dashboard_is_promql() {
    let rules: Vec<Value> = panels()
        .iter()
        .enumerate()
        .map(|(number, (_, expression))| json!({"record": format!("panel:{number}"), "expr": substituted(expression)}))
        .collect();
    assert!(rules.len() >= 50, "{}", rules.len());
    let count = rules.len();
    let folder = Folder::new("dashboard");
    let file = folder.write("panels.yaml", &json!({"groups": [{"name": "panels", "rules": rules}]}).to_string());
    let (passed, said) = ask("prometheus", "promtool", &["check", "rules", "--lint=none", &file]);
    assert!(passed && said.contains(&format!("{count} rules found")), "{said}");
}

#[test]
fn the_dashboard_can_be_provisioned() {
    let dashboard: Value = serde_json::from_str(&text("monitoring/dashboard.json")).unwrap();
    assert_eq!(
        (&dashboard["uid"], &dashboard["id"], &dashboard["editable"]),
        (&"spotwarden".into(), &Value::Null, &false.into())
    );
    assert!((39..=41).contains(&dashboard["schemaVersion"].as_u64().unwrap()));
    assert!(dashboard.get("__inputs").is_none());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "cluster", "job", "node"]);
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let mut ids = BTreeSet::new();
    let mut places = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        let (left, top, right, bottom) = (place("x"), place("y"), place("x") + place("w"), place("y") + place("h"));
        assert!(right <= 24, "{title}");
        let overlaps =
            |other: &(u64, u64, u64, u64)| left < other.2 && other.0 < right && top < other.3 && other.1 < bottom;
        assert!(!places.iter().any(overlaps), "{title} lies over another panel");
        places.push((left, top, right, bottom));
        if panel["type"] == "row" {
            continue;
        }
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title}");
        assert_eq!(panel["datasource"], source, "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"], source, "{title}");
            let expression = target["expr"].as_str().unwrap();
            let selected = "cluster=~\"$cluster\",job=~\"$job\",node=~\"$node\"";
            assert!(expression.contains(selected), "{title} shows what was not selected: {expression}");
            let counted = expression.contains("_total{") || expression.contains("_bucket{");
            let rated = ["rate(", "increase("].iter().any(|function| expression.contains(function));
            assert_eq!(counted, rated, "{title}: {expression}");
        }
    }
}

#[rstest::rstest]
#[case("monitoring/collector/upstream.yaml")]
#[case("monitoring/collector/adot.yaml")]
fn a_collector_keeps_what_rules_and_dashboard_need_and_nothing_unknown(#[case] path: &str) {
    let (kept, exported) = (names_of(&keep_list(path)), names());
    assert_eq!(kept.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new(), "kept, not exported");
    let of_rules = rules().into_iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let of_panels = panels().into_iter().map(|(_, expression)| substituted(&expression));
    let needed: BTreeSet<String> = of_rules.chain(of_panels).flat_map(|expression| metrics_in(&expression)).collect();
    let needed: BTreeSet<String> = needed.intersection(&exported).cloned().collect();
    assert_eq!(needed.difference(&kept).collect::<Vec<_>>(), Vec::<&String>::new(), "needed, not kept");
    // A histogram is whole or not there.
    for bucket in kept.iter().filter_map(|name| name.strip_suffix("_bucket")) {
        assert!(["_sum", "_count"].iter().all(|part| kept.contains(&format!("{bucket}{part}"))), "{bucket}");
    }
    let batch = yaml(path)["processors"]["batch"]["timeout"].as_str().unwrap().to_owned();
    assert!(
        batch.strip_suffix('s').and_then(|seconds| seconds.parse::<u32>().ok()).is_some_and(|seconds| seconds <= 5)
    );
}

/// awsemf is no component of the collector that the tests can build: what it selects is looked at here.
#[test]
fn what_is_selected_for_cloudwatch_is_exported_and_kept() {
    let config = yaml("monitoring/collector/adot.yaml");
    let declarations = config["exporters"]["awsemf"]["metric_declarations"].as_array().unwrap();
    let kept = names_of(&keep_list("monitoring/collector/adot.yaml"));
    for declaration in declarations {
        assert_eq!(
            declaration["dimensions"],
            json!([["ClusterName"]]),
            "each node's own would be a new metric each day"
        );
        for selector in declaration["metric_name_selectors"].as_array().unwrap() {
            let selector = selector.as_str().unwrap().trim_start_matches('^').trim_end_matches('$');
            let (head, tail) = selector.split_once('(').unwrap_or((selector, ")"));
            let (words, tail) = tail.split_once(')').unwrap();
            for word in words.split('|') {
                assert!(kept.contains(&format!("{head}{word}{tail}")), "{head}{word}{tail}");
            }
        }
    }
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let folder = root().join("docs/runbooks");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .collect();
    assert_eq!(alerts().keys().cloned().collect::<BTreeSet<_>>(), files);
    for name in files {
        let page = text(&format!("docs/runbooks/{name}.md"));
        assert_eq!(page.lines().next(), Some(format!("# {name}").as_str()));
        let sections: Vec<_> = page.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
        assert_eq!(sections.iter().map(|(heading, _)| *heading).collect::<Vec<_>>(), HEADINGS, "{name}");
        assert!(sections.iter().all(|(_, body)| body.trim().len() > 40), "{name} has a section without content");
        let diagnosis = sections[2].1;
        assert!(diagnosis.contains("```"), "{name} has no command under Diagnosis");
    }
}

/// A command with a misspelt metric finds nothing, at night.
#[test]
fn runbooks_and_pages_name_metrics_that_exist() {
    let exported = names();
    let mut pages: Vec<String> = alerts().keys().map(|name| format!("docs/runbooks/{name}.md")).collect();
    pages.push("docs/alerts.md".to_owned());
    for page in pages {
        let text = text(&page);
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':') {
            let metric = word.strip_prefix("spotwarden_");
            let known = |name: &str| exported.contains(name) || records().contains(name);
            assert!(metric.is_none_or(|rest| rest.is_empty() || known(word)), "{page}: {word} is not exported");
        }
    }
}

#[test]
fn every_alert_says_what_an_alert_has_to_say() {
    for (name, alert) in alerts() {
        assert!(name.starts_with("Spotwarden"), "{name}");
        assert!(["critical", "warning", "info"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        let annotations = alert["annotations"].as_object().unwrap();
        let keys: Vec<&str> = annotations.keys().map(String::as_str).collect();
        assert_eq!(
            keys.iter().copied().collect::<BTreeSet<_>>(),
            ["description", "runbook_url", "summary"].into(),
            "{name}"
        );
        let summary = annotations["summary"].as_str().unwrap();
        // The same for all of a group, as messages show it once.
        assert!(summary.ends_with('.') && !summary.contains("{{") && summary.len() < 90, "{name}: {summary}");
        assert_eq!(annotations["runbook_url"], format!("docs/runbooks/{name}.md"));
    }
}

/// The page lists every alert with its severity, in the order of the file.
#[test]
fn the_page_about_alerts_has_a_row_for_each() {
    let page = text("docs/alerts.md");
    let rows: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| [Spotwarden"))
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let (name, link) = cells.next().unwrap().split_once(']').unwrap();
            assert_eq!(link, format!("(runbooks/Spotwarden{name}.md)"));
            format!("Spotwarden{name} {}", cells.next().unwrap())
        })
        .collect();
    let listed: Vec<String> = rules()
        .iter()
        .filter_map(|rule| Some(format!("{} {}", rule["alert"].as_str()?, rule["labels"]["severity"].as_str()?)))
        .collect();
    assert_eq!(rows, listed);
}
