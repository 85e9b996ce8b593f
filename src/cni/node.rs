//! What Kubernetes knows and the headroom needs: the own Node's limits and the pods on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::settings::Environment;
use crate::drain::pod::{PodNetwork, PodView};
use crate::imds::documents::network::Block;
use crate::interruption::Input;
use crate::k8s::node::NodeView;

/// Put on a cordoned node by the control plane. ipamd looks for it, and for no other taint.
const CORDON_TAINT: (&str, &str) = ("node.kubernetes.io/unschedulable", "NoSchedule");

/// The own Node and its pods, as far as they matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Pods that the kubelet takes (`status.allocatable.pods`); `None` before the Node was read.
    pub max_pods: Option<i64>,
    /// Pods that take a place, those on the host's network included.
    pub pods: i64,
    /// Those of them that are on the host's network.
    pub host_network_pods: i64,
    /// Pods that have an address of the pool.
    pub addressed_pods: i64,
    /// Interfaces that the node has for pods with security groups of their own; `None` where there are none.
    pub branch_capacity: Option<i64>,
    /// Those of them that pods ask for.
    pub branches: i64,
    /// Those of them that are there, by subnet.
    pub branch_subnets: BTreeMap<Block, i64>,
    /// `spec.taints` as they are.
    pub taints: Option<Arc<Vec<Value>>>,
    /// The own Node was read.
    pub known: bool,
    /// Its pods were listed.
    pub listed: bool,
    /// The taint that stops ipamd is on the node.
    pub cordoned: bool,
    /// Settings of the aws-node pod on this node; `None` if there is no such pod.
    pub aws_node: Option<Arc<Environment>>,
}

/// Keeps the facts from what the watches deliver.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    facts: NodeFacts,
    pods: BTreeMap<String, PodNetwork>,
}

impl Follower {
    /// Takes up what the agent got to know; the facts if they are others than before.
    pub fn note(&mut self, input: &Input) -> Option<NodeFacts> {
        let before = self.facts.clone();
        match input {
            Input::Node(node) => self.note_node(node),
            Input::Pods(pods) => {
                self.facts.listed = true;
                self.pods.clear();
                for pod in pods {
                    self.note_pod(pod);
                }
            }
            Input::Pod(pod) => self.note_pod(pod),
            Input::PodGone(pod) => _ = self.pods.remove(&pod.uid),
            _ => return None,
        }
        self.count();
        (self.facts != before).then(|| self.facts.clone())
    }

    fn note_node(&mut self, node: &NodeView) {
        self.facts.max_pods = node.allocatable_pods;
        self.facts.branch_capacity = node.branch_interfaces;
        self.facts.taints = node.taints.clone().map(Arc::new);
        self.facts.known = true;
        let is_cordon = |taint: &Value| {
            let (key, effect) = CORDON_TAINT;
            let says = |field: &str, word: &str| taint.get(field).and_then(Value::as_str) == Some(word);
            says("key", key) && says("effect", effect)
        };
        self.facts.cordoned = node.taints.iter().flatten().any(is_cordon);
    }

    fn note_pod(&mut self, pod: &PodView) {
        if pod.finished {
            self.pods.remove(&pod.id.uid);
        } else {
            self.pods.insert(pod.id.uid.clone(), pod.network.clone());
        }
    }

    fn count(&mut self) {
        let number = |counts: &dyn Fn(&PodNetwork) -> bool| {
            i64::try_from(self.pods.values().filter(|pod| counts(pod)).count()).unwrap_or(i64::MAX)
        };
        let (pods, host, addressed) =
            (number(&|_| true), number(&|pod| pod.host), number(&|pod| pod.addressed && pod.branches == 0));
        self.facts.branches = self.pods.values().map(|pod| pod.branches).fold(0, i64::saturating_add);
        self.facts.branch_subnets.clear();
        for pod in self.pods.values() {
            if let Some(subnet) = pod.branch_subnet {
                *self.facts.branch_subnets.entry(subnet).or_default() += pod.branches.max(1);
            }
        }
        self.facts.aws_node = self.pods.values().find_map(|pod| pod.aws_node.clone());
        (self.facts.pods, self.facts.host_network_pods, self.facts.addressed_pods) = (pods, host, addressed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn pod(name: &str, network: PodNetwork) -> PodView {
        PodView { network, ..PodView::sample(name, Duration::from_secs(30)) }
    }

    fn node(taints: Value) -> Input {
        Input::Node(NodeView {
            name: "n1".into(),
            uid: "u".into(),
            labels: None,
            annotations: None,
            taints: serde_json::from_value(taints).unwrap(),
            unschedulable: None,
            boot_id: None,
            allocatable_pods: Some(29),
            branch_interfaces: None,
            provider_id: None,
        })
    }

    #[test]
    fn pods_on_the_hosts_network_take_a_place_and_finished_ones_do_not() {
        let mut follower = Follower::default();
        let own = PodNetwork { addressed: true, ..PodNetwork::default() };
        let host = PodNetwork { host: true, ..PodNetwork::default() };
        let pods = vec![pod("a", own.clone()), pod("b", host), PodView { finished: true, ..pod("c", own.clone()) }];
        let facts = follower.note(&Input::Pods(pods)).unwrap();
        assert_eq!((facts.pods, facts.host_network_pods, facts.addressed_pods), (2, 1, 1));
        assert_eq!(follower.note(&Input::Pod(pod("a", own.clone()))), None, "nothing new");
        let facts = follower.note(&Input::Pod(PodView { finished: true, ..pod("a", own) })).unwrap();
        assert_eq!((facts.pods, facts.addressed_pods), (1, 0));
        let gone = pod("b", PodNetwork::default()).id;
        assert_eq!(follower.note(&Input::PodGone(gone)).unwrap().pods, 0);
    }

    #[test]
    fn only_the_taint_of_a_cordon_stops_ipamd() {
        let mut follower = Follower::default();
        let facts = follower.note(&node(json!([{"key": "spotwarden/interruption", "effect": "NoSchedule"}]))).unwrap();
        assert_eq!((facts.max_pods, facts.cordoned), (Some(29), false));
        let other = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoExecute"}]);
        assert!(!follower.note(&node(other)).unwrap().cordoned);
        let cordon = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
        assert!(follower.note(&node(cordon)).unwrap().cordoned);
        assert!(!follower.note(&node(json!(null))).unwrap().cordoned);
    }

    #[test]
    fn the_settings_are_those_of_the_nodes_own_pod() {
        let mut follower = Follower::default();
        let environment = Arc::new(Environment::from([("WARM_IP_TARGET".to_owned(), Some("2".to_owned()))]));
        let network = PodNetwork { host: true, aws_node: Some(environment.clone()), ..PodNetwork::default() };
        let facts = follower.note(&Input::Pod(pod("aws-node-x", network))).unwrap();
        assert_eq!(facts.aws_node, Some(environment));
        assert_eq!(follower.note(&Input::Pods(vec![])).unwrap().aws_node, None);
    }
}
