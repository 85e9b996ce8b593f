//! What was asked of the API server, when, and what it answered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use tokio::sync::watch;

use crate::clock::{Clock, Now};
use crate::k8s::attributes::Attributes;

/// Longest request body that is kept; an agent's requests are a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;
/// Requests kept; a world that is left running for days forgets the oldest.
const MAX_ENTRIES: usize = 100_000;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedRequest {
    /// When it had been read.
    pub at: Now,
    /// When the head of its answer was ready.
    pub answered_at: Option<Now>,
    /// When its answer had been sent in full or the connection was lost; of a watch, its end.
    pub done_at: Option<Now>,
    /// What it means to the authorizer.
    pub attributes: Attributes,
    /// Path as sent.
    pub path: String,
    /// Query as sent.
    pub query: String,
    /// HTTP status; 0 while there is none, and for ever if the connection was closed instead.
    pub code: u16,
    /// `User-Agent`.
    pub user_agent: String,
    /// `Content-Type` of the request.
    pub content_type: String,
    /// Body of a mutating request, at most 64 KiB of it.
    pub body: Option<Bytes>,
}

impl LoggedRequest {
    /// Whether it means to change something.
    pub fn mutating(&self) -> bool {
        self.attributes.mutating()
    }

    /// Whether it is `verb` on `resource` (`pods`) or subresource (`pods/eviction`).
    pub fn is(&self, verb: &str, resource: &str) -> bool {
        self.attributes.verb == verb && self.attributes.resource_path() == resource
    }

    /// Whether it asks what a change would do and changes nothing (`dryRun=All`).
    pub fn is_rehearsal(&self) -> bool {
        let in_body = |pointer: &str| {
            let body = self.json();
            let stages = body.as_ref().and_then(|body| body.pointer(pointer)).and_then(serde_json::Value::as_array);
            stages.is_some_and(|stages| !stages.is_empty())
        };
        self.query.contains("dryRun=") || in_body("/deleteOptions/dryRun") || in_body("/dryRun")
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.body.as_ref()?).ok()
    }
}

#[derive(Debug, Default)]
struct Entries {
    kept: VecDeque<LoggedRequest>,
    /// Number of entries that were forgotten: the id of the first one kept.
    forgotten: u64,
}

impl Entries {
    fn get_mut(&mut self, id: u64) -> Option<&mut LoggedRequest> {
        self.kept.get_mut(usize::try_from(id.checked_sub(self.forgotten)?).ok()?)
    }
}

/// The log; clones share it.
#[derive(Clone, Debug)]
pub(super) struct RequestLog {
    entries: Arc<Mutex<Entries>>,
    changed: Arc<watch::Sender<()>>,
    clock: Clock,
}

impl RequestLog {
    pub(super) fn new(clock: Clock) -> Self {
        Self { entries: Arc::default(), changed: Arc::new(watch::Sender::new(())), clock }
    }

    /// Writes a request down; the entry learns of its end when the guard is dropped.
    pub(super) fn open(&self, request: &Request<Bytes>, attributes: &Attributes) -> Entry {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let logged = LoggedRequest {
            at: self.clock.now(),
            answered_at: None,
            done_at: None,
            attributes: attributes.clone(),
            path: request.uri().path().into(),
            query: request.uri().query().unwrap_or_default().into(),
            code: 0,
            user_agent: header(header::USER_AGENT).into(),
            content_type: header(header::CONTENT_TYPE).into(),
            body: attributes.mutating().then(|| request.body().slice(..request.body().len().min(MAX_BODY))),
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.kept.len() >= MAX_ENTRIES {
            entries.kept.pop_front();
            entries.forgotten += 1;
        }
        let id = entries.forgotten + entries.kept.len() as u64;
        entries.kept.push_back(logged);
        drop(entries);
        self.changed.send_replace(());
        Entry { log: self.clone(), id }
    }

    pub(super) fn requests(&self) -> Vec<LoggedRequest> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).kept.iter().cloned().collect()
    }

    /// The requests from number `from` on and those with a number in `open`, with their numbers, in their order. A long
    /// log is not copied for the sake of its end.
    pub(super) fn news(&self, from: u64, open: &BTreeSet<u64>) -> Vec<(u64, LoggedRequest)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let next = entries.forgotten + entries.kept.len() as u64;
        let number = |number: &u64| {
            let place = usize::try_from(number.checked_sub(entries.forgotten)?).ok()?;
            entries.kept.get(place).map(|request| (*number, request.clone()))
        };
        let old = open.iter().filter(|open| **open < from);
        old.copied().chain(from.max(entries.forgotten)..next).filter_map(|at| number(&at)).collect()
    }

    pub(super) async fn wait_for(&self, wanted: impl Fn(&LoggedRequest) -> bool) -> LoggedRequest {
        let mut changed = self.changed.subscribe();
        loop {
            let found = {
                let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
                entries.kept.iter().find(|entry| wanted(entry)).cloned()
            };
            match found {
                Some(found) => return found,
                // The sender lives as long as `self`.
                None => drop(changed.changed().await),
            }
        }
    }

    fn amend(&self, id: u64, change: impl FnOnce(&mut LoggedRequest, Now)) {
        let now = self.clock.now();
        if let Some(entry) = self.entries.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            change(entry, now);
        }
        self.changed.send_replace(());
    }
}

/// The open end of a log entry.
#[derive(Debug)]
pub(super) struct Entry {
    log: RequestLog,
    id: u64,
}

impl Entry {
    pub(super) fn answered(&self, code: StatusCode) {
        self.log.amend(self.id, |entry, now| {
            entry.code = code.as_u16();
            entry.answered_at = Some(now);
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log.amend(self.id, |entry, now| entry.done_at = Some(now));
    }
}
