//! The node as it stands at one moment of a scenario.

use std::sync::{Arc, Mutex, PoisonError};

use kube::Api;

use super::marks::Marks;
use super::{World, cni, headroom};
use crate::clock::Now;
use crate::signal::Kind;
use crate::sim::report::{HeadroomFacts, NodeFacts};
use crate::sim::scenario::NodeExpect;
use crate::sim::seen::Node;

/// What was seen, in the order in which it was looked; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks(Arc<Mutex<Vec<Look>>>);

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Now,
    pub(super) expected: NodeExpect,
    pub(super) found: NodeFacts,
}

impl Looks {
    pub(super) fn all(&self) -> Vec<Look> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, look: Look) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(look);
    }
}

/// Reads the node as it is now, beside the world.
pub(super) fn look(world: &mut World, expected: &NodeExpect, at: Now) {
    let (looks, expected, now) = (world.looks.clone(), expected.clone(), seen(world));
    let (said, truth) = (headroom::facts(world), expected.headroom.is_some().then(|| cni::truth(world)).flatten());
    world.tasks.spawn(async move {
        let truth = futures::future::OptionFuture::from(truth).await;
        let headroom = said.map(|said| HeadroomFacts { truth, ..said });
        looks.add(Look { at, expected, found: NodeFacts { headroom, ..now.await } });
    });
}

/// What is on the node, and what the agent says now to be coming.
pub(super) fn seen(world: &World) -> impl Future<Output = NodeFacts> + Send + use<> {
    let nodes: Api<Node> = Api::all(world.backend.client.clone());
    let (name, without, config) =
        (world.node.clone(), world.without_agent.clone(), world.agents.config().marks.clone());
    let pending = pending(world);
    async move {
        match nodes.get(&name).await {
            Ok(node) => NodeFacts { pending, ..Marks::of(&node).facts(&without, &config) },
            Err(error) => {
                let unreadable = vec![format!("the node cannot be read: {error}")];
                NodeFacts { lost: unreadable.clone(), differs: unreadable, pending, ..NodeFacts::default() }
            }
        }
    }
}

fn pending(world: &World) -> Vec<Kind> {
    let status = world.agents.status().unwrap_or_default();
    let mut kinds: Vec<Kind> = status.pending.iter().map(|pending| pending.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
