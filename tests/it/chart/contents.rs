//! What is in the rendered objects, beyond the settings.

use serde_json::{Value, json};

use super::{Helm, KUBERNETES, MAJORS, cases, container, documents, objects, of_kind, rendered};
use crate::peers::{Folder, root, text};

fn daemon_set(values: &str) -> Value {
    of_kind(&objects(values), "DaemonSet").unwrap().clone()
}

#[rstest::rstest]
#[case("{}", "spotwarden:0.1.0")]
#[case("{image: {tag: v2}}", "spotwarden:v2")]
#[case("{image: {registry: 'registry.example.com:5000', repository: a/b}}", "registry.example.com:5000/a/b:0.1.0")]
#[case(
    "{global: {imageRegistry: g.example.com}, image: {registry: registry.example.com}}",
    "g.example.com/spotwarden:0.1.0"
)]
#[case(
    "{image: {digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}",
    "spotwarden@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)]
#[case(
    "{image: {tag: v2, digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}",
    "spotwarden:v2@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)]
fn the_image_is_put_together(#[case] values: &str, #[case] expected: &str) {
    let expected = expected.replace("0.1.0", env!("CARGO_PKG_VERSION"));
    assert_eq!(container(&daemon_set(values))["image"], expected);
}

#[rstest::rstest]
#[case("{}", "Default")]
#[case("{otlp: {endpoint: 'http://$(HOST_IP):4318'}}", "Default")]
#[case("{otlp: {endpoint: 'https://collector.example.com'}}", "Default")]
#[case("{otlp: {endpoint: 'http://[fd00::1]:4318'}}", "Default")]
#[case("{otlp: {endpoint: 'http://localhost:4318'}}", "Default")]
#[case("{otlp: {endpoint: 'http://collector:4318'}}", "ClusterFirstWithHostNet")]
#[case("{otlp: {traces: {endpoint: 'http://collector.observability.svc:4318/v1/traces'}}}", "ClusterFirstWithHostNet")]
#[case("{otlp: {endpoint: 'http://collector.a.svc.cluster.local:4318'}, hostNetwork: false}", "ClusterFirst")]
#[case("{egress: {httpsProxy: 'http://proxy.egress.svc.example.com:3128'}}", "ClusterFirstWithHostNet")]
#[case("{notifications: {alertmanager: {urls: ['http://a.monitoring.svc:9093']}}}", "ClusterFirstWithHostNet")]
#[case("{notifications: {alertmanager: {urls: ['http://a.monitoring.svc:9093']}}, dnsPolicy: Default}", "Default")]
fn the_cluster_s_dns_is_used_where_an_address_needs_it(#[case] values: &str, #[case] expected: &str) {
    assert_eq!(daemon_set(values)["spec"]["template"]["spec"]["dnsPolicy"], expected);
}

/// The selector of a DaemonSet cannot change: no value but the names may reach it, and the labels of versions never do.
#[test]
fn no_upgrade_changes_the_selector_and_every_pod_matches_it() {
    for (name, file) in cases() {
        let objects = documents(&rendered(Helm("helm4"), &["--values", &file]));
        let spec = &of_kind(&objects, "DaemonSet").unwrap()["spec"];
        let selector = json!({"app.kubernetes.io/name": "spotwarden", "app.kubernetes.io/instance": "spotwarden"});
        assert_eq!(spec["selector"]["matchLabels"], selector, "{name}");
        let labels = spec["template"]["metadata"]["labels"].as_object().unwrap();
        assert!(selector.as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value)), "{name}");
        assert!(!labels.contains_key("app.kubernetes.io/version") && !labels.contains_key("helm.sh/chart"), "{name}");
    }
}

/// The DaemonSet's controller would take a pod that matches for one of its own, and remove it.
#[test]
fn the_pod_of_the_test_does_not_match_the_selector() {
    for (name, file) in cases() {
        let objects = documents(&rendered(Helm("helm4"), &["--values", &file]));
        let labels = &of_kind(&objects, "Pod").unwrap()["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], "spotwarden-check", "{name}");
    }
}

#[test]
fn labels_of_the_user_reach_objects_and_pods_and_never_take_the_place_of_ours() {
    let values =
        "{commonLabels: {team: a, app.kubernetes.io/name: x}, podLabels: {app.kubernetes.io/instance: other, p: q}}";
    for object in objects(values).iter().filter(|object| object["kind"] != "Pod") {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["team"], "a", "{object}");
        assert_eq!(labels["app.kubernetes.io/name"], "spotwarden", "{object}");
        assert_eq!(labels["app.kubernetes.io/part-of"], "spotwarden");
    }
    let labels = daemon_set(values)["spec"]["template"]["metadata"]["labels"].clone();
    let expected = json!({
        "app.kubernetes.io/name": "spotwarden", "app.kubernetes.io/instance": "spotwarden",
        "app.kubernetes.io/component": "agent", "team": "a", "p": "q",
    });
    assert_eq!(labels, expected);
}

