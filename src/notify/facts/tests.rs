use std::collections::BTreeMap;

use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::interruption::account::{DrainPart, Fence, Finish, Foreseen, Over, PodPart, VERSION};
use crate::notify::turn::Turns;

/// A spot notice, a tenth of a second after it was seen.
pub(crate) fn account() -> Account {
    Account {
        version: VERSION,
        trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
        node: "ip-10-0-1-23".into(),
        started: "2026-11-21T10:00:00Z".parse().unwrap(),
        dry_run: false,
        resumed: None,
        shutdown_tail: 0.0,
        announcements: vec![Announced {
            kind: Kind::SpotInterruption,
            id: "spot-interruption".into(),
            action: Action::Terminate,
            at: 0.0,
            deadline: Some(118.0),
            deadline_time: Some("2026-11-21T10:01:58Z".parse().unwrap()),
            detail: None,
            over: None,
        }],
        fence: Some(Fence { at: 0.04, took: 0.04, refused: Vec::new() }),
        drain: Some(DrainPart { at: 0.05, pods: 18, skipped: 4, finished: None }),
        not_drained: None,
        foreseen: Vec::new(),
        pods: Vec::new(),
        over: None,
        restored: None,
    }
}

/// The same when the drain is over.
pub(crate) fn drained() -> Account {
    let mut account = account();
    let outcomes = Outcomes { graceful: 15, shortened: 1, forced: 2, unfinished: 0, skipped: 4 };
    account.drain.as_mut().unwrap().finished = Some(Finish { at: 76.5, took: 76.4, slack: Some(41.5), outcomes });
    let ended =
        |name: &str, outcome| PodPart { outcome: Some(outcome), ended: Some(70.0), ..PodPart::new("shop", name) };
    account.pods = vec![
        ended("web-0", Outcome::Graceful),
        ended("batch-0", Outcome::Shortened),
        PodPart { blocked: Some(0.1), blocked_by: Some(REFUSAL.into()), ..ended("cart-0", Outcome::Forced) },
    ];
    account
}

const REFUSAL: &str = "The disruption budget cart needs 2 healthy pods and has 2 currently";

pub(crate) fn place() -> NodeIdentity {
    NodeIdentity {
        node: "ip-10-0-1-23".into(),
        instance_id: "i-0123456789abcdef0".into(),
        instance_type: "m7g.large".into(),
        zone: "eu-central-1a".into(),
        region: "eu-central-1".into(),
        nodegroup: "spot-a".into(),
        ..NodeIdentity::default()
    }
}

fn head() -> Letterhead {
    let link = "https://grafana.example.com/d/spotwarden-node?var-node={node}".to_owned();
    Letterhead { cluster: Some("production".into()), link: Some(link) }
}

fn facts(account: Account, turns: &[Turn], at: f64) -> Facts {
    let turns: Turns = turns.iter().copied().collect();
    let now = account.time(at);
    let bulletin = Bulletin { account: account.into(), turns, at, now, suppressed: 0, repeated: false };
    Facts::of(&bulletin, &Status::default(), &place(), &head())
}

/// At the notice, with a budget in the way.
pub(crate) fn notice() -> Facts {
    let blocked = vec![Blocked { pod: "shop/cart-0".into(), words: REFUSAL.into() }];
    Facts { budgets: vec!["shop/cart".into()], blocked, ..facts(account(), &[Turn::Notice], 0.1) }
}

pub(crate) fn result() -> Facts {
    facts(drained(), &[Turn::Result], 76.5)
}

/// Called off after forty seconds.
fn called_off() -> Account {
    let mut account = account();
    account.announcements[0].over = Some(Over { at: 40.0, because: "it is not announced any more".into() });
    (account.over, account.restored) = (Some(40.0), Some(40.2));
    account
}

pub(crate) fn over() -> Facts {
    facts(called_off(), &[Turn::Over], 41.0)
}

