//! Admission denial: refuses requests whose body touches one field, as a `ValidatingAdmissionPolicy` does. Pure.

use http::StatusCode;
use serde_json::{Value, json};

use super::answers::{CannedAnswer, status_object};
use crate::k8s::attributes::Attributes;

/// Which field must not be written, and what the policy says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// JSON pointer (RFC 6901) of the field, e.g. `/spec/taints`.
    pub pointer: String,
    /// HTTP status; a policy without a reason of its own answers 422.
    pub code: u16,
    /// Name of the policy and its binding.
    pub policy: String,
    /// The policy's message.
    pub message: String,
}

impl Denial {
    /// A denial of writes to `pointer` with the status that a policy uses by default.
    pub fn of(pointer: &str, policy: &str, message: &str) -> Self {
        Self { pointer: pointer.into(), code: 422, policy: policy.into(), message: message.into() }
    }

    /// Whether a request's body writes the field or something in it.
    pub(super) fn forbids(&self, attributes: &Attributes, content_type: &str, body: &[u8]) -> bool {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
        match attributes.verb {
            "patch" if content_type.starts_with("application/json-patch+json") => {
                body.as_array().is_some_and(|ops| ops.iter().any(|op| operation_touches(op, &self.pointer)))
            }
            "patch" | "update" | "create" => body.pointer(&self.pointer).is_some(),
            _ => false,
        }
    }

    /// The server's words: a `Forbidden` message under the reason of the policy, which is `Invalid` unless it says
    /// otherwise.
    pub(super) fn answer(&self, attributes: &Attributes) -> CannedAnswer {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        let reason = match code {
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
            _ => "Invalid",
        };
        let policy = &self.policy;
        let cause =
            format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {}", self.message);
        let kind = if attributes.group.is_empty() {
            attributes.resource.clone()
        } else {
            format!("{}.{}", attributes.resource, attributes.group)
        };
        let message = format!("{kind} \"{}\" is forbidden: {cause}", attributes.name);
        let mut status = status_object(code, reason, &message);
        let mut details =
            json!({ "name": attributes.name, "kind": attributes.resource, "causes": [{ "message": cause }] });
        if let (false, Some(details)) = (attributes.group.is_empty(), details.as_object_mut()) {
            details.insert("group".into(), attributes.group.clone().into());
        }
        if let Some(fields) = status.as_object_mut() {
            fields.insert("details".into(), details);
        }
        CannedAnswer::status(code, &status)
    }
}

/// Whether one operation of a JSON Patch changes `pointer`, something below it, or a parent that carries it.
fn operation_touches(op: &Value, pointer: &str) -> bool {
    let text = |key: &str| op.get(key).and_then(Value::as_str);
    let hits = |path: &str| path == pointer || below(path, pointer).is_some();
    let (Some(kind), Some(path)) = (text("op"), text("path")) else { return false };
    match kind {
        "test" => false,
        "move" => hits(path) || text("from").is_some_and(|from| hits(from) || below(pointer, from).is_some()),
        "remove" => hits(path) || below(pointer, path).is_some(),
        // A replaced parent touches the field only if it brings one along.
        _ => {
            hits(path)
                || below(pointer, path).is_some_and(|rest| op.get("value").is_some_and(|v| v.pointer(rest).is_some()))
        }
    }
}

/// What is left of `path` below `parent`, with its leading slash.
fn below<'a>(path: &'a str, parent: &str) -> Option<&'a str> {
    path.strip_prefix(parent).filter(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const EXCLUDE: &str = "/metadata/labels/node.kubernetes.io~1exclude-from-external-load-balancers";

    #[rstest]
    #[case("/spec/taints", json!([{"op": "add", "path": "/spec/taints", "value": []}]), true)]
    #[case("/spec/taints", json!([{"op": "add", "path": "/spec/taints/-", "value": {}}]), true)]
    #[case("/spec/taints", json!([{"op": "replace", "path": "/spec", "value": {"taints": []}}]), true)]
    #[case("/spec/taints", json!([{"op": "replace", "path": "/spec", "value": {"unschedulable": true}}]), false)]
    #[case("/spec/taints", json!([{"op": "remove", "path": "/spec"}]), true)]
    #[case("/spec/taints", json!([{"op": "test", "path": "/spec/taints", "value": []}]), false)]
    #[case("/spec/taints", json!([{"op": "add", "path": "/spec/taintsOfSomeone", "value": []}]), false)]
    #[case("/spec/taints", json!([{"op": "move", "from": "/spec/taints/0", "path": "/spec/taints/1"}]), true)]
    #[case("/spec/taints", json!([{"op": "add", "path": "/spec/unschedulable", "value": true}]), false)]
    #[case(EXCLUDE, json!([{"op": "add", "path": EXCLUDE, "value": "true"}]), true)]
    #[case(EXCLUDE, json!([{"op": "add", "path": "/metadata/labels",
        "value": {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}}]), true)]
    #[case(EXCLUDE, json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]), false)]
    fn a_json_patch_is_denied_if_an_operation_writes_the_field(
        #[case] pointer: &str,
        #[case] patch: Value,
        #[case] expected: bool,
    ) {
        let denial = Denial::of(pointer, "p", "no");
        let attributes = Attributes { verb: "patch", ..Attributes::default() };
        let body = patch.to_string();
        assert_eq!(denial.forbids(&attributes, "application/json-patch+json", body.as_bytes()), expected);
    }

    #[rstest]
    #[case("patch", json!({"spec": {"taints": null}}), true)]
    #[case("patch", json!({"spec": {"unschedulable": true}}), false)]
    #[case("update", json!({"spec": {"taints": []}}), true)]
    #[case("delete", json!({"spec": {"taints": []}}), false)]
    fn other_bodies_are_denied_if_they_carry_the_field(
        #[case] verb: &'static str,
        #[case] body: Value,
        #[case] expected: bool,
    ) {
        let denial = Denial::of("/spec/taints", "p", "no");
        let attributes = Attributes { verb, ..Attributes::default() };
        assert_eq!(denial.forbids(&attributes, "application/merge-patch+json", body.to_string().as_bytes()), expected);
    }

    #[test]
    fn a_denial_arrives_as_invalid_with_the_message_of_the_policy() {
        let denial = Denial::of("/spec/taints", "own-node", "hands off");
        let attributes = Attributes { resource: "nodes".into(), name: "n1".into(), ..Attributes::default() };
        let answer = denial.answer(&attributes);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let cause = "ValidatingAdmissionPolicy 'own-node' with binding 'own-node' denied request: hands off";
        assert_eq!(answer.code, 422);
        assert_eq!(
            body,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid",
                "message": format!("nodes \"n1\" is forbidden: {cause}"), "code": 422,
                "details": {"name": "n1", "kind": "nodes", "causes": [{"message": cause}]},
            })
        );
    }
}
