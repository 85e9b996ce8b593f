//! What a request to the API server asks for, in the words of RBAC: derived from method and path alone.

use http::{Method, Uri};

/// The attributes by which the authorizer judges a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name; empty for a path that names no resource (`/version`).
    pub resource: String,
    /// `status`, `eviction`, …; empty if none.
    pub subresource: String,
    /// Empty for a cluster-scoped resource, or for one asked for across namespaces.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
}

impl RequestInfo {
    /// Reads method, path and the `watch` parameter as the API server does.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let mut segments = uri.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned);
        let mut info = Self::default();
        match segments.next().as_deref() {
            Some("api") => {}
            Some("apis") => info.group = segments.next().unwrap_or_default(),
            _ => return Self { verb: verb(method, false, true), ..Self::default() },
        }
        info.version = segments.next().unwrap_or_default();
        let mut rest: Vec<String> = segments.collect();
        if rest.first().is_some_and(|first| first == "namespaces") && rest.len() > 2 {
            info.namespace = rest.drain(..2).nth(1).unwrap_or_default();
        }
        let mut rest = rest.into_iter();
        info.resource = rest.next().unwrap_or_default();
        info.name = rest.next().unwrap_or_default();
        info.subresource = rest.next().unwrap_or_default();
        let watching = uri.query().is_some_and(|query| query.split('&').any(|pair| is_true(pair, "watch")));
        info.verb = verb(method, watching, !info.name.is_empty());
        info
    }

    /// `pods`, `pods/eviction`: the spelling of RBAC rules.
    pub fn rule_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

fn is_true(pair: &str, key: &str) -> bool {
    matches!(pair.split_once('='), Some((k, "1" | "true")) if k == key)
}

fn verb(method: &Method, watching: bool, named: bool) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ if watching => "watch",
        _ if named => "get",
        _ => "list",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("GET", "/api/v1/nodes/n", "get", "", "nodes", "", "n")]
    #[case("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn", "list", "", "nodes", "", "")]
    #[case("GET", "/api/v1/pods?watch=true&fieldSelector=x", "watch", "", "pods", "", "")]
    #[case("POST", "/api/v1/namespaces/a/pods/b/eviction", "create", "", "pods/eviction", "a", "b")]
    #[case("DELETE", "/api/v1/namespaces/a/pods/b", "delete", "", "pods", "a", "b")]
    #[case("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "", "pods", "a", "")]
    #[case("PATCH", "/api/v1/namespaces/a/pods/b/status?fieldManager=x", "patch", "", "pods/status", "a", "b")]
    #[case("PATCH", "/api/v1/nodes/n", "patch", "", "nodes", "", "n")]
    #[case("GET", "/api/v1/namespaces/a", "get", "", "namespaces", "", "a")]
    #[case(
        "POST",
        "/apis/events.k8s.io/v1/namespaces/default/events",
        "create",
        "events.k8s.io",
        "events",
        "default",
        ""
    )]
    #[case("GET", "/version", "get", "", "", "", "")]
    #[case("GET", "/", "get", "", "", "", "")]
    fn a_request_is_named_as_rbac_names_it(
        #[case] method: &str,
        #[case] uri: &str,
        #[case] verb: &str,
        #[case] group: &str,
        #[case] resource: &str,
        #[case] namespace: &str,
        #[case] name: &str,
    ) {
        let info = RequestInfo::of(&method.parse().unwrap(), &uri.parse().unwrap());
        assert_eq!(
            (
                info.verb,
                info.group.as_str(),
                info.rule_resource().as_str(),
                info.namespace.as_str(),
                info.name.as_str()
            ),
            (verb, group, resource, namespace, name)
        );
    }
}
