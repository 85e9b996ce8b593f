//! Watches: one stream per request, fed from the store's history.
//!
//! Invariant: a watch misses nothing between its start revision and its end. One that cannot keep that promise ends with
//! an `ERROR` event (410 Expired), after which the client lists again.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    ApiServer, Body,
    object::set_meta,
    resource::{ResourceId, resource},
    routes::{Query, Target},
    selector::Selector,
    status::ApiError,
    store::{Change, Store},
    view::View,
};

/// Length of a watch whose client names none; the real server picks between 30 and 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(45);
/// The real server sends a last bookmark this long before a watch ends.
const BOOKMARK_LEAD: Duration = Duration::from_secs(2);
/// Marks the bookmark that ends a streamed list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// One running watch.
struct Watch {
    server: ApiServer,
    id: ResourceId,
    target: Target,
    view: View,
    namespace: Option<String>,
    selector: Selector,
    /// Everything up to this revision has been looked at.
    cursor: u64,
    pending: VecDeque<Bytes>,
    ends: Instant,
    bookmark: Option<Instant>,
    changed: watch::Receiver<u64>,
    closed: watch::Receiver<u64>,
    over: bool,
}

/// Starts a watch. Called with the store locked, so that nothing happens between the initial state and the stream.
pub(super) fn start(
    server: &ApiServer,
    store: &Store,
    target: &Target,
    query: &Query,
    view: View,
) -> Result<Response<Body>, ApiError> {
    let selector = query.selector(target.id)?;
    let wanted = query.number("resourceVersion")?;
    let timeout = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let timeout = timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let bookmarks = query.flag("allowWatchBookmarks");
    let now = Instant::now();
    let mut watch = Watch {
        server: server.clone(),
        id: target.id,
        target: target.clone(),
        view,
        namespace: target.namespace_filter().map(str::to_owned),
        selector,
        cursor: wanted.unwrap_or(0),
        pending: VecDeque::new(),
        ends: now + timeout,
        bookmark: bookmarks.then(|| now + timeout.saturating_sub(BOOKMARK_LEAD)),
        changed: server.inner.changed.subscribe(),
        closed: server.inner.closed.subscribe(),
        over: false,
    };
    watch.changed.mark_unchanged();
    watch.closed.mark_unchanged();
    let streamed_list = query.flag("sendInitialEvents");
    if watch.cursor == 0 || streamed_list {
        watch.send_present(store, streamed_list && bookmarks);
    } else if watch.cursor < store.compacted() {
        let message = format!("too old resource version: {} ({})", watch.cursor, store.compacted());
        watch.fail(&ApiError::expired(message));
    }
    Ok(watch.into_response())
}

impl Watch {
    fn into_response(self) -> Response<Body> {
        let frames = stream::unfold(self, |mut watch| async move { watch.next().await.map(|line| (line, watch)) });
        let frames = frames.map(|line| Ok::<_, Infallible>(Frame::data(line)));
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// The next line, or the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(line);
            }
            if self.over || self.closed.has_changed().unwrap_or(true) {
                return None;
            }
            self.read_history();
            if self.pending.is_empty() && !self.over {
                self.wait().await;
            }
        }
    }

    fn read_history(&mut self) {
        let server = self.server.clone();
        let store = server.lock();
        if self.cursor < store.floor() {
            let message = format!("too old resource version: {} ({})", self.cursor, store.floor());
            self.fail(&ApiError::expired(message));
            return;
        }
        while let Some(change) = store.next_change(self.id, self.cursor) {
            self.cursor = change.revision;
            self.send_change(change);
        }
        self.cursor = self.cursor.max(store.revision());
    }

    async fn wait(&mut self) {
        let wake = self.bookmark.unwrap_or(self.ends);
        tokio::select! {
            biased;
            gone = self.changed.changed() => self.over = gone.is_err(),
            _ = self.closed.changed() => self.over = true,
            () = tokio::time::sleep_until(wake) => {
                if self.bookmark.take().is_some() {
                    self.send_bookmark(self.cursor, false);
                } else {
                    self.over = true;
                }
            }
        }
    }

    fn send_present(&mut self, store: &Store, end_mark: bool) {
        self.cursor = store.revision();
        let present: Vec<Value> = store
            .list(self.id, self.namespace.as_deref())
            .filter(|object| self.selector.matches(object))
            .map(|object| Value::clone(object))
            .collect();
        for object in present {
            self.send("ADDED", &object);
        }
        if end_mark {
            self.send_bookmark(self.cursor, true);
        }
    }

    /// What a change means to this watch: an object that leaves the selection is deleted as far as it can see.
    fn send_change(&mut self, change: &Change) {
        let visible = |object: &Value| {
            let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
            self.namespace.is_none() || self.namespace.as_deref() == namespace
        };
        let matching = |object: &&Value| visible(object) && self.selector.matches(object);
        let before = change.before.as_deref().filter(matching);
        let after = change.after.as_deref().filter(matching);
        match (before, after) {
            (None, Some(after)) => self.send("ADDED", after),
            (Some(_), Some(after)) => self.send("MODIFIED", after),
            (Some(before), None) => {
                let mut last = before.clone();
                set_meta(&mut last, "resourceVersion", json!(change.revision.to_string()));
                self.send("DELETED", &last);
            }
            (None, None) => {}
        }
    }

    fn send_bookmark(&mut self, revision: u64, end_mark: bool) {
        let resource = resource(self.id);
        let mut object = json!({
            "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
        });
        if end_mark {
            set_meta(&mut object, "annotations", json!({INITIAL_EVENTS_END: "true"}));
        }
        self.send("BOOKMARK", &object);
    }

    fn fail(&mut self, error: &ApiError) {
        self.send("ERROR", &error.to_json());
        self.over = true;
    }

    fn send(&mut self, kind: &str, object: &Value) {
        let shown = (kind != "ERROR" && kind != "BOOKMARK" && !self.view.is_plain())
            .then(|| self.view.shown(&self.target, object.clone(), self.server.inner.clock.now().wall));
        let object = shown.as_ref().unwrap_or(object);
        let mut line = json!({"type": kind, "object": object}).to_string();
        line.push('\n');
        self.pending.push_back(Bytes::from(line));
    }
}
