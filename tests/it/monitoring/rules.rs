//! promtool on the rules: their unit tests, storms of many sizes, and what the rules of others make of a node that goes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::contents::alerts;
use crate::peers::{Folder, ask, root, text, yaml};

/// The alert of kubernetes-mixin for a node that stopped answering, as the project renders it with the keys that it knows.
/// It looks away only for these, and only where the effect is that of the unreachable taint.
const UNREACHABLE: &str = "(kube_node_spec_taint{job=\"kube-state-metrics\",key=\"node.kubernetes.io/unreachable\",\
     effect=\"NoSchedule\"} unless ignoring(key,value) kube_node_spec_taint{job=\"kube-state-metrics\",\
     key=~\"ToBeDeletedByClusterAutoscaler|cloud.google.com/impending-node-termination|\
     aws-node-termination-handler/spot-itn\"}) == 1";

fn promtool(arguments: &[&str]) -> (bool, String) {
    ask("prometheus", "promtool", arguments)
}

fn path(file: &str) -> String {
    root().join("monitoring").join(file).to_str().unwrap().to_owned()
}

/// Runs unit tests of the shipped rules that are given as JSON.
fn run(name: &str, files: &[String], tests: &Value) -> (bool, String) {
    let folder = Folder::new(name);
    let content = json!({"rule_files": files, "evaluation_interval": "15s", "tests": tests}).to_string();
    promtool(&["test", "rules", &folder.write("tests.yaml", &content)])
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (passed, said) = promtool(&["check", "rules", "--lint=all", "--lint-fatal", &path("rules.yaml")]);
    assert!(passed, "{said}");
    let (passed, said) = promtool(&["check", "config", &path("prometheus.yaml")]);
    assert!(passed, "{said}");
}

#[test]
fn the_unit_tests_of_the_rules_pass() {
    let (passed, said) = promtool(&["test", "rules", &path("rules.test.yaml")]);
    assert!(passed, "{said}");
}

/// A rule that nobody saw fire may never fire, and one that nobody saw silent may always.
#[test]
fn every_alert_is_tested_to_fire_with_all_of_its_labels_and_not_to_fire() {
    let tests = yaml("monitoring/rules.test.yaml");
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for check in
        tests["tests"].as_array().unwrap().iter().filter_map(|test| test["alert_rule_test"].as_array()).flatten()
    {
        let name = check["alertname"].as_str().unwrap().to_owned();
        let expected = check["exp_alerts"].as_array().unwrap();
        if expected.is_empty() {
            silent.insert(name)
        } else {
            fires.insert(name)
        };
    }
    let all: BTreeSet<String> = alerts().keys().cloned().collect();
    assert_eq!(fires, all, "left: seen to fire");
    assert_eq!(silent, all, "left: seen not to fire");
}

/// The unit tests can fail: each of these changes breaks a promise of the rules, and the test that is named sees it.
#[rstest::rstest]
#[case(
    "a deadline that was seen once",
    "last_over_time(spotwarden_interruption_deadline_timestamp_seconds[10m])",
    "spotwarden_interruption_deadline_timestamp_seconds"
)]
#[case(
    "a scheduled event of next week",
    "(last_over_time(spotwarden_interruption_deadline",
    "(max_over_time(spotwarden_interruption_deadline"
)]
#[case("a deadline that was seen once", "keep_firing_for: 20m", "keep_firing_for: 4m")]
#[case("three nodes are a storm", "agents:count, 3)", "agents:count, 2)")]
#[case("drained", "spotwarden_drain_waiting_pods[10m])) > 0", "spotwarden_drain_waiting_pods[10m])) >= 0")]
#[case("no address left", "unless on (cluster, node) node:spotwarden_closed:max", "")]
fn a_change_that_breaks_a_rule_is_noticed(#[case] test: &str, #[case] good: &str, #[case] bad: &str) {
    let rules = text("monitoring/rules.yaml");
    assert!(rules.contains(good), "{good}");
    let folder = Folder::new("broken-rules");
    let tests = folder.write("rules.test.yaml", &text("monitoring/rules.test.yaml"));
    for (content, well) in [(rules.replace(good, bad), false), (rules, true)] {
        folder.write("rules.yaml", &content);
        let (passed, said) = promtool(&["test", "rules", &format!("--run=^{test}"), &tests]);
        assert_eq!(passed, well, "{said}");
    }
}

/// Three nodes at least, and a tenth of all.
#[test]
fn a_storm_begins_at_three_nodes_and_at_a_tenth() {
    let sizes = [
        (10, 2, false),
        (10, 3, true),
        (40, 3, false),
        (40, 4, true),
        (200, 19, false),
        (200, 20, true),
        (200, 200, true),
    ];
    let tests: Vec<Value> = sizes.iter().map(|(all, hit, storm)| storm_of(*all, *hit, *storm)).collect();
    let (passed, said) = run("storms", &[path("rules.yaml")], &tests.into());
    assert!(passed, "{said}");
    // And the other way round, so that this can fail.
    let (passed, said) = run("no-storm", &[path("rules.yaml")], &json!([storm_of(10, 3, false)]));
    assert!(!passed, "{said}");
}

