mod simulated;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::cni::growth::State;
use crate::cni::limits::Limit;
use crate::config::{CniConfig, LocalAddress};
use crate::metrics::cni::HeadroomCollector;
use prometheus_client::registry::Registry;

const ENIS: &[u8] = include_bytes!("../../../tests/golden/cni/enis-blanked.json");
const METRICS: &[u8] = include_bytes!("../../../tests/golden/cni/metrics.txt");
const SETTINGS: &[u8] = include_bytes!("../../../tests/golden/cni/ipamd-env-settings.json");

/// What a path answers.
#[derive(Clone)]
enum Answer {
    /// Status 200, as ipamd's own server writes it.
    Body(Vec<u8>),
    /// These bytes, whatever they are, and the end.
    Raw(Vec<u8>),
    /// The body after so long.
    Late(Duration, Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

/// Something that listens where ipamd would.
#[derive(Default)]
struct Peer {
    answers: Mutex<HashMap<&'static str, Answer>>,
    asked: Mutex<Vec<(Instant, String)>>,
    open: Mutex<(u32, u32)>,
}

impl Peer {
    /// Everything as in the golden files.
    fn golden() -> Arc<Self> {
        let peer = Self::default();
        peer.set("/v1/enis", Answer::Body(ENIS.to_vec()));
        peer.set("/v1/ipamd-env-settings", Answer::Body(SETTINGS.to_vec()));
        peer.set("/metrics", Answer::Body(METRICS.to_vec()));
        Arc::new(peer)
    }

    fn set(&self, path: &'static str, answer: Answer) {
        self.answers.lock().unwrap().insert(path, answer);
    }

    fn times(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(_, asked)| asked == path).count()
    }

    async fn answer(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut request = [0; 2048];
        let length = stream.read(&mut request).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&request[..length]).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push((Instant::now(), path.clone()));
        {
            let mut open = self.open.lock().unwrap();
            open.0 += 1;
            open.1 = open.1.max(open.0);
        }
        let answer = self.answers.lock().unwrap().get(path.as_str()).cloned();
        let commands = include_bytes!("../../../tests/golden/cni/catch-all.json").to_vec();
        match answer.unwrap_or(Answer::Body(commands)) {
            Answer::Body(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&[head.into_bytes(), body].concat()).await;
            }
            Answer::Late(pause, body) => {
                sleep(pause).await;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.into_bytes(), body].concat()).await;
            }
            Answer::Raw(bytes) => _ = stream.write_all(&bytes).await,
            // Until the client hangs up.
            Answer::Silence => _ = stream.read(&mut request).await,
        }
        self.open.lock().unwrap().0 -= 1;
    }
}

async fn listen(peer: Arc<Peer>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(peer.clone().answer(stream));
    }
}

/// A watch over `peer` on a paused clock.
struct Bench {
    peer: Arc<Peer>,
    headroom: watch::Receiver<Option<Arc<Headroom>>>,
    registry: Registry,
    facts: watch::Sender<NodeFacts>,
    network: watch::Sender<Option<Round>>,
    _tasks: JoinSet<()>,
}

