use rstest::rstest;
use serde_json::json;

use super::*;
use crate::migrate::given::Settings;
use crate::migrate::{output, read};

fn migrated(text: &str) -> Migration {
    migrate(&Settings::read(&read::values("v.yaml", text).unwrap()), Wish::default())
}

/// The values without the line that is always there.
fn values(text: &str) -> Value {
    let mut values = migrated(text).values.json();
    let responses = values["responses"].as_object_mut().unwrap();
    if responses.get("rebalanceRecommendation") == Some(&json!("ignore")) {
        responses.remove("rebalanceRecommendation");
    }
    if responses.is_empty() {
        values.as_object_mut().unwrap().remove("responses");
    }
    values
}

fn notes(text: &str) -> Vec<(Kind, String)> {
    let notes = migrated(text).notes.into_iter().filter(|note| note.kind.needs_a_hand());
    notes.map(|note| (note.kind, note.key)).collect()
}

#[rstest]
#[case("enableSpotInterruptionDraining: false", json!({"responses": {"spotInterruption": "ignore"}}))]
#[case("enableScheduledEventDraining: false", json!({"responses": {"scheduledEvent": "ignore"}}))]
#[case("enableASGLifecycleDraining: false", json!({"responses": {"asgTermination": "ignore"}}))]
#[case("enableRebalanceMonitoring: true", json!({"responses": {"rebalanceRecommendation": "cordon"}}))]
#[case("enableRebalanceDraining: true", json!({"responses": {"rebalanceRecommendation": "drain"}}))]
#[case("{enableRebalanceDraining: true, enableRebalanceMonitoring: true}", json!({"responses": {"rebalanceRecommendation": "drain"}}))]
#[case("{cordonOnly: true, enableRebalanceDraining: true, enableASGLifecycleDraining: false}", json!({"responses":
    {"spotInterruption": "cordon", "scheduledEvent": "cordon", "asgTermination": "ignore", "rebalanceRecommendation": "cordon"}}))]
#[case("taintNode: true", json!({"nodeMarks": "aws-node-termination-handler"}))]
#[case("{taintNode: true, extraEnv: [{name: TAINT_EFFECT, value: PreferNoSchedule}]}",
    json!({"nodeMarks": "aws-node-termination-handler", "taint": {"effect": "PreferNoSchedule"}}))]
#[case("dryRun: true", json!({"dryRun": true}))]
#[case("{logLevel: DEBUG, jsonLogging: true, prometheusServerPort: 9100}", json!({"log": {"level": "debug", "format": "json"}, "metrics": {"port": 9100}}))]
#[case("{dnsPolicy: Default, linuxDnsPolicy: None}", json!({"dnsPolicy": "Default"}))]
#[case("{useHostNetwork: false, dnsConfig: {searches: [x]}}", json!({"hostNetwork": false, "dnsConfig": {"searches": ["x"]}}))]
#[case("{customLabels: {a: b}, podLabels: {c: d, e: f}, linuxPodLabels: {e: g}, linuxPodAnnotations: {h: i}}",
    json!({"commonLabels": {"a": "b"}, "podLabels": {"c": "d", "e": "g"}, "podAnnotations": {"h": "i"}}))]
#[case("{nodeSelector: {a: b}, daemonsetNodeSelector: {c: d}, linuxAffinity: {x: {}}}", json!({"nodeSelector": {"a": "b"}, "affinity": {"x": {}}}))]
#[case("{image: {pullPolicy: Always, pullSecrets: [{name: s}]}}", json!({"image": {"pullPolicy": "Always"}, "imagePullSecrets": [{"name": "s"}]}))]
#[case("{podMonitor: {create: true, namespace: m, labels: {r: k}, interval: 10s}}", json!({"podMonitor":
    {"enabled": true, "namespace": "m", "additionalLabels": {"r": "k"}, "interval": "10s"}}))]
#[case("{serviceAccount: {create: false, name: sa, annotations: {a: b, eks.amazonaws.com/role-arn: r}}, rbac: {create: false}}", json!({
    "serviceAccount": {"create": false, "name": "sa", "annotations": {"a": "b"}}, "rbac": {"create": false}}))]
#[case("{extraEnv: [{name: https_proxy, value: 'http://p:1'}, {name: NO_PROXY, value: .svc}, {name: RUST_LOG, value: debug}]}", json!({
    "egress": {"httpsProxy": "http://p:1", "noProxy": ".svc"}, "extraEnv": [{"name": "RUST_LOG", "value": "debug"}]}))]
