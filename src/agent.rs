//! The agent: inputs → machine → effects. The file to read first.
//!
//! One task does everything: it waits for the next input (an observation, a watch event, an answer, a time-out), hands it
//! to the [`Machine`], and starts whatever comes back. Requests under way are futures of this same task, so none waits for
//! another, and dropping the agent drops them all.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::FutureExt;
use futures::stream::{FuturesUnordered, Stream, StreamExt, select};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::admin::readiness::Readiness;
use crate::clock::Clock;
use crate::cni;
use crate::cni::alarm::Alarms;
use crate::cni::model::Headroom;
use crate::cni::node::{Follower, NodeFacts};
use crate::cni::watch::Surroundings;
use crate::config::{Config, Response};
use crate::drain::eviction::EvictionAnswer;
use crate::http::BuildError;
use crate::identity::{NodeIdentity, Sources};
use crate::imds;
use crate::imds::documents::Identity;
use crate::interruption::account::Account;
use crate::interruption::chronicle::{Chronicle, News};
use crate::interruption::machine::Machine;
use crate::interruption::record::Status;
use crate::interruption::{Effect, Input, NodeEvent, PatchAnswer};
use crate::k8s::api::Api;
use crate::k8s::events::PublishError;
use crate::k8s::metered::metered;
use crate::k8s::{events, watch as k8s_watch};
use crate::metrics::Metrics;
use crate::metrics::otlp::OtlpMetrics;
use crate::monitor::ImdsMonitor;
use crate::monitor::network::Round;
use crate::notify;
use crate::notify::SinkStatus;
use crate::otlp::OtlpSignal;
use crate::otlp::exporter::Exporter;
use crate::otlp::pusher::Pusher;
use crate::otlp::traces::Traces;
use crate::signal::{Kind, Observation, SignalSource};
use crate::trace;

/// One POST of an Event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// One agent for one node: a value with its own registry, clients and clock, so that many can run in one process.
pub struct Agent {
    config: Arc<Config>,
    client: kube::Client,
    imds: imds::Client,
    clock: Clock,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    status: watch::Sender<Status>,
    /// None if it is not to be watched.
    cni: Option<cni::client::Client>,
    headroom: watch::Sender<Option<Arc<Headroom>>>,
    news: broadcast::Sender<News>,
    /// The account between two milestones; only kept up while somebody looks at it.
    account: watch::Sender<Option<Arc<Account>>>,
    /// The own Node and its instance, from both who tell of them.
    identity: watch::Sender<NodeIdentity>,
    /// What the metadata service says of the instance, once it was asked.
    instance: watch::Sender<Option<Identity>>,
    /// None if no telemetry is pushed.
    otlp: Option<OtlpMetrics>,
    sinks: watch::Sender<Vec<SinkStatus>>,
}

/// Tells people what happens, until the agent stops.
type Teller = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long the tellers may take to finish what they have to say once the agent stops. A pod has 5 s in all to exit.
const FAREWELL: Duration = Duration::from_secs(3);

/// Milestones that a listener may be behind before it misses some. Each brings the whole account, so it misses little.
const NEWS_KEPT: usize = 16;

/// What a request under way turns into: an answer for the machine, or nothing.
type Call = Pin<Box<dyn Future<Output = Option<Input>> + Send>>;

