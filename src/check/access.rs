//! Which rights the agent uses, which of them this configuration needs, and what a review's answer means. Pure.

use super::cluster::Trouble;
use super::report::{Finding, Status};
use crate::config::{Config, Response};
use crate::signal::Kind;

/// One right in RBAC's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The finding's id.
    pub id: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural resource.
    pub resource: &'static str,
    /// Subresource, or nothing.
    pub subresource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// What the agent does with it.
    use_of: UseOf,
}

/// What a right is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UseOf {
    /// Reading the own Node and its pods: always.
    Watch,
    /// The marks on the Node.
    Mark,
    /// Stopping pods.
    Drain,
    /// Telling.
    Tell,
}

impl Right {
    /// The right that dry-run evictions need too.
    pub const EVICTION: Self = right("pods-eviction-create", "pods/eviction", "create", UseOf::Drain);

    /// The right that dry-run patches of the own Node need too.
    pub const PATCH: Self = right("nodes-patch", "nodes", "patch", UseOf::Mark);

    /// As an RBAC rule lists it under `resources`.
    pub fn resource_path(&self) -> String {
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        format!("{}{slash}{}", self.resource, self.subresource)
    }

    /// The namespace that it is used in; empty for all of them.
    pub fn namespace(&self) -> &'static str {
        // Events about a Node, which has no namespace, live there.
        if self.use_of == UseOf::Tell { "default" } else { "" }
    }

    /// The rule that grants it.
    fn rule(&self) -> String {
        let Self { group, verb, .. } = self;
        format!("- {{apiGroups: [\"{group}\"], resources: [{}], verbs: [{verb}]}}", self.resource_path())
    }
}

const fn right(id: &'static str, path: &'static str, verb: &'static str, use_of: UseOf) -> Right {
    let (group, resource, subresource) = match path.as_bytes() {
        b"nodes" => ("", "nodes", ""),
        b"pods" => ("", "pods", ""),
        b"pods/eviction" => ("", "pods", "eviction"),
        b"pods/status" => ("", "pods", "status"),
        _ => ("events.k8s.io", "events", ""),
    };
    Right { id, group, resource, subresource, verb, use_of }
}

/// Every right that the agent uses, as `manifests/base/rbac.yaml` grants them.
pub const RIGHTS: [Right; 10] = [
    right("nodes-get", "nodes", "get", UseOf::Mark),
    right("nodes-list", "nodes", "list", UseOf::Watch),
    right("nodes-watch", "nodes", "watch", UseOf::Watch),
    Right::PATCH,
    right("pods-list", "pods", "list", UseOf::Watch),
    right("pods-watch", "pods", "watch", UseOf::Watch),
    right("pods-delete", "pods", "delete", UseOf::Drain),
    Right::EVICTION,
    right("pods-status-patch", "pods/status", "patch", UseOf::Drain),
    right("events-create", "events", "create", UseOf::Tell),
];

/// What this configuration does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// It tells of something in Events.
    pub tells: bool,
    /// It marks the node.
    pub marks: bool,
    /// It stops pods.
    pub drains: bool,
}

impl Needs {
    /// By the strongest response to any kind; a dry run changes nothing.
    pub fn of(config: &Config) -> Self {
        let strongest = Kind::ALL.into_iter().map(|kind| config.response(kind)).max().unwrap_or(Response::Ignore);
        let at_least = |response| !config.dry_run && strongest >= response;
        Self { tells: at_least(Response::Observe), marks: at_least(Response::Taint), drains: at_least(Response::Drain) }
    }

    /// Whether it uses this right.
    pub fn of_right(self, right: &Right) -> bool {
        match right.use_of {
            UseOf::Watch => true,
            UseOf::Mark => self.marks,
            UseOf::Drain => self.drains,
            UseOf::Tell => self.tells,
        }
    }
}

/// The answer to an access review.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The authorizer's words, if it has any.
    pub reason: String,
}

/// What a review's answer means.
pub fn judge(right: &Right, needed: bool, review: &Result<Review, Trouble>) -> Finding {
    if !needed {
        return Finding::new(right.id, Status::Skipped, "these settings do not use it");
    }
    match review {
        Ok(review) if review.allowed => Finding::new(right.id, Status::Ok, "allowed"),
        Ok(review) => {
            let reason = if review.reason.is_empty() { String::new() } else { format!(": {}", review.reason) };
            let place = match right.namespace() {
                "" => "the ClusterRole spotwarden".to_owned(),
                namespace => format!("the Role spotwarden-events in the namespace {namespace}"),
            };
            Finding::new(right.id, Status::Missing, format!("not allowed{reason}"))
                .remedy_with(format!("Add this rule to {place} (manifests/base/rbac.yaml):"), right.rule())
        }
        Err(trouble) => Finding::new(right.id, Status::Warning, format!("could not be asked: {trouble}")).remedy(
            "Let the agent create selfsubjectaccessreviews.authorization.k8s.io, which the built-in ClusterRole \
             system:basic-user grants to every authenticated user.",
        ),
    }
}
