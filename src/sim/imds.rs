//! A simulated instance metadata service: one virtual instance behind a listener that the caller binds.
//!
//! It speaks the wire protocol of IMDSv2 as recorded from the real one: token rules, headers, the bytes of its error
//! pages, one request per connection. Its clock is the platform's; give the agent another one to skew the two. Every
//! request is logged, and [`Fault`]s can be laid over any path, request or stretch of time. It never serves anything
//! that looks like a credential.

mod content;
mod fault;
mod signals;
mod wire;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::content::{IdentitySpec, NetworkTree};
use self::fault::Delivery;
pub use self::fault::{Fault, FaultKind};
pub use self::signals::{ScheduledEvent, ScheduledState};
use self::signals::{Signals, SpotAction, SpotTime};
use self::wire::{Reply, Request};
use crate::clock::{Clock, Now};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const LONGEST_TTL: u64 = 21_600;

/// A service that is kept up for days must not grow without end.
const LOG_CAP: usize = 100_000;

/// A client that connects and says nothing is let go after this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// One request as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsRequest {
    /// When its head was complete.
    pub at: Now,
    /// In upper case.
    pub method: String,
    /// With the query, if any.
    pub path: String,
    /// The status of the answer; `None` if a fault left it without one.
    pub status: Option<u16>,
    /// It carried a session token, valid or not.
    pub token: bool,
    /// It carried `X-Forwarded-For`: something in between is a proxy.
    pub forwarded_for: bool,
    /// What the client was told, if the request asked for a signal and the answer was a 200.
    pub told: Option<Box<str>>,
}

impl ImdsRequest {
    /// It asks what is coming, as opposed to sessions and names.
    pub fn is_poll(&self) -> bool {
        asks_for_a_signal(&self.path)
    }
}

fn asks_for_a_signal(path: &str) -> bool {
    ["/spot/", "/events/", "/autoscaling/"].iter().any(|part| path.contains(part))
}

/// A handle to one simulated service. Clones control the same one.
#[derive(Clone)]
pub struct SimImds {
    state: Arc<Mutex<State>>,
    off: watch::Sender<bool>,
}

struct State {
    clock: Clock,
    started: Timestamp,
    identity: IdentitySpec,
    enabled: bool,
    tokens_required: bool,
    signals: Signals,
    network: Network,
    raw: BTreeMap<String, Option<Vec<u8>>>,
    tokens: HashMap<String, Issued>,
    issued: u64,
    faults: Vec<Fault>,
    log: VecDeque<ImdsRequest>,
    /// Requests that the log has forgotten.
    forgotten: usize,
    in_flight: usize,
    most_in_flight: usize,
}

/// Tells the interfaces as they are now.
type Network = Box<dyn Fn() -> NetworkTree + Send>;

struct Issued {
    expires_at: Instant,
    uses_left: u32,
}