impl Agent {
    /// Puts an agent together. Nothing is read or sent before [`Agent::run`]. Fails only if no HTTP client can be built.
    pub fn new(config: Config, kube: kube::Client, clock: Clock) -> Result<Self, BuildError> {
        let status = watch::Sender::new(Status::default());
        let headroom = watch::Sender::new(None);
        let identity = watch::Sender::new(NodeIdentity::named(&config.node_name));
        let mut metrics = Metrics::new(status.subscribe(), headroom.subscribe(), identity.subscribe());
        let otlp = config.otlp.as_ref().map(|otlp| metrics.count_exports(otlp));
        let metrics = Arc::new(metrics);
        let cni = config.cni.enabled.then(|| cni::client::Client::new(&config.cni)).transpose()?;
        let client = metered(kube, metrics.api.clone());
        let imds = imds::Client::new(&config.imds, clock, metrics.imds.clone())?;
        let readiness = Arc::<Readiness>::default();
        for kind in Kind::ALL.into_iter().filter(|kind| config.response(*kind) == Response::Ignore) {
            metrics.imds.ignored(kind);
        }
        if polled(&config).next().is_none() {
            // Nothing is asked of IMDS, so nothing is missing if it does not answer.
            readiness.imds_answered();
        }
        let (news, account) = (broadcast::Sender::new(NEWS_KEPT), watch::Sender::new(None));
        let sinks = watch::Sender::new(notify::sinks(&config.notify));
        let config = Arc::new(config);
        Ok(Self {
            config,
            client,
            imds,
            clock,
            metrics,
            readiness,
            status,
            cni,
            headroom,
            news,
            account,
            identity,
            instance: watch::Sender::new(None),
            otlp,
            sinks,
        })
    }

