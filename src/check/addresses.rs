//! What the answers of ipamd mean: whether the agent will know the pods' addresses, and what it would say of them now. Pure.

use bytes::Bytes;

use super::report::{CNI_SETTINGS, Finding, IPAMD_INTROSPECTION, IPAMD_METRICS, POD_ADDRESSES, Status};
use crate::clock::Now;
use crate::cni::advice::Efficiency;
use crate::cni::document::{Refusal, Shape, document};
use crate::cni::exposition::scrape;
use crate::cni::model::{Headroom, Model, Problem, Reading};
use crate::cni::node::NodeFacts;
use crate::cni::pool::Pool;
use crate::config::CniConfig;

/// What ipamd answered.
#[derive(Debug)]
pub struct Answers {
    /// `/v1/enis`.
    pub interfaces: Result<Bytes, Problem>,
    /// `/v1/ipamd-env-settings`.
    pub settings: Option<Bytes>,
    /// `/metrics`.
    pub metrics: Result<Bytes, Problem>,
}

const IDS: [&str; 4] = [IPAMD_INTROSPECTION, IPAMD_METRICS, POD_ADDRESSES, CNI_SETTINGS];

/// The findings if nothing is asked.
pub fn skipped(why: &str) -> Vec<Finding> {
    IDS.into_iter().map(|id| Finding::new(id, Status::Skipped, why)).collect()
}

/// The four findings. `node` is what Kubernetes told; it knows no settings if the node's pods could not be read.
pub fn findings(config: &CniConfig, answers: &Answers, node: &NodeFacts, now: Now) -> Vec<Finding> {
    let reading = Reading {
        interfaces: Some(answers.interfaces.as_deref().map_err(Clone::clone)),
        settings: answers.settings.as_deref(),
        metrics: Some(answers.metrics.as_deref().map_err(Clone::clone)),
        network: None,
    };
    let Some(headroom) = Model::default().observe(now, &reading, node) else {
        return skipped("nobody answers where ipamd would, and no aws-node pod was seen on this node");
    };
    vec![introspection(config, answers), metrics(config, answers), addresses(&headroom), settings(&headroom, node)]
}

fn introspection(config: &CniConfig, answers: &Answers) -> Finding {
    let at = &config.introspection;
    let read = answers.interfaces.as_deref().map_err(Clone::clone);
    match read.and_then(|body| document(body).map_err(Problem::Interfaces)) {
        Ok(document) => {
            let shape = match document.shape {
                Shape::Flat => "flat, as up to v1.19",
                Shape::Cards => "by network card, as from v1.20",
            };
            let interfaces: usize = document.cards.iter().map(|card| card.interfaces.len()).sum();
            let found = format!("{at} answers; network interfaces: {interfaces}; its document is {shape}");
            Finding::new(IPAMD_INTROSPECTION, Status::Ok, found)
        }
        Err(problem) => Finding::new(IPAMD_INTROSPECTION, Status::Warning, format!("{at}: {problem}")).remedy(remedy(
            &problem,
            "DISABLE_INTROSPECTION",
            "--cni-introspection-address with the value of INTROSPECTION_BIND_ADDRESS",
        )),
    }
}

fn metrics(config: &CniConfig, answers: &Answers) -> Finding {
    let at = &config.metrics;
    let read = answers.metrics.as_deref().map_err(Clone::clone);
    match read.and_then(|body| scrape(body).map_err(Problem::Metrics)) {
        Ok(scrape) => {
            let version = scrape.version.unwrap_or_else(|| "before v1.10".to_owned());
            Finding::new(IPAMD_METRICS, Status::Ok, format!("{at} answers; the CNI is {version}"))
        }
        Err(problem) => Finding::new(IPAMD_METRICS, Status::Warning, format!("{at}: {problem}")).remedy(remedy(
            &problem,
            "DISABLE_METRICS",
            "--cni-metrics-address",
        )),
    }
}

