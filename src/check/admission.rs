//! What the API server makes of two patches of the own Node, tried out: one that the agent would never send, and the fence.
//! Pure.

use serde_json::{Value, json};

use super::cluster::Trouble;
use super::report::{CONFINEMENT, FENCE, Finding, Status};
use crate::clock::Now;
use crate::config::Config;
use crate::interruption::announcement::Announcements;
use crate::interruption::fence::{self, Part};
use crate::interruption::marks;
use crate::interruption::state::Marks;
use crate::k8s::node::NodeView;
use crate::signal::{Action, Kind, Observation, Signal};

/// An annotation that is nobody's, and not the agent's either.
pub(super) const FOREIGN: &str = "example.com/spotwarden-check";

/// A merge patch that has nothing to do with the agent's work.
pub(super) fn foreign_patch() -> Value {
    json!({ "metadata": { "annotations": { FOREIGN: "dry run" } } })
}

/// The fence, as if everything were announced at once: so it has every mark that these settings can set.
pub(super) fn fence_patch(config: &Config, node: &NodeView, now: Now) -> Value {
    let mut announcements = Announcements::default();
    for kind in Kind::ALL {
        let signal = Signal::new(kind, kind.as_str(), Action::Terminate);
        announcements.observed(Observation::of(kind, [signal]), now.instant, now, config);
    }
    let goal = marks::goal(&announcements, config, now.instant);
    let mut ours = Marks::default();
    let marks = Part::MARKS.into_iter().flat_map(|part| fence::mark_ops(part, node, &goal, &mut ours));
    let marks: Vec<Value> = marks.collect();
    let text = fence::state(&goal, &ours, None, true);
    let state = fence::state_ops(node, text.as_deref());
    [state, marks].concat().into()
}

/// The answer to a patch that was tried out.
pub type Tried = Result<(), Trouble>;

/// Whether the token is good for more than the agent's own marks. `None`: it may not patch Nodes at all.
pub fn confinement(tried: Option<&Tried>) -> Finding {
    let found = |status, text: String| Finding::new(CONFINEMENT, status, text);
    match tried {
        None => found(Status::Skipped, "the token may not patch Nodes; see the check nodes-patch".into()),
        Some(Ok(())) => found(
            Status::Warning,
            "a change that is not the agent's was accepted: the token is good for any Node".into(),
        )
        .remedy(
            "Apply manifests/base/admission-policy.yaml (chart: admissionPolicy.enabled), Kubernetes 1.30 or \
                     later. If it is there, it means another user: put this namespace and service account into its \
                     conditions is-agent, and run this check with the pod's own token.",
        ),
        Some(Err(trouble)) => match policy(trouble) {
            Some(name) => found(Status::Ok, format!("the token is confined to its own node by the policy {name}")),
            None => found(Status::Warning, format!("not known, the dry run of a foreign change {trouble}")).remedy(
                "Without an answer of a policy nothing says that the token is confined; see docs/permissions.md.",
            ),
        },
    }
}

/// Whether the fence would be accepted. `None`: the Node cannot be read, or not be patched.
pub fn fence(needed: bool, tried: Option<&Tried>) -> Finding {
    let found = |status, text: String| Finding::new(FENCE, status, text);
    if !needed {
        return found(Status::Skipped, "these settings do not mark the node".into());
    }
    match tried {
        None => found(Status::Skipped, "not tried; see the checks node and nodes-patch".into()),
        Some(Ok(())) => found(Status::Ok, "a dry run of the fence was accepted".into()),
        Some(Err(trouble)) => match (policy(trouble), trouble) {
            (Some(_), Trouble::Refused { message, .. }) => found(Status::Missing, format!("refused: {message}"))
                .remedy(
                    "Let the policy's lists hold the keys of --taint-key and --node-marks, and run this check with the \
                 pod's own token; see docs/permissions.md.",
                ),
            (_, Trouble::Refused { code: 403, message }) => found(Status::Missing, format!("refused: {message}"))
                .remedy(
                    "Find out who refuses it: a webhook or another policy. What is refused is left out of the fence.",
                ),
            (_, trouble) => found(Status::Warning, format!("not known, the dry run {trouble}"))
                .remedy("Check again; if the Node is written all the time, find out by whom."),
        },
    }
}

