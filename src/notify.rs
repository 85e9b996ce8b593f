//! Tells people outside of the cluster: Slack, Alertmanager, a webhook of one's own.
//!
//! ```text
//!  news of an interruption ──► plan (pure) ──► facts ──► slack, alertmanager, webhook ──► POST
//!                                ▲    what to tell, when, again                             │
//!                                └──────────── delivery (pure): what the answer means ◄─────┘
//! ```
//!
//! Each sink has a plan and a future of its own, so that one that hangs delays nobody, and none of them anything else. An
//! address that is a secret stands in a file alone.

pub mod address;
pub mod alertmanager;
pub mod delivery;
pub mod facts;
pub mod plan;
pub mod settings;
pub mod slack;
pub mod trial;
pub mod turn;
pub mod webhook;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock::{Clock, Now};
use crate::config::EgressConfig;
use crate::egress::{self, EgressError, PeerTls};
use crate::identity::NodeIdentity;
use crate::interruption::chronicle::News;
use crate::interruption::record::Status;
use crate::metrics::notify::NotifyMetrics;
use crate::signal::Kind;
use address::{Address, secret};
use delivery::Reply;
use facts::{Facts, Letterhead};
use plan::{Fate, Job, Manner, Plan};
use settings::{NotifyConfig, WebhookConfig};
use turn::Bulletin;
use webhook::Template;

/// What is left to say when the agent stops has to be said within this; the agent waits a little longer.
const FAREWELL: Duration = Duration::from_millis(2500);

/// The sorts of sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sink {
    /// An incoming webhook of Slack.
    Slack,
    /// Alertmanager's API.
    Alertmanager,
    /// A webhook of one's own.
    Webhook,
}

impl Sink {
    /// Every sort.
    pub const ALL: [Self; 3] = [Self::Slack, Self::Alertmanager, Self::Webhook];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Alertmanager => "alertmanager",
            Self::Webhook => "webhook",
        }
    }
}

/// A sink and how it went last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its sort.
    pub sink: Sink,
    /// Which one, where there are several; nothing secret.
    pub name: String,
    /// The last try; `None` before the first.
    pub last: Option<LastTry>,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastTry {
    /// When it ended.
    pub at: Timestamp,
    /// Whether the sink has the message.
    pub delivered: bool,
    /// Why not, and what comes next; names no address.
    pub detail: String,
}

/// One sink with everything that a request to it needs.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Slack(Address),
    Alertmanager { base: String, auth: Option<std::path::PathBuf> },
    Webhook(WebhookConfig),
}

impl Target {
    /// Every sink that is configured.
    pub(crate) fn all(config: &NotifyConfig) -> Vec<Self> {
        let slack = config.slack.iter().cloned().map(Self::Slack);
        let base = |base: &String| Self::Alertmanager { base: base.clone(), auth: config.alertmanager_auth.clone() };
        let webhook = config.webhook.iter().cloned().map(Self::Webhook);
        slack.chain(config.alertmanagers.iter().map(base)).chain(webhook).collect()
    }

    pub(crate) fn sink(&self) -> Sink {
        match self {
            Self::Slack(_) => Sink::Slack,
            Self::Alertmanager { .. } => Sink::Alertmanager,
            Self::Webhook(_) => Sink::Webhook,
        }
    }

    /// Tells several of a sort apart. The address of an Alertmanager is no secret.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Slack(_) | Self::Webhook(_) => self.sink().as_str().to_owned(),
            Self::Alertmanager { base, .. } => format!("alertmanager {base}"),
        }
    }

    /// What is there for it is wrong, as opposed to missing.
    fn is_wrong(&self) -> bool {
        let wrong = |address: &Address| address.read().is_err_and(|error| error.is_wrong());
        match self {
            Self::Slack(address) => wrong(address),
            Self::Alertmanager { auth, .. } => {
                auth.as_deref().is_some_and(|path| secret(path).is_err_and(|error| error.is_wrong()))
            }
            Self::Webhook(webhook) => {
                wrong(&webhook.address) || webhook.read_template().is_err_and(|error| error.is_wrong())
            }
        }
    }

    fn manner(&self) -> Manner {
        match self {
            Self::Slack(_) | Self::Webhook(_) => Manner::Once,
            Self::Alertmanager { .. } => Manner::Level,
        }
    }
}

