//! What a request means to the authorizer: verb, API group, resource, namespace, name. Pure.
//!
//! Follows the rules by which kube-apiserver derives its request info from method, path and query, so that a log of
//! these can be compared with RBAC rules word for word.

use http::{Method, Uri};

/// A request in RBAC's words. Text that does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths that are no
    /// resource, the HTTP method in lower case.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource; empty for paths that are no resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Object name; of a list or watch, the one that its field selector names.
    pub name: String,
}

impl Attributes {
    /// Reads a request line.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty()).map(percent_decoded);
        let (group, version) = match parts.next().as_deref() {
            Some("api") => (Some(String::new()), parts.next()),
            Some("apis") => (parts.next(), parts.next()),
            _ => (None, None),
        };
        let (Some(group), Some(version), rest) = (group, version, parts.collect::<Vec<_>>()) else {
            return Self::non_resource(method);
        };
        if rest.is_empty() {
            return Self::non_resource(method);
        }
        let mut found = Self { group, version, ..Self::default() };
        found.read_resource(&rest);
        found.read_verb(method, uri.query().unwrap_or_default());
        found
    }

    fn non_resource(method: &Method) -> Self {
        Self { verb: lower(method), ..Self::default() }
    }

    /// `[namespaces/{ns}/]resource[/name[/subresource]]`; a namespace itself is also its own namespace.
    fn read_resource(&mut self, parts: &[String]) {
        let text = |at: usize| parts.get(at).cloned().unwrap_or_default();
        let namespaced = parts.len() > 1 && text(0) == "namespaces";
        if namespaced {
            self.namespace = text(1);
        }
        let own_subresource = matches!(text(2).as_str(), "status" | "finalize");
        let base = if namespaced && parts.len() > 2 && !own_subresource { 2 } else { 0 };
        self.resource = text(base);
        self.name = text(base + 1);
        self.subresource = text(base + 2);
    }

    fn read_verb(&mut self, method: &Method, query: &str) {
        self.verb = match lower(method) {
            "post" => "create",
            "put" => "update",
            "delete" if self.name.is_empty() => "deletecollection",
            "get" | "head" if watches(query) && (self.name.is_empty() || self.subresource.is_empty()) => "watch",
            "get" | "head" if self.name.is_empty() => "list",
            "head" => "get",
            other => other,
        };
        if self.name.is_empty() && matches!(self.verb, "list" | "watch" | "deletecollection") {
            self.name = selected_name(query).unwrap_or_default();
        }
    }

    /// Whether the request means to change something.
    pub fn mutating(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete" | "deletecollection" | "post" | "put")
    }

    /// As an RBAC rule lists it under `resources`: `pods` or `pods/eviction`.
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

fn lower(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "other",
    }
}

fn watches(query: &str) -> bool {
    parameters(query).any(|(key, value)| key == "watch" && !matches!(value.as_str(), "0" | "false"))
}

fn selected_name(query: &str) -> Option<String> {
    let (_, selector) = parameters(query).find(|(key, _)| key == "fieldSelector")?;
    let name = selector.split(',').find_map(|term| term.strip_prefix("metadata.name="))?;
    Some(name.trim_start_matches('=').to_owned())
}

/// The decoded parameters of a query.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(&key.replace('+', " ")), percent_decoded(&value.replace('+', " ")))
    })
}

/// Decodes `%XX`; what is no valid escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = tail.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// verb, group, version, resource, subresource, namespace, name
    type Expected<'a> = [&'a str; 7];

    #[rstest]
    #[case("GET", "/api/v1/nodes/n1", ["get", "", "v1", "nodes", "", "", "n1"])]
    #[case("HEAD", "/api/v1/nodes/n1", ["get", "", "v1", "nodes", "", "", "n1"])]
    #[case("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&limit=500", ["list", "", "v1", "pods", "", "", ""])]
    #[case("GET", "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dn1", ["watch", "", "v1", "pods", "", "", ""])]
    #[case("GET", "/api/v1/pods?watch=0", ["list", "", "v1", "pods", "", "", ""])]
    #[case("GET", "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn1", ["watch", "", "v1", "nodes", "", "", "n1"])]
    #[case("GET", "/api/v1/nodes?fieldSelector=a%3Db%2Cmetadata.name%3D%3Dn1", ["list", "", "v1", "nodes", "", "", "n1"])]
    #[case("PATCH", "/api/v1/nodes/n1?fieldManager=spotwarden", ["patch", "", "v1", "nodes", "", "", "n1"])]
    #[case("PATCH", "/api/v1/nodes/n1/status", ["patch", "", "v1", "nodes", "status", "", "n1"])]
    #[case("POST", "/api/v1/namespaces/a/pods", ["create", "", "v1", "pods", "", "a", ""])]
    #[case("POST", "/api/v1/namespaces/a/pods/p/eviction", ["create", "", "v1", "pods", "eviction", "a", "p"])]
    #[case("DELETE", "/api/v1/namespaces/a/pods/p", ["delete", "", "v1", "pods", "", "a", "p"])]
    #[case("DELETE", "/api/v1/namespaces/a/pods", ["deletecollection", "", "v1", "pods", "", "a", ""])]
    #[case("PUT", "/apis/policy/v1/namespaces/a/poddisruptionbudgets/b/status", ["update", "policy", "v1", "poddisruptionbudgets", "status", "a", "b"])]
    #[case("POST", "/apis/events.k8s.io/v1/namespaces/default/events", ["create", "events.k8s.io", "v1", "events", "", "default", ""])]
    #[case("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ["create", "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "", "", ""])]
    #[case("GET", "/api/v1/namespaces", ["list", "", "v1", "namespaces", "", "", ""])]
    #[case("DELETE", "/api/v1/namespaces/a", ["delete", "", "v1", "namespaces", "", "a", "a"])]
    #[case("PUT", "/api/v1/namespaces/a/finalize", ["update", "", "v1", "namespaces", "finalize", "a", "a"])]
    #[case("GET", "/api/v1", ["get", "", "", "", "", "", ""])]
    #[case("GET", "/apis/policy/v1", ["get", "", "", "", "", "", ""])]
    #[case("GET", "/version", ["get", "", "", "", "", "", ""])]
    #[case("POST", "/", ["post", "", "", "", "", "", ""])]
    fn a_request_line_has_the_attributes_that_rbac_sees(
        #[case] method: &str,
        #[case] uri: &str,
        #[case] expected: Expected<'_>,
    ) {
        let a = Attributes::of(&method.parse().unwrap(), &uri.parse().unwrap());
        assert_eq!([a.verb, &a.group, &a.version, &a.resource, &a.subresource, &a.namespace, &a.name], expected);
    }

    #[rstest]
    #[case("GET", false)]
    #[case("HEAD", false)]
    #[case("POST", true)]
    #[case("PUT", true)]
    #[case("PATCH", true)]
    #[case("DELETE", true)]
    fn what_changes_something_is_mutating(#[case] method: &str, #[case] expected: bool) {
        for path in ["/api/v1/nodes/n1", "/api/v1/namespaces/a/pods"] {
            let a = Attributes::of(&method.parse().unwrap(), &path.parse().unwrap());
            assert_eq!(a.mutating(), expected, "{path}");
        }
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("%zz%41"), "%zzA");
    }
}
