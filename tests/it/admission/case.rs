//! One request, who sends it, and what becomes of it: with the rights of the manifests alone, and with the policies.

use http::Method;
use serde_json::{Value, json};

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The agent's, bound to its pod on this node.
    AgentOn(&'static str),
    /// The agent's account, bound to a pod that no node was chosen for.
    AgentNowhere,
    /// The agent's account, bound to nothing.
    Unbound,
    /// Another service account that may do everything.
    Operator,
    /// A member of `system:masters`.
    Admin,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    /// The account has no such right.
    NoRight,
    /// A policy refuses it, with these words, or words that hold these.
    Policy(String),
    /// Nobody forbids it; it fails for another reason, with this status.
    Fails(u16),
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) who: Who,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    /// `$uid:NAME` stands for the UID of the pod of this name.
    pub(super) body: Value,
    /// With the rights of the manifests, without the policies.
    pub(super) rights: Outcome,
    /// With the policies, and every right: nothing but them is in the way.
    pub(super) policies: Outcome,
    /// How the page on permissions calls it, if it does.
    pub(super) page: Option<&'static str>,
}

impl Case {
    /// Expects that nobody forbids it.
    pub(super) fn allowed(name: &'static str, who: Who, request: Request) -> Self {
        let Request(method, path, content_type, body) = request;
        let (rights, policies) = (Outcome::Accepted, Outcome::Accepted);
        Self { name, who, method, path, content_type, body, rights, policies, page: None }
    }

    /// Expects that the rights allow it and a policy does not, in words that hold `why`.
    pub(super) fn denied(name: &'static str, who: Who, request: Request, why: &str) -> Self {
        Self { policies: Outcome::Policy(why.to_owned()), ..Self::allowed(name, who, request) }
    }

    /// The rights do not allow it either.
    pub(super) fn without_right(self) -> Self {
        Self { rights: Outcome::NoRight, ..self }
    }

    /// Without the policies nobody forbids it, but it fails.
    pub(super) fn failing(self, status: u16) -> Self {
        Self { rights: Outcome::Fails(status), ..self }
    }

    /// It fails with the policies too, and not because of them.
    pub(super) fn always_failing(self, status: u16) -> Self {
        Self { rights: Outcome::Fails(status), policies: Outcome::Fails(status), ..self }
    }

    pub(super) fn on_page(self, name: &'static str) -> Self {
        Self { page: Some(name), ..self }
    }
}

/// Method, path, content type and body.
pub(super) struct Request(pub(super) Method, pub(super) String, pub(super) &'static str, pub(super) Value);

pub(super) const JSON: &str = "application/json";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// A JSON Patch of a Node.
pub(super) fn node(name: &str, operations: Value) -> Request {
    Request(Method::PATCH, format!("/api/v1/nodes/{name}"), JSON_PATCH, operations)
}

/// Requests about a pod of the namespace `shop`.
pub(super) fn pod(method: Method, tail: &str, content_type: &'static str, body: Value) -> Request {
    Request(method, format!("/api/v1/namespaces/shop/pods/{tail}"), content_type, body)
}

/// A deletion with these options.
pub(super) fn delete(name: &str, mut options: Value) -> Request {
    options["apiVersion"] = "v1".into();
    options["kind"] = "DeleteOptions".into();
    pod(Method::DELETE, name, JSON, options)
}

/// An eviction with these options, or without any.
pub(super) fn evict(namespace: &str, name: &str, options: Option<Value>) -> Request {
    let mut body = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace},
    });
    if let Some(options) = options {
        body["deleteOptions"] = options;
    }
    Request(Method::POST, format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction"), JSON, body)
}
