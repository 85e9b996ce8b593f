//! The route against a real Alertmanager and a stand-in for Slack: how many messages, and which.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::contents::alerts;
use crate::peers::alertmanager::{Alertmanager, shipped};
use crate::peers::slack::{Message, SlackStandIn};
use crate::peers::{Folder, ask, eventually, root};

/// The first message goes after the wait of the tests, one second; this is far above it on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);
/// What is not there so long after the first message is in no first message.
const SETTLED: Duration = Duration::from_secs(2);

fn alert(name: &str, labels: &Value, description: &str) -> Value {
    let mut all = json!({"alertname": name, "severity": "warning"});
    for (label, value) in labels.as_object().unwrap() {
        all[label] = value.clone();
    }
    let summary =
        alerts().get(name).map_or_else(|| json!("Something else."), |alert| alert["annotations"]["summary"].clone());
    json!({"labels": all, "annotations": {"summary": summary, "description": description}})
}

/// As the rule makes it, for node `number` of the cluster.
fn interruption(cluster: &str, nodegroup: u32, number: u32) -> Value {
    let labels = json!({"cluster": cluster, "nodegroup": format!("ng-{nodegroup}"), "node": format!("n{number}")});
    alert("SpotwardenNodeInterruption", &labels, &format!("Node n{number} is to stop."))
}

fn storm(cluster: &str) -> Value {
    alert(
        "SpotwardenInterruptionStorm",
        &json!({"cluster": cluster, "severity": "critical"}),
        "200 nodes got a notice.",
    )
}

fn with_node(name: &str, cluster: &str, node: &str) -> Value {
    alert(name, &json!({"cluster": cluster, "node": node}), "Node.")
}

/// The paths and first lines of the messages that are about `cluster`.
fn about(messages: &[Message], cluster: &str) -> Vec<(String, String)> {
    let about = messages.iter().filter(|message| message.words().contains(cluster));
    about.map(|message| (message.path.clone(), message.words().lines().next().unwrap_or_default().to_owned())).collect()
}

#[test]
fn amtool_finds_nothing_to_complain_about() {
    let file = root().join("monitoring/alertmanager.yaml");
    let (passed, said) = ask("alertmanager", "amtool", &["check-config", file.to_str().unwrap()]);
    assert!(passed && said.contains("3 inhibit rules"), "{said}");
}

/// Each node's alert comes by itself, as agents push them, and all of it is one message that a telephone can show.
#[test]
fn two_hundred_nodes_are_one_message() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let mut config = shipped(&slack, &urls);
    // A tenth of what is shipped: long enough for all of them, as the other is for a scrape and an evaluation.
    config["route"]["routes"][0]["group_wait"] = "3s".into();
    let alertmanager = Alertmanager::start(&config);
    for number in 0..200 {
        alertmanager.push(&[interruption("one", number % 5, number)]);
    }
    eventually("a message", LIMIT, || slack.messages().first().cloned());
    thread::sleep(SETTLED);
    let messages = slack.messages();
    slack.assert_content();
    assert_eq!(messages.len(), 1, "{messages:#?}");
    assert_eq!(alertmanager.alerts().len(), 200);
    let words = messages[0].words();
    assert!(words.contains("[FIRING:200] SpotwardenNodeInterruption (one)"), "{words}");
    assert!(words.contains("A spot node is being reclaimed.\n• Node n"), "{words}");
    assert_eq!(words.matches("• ").count(), 10, "{words}");
    assert!(words.contains("and 190 more"), "{words}");
}

