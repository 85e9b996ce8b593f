//! The scenario files that are part of the binary.

use super::{Scenario, ScenarioError};

macro_rules! shipped_file {
    ($file:literal) => {
        ($file, include_str!(concat!("../../../scenarios/", $file)))
    };
}

/// File names and texts of all shipped scenarios, in the order in which they are listed: spot notices and pods, other
/// announcements, faults, other actors; in each the simple ones first.
pub const SHIPPED: &[(&str, &str)] = &[
    shipped_file!("plain-notice.toml"),
    shipped_file!("full-node.toml"),
    shipped_file!("budget-frees.toml"),
    shipped_file!("budget-never-frees.toml"),
    shipped_file!("two-budgets.toml"),
    shipped_file!("long-graces.toml"),
    shipped_file!("ignores-sigterm.toml"),
    shipped_file!("mixed-node.toml"),
    shipped_file!("late-pods.toml"),
    shipped_file!("late-notice.toml"),
    shipped_file!("stop.toml"),
    shipped_file!("hibernate.toml"),
    shipped_file!("wait.toml"),
    shipped_file!("pod-wishes.toml"),
    shipped_file!("priority-shares.toml"),
    shipped_file!("load-balancer-wait.toml"),
    shipped_file!("shutdown-tail.toml"),
    shipped_file!("dry-run.toml"),
    shipped_file!("observe.toml"),
    shipped_file!("rebalance-alone.toml"),
    shipped_file!("rebalance-then-notice.toml"),
    shipped_file!("rebalance-with-notice.toml"),
    shipped_file!("rebalance-drain.toml"),
    shipped_file!("reboot.toml"),
    shipped_file!("reboot-rescheduled.toml"),
    shipped_file!("two-events.toml"),
    shipped_file!("maintenance-lingers.toml"),
    shipped_file!("stop-and-start.toml"),
    shipped_file!("asg-termination.toml"),
    shipped_file!("asg-back-in-service.toml"),
    shipped_file!("asg-standby.toml"),
    shipped_file!("asg-and-notice.toml"),
    shipped_file!("nth-marks.toml"),
    shipped_file!("imds-down.toml"),
    shipped_file!("imds-flaps.toml"),
    shipped_file!("imds-disabled.toml"),
    shipped_file!("hop-limit.toml"),
    shipped_file!("sliding-notice.toml"),
    shipped_file!("clock-ahead.toml"),
    shipped_file!("failed-termination.toml"),
    shipped_file!("unknown-words.toml"),
    shipped_file!("api-slow.toml"),
    shipped_file!("api-gone.toml"),
    shipped_file!("admission-denies-label.toml"),
    shipped_file!("admission-denies-taint.toml"),
    shipped_file!("agent-restart.toml"),
    shipped_file!("agent-stop.toml"),
    shipped_file!("asg-restart.toml"),
    shipped_file!("two-agents.toml"),
    shipped_file!("second-actor.toml"),
    shipped_file!("people-and-kubectl.toml"),
    shipped_file!("other-controllers.toml"),
    shipped_file!("taken-over.toml"),
    shipped_file!("beside-nth.toml"),
    shipped_file!("everybody-at-once.toml"),
    shipped_file!("sinks-told.toml"),
    shipped_file!("sinks-foreseen.toml"),
    shipped_file!("sinks-down.toml"),
    shipped_file!("sinks-slow.toml"),
    shipped_file!("sinks-restart.toml"),
    shipped_file!("sinks-dry-run.toml"),
    shipped_file!("cni-growth.toml"),
    shipped_file!("cni-max-pods.toml"),
    shipped_file!("cni-subnet-full.toml"),
    shipped_file!("cni-fragmented.toml"),
    shipped_file!("cni-custom-networking.toml"),
    shipped_file!("cni-cooldown.toml"),
    shipped_file!("cni-sawtooth.toml"),
    shipped_file!("cni-restart.toml"),
    shipped_file!("cni-gone.toml"),
    shipped_file!("cni-lies.toml"),
    shipped_file!("cni-upgrade.toml"),
    shipped_file!("cni-settings.toml"),
    shipped_file!("cni-ipv6.toml"),
    shipped_file!("cni-two-cards.toml"),
    shipped_file!("cni-interruption.toml"),
    shipped_file!("cni-drain-waits.toml"),
    shipped_file!("cni-drain-hurries.toml"),
    shipped_file!("cni-taint.toml"),
];

/// All shipped scenarios.
pub fn shipped() -> Result<Vec<Scenario>, ScenarioError> {
    SHIPPED.iter().map(|(file, text)| Scenario::parse(file, text)).collect()
}

/// File name (as errors show it) and text of the shipped scenario called `name`.
pub(super) fn text(name: &str) -> Option<(String, &'static str)> {
    let (file, text) = SHIPPED.iter().find(|(file, _)| file.strip_suffix(".toml") == Some(name))?;
    Some((format!("scenarios/{file}"), text))
}

/// The shipped name that begins most like `name`, if any begins alike at all.
pub(super) fn nearest(name: &str) -> Option<String> {
    let alike = |candidate: &str| candidate.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let names = SHIPPED.iter().filter_map(|(file, _)| file.strip_suffix(".toml"));
    names.map(|candidate| (alike(candidate), candidate)).filter(|&(same, _)| same >= 3).max().map(|(_, c)| c.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_shipped_scenario_is_valid_and_says_what_it_shows() {
        for scenario in shipped().unwrap() {
            assert!(scenario.title.len() > 10 && scenario.title.len() < 90, "{}", scenario.name);
            assert!(scenario.description.len() > 60, "{}", scenario.name);
        }
    }

    #[test]
    fn every_scenario_file_is_shipped() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let listed: BTreeSet<String> = SHIPPED.iter().map(|(file, _)| (*file).to_owned()).collect();
        assert_eq!(files, listed);
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest_one() {
        let error = Scenario::load("plain-notcie").unwrap_err().to_string();
        assert!(error.contains("the nearest name is \"plain-notice\""), "{error}");
        assert!(Scenario::load("zzz").unwrap_err().to_string().contains("--list"));
        assert!(matches!(Scenario::load("./no/such.toml"), Err(ScenarioError::Unreadable { .. })));
        for not_a_file in ["./scenarios", "/dev/zero"] {
            let error = Scenario::load(not_a_file).unwrap_err().to_string();
            assert!(error.contains(":1: a scenario is a regular file"), "{error}");
        }
    }
}