/// What a secret is in never leaves its Secret, and an agent starts without one that is not there yet.
#[test]
fn secrets_are_files_of_existing_secrets() {
    let objects = documents(&rendered(Helm("helm4"), &["--values=chart/ci/everything-values.yaml"]));
    assert!(of_kind(&objects, "Secret").is_none());
    let daemon_set = of_kind(&objects, "DaemonSet").unwrap();
    let variables = container(daemon_set)["env"].as_array().unwrap();
    assert!(variables.iter().all(|variable| variable["valueFrom"]["secretKeyRef"].is_null()));
    let mounts = container(daemon_set)["volumeMounts"].as_array().unwrap();
    let file = |variable: &str| {
        let variable = variables.iter().find(|entry| entry["name"] == variable).unwrap_or_else(|| panic!("{variable}"));
        let path = variable["value"].as_str().unwrap();
        let (folder, name) = path.rsplit_once('/').unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == folder).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(mount["readOnly"], true);
        let volumes = daemon_set["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let secret = &volume["secret"];
        let item = secret["items"].as_array().unwrap().iter().find(|item| item["path"] == name).unwrap();
        (secret["secretName"].clone(), item["key"].clone(), secret["optional"].clone())
    };
    let optional = |name: &str, key: &str| (json!(name), json!(key), json!(true));
    assert_eq!(file("SPOTWARDEN_SLACK_WEBHOOK_URL_FILE"), optional("spotwarden-slack", "url"));
    assert_eq!(file("SPOTWARDEN_WEBHOOK_URL_FILE"), optional("spotwarden-webhook", "url"));
    assert_eq!(file("SPOTWARDEN_ALERTMANAGER_AUTH_FILE"), optional("spotwarden-alertmanager", "header"));
    assert_eq!(file("SPOTWARDEN_OTLP_HEADERS_FILE"), optional("spotwarden-otlp", "headers"));
    assert_eq!(file("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"), optional("traces-tls", "client.key"));
    assert_eq!(file("OTEL_EXPORTER_OTLP_CERTIFICATE"), optional("collector-tls", "ca.crt"));
    assert_eq!(file("KUBECONFIG"), (json!("spotwarden-kubeconfig"), json!("kubeconfig"), json!(false)));
}

#[test]
fn an_update_strategy_of_the_user_replaces_what_does_not_fit_it() {
    let strategy = |values| daemon_set(values)["spec"]["updateStrategy"].clone();
    assert_eq!(strategy("{updateStrategy: {type: OnDelete}}"), json!({"type": "OnDelete"}));
    let expected = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
    assert_eq!(strategy("{updateStrategy: {rollingUpdate: {maxUnavailable: 1}}}"), expected);
}

#[test]
fn defaults_can_be_taken_away() {
    let values = "{affinity: null, tolerations: null, resources: null, livenessProbe: null, priorityClassName: ''}";
    let spec = daemon_set(values)["spec"]["template"]["spec"].clone();
    for key in ["affinity", "tolerations", "priorityClassName"] {
        assert!(spec.get(key).is_none(), "{key}");
    }
    assert!(spec["containers"][0].get("resources").is_none() && spec["containers"][0].get("livenessProbe").is_none());
}