/// `all` nodes, of which `hit` get a notice within two minutes, are gone with one or two samples of it, and then the rest.
fn storm_of(all: u32, hit: u32, storm: bool) -> Value {
    let mut series = Vec::new();
    for node in 0..all {
        let labels = format!("cluster=\"c1\",nodegroup=\"ng-{}\",node=\"n{node}\"", node % 5);
        series.push(json!({"series": format!("spotwarden_build_info{{{labels}}}"), "values": "1x20"}));
        if node < hit {
            // They are told in eight steps of 15 s.
            let before = node % 8;
            let values = |zero: &str, one: u32| format!("{zero}x{before} {one} {one} stale");
            let pending = format!("spotwarden_interruption_pending{{{labels},kind=\"spot-interruption\"}}");
            series.push(json!({"series": pending, "values": values("0", 1)}));
            let deadline = format!("spotwarden_interruption_deadline_timestamp_seconds{{{labels}}}");
            series.push(json!({"series": deadline, "values": values("_", 240)}));
        }
    }
    let annotations = &alerts()["SpotwardenInterruptionStorm"]["annotations"];
    let expected = json!([{
        "exp_labels": {"severity": "critical", "cluster": "c1"},
        "exp_annotations": {
            "summary": annotations["summary"],
            "description": format!("{hit} nodes got a notice within 10 minutes in c1."),
            "runbook_url": annotations["runbook_url"],
        },
    }]);
    let silent = json!([]);
    json!({
        "name": format!("{hit} of {all}"),
        "interval": "15s",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": "3m", "alertname": "SpotwardenInterruptionStorm", "exp_alerts": if storm { &expected } else { &silent }},
        ],
        // One for each node, which the storm inhibits: see `route`.
        "promql_expr_test": [{
            "expr": "count(ALERTS{alertname=\"SpotwardenNodeInterruption\",alertstate=\"firing\"})",
            "eval_time": "3m",
            "exp_samples": [{"labels": "{}", "value": hit}],
        }],
    })
}

/// kubernetes-mixin suppresses its alert about an unreachable node for taints that it knows. The marks of the node
/// termination handler are among them, the agent's own key is one more for `kubeNodeUnreachableIgnoreKeys`.
#[rstest::rstest]
#[case::no_taint(None, false, true)]
#[case::nth_marks(Some(("aws-node-termination-handler/spot-itn", "NoSchedule")), false, false)]
#[case::own_key_unknown(Some(("spotwarden/interruption", "NoSchedule")), false, true)]
#[case::own_key_configured(Some(("spotwarden/interruption", "NoSchedule")), true, false)]
#[case::another_effect(Some(("aws-node-termination-handler/spot-itn", "PreferNoSchedule")), false, true)]
fn the_mixin_knows_which_taints_excuse_an_unreachable_node(
    #[case] taint: Option<(&str, &str)>,
    #[case] configured: bool,
    #[case] fires: bool,
) {
    let folder = Folder::new("mixin");
    let mut expression = UNREACHABLE.to_owned();
    if configured {
        expression = expression.replace("ToBeDeleted", "spotwarden/interruption|ToBeDeleted");
    }
    let rule =
        json!({"alert": "KubeNodeUnreachable", "expr": expression, "for": "15m", "labels": {"severity": "warning"}});
    let rules = folder.write("mixin.yaml", &json!({"groups": [{"name": "mixin", "rules": [rule]}]}).to_string());
    let series = |key: &str, effect: &str| {
        let mut labels = String::new();
        _ = write!(labels, "job=\"kube-state-metrics\",node=\"a\",key=\"{key}\",effect=\"{effect}\"");
        json!({"series": format!("kube_node_spec_taint{{{labels}}}"), "values": "1x100"})
    };
    let mut input = vec![series("node.kubernetes.io/unreachable", "NoSchedule")];
    input.extend(taint.map(|(key, effect)| series(key, effect)));
    let labels = json!({"severity": "warning", "job": "kube-state-metrics", "node": "a",
        "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"});
    let expected = if fires { json!([{"exp_labels": labels}]) } else { json!([]) };
    let tests = json!([{"interval": "15s", "input_series": input, "alert_rule_test": [
        {"eval_time": "20m", "alertname": "KubeNodeUnreachable", "exp_alerts": expected},
    ]}]);
    let (passed, said) = run("mixin-tests", &[rules], &tests);
    assert!(passed, "{said}");
}