    /// The agent's own registry.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Whether the agent could answer a notice now.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.readiness.clone()
    }

    /// The agent's state, updated after every input.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The node's headroom of pod addresses; `None` until a sign of the Amazon VPC CNI was seen.
    pub fn headroom(&self) -> watch::Receiver<Option<Arc<Headroom>>> {
        self.headroom.subscribe()
    }

    /// The turns of each interruption, with its account so far. Whoever reads too slowly misses milestones, and finds what
    /// they told in the next account.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// The way of spans to a collector, if there is one; to be run beside the agent by one of its tellers.
    pub fn traces(&self) -> Option<Traces> {
        let (config, counts) = (self.config.otlp.as_ref()?, self.otlp.clone()?);
        let exporter = Exporter::new(OtlpSignal::Traces, config, &self.config.egress, counts, self.clock)?;
        Some(Traces::new(exporter, config.resource.clone(), self.identity.subscribe()))
    }

    /// The account of the present interruption, or the last one, as it grows between two milestones.
    pub fn account(&self) -> watch::Receiver<Option<Arc<Account>>> {
        self.account.subscribe()
    }

    /// The own Node and its instance, as far as they are known.
    pub fn identity(&self) -> watch::Receiver<NodeIdentity> {
        self.identity.subscribe()
    }

    /// Who outside of the cluster is told, and how that went last.
    pub fn sinks(&self) -> watch::Receiver<Vec<SinkStatus>> {
        self.sinks.subscribe()
    }

    /// Runs until `shutdown` resolves. The node's state is left as it is; it is recorded on the node.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let (signals, network) = self.signals();
        let mut signals = pin!(signals);
        let mut watches = pin!(self.watches());
        let mut calls: FuturesUnordered<Call> = FuturesUnordered::new();
        let mut machine = Machine::new(self.config.clone());
        let mut chronicle = Chronicle::new(self.config.clone());
        let shell = Shell {
            api: Api::new(self.client.clone(), self.config.node_name.clone()),
            client: self.client.clone(),
            config: self.config.clone(),
            clock: self.clock,
            metrics: self.metrics.clone(),
        };
        let mut node_uid = String::new();
        let (mut instance, mut sources) = (self.instance.subscribe(), Sources::new(&self.config.node_name));
        let mut follower = Follower::default();
        let facts = watch::Sender::new(NodeFacts::default());
        let mut addresses = pin!(self.addresses(facts.subscribe(), network));
        let closing = watch::Sender::new(false);
        let mut tellers = self.tellers(&closing);
        let (mut headroom, mut alarms) = (self.headroom.subscribe(), Alarms::default());
        let mut refused = None;
        let mut taint = pin!(self.taint(facts.subscribe()));
        loop {
            let due = machine.next_timeout(self.clock.now().instant);
            let input = tokio::select! {
                () = &mut shutdown => break,
                () = &mut addresses => continue,
                () = &mut taint => continue,
                Some(()) = tellers.next() => continue,
                Ok(()) = instance.changed() => {
                    if let Some(told) = instance.borrow_and_update().clone() {
                        self.identify(sources.instance(told));
                    }
                    continue;
                }
                Ok(()) = headroom.changed() => {
                    let found = headroom.borrow_and_update().clone();
                    let lately = found.as_ref().and_then(|found| found.refused.clone());
                    let events = found.map(|found| alarms.step(self.clock.now(), &found)).unwrap_or_default();
                    calls.extend(events.into_iter().filter_map(|event| shell.start(Effect::Publish(event), &node_uid)));
                    if refused == lately {
                        continue;
                    }
                    refused.clone_from(&lately);
                    Input::Addresses(lately)
                }
                Some(answer) = calls.next() => match answer {
                    Some(input) => input,
                    None => continue,
                },
                Some(input) = watches.next() => input,
                Some(observation) = signals.next() => {
                    self.readiness.imds_answered();
                    Input::Observed(observation)
                }
                () = sleep_until(due.unwrap_or(self.clock.now().instant)), if due.is_some() => Input::Timeout,
            };
            if let Some(news) = follower.note(&input) {
                facts.send_replace(news);
            }
            if let Input::Node(node) = &input {
                node_uid.clone_from(&node.uid);
                self.identify(sources.node(node));
            }
            let now = self.clock.now();
            let mut written = false;
            for effect in machine.handle(now, input) {
                written |= matches!(effect, Effect::Record(_));
                if let Some(news) = chronicle.note(now, &effect) {
                    crate::log::report::log(&news);
                    // Nobody may be listening.
                    let _ = self.news.send(news);
                }
                calls.extend(shell.start(effect, &node_uid));
            }
            if written && self.account.receiver_count() > 0 {
                self.account.send_replace(chronicle.account().cloned().map(Arc::new));
            }
            self.status.send_replace(machine.status(self.clock.now().instant));
        }
        self.readiness.stopping();
        closing.send_replace(true);
        // Whoever is not done by then has nobody to listen.
        let _ = timeout(FAREWELL, tellers.for_each(|()| std::future::ready(()))).await;
    }

    /// Everybody hears who this is, if that is new.
    fn identify(&self, identity: NodeIdentity) {
        self.identity.send_if_modified(|known| {
            let news = *known != identity;
            *known = identity;
            news
        });
    }

    /// Everybody who tells people. Each goes on until `closing` becomes true, and then finishes what it has to say.
    fn tellers(&self, closing: &watch::Sender<bool>) -> FuturesUnordered<Teller> {
        let mut tellers: FuturesUnordered<Teller> = FuturesUnordered::new();
        if let Some(traces) = self.traces() {
            let (news, account) = (self.news.subscribe(), self.account.subscribe());
            tellers.push(Box::pin(trace::teller::tell(traces, news, account, self.clock, closing.subscribe())));
        }
        if let Some(pusher) = self.pusher() {
            tellers.push(Box::pin(pusher.run(self.news(), self.status(), closing.subscribe())));
        }
        if self.config.dry_run {
            // A rehearsal wakes nobody up.
            return tellers;
        }
        let sources = notify::Sources {
            status: self.status.subscribe(),
            identity: self.identity.subscribe(),
            clock: self.clock,
            metrics: self.metrics.notify.clone(),
            sinks: self.sinks.clone(),
        };
        match notify::tellers(&self.config.notify, &self.config.egress, &sources, || self.news(), closing) {
            Ok(all) => tellers.extend(all),
            Err(error) => tracing::error!(%error, "nobody outside of the cluster can be told"),
        }
        tellers
    }

    /// The way of metrics to a collector, if there is one.
    fn pusher(&self) -> Option<Pusher> {
        let (config, counts) = (self.config.otlp.as_ref()?, self.otlp.clone()?);
        let exporter = Exporter::new(OtlpSignal::Metrics, config, &self.config.egress, counts, self.clock)?;
        Some(Pusher::new(exporter, config, self.metrics.clone(), self.identity.subscribe(), self.clock))
    }

    /// Everything that the platform announces, from one worker that never asks two questions at once.
    /// It also reads the network interfaces where the VPC CNI is.
    fn signals(&self) -> (impl Stream<Item = Observation> + Send + use<>, watch::Receiver<Option<Round>>) {
        let (config, metrics) = (&self.config, self.metrics.imds.clone());
        if polled(config).next().is_none() {
            return (futures::stream::pending().left_stream(), watch::channel(None).1);
        }
        let monitor =
            ImdsMonitor::new(self.imds.clone(), &config.imds, polled(config), self.clock, metrics, config.booted_at);
        let network = monitor.network();
        let worker = Worker {
            monitor,
            headroom: self.headroom.subscribe(),
            imds: self.imds.clone(),
            instance: self.instance.clone(),
            identity_due: Some(self.clock.now().instant),
            announced: None,
        };
        let next = |mut worker: Worker| async move { Some((worker.next().await, worker)) };
        (futures::stream::unfold(worker, next).right_stream(), network)
    }

    /// Watches the pods' addresses, for ever; the headroom is all that comes of it.
    fn addresses(
        &self,
        node: watch::Receiver<NodeFacts>,
        network: watch::Receiver<Option<Round>>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let Some(client) = self.cni.clone() else { return std::future::pending().left_future() };
        let (headroom, metrics) = (self.headroom.clone(), self.metrics.cni.clone());
        cni::watch::follow(client, self.clock, Surroundings { node, network }, headroom, metrics).right_future()
    }

    /// Keeps the taint of exhausted addresses as it should be, for ever; takes away one that is left from another setting.
    fn taint(&self, node: watch::Receiver<NodeFacts>) -> impl Future<Output = ()> + Send + use<> {
        let api = Api::new(self.client.clone(), self.config.node_name.clone());
        let api = (!self.config.dry_run).then_some(api);
        let view = cni::keeper::View { node, headroom: self.headroom.subscribe(), status: self.status.subscribe() };
        cni::keeper::keep(api, self.clock, self.config.cni.taint_on_exhaustion, view)
    }

    /// The own Node and its pods.
    fn watches(&self) -> impl Stream<Item = Input> + Send + use<> {
        let node = k8s_watch::node(self.client.clone(), &self.config.node_name);
        let pods = k8s_watch::pods(self.client.clone(), &self.config.node_name);
        select(self.healthy("nodes", node), self.healthy("pods", pods))
    }

    /// What a watch delivers; that it breaks off is counted each time and logged once per change.
    fn healthy<S>(&self, resource: &'static str, watch: S) -> impl Stream<Item = Input> + Send + use<S>
    where
        S: Stream<Item = k8s_watch::WatchItem> + Send,
    {
        let metrics = self.metrics.clone();
        let mut health = k8s_watch::Health::new(resource);
        watch.filter_map(move |item| {
            if item.is_err() {
                metrics.api.watch_restarted(resource);
            }
            std::future::ready(health.pass(item))
        })
    }
}