/// One that has a value for everything.
pub(crate) fn full() -> Facts {
    Facts {
        detail: Some("system-reboot".into()),
        not_drained: Some("there is no time".into()),
        over_because: Some("it was cancelled".into()),
        suppressed: 3,
        repeated: true,
        blocked: notice().blocked,
        budgets: notice().budgets,
        ..result()
    }
}

/// One message of each sort with its account and the moment, and one of an agent that knows next to nothing.
pub(crate) fn all() -> [(&'static str, Facts, Account, f64); 6] {
    let bare_account = Account { fence: None, drain: None, ..account() };
    let bulletin = Bulletin {
        now: bare_account.started,
        account: bare_account.clone().into(),
        turns: [Turn::Notice].into_iter().collect(),
        at: 0.1,
        suppressed: 2,
        repeated: true,
    };
    let bare = Facts::of(&bulletin, &Status::default(), &NodeIdentity::default(), &Letterhead::default());
    let test = Facts::trial(&place(), &head(), account().started);
    [
        ("notice", notice(), account(), 0.1),
        ("result", result(), drained(), 76.5),
        ("over", over(), called_off(), 41.0),
        ("full", full(), drained(), 76.5),
        ("bare", bare, bare_account, 0.1),
        ("test", test, account(), 0.0),
    ]
}

/// The page is what people build their receivers by.
#[test]
fn the_page_for_people_shows_what_is_sent_and_names_everything() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/notifications.md")).unwrap();
    let shown = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let shown: Vec<Value> = shown.map(|text| serde_json::from_str(text).unwrap()).collect();
    let (notice, now) = (notice(), account().time(0.1));
    let alerts = crate::notify::alertmanager::payload(&notice, &account(), &Kind::ALL, 0.1, now);
    let sent = [alerts, crate::notify::slack::payload(&notice), crate::notify::webhook::payload(&notice)];
    assert_eq!(shown, sent);
    for field in crate::notify::webhook::FIELDS {
        assert!(page.contains(&format!("`{field}`")), "{field}");
    }
    let settings = crate::config::settings::SETTINGS.iter().map(|setting| setting.flag);
    let ours = |flag: &&str| {
        ["notify", "slack", "alertmanager", "webhook", "cluster-name"].iter().any(|word| flag.starts_with(word))
    };
    for flag in settings.filter(ours) {
        assert!(page.contains(&format!("`--{flag}`")), "{flag}");
    }
    let template = page.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let template = crate::notify::webhook::Template::parse(template, crate::notify::webhook::Escape::Json);
    assert!(template.is_ok(), "{template:?}");
}

/// Compares payloads with the file of this name. After a wanted change write it anew with
/// `UPDATE_GOLDEN=1 cargo test --lib notify` and read the difference.
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
pub(crate) fn golden(name: &str, payloads: &[(&'static str, Value)]) {
    let path = format!("{}/tests/golden/notify/{name}", env!("CARGO_MANIFEST_DIR"));
    let payloads: BTreeMap<&str, &Value> = payloads.iter().map(|(name, value)| (*name, value)).collect();
    let text = serde_json::to_string_pretty(&payloads).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(&path).unwrap_or_default(),
        "update with UPDATE_GOLDEN=1 cargo test --lib notify"
    );
}

fn with(kind: Kind, action: Action, deadline: Option<f64>) -> Account {
    let mut account = Account { fence: None, drain: None, ..account() };
    let one = &mut account.announcements[0];
    (one.kind, one.action, one.deadline) = (kind, action, deadline);
    account
}

#[rstest]
#[case::spot(Kind::SpotInterruption, Action::Terminate, Some(118.0), "is terminated in 118 s: spot interruption")]
#[case::late(Kind::SpotInterruption, Action::Stop, Some(-3.0), "is stopped now: spot interruption")]
#[case::hibernate(Kind::SpotInterruption, Action::Hibernate, None, "is hibernated: spot interruption")]
#[case::rebalance(
    Kind::RebalanceRecommendation,
    Action::Terminate,
    None,
    "may be interrupted soon: rebalance recommendation"
)]
#[case::days(Kind::ScheduledEvent, Action::Reboot, Some(259_200.0), "is rebooted in 3 days: scheduled event")]
#[case::hours(Kind::ScheduledEvent, Action::Maintenance, Some(7300.0), "has maintenance in 2 h: scheduled event")]
#[case::group(
    Kind::AsgTermination,
    Action::Terminate,
    Some(300.0),
    "is terminated in 5 min: termination by its auto scaling group"
)]
fn the_headline_says_what_and_when(
    #[case] kind: Kind,
    #[case] action: Action,
    #[case] deadline: Option<f64>,
    #[case] expected: &str,
) {
    let facts = facts(with(kind, action, deadline), &[Turn::Notice], 0.0);
    assert_eq!(facts.headline, format!("ip-10-0-1-23 {expected}"));
}

