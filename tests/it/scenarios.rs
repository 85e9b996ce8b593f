//! Every shipped scenario, played with the real agent against the embedded API server in virtual time.

use std::collections::BTreeSet;

use spotwarden::clock::Clock;
use spotwarden::sim::scenario::{SHIPPED, Scenario};
use spotwarden::sim::world::{BackendHandle, World};

/// Plays a shipped scenario and fails with the whole story if the verdict is bad.
///
/// Nothing here depends on the API server being the embedded one or on time being virtual.
pub(crate) async fn play(name: &str, backend: BackendHandle, clock: Clock) {
    let scenario = Scenario::load(name).unwrap();
    let mut story = String::new();
    let tell = |entry: spotwarden::sim::timeline::TimelineEntry| {
        story.push_str(&entry.line(false));
        story.push('\n');
    };
    let report = match World::run(&scenario, backend, clock, tell).await {
        Ok(report) => report,
        Err(error) => panic!("{name}: {error}"),
    };
    assert!(report.passed, "\n{story}\n{}", report.text(false));
}

macro_rules! scenarios {
    ($($test:ident: $name:literal),* $(,)?) => {
        const TESTED: &[&str] = &[$($name),*];
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                let clock = Clock::anchored("2026-01-05T12:00:00.25Z".parse().unwrap());
                play($name, BackendHandle::embedded(clock), clock).await;
            }
        )*
    };
}

scenarios! {
    plain_notice: "plain-notice",
    full_node: "full-node",
    budget_frees: "budget-frees",
    budget_never_frees: "budget-never-frees",
    two_budgets: "two-budgets",
    long_graces: "long-graces",
    ignores_sigterm: "ignores-sigterm",
    mixed_node: "mixed-node",
    late_pods: "late-pods",
    late_notice: "late-notice",
    stop: "stop",
    hibernate: "hibernate",
    dry_run: "dry-run",
    imds_down: "imds-down",
    api_slow: "api-slow",
    api_gone: "api-gone",
    agent_restart: "agent-restart",
    second_actor: "second-actor",
    admission_denies_label: "admission-denies-label",
}

#[test]
fn every_shipped_scenario_is_played() {
    let shipped: BTreeSet<_> = SHIPPED.iter().filter_map(|(file, _)| file.strip_suffix(".toml")).collect();
    assert_eq!(TESTED.iter().copied().collect::<BTreeSet<_>>(), shipped);
}