/// The kinds that somebody wants to know of.
fn polled(config: &Config) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| config.response(*kind) != Response::Ignore)
}

/// How long the identity may keep the one worker from its polls, and the pause before it is tried again.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(2);
const IDENTITY_PAUSE: Duration = Duration::from_secs(30);

/// Reads IMDS: signals above all, and the instance's identity once when there is nothing more urgent.
struct Worker {
    monitor: ImdsMonitor,
    /// Some where the VPC CNI is.
    headroom: watch::Receiver<Option<Arc<Headroom>>>,
    imds: imds::Client,
    instance: watch::Sender<Option<Identity>>,
    /// None once it is known.
    identity_due: Option<Instant>,
    /// What the last poll of each kind found in force; `None` before the first poll.
    announced: Option<Vec<Kind>>,
}

impl Worker {
    async fn next(&mut self) -> Observation {
        // After the level of the poll before was handed over, so that nothing waits for names.
        let quiet = self.announced.as_ref().is_some_and(Vec::is_empty);
        if quiet && self.identity_due.is_some_and(|due| Instant::now() >= due) {
            self.identify().await;
        }
        // While the node is to go, its addresses are nobody's concern.
        let stays = |kind: &Kind| matches!(kind, Kind::RebalanceRecommendation | Kind::ScheduledEvent);
        let stays = self.announced.as_ref().is_some_and(|announced| announced.iter().all(stays));
        self.monitor.read_network(stays && self.headroom.borrow().is_some());
        let observation = self.monitor.next().await;
        let announced = self.announced.get_or_insert_default();
        announced.retain(|kind| *kind != observation.kind);
        if !observation.signals.is_empty() {
            announced.push(observation.kind);
        }
        observation
    }

