//! What the chart makes of the files of `monitoring/`: the same rules, routes, dashboard and collector configurations.

use serde_json::{Value, json};

use super::{objects, of_kind};
use crate::peers::{Folder, ask, text, yaml};

fn rules(values: &str) -> Vec<Value> {
    let objects = objects(&format!("{{prometheusRule: {{enabled: true, {values}}}}}"));
    of_kind(&objects, "PrometheusRule").unwrap()["spec"]["groups"].as_array().unwrap().clone()
}

fn shipped() -> Vec<Value> {
    yaml("monitoring/rules.yaml")["groups"].as_array().unwrap().clone()
}

fn each_alert(groups: &mut [Value], mut change: impl FnMut(&mut Value)) {
    let rules = groups.iter_mut().flat_map(|group| group["rules"].as_array_mut().unwrap());
    rules.filter(|rule| rule.get("alert").is_some()).for_each(&mut change);
}

#[test]
fn the_rules_are_the_shipped_ones() {
    assert_eq!(rules(""), shipped());
}

#[test]
fn runbooks_get_the_base_that_was_given() {
    let mut expected = shipped();
    each_alert(&mut expected, |rule| {
        let path = rule["annotations"]["runbook_url"].as_str().unwrap();
        rule["annotations"]["runbook_url"] = json!(format!("https://git.example.com/x/{path}"));
    });
    assert_eq!(rules("runbookUrlBase: 'https://git.example.com/x/'"), expected);
}

#[test]
fn an_alert_can_be_left_out_or_given_another_severity_or_time() {
    let changes = "rules: {SpotwardenClockSkew: {enabled: false}, SpotwardenNodeInterruption: {severity: info}, \
        SpotwardenAgentMissing: {for: 20m, enabled: true}}";
    let mut expected = shipped();
    for group in &mut expected {
        group["rules"].as_array_mut().unwrap().retain(|rule| rule["alert"] != "SpotwardenClockSkew");
    }
    each_alert(&mut expected, |rule| match rule["alert"].as_str().unwrap() {
        "SpotwardenNodeInterruption" => rule["labels"]["severity"] = json!("info"),
        "SpotwardenAgentMissing" => rule["for"] = json!("20m"),
        _ => {}
    });
    assert_eq!(rules(changes), expected);
}

#[test]
fn promtool_takes_the_rendered_rules_and_their_unit_tests_pass() {
    let folder = Folder::new("chart-rules");
    let file = folder.write("rules.yaml", &json!({"groups": rules("")}).to_string());
    let (passed, said) = ask("prometheus", "promtool", &["check", "rules", "--lint=all", "--lint-fatal", &file]);
    assert!(passed, "{said}");
    let tests = text("monitoring/rules.test.yaml");
    let tests = folder.write("rules.test.yaml", &tests);
    let (passed, said) = ask("prometheus", "promtool", &["test", "rules", &tests]);
    assert!(passed, "{said}");
}

#[test]
fn dashboard_and_collector_configurations_are_byte_for_byte_the_shipped_ones() {
    let values = |distribution| {
        objects(&format!(
            "{{grafanaDashboards: {{enabled: true}}, collectorConfig: {{enabled: true, distribution: {distribution}}}}}"
        ))
    };
    for distribution in ["upstream", "adot"] {
        let objects = values(distribution);
        let data = |name: &str| {
            let found =
                objects.iter().find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == name);
            found.unwrap_or_else(|| panic!("no ConfigMap {name}"))["data"].clone()
        };
        let collector = text(&format!("monitoring/collector/{distribution}.yaml"));
        assert_eq!(data("spotwarden-collector")["config.yaml"].as_str().unwrap(), collector);
        assert_eq!(
            data("spotwarden-dashboard")["spotwarden.json"].as_str().unwrap(),
            text("monitoring/dashboard.json")
        );
    }
}

/// `name="value"` as the resource has it.
fn matchers(list: &Value) -> Value {
    let matchers = list.as_array().unwrap().iter().map(|matcher| {
        let matcher = matcher.as_str().unwrap();
        let at = matcher.find(['=', '!']).unwrap();
        let (name, rest) = matcher.split_at(at);
        let (operator, value) = rest.split_once('"').unwrap();
        let value = value.strip_suffix('"').unwrap();
        match operator {
            "=" => json!({"name": name, "value": value}),
            _ => json!({"name": name, "matchType": operator, "value": value}),
        }
    });
    matchers.collect()
}