#[test]
fn a_network_policy_lets_the_agent_reach_what_it_was_told_to() {
    let values = "{hostNetwork: false, networkPolicy: {enabled: true}, otlp: {endpoint: 'https://c.example.com'}, \
        notifications: {alertmanager: {urls: ['http://a.m.svc:9093', 'http://b.m.svc:9093/prefix']}}}";
    let objects = objects(values);
    let spec = &of_kind(&objects, "NetworkPolicy").unwrap()["spec"];
    let ports = |rule: &Value| {
        let ports = rule["ports"].as_array().unwrap();
        ports.iter().map(|port| port["port"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let egress: Vec<_> = spec["egress"].as_array().unwrap().iter().map(ports).collect();
    assert_eq!(egress, [vec![80], vec![443], vec![53, 53], vec![9093]]);
    assert_eq!(spec["ingress"], json!([{"ports": [{"port": "admin", "protocol": "TCP"}]}]));
    let selector = &of_kind(&objects, "DaemonSet").unwrap()["spec"]["selector"]["matchLabels"];
    assert_eq!(&spec["podSelector"]["matchLabels"], selector);
}

#[test]
fn names_follow_release_and_overrides() {
    let names = |more: &[&str]| {
        let text = rendered(Helm("helm4"), more);
        let objects = documents(&text);
        let kinds = ["DaemonSet", "ClusterRole", "ServiceAccount"];
        kinds.map(|kind| of_kind(&objects, kind).unwrap()["metadata"]["name"].as_str().unwrap().to_owned())
    };
    assert_eq!(names(&[]), ["spotwarden", "spotwarden", "spotwarden"]);
    assert_eq!(names(&["--set=fullnameOverride=a"]), ["a", "a", "a"]);
    assert_eq!(names(&["--set=nameOverride=warden"]), ["spotwarden", "spotwarden", "spotwarden"]);
    assert_eq!(names(&["--set=nameOverride=x7"]), ["spotwarden-x7", "spotwarden-x7", "spotwarden-x7"]);
    assert_eq!(names(&["--set=serviceAccount.name=a"]), ["spotwarden", "spotwarden", "a"]);
    let objects = documents(&rendered(Helm("helm4"), &["--set=namespaceOverride=elsewhere"]));
    let namespaced = objects.iter().filter(|object| object["metadata"]["namespace"] == "elsewhere").count();
    assert_eq!(namespaced, 3, "account, DaemonSet and the test's pod");
    let subject = &of_kind(&objects, "ClusterRoleBinding").unwrap()["subjects"][0];
    assert_eq!(subject["namespace"], "elsewhere");
}

/// As a part of somebody's chart of charts: with its condition, its global values, and below its own key.
#[test]
fn a_parent_chart_can_have_it() {
    let folder = Folder::new("chart-parent");
    std::fs::create_dir(folder.path("charts")).unwrap();
    std::os::unix::fs::symlink(root().join("chart"), folder.path("charts/spotwarden")).unwrap();
    let dependency = json!({"name": "spotwarden", "version": "*", "condition": "spotwarden.enabled"});
    let chart = json!({"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]});
    folder.write("Chart.yaml", &chart.to_string());
    let values = |enabled: bool| {
        json!({
            "global": {"imageRegistry": "registry.example.com", "others": {"of": "the parent"}},
            "spotwarden": {"enabled": enabled, "dryRun": true},
        })
    };
    let path = folder.path("");
    for helm in MAJORS {
        let template = |enabled| {
            let values = folder.write("values.yaml", &values(enabled).to_string());
            let arguments =
                ["template", "a", path.to_str().unwrap(), "--kube-version", KUBERNETES, "--values", &values];
            let said = helm.run(&arguments);
            assert!(said.passed, "{helm:?}: {}", said.err);
            documents(&said.out)
        };
        assert!(template(false).is_empty());
        let objects = template(true);
        let image = container(of_kind(&objects, "DaemonSet").unwrap())["image"].as_str().unwrap().to_owned();
        assert_eq!(image, format!("registry.example.com/spotwarden:{}", env!("CARGO_PKG_VERSION")));
    }
}

/// The first number behind `word` in the measured column of a row of docs/figures.md.
fn figure(row: &str, word: &str) -> f64 {
    let figures = text("docs/figures.md");
    let line = figures.lines().find(|line| line.contains(row)).unwrap_or_else(|| panic!("no row `{row}`"));
    let measured = line.split('|').nth(3).unwrap();
    let number = measured.split_whitespace().find_map(|word| word.parse().ok());
    assert!(measured.contains(word), "{row}: {measured} is not in {word}");
    number.unwrap_or_else(|| panic!("{row}: {measured}"))
}

/// Bytes of a quantity with a binary suffix.
fn bytes(quantity: &Value) -> f64 {
    let mebibytes: u32 = quantity.as_str().unwrap().strip_suffix("Mi").unwrap().parse().unwrap();
    f64::from(mebibytes) * 1024.0 * 1024.0
}

/// The request is what the agent needs at most, so that a node that is short of memory finds others first; the limit
/// leaves the double of it.
#[test]
fn requests_and_limits_follow_from_what_was_measured() {
    let daemon_set = daemon_set("{}");
    let resources = &container(&daemon_set)["resources"];
    let peaks = ["memory at most (VmHWM)", "memory with every way of telling switched on, 110 pods: at most"];
    let peak = peaks.map(|row| figure(row, "MB") * 1e6).into_iter().fold(0.0, f64::max);
    let (request, limit) = (bytes(&resources["requests"]["memory"]), bytes(&resources["limits"]["memory"]));
    assert!(peak <= request && request <= 2.5 * peak, "at most {peak}, requested {request}");
    assert!(2.0 * peak <= limit && limit <= 5.0 * peak, "at most {peak}, limit {limit}");
    let idle = figure("CPU while idle", "millicores");
    let cpu: f64 = resources["requests"]["cpu"].as_str().unwrap().strip_suffix('m').unwrap().parse().unwrap();
    assert!(2.0 * idle <= cpu && cpu <= 20.0 * idle, "idle {idle}, requested {cpu}");
    assert!(resources["limits"].get("cpu").is_none(), "being throttled during a drain costs the deadline");
}
