//! `spotwarden check`: would the agent work here, and could this node be cleared in time? Changes nothing.
//!
//! ```text
//!  metadata service ──► ask ──► metadata ─┐
//!  API server       ──► ask ──► access,   ├──► Report ──► table or JSON, exit code
//!                               cluster ──┤
//!  ipamd            ──► ask ──► addresses │
//!  collector        ──► ask ──► telemetry ┘
//! ```
//!
//! `ask` holds the sockets and judges nothing; [`metadata`], [`access`], [`cluster`], [`addresses`] and [`telemetry`] turn answers into findings and
//! ask nothing. Each question has its own time-out, so that everything together takes at most half a minute, and what
//! does not depend on a question that failed is asked all the same.

pub mod access;
pub mod addresses;
mod ask;
pub mod cluster;
pub mod metadata;
pub mod notifications;
pub mod report;
pub mod telemetry;

use std::io::Write as _;
use std::process::ExitCode;

use prometheus_client::registry::Registry;

use crate::clock::{Clock, Now};
use crate::cni::node::{Follower, NodeFacts};
use crate::config::parse::{Effective, RunConfig};
use crate::config::{Config, Response};
use crate::drain::Policy;
use crate::drain::eviction::EvictionAnswer;
use crate::drain::forecast::{Forecast, NOTICE};
use crate::drain::pod::{PodRef, PodView};
use crate::imds;
use crate::interruption::Input;
use crate::k8s::client::{self, ClientError};
use crate::k8s::node::NodeView;
use crate::metrics::imds::ImdsMetrics;
use crate::notify::trial;
use access::{Needs, RIGHTS, Right};
use ask::{Cluster, Instance};
use cluster::Trouble;
use report::{Finding, Report};

/// How the report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// One JSON object.
    Json,
}

/// What `check` was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckConfig {
    /// The settings of `run`.
    pub run: RunConfig,
    /// The same, as they were given.
    pub settings: Vec<Effective>,
    /// How the report is written.
    pub output: Format,
    /// Sends a test message to every sink.
    pub notify_test: bool,
}

/// Asks everything. Takes at most half a minute, whatever does not answer.
pub async fn run(config: &CheckConfig) -> Report {
    let agent = &config.run.agent;
    let kube = client::build(agent.kubeconfig.as_deref()).await;
    let sinks = trial::look(&agent.notify, &agent.egress, &agent.node_name, Clock::System, config.notify_test);
    let collectors = ask::collectors(agent, Clock::System);
    let (mut report, sinks, collectors) = tokio::join!(examine(agent, kube, Clock::System), sinks, collectors);
    report.findings.extend(notifications::findings(&sinks));
    report.findings.extend(telemetry::findings(&collectors));
    report.settings.clone_from(&config.settings);
    report
}