impl Bench {
    async fn new(peer: Arc<Peer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = LocalAddress::Tcp(listener.local_addr().unwrap().to_string());
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(peer.clone(), listener));
        Self::at(peer, address.clone(), address, tasks)
    }

    fn at(peer: Arc<Peer>, introspection: LocalAddress, metrics: LocalAddress, tasks: JoinSet<()>) -> Self {
        let clock = Clock::anchored("2026-05-04T10:00:30Z".parse().unwrap());
        Self::with_clock(clock, peer, introspection, metrics, tasks)
    }

    fn with_clock(
        clock: Clock,
        peer: Arc<Peer>,
        introspection: LocalAddress,
        metrics: LocalAddress,
        mut tasks: JoinSet<()>,
    ) -> Self {
        let client =
            Client::new(&CniConfig { enabled: true, introspection, metrics, taint_on_exhaustion: false }).unwrap();
        let facts = watch::Sender::new(NodeFacts {
            max_pods: Some(11),
            pods: 4,
            host_network_pods: 3,
            addressed_pods: 1,
            aws_node: Some(Arc::default()),
            known: true,
            listed: true,
            ..NodeFacts::default()
        });
        let network = watch::Sender::new(None);
        let surroundings = Surroundings { node: facts.subscribe(), network: network.subscribe() };
        let sender = watch::Sender::new(None);
        let headroom = sender.subscribe();
        let mut registry = Registry::default();
        let metrics = CniMetrics::register(&mut registry);
        registry.register_collector(Box::new(HeadroomCollector::new(headroom.clone())));
        tasks.spawn(follow(client, clock, surroundings, sender, metrics));
        Self { peer, headroom, registry, facts, network, _tasks: tasks }
    }

    async fn next(&mut self) -> Arc<Headroom> {
        self.headroom.changed().await.unwrap();
        self.headroom.borrow_and_update().clone().unwrap()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    fn failures(&self, source: &str) -> u32 {
        let text = self.text();
        let series = format!("cni_read_failures_total{{source=\"{source}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(series.as_str())).unwrap().parse().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn both_endpoints_are_read_every_twenty_seconds_one_request_at_a_time() {
    let mut bench = Bench::new(Peer::golden()).await;
    let start = Instant::now();
    for _ in 0..7 {
        bench.next().await;
    }
    let headroom = bench.next().await;
    let took = start.elapsed().as_secs_f64();
    assert!((140.0..=155.0).contains(&took), "{took} s for seven pauses of 20 s with jitter");
    assert_eq!((headroom.source, headroom.state), (Some(Source::Introspection), State::Ok));
    assert_eq!(headroom.outlook.unwrap().binding, Limit::MaxPods);
    let times = ["/v1/enis", "/metrics", "/v1/ipamd-env-settings"].map(|path| bench.peer.times(path));
    assert_eq!(times, [8, 8, 1]);
    assert_eq!(bench.peer.open.lock().unwrap().1, 1, "requests at a time");
    assert_eq!((bench.failures("introspection"), bench.failures("metrics")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_reading_waits_for_the_node_and_its_pods_and_not_for_long() {
    for (node, pods, waited) in [(1, 2, 2.0), (3, 1, 3.0), (1, 9, 5.0), (9, 9, 5.0)] {
        let mut bench = Bench::new(Peer::golden()).await;
        let start = Instant::now();
        bench.facts.send_modify(|facts| (facts.known, facts.listed) = (false, false));
        let facts = bench.facts.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for second in 1..=9 {
                sleep(Duration::from_secs(1)).await;
                facts.send_modify(|facts| (facts.known, facts.listed) = (second >= node, second >= pods));
            }
        });
        bench.next().await;
        let took = start.elapsed().as_secs_f64();
        assert!((waited..waited + 0.5).contains(&took), "{node} {pods}: {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_kubernetes_knows_is_in_the_next_reading() {
    let mut bench = Bench::new(Peer::golden()).await;
    bench.next().await;
    assert_eq!(bench.next().await.limits.room, Some(7));
    bench.facts.send_modify(|facts| facts.pods = 10);
    assert_eq!(bench.next().await.limits.room, Some(1));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_bad_answer_is_counted_and_the_metrics_take_over() {
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    let huge = vec![b' '; 1024 * 1024 + 1];
    for (answer, named) in [
        (Answer::Body(Vec::new()), "too early"),
        (Answer::Body(ENIS[..300].to_vec()), "too early"),
        (Answer::Body(include_bytes!("../../../tests/golden/cni/catch-all.json").to_vec()), "commands"),
        (Answer::Body(huge), "too large"),
        (raw("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found"), "status 404"),
        (raw("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), "status 302"),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"0\":{"), "broke"),
        (raw("SSH-2.0-OpenSSH_9.9\r\n"), "broke"),
        (raw(""), "broke"),
        (Answer::Silence, "in time"),
    ] {
        let peer = Peer::golden();
        peer.set("/v1/enis", answer);
        let mut bench = Bench::new(peer).await;
        let mut headroom = bench.next().await;
        for _ in 0..2 {
            headroom = bench.next().await;
        }
        assert_eq!(headroom.source, Some(Source::Metrics), "{named}");
        assert!(headroom.problems["introspection"].contains(named), "{named}: {:?}", headroom.problems);
        assert_eq!((bench.failures("introspection"), bench.failures("metrics")), (3, 0), "{named}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_costs_a_second_and_a_half_and_is_asked_ever_less_often() {
    let peer = Peer::golden();
    peer.set("/v1/enis", Answer::Silence);
    let mut bench = Bench::new(peer).await;
    let start = Instant::now();
    bench.next().await;
    assert_eq!(start.elapsed().as_millis() / 100, 15);
    bench.peer.set("/metrics", Answer::Silence);
    sleep(Duration::from_mins(60)).await;
    let asked = bench.peer.times("/v1/enis");
    assert!((30..=36).contains(&asked), "{asked} times in an hour");
    assert_eq!(bench.headroom.borrow().as_ref().unwrap().state, State::IpamdDown);
    bench.peer.set("/v1/enis", Answer::Body(ENIS.to_vec()));
    sleep(Duration::from_mins(3)).await;
    let headroom = bench.headroom.borrow().clone().unwrap();
    assert_eq!(headroom.source, Some(Source::Introspection));
    assert_ne!(headroom.state, State::IpamdDown);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_listens_ipamd_is_down_after_three_tries() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = LocalAddress::Tcp(listener.local_addr().unwrap().to_string());
    drop(listener);
    let mut bench = Bench::at(Peer::golden(), nobody.clone(), nobody, JoinSet::new());
    for state in [State::Ok, State::Ok, State::IpamdDown] {
        let headroom = bench.next().await;
        assert_eq!(headroom.state, state);
        assert!(headroom.problems["metrics"].contains("nobody listens"), "{:?}", headroom.problems);
    }
}

#[tokio::test(start_paused = true)]
async fn introspection_may_be_a_unix_socket() {
    let path: PathBuf = std::env::temp_dir().join(format!("spotwarden-{}-ipamd.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let peer = Peer::golden();
    let mut tasks = JoinSet::new();
    let serving = peer.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serving.clone().answer(stream).await;
        }
    });
    let nobody = LocalAddress::Tcp("127.0.0.1:1".into());
    let mut bench = Bench::at(peer, LocalAddress::Unix(path.clone()), nobody, tasks);
    let headroom = bench.next().await;
    assert_eq!(headroom.source, Some(Source::Introspection), "{:?}", headroom.problems);
    assert_eq!(bench.peer.times("/v1/enis"), 1);
    std::fs::remove_file(path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_hangs_for_five_seconds_is_not_waited_for_nor_taken_for_the_next_one() {
    let peer = Peer::golden();
    let old = std::str::from_utf8(ENIS).unwrap().replace("\"networkName\":\"aws-cni\"", "\"networkName\":\"\"");
    let old = old.replace("\"k8sPodName\":\"api-0\"", "\"k8sPodName\":\"\"");
    peer.set("/v1/enis", Answer::Late(Duration::from_secs(5), old.into_bytes()));
    let mut bench = Bench::new(peer).await;
    let start = Instant::now();
    let first = bench.next().await;
    assert_eq!(start.elapsed().as_millis() / 100, 15);
    assert_eq!((first.source, bench.failures("introspection")), (Some(Source::Metrics), 1));
    assert!(first.problems["introspection"].contains("in time"), "{:?}", first.problems);
    bench.peer.set("/v1/enis", Answer::Body(ENIS.to_vec()));
    let then = bench.next().await;
    assert_eq!((then.source, then.pool.as_ref().unwrap().assigned), (Some(Source::Introspection), 1));
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_be_asked_for_are_those_of_the_pod_and_asked_for_again() {
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    for answer in [
        raw("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
        Answer::Body(b"{\"WARM_IP_TARGET\":\"many\"}".to_vec()),
        Answer::Silence,
    ] {
        let peer = Peer::golden();
        peer.set("/v1/ipamd-env-settings", answer);
        let mut bench = Bench::new(peer).await;
        let pod = [("IP_COOLDOWN_PERIOD".to_owned(), Some("0".to_owned()))].into();
        bench.facts.send_modify(|facts| facts.aws_node = Some(Arc::new(pod)));
        let mut headroom = bench.next().await;
        for _ in 0..2 {
            headroom = bench.next().await;
        }
        assert_eq!(headroom.source, Some(Source::Introspection));
        assert_eq!(headroom.pool.as_ref().unwrap().cooldown, Some(0), "no rest, as the pod's spec has it");
        assert_eq!(bench.failures("introspection"), 0);
        assert!(bench.peer.times("/v1/ipamd-env-settings") >= 1);
        bench.peer.set("/v1/ipamd-env-settings", Answer::Body(SETTINGS.to_vec()));
        let before = bench.peer.times("/v1/ipamd-env-settings");
        sleep(Duration::from_mins(6)).await;
        let asked = bench.peer.times("/v1/ipamd-env-settings") - before;
        assert!((1..=2).contains(&asked), "{asked} times in six minutes once they can be read");
    }
}

#[tokio::test(start_paused = true)]
async fn targets_that_change_while_ipamd_runs_are_seen_within_five_minutes() {
    let mut bench = Bench::new(Peer::golden()).await;
    bench.next().await;
    assert_eq!(bench.next().await.traps, []);
    let settings = std::str::from_utf8(SETTINGS).unwrap();
    let changed = settings.replace("NON_SCHEDULABLE\":false", "NON_SCHEDULABLE\":true");
    assert_ne!(changed, settings);
    bench.peer.set("/v1/ipamd-env-settings", Answer::Body(changed.into_bytes()));
    sleep(Duration::from_mins(6)).await;
    assert_eq!(bench.headroom.borrow().as_ref().unwrap().traps, [Trap::ManagesUnschedulable]);
    bench.facts.send_modify(|facts| {
        let set = [("MINIMUM_IP_TARGET".to_owned(), Some("3".to_owned()))];
        facts.aws_node = Some(Arc::new(set.into()));
    });
    sleep(Duration::from_mins(1)).await;
    let headroom = bench.headroom.borrow().clone().unwrap();
    assert!(headroom.traps.contains(&Trap::MinimumWithoutWarm), "{:?}", headroom.traps);
    assert_eq!(headroom.state, State::ConfigCeiling);
}

#[tokio::test]
async fn what_could_be_better_is_told_once_for_each_change() {
    use crate::cni::advice::Efficiency;
    let now = crate::clock::Now { instant: Instant::now(), wall: "2026-05-04T10:00:30Z".parse().unwrap() };
    let facts = NodeFacts { max_pods: Some(11), pods: 4, branch_capacity: Some(9), ..NodeFacts::default() };
    let reading = Reading { interfaces: Some(Ok(ENIS)), ..Reading::default() };
    let well = Model::default().observe(now, &reading, &facts).unwrap();
    let wasted = |efficiency| Efficiency {
        idle_beyond_max_pods: Some(3),
        overcommit: Some(2),
        fragmentation: 0.5,
        returnable: 32,
        ..efficiency
    };
    let badly = Headroom {
        efficiency: well.efficiency.map(wasted),
        warm: Some(WarmTargets { warm_ip: 3, minimum_ip: 9 }),
        branch_headroom: Some(0),
        traps: vec![Trap::NoCooldown],
        doubts: vec![Doubt::Drift],
        departure: Some(Departure { held: 20, returned: 6, detached: 1 }),
        ..well.clone()
    };
    let mut log = Log::default();
    let mut told = |headroom: &Headroom| {
        let text = crate::log::tests::captured(crate::log::LogFormat::Plain, "info", || {
            log.note(&BTreeMap::new(), Some(headroom));
        });
        text.lines().filter(|line| !line.contains("growth of the pool")).count()
    };
    let before = told(&well);
    let all = told(&badly);
    assert_eq!((before, all), (0, 9), "warm, idle, overcommit, scattered, branches, returned, detached, trap, doubt");
    assert_eq!((told(&badly), told(&badly)), (0, 0), "nothing has changed");
    assert_eq!(told(&well), 0);
    assert_eq!(told(&badly), 8, "and again, but for the targets, which have not changed");
}