/// What a message says, in the form in which a sink gets it.
enum Content<'a> {
    Bulletin(&'a Bulletin, Facts),
    Trial(Facts, Timestamp),
}

/// Makes requests to one sink.
pub(crate) struct Post {
    target: Target,
    client: reqwest::Client,
    kinds: Vec<Kind>,
    /// The last template that was good.
    template: Option<Template>,
}

impl Post {
    pub(crate) fn new(target: Target, client: reqwest::Client, config: &NotifyConfig) -> Self {
        let template = match &target {
            Target::Webhook(webhook) => webhook.read_template().ok().flatten(),
            Target::Slack(_) | Target::Alertmanager { .. } => None,
        };
        Self { target, client, kinds: config.kinds.clone(), template }
    }

    /// Why there is no request names a file and no address.
    fn request(&mut self, content: &Content<'_>) -> Result<RequestBuilder, String> {
        let facts = match content {
            Content::Bulletin(_, facts) | Content::Trial(facts, _) => facts,
        };
        let json = |request: RequestBuilder, body: String| request.header(CONTENT_TYPE, "application/json").body(body);
        match &self.target {
            Target::Slack(address) => {
                let url = address.read().map_err(|error| error.to_string())?;
                Ok(json(self.client.post(url), slack::payload(facts).to_string()))
            }
            Target::Alertmanager { base, auth } => {
                let url = format!("{}{}", base.trim_end_matches('/'), alertmanager::PATH);
                let body = match content {
                    Content::Trial(facts, now) => alertmanager::trial(facts, *now),
                    Content::Bulletin(bulletin, facts) => {
                        alertmanager::payload(facts, &bulletin.account, &self.kinds, bulletin.at, bulletin.now)
                    }
                };
                let request = json(self.client.post(url), body.to_string());
                Ok(match auth {
                    None => request,
                    Some(path) => request.header(AUTHORIZATION, credential(path)?),
                })
            }
            Target::Webhook(webhook) => {
                let url = webhook.address.read().map_err(|error| error.to_string())?;
                let body = if webhook.template.is_some() {
                    match (webhook.read_template(), &self.template) {
                        (Ok(read), _) => self.template = read,
                        // What was good goes on being used; the message matters more than its form.
                        (Err(error), Some(_)) => tracing::warn!(%error, "the template before it is used"),
                        (Err(error), None) => return Err(error.to_string()),
                    }
                    self.template.as_ref().map(|template| template.render(facts)).unwrap_or_default()
                } else {
                    match webhook.content {
                        settings::ContentType::Json => webhook::payload(facts).to_string(),
                        settings::ContentType::Text => webhook::summary(facts),
                    }
                };
                Ok(self.client.post(url).header(CONTENT_TYPE, webhook.content.as_str()).body(body))
            }
        }
    }
}

