//! The API server of the simulated world: stateful, in memory, and hard to tell from a real one for what an agent, a
//! kubelet, kubectl and a scenario do to nodes, pods and disruption budgets.
//!
//! ```text
//!  request ─► routes ─► read │ write ─► patch │ delete │ eviction ─► store ─► watch
//!                                                          └─ budget (disruption controller) ─┘
//! ```
//!
//! It speaks the wire protocol only. It owns no socket (a gateway or [`ApiServer::client`] brings requests to it) and no
//! timer but those of running watches, injects no faults and keeps no log (the gateway does); time comes from the [`Clock`], so it lives in virtual time as well.
//! Invariant: a request is handled under one lock, so that every answer and every watch sees one order of changes.
//!
//! Left out because nothing here depends on it: authentication, quotas, most validation, server-side apply, finalizers,
//! managed fields.

mod budget;
mod controls;
mod defaults;
mod delete;
mod discovery;
mod eviction;
mod object;
mod patch;
mod read;
mod resource;
mod routes;
mod selector;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod write;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Clock;
use controls::Controls;
use routes::{Query, Route, Target};
pub use status::{ApiError, Details};
use store::Store;
use view::View;

/// Body of every answer; a watch's goes on until the watch ends.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The real server's limit for one request body.
const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// Namespaces every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Handle to a simulated API server; clones share its state.
#[derive(Clone, Debug)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    store: Mutex<Store>,
    /// The store's revision; wakes watches.
    changed: tokio::sync::watch::Sender<u64>,
    /// Counts [`ApiServer::close_watches`].
    closed: tokio::sync::watch::Sender<u64>,
    controls: Mutex<Controls>,
}

