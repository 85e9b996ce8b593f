//! The world's Slack, Alertmanager and webhook, and what they say in the end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::task::JoinSet;

use super::{Run, World, WorldError, bind, local};
use crate::notify::address::Address;
use crate::notify::settings::{ContentType, NotifyConfig, WebhookConfig};
use crate::sim::report::SinkFact;
use crate::sim::scenario::Scenario;
use crate::sim::sinks::{SimSinks, SinkName};

/// Binds a listener if there are sinks, and says how the agent reaches them.
pub(super) async fn open(scenario: &Scenario, tasks: &mut JoinSet<()>) -> Result<(SimSinks, NotifyConfig), WorldError> {
    let sinks = SimSinks::default();
    if scenario.sinks.is_empty() {
        return Ok((sinks, NotifyConfig::default()));
    }
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let at = local(listener.local_addr())?;
    tasks.spawn(sinks.clone().serve(listener));
    let url = |name: SinkName| scenario.sinks.contains_key(&name).then(|| SimSinks::url(at, name));
    let address = |name: SinkName| url(name).map(|url| Address::Known(url.into()));
    let webhook = |address| WebhookConfig { address, template: None, content: ContentType::Json };
    let config = NotifyConfig {
        slack: address(SinkName::Slack),
        alertmanagers: url(SinkName::Alertmanager).into_iter().collect(),
        webhook: address(SinkName::Webhook).map(webhook),
        cluster: Some("simulated".into()),
        ..NotifyConfig::default()
    };
    Ok((sinks, config))
}

/// The world begins: so do its sinks' faults.
pub(super) fn begin(world: &World) {
    for (name, spec) in &world.scenario.sinks {
        if let Some(fault) = spec.fault {
            world.sinks.fault(*name, fault, spec.lasts);
        }
    }
}

/// What arrived, by sink.
pub(super) fn facts(world: &World, run: &Run) -> BTreeMap<SinkName, SinkFact> {
    let mut facts: BTreeMap<SinkName, SinkFact> =
        world.scenario.sinks.keys().map(|name| (*name, SinkFact::default())).collect();
    for received in world.sinks.received() {
        let Some(fact) = facts.get_mut(&received.sink) else { continue };
        fact.requests += 1;
        fact.complaints.extend(received.complaints.iter().cloned());
        if received.is_taken() {
            if fact.taken.is_empty() {
                fact.first = received.body.to_string();
            }
            fact.taken.push(received.at.saturating_duration_since(run.start.instant));
        }
    }
    facts
}