/// The resource has other words for the same; nothing is added and nothing is lost.
#[test]
fn the_alertmanager_config_says_what_the_shipped_file_says() {
    let values = "{alertmanagerConfig: {enabled: true, slack: {webhookUrlSecret: {name: hook}}}}";
    let objects = objects(values);
    let spec = &of_kind(&objects, "AlertmanagerConfig").unwrap()["spec"];
    let source = yaml("monitoring/alertmanager.yaml");
    let list = |value: &Value| value.as_array().unwrap().clone();

    let mut routes: Vec<Value> = list(&source["route"]["routes"])
        .into_iter()
        .map(|route| {
            assert_eq!(route.as_object().unwrap().len(), 6, "the template takes six over: {route}");
            json!({
                "receiver": route["receiver"], "matchers": matchers(&route["matchers"]), "groupBy": route["group_by"],
                "groupWait": route["group_wait"], "groupInterval": route["group_interval"],
                "repeatInterval": route["repeat_interval"],
            })
        })
        .collect();
    // Below the Alertmanager's own route there is one head; the last of the file takes what the others leave.
    let mut head = routes.pop().unwrap();
    assert_eq!(head["matchers"], json!([{"name": "alertname", "matchType": "=~", "value": "Spotwarden.*"}]));
    head["routes"] = json!(routes);
    assert_eq!(spec["route"], head);

    let inhibitions = list(&source["inhibit_rules"]).into_iter().map(|rule| {
        assert_eq!(rule.as_object().unwrap().len(), 3, "{rule}");
        json!({
            "sourceMatch": matchers(&rule["source_matchers"]), "targetMatch": matchers(&rule["target_matchers"]),
            "equal": rule["equal"],
        })
    });
    assert_eq!(spec["inhibitRules"], inhibitions.collect::<Value>());

    let told = list(&source["receivers"]).into_iter().filter(|receiver| receiver.get("slack_configs").is_some());
    let receivers = told.map(|receiver| {
        let mut ours = json!({"name": receiver["name"]});
        if let Some(slack) = receiver["slack_configs"].as_array() {
            let configs = slack.iter().map(|slack| {
                assert_eq!(slack.as_object().unwrap().len(), 7, "{slack}");
                json!({
                    "apiURL": {"name": "hook", "key": "url"}, "sendResolved": slack["send_resolved"],
                    "color": slack["color"], "title": slack["title"], "titleLink": slack["title_link"],
                    "text": slack["text"], "fallback": slack["fallback"],
                })
            });
            ours["slackConfigs"] = configs.collect();
        }
        ours
    });
    assert_eq!(spec["receivers"], receivers.collect::<Value>());
}

/// The rules ask for the job and want the labels; shipped for a Prometheus that is configured by hand, and the same here.
#[test]
fn monitors_make_the_labels_that_the_rules_want() {
    let scrape = yaml("monitoring/prometheus.yaml")["scrape_configs"][0].clone();
    let snake = |relabeling: &Value| {
        let mut ours = json!({});
        for (key, value) in relabeling.as_object().unwrap() {
            ours[match key.as_str() {
                "sourceLabels" => "source_labels",
                "targetLabel" => "target_label",
                other => other,
            }] = value.clone();
        }
        ours
    };
    let kept = |relabeling: &&Value| relabeling["action"] != "keep";
    let shipped: Vec<&Value> = scrape["relabel_configs"].as_array().unwrap().iter().filter(kept).collect();
    for (value, kind, endpoints) in
        [("podMonitor", "PodMonitor", "podMetricsEndpoints"), ("serviceMonitor", "ServiceMonitor", "endpoints")]
    {
        let objects = objects(&format!("{{{value}: {{enabled: true}}}}"));
        let spec = &of_kind(&objects, kind).unwrap()["spec"];
        let endpoint = &spec[endpoints][0];
        let relabelings: Vec<Value> = endpoint["relabelings"].as_array().unwrap().iter().map(snake).collect();
        assert_eq!(relabelings.iter().collect::<Vec<_>>(), shipped, "{kind}");
        assert_eq!(spec["jobLabel"], "app.kubernetes.io/name");
        assert_eq!(endpoint["interval"], scrape["scrape_interval"]);
        assert_eq!(endpoint["scrapeTimeout"], scrape["scrape_timeout"]);
        assert_eq!(spec["sampleLimit"], scrape["sample_limit"]);
        assert_eq!(spec["attachMetadata"], json!({"node": true}));

        let objects = super::objects(&format!("{{{value}: {{enabled: true}}, nameOverride: other}}"));
        let relabeling = &of_kind(&objects, kind).unwrap()["spec"][endpoints][0]["relabelings"][0];
        assert_eq!(
            relabeling,
            &json!({"targetLabel": "job", "replacement": scrape["job_name"]}),
            "pods are not called so"
        );
    }
}