    async fn identify(&mut self) {
        let reason = match timeout(IDENTITY_PATIENCE, self.imds.identity()).await {
            Ok(Ok(identity)) => {
                self.identity_due = None;
                self.instance.send_replace(Some(identity));
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "IMDS is too slow to ask for names now".to_owned(),
        };
        self.identity_due = Some(Instant::now() + IDENTITY_PAUSE);
        tracing::debug!(reason, "the instance's identity is not known yet");
    }
}

/// Turns effects into requests, counts and log lines.
struct Shell {
    api: Api,
    client: kube::Client,
    config: Arc<Config>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Shell {
    fn start(&self, effect: Effect, node_uid: &str) -> Option<Call> {
        if let Effect::Record(record) = effect {
            self.metrics.record(&record);
            // A rehearsal reports in the same words; the span says that it is one.
            let _rehearsal = self.config.dry_run.then(|| tracing::info_span!("dry_run").entered());
            crate::log::record::log(&record);
            return None;
        }
        Some(if self.config.dry_run { rehearse(effect) } else { self.perform(effect, node_uid) })
    }

    fn perform(&self, effect: Effect, node_uid: &str) -> Call {
        let (api, metrics) = (self.api.clone(), self.metrics.clone());
        match effect {
            Effect::PatchNode { ops, timeout } => {
                Box::pin(async move { Some(Input::NodePatched(api.patch_node(&ops, timeout).await)) })
            }
            Effect::Evict(stop) => Box::pin(async move {
                let answer = api.evict(&stop).await;
                metrics.eviction(&answer);
                Some(Input::Evicted(stop.pod, answer))
            }),
            Effect::Delete(stop) => Box::pin(async move {
                let answer = api.delete(&stop).await;
                Some(Input::Deleted(stop.pod, answer))
            }),
            Effect::MarkDisruption(pod) => Box::pin(async move {
                if let Err(reason) = api.mark_disruption(&pod).await {
                    tracing::warn!(%pod, reason, "the pod could not be marked as disrupted");
                }
                None
            }),
            Effect::Publish(event) => Box::pin(self.publish(&event, node_uid)),
            Effect::Probe(pod) => Box::pin(async move {
                let answer = api.probe(&pod).await;
                Some(Input::Probed(pod, answer))
            }),
            Effect::Record(_) => Box::pin(std::future::ready(None)),
        }
    }

    /// Events are asked for until they are accepted or refused as such: their names make a second one harmless.
    fn publish(&self, event: &NodeEvent, node_uid: &str) -> impl Future<Output = Option<Input>> + Send + use<> {
        let (client, node) = (self.client.clone(), self.config.node_name.clone());
        let event = events::node_event(&node, node_uid, event, self.clock.now().wall, &node);
        let pauses =
            ExponentialBuilder::default().with_jitter().with_max_delay(Duration::from_secs(10)).without_max_times();
        async move {
            let attempt = || events::publish(client.clone(), &event, EVENT_TIMEOUT);
            if let Err(error) = attempt.retry(pauses).sleep(tokio::time::sleep).when(PublishError::is_transient).await {
                tracing::warn!(%error, reason = event.reason, "an event could not be published");
            }
            None
        }
    }
}

/// `--dry-run`: says what would be done and sends nothing.
fn rehearse(effect: Effect) -> Call {
    let answer = match effect {
        Effect::PatchNode { ops, .. } => {
            tracing::info!(%ops, "dry run: would patch the node");
            Some(Input::NodePatched(PatchAnswer::DryRun))
        }
        Effect::Evict(stop) => {
            tracing::info!(pod = %stop.pod, grace_seconds = stop.grace_seconds, "dry run: would evict");
            Some(Input::Evicted(stop.pod, EvictionAnswer::DryRun))
        }
        Effect::Delete(stop) => {
            tracing::info!(pod = %stop.pod, grace_seconds = stop.grace_seconds, "dry run: would delete");
            Some(Input::Deleted(stop.pod, EvictionAnswer::DryRun))
        }
        Effect::Publish(event) => {
            tracing::info!(reason = event.reason, note = event.note, "dry run: would publish an event");
            None
        }
        Effect::Probe(_) | Effect::MarkDisruption(_) | Effect::Record(_) => None,
    };
    Box::pin(std::future::ready(answer))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::config::{CniConfig, LocalAddress};
    use crate::sim::apiserver::ApiServer;
    use crate::sim::imds::{Fault, FaultKind, IdentitySpec, SimImds};
    use crate::sim::objects::NodeSpec;

    #[tokio::test(start_paused = true)]
    async fn names_that_come_slowly_neither_hold_back_a_level_nor_blind_the_agent_for_long() {
        let clock = Clock::anchored("2026-03-31T16:32:24Z".parse().unwrap());
        let sim = SimImds::new(clock, IdentitySpec::default());
        for path in ["/latest/dynamic/", "/latest/meta-data/instance-life-cycle", "/latest/meta-data/placement/"] {
            sim.fault(Fault::new(FaultKind::Delay(Duration::from_millis(1900))).path(path));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::for_node("n1");
        config.cni.enabled = false;
        config.imds.endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(sim.serve(listener));
        let silent = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let agent = Agent::new(config, kube::Client::new(silent, "default"), clock).unwrap();
        let mut signals = pin!(agent.signals().0);
        let mut last = Instant::now();
        let mut gaps = Vec::new();
        for _ in 0..40 {
            signals.next().await.unwrap();
            gaps.push(last.elapsed());
            last = Instant::now();
        }
        assert!(gaps[0] < Duration::from_millis(100), "{gaps:?}");
        let late = gaps.iter().filter(|gap| **gap > Duration::from_millis(1100)).count();
        assert!(late <= 2 && gaps.iter().all(|gap| *gap < Duration::from_millis(2200)), "{gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_tells_who_it_is_while_the_metadata_service_does_not_and_that_one_completes_it() {
        let clock = Clock::anchored("2026-03-31T16:32:24Z".parse().unwrap());
        let server = ApiServer::new(clock);
        let mut node = serde_json::to_value(NodeSpec::new("n1").build(clock.now().wall)).unwrap();
        (node["apiVersion"], node["kind"]) = ("v1".into(), "Node".into());
        server.seed(node).unwrap();
        let sim = SimImds::new(clock, IdentitySpec { instance_type: "m5.xlarge".into(), ..IdentitySpec::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::for_node("n1");
        config.cni.enabled = false;
        config.imds.endpoint = format!("http://{}", listener.local_addr().unwrap());
        let agent = Agent::new(config, server.client(), clock).unwrap();
        let (mut identity, metrics) = (agent.identity(), agent.metrics());
        let mut tasks = JoinSet::new();
        tasks.spawn(agent.run(std::future::pending()));
        let of_node = identity.wait_for(NodeIdentity::is_known).await.unwrap().clone();
        assert_eq!((of_node.nodegroup.as_str(), of_node.is_complete), ("spot", false));
        let info = |kind: &str| {
            format!(
                "spotwarden_node_info{{node=\"n1\",instance_id=\"i-0123456789abcdef0\",instance_type=\"{kind}\",\
                 zone=\"eu-west-1a\",region=\"eu-west-1\",lifecycle=\"spot\"}} 1\n"
            )
        };
        assert!(metrics.text(None).1.contains(&info("m5.large")));
        // Nobody has taken a connection so far.
        tasks.spawn(sim.serve(listener));
        let both = identity.wait_for(|identity| identity.is_complete).await.unwrap().clone();
        assert_eq!((both.nodegroup.as_str(), both.account_id.as_str()), ("spot", "123456789012"));
        assert!(metrics.text(None).1.contains(&info("m5.xlarge")), "the metadata service wins");
    }

    #[tokio::test]
    async fn an_agent_that_ignores_all_signals_is_ready_without_imds() {
        let silent = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let ignored = Config {
            on_spot_interruption: Response::Ignore,
            on_rebalance_recommendation: Response::Ignore,
            on_scheduled_event: Response::Ignore,
            on_asg_termination: Response::Ignore,
            ..Config::for_node("n1")
        };
        let one = Config { on_scheduled_event: Response::Observe, ..ignored.clone() };
        for (config, ready) in [(ignored, true), (one, false)] {
            let agent = Agent::new(config, kube::Client::new(silent, "default"), Clock::System).unwrap();
            assert_eq!(agent.readiness().report(true).ready(), ready);
            let watched = agent.metrics().text(None).1.matches("imds_last_success_timestamp_seconds{").count();
            assert_eq!(watched, usize::from(!ready));
        }
    }

    /// From a notice, in the middle of a reading of an ipamd that never answers, to the agent's knowing of it; and how
    /// often ipamd could not be read a minute later.
    async fn notice_beside_a_silent_ipamd(enabled: bool) -> (Duration, u32) {
        let clock = Clock::anchored("2026-03-31T16:32:24Z".parse().unwrap());
        let sim = SimImds::new(clock, IdentitySpec::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::for_node("n1");
        config.imds.endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let metadata = sim.clone();
        tasks.spawn(async move { metadata.serve(listener).await });
        // It takes connections, in the kernel's queue, and reads none of them.
        let ipamd = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = LocalAddress::Tcp(ipamd.local_addr().unwrap().to_string());
        let (introspection, metrics) = (address.clone(), address);
        config.cni = CniConfig { enabled, introspection, metrics, taint_on_exhaustion: false };
        let silent = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let agent = Agent::new(config, kube::Client::new(silent, "default"), clock).unwrap();
        let (mut status, metrics) = (agent.status(), agent.metrics());
        tasks.spawn(agent.run(std::future::pending()));
        // The second reading begins after 20 s to 22 s and is given up after 3 s.
        tokio::time::sleep(Duration::from_millis(22_500)).await;
        let now = clock.now();
        sim.set_spot_action("terminate", now.plus(Duration::from_secs(120)).wall);
        status.wait_for(|status| !status.pending.is_empty()).await.unwrap();
        let took = now.instant.elapsed();
        tokio::time::sleep(Duration::from_mins(1)).await;
        let text = metrics.text(None).1;
        let failures = text.lines().find_map(|line| {
            line.strip_prefix("spotwarden_cni_read_failures_total{source=\"introspection\"} ")?.parse().ok()
        });
        (took, failures.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipamd_that_never_answers_does_not_hold_up_a_notice() {
        let (without, never) = notice_beside_a_silent_ipamd(false).await;
        let (with, often) = notice_beside_a_silent_ipamd(true).await;
        assert!(with < without + Duration::from_secs(1), "{with:?}, and without {without:?}");
        assert!(never == 0 && often >= 4, "{never} {often}");
    }
}