#[case("instanceMetadataURL: http://[fd00:ec2::254]", json!({"imds": {"endpoint": "http://[fd00:ec2::254]"}}))]
fn values_become_values(#[case] text: &str, #[case] expected: Value) {
    assert_eq!(values(text), expected, "{text}");
    assert_eq!(notes(text), [], "{text}");
}

#[test]
fn nths_defaults_become_the_defaults_but_for_the_recommendation() {
    let golden = include_str!("../../../tests/golden/nth/values.yaml");
    for text in ["", golden] {
        let migration = migrated(text);
        assert_eq!(migration.values.json(), json!({"responses": {"rebalanceRecommendation": "ignore"}}), "{text}");
        assert!(!migration.needs_a_hand() && migration.notes.iter().all(|note| note.kind == Kind::Different));
    }
    // Every value of the chart is known; those in capitals are variables.
    let values = Settings::default_rows().into_iter().filter(|row| row.key != row.key.to_uppercase());
    assert_eq!(migrated(golden).idle.len(), values.count());
}

#[rstest]
#[case("enableOutOfServiceTaint: true", Kind::NoEquivalent, "enableOutOfServiceTaint")]
#[case("deleteLocalData: false", Kind::NoEquivalent, "deleteLocalData")]
#[case("ignoreDaemonSets: false", Kind::NoEquivalent, "ignoreDaemonSets")]
#[case("podTerminationGracePeriod: 30", Kind::NoEquivalent, "podTerminationGracePeriod")]
#[case("nodeTerminationGracePeriod: 60", Kind::NoEquivalent, "nodeTerminationGracePeriod")]
#[case("targetNodeOs: linux windows", Kind::NoEquivalent, "targetNodeOs")]
#[case("enableSqsTerminationDraining: true", Kind::NoEquivalent, "enableSqsTerminationDraining")]
#[case("{taintNode: true, extraEnv: [{name: TAINT_EFFECT, value: NoExecute}]}", Kind::NoEquivalent, "TAINT_EFFECT")]
#[case("extraEnv: [{name: MINE, value: x}]", Kind::NoEquivalent, "MINE")]
#[case("tolerations: [{key: spot, operator: Exists}]", Kind::Hand, "tolerations")]
#[case("image: {repository: x}", Kind::Hand, "image.repository")]
#[case("{webhookURL: 'https://x.example.com', webhookTemplate: '{{ if .Pods }}'}", Kind::Hand, "webhookTemplate")]
#[case(
    "{webhookURL: 'https://x.example.com', webhookTemplateConfigMapName: a, webhookTemplateConfigMapKey: b}",
    Kind::Hand,
    "webhookTemplateConfigMapName"
)]
#[case(
    "{webhookURL: 'https://x.example.com', webhookHeaders: '{\"X-Token\": \"t\"}'}",
    Kind::NoEquivalent,
    "webhookHeaders"
)]
#[case("webhookProxy: http://u:p@proxy:1", Kind::Hand, "webhookProxy")]
#[case("webhookProxy: tcp://proxy:1", Kind::Hand, "webhookProxy")]
#[case("logLevel: trace", Kind::Hand, "logLevel")]
#[case("taintnode: true", Kind::Unknown, "taintnode")]
#[case("taintNode: perhaps", Kind::Unknown, "taintNode")]
fn what_is_not_carried_over_is_said_with_its_line(#[case] text: &str, #[case] kind: Kind, #[case] key: &str) {
    let migration = migrated(&format!("# a comment\n{text}"));
    let note = migration.notes.iter().find(|note| note.key == key && note.kind == kind);
    let note = note.unwrap_or_else(|| panic!("{text}: {:?}", migration.notes));
    assert_eq!(note.place.as_ref().map(|place| place.line), Some(2), "{text}");
    assert!(migration.needs_a_hand() && !note.text.is_empty());
}

#[test]
fn values_of_queue_mode_count_only_in_queue_mode() {
    assert_eq!(notes("{queueURL: x, replicas: 3, workers: 20}"), []);
    let keys: Vec<String> = notes("{enableSqsTerminationDraining: true, queueURL: x, replicas: 3}")
        .into_iter()
        .map(|(_, key)| key)
        .collect();
    assert_eq!(keys, ["enableSqsTerminationDraining", "replicas", "queueURL"]);
}