#[test]
fn the_result_says_whether_it_was_in_time() {
    let headline = |slack: Option<f64>, unfinished: u32| {
        let mut account = drained();
        let finish = account.drain.as_mut().unwrap().finished.as_mut().unwrap();
        (finish.slack, finish.outcomes.unfinished) = (slack, unfinished);
        facts(account, &[Turn::Result], 76.5).headline
    };
    assert_eq!(headline(Some(41.5), 0), "ip-10-0-1-23 is clear, with 42 s to spare: spot interruption");
    assert_eq!(headline(Some(-2.0), 0), "ip-10-0-1-23 is clear, 2 s too late: spot interruption");
    assert_eq!(headline(None, 0), "ip-10-0-1-23 is clear: spot interruption");
    assert_eq!(headline(Some(0.0), 2), "ip-10-0-1-23 is NOT clear, 2 of 18 pods still run: spot interruption");
    let mut hibernated = with(Kind::SpotInterruption, Action::Hibernate, None);
    hibernated.not_drained = Some("the instance hibernates".into());
    let facts = facts(hibernated, &[Turn::Result], 1.0);
    assert_eq!(facts.headline, "ip-10-0-1-23 is not drained (the instance hibernates): spot interruption");
}

#[test]
fn of_several_announcements_the_earliest_that_is_pending_is_told() {
    let mut account = with(Kind::ScheduledEvent, Action::Reboot, Some(600.0));
    account.announcements.extend(with(Kind::SpotInterruption, Action::Terminate, Some(118.0)).announcements);
    assert_eq!(facts(account.clone(), &[Turn::Notice], 0.0).kind, Some(Kind::SpotInterruption));
    account.announcements[1].over = Some(Over { at: 9.0, because: "gone".into() });
    let left = facts(account.clone(), &[Turn::Notice], 10.0);
    assert_eq!((left.kind, left.seconds_left), (Some(Kind::ScheduledEvent), Some(590)));
    account.announcements[0].over = Some(Over { at: 20.0, because: "cancelled".into() });
    let over = facts(account, &[Turn::Over], 21.0);
    assert_eq!(over.headline, "ip-10-0-1-23 stays: scheduled event is over (cancelled)");
}

#[test]
fn budgets_are_named_from_the_words_of_the_api_server() {
    let facts = result();
    assert_eq!((facts.budgets.as_slice(), facts.blocked.len()), (&["shop/cart".to_owned()][..], 1));
    assert_eq!(facts.hurt, ["shop/cart-0 forced", "shop/batch-0 shortened"]);
    let mut account = Account { drain: None, ..account() };
    account.foreseen = vec![Foreseen { pod: "a/b".into(), message: "no word of a name".into() }];
    let facts = self::facts(account, &[Turn::Notice], 0.0);
    assert_eq!((facts.blocked.len(), facts.budgets.len()), (1, 0));
}

#[test]
fn many_things_are_a_few_and_a_number() {
    let things: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    assert_eq!(named(&things), "0, 1, 2, 3, 4 and 3 more");
    assert_eq!(named(&things[..5]), "0, 1, 2, 3, 4");
}

#[test]
fn words_of_others_are_one_bounded_line() {
    let text = short(&format!("a\nb\u{1b}{}", "x".repeat(1000)));
    assert!(text.starts_with("a b x") && text.chars().count() == 301, "{text}");
}
