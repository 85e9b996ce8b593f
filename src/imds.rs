//! Reading the EC2 instance metadata service, version 2 only.
//!
//! | status | meaning | what the client does |
//! |---|---|---|
//! | 200 | content | the body, at most 64 KiB |
//! | 404 | absent, on every path | an [`Answer`] without a body: absence is a value |
//! | 401 on a GET | token expired or unknown | one fresh token, one immediate retry |
//! | 403 | metadata endpoint disabled or blocked | [`Error::Forbidden`] |
//! | 429, 5xx, others, silence | not now | an [`Error`]; the poll loop is the retry |
//!
//! All clones of a [`Client`] share one token and take turns: at no time are there two requests of one agent at IMDS,
//! which limits simultaneous connections and packets per second. There is no way back to version 1, no proxy, and no
//! path besides those of [`Item`]; the credentials below `iam/` are not among them.

pub mod deadline;
pub mod documents;
mod error;
mod token;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::DATE;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::sync::{Mutex, MutexGuard};

use self::documents::network::Mac;
pub use self::error::Error;
use self::token::Token;
use crate::clock::{Clock, Now};
use crate::config::ImdsConfig;
use crate::http::{BuildError, read_capped};
use crate::metrics::imds::ImdsMetrics;
use crate::signal::Kind;

/// More than any document of IMDS has.
const BODY_CAP: usize = 64 * 1024;

/// All that a leisurely question gets. IMDS answers within milliseconds; it has to be over before the next poll for the spot
/// notice is due.
pub const LEISURE: Duration = Duration::from_millis(400);

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// What is asked, as metrics group it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The session token.
    Token,
    /// `spot/instance-action`.
    SpotAction,
    /// `events/recommendations/rebalance`.
    Rebalance,
    /// `events/maintenance/scheduled` and `events/maintenance/history`.
    Scheduled,
    /// `autoscaling/target-lifecycle-state`.
    Asg,
    /// Everything that says who and where the instance is, its network interfaces included.
    Identity,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 6] =
        [Self::Token, Self::SpotAction, Self::Rebalance, Self::Scheduled, Self::Asg, Self::Identity];

    /// Where signals of `kind` are read. An agent that cannot read one of these is blind on that eye.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::SpotInterruption => Self::SpotAction,
            Kind::RebalanceRecommendation => Self::Rebalance,
            Kind::ScheduledEvent => Self::Scheduled,
            Kind::AsgTermination => Self::Asg,
        }
    }

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::SpotAction => "spot",
            Self::Rebalance => "rebalance",
            Self::Scheduled => "scheduled",
            Self::Asg => "asg",
            Self::Identity => "identity",
        }
    }
}

/// The result of one request, as metrics group it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Content, or word that there is none (404).
    Ok,
    /// No usable answer.
    Failed(Failure),
}

impl Outcome {
    /// The labels.
    pub const WORDS: [&str; 2] = ["ok", "error"];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(_) => "error",
        }
    }
}

/// Why a request failed, as metrics group it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No complete answer in time.
    Timeout,
    /// No connection, or a broken one.
    Connection,
    /// 401 or 403.
    Denied,
    /// 429.
    Throttled,
    /// 5xx.
    ServerError,
    /// Another status, an oversized body, an unusable token.
    Protocol,
}

impl Failure {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Timeout, Self::Connection, Self::Denied, Self::Throttled, Self::ServerError, Self::Protocol];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Protocol => "protocol",
        }
    }
}

/// The paths that the agent may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// The spot interruption notice.
    SpotAction,
    /// The rebalance recommendation.
    Rebalance,
    /// Maintenance events to come.
    ScheduledEvents,
    /// Maintenance events that are completed or cancelled.
    EventHistory,
    /// The state that the auto scaling group moves the instance to.
    TargetLifecycleState,
    /// The instance identity document, one request for most of the identity.
    IdentityDocument,
    /// `spot`, `on-demand` and others to come.
    LifeCycle,
    /// E.g. `euw1-az2`.
    AvailabilityZoneId,
    /// Part of the identity document too.
    InstanceId,
    /// Part of the identity document too.
    InstanceType,
    /// Part of the identity document too.
    AvailabilityZone,
    /// Part of the identity document too.
    Region,
    /// The list of network interfaces.
    Interfaces,
    /// Something about one of them.
    Interface(Mac, Fact),
}