/// All in one Alertmanager, each case in a cluster of its own, since clusters do not touch each other.
#[test]
fn what_is_said_already_is_not_said_again() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let alertmanager = Alertmanager::start(&shipped(&slack, &urls));
    let mut pushed: Vec<Value> = (0..200).map(|number| interruption("with-storm", number % 5, number)).collect();
    pushed.push(storm("with-storm"));
    pushed.push(with_node("TargetDown", "with-storm", "any"));
    pushed.extend([interruption("unready", 0, 1), with_node("KubeNodeNotReady", "unready", "n1")]);
    pushed.extend([interruption("unready-other", 0, 1), with_node("KubeNodeNotReady", "unready-other", "n2")]);
    // An alert that is muted itself mutes all the same.
    pushed.extend([
        storm("muted-mutes"),
        interruption("muted-mutes", 0, 1),
        with_node("KubeNodeUnreachable", "muted-mutes", "n1"),
    ]);
    // Only the source has the label.
    pushed.extend([storm("one-sided"), alert("TargetDown", &json!({"job": "one-sided"}), "one-sided")]);
    pushed.extend([
        with_node("SpotwardenPodIPsExhausted", "full", "n1"),
        with_node("SpotwardenPodIPStarvation", "full", "n1"),
    ]);
    pushed.extend([
        with_node("SpotwardenPodIPsExhausted", "two-causes", "n1"),
        alert("SpotwardenSubnetRefusing", &json!({"cluster": "two-causes", "subnet_id": "subnet-1"}), "subnet-1."),
    ]);
    alertmanager.push(&pushed);

    eventually("a message about each cluster", LIMIT, || {
        let messages = slack.messages();
        let clusters = ["with-storm", "unready", "unready-other", "muted-mutes", "one-sided", "full", "two-causes"];
        clusters.iter().all(|cluster| !about(&messages, cluster).is_empty()).then_some(())
    });
    thread::sleep(SETTLED);
    let messages = slack.messages();
    slack.assert_content();
    let of = |cluster: &str| {
        // `unready-other` is no message about `unready`.
        let mut found = about(&messages, &format!("({cluster})"));
        found.sort();
        found.into_iter().map(|(path, title)| format!("{path} {title}")).collect::<Vec<_>>()
    };
    assert_eq!(of("with-storm"), ["/spotwarden-interruptions [FIRING:1] SpotwardenInterruptionStorm (with-storm)"]);
    assert_eq!(of("unready"), ["/spotwarden-interruptions [FIRING:1] SpotwardenNodeInterruption (unready)"]);
    assert_eq!(
        of("unready-other"),
        ["/spotwarden-interruptions [FIRING:1] SpotwardenNodeInterruption (unready-other)"]
    );
    assert_eq!(of("muted-mutes"), ["/spotwarden-interruptions [FIRING:1] SpotwardenInterruptionStorm (muted-mutes)"]);
    assert_eq!(of("one-sided"), ["/spotwarden-interruptions [FIRING:1] SpotwardenInterruptionStorm (one-sided)"]);
    assert_eq!(of("full"), ["/spotwarden-health [FIRING:1] SpotwardenPodIPsExhausted (full)"]);
    assert_eq!(
        of("two-causes"),
        [
            "/spotwarden-health [FIRING:1] SpotwardenPodIPsExhausted (two-causes)",
            "/spotwarden-health [FIRING:1] SpotwardenSubnetRefusing (two-causes)",
        ]
    );
    // What others say of the nodes went to the other receiver, where nothing was muted.
    let others: Vec<_> = messages.iter().filter(|message| message.path == "/others").collect();
    let said: Vec<_> = others.iter().map(|message| message.words()).collect();
    assert_eq!(said.iter().filter(|words| words.contains("unready-other")).count(), 1, "{said:?}");
    assert_eq!(others.len(), 2, "TargetDown without a cluster and KubeNodeNotReady of another node: {said:?}");
}

/// Why every alert needs the label `cluster` where several clusters share an Alertmanager.
#[test]
fn a_label_that_is_missing_on_both_sides_counts_as_equal() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let alertmanager = Alertmanager::start(&shipped(&slack, &urls));
    let storm = alert("SpotwardenInterruptionStorm", &json!({"severity": "critical"}), "200 nodes got a notice.");
    let node = alert("SpotwardenNodeInterruption", &json!({"node": "n1"}), "Node n1 is to stop.");
    alertmanager.push(&[storm, node]);
    eventually("a message", LIMIT, || slack.messages().first().cloned());
    thread::sleep(SETTLED);
    slack.assert_content();
    let titles: Vec<_> =
        slack.messages().iter().map(|message| message.words().lines().next().unwrap().to_owned()).collect();
    assert_eq!(titles, ["[FIRING:1] SpotwardenInterruptionStorm"]);
}

/// The comment in the file: with `nodegroup` in `group_by` there is a message for each node group.
#[test]
fn grouped_by_node_group_there_is_one_message_for_each() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let mut config = shipped(&slack, &urls);
    config["route"]["routes"][0]["group_by"] = json!(["alertname", "cluster", "nodegroup"]);
    let alertmanager = Alertmanager::start(&config);
    alertmanager.push(&(0..200).map(|number| interruption("five", number % 5, number)).collect::<Vec<_>>());
    eventually("five messages", LIMIT, || (slack.messages().len() == 5).then_some(()));
    thread::sleep(SETTLED);
    slack.assert_content();
    let words: Vec<_> = slack.messages().iter().map(Message::words).collect();
    assert!(words.len() == 5 && words.iter().all(|words| words.contains("[FIRING:40]")), "{words:#?}");
}

/// Nodes that are gone are not resolved, a shortage of addresses is.
#[test]
fn the_end_is_told_where_it_is_news() {
    let (slack, urls) = (SlackStandIn::start(), Folder::new("urls"));
    let mut config = shipped(&slack, &urls);
    for route in config["route"]["routes"].as_array_mut().unwrap() {
        route["group_interval"] = "1s".into();
    }
    let alertmanager = Alertmanager::start(&config);
    let mut alerts =
        [with_node("SpotwardenNodeInterruption", "c", "n1"), with_node("SpotwardenPodIPsExhausted", "c", "n2")];
    alertmanager.push(&alerts);
    eventually("two messages", LIMIT, || (slack.messages().len() == 2).then_some(()));
    for alert in &mut alerts {
        alert["startsAt"] = "2026-01-01T00:00:00Z".into();
        alert["endsAt"] = "2026-01-01T00:00:01Z".into();
    }
    alertmanager.push(&alerts);
    eventually("the end of the shortage", LIMIT, || (slack.messages().len() > 2).then_some(()));
    thread::sleep(SETTLED);
    slack.assert_content();
    let last: Vec<_> = slack.messages().into_iter().skip(2).map(|message| message.words()).collect();
    assert!(last.len() == 1 && last[0].contains("[RESOLVED] SpotwardenPodIPsExhausted (c)"), "{last:#?}");
}
