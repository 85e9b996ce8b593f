//! Values that are refused when they are rendered, by both majors of Helm: with the key, the reason, and for a secret in
//! the open without its value.

use serde_json::{Map, Value};

use super::{Helm, MAJORS, objects_with};
use crate::peers::{Folder, yaml};

fn refusal(helm: Helm, values: &str, more: &[&str]) -> String {
    let folder = Folder::new("chart-refused");
    let file = folder.write("values.yaml", values);
    let mut arguments = vec!["--values", file.as_str()];
    arguments.extend(more);
    let said = helm.template(&arguments);
    assert!(!said.passed && said.out.is_empty(), "{helm:?} took {values}");
    assert!(!said.err.contains("hunter2"), "a secret is repeated: {}", said.err);
    said.err
}

#[rstest::rstest]
#[case("{dryrun: true}", "- at '': additional properties 'dryrun' not allowed")]
#[case("{taint: {keys: a/b}}", "- at '/taint': additional properties 'keys' not allowed")]
#[case(
    "{otlp: {metrics: {intervalSeconds: 1}}}",
    "- at '/otlp/metrics': additional properties 'intervalSeconds' not allowed"
)]
#[case(
    "{podMonitor: {intervalSeconds: 15s}}",
    "- at '/podMonitor': additional properties 'intervalSeconds' not allowed"
)]
#[case(
    "{prometheusRule: {rules: {SpotwardenAbsent: {enable: false}}}}",
    "- at '/prometheusRule/rules/SpotwardenAbsent': additional properties 'enable' not allowed"
)]
#[case("{dryRun: 'yes'}", "- at '/dryRun': got string, want boolean")]
#[case("{metrics: {port: '9808'}}", "- at '/metrics/port': got string, want integer")]
#[case("{metrics: {port: 70000}}", "- at '/metrics/port': maximum: got 70,000, want 65,535")]
#[case("{drain: {safetyMargin: 5}}", "- at '/drain/safetyMargin': got number, want string")]
#[case("{drain: {safetyMargin: 5 seconds}}", "- at '/drain/safetyMargin': '5 seconds' does not match pattern")]
#[case(
    "{responses: {spotInterruption: evict}}",
    "- at '/responses/spotInterruption': value must be one of '', 'ignore', 'observe', 'taint', 'cordon', 'drain'"
)]
#[case(
    "{taint: {effect: NoExecute}}",
    "- at '/taint/effect': value must be one of '', 'NoSchedule', 'PreferNoSchedule'"
)]
#[case("{nodeMarks: nth}", "- at '/nodeMarks': value must be one of '', 'spotwarden', 'aws-node-termination-handler'")]
#[case("{image: {digest: 'sha256:abc'}}", "- at '/image/digest': 'sha256:abc' does not match pattern")]
#[case("{image: {tag: 'a@b'}}", "- at '/image/tag': 'a@b' does not match pattern")]
#[case("{image: registry.example.com/spotwarden}", "- at '/image': got string, want object")]
#[case("{tolerations: {operator: Exists}}", "- at '/tolerations': got object, want ")]
#[case("{commonLabels: {cost-center: 4711}}", "- at '/commonLabels/cost-center': got number, want string")]
#[case(
    "{notifications: {'on': [spot]}}",
    "- at '/notifications/on/0': value must be one of 'all', 'spot-interruption'"
)]
#[case(
    "{notifications: {slack: {webhookUrlSecret: 'https://hooks.slack.com/services/hunter2'}}}",
    "- at '/notifications/slack/webhookUrlSecret': got string, want object"
)]
#[case(
    "{notifications: {alertmanager: {urls: [a, b, c, d, e, f, g, h, i]}}}",
    "- at '/notifications/alertmanager/urls': maxItems: got 9, want 8"
)]
#[case("{podMonitor: {enabled: 'yes'}}", "- at '/podMonitor/enabled': value must be one of true, false, 'auto'")]
#[case(
    "{prometheusRule: {runbookUrlBase: docs}}",
    "- at '/prometheusRule/runbookUrlBase': 'docs' does not match pattern"
)]
#[case("{terminationGracePeriodSeconds: 1}", "- at '/terminationGracePeriodSeconds': minimum: got 1, want 5")]
#[case(
    "{drain: {shutdownGraceByPriority: [{priority: 0}]}}",
    "- at '/drain/shutdownGraceByPriority/0': missing property 'shutdownGracePeriodSeconds'"
)]
#[case("{responses: null}", "- at '': missing property 'responses'")]
fn a_misspelt_key_or_a_wrong_type_is_refused_by_its_place(#[case] values: &str, #[case] expected: &str) {
    for helm in MAJORS {
        let said = refusal(helm, values, &[]);
        assert!(said.contains(expected), "{helm:?}: {said}");
    }
}