impl SimImds {
    /// A service that answers, with tokens required and nothing scheduled. `clock` is the platform's.
    pub fn new(clock: Clock, identity: IdentitySpec) -> Self {
        let state = State {
            clock,
            started: clock.now().wall,
            identity,
            enabled: true,
            tokens_required: true,
            signals: Signals::default(),
            network: Box::new(NetworkTree::new),
            raw: BTreeMap::new(),
            tokens: HashMap::new(),
            issued: 0,
            faults: Vec::new(),
            log: VecDeque::new(),
            forgotten: 0,
            in_flight: 0,
            most_in_flight: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), off: watch::Sender::new(false) }
    }

    /// Serves `listener` until [`SimImds::power_off`]; dropping the future ends it too. Open connections end with it.
    pub async fn serve(self, listener: TcpListener) {
        let mut off = self.off.subscribe();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = off.wait_for(|off| *off) => return,
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(self.clone().connection(stream));
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }

    /// Announces `action` for `time`, which stays as it is whatever the clock does. `spot/termination-time` follows.
    pub fn set_spot_action(&self, action: &str, time: Timestamp) {
        self.lock().signals.spot = Some(SpotAction { action: action.to_owned(), time: SpotTime::At(time) });
    }

    /// Announces `action` for `lead` after each read, as some mocks do: the time slides.
    pub fn set_sliding_spot_action(&self, action: &str, lead: Duration) {
        self.lock().signals.spot = Some(SpotAction { action: action.to_owned(), time: SpotTime::Ahead(lead) });
    }

    /// Takes the announcement back, as no real service does.
    pub fn clear_spot_action(&self) {
        self.lock().signals.spot = None;
    }

    /// Recommends to rebalance since `notice_time`; `None` takes it back, as no real service was seen to do.
    pub fn set_rebalance(&self, notice_time: Option<Timestamp>) {
        self.lock().signals.rebalance = notice_time;
    }

    /// What `events/maintenance/scheduled` lists.
    pub fn set_scheduled(&self, events: impl Into<Vec<ScheduledEvent>>) {
        self.lock().signals.scheduled = events.into();
    }

    /// What `events/maintenance/history` lists.
    pub fn set_history(&self, events: impl Into<Vec<ScheduledEvent>>) {
        self.lock().signals.history = events.into();
    }

    /// The word at `autoscaling/target-lifecycle-state`; `None` answers 404, as outside of a group.
    pub fn set_lifecycle(&self, word: Option<&str>) {
        self.lock().signals.lifecycle = word.map(ToOwned::to_owned);
    }

    /// Tells the network interfaces as `tree` has them at each request, by `SimIpamd::network_tree` say. Until then there are
    /// none.
    pub fn set_network(&self, tree: impl Fn() -> NetworkTree + Send + 'static) {
        self.lock().network = Box::new(tree);
    }

    /// Serves `body` at `path`, a full path from `/latest/` on, instead of what belongs there.
    pub fn set_raw(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.lock().raw.insert(path.to_owned(), Some(body.into()));
    }

    /// Answers 404 at `path`, whatever belongs there.
    pub fn set_absent(&self, path: &str) {
        self.lock().raw.insert(path.to_owned(), None);
    }

    /// Undoes [`SimImds::set_raw`] and [`SimImds::set_absent`].
    pub fn clear_raw(&self, path: &str) {
        self.lock().raw.remove(path);
    }

    /// Whether the metadata endpoint is on; if off, every request gets 403.
    pub fn set_enabled(&self, enabled: bool) {
        self.lock().enabled = enabled;
    }

    /// Whether a request without a token gets 401 (the default) or is served as in version 1.
    pub fn set_tokens_required(&self, required: bool) {
        self.lock().tokens_required = required;
    }

    /// Forgets every token, as a restarted service does: they get 401 from now on.
    pub fn forget_tokens(&self) {
        self.lock().tokens.clear();
    }

    /// Adds a fault. Faults act in the order in which they were added; several may act on one request.
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// The instance is gone: nothing is answered any more, open connections are closed, [`SimImds::serve`] returns.
    pub fn power_off(&self) {
        self.off.send_replace(true);
    }

    /// The platform's clock.
    pub fn now(&self) -> Now {
        self.lock().clock.now()
    }

    /// Every request so far, oldest first; of very many the last 100,000.
    pub fn requests(&self) -> Vec<ImdsRequest> {
        self.lock().log.iter().cloned().collect()
    }

    /// The requests after the first `seen`, oldest first.
    pub fn requests_after(&self, seen: usize) -> Vec<ImdsRequest> {
        let state = self.lock();
        state.log.iter().skip(seen.saturating_sub(state.forgotten)).cloned().collect()
    }

    /// The largest number of connections that were open when one of them had sent its request.
    pub fn most_in_flight(&self) -> usize {
        self.lock().most_in_flight
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(self, mut stream: TcpStream) {
        let in_flight = InFlight::enter(&self);
        let Ok(Some(request)) = tokio::time::timeout(HEAD_TIMEOUT, wire::read_head(&mut stream)).await else { return };
        // Held to the end, unless it is none of the agent's.
        let _in_flight = (!request.is_onlookers()).then_some(in_flight);
        let delivery = self.lock().handle(&request);
        // A client that has gone away is its own business.
        let _ = delivery.carry_out(stream, request.method == "HEAD").await;
    }
}

/// Counts a connection for as long as it lives, aborted ones included.
struct InFlight(SimImds);