/// Writes the report to standard output and gives the exit code: 0 if nothing that is needed is missing, else 1. A reader
/// that has gone away does not change it.
pub fn finish(report: &Report, output: Format) -> ExitCode {
    let text = match output {
        Format::Table => report.table(),
        Format::Json => report.json(),
    };
    _ = std::io::stdout().write_all(text.as_bytes());
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The report of one node, without its settings.
pub async fn examine(config: &Config, kube: Result<kube::Client, ClientError>, clock: Clock) -> Report {
    let (mut findings, (of_cluster, forecast, facts), addresses) = tokio::join!(
        examine_instance(config, clock),
        examine_cluster(config, kube, clock),
        ask::addresses(&config.cni)
    );
    findings.extend(of_cluster);
    findings.extend(match addresses {
        _ if !config.cni.enabled => addresses::skipped("--cni-headroom is off, so the agent does not ask ipamd"),
        Ok(answers) => addresses::findings(&config.cni, &answers, &facts, clock.now()),
        Err(error) => addresses::skipped(&error.to_string()),
    });
    Report { node: config.node_name.clone(), findings, forecast, settings: Vec::new() }
}

async fn examine_instance(config: &Config, clock: Clock) -> Vec<Finding> {
    if !metadata::is_asked(config) {
        return metadata::not_asked();
    }
    let client = match imds::Client::new(&config.imds, clock, ImdsMetrics::register(&mut Registry::default())) {
        Ok(client) => client,
        Err(error) => return metadata::no_client(config, &error),
    };
    let instance = Instance::new(client);
    let first = instance.read(metadata::FIRST).await;
    let mut findings = vec![metadata::imds(&config.imds.endpoint, &first)];
    let Ok(answer) = first else {
        findings.extend(metadata::skipped());
        return findings;
    };
    findings.push(metadata::identity(instance.identity().await));
    for (kind, item) in metadata::ITEMS {
        findings.push(match config.response(kind) {
            Response::Ignore => metadata::ignored(kind),
            _ => metadata::signal(kind, &instance.read(item).await),
        });
    }
    findings.push(metadata::clock(&answer.timing));
    findings
}

async fn examine_cluster(
    config: &Config,
    kube: Result<kube::Client, ClientError>,
    clock: Clock,
) -> (Vec<Finding>, Option<Forecast>, NodeFacts) {
    let cluster = kube.map(|client| Cluster::new(client, &config.node_name));
    let version = match &cluster {
        Ok(cluster) => cluster.version().await,
        Err(error) => Err(Trouble::NoClient(error.to_string())),
    };
    let mut findings = vec![cluster::api_server(&version)];
    let Ok(cluster) = cluster.map_err(drop).and_then(|cluster| if version.is_ok() { Ok(cluster) } else { Err(()) })
    else {
        findings.extend(cluster::skipped());
        return (findings, None, NodeFacts::default());
    };
    let needs = Needs::of(config);
    let (node, pods, reviews) = tokio::join!(
        cluster.node(),
        cluster.pods(),
        futures::future::join_all(RIGHTS.iter().map(|right| cluster.review(right)))
    );
    findings.push(cluster::node(&config.node_name, &node));
    findings.push(cluster::marks(config, &node));
    let may_evict = RIGHTS
        .iter()
        .zip(&reviews)
        .any(|(right, review)| *right == Right::EVICTION && review.as_ref().is_ok_and(|review| review.allowed));
    findings
        .extend(RIGHTS.iter().zip(&reviews).map(|(right, review)| access::judge(right, needs.of_right(right), review)));

    let (Ok(Some(node)), Ok(pods)) = (node, pods) else {
        findings.extend(cluster::without_pods());
        return (findings, None, NodeFacts::default());
    };
    let facts = facts(node, &pods);
    let answers = if may_evict { cluster.try_out(&cluster::to_drain(&pods)).await } else { Vec::new() };
    findings.push(if may_evict { cluster::budgets(&answers) } else { cluster::budgets_unknown(needs.drains) });
    let forecast = forecast(config, &pods, &answers, clock.now());
    findings.push(cluster::forecast(&forecast));
    (findings, Some(forecast), facts)
}

/// What the headroom of addresses needs to know of the node and its pods.
fn facts(node: NodeView, pods: &[PodView]) -> NodeFacts {
    let mut follower = Follower::default();
    let of_node = follower.note(&Input::Node(node));
    let of_both = follower.note(&Input::Pods(pods.to_vec()));
    of_both.or(of_node).unwrap_or_default()
}

/// What a notice that arrived now would mean for each pod.
fn forecast(config: &Config, pods: &[PodView], answers: &[(PodRef, EvictionAnswer)], now: Now) -> Forecast {
    let refused = |(pod, answer): &(PodRef, EvictionAnswer)| Some((pod.clone(), cluster::refusal(answer)?.to_owned()));
    Forecast::of(pods, &Policy::from(config), NOTICE, now, &answers.iter().filter_map(refused).collect())
}

#[cfg(test)]
mod tests;
