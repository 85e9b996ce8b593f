//! Get and list.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    object::meta_str,
    routes::{Query, Target},
    status::ApiError,
    store::Store,
};

/// Answer to a continued list whose snapshot is gone.
const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
     start a new list without the continue parameter, or use the continue token in this response to retrieve the \
     remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
     created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

pub(super) fn get(store: &Store, target: &Target) -> Result<Value, ApiError> {
    let found = store.get(target.id, &target.namespace, &target.name);
    found.map(|object| Value::clone(object)).ok_or_else(|| ApiError::not_found(target.resource, &target.name))
}

/// A page of a collection. A continued list reads the present state from where the page before ended; only the check
/// that the snapshot still exists is kept of the real server's consistency.
pub(super) fn list(store: &Store, target: &Target, query: &Query) -> Result<Value, ApiError> {
    let selector = query.selector(target.id)?;
    let wanted = query.number("resourceVersion")?.unwrap_or(0);
    if wanted > store.revision() {
        return Err(ApiError::future_revision(wanted, store.revision()));
    }
    let page = Page::parse(store, query)?;
    if query.get("resourceVersionMatch") == "Exact" && wanted < store.compacted() {
        return Err(ApiError::expired("The resourceVersion for the provided list is too old."));
    }
    let mut matching = store
        .list(target.id, target.namespace_filter())
        .filter(|object| page.after.as_ref().is_none_or(|after| position(object) > *after))
        .filter(|object| selector.matches(object))
        .peekable();
    let (mut items, mut last) = (Vec::new(), None);
    while let Some(object) = matching.next_if(|_| page.limit == 0 || items.len() < page.limit) {
        last = Some(position(object));
        items.push(item(object));
    }
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    let remaining = matching.count();
    if let (Some(map), Some(last), true) = (metadata.as_object_mut(), last, remaining > 0) {
        map.insert("continue".to_owned(), json!(token(page.revision, &last)));
        // The real server cannot tell without reading everything, so it does not say for a selection.
        if selector.is_empty() {
            map.insert("remainingItemCount".to_owned(), json!(remaining));
        }
    }
    let kind = format!("{}List", target.resource.kind);
    Ok(json!({"kind": kind, "apiVersion": target.resource.api_version(), "metadata": metadata, "items": items}))
}

struct Page {
    /// 0 = no limit.
    limit: usize,
    /// The revision the list speaks of, the same on every page.
    revision: u64,
    after: Option<Position>,
}

type Position = (String, String);

fn position(object: &Value) -> Position {
    (meta_str(object, "namespace").to_owned(), meta_str(object, "name").to_owned())
}

impl Page {
    fn parse(store: &Store, query: &Query) -> Result<Self, ApiError> {
        let limit = usize::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(0);
        if query.get("continue").is_empty() {
            return Ok(Self { limit, revision: store.revision(), after: None });
        }
        let invalid = || ApiError::bad_request("continue key is not valid");
        let (revision, after) = parse_token(query.get("continue")).ok_or_else(invalid)?;
        if revision < store.compacted() {
            return Err(ApiError::expired(CONTINUE_EXPIRED));
        }
        Ok(Self { limit, revision, after: Some(after) })
    }
}

/// Opaque to clients: hexadecimal of `revision/namespace/name`.
fn token(revision: u64, (namespace, name): &Position) -> String {
    format!("{revision}/{namespace}/{name}").bytes().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn parse_token(token: &str) -> Option<(u64, Position)> {
    let digits = token.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let text = String::from_utf8(digits.collect::<Option<Vec<u8>>>()?).ok()?;
    let mut parts = text.splitn(3, '/');
    let revision = parts.next()?.parse().ok()?;
    Some((revision, (parts.next()?.to_owned(), parts.next()?.to_owned())))
}

/// Items of a list carry neither `kind` nor `apiVersion`; the list's own says it.
fn item(object: &Value) -> Value {
    let fields = object.as_object().into_iter().flatten();
    let fields = fields.filter(|(key, _)| *key != "kind" && *key != "apiVersion");
    Value::Object(fields.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
}
