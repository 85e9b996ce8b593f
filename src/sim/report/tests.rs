use super::*;

const DEADLINE: Duration = Duration::from_secs(33);

fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

fn scenario(expect: &str) -> Scenario {
    let text = format!(
        "title = \"t\"\n[notice]\nlead = 30\n[[pods]]\nname = \"web\"\n[[pods]]\nname = \"ds\"\nowner = \"DaemonSet\"\n[expect]\n{expect}"
    );
    Scenario::parse("try.toml", &text).unwrap()
}

fn patch(status: u16) -> CallFact {
    let (at, answered) = (Duration::from_millis(3500), Some(Duration::from_millis(3600)));
    CallFact { at, answered, verb: "patch".into(), resource: "nodes".into(), status: Some(status), is_rehearsal: false }
}

fn poll(at: Duration) -> ImdsFact {
    ImdsFact { at, is_poll: true, is_safe: true }
}

/// A world in which everything went well.
fn good() -> Facts {
    let web = PodFact {
        name: "web-0".into(),
        group: "web".into(),
        drained: true,
        wanted: 30,
        granted: Some(30),
        told_by_agent: true,
        told_at: Some(seconds(4)),
        ended_at: Some(seconds(6)),
        gone_at: Some(seconds(7)),
        ..PodFact::default()
    };
    let daemon = PodFact { name: "ds-0".into(), group: "ds".into(), wanted: 30, ..PodFact::default() };
    Facts {
        notice_at: Some(seconds(3)),
        deadline: Some(DEADLINE),
        pods: vec![web, daemon],
        calls: vec![patch(200)],
        imds_requests: (0..10).map(|at| poll(seconds(at))).collect(),
        node: NodeFacts { fence: FencePart::ALL.to_vec(), ..NodeFacts::default() },
        events: BTreeMap::from([("Fenced".into(), 1)]),
        agent: AgentFacts {
            lives: 1,
            outcomes: BTreeMap::from([("web-0".into(), Outcome::Graceful)]),
            slack_seconds: Some(25.4),
            notices: BTreeMap::from([(Kind::SpotInterruption, 1)]),
            metrics: BTreeMap::new(),
            counted: BTreeMap::from([(Outcome::Graceful, 1)]),
            died: None,
        },
        ..Facts::default()
    }
}

fn failed(expect: &str, facts: &Facts) -> Vec<String> {
    let report = Report::judge(&scenario(expect), facts);
    assert_eq!(report.passed, report.checks.iter().all(|check| check.passed));
    report.checks.into_iter().filter(|check| !check.passed).map(|check| check.name).collect()
}

/// Breaks one fact of the good world; exactly the checks that are named must fail.
fn breaks(change: impl FnOnce(&mut Facts), wanted: &[&str]) {
    let mut facts = good();
    change(&mut facts);
    let failed = failed("", &facts);
    assert_eq!(failed.len(), wanted.len(), "{failed:?}");
    for (failed, wanted) in failed.iter().zip(wanted) {
        assert!(failed.contains(wanted), "{failed}");
    }
}

#[test]
fn a_world_in_which_everything_went_well_passes() {
    let report = Report::judge(&scenario("min_granted = { web = 30 }"), &good());
    assert!(report.passed, "{}", report.text(false));
    assert_eq!((report.deadline_met, report.slack_seconds), (Some(true), Some(26.0)));
    assert_eq!(report.notice_to_fence_seconds, Some(0.6));
}

#[test]
fn a_pod_that_is_cut_off_fails_without_a_word_in_the_file() {
    let cut_off = |facts: &mut Facts| {
        facts.pods[0].cut_off = true;
        facts.pods[0].gone_at = None;
    };
    let wanted = ["clear before the deadline", "cut off by the power", "each pod's end", "counters agree"];
    breaks(cut_off, &wanted);
}

