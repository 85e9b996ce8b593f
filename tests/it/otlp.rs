//! The whole agent in a world, pushing telemetry to a collector that behaves badly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spotwarden::clock::Clock;
use spotwarden::config::otlp::OtlpConfig;
use spotwarden::config::parse::run_config;
use spotwarden::sim::report::Report;
use spotwarden::sim::scenario::Scenario;
use spotwarden::sim::world::{BackendHandle, Options, World};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What an agent makes of these variables.
fn otlp(env: &[(&str, &str)]) -> Option<OtlpConfig> {
    let env = [("NODE_NAME", "n1")].iter().chain(env).copied().collect();
    run_config(&|_| None, &env).unwrap().agent.otlp
}

async fn play(scenario: &str, otlp: Option<OtlpConfig>) -> Report {
    let clock = Clock::anchored("2026-01-05T12:00:00.25Z".parse().unwrap());
    let options = Options { otlp, ..Options::default() };
    let scenario = Scenario::load(scenario).unwrap();
    let mut world = World::open(&scenario, BackendHandle::embedded(clock), clock, &options).await.unwrap();
    world.play(|_| {}).await
}

/// A collector that takes connections and says nothing costs the fence and the drain no time.
#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_the_interruption_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let count = asked.clone();
    tasks.spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    for scenario in ["plain-notice", "full-node"] {
        let without = play(scenario, None).await;
        assert_eq!(asked.swap(0, Ordering::Relaxed), 0);
        let with = play(scenario, otlp(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)])).await;
        assert!(asked.swap(0, Ordering::Relaxed) > 0, "the collector was asked");
        assert!(without.passed && with.passed, "{}", with.text(false));
        let (fence, fenced) = (without.notice_to_fence_seconds.unwrap(), with.notice_to_fence_seconds.unwrap());
        assert!((fenced - fence).abs() < 0.005, "{scenario}: {fenced} s, and without {fence} s");
        let (slack, left) = (without.slack_seconds.unwrap(), with.slack_seconds.unwrap());
        assert!((slack - left).abs() < 0.1, "{scenario}: {left} s, and without {slack} s");
        assert_eq!(with.outcomes, without.outcomes);
        assert_eq!(with.api_calls, without.api_calls);
    }
}