#[test]
fn no_secret_is_ever_shown() {
    let text = "webhookURL: https://hooks.slack.com/services/T/B/verysecret\nwebhookHeaders: '{\"A\": \"verysecret\"}'\n\
                webhookProxy: http://verysecret:verysecret@x:1\nawsSecretAccessKey: verysecret\nawsAccessKeyID: verysecret\n\
                enableSqsTerminationDraining: true\n";
    for wish in [false, true] {
        let settings = Settings::read(&read::values("v.yaml", text).unwrap());
        let migration = migrate(&settings, Wish { beside: wish });
        let all = output::helm(&migration) + &output::json(&migration);
        assert!(!all.contains("verysecret") && all.contains("webhookURL"), "{all}");
    }
}

#[test]
fn a_url_of_slack_goes_to_slack_and_another_to_the_webhook() {
    let slack = values("webhookURL: https://hooks.slack.com/services/T/B/x");
    assert_eq!(slack, json!({"notifications": {"slack": {"webhookUrlSecret": {"name": "spotwarden-slack"}}}}));
    let other = values(
        "webhookURL: https://hooks.slack.com.example.com/x\nwebhookHeaders: '{\"content-type\": \"text/plain\"}'\nwebhookTemplate: '{{.NodeName}} goes'",
    );
    assert_eq!(
        other,
        json!({"notifications": {"webhook": {"urlSecret": {"name": "spotwarden-webhook"}, "contentType": "text/plain", "template": "{{node}} goes"}}})
    );
    let secret = values("{webhookURLSecretName: s, webhookURL: 'https://x.example.com'}");
    assert_eq!(
        secret,
        json!({"notifications": {"webhook": {"urlSecret": {"name": "s", "key": "webhookurl"}, "template": "{\"text\": \"{{summary}}\"}"}}})
    );
    assert_eq!(notes("webhookURLSecretName: s"), [(Kind::Hand, "webhookURLSecretName".into())]);
}

#[test]
fn beside_nth_it_only_looks_and_leaves_it_its_port() {
    let settings = Settings::read(&read::values("v.yaml", "prometheusServerPort: 9100\ntaintNode: true").unwrap());
    let migration = migrate(&settings, Wish { beside: true });
    assert_eq!(
        migration.values.json(),
        json!({"dryRun": true, "nodeMarks": "aws-node-termination-handler", "responses": {"rebalanceRecommendation": "ignore"}})
    );
    assert!(!migration.needs_a_hand());
    assert!(migration.notes.iter().any(|note| note.key == "prometheusServerPort"));
}

#[rstest]
#[case("affinity: {podAffinity: {}}", true)]
#[case(
    "linuxAffinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}",
    false
)]
fn an_affinity_that_helm_merges_is_told(#[case] text: &str, #[case] told: bool) {
    let notes = migrated(text).notes;
    let merged = notes.iter().any(|note| note.key.ends_with("ffinity") && note.text.contains("stays beside it"));
    assert_eq!(merged, told, "{notes:?}");
}

#[test]
fn a_value_says_where_it_came_from() {
    let text = output::helm(&migrated("cordonOnly: true\n\ntaintNode: true\n"));
    assert!(
        text.contains(
            "  # cordonOnly: true (v.yaml:1): true makes every `drain` above a `cordon`\n  spotInterruption: cordon\n"
        ),
        "{text}"
    );
    assert!(text.contains("# taintNode: true (v.yaml:3): true is"), "{text}");
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(read, migrated("cordonOnly: true\n\ntaintNode: true\n").values.json());
}

#[test]
fn the_groups_and_the_table_know_each_other() {
    let settings = Settings::read(&read::values("-", "").unwrap());
    for key in GROUPED.iter().chain(&SECRET) {
        assert!(settings.row(key).is_some(), "{key}");
    }
}

proptest::proptest! {
    /// Whatever is set, nothing is lost: each key is a value, a note or at its default.
    #[test]
    fn no_key_is_dropped(picks in proptest::collection::vec((0_usize..120, 0_usize..6), 1..12)) {
        let rows = Settings::default_rows();
        let mut tree = crate::migrate::tree::Tree::default();
        let mut keys = Vec::new();
        for (row, value) in picks {
            let Some(row) = rows.get(row).filter(|row| !row.key.contains('.') && row.key != "extraEnv") else { continue };
            let values = [json!(true), json!(false), json!("text"), json!(7), json!([{"key": "x"}]), json!({"a": "b"})];
            tree.values.insert(row.key.to_owned(), values[value].clone());
            keys.push(row.key);
        }
        let migration = migrate(&Settings::read(&tree), Wish::default());
        let text = output::helm(&migration);
        for key in keys {
            proptest::prop_assert!(text.contains(key), "{key} is nowhere in\n{text}");
        }
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        proptest::prop_assert_eq!(read, migration.values.json());
    }
}