impl InFlight {
    fn enter(sim: &SimImds) -> Self {
        let mut state = sim.lock();
        state.in_flight += 1;
        drop(state);
        Self(sim.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl State {
    /// Decides about one request and logs it.
    fn handle(&mut self, request: &Request) -> Delivery {
        let now = self.clock.now();
        let active: Vec<FaultKind> =
            self.faults.iter_mut().filter_map(|fault| fault.strike(request, now.instant)).collect();
        let forced = active.iter().find_map(FaultKind::forced_status);
        let mut reply = forced.map_or_else(|| self.reply(request, now, &active), Reply::error);
        reply.date = Some(now.wall);
        reply.last_modified = Some(self.started);
        let mut delivery = Delivery::of(reply);
        for kind in active {
            delivery.suffer(kind);
        }
        if request.is_onlookers() {
            return delivery;
        }
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        if self.log.len() == LOG_CAP {
            self.log.pop_front();
            self.forgotten += 1;
        }
        self.log.push_back(ImdsRequest {
            at: now,
            method: request.method.clone(),
            path: request.path.clone(),
            status: delivery.status(),
            token: request.header(TOKEN_HEADER).is_some(),
            forwarded_for: request.header("x-forwarded-for").is_some(),
            told: delivery.content().filter(|_| asks_for_a_signal(&request.path)).map(Into::into),
        });
        delivery
    }

    fn reply(&mut self, request: &Request, now: Now, faults: &[FaultKind]) -> Reply {
        if !self.enabled {
            return Reply::error(403);
        }
        let path = request.path.split('?').next().unwrap_or_default();
        if path == TOKEN_PATH {
            return self.token(request, now, faults);
        }
        if path.ends_with("/api/token") {
            return Reply::error(403);
        }
        if !["GET", "HEAD"].contains(&request.method.as_str()) {
            return Reply::error(405);
        }
        let ttl = match self.authorize(request, now) {
            Ok(ttl) => ttl,
            Err(status) => return Reply::error(status),
        };
        let mut reply = self.content(path, now.wall).map_or_else(|| Reply::error(404), Reply::content);
        reply.ttl = ttl.map(|ttl| ttl.to_string());
        reply
    }

    fn token(&mut self, request: &Request, now: Now, faults: &[FaultKind]) -> Reply {
        if request.method != "PUT" {
            return Reply { allow: Some("OPTIONS, PUT"), ..Reply::error(405) };
        }
        if request.header("x-forwarded-for").is_some() {
            return Reply::error(403);
        }
        let asked = request.header(TOKEN_TTL_HEADER).and_then(|ttl| ttl.parse().ok());
        let Some(ttl) = asked.filter(|ttl| (1..=LONGEST_TTL).contains(ttl)) else { return Reply::error(400) };
        self.tokens.retain(|_, issued| now.instant < issued.expires_at);
        self.issued += 1;
        let token = content::token(self.issued);
        let uses_left = faults.iter().find_map(FaultKind::token_uses).unwrap_or(u32::MAX);
        let expires_at = now.instant + Duration::from_secs(ttl);
        self.tokens.insert(token.clone(), Issued { expires_at, uses_left });
        Reply { ttl: Some(ttl.to_string()), ..Reply::content(token.into_bytes()) }
    }

    /// The seconds that the request's token has left; `None` for a request without one where that is allowed.
    fn authorize(&mut self, request: &Request, now: Now) -> Result<Option<u64>, u16> {
        let Some(token) = request.header(TOKEN_HEADER) else {
            return if self.tokens_required { Err(401) } else { Ok(None) };
        };
        let issued =
            self.tokens.get_mut(token).filter(|issued| now.instant < issued.expires_at && issued.uses_left > 0);
        let issued = issued.ok_or(401_u16)?;
        issued.uses_left -= 1;
        Ok(Some((issued.expires_at - now.instant).as_secs()))
    }

    fn content(&self, path: &str, now: Timestamp) -> Option<Vec<u8>> {
        if let Some(raw) = self.raw.get(path) {
            return raw.clone();
        }
        let tree = if path.contains("/network") { (self.network)() } else { NetworkTree::new() };
        content::lookup(&self.identity, &self.signals, &tree, now, path)
    }
}