#[rstest::rstest]
#[case(
    "{nodeMarks: aws-node-termination-handler, taint: {key: a/b}}",
    "taint.key has no effect beside nodeMarks aws-node-termination-handler"
)]
#[case("{cni: {headroom: off, podIPExhaustionTaint: true}}", "cni.podIPExhaustionTaint needs the headroom")]
#[case("{hostNetwork: false, cni: {podIPExhaustionTaint: true}}", "cni.podIPExhaustionTaint needs ipamd")]
#[case("{admissionPolicy: {enabled: false, evictions: true}}", "admissionPolicy.evictions has no effect while")]
#[case(
    "{notifications: {alertmanager: {authSecret: {name: a}}}}",
    "notifications.alertmanager.authSecret.name has no effect without notifications.alertmanager.urls"
)]
#[case(
    "{notifications: {webhook: {template: x}}}",
    "notifications.webhook.template has no effect without notifications.webhook.urlSecret.name"
)]
#[case("{notifications: {webhook: {contentType: text/plain}}}", "notifications.webhook.contentType has no effect")]
#[case("{notifications: {on: all, 'on': all}}", "notifications has both \"on\" and a bare on")]
#[case("{otlp: {headersSecret: {name: a}}}", "otlp.headersSecret has no effect without otlp.endpoint")]
#[case(
    "{otlp: {tls: {caSecret: {name: a}, caConfigMap: {name: b}}}}",
    "otlp.tls.caConfigMap.name and otlp.tls.caSecret.name are both set"
)]
#[case("{serviceAccount: {create: false}}", "serviceAccount.name is empty and serviceAccount.create is false")]
#[case("{networkPolicy: {enabled: true}}", "networkPolicy.enabled has no effect on pods with hostNetwork")]
#[case("{dnsPolicy: ClusterFirst}", "dnsPolicy ClusterFirst means Default for pods with hostNetwork")]
#[case(
    "{hostNetwork: false, dnsPolicy: ClusterFirstWithHostNet}",
    "dnsPolicy ClusterFirstWithHostNet is for pods with"
)]
#[case("{dnsPolicy: None}", "dnsPolicy None needs dnsConfig.nameservers")]
#[case("{metrics: {port: 61678}}", "metrics.port 61678 is taken on every EKS node")]
#[case(
    "{dryRun: true, extraEnv: [{name: SPOTWARDEN_DRY_RUN, value: 'false'}]}",
    "extraEnv has SPOTWARDEN_DRY_RUN, which another value sets already"
)]
#[case("{extraEnv: [{name: A, value: a}, {name: A, value: b}]}", "extraEnv has A, which another value sets already")]
#[case("{extraArgs: [--taint-key=a/b]}", "extraArgs or extraEnv sets what the value taint.key is for")]
#[case(
    "{extraEnv: [{name: SPOTWARDEN_NODE_MARKS, value: aws-node-termination-handler}]}",
    "extraArgs or extraEnv sets what the value nodeMarks is for"
)]
#[case(
    "{podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}",
    "podMonitor.enabled and serviceMonitor.enabled are both set"
)]
#[case(
    "{alertmanagerConfig: {enabled: true}}",
    "alertmanagerConfig.enabled needs alertmanagerConfig.slack.webhookUrlSecret"
)]
#[case(
    "{prometheusRule: {rules: {SpotwardenClockSkews: {enabled: false}}}}",
    "prometheusRule.rules has \"SpotwardenClockSkews\", and there is no alert of that name"
)]
fn what_contradicts_itself_is_refused_with_its_keys(#[case] values: &str, #[case] expected: &str) {
    for helm in MAJORS {
        let said = refusal(helm, values, &[]);
        assert!(said.contains("these values cannot be used:\n- ") && said.contains(expected), "{helm:?}: {said}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let said = refusal(Helm("helm4"), "{networkPolicy: {enabled: true}, serviceAccount: {create: false}}", &[]);
    assert_eq!(said.lines().filter(|line| line.starts_with("- ")).count(), 2, "{said}");
}

/// The message names the key of a Secret's name, and never repeats what it was given.
#[rstest::rstest]
#[case(
    "{notifications: {slack: {webhookUrl: 'https://hooks.slack.com/services/hunter2'}}}",
    "notifications.slack.webhookUrl is a secret",
    "notifications.slack.webhookUrlSecret.name"
)]
#[case(
    "{notifications: {slack: {url: 'https://hooks.slack.com/services/hunter2'}}}",
    "notifications.slack.url is a secret",
    "notifications.slack.webhookUrlSecret.name"
)]
#[case(
    "{notifications: {webhook: {url: 'https://example.com/hunter2'}}}",
    "notifications.webhook.url is a secret",
    "notifications.webhook.urlSecret.name"
)]
#[case(
    "{webhookURL: 'https://hooks.slack.com/services/hunter2'}",
    "webhookURL is a secret",
    "notifications.slack.webhookUrlSecret.name"
)]
#[case(
    "{notifications: {slack: {webhookUrlSecret: {name: 'https://hooks.slack.com/services/hunter2'}}}}",
    "notifications.slack.webhookUrlSecret.name is not the name of a Secret",
    "stays in the Secret"
)]
#[case(
    "{otlp: {headersSecret: {name: 'authorization=Bearer hunter2'}, endpoint: 'http://c:4318'}}",
    "otlp.headersSecret.name is not the name of a Secret",
    "stays in the Secret"
)]
#[case(
    "{notifications: {alertmanager: {urls: ['https://me:hunter2@am.example.com']}}}",
    "notifications.alertmanager.urls holds credentials",
    "notifications.alertmanager.authSecret.name"
)]
#[case(
    "{otlp: {endpoint: 'https://me:hunter2@c.example.com'}}",
    "otlp.endpoint holds credentials",
    "otlp.headersSecret.name"
)]
#[case(
    "{egress: {httpsProxy: 'http://me:hunter2@proxy.example.com'}}",
    "egress.httpsProxy holds credentials",
    "secretKeyRef"
)]
#[case(
    "{otlp: {endpoint: 'http://c:4318', headers: {Authorization: Bearer hunter2}}}",
    "otlp.headers has \"Authorization\", which looks like a secret",
    "otlp.headersSecret.name"
)]
#[case(
    "{otlp: {endpoint: 'http://c:4318', traces: {headers: {x-api-key: hunter2}}}}",
    "otlp.traces.headers has \"x-api-key\", which looks like a secret",
    "otlp.headersSecret.name"
)]
#[case(
    "{extraEnv: [{name: HOOK, value: 'https://hooks.slack.com/services/hunter2'}]}",
    "extraEnv holds the URL of a webhook",
    "notifications.slack.webhookUrlSecret.name"
)]
fn a_secret_in_the_open_is_refused(#[case] values: &str, #[case] expected: &str, #[case] remedy: &str) {
    for helm in MAJORS {
        let said = refusal(helm, values, &[]);
        assert!(said.contains(expected) && said.contains(remedy), "{helm:?}: {said}");
    }
}