fn remedy(problem: &Problem, switch: &str, setting: &str) -> String {
    match problem {
        Problem::Refused => {
            format!("Set hostNetwork: true on the agent's pod, unset {switch} on aws-node, or set {setting}.")
        }
        Problem::Timeout => "Look at the load of this node and at ipamd.log.".to_owned(),
        Problem::Interfaces(Refusal::CatchAll | Refusal::Empty | Refusal::Malformed(_)) | Problem::Metrics(_) => {
            "Compare the CNI's version with those that this agent knows (v1.7 to v1.23), and report it.".to_owned()
        }
        _ => format!("See what listens there, and set {setting} if it is not ipamd."),
    }
}

/// The headroom in one sentence, and the use of the addresses below it.
fn addresses(headroom: &Headroom) -> Finding {
    let Some(outlook) = headroom.outlook else {
        return Finding::new(POD_ADDRESSES, Status::Warning, "not known: ipamd answers neither endpoint usably")
            .remedy("See the checks of both endpoints.");
    };
    let free = match headroom.pool.as_ref().filter(|pool| !pool.ipv6) {
        Some(pool) => {
            let bound = if pool.cooldown.is_none() { " at most" } else { "" };
            format!("{} of {} addresses free{bound}; ", pool.free(), pool.total)
        }
        None => String::new(),
    };
    let (now, reachable, cause) = (outlook.now, outlook.reachable, &headroom.cause);
    let found = format!("{free}room for {now} pods now, {reachable} after growth; limit: {cause}");
    let details = headroom.efficiency.iter().flat_map(used).chain(branches(headroom));
    let places = headroom.limits.room.is_some_and(|room| room > 0);
    let exhausted = places && reachable == 0 && headroom.pool.as_ref().is_some_and(|pool: &Pool| pool.free() <= 0);
    if exhausted {
        return Finding::new(POD_ADDRESSES, Status::Warning, found)
            .remedy("Pods that are placed here get no address: give the subnet more, or the node fewer pods.")
            .details(details);
    }
    Finding::new(POD_ADDRESSES, Status::Ok, found).details(details)
}

fn used(efficiency: &Efficiency) -> Vec<String> {
    let mut lines = vec![format!("{:.0} % of the addresses that the node holds are pods'", efficiency.used * 100.0)];
    let mut tell = |number: Option<i64>, words: &str| {
        lines.extend(number.filter(|number| *number > 0).map(|number| format!("{number} {words}")));
    };
    tell(efficiency.idle_beyond_max_pods, "addresses are more than the kubelet takes pods");
    tell(efficiency.overcommit, "pods can be placed here that can never get an address: lower max-pods");
    tell(Some(efficiency.returnable), "addresses would go back to the subnet if pods were packed on fewer prefixes");
    lines
}

fn branches(headroom: &Headroom) -> Option<String> {
    headroom.branch_headroom.map(|left| format!("room for {left} more pods with security groups of their own"))
}

