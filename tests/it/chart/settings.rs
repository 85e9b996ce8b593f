//! Values and the agent's own settings: each setting can be reached, each case is one that the agent takes, and what is not
//! said is left to the agent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spotwarden::config::otlp::VARIABLES;
use spotwarden::config::parse::{RunConfig, run_config};
use spotwarden::config::settings::{Environment, SETTINGS};

use super::{Helm, cases, container, documents, objects, of_kind, rendered};

/// What the downward API would give.
fn field(path: &str) -> &'static str {
    match path {
        "spec.nodeName" => "ip-10-0-1-23.ec2.internal",
        "metadata.name" => "spotwarden-x7k2p",
        "metadata.namespace" => "spotwarden",
        "metadata.uid" => "8f9c1f0e-0000-4000-8000-000000000000",
        "status.hostIP" | "status.podIP" => "10.0.1.23",
        other => panic!("{other} is not of the downward API, as far as is known here"),
    }
}

fn environment(container: &Value) -> BTreeMap<String, String> {
    super::environment(container, |path| field(path).to_owned())
}

/// The agent's own judgement of a container's arguments and environment.
pub(super) fn judged(container: &Value) -> Result<RunConfig, String> {
    let arguments: Vec<&str> =
        container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    let (command, flags) = arguments.split_first().unwrap();
    assert!(["run", "check"].contains(command), "{command}");
    let flags: BTreeMap<&str, &str> =
        flags.iter().map(|flag| flag.strip_prefix("--").and_then(|flag| flag.split_once('=')).unwrap()).collect();
    let environment: Environment = environment(container).into_iter().collect();
    run_config(&|flag| flags.get(flag).map(|value| (*value).to_owned()), &environment)
        .map_err(|error| error.to_string())
}

fn case(name: &str) -> Vec<Value> {
    documents(&rendered(Helm("helm4"), &["--values", &format!("chart/ci/{name}-values.yaml")]))
}

#[test]
fn every_setting_of_run_and_every_variable_of_opentelemetry_can_be_reached_by_a_value() {
    let objects = case("everything");
    let set: BTreeSet<String> = environment(container(of_kind(&objects, "DaemonSet").unwrap())).into_keys().collect();
    let settings = SETTINGS.iter().map(|setting| setting.env);
    let others = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "RUST_BACKTRACE"];
    let imds = ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"];
    let downward = ["POD_NAME", "POD_NAMESPACE", "POD_UID", "HOST_IP", "POD_IP"];
    let known = settings.chain(VARIABLES).chain(others).chain(imds).chain(downward);
    assert_eq!(set, known.map(str::to_owned).collect(), "left: what the case `everything` sets");
}

/// None of it is the default, so each value can be seen to arrive.
#[test]
fn no_setting_of_the_case_everything_is_at_its_default() {
    let objects = case("everything");
    let set = environment(container(of_kind(&objects, "DaemonSet").unwrap()));
    let same = SETTINGS.iter().filter(|setting| set.get(setting.env).map(String::as_str) == setting.default);
    let same: Vec<_> = same.map(|setting| setting.env).collect();
    // `auto` is the only mode in which the addresses beside it are used, and a taint key goes with no other style.
    assert_eq!(same, ["SPOTWARDEN_NODE_MARKS", "SPOTWARDEN_CNI_HEADROOM"]);
}

#[test]
fn the_agent_takes_what_every_case_renders() {
    for (name, _) in cases() {
        let objects = case(&name);
        for kind in ["DaemonSet", "Pod"] {
            let container = container(of_kind(&objects, kind).unwrap());
            judged(container).unwrap_or_else(|error| panic!("{name}, {kind}: {error}"));
        }
    }
}

#[test]
fn what_is_not_said_is_left_to_the_agent() {
    let objects = objects("{}");
    let container = container(of_kind(&objects, "DaemonSet").unwrap());
    let set: Vec<_> = environment(container).into_keys().collect();
    let downward = ["HOST_IP", "NODE_NAME", "POD_IP", "POD_NAME", "POD_NAMESPACE", "POD_UID"];
    assert_eq!(set, [&downward[..], &["SPOTWARDEN_ADMIN_ADDRESS"]].concat());
    let mut expected = spotwarden::config::Config::for_node(field("spec.nodeName"));
    expected.admin_address = "10.0.1.23:9808".parse().unwrap();
    assert_eq!(judged(container).unwrap().agent, expected);
}

/// The doctor of `helm test` sees what the agent sees.
#[test]
fn the_pod_of_the_test_has_the_environment_and_the_place_of_the_agent() {
    for (name, _) in cases() {
        let objects = case(&name);
        let (agent, check) = (of_kind(&objects, "DaemonSet").unwrap(), of_kind(&objects, "Pod").unwrap());
        assert_eq!(container(check)["args"][0], "check");
        assert_eq!(environment(container(check)), environment(container(agent)), "{name}");
        let (mut agent, mut check) = (agent["spec"]["template"]["spec"].clone(), check["spec"].clone());
        for spec in [&mut agent, &mut check] {
            spec.as_object_mut().unwrap().remove("containers");
        }
        assert_eq!(check.as_object_mut().unwrap().remove("restartPolicy"), Some("Never".into()));
        assert_eq!(check, agent, "{name}");
    }
}

/// A value at a time: what it becomes, and that nothing else changes.
#[rstest::rstest]
#[case("{cni: {headroom: off}}", &[("SPOTWARDEN_CNI_HEADROOM", "off")])]
#[case("{hostNetwork: false}", &[("SPOTWARDEN_CNI_HEADROOM", "off")])]
#[case("{hostNetwork: false, cni: {headroom: auto}}", &[("SPOTWARDEN_CNI_HEADROOM", "auto")])]
#[case("{hostNetwork: false, cni: {introspectionAddress: '10.0.0.1:61679'}}",
    &[("SPOTWARDEN_CNI_INTROSPECTION_ADDRESS", "10.0.0.1:61679")])]
#[case("{notifications: {on: [asg-termination]}}", &[("SPOTWARDEN_NOTIFY_ON", "asg-termination")])]
#[case("{notifications: {'on': all}}", &[("SPOTWARDEN_NOTIFY_ON", "all")])]
#[case("{dryRun: true}", &[("SPOTWARDEN_DRY_RUN", "true")])]
#[case("{dryRun: false}", &[])]
#[case("{otlp: {metrics: {interval: 1000000}}}", &[("OTEL_METRIC_EXPORT_INTERVAL", "1000000")])]
#[case("{clusterName: blue}", &[("SPOTWARDEN_CLUSTER_NAME", "blue")])]
#[case("{otlp: {endpoint: 'http://c:4318', resourceAttributes: {k8s.daemonset.name: mine, who: 'a,b=c d$(NODE_NAME)'}}}", &[
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
    ("OTEL_RESOURCE_ATTRIBUTES", "k8s.daemonset.name=mine,who=a%2Cb%3Dc%20dip-10-0-1-23.ec2.internal"),
])]
fn a_value_becomes_its_variable_and_nothing_else(#[case] values: &str, #[case] expected: &[(&str, &str)]) {
    let [without, with] =
        ["{}", values].map(|values| environment(container(of_kind(&objects(values), "DaemonSet").unwrap())));
    let more: BTreeMap<_, _> = with.iter().filter(|(name, _)| !without.contains_key(*name)).collect();
    let more: Vec<_> = more.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(more, expected);
    assert!(without.iter().all(|(name, value)| with.get(name) == Some(value)));
}