impl ApiServer {
    /// An empty cluster with the namespaces every cluster has.
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            clock,
            store: Mutex::new(Store::new()),
            changed: tokio::sync::watch::Sender::new(0),
            closed: tokio::sync::watch::Sender::new(0),
            controls: Mutex::default(),
        };
        let server = Self { inner: Arc::new(inner) };
        for name in NAMESPACES {
            // Four distinct names in an empty store: nothing to refuse.
            let _ = server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        server
    }

    /// A client of this server, without sockets. Must be called inside a runtime.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, kube::Error>(server.handle(&Request::from_parts(head, body)))
            }
        });
        kube::Client::new(service, "default")
    }

    /// Creates an object as its controllers would have left it: unlike a POST it keeps `status`. For setting up a world.
    ///
    /// # Errors
    /// The refusal a POST would meet; unknown kinds are a bad request.
    pub fn seed(&self, object: Value) -> Result<Value, ApiError> {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let id = resource::by_kind(api_version, kind)
            .ok_or_else(|| ApiError::bad_request(format!("no matches for kind {kind:?} in version {api_version:?}")))?;
        let resource = resource::resource(id);
        let namespace = if resource.namespaced { object::meta_str(&object, "namespace") } else { "" };
        let namespace = if resource.namespaced && namespace.is_empty() { "default" } else { namespace }.to_owned();
        let target = Target { id, resource, namespace, name: String::new(), subresource: String::new() };
        let wall = self.inner.clock.now().wall;
        let status = object.get("status").cloned();
        let mut store = self.lock();
        let mut created = write::create(&mut store, wall, &target, object, false)?;
        if let (Some(status), Some(map)) = (status, created.as_object_mut()) {
            map.insert("status".to_owned(), status);
            object::normalise(id, resource, &mut created);
            created = Value::clone(&store.put(id, created));
        }
        self.settle(&mut store, wall);
        Ok(created)
    }

    /// The object at a path such as `/api/v1/nodes/n1`, for assertions.
    pub fn object(&self, path: &str) -> Option<Value> {
        let Route::Object(target) = routes::route(path) else { return None };
        read::get(&self.lock(), &target).ok()
    }

    /// Makes every resourceVersion handed out so far too old to start a watch or continue a list from.
    pub fn compact(&self) {
        self.lock().compact();
    }

    /// Ends all running watches, as a server that restarts does.
    pub fn close_watches(&self) {
        self.inner.closed.send_modify(|count| *count += 1);
    }

    /// Holds the disruption controller back (`true`): budgets keep their status until it is let go.
    pub fn hold_budgets(&self, held: bool) {
        lock(&self.inner.controls).budgets_held = held;
        let wall = self.inner.clock.now().wall;
        let mut store = self.lock();
        store.touch_budgets();
        self.settle(&mut store, wall);
    }

    /// Access reviews for this verb and resource (`pods/eviction`) are answered with "no" from now on.
    pub fn deny_review(&self, verb: &str, resource: &str) {
        lock(&self.inner.controls).denied.push((verb.to_owned(), resource.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        lock(&self.inner.store)
    }

    /// Answers one request.
    pub fn handle(&self, request: &Request<Bytes>) -> Response<Body> {
        if request.body().len() > MAX_BODY_BYTES {
            return ApiError::too_large(MAX_BODY_BYTES).into_response();
        }
        match routes::route(request.uri().path()) {
            Route::Object(target) => self.answer_object(request, &target),
            Route::AccessReview => self.review(request).unwrap_or_else(ApiError::into_response),
            Route::Fixed(path) if matches!(path.as_str(), "/livez" | "/readyz" | "/healthz") => plain(200, "ok"),
            Route::Fixed(path) => {
                discovery::document(&path).map_or_else(unknown, |body| status::json_response(200, &body))
            }
            Route::Unknown => unknown(),
        }
    }

    fn answer_object(&self, request: &Request<Bytes>, target: &Target) -> Response<Body> {
        let query = Query::of(request.uri());
        let Some(verb) = target.verb(request.method(), &query) else {
            return ApiError::method_not_allowed().into_response();
        };
        let wall = self.inner.clock.now().wall;
        let mut store = self.lock();
        self.recheck_budgets(&mut store, wall);
        let response = self.dispatch(&mut store, wall, verb, target, &query, request);
        self.settle(&mut store, wall);
        drop(store);
        response.unwrap_or_else(ApiError::into_response)
    }

    fn dispatch(
        &self,
        store: &mut Store,
        wall: Timestamp,
        verb: &str,
        target: &Target,
        query: &Query,
        request: &Request<Bytes>,
    ) -> Result<Response<Body>, ApiError> {
        let dry_run = query.dry_run();
        let body = || parse(request.body());
        let view = View::of(target, request.headers(), query);
        if !view.writable() && !matches!(verb, "get" | "list" | "watch" | "create") {
            return Err(ApiError::method_not_allowed());
        }
        let (code, answer) = match (verb, target.subresource.as_str()) {
            ("get", _) => (200, read::get(store, target)?),
            ("list", _) => (200, read::list(store, target, query)?),
            ("watch", _) => return watch::start(self, store, target, query, view),
            ("create", "eviction") => (201, eviction::evict(store, wall, target, &body()?, query)?),
            ("create", "binding") => (201, write::bind(store, wall, target, &body()?)?),
            ("create", _) => (201, write::create(store, wall, &target.as_stored(), view.stored(body()?), dry_run)?),
            ("update", _) => (200, write::replace(store, target, body()?, dry_run)?),
            ("patch", _) => (200, write::patch(store, target, content_type(request), request.body(), dry_run)?),
            _ => (200, delete_answer(store, wall, target, query, request.body())?),
        };
        let answer = if matches!(verb, "get" | "list" | "create") && target.subresource.is_empty() {
            view.shown(target, answer, wall)
        } else {
            answer
        };
        Ok(status::json_response(code, &answer))
    }

    /// What happens after every request: controllers catch up, watches wake.
    fn settle(&self, store: &mut Store, wall: Timestamp) {
        let held = lock(&self.inner.controls).budgets_held;
        if !held && store.take_budgets_touched() {
            let recheck = budget::reconcile(store, wall);
            // Its own writes touch budgets again.
            store.take_budgets_touched();
            lock(&self.inner.controls).recheck = recheck;
        }
        delete::finish_namespaces(store);
        self.inner.changed.send_if_modified(|seen| std::mem::replace(seen, store.revision()) != store.revision());
    }

    fn recheck_budgets(&self, store: &mut Store, wall: Timestamp) {
        if lock(&self.inner.controls).recheck.is_some_and(|due| due <= wall) {
            store.touch_budgets();
            self.settle(store, wall);
        }
    }

    fn review(&self, request: &Request<Bytes>) -> Result<Response<Body>, ApiError> {
        let mut review = parse(request.body())?;
        let part = |field: &str| object::text(&review, &format!("/spec/resourceAttributes/{field}")).to_owned();
        let (verb, resource, subresource) = (part("verb"), part("resource"), part("subresource"));
        let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
        let denied = lock(&self.inner.controls).denied.contains(&(verb, resource));
        if let Some(map) = review.as_object_mut() {
            map.insert("status".to_owned(), json!({"allowed": !denied}));
        }
        Ok(status::json_response(201, &review))
    }
}

fn delete_answer(
    store: &mut Store,
    wall: Timestamp,
    target: &Target,
    query: &Query,
    body: &Bytes,
) -> Result<Value, ApiError> {
    let body = if body.is_empty() { Value::Null } else { parse(body)? };
    let options = delete::DeleteOptions::parse(&body, query)?;
    let object = delete::delete(store, wall, target.id, &target.namespace, &target.name, &options)?;
    if target.resource.returns_deleted {
        return Ok(object);
    }
    let uid = object.pointer("/metadata/uid").cloned().unwrap_or(Value::Null);
    Ok(status::deleted(target.resource, &target.name, &uid))
}

fn parse(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type JSON): {error}"))
    })
}

fn content_type(request: &Request<Bytes>) -> &str {
    request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn unknown() -> Response<Body> {
    plain(404, "404 page not found\n")
}

fn plain(code: u16, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed_unsync()
}

/// A panic while the lock was held cannot leave half a change behind worth hiding: every write is one step of the store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