/// What is asked of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Its id.
    Id,
    /// Its place on the instance.
    Device,
    /// The id of its subnet.
    SubnetId,
    /// The addresses of its subnet.
    Subnet,
    /// Its addresses.
    Addresses,
    /// Prefixes that are delegated to it.
    Prefixes,
}

impl Fact {
    /// The last part of the path.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "interface-id",
            Self::Device => "device-number",
            Self::SubnetId => "subnet-id",
            Self::Subnet => "subnet-ipv4-cidr-block",
            Self::Addresses => "local-ipv4s",
            Self::Prefixes => "ipv4-prefix",
        }
    }
}

/// Below this there is a folder for each network interface.
const INTERFACES: &str = "/latest/meta-data/network/interfaces/macs/";

impl Item {
    /// The path.
    pub fn path(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::SpotAction => "/latest/meta-data/spot/instance-action",
            Self::Rebalance => "/latest/meta-data/events/recommendations/rebalance",
            Self::ScheduledEvents => "/latest/meta-data/events/maintenance/scheduled",
            Self::EventHistory => "/latest/meta-data/events/maintenance/history",
            Self::TargetLifecycleState => "/latest/meta-data/autoscaling/target-lifecycle-state",
            Self::IdentityDocument => "/latest/dynamic/instance-identity/document",
            Self::LifeCycle => "/latest/meta-data/instance-life-cycle",
            Self::AvailabilityZoneId => "/latest/meta-data/placement/availability-zone-id",
            Self::InstanceId => "/latest/meta-data/instance-id",
            Self::InstanceType => "/latest/meta-data/instance-type",
            Self::AvailabilityZone => "/latest/meta-data/placement/availability-zone",
            Self::Region => "/latest/meta-data/placement/region",
            Self::Interfaces => INTERFACES,
            Self::Interface(mac, fact) => return format!("{INTERFACES}{mac}/{}", fact.as_str()).into(),
        })
    }

    /// Asked for at leisure: whatever it takes, nothing waits for it.
    pub const fn is_leisurely(self) -> bool {
        matches!(self, Self::Interfaces | Self::Interface(..))
    }

    /// The group that it is counted in.
    pub const fn endpoint(self) -> Endpoint {
        match self {
            Self::SpotAction => Endpoint::SpotAction,
            Self::Rebalance => Endpoint::Rebalance,
            Self::ScheduledEvents | Self::EventHistory => Endpoint::Scheduled,
            Self::TargetLifecycleState => Endpoint::Asg,
            _ => Endpoint::Identity,
        }
    }

    /// How long one request may take on the way to this item. The spot notice has what the client gives. The others take
    /// turns with it, so they get little more than a connection may take to come about: a slow answer of theirs must not
    /// keep the notice waiting.
    const fn patience(self) -> Option<Duration> {
        match self {
            Self::Rebalance | Self::ScheduledEvents | Self::EventHistory | Self::TargetLifecycleState => {
                Some(Duration::from_millis(1500))
            }
            Self::Interfaces | Self::Interface(..) => Some(LEISURE),
            _ => None,
        }
    }
}

/// What IMDS said, and when.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The content; `None` if the item is absent (404).
    pub body: Option<Bytes>,
    /// When, for the arithmetic of deadlines.
    pub timing: Timing,
}

/// When an answer was made, on three clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Just before the request was sent.
    pub asked: Now,
    /// When the head of the answer was read.
    pub answered: Now,
    /// The platform's clock: the `Date` header, truncated to seconds. `None` if missing or unreadable.
    pub date: Option<Timestamp>,
}

/// A client of one IMDS endpoint. Clones share the token and take turns.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Arc<str>,
    clock: Clock,
    metrics: ImdsMetrics,
    session: Arc<Mutex<Option<Token>>>,
}

impl Client {
    /// A client for `config.endpoint`. Nothing is sent yet.
    pub fn new(config: &ImdsConfig, clock: Clock, metrics: ImdsMetrics) -> Result<Self, BuildError> {
        Ok(Self {
            http: crate::http::imds()?,
            base: config.endpoint.trim_end_matches('/').into(),
            clock,
            metrics,
            session: Arc::default(),
        })
    }

