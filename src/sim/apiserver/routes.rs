//! From a request's method, path and query to what it asks for.

use http::{Method, Uri};

use super::{
    resource::{Resource, ResourceId, by_path, resource},
    selector::Selector,
    status::ApiError,
};

/// What a path addresses.
#[derive(Debug)]
pub(super) enum Route {
    Object(Target),
    /// `/version`, `/livez`, `/apis`, … : path without a trailing slash.
    Fixed(String),
    /// `authorization.k8s.io/v1 selfsubjectaccessreviews`.
    AccessReview,
    Unknown,
}

/// An object or a collection.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) id: ResourceId,
    pub(super) resource: &'static Resource,
    /// Empty: cluster-scoped, or a collection across namespaces.
    pub(super) namespace: String,
    /// Empty: the collection.
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Target {
    /// The same in the form that the store keeps.
    pub(super) fn as_stored(&self) -> Self {
        Self { resource: resource(self.id), ..self.clone() }
    }

    pub(super) fn namespace_filter(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }

    /// The verb as RBAC rules name it; `None` if the path does not take the method.
    pub(super) fn verb(&self, method: &Method, query: &Query) -> Option<&'static str> {
        let named = !self.name.is_empty();
        match (method.as_str(), named) {
            ("GET", true) => Some("get"),
            ("GET", false) if query.flag("watch") => Some("watch"),
            ("GET", false) => Some("list"),
            ("POST", false) if self.namespace.is_empty() != self.resource.namespaced => Some("create"),
            ("POST", true) if matches!(self.subresource.as_str(), "eviction" | "binding") => Some("create"),
            ("PUT", true) => Some("update"),
            ("PATCH", true) => Some("patch"),
            ("DELETE", true) if self.subresource.is_empty() => Some("delete"),
            _ => None,
        }
    }
}

/// Resolves a path.
pub(super) fn route(path: &str) -> Route {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Route::Fixed(format!("/{}", segments.join("/"))),
    };
    if rest.is_empty() {
        return Route::Fixed(format!("/{}", segments.join("/")));
    }
    if (group, version, rest) == ("authorization.k8s.io", "v1", &["selfsubjectaccessreviews"]) {
        return Route::AccessReview;
    }
    target(group, version, rest).map_or(Route::Unknown, Route::Object)
}

fn target(group: &str, version: &str, rest: &[&str]) -> Option<Target> {
    let (namespace, rest) = match rest {
        ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        _ => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return None,
    };
    let (id, resource) = by_path(group, version, plural)?;
    let known_subresource = match subresource {
        "" => true,
        "status" => resource.has_status,
        "eviction" | "binding" => resource.kind == "Pod",
        _ => false,
    };
    // A namespaced object cannot be addressed without its namespace, nor a cluster-scoped one with any.
    let scoped = if resource.namespaced { name.is_empty() || !namespace.is_empty() } else { namespace.is_empty() };
    (known_subresource && scoped).then(|| Target {
        id,
        resource,
        namespace: decode(namespace),
        name: decode(name),
        subresource: subresource.to_owned(),
    })
}

/// Decoded query parameters.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// First value of a parameter, empty if absent.
    pub(super) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str())
    }

    /// True for `watch`, `watch=1` and `watch=true`.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.0.iter().any(|(name, value)| name == key && matches!(value.as_str(), "" | "1" | "true"))
    }

    /// A number; refused with 400 if it is none.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseUint: parsing {text:?}: invalid syntax (parameter {key})"))
            }),
        }
    }

    pub(super) fn dry_run(&self) -> bool {
        self.get("dryRun") == "All"
    }

    pub(super) fn selector(&self, id: ResourceId) -> Result<Selector, ApiError> {
        Selector::parse(id, self.get("fieldSelector"), self.get("labelSelector"))
    }
}

/// Percent and plus decoding. An incomplete escape is kept as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        (rest, out) = match (byte, escape(tail)) {
            (b'%', Some(value)) => (tail.get(2..).unwrap_or_default(), pushed(out, value)),
            (b'+', _) => (tail, pushed(out, b' ')),
            _ => (tail, pushed(out, byte)),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn pushed(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}