/// As Argo CD calls `helm template`, and as helm sees a cluster: with groups and kinds.
const CLUSTER: [&str; 2] = ["--api-versions=apps/v1", "--api-versions=apps/v1/DaemonSet"];
const OPERATOR: &str = "--api-versions=monitoring.coreos.com/v1/PodMonitor";

#[test]
fn a_monitor_that_is_insisted_on_needs_a_cluster_that_has_its_kind() {
    let insisted = "{podMonitor: {enabled: true}}";
    for helm in MAJORS {
        let said = refusal(helm, insisted, &CLUSTER);
        let expected =
            "podMonitor.enabled is true, and the cluster has no PodMonitor of monitoring.coreos.com: install";
        assert!(said.contains(expected), "{said}");
    }
    let has =
        |values: &str, more: &[&str]| objects_with(values, more).iter().any(|object| object["kind"] == "PodMonitor");
    assert!(has(insisted, &[]), "without a cluster nothing is known, and the word of the value counts");
    assert!(has(insisted, &[CLUSTER[0], CLUSTER[1], OPERATOR]));
    assert!(has("{podMonitor: {enabled: true}, assumeCRDs: true}", &CLUSTER));
}

#[test]
fn a_monitor_that_is_left_to_the_cluster_is_there_where_its_kind_is() {
    let has = |more: &[&str]| {
        let objects = objects_with("{podMonitor: {enabled: auto}}", more);
        let daemon_set = super::of_kind(&objects, "DaemonSet").unwrap();
        let monitored = super::of_kind(&objects, "PodMonitor").is_some();
        // Never both: every agent would be scraped twice.
        let annotated = daemon_set["spec"]["template"]["metadata"]["annotations"]["prometheus.io/scrape"] == "true";
        assert_eq!(annotated, !monitored);
        monitored
    };
    assert!(!has(&[]) && !has(&CLUSTER));
    assert!(has(&["--api-versions=monitoring.coreos.com/v1"]) && has(&[CLUSTER[0], CLUSTER[1], OPERATOR]));
    assert!(!has(&[CLUSTER[0], CLUSTER[1], "--api-versions=monitoring.coreos.com/v1/PrometheusRule"]));
}