/// Marked as a secret, so that nobody prints it.
fn credential(path: &std::path::Path) -> Result<HeaderValue, String> {
    let text = secret(path).map_err(|error| error.to_string())?;
    let unusable = |_| format!("{} holds no value of a header; write for example Bearer and a token", path.display());
    let mut value = HeaderValue::from_str(&text).map_err(unusable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends one request once.
async fn attempt(request: Result<RequestBuilder, String>, limit: Duration, now: Timestamp) -> Reply {
    match request {
        Err(why) => Reply::Unsent(why),
        Ok(request) => match egress::send(request, limit, now).await {
            Ok(answer) => Reply::Answer { status: answer.status.as_u16(), retry_after: answer.retry_after },
            Err(error) => Reply::Silence(error.to_string()),
        },
    }
}

/// What the tellers know beside the news.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The agent's state.
    pub status: watch::Receiver<Status>,
    /// The own Node and its instance.
    pub identity: watch::Receiver<NodeIdentity>,
    /// Time.
    pub clock: Clock,
    /// Counts what is sent.
    pub metrics: NotifyMetrics,
    /// How each sink does.
    pub sinks: watch::Sender<Vec<SinkStatus>>,
}

/// The sinks as they are before anything was sent.
pub fn sinks(config: &NotifyConfig) -> Vec<SinkStatus> {
    let status = |target: &Target| SinkStatus { sink: target.sink(), name: target.name(), last: None };
    Target::all(config).iter().map(status).collect()
}

/// Tells one sink, until the agent stops.
pub type Telling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One future for each sink, which ends some time after `closing` has become true.
pub fn tellers(
    config: &NotifyConfig,
    egress: &EgressConfig,
    sources: &Sources,
    news: impl Fn() -> broadcast::Receiver<News>,
    closing: &watch::Sender<bool>,
) -> Result<Vec<Telling>, EgressError> {
    if config.is_empty() {
        return Ok(Vec::new());
    }
    let client = egress::client(egress, &PeerTls::default())?;
    let head = Arc::new(Letterhead { cluster: config.cluster.clone(), link: config.link.clone() });
    let teller = |(index, target): (usize, Target)| {
        let plan = Plan::new(target.manner(), config.kinds.clone());
        sources.metrics.configured(target.sink());
        let teller = Teller {
            index,
            sink: target.sink(),
            post: Post::new(target, client.clone(), config),
            sources: sources.clone(),
            head: head.clone(),
            plan,
        };
        Box::pin(teller.run(news(), closing.subscribe())) as Telling
    };
    Ok(Target::all(config).into_iter().enumerate().map(teller).collect())
}

/// One sink's shell around its plan.
struct Teller {
    index: usize,
    sink: Sink,
    post: Post,
    sources: Sources,
    head: Arc<Letterhead>,
    plan: Plan,
}

impl Teller {
    async fn run(mut self, mut news: broadcast::Receiver<News>, mut closing: watch::Receiver<bool>) {
        let mut sending: Option<Pin<Box<dyn Future<Output = Reply> + Send>>> = None;
        let (mut open, mut end) = (true, None);
        loop {
            let now = self.sources.clock.now();
            if let Some(job) = self.plan.next(now) {
                sending = Some(self.send(&job));
            }
            if self.plan.is_finished(now) {
                return;
            }
            tokio::select! {
                heard = news.recv(), if open => match heard {
                    Ok(news) => self.note(&news),
                    // What was missed is in the account that comes next.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => open = false,
                },
                reply = answer(&mut sending), if sending.is_some() => {
                    sending = None;
                    self.answered(&reply);
                }
                () = at(self.plan.due()), if sending.is_none() => {}
                () = at(end), if end.is_some() => return,
                _ = closing.wait_for(|closing| *closing), if end.is_none() => {
                    while let Ok(last) = news.try_recv() {
                        self.note(&last);
                    }
                    let now = self.sources.clock.now();
                    end = Some(now.instant + FAREWELL);
                    self.plan.close(now, now.instant + FAREWELL);
                }
            }
        }
    }

    fn note(&mut self, news: &News) {
        let dropped = self.plan.note(self.sources.clock.now(), news);
        self.sources.metrics.dropped(self.sink, dropped);
    }

    fn send(&mut self, job: &Job) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let (status, place) = (&self.sources.status, &self.sources.identity);
        let facts = Facts::of(&job.bulletin, &status.borrow(), &place.borrow(), &self.head);
        let (limit, now) = (job.limit, job.bulletin.now);
        let request = self.post.request(&Content::Bulletin(&job.bulletin, facts));
        Box::pin(attempt(request, limit, now))
    }

    fn answered(&mut self, reply: &Reply) {
        let now: Now = self.sources.clock.now();
        let fate = self.plan.answered(now, reply);
        self.sources.metrics.tried(self.sink, &fate);
        let (delivered, detail) = match &fate {
            Fate::Delivered => (true, String::new()),
            Fate::Retried(why) => (false, format!("{why}; it is tried again")),
            Fate::Failed(why) => (false, format!("{why}; given up")),
        };
        let sink = self.sink.as_str();
        match &fate {
            Fate::Delivered => tracing::debug!(sink, "notification delivered"),
            Fate::Retried(why) => tracing::info!(sink, why, "notification not delivered, it is tried again"),
            Fate::Failed(why) => tracing::warn!(sink, why, "notification given up"),
        }
        let last = LastTry { at: now.wall, delivered, detail };
        self.sources.sinks.send_modify(|sinks| {
            if let Some(status) = sinks.get_mut(self.index) {
                status.last = Some(last);
            }
        });
    }
}

async fn answer(sending: &mut Option<Pin<Box<dyn Future<Output = Reply> + Send>>>) -> Reply {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
