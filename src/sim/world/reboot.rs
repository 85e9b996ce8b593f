//! The instance goes down and, possibly, comes up again: the agent, the kubelet and every process end with it.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{NodeSpec, World};
use crate::clock::Now;
use crate::sim::kubelet::Kubelet;
use crate::sim::scenario::AgentDoes;
use crate::sim::seen::Node;
use crate::sim::timeline::Actor;

/// Everything that runs on the instance ends at once.
pub(super) fn down(world: &mut World, now: Now) {
    world.agents.end(AgentDoes::Crash);
    world.kubelet.power_off(now.instant);
    world.cni.down(false);
}

/// The kernel boots; the kubelet registers the new boot id and starts the containers of the pods that are still bound to
/// the node. The agent is a pod like others and comes a moment later.
pub(super) fn up(world: &mut World) {
    world.boots += 1;
    world.cni.up();
    let boot_id = NodeSpec { boot: world.boots, ..NodeSpec::new(&world.node) }.boot_id();
    world.agents.booted(boot_id.clone());
    let api: Api<Node> = Api::all(world.backend.client.clone());
    let kubelet =
        Kubelet::new(world.backend.client.clone(), world.node.as_str(), world.clock, world.kubelet_spec.clone())
            .after_reboot(world.kubelet.clone());
    let kubelet = world.cni.ipamd().cloned().into_iter().fold(kubelet, Kubelet::on_network);
    let (node, notes) = (world.node.clone(), world.notes.clone());
    world.tasks.spawn(async move {
        let status = Patch::Merge(json!({"status": {"nodeInfo": {"bootID": boot_id}}}));
        if let Err(error) = api.patch_status(&node, &PatchParams::default(), &status).await {
            notes.add(Actor::World, format!("the boot id cannot be written: {error}"), None);
        }
        kubelet.run().await;
    });
}