/// A key that the schema has and values.yaml has not would be one that nobody hears of, the other way round one that is
/// refused. Keys that are known only to be refused are said to be so.
#[test]
fn schema_and_values_have_the_same_keys() {
    let (values, schema) = (yaml("chart/values.yaml"), yaml("chart/values.schema.json"));
    let mut compared = 0;
    compare("", &values, &schema, &schema, &mut compared);
    assert!(compared > 100, "only {compared} keys were compared");
}

fn compare(place: &str, value: &Value, schema: &Value, root: &Value, compared: &mut usize) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => &root["definitions"][reference.trim_start_matches("#/definitions/")],
        None => schema,
    };
    let (Some(properties), Some(value)) = (schema["properties"].as_object(), value.as_object()) else { return };
    let known = |key: &&String| {
        let refused = |word| properties[*key]["description"].as_str().is_some_and(|text| text.starts_with(word));
        !["Refused when rendered", "What YAML makes of", "For a parent chart"].into_iter().any(refused)
    };
    let keys = |map: &Map<String, Value>| map.keys().cloned().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(
        properties.keys().filter(known).cloned().collect::<std::collections::BTreeSet<_>>(),
        keys(value),
        "{place}"
    );
    if place != "/global" {
        assert_eq!(schema["additionalProperties"], false, "{place} takes anything");
    }
    for (key, value) in value {
        *compared += 1;
        compare(&format!("{place}/{key}"), value, &properties[key], root, compared);
    }
}
