//! What stands in several places says the same in each of them.

use serde_json::{Value, json};

use super::objects::{find, id};
use super::{Copy, build, folders, gitops};
use crate::peers::{root, text, yaml};

/// One component's objects, with those of the base.
fn with(component: &str) -> Vec<Value> {
    Copy::new(component).build(&[component])
}

/// `sendResolved` for `send_resolved`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |all, word| match word {
        "url" => all + "URL",
        word => all + &word[..1].to_uppercase() + &word[1..],
    })
}

fn in_camel_case(value: &Value) -> Value {
    let fields = value.as_object().unwrap().iter();
    fields.map(|(name, value)| (camel_case(name), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// A matcher of Alertmanager's configuration as the resource has it.
fn matcher(text: &Value) -> Value {
    let text = text.as_str().unwrap();
    let (name, value) = text.split_once('=').unwrap();
    let (value, regex) = value.strip_prefix('~').map_or((value, false), |value| (value, true));
    let mut matcher = json!({"name": name, "value": value.trim_matches('"')});
    if regex {
        matcher["matchType"] = json!("=~");
    }
    matcher
}

fn matchers(texts: &Value) -> Value {
    texts.as_array().unwrap().iter().map(matcher).collect()
}

/// The route as the resource has it, `receiver` and matchers first.
fn route(route: &Value) -> Value {
    let mut route = in_camel_case(route);
    route["matchers"] = matchers(&route["matchers"]);
    route
}

#[test]
fn the_alertmanager_config_is_the_configuration_of_monitoring() {
    let plain = yaml("monitoring/alertmanager.yaml");
    let objects = with("alertmanager-config");
    let spec = &find(&objects, "AlertmanagerConfig", "spotwarden").unwrap()["spec"];

    // The operator puts it into the Alertmanager's own route, whose receiver is not its business. So the last of the routes
    // is the head, and the first, which is asked before it, is below it.
    let [interruptions, health] = plain["route"]["routes"].as_array().unwrap().as_slice() else { panic!("two routes") };
    let mut expected = route(health);
    expected["routes"] = json!([route(interruptions)]);
    assert_eq!(spec["route"], expected);

    let rules = plain["inhibit_rules"].as_array().unwrap().iter().map(|rule| {
        json!({
            "sourceMatch": matchers(&rule["source_matchers"]),
            "targetMatch": matchers(&rule["target_matchers"]),
            "equal": rule["equal"],
        })
    });
    assert_eq!(spec["inhibitRules"], rules.collect::<Value>());

    let receivers = plain["receivers"].as_array().unwrap().iter().filter(|receiver| receiver["name"] != "others");
    let receivers = receivers.map(|receiver| {
        let mut slack = in_camel_case(&receiver["slack_configs"][0]);
        assert!(slack.as_object_mut().unwrap().remove("apiURLFile").is_some(), "{slack}");
        // Where the agents' own messages have it from, too: component `slack`.
        slack["apiURL"] = json!({"name": "spotwarden-slack", "key": "url"});
        json!({"name": receiver["name"], "slackConfigs": [slack]})
    });
    assert_eq!(spec["receivers"], receivers.collect::<Value>());
}

#[test]
fn both_monitors_scrape_as_the_configuration_of_prometheus_does() {
    let plain = &yaml("monitoring/prometheus.yaml")["scrape_configs"][0];
    // Which pods and which port a monitor says in another way.
    let relabelings = plain["relabel_configs"].as_array().unwrap().iter().filter(|rule| rule["action"] != "keep");
    let relabelings: Value = relabelings.map(in_camel_case).collect();
    for (component, kind, endpoints) in
        [("podmonitor", "PodMonitor", "podMetricsEndpoints"), ("servicemonitor", "ServiceMonitor", "endpoints")]
    {
        let objects = with(component);
        let spec = &find(&objects, kind, "spotwarden").unwrap()["spec"];
        assert_eq!(spec["sampleLimit"], plain["sample_limit"], "{kind}");
        assert_eq!(spec["attachMetadata"], plain["kubernetes_sd_configs"][0]["attach_metadata"], "{kind}");
        let daemon_set = find(&objects, "DaemonSet", "spotwarden").unwrap();
        assert_eq!(spec["selector"]["matchLabels"], daemon_set["spec"]["selector"]["matchLabels"], "{kind}");
        // The job of the rules is the value of this label.
        assert_eq!(spec["jobLabel"], "app.kubernetes.io/name", "{kind}");
        assert_eq!(daemon_set["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"], plain["job_name"]);
        let endpoint = &spec[endpoints][0];
        assert_eq!(endpoint["port"], "admin", "{kind}");
        assert_eq!(endpoint["interval"], plain["scrape_interval"], "{kind}");
        assert_eq!(endpoint["scrapeTimeout"], plain["scrape_timeout"], "{kind}");
        assert_eq!(endpoint["relabelings"], relabelings, "{kind}");
        assert_eq!(spec[endpoints].as_array().unwrap().len(), 1, "{kind}");
    }
}

/// With taints that the policy does not know, no node would be fenced.
#[test]
fn the_policy_knows_the_keys_of_the_other_handler_as_the_chart_has_them() {
    let of_chart = gitops::chart("spotwarden", "spotwarden", &json!({"nodeMarks": "aws-node-termination-handler"}));
    let [of_chart, of_component] = [of_chart, with("nth-compatible-taints")].map(|objects| {
        find(&objects, "ValidatingAdmissionPolicy", "spotwarden-own-node").unwrap()["spec"]["variables"].clone()
    });
    let text = of_component.to_string();
    for kind in ["spot-itn", "rebalance-recommendation", "scheduled-maintenance", "asg-lifecycle-termination"] {
        assert!(text.contains(&format!("'aws-node-termination-handler/{kind}'")), "{kind}");
    }
    assert_eq!(of_component, of_chart);
}

/// What is deleted by label is all of it.
#[test]
fn every_object_carries_the_labels_of_the_installation() {
    let names = folders("manifests/components");
    let copy = Copy::new("labels");
    let together: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut objects = copy.build(&together);
    for name in names {
        objects.extend(copy.build(&[&name]));
    }
    for object in objects {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/instance"], "spotwarden", "{}", id(&object));
        assert_eq!(labels["app.kubernetes.io/part-of"], "spotwarden", "{}", id(&object));
        assert!(labels["app.kubernetes.io/name"].as_str().unwrap().starts_with("spotwarden"), "{}", id(&object));
    }
}

/// The collector's traces arrive where the agents send them.
#[test]
fn the_collector_listens_where_the_agents_send() {
    let objects = with("adot-collector");
    let service = find(&objects, "Service", "spotwarden-collector").unwrap();
    let deployment = find(&objects, "Deployment", "spotwarden-collector").unwrap();
    let pod = &deployment["spec"]["template"];
    assert_eq!(service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]);
    let port = &service["spec"]["ports"][0];
    let metadata = &service["metadata"];
    let endpoint = format!(
        "http://{}.{}.svc:{}/v1/traces",
        metadata["name"].as_str().unwrap(),
        metadata["namespace"].as_str().unwrap(),
        port["port"]
    );
    let environment = super::agent::environment(&objects, "192.0.2.23");
    assert!(environment.contains(&("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT".into(), endpoint)), "{environment:?}");
    let container = &pod["spec"]["containers"][0];
    let listening = container["ports"].as_array().unwrap().iter().find(|open| open["name"] == port["targetPort"]);
    let configuration = yaml("monitoring/collector/adot.yaml");
    let receiver = configuration["receivers"]["otlp"]["protocols"]["http"]["endpoint"].as_str().unwrap();
    assert_eq!(receiver, format!("${{env:MY_POD_IP}}:{}", listening.unwrap()["containerPort"]));
    // Every variable of the configuration is one of the container's.
    let used = text("monitoring/collector/adot.yaml");
    let used = used.split("${env:").skip(1).map(|rest| rest.split('}').next().unwrap());
    let names: Vec<&str> =
        container["env"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    for name in used.filter(|name| *name != "NODE_NAME") {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

/// Where no shell sets it, nothing of it may be looked for outside of the cluster's DNS.
#[test]
fn what_names_a_service_uses_the_cluster_s_dns() {
    let names = folders("manifests/components");
    let copy = Copy::new("dns");
    let mut asked = Vec::new();
    for name in &names {
        let objects = copy.build(&[name]);
        let values = super::agent::environment(&objects, "192.0.2.23");
        let by_name = values.iter().any(|(_, value)| value.contains(".svc:") || value.contains(".svc/"));
        let policy = &super::objects::agent_pod(&objects)["spec"]["dnsPolicy"];
        assert_eq!(policy, if by_name { "ClusterFirstWithHostNet" } else { "Default" }, "{name}");
        asked.extend(by_name.then_some(name.as_str()));
    }
    assert_eq!(asked, ["adot-collector", "notify-alertmanager"]);
}

#[test]
fn the_page_has_a_row_for_each_component_and_overlay() {
    let page = text("docs/install-kustomize.md");
    for folder in ["components", "overlays"] {
        let rows = page.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("| [")?.split_once("](")?;
            line.contains(&format!("](../manifests/{folder}/")).then_some(name)
        });
        let mut rows: Vec<&str> = rows.collect();
        rows.sort_unstable();
        assert_eq!(rows, folders(&format!("manifests/{folder}")), "{folder} of docs/install-kustomize.md");
    }
}

/// An overlay picks and sets; what it would patch beyond values belongs into a component.
#[test]
fn the_agent_of_every_overlay_starts() {
    for name in folders("manifests/overlays") {
        let objects = build(&root().join("manifests/overlays").join(&name));
        let config = super::agent::configuration(&objects, "192.0.2.23");
        let named = config.agent.notify.cluster.as_deref();
        assert_eq!(named, if name == "dev" { None } else { Some("production") }, "{name}");
    }
}
