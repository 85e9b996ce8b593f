//! The resources the server knows, as a table. Everything else is generic over it.

/// One row: how a kind of object is addressed and what the generic code has to know about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    /// Lower-case plural, as in the URL.
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short: &'static [&'static str],
    pub(super) namespaced: bool,
    /// `status` is written through its own subresource only.
    pub(super) has_status: bool,
    /// A new object keeps the `status` its creator sent; a kubelet registers its Node this way.
    pub(super) keeps_status_on_create: bool,
    /// `metadata.generation` counts changes of `spec`.
    pub(super) has_generation: bool,
    /// An update without `metadata.resourceVersion` is accepted.
    pub(super) unconditional_update: bool,
    /// DELETE answers with the object instead of a `Status`.
    pub(super) returns_deleted: bool,
}

/// Index into [`RESOURCES`].
pub(super) type ResourceId = usize;

pub(super) const NODES: ResourceId = 0;
pub(super) const PODS: ResourceId = 1;
pub(super) const NAMESPACES: ResourceId = 2;
pub(super) const BUDGETS: ResourceId = 3;
pub(super) const EVENTS: ResourceId = 4;

const BASE: Resource = Resource {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    short: &[],
    namespaced: true,
    has_status: true,
    keeps_status_on_create: false,
    has_generation: false,
    unconditional_update: true,
    returns_deleted: false,
};

const APPS: Resource = Resource { group: "apps", has_generation: true, ..BASE };

/// Order is significant: the ids above are positions.
pub(super) static RESOURCES: [Resource; 11] = [
    Resource { plural: "nodes", kind: "Node", short: &["no"], namespaced: false, keeps_status_on_create: true, ..BASE },
    Resource { plural: "pods", kind: "Pod", short: &["po"], has_generation: true, returns_deleted: true, ..BASE },
    Resource {
        plural: "namespaces",
        kind: "Namespace",
        short: &["ns"],
        namespaced: false,
        returns_deleted: true,
        ..BASE
    },
    Resource {
        group: "policy",
        plural: "poddisruptionbudgets",
        kind: "PodDisruptionBudget",
        short: &["pdb"],
        has_generation: true,
        unconditional_update: false,
        ..BASE
    },
    Resource {
        group: "events.k8s.io",
        plural: "events",
        kind: "Event",
        short: &["ev"],
        has_status: false,
        keeps_status_on_create: true,
        ..BASE
    },
    Resource {
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        has_status: false,
        unconditional_update: false,
        ..BASE
    },
    Resource { plural: "replicasets", kind: "ReplicaSet", short: &["rs"], ..APPS },
    Resource { plural: "deployments", kind: "Deployment", short: &["deploy"], ..APPS },
    Resource { plural: "statefulsets", kind: "StatefulSet", short: &["sts"], ..APPS },
    Resource { plural: "daemonsets", kind: "DaemonSet", short: &["ds"], ..APPS },
    Resource { plural: "configmaps", kind: "ConfigMap", short: &["cm"], has_status: false, ..BASE },
];

/// Events as clients of `core/v1` see them. The same objects as those of `events.k8s.io`, in an older form.
pub(super) static CORE_EVENTS: Resource =
    Resource { plural: "events", kind: "Event", short: &["ev"], has_status: false, ..BASE };

/// Whether this is [`CORE_EVENTS`].
pub(super) fn is_core_event(resource: &Resource) -> bool {
    *resource == CORE_EVENTS
}

impl Resource {
    /// `v1`, `policy/v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `poddisruptionbudgets.policy`: the form used in messages.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// The row at `id`; ids come from this module, so the fallback is never taken.
pub(super) fn resource(id: ResourceId) -> &'static Resource {
    RESOURCES.get(id).unwrap_or(&BASE)
}

/// Finds a resource by its place in the URL, and the form in which its objects are seen there.
pub(super) fn by_path(group: &str, version: &str, plural: &str) -> Option<(ResourceId, &'static Resource)> {
    if (group, version, plural) == ("", "v1", "events") {
        return Some((EVENTS, &CORE_EVENTS));
    }
    let id = RESOURCES.iter().position(|r| r.group == group && r.version == version && r.plural == plural)?;
    Some((id, resource(id)))
}

/// Finds a resource by the `apiVersion` and `kind` of an object.
pub(super) fn by_kind(api_version: &str, kind: &str) -> Option<ResourceId> {
    RESOURCES.iter().position(|r| r.kind == kind && r.api_version() == api_version)
}
