//! Looks at sinks without an interruption: whether they can be reached, and on request a message that says it is a test.

use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::delivery::{self, TRY_LIMIT, Verdict};
use super::facts::{Facts, Letterhead};
use super::settings::NotifyConfig;
use super::{Content, Post, Sink, Target, attempt};
use crate::clock::Clock;
use crate::config::EgressConfig;
use crate::egress::{self, PeerTls};
use crate::identity::NodeIdentity;

/// Name look-up and connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What was found of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its sort.
    pub sink: Sink,
    /// Which one.
    pub name: String,
    /// `Ok` in words, or why not.
    pub result: Result<String, String>,
    /// What is there is wrong, so that the agent would not start.
    pub refused: bool,
}

/// Looks at every sink, all at once: files, template, and whether a connection can be made. Nothing is sent unless `send`
/// is set; then each gets a test message.
pub async fn look(config: &NotifyConfig, egress: &EgressConfig, node: &str, clock: Clock, send: bool) -> Vec<Found> {
    let client = egress::client(egress, &PeerTls::default()).map_err(|error| error.to_string());
    let looks = Target::all(config).into_iter().map(|target| {
        let client = client.clone();
        async move {
            let (sink, name, refused) = (target.sink(), target.name(), target.is_wrong());
            let result = async {
                let post = Post::new(target.clone(), client?, config);
                if send { message(post, config, node, clock).await } else { reach(&target, egress).await }
            };
            Found { sink, name, result: result.await, refused }
        }
    });
    futures::future::join_all(looks).await
}

async fn message(mut post: Post, config: &NotifyConfig, node: &str, clock: Clock) -> Result<String, String> {
    let head = Letterhead { cluster: config.cluster.clone(), link: config.link.clone() };
    let place = NodeIdentity::named(node);
    let now = clock.now().wall;
    let request = post.request(&Content::Trial(Facts::trial(&place, &head, now), now));
    match delivery::judge(&attempt(request, TRY_LIMIT, now).await, 1) {
        Verdict::Delivered => Ok("a test message was delivered".to_owned()),
        Verdict::Retry { why, .. } | Verdict::GiveUp { why } => Err(format!("a test message was not delivered: {why}")),
    }
}

/// Whether there is a way: files and template, then TCP.
async fn reach(target: &Target, egress: &EgressConfig) -> Result<String, String> {
    let url = match target {
        Target::Slack(address) => address.read().map_err(|error| error.to_string())?,
        Target::Alertmanager { base, auth } => {
            auth.as_deref().map(super::credential).transpose()?;
            Url::parse(base).map_err(|error| error.to_string())?
        }
        Target::Webhook(webhook) => {
            webhook.read_template().map_err(|error| error.to_string())?;
            webhook.address.read().map_err(|error| error.to_string())?
        }
    };
    let proxied = if url.scheme() == "https" { &egress.https_proxy } else { &egress.http_proxy };
    if proxied.is_some() {
        return Ok("its settings can be used; it is behind a proxy, so no connection was tried".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    match timeout(CONNECT_LIMIT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok("its settings can be used, and its host takes connections".to_owned()),
        Ok(Err(error)) => Err(format!("its host takes no connection: {}", error.kind())),
        Err(_) => Err("its host takes no connection within 5 s".to_owned()),
    }
}
