//! The IMDS client and the monitor against the simulated service, on a paused clock.

mod client;
mod hop_limit;
mod monitor;
mod service;
mod signals;

use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use spotwarden::clock::Clock;
use spotwarden::config::{Config, ImdsConfig};
use spotwarden::imds::Client;
use spotwarden::metrics::imds::ImdsMetrics;
use spotwarden::monitor::ImdsMonitor;
use spotwarden::signal::Kind;
use spotwarden::sim::imds::{IdentitySpec, SimImds};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

const SPOT: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const SCHEDULED: &str = "/latest/meta-data/events/maintenance/scheduled";
const HISTORY: &str = "/latest/meta-data/events/maintenance/history";
const ASG: &str = "/latest/meta-data/autoscaling/target-lifecycle-state";
const TOKEN: &str = "/latest/api/token";

/// One simulated service and what an agent needs to read it.
struct World {
    sim: SimImds,
    clock: Clock,
    config: ImdsConfig,
    metrics: ImdsMetrics,
    registry: Registry,
    _tasks: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        Self::with_identity(IdentitySpec::default()).await
    }

    async fn with_identity(identity: IdentitySpec) -> Self {
        Self::with_skew(identity, SignedDuration::ZERO).await
    }

    /// A world whose guest's clock is ahead of the platform's.
    async fn with_skew(identity: IdentitySpec, skew: SignedDuration) -> Self {
        let start: Timestamp = "2026-03-31T16:32:24.25Z".parse().unwrap();
        let sim = SimImds::new(Clock::anchored(start), identity);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::for_node("node").imds;
        config.endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(sim.clone().serve(listener));
        let mut registry = Registry::default();
        let metrics = ImdsMetrics::register(registry.sub_registry_with_prefix("spotwarden"));
        Self { sim, clock: Clock::anchored(start + skew), config, metrics, registry, _tasks: tasks }
    }

    fn client(&self) -> Client {
        Client::new(&self.config, self.clock, self.metrics.clone()).unwrap()
    }

    /// A monitor of the spot notice alone.
    fn monitor(&self) -> ImdsMonitor {
        self.monitor_of([Kind::SpotInterruption])
    }

    /// A monitor of an instance that booted an hour ago.
    fn monitor_of(&self, kinds: impl IntoIterator<Item = Kind>) -> ImdsMonitor {
        let boot = self.clock.now().wall - SignedDuration::from_hours(1);
        ImdsMonitor::new(self.client(), &self.config, kinds, self.clock, self.metrics.clone(), Some(boot)).with_seed(1)
    }

    /// Announces `action` in so many seconds by the platform's clock.
    fn announce(&self, action: &str, lead: i64) {
        let platform = self.sim.now().wall;
        self.sim.set_spot_action(action, platform + SignedDuration::from_secs(lead));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// The value of the series that is spelt exactly so, without its prefix.
    fn value(&self, series: &str) -> f64 {
        let series = format!("spotwarden_imds_{series} ");
        let text = self.text();
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("no {series}in:\n{text}")).parse().unwrap()
    }

    /// A counter; counters are whole.
    fn count(&self, series: &str) -> u64 {
        format!("{:.0}", self.value(series)).parse().unwrap()
    }

    fn requests(&self, endpoint: &str, outcome: &str) -> u64 {
        self.count(&format!("requests_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}}"))
    }

    fn failures(&self, reason: &str) -> u64 {
        self.count(&format!("failures_total{{reason=\"{reason}\"}}"))
    }

    fn rejected(&self, reason: &str) -> u64 {
        self.count(&format!("documents_rejected_total{{reason=\"{reason}\"}}"))
    }

    /// When `path` was asked for.
    fn asked(&self, path: &str) -> Vec<Instant> {
        self.sim.requests().iter().filter(|request| request.path == path).map(|request| request.at.instant).collect()
    }

    /// `PUT 200`, `GET 404`, `PUT -`: the log in short.
    fn log(&self) -> Vec<String> {
        let status = |status: Option<u16>| status.map_or("-".to_owned(), |status| status.to_string());
        self.sim.requests().iter().map(|r| format!("{} {}", r.method, status(r.status))).collect()
    }

    /// What must hold in every test, whatever went wrong in it.
    fn assert_well_behaved(&self) {
        assert_eq!(self.sim.most_in_flight(), 1, "never two requests at once");
        for request in self.sim.requests() {
            assert!(!request.path.contains("/iam/"), "credentials were asked for: {request:?}");
            assert!(!request.forwarded_for, "{request:?}");
            assert!(request.method == "PUT" && request.path == TOKEN || request.token, "version 1: {request:?}");
        }
    }
}
