//! What is done to the node: responses and marks.

use super::{Draft, Kind};

/// A response for each signal; `cordonOnly` weakens all of them.
pub(super) fn responses(draft: &mut Draft<'_>) {
    let strongest = if draft.settings.is_on("cordonOnly") { "cordon" } else { "drain" };
    let switches = [
        ("enableSpotInterruptionDraining", "responses.spotInterruption"),
        ("enableScheduledEventDraining", "responses.scheduledEvent"),
        ("enableASGLifecycleDraining", "responses.asgTermination"),
    ];
    for (key, path) in switches {
        let response = if draft.settings.is_on(key) { strongest } else { "ignore" };
        if response == "ignore" {
            draft.put(path, response, &[key]);
        } else if response == "cordon" {
            draft.put(path, response, &["cordonOnly"]);
        }
    }
    if draft.settings.is_on("enableScheduledEventDraining") {
        draft.note_of_table(Kind::Different, "enableScheduledEventDraining");
    }
    rebalance(draft, strongest);
}

/// Here a recommendation has a response by default, in NTH it has none.
fn rebalance(draft: &mut Draft<'_>, strongest: &str) {
    let path = "responses.rebalanceRecommendation";
    if draft.settings.is_on("enableRebalanceDraining") {
        let mut keys = vec!["enableRebalanceDraining", "enableRebalanceMonitoring"];
        if strongest == "cordon" {
            keys.push("cordonOnly");
        }
        draft.put(path, strongest, &keys);
    } else if draft.settings.is_on("enableRebalanceMonitoring") {
        draft.put(path, "cordon", &["enableRebalanceMonitoring"]);
    } else {
        let words = "as in NTH. Without this line it is `taint`, a soft taint (PreferNoSchedule) for 4h";
        draft.put_saying(path, "ignore", &["enableRebalanceMonitoring"], words);
    }
}

/// Taints and labels of the fence.
pub(super) fn marks(draft: &mut Draft<'_>) {
    let taints = draft.settings.is_on("taintNode");
    if taints {
        draft.put("nodeMarks", "aws-node-termination-handler", &["taintNode"]);
    } else {
        draft.note_of_table(Kind::Different, "taintNode");
    }
    match draft.settings.text("TAINT_EFFECT").as_deref() {
        None | Some("NoSchedule") => {}
        Some(_) if !taints => draft.note(Kind::Idle, "TAINT_EFFECT", "without taintNode there is no taint"),
        Some("PreferNoSchedule") => draft.put_saying("taint.effect", "PreferNoSchedule", &["TAINT_EFFECT"], ""),
        Some("NoExecute") => draft.note_of_table(Kind::NoEquivalent, "TAINT_EFFECT"),
        Some(_) => draft.note(Kind::Idle, "TAINT_EFFECT", "NTH does not know this effect and takes NoSchedule"),
    }
    if !draft.settings.is_on("excludeFromLoadBalancers") {
        draft.note_of_table(Kind::Different, "excludeFromLoadBalancers");
    }
    if !draft.settings.is_on("emitKubernetesEvents") {
        draft.note_of_table(Kind::Different, "emitKubernetesEvents");
    }
}