fn settings(headroom: &Headroom, node: &NodeFacts) -> Finding {
    if !headroom.traps.is_empty() {
        let found = format!("{} settings of aws-node are traps", headroom.traps.len());
        return Finding::new(CNI_SETTINGS, Status::Warning, found)
            .remedy("Change them on the aws-node DaemonSet or the add-on's configuration, or know what they do.")
            .details(headroom.traps.iter().map(|trap| trap.advice().to_owned()));
    }
    if node.aws_node.is_none() {
        return Finding::new(CNI_SETTINGS, Status::Skipped, "no aws-node pod was seen on this node");
    }
    Finding::new(CNI_SETTINGS, Status::Ok, "no setting of aws-node is a trap")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::config::Config;

    fn golden() -> Answers {
        Answers {
            interfaces: Ok(Bytes::from_static(include_bytes!("../../tests/golden/cni/enis-blanked.json"))),
            settings: Some(Bytes::from_static(include_bytes!("../../tests/golden/cni/ipamd-env-settings.json"))),
            metrics: Ok(Bytes::from_static(include_bytes!("../../tests/golden/cni/metrics.txt"))),
        }
    }

    fn facts() -> NodeFacts {
        NodeFacts { max_pods: Some(11), pods: 4, aws_node: Some(Arc::default()), ..NodeFacts::default() }
    }

    fn examine(answers: &Answers, node: &NodeFacts) -> Vec<Finding> {
        let now = Now { instant: Instant::now(), wall: "2026-05-04T10:00:30Z".parse().unwrap() };
        findings(&Config::for_node("n1").cni, answers, node, now)
    }

    #[tokio::test]
    async fn a_node_with_the_vpc_cni_has_all_four() {
        let found = examine(&golden(), &facts());
        assert_eq!(found.iter().map(|finding| finding.id).collect::<Vec<_>>(), IDS);
        assert!(found[..2].iter().all(|finding| finding.status == Status::Ok), "{found:?}");
        assert!(found[0].found.ends_with("interfaces: 2; its document is by network card, as from v1.20"), "{found:?}");
        assert!(found[1].found.ends_with("the CNI is v1.23.1"), "{found:?}");
        // The counters of the golden scrape tell of refusals, which hold until the next scrape.
        assert!(
            found[2].found.starts_with("1 of 3 addresses free; room for 1 pods now, 1 after growth; limit: subnet-0")
        );
        assert_eq!(found[2].details[0], "20 % of the addresses that the node holds are pods'");
        assert_eq!(found[3].status, Status::Ok);
    }

    #[tokio::test]
    async fn each_endpoint_that_does_not_answer_is_named_with_a_remedy() {
        for (problem, remedy) in [
            (Problem::Refused, "hostNetwork"),
            (Problem::Timeout, "ipamd.log"),
            (Problem::Status(404), "what listens there"),
        ] {
            let gone = Answers { interfaces: Err(problem.clone()), metrics: Err(problem), ..golden() };
            let found = examine(&gone, &facts());
            for finding in &found[..2] {
                assert_eq!(finding.status, Status::Warning);
                assert!(finding.remedy.as_ref().unwrap().contains(remedy), "{finding:?}");
            }
            assert_eq!(found[2].status, Status::Warning);
        }
        let odd = Answers { interfaces: Ok(Bytes::from_static(b"{\"AvailableCommands\":[]}")), ..golden() };
        let found = examine(&odd, &facts());
        assert!(found[0].remedy.as_ref().unwrap().contains("v1.7 to v1.23"), "{found:?}");
        assert!(found[2].found.contains("addresses free at most"), "{found:?}");
    }

    #[tokio::test]
    async fn another_cni_is_no_fault() {
        let nobody = Answers { interfaces: Err(Problem::Refused), metrics: Err(Problem::Refused), settings: None };
        let found = examine(&nobody, &NodeFacts::default());
        assert!(found.iter().all(|finding| finding.status == Status::Skipped) && found.len() == 4);
    }

    #[tokio::test]
    async fn exhaustion_and_traps_are_warnings() {
        let full = std::str::from_utf8(include_bytes!("../../tests/golden/cni/enis-blanked.json")).unwrap();
        let full = full.to_owned();
        let full = full.replace(
            "\"IPAddresses\":{}",
            "\"IPAddresses\":{\"10.8.1.60\":{\"IPAMKey\":{\"networkName\":\"aws-cni\"}}}",
        );
        let answers = Answers { interfaces: Ok(full.into_bytes().into()), ..golden() };
        let trap = [("MINIMUM_IP_TARGET".to_owned(), Some("9".to_owned()))].into();
        let node = NodeFacts { aws_node: Some(Arc::new(trap)), branch_capacity: Some(9), branches: 2, ..facts() };
        let found = examine(&answers, &node);
        assert_eq!((found[2].status, found[3].status), (Status::Warning, Status::Warning), "{found:?}");
        assert!(found[2].details.iter().any(|line| line == "room for 7 more pods with security groups of their own"));
        assert!(found[3].details[0].contains("is a ceiling"), "{found:?}");
    }
}