#[test]
fn what_the_agent_says_must_be_what_happened() {
    breaks(|facts| facts.pods[0].granted = Some(29), &["each pod's end", "counters agree"]);
    breaks(|facts| facts.agent.outcomes.clear(), &["each pod's end"]);
    breaks(|facts| facts.agent.counted.clear(), &["counters agree"]);
    breaks(|facts| facts.agent.slack_seconds = Some(20.0), &["the slack"]);
    breaks(|facts| facts.agent.died = Some("panicked".into()), &["the agent ends only"]);
    breaks(|facts| _ = facts.agent.notices.insert(Kind::SpotInterruption, 2), &["notices counted"]);
}

#[test]
fn pods_that_ended_between_two_lives_of_the_agent_need_no_report() {
    let mut facts = good();
    facts.agent.lives = 2;
    facts.agent.outcomes.clear();
    facts.agent.counted.clear();
    assert_eq!(failed("", &facts), [""; 0]);
}

#[test]
fn the_fence_must_be_whole_and_early() {
    breaks(|facts| _ = facts.node.fence.pop(), &["whole fence"]);
    breaks(|facts| facts.calls[0].answered = Some(seconds(6)), &["fenced at most 2 s after"]);
    breaks(|facts| facts.calls[0].status = Some(409), &["fenced at most 2 s after"]);
    breaks(|facts| facts.node.lost.push("taint a".into()), &["others set"]);
    let mut without_label = good();
    without_label.node.fence.retain(|&part| part != FencePart::Label);
    assert_eq!(failed("fence_without = [\"label\"]", &without_label), [""; 0]);
    assert_eq!(failed("fence_without = [\"label\"]", &good()).len(), 1, "a part that must be missing is there");
}

#[test]
fn what_is_not_the_agents_is_left_alone() {
    breaks(|facts| facts.pods[1].told_by_agent = true, &["left alone"]);
    breaks(|facts| _ = facts.events.insert("Fenced".into(), 2), &["published twice"]);
    breaks(|facts| facts.imds_requests = vec![poll(seconds(1)); 5], &["IMDS is polled"]);
    let hasty = |facts: &mut Facts| {
        facts.imds_requests = (0..21).map(|third| poll(Duration::from_millis(333 * third))).collect();
    };
    breaks(hasty, &["IMDS is polled"]);
    breaks(|facts| facts.imds_requests[0].is_safe = false, &["IMDS is asked"]);
    breaks(|facts| facts.imds_most_at_once = 2, &["IMDS is asked"]);
}

#[test]
fn what_a_file_names_is_judged() {
    let facts = good();
    assert_eq!(failed("outcomes = { graceful = 1, skipped = 1, forced = 0 }", &facts), [""; 0]);
    assert_eq!(failed("outcomes = { graceful = 1 }", &facts).len(), 1, "an outcome that is not named must not occur");
    assert_eq!(failed("min_slack = 27", &facts).len(), 1);
    assert_eq!(failed("max_api_calls = 0", &facts).len(), 1);
    assert_eq!(failed("mutating_requests = 0", &facts).len(), 1);
    assert_eq!(failed("events = { Restored = 1 }", &facts).len(), 1);
    assert_eq!(failed("deadline_met = false", &facts).len(), 1);
    assert_eq!(failed("fenced = false", &facts).len(), 1);
    assert_eq!(failed("min_granted = { web = 31 }", &facts).len(), 1);
}

#[test]
fn a_pod_that_was_gone_after_the_deadline_is_unfinished_whatever_it_was_granted() {
    let late = PodFact { drained: true, gone_at: Some(DEADLINE + seconds(1)), forced: true, ..PodFact::default() };
    assert_eq!(late.outcome(Some(DEADLINE)), Outcome::Unfinished);
    assert_eq!(PodFact { gone_at: Some(DEADLINE), ..late }.outcome(Some(DEADLINE)), Outcome::Forced);
}

#[test]
fn the_text_names_the_verdict_the_pods_and_the_failed_check() {
    let mut facts = good();
    facts.agent.notices.clear();
    let text = Report::judge(&scenario(""), &facts).text(false);
    assert!(text.starts_with("FAILED  try\n  deadline   met, 26.0 s to spare\n"), "{text}");
    assert!(text.contains("1 × web              graceful   wanted 30 s, granted 30 s, stopped in 2.0 s"), "{text}");
    assert!(text.contains("FAILED the notices counted are 1 spot-interruption (found: 0 spot-interruption)"), "{text}");
}