/// The admission policy that refused.
fn policy(trouble: &Trouble) -> Option<&str> {
    let Trouble::Refused { code: 403 | 422, message } = trouble else { return None };
    let (_, rest) = message.split_once("ValidatingAdmissionPolicy '")?;
    rest.split_once('\'').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::clock::Clock;
    use crate::config::MarkStyle;
    use crate::k8s::wire::WireNode;

    fn refused(code: u16, message: &str) -> Tried {
        Err(Trouble::Refused { code, message: message.into() })
    }

    const DENIED: &str =
        "nodes \"n1\" is forbidden: ValidatingAdmissionPolicy 'own-node' with binding 'b' denied request: no";

    #[rstest]
    #[case(Ok(()), Status::Warning, "good for any Node", "admission-policy.yaml")]
    #[case(refused(403, DENIED), Status::Ok, "confined to its own node by the policy own-node", "")]
    #[case(refused(422, DENIED), Status::Ok, "by the policy own-node", "")]
    #[case(
        refused(403, "admission webhook \"w\" denied the request"),
        Status::Warning,
        "answers 403: admission webhook",
        "permissions.md"
    )]
    #[case(refused(500, DENIED), Status::Warning, "not known", "permissions.md")]
    #[case(Err(Trouble::Unreachable("reset".into())), Status::Warning, "cannot be reached: reset", "permissions.md")]
    fn only_a_policy_s_refusal_shows_that_the_token_is_confined(
        #[case] tried: Tried,
        #[case] status: Status,
        #[case] found: &str,
        #[case] remedy: &str,
    ) {
        let finding = confinement(Some(&tried));
        assert!(finding.status == status && finding.found.contains(found), "{finding:?}");
        assert!(finding.remedy.unwrap_or_default().contains(remedy));
    }

    #[rstest]
    #[case(Ok(()), Status::Ok, "accepted")]
    #[case(refused(403, DENIED), Status::Missing, "denied request: no")]
    #[case(refused(403, "admission webhook \"w\" denied the request"), Status::Missing, "admission webhook")]
    #[case(
        refused(422, "the server rejected our request due to an error in our request"),
        Status::Warning,
        "not known"
    )]
    #[case(Err(Trouble::Unreachable("reset".into())), Status::Warning, "not known")]
    fn a_fence_that_would_be_refused_is_a_missing_thing(
        #[case] tried: Tried,
        #[case] status: Status,
        #[case] found: &str,
    ) {
        let finding = fence(true, Some(&tried));
        assert!(finding.status == status && finding.found.contains(found), "{finding:?}");
        assert_eq!(fence(false, Some(&tried)).status, Status::Skipped);
    }

    #[test]
    fn without_the_right_to_patch_there_is_nothing_to_try() {
        for finding in [confinement(None), fence(true, None)] {
            assert!(finding.status == Status::Skipped && finding.found.contains("nodes-patch"), "{finding:?}");
        }
    }

    #[tokio::test]
    async fn the_fence_that_is_tried_has_every_mark_of_the_settings() {
        let node: WireNode = serde_json::from_value(json!({"metadata": {"name": "n1", "uid": "u"}})).unwrap();
        let mut config = Config::for_node("n1");
        let written = |config: &Config| fence_patch(config, &node.view, Clock::System.now()).to_string();
        config.marks.taint_key = "example.com/going".into();
        let text = written(&config);
        for part in ["example.com/going", "spotwarden/state", "unschedulable", fence::LOAD_BALANCER_LABEL] {
            assert!(text.contains(part), "{part}: {text}");
        }
        config.marks.style = MarkStyle::NodeTerminationHandler;
        let text = written(&config);
        for kind in
            ["spot-itn", "rebalance-recommendation", "scheduled-maintenance", "asg-lifecycle-termination", "event-id"]
        {
            assert!(text.contains(&format!("aws-node-termination-handler/{kind}")), "{kind}: {text}");
        }
    }
}