    /// Reads one item. Takes at most 3 s per request, 1.5 s for the items of signals other than the spot notice: one GET,
    /// before it a token if there is none, and after a 401 both once more. May be dropped at any time; a token that still
    /// works is not lost with it.
    pub async fn get(&self, item: Item) -> Result<Answer, Error> {
        let mut session = self.session.lock().await;
        let token = self.token(&mut session, item.patience()).await?;
        match self.get_with(&token, item).await {
            Err(Error::Unauthorized(_)) => {
                // Whatever the new request for a token brings, this one is of no use any more.
                *session = None;
                let token = self.token(&mut session, item.patience()).await?;
                self.get_with(&token, item).await
            }
            other => other,
        }
    }

    /// A token that can be sent now. A refresh that fails keeps the old one as long as it lives.
    async fn token(
        &self,
        session: &mut MutexGuard<'_, Option<Token>>,
        patience: Option<Duration>,
    ) -> Result<Token, Error> {
        let now = self.clock.now().instant;
        if session.as_ref().is_some_and(|token| !token.is_alive(now)) {
            **session = None;
        }
        // Postponed before it is tried, so that an attempt that is dropped half-way is not made anew by every poll.
        if let Some(token) = session.as_mut().filter(|token| token.wants_refresh(now)) {
            token.postpone_refresh(now);
        } else if let Some(token) = session.as_ref() {
            return Ok(token.clone());
        }
        let token = match (self.new_token(patience).await, session.as_ref()) {
            (Ok(new), _) => new,
            (Err(error), Some(old)) => {
                tracing::debug!(reason = error.reason(), "token not refreshed, the old one stays in use");
                return Ok(old.clone());
            }
            (Err(error), None) => return Err(error),
        };
        **session = Some(token.clone());
        Ok(token)
    }

    /// Counts a part of a document that was not taken as it came.
    pub(crate) fn count_rejected(&self, oddity: documents::Oddity) {
        self.metrics.rejected(oddity);
    }

    async fn new_token(&self, patience: Option<Duration>) -> Result<Token, Error> {
        let result = self.put_token(patience).await;
        let outcome = result.as_ref().map_or_else(Error::outcome, |_| Outcome::Ok);
        self.metrics.request(Endpoint::Token, outcome);
        result
    }

    async fn put_token(&self, patience: Option<Duration>) -> Result<Token, Error> {
        let asked = self.clock.now();
        let mut request =
            self.http.put(format!("{}{TOKEN_PATH}", self.base)).header(TOKEN_TTL_HEADER, token::TTL.as_secs());
        if let Some(patience) = patience {
            request = request.timeout(patience);
        }
        let response = request.send().await.map_err(|error| Error::from_transfer(Endpoint::Token, &error))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(Error::from_status(Endpoint::Token, status));
        }
        let ttl = response.headers().get(TOKEN_TTL_HEADER).cloned();
        let body = read_capped(response, BODY_CAP).await.map_err(|error| Error::from_read(Endpoint::Token, &error))?;
        Token::new(&body, ttl.as_ref(), asked.instant).ok_or(Error::UnusableToken)
    }

    async fn get_with(&self, token: &Token, item: Item) -> Result<Answer, Error> {
        let result = self.exchange(token, item).await;
        let outcome = result.as_ref().map_or_else(Error::outcome, |_| Outcome::Ok);
        self.metrics.request(item.endpoint(), outcome);
        result
    }

    async fn exchange(&self, token: &Token, item: Item) -> Result<Answer, Error> {
        let endpoint = item.endpoint();
        let asked = self.clock.now();
        let mut request = self.http.get(format!("{}{}", self.base, item.path())).header(TOKEN_HEADER, token.header());
        if let Some(patience) = item.patience() {
            request = request.timeout(patience);
        }
        let response = request.send().await.map_err(|error| Error::from_transfer(endpoint, &error))?;
        let timing = Timing { asked, answered: self.clock.now(), date: date(response.headers()) };
        match response.status().as_u16() {
            200 => {
                let body = read_capped(response, BODY_CAP).await.map_err(|error| Error::from_read(endpoint, &error))?;
                Ok(Answer { body: Some(body), timing })
            }
            404 => Ok(Answer { body: None, timing }),
            status => Err(Error::from_status(endpoint, status)),
        }
    }
}

/// The `Date` header of an HTTP answer: `Tue, 31 Mar 2026 16:32:24 GMT`.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(headers.get(DATE)?.as_bytes()).ok()
}