#[test]
fn the_text_counts_the_checks_that_passed_and_fits_a_terminal() {
    let mut facts = good();
    facts.calls = ["list", "watch", "patch", "create", "get", "delete"]
        .iter()
        .map(|verb| CallFact { verb: (*verb).into(), resource: "poddisruptionbudgets".into(), ..patch(200) })
        .collect();
    facts.calls.push(patch(200));
    let text = Report::judge(&scenario(""), &facts).text(false);
    assert!(text.ends_with(" passed\n") && !text.contains("FAILED"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn pods_that_are_meant_to_go_on_are_no_alarm() {
    let mut facts = good();
    facts.pods[0] =
        PodFact { told_at: None, granted: None, ended_at: None, gone_at: None, cut_off: true, ..facts.pods[0].clone() };
    let parse = |notice: &str| Scenario::parse("try.toml", &format!("title = \"t\"\n[notice]\n{notice}")).unwrap();
    let hibernation = Report::judge(&parse("action = \"hibernate\""), &facts).text(false);
    assert!(hibernation.contains("the pods are left running") && !hibernation.contains("CUT OFF"), "{hibernation}");
    let drain = Report::judge(&parse("action = \"stop\""), &facts).text(false);
    assert!(drain.contains("not met, 1 pods were cut off by the power") && drain.contains("CUT OFF"), "{drain}");
}

#[test]
fn what_a_file_says_of_pods_and_metrics_is_judged() {
    let mut facts = good();
    facts.agent.metrics = BTreeMap::from([("a_total".to_owned(), 2.0)]);
    assert_eq!(failed("told = { web = [3, 5] }\nuntouched = [\"ds\"]\nmetrics = { a_total = 2 }", &facts), [""; 0]);
    assert_eq!(failed("told = { web = [4.5, 5] }", &facts).len(), 1);
    assert_eq!(failed("told = { web = [1, 3.5] }", &facts).len(), 1);
    assert_eq!(failed("told = { ds = [0, 9] }", &facts).len(), 1, "a pod that was never told");
    assert_eq!(failed("untouched = [\"web\"]", &facts).len(), 1);
    assert_eq!(failed("metrics = { a_total = 3 }", &facts).len(), 1);
    assert_eq!(failed("metrics = { b_total = 0 }", &facts).len(), 1, "a series that is not there");
    assert_eq!(failed("notices = { spot-interruption = 1, asg-termination = 1 }", &facts).len(), 1);
}

#[test]
fn every_look_at_the_node_is_judged_as_the_node_was_then() {
    let mut facts = good();
    let expected = NodeExpect { cordoned: Some(false), ..NodeExpect::default() };
    let found = NodeFacts { cordoned: true, ..NodeFacts::default() };
    facts.looks = vec![LookFact { at: seconds(7), expected, found }];
    assert_eq!(failed("", &facts), ["at 7 s the node is not cordoned"]);
    facts.looks[0].found.cordoned = false;
    assert_eq!(failed("", &facts), [""; 0]);
}

#[test]
fn announcements_are_counted_by_kind() {
    let text = "title = \"t\"\n[[events]]\nat = 1\nrebalance = { ago = 0 }\n[[events]]\nat = 2\n\
                scheduled = { id = \"a\", code = \"system-reboot\", in = 60 }\n[[events]]\nat = 3\n\
                scheduled = { id = \"a\", in = 90 }\n";
    let scenario = Scenario::parse("try.toml", text).unwrap();
    let notices = |scheduled| BTreeMap::from([(Kind::RebalanceRecommendation, 1), (Kind::ScheduledEvent, scheduled)]);
    for (scheduled, passed) in [(1, true), (0, false), (2, false)] {
        let agent = AgentFacts { lives: 1, notices: notices(scheduled), ..AgentFacts::default() };
        let report = Report::judge(&scenario, &Facts { agent, ..Facts::default() });
        assert_eq!(report.passed, passed, "{}", report.text(false));
    }
}
