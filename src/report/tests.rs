use std::path::Path;

use rstest::rstest;

use super::*;
use crate::drain::outcome::Outcome;
use crate::interruption::account::{Over, PodPart};

/// Compares with a file that `UPDATE_GOLDEN=1` writes anew.
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{name} differs; look at it, then UPDATE_GOLDEN=1 cargo test --lib report\n{text}");
}

/// A drain with everything that a report can tell.
fn rich() -> Account {
    let mut account = Account::drained();
    account.pods.push(PodPart {
        asked: Some(0.1),
        blocked: Some(0.3),
        blocked_by: Some("Cannot evict pod as it would violate the pod's disruption budget.".into()),
        ended: Some(120.0),
        outcome: Some(Outcome::Unfinished),
        ..PodPart::new("a-namespace-with-a-long-name", "and-a-pod-with-a-name-as-long-as-any-5d8f9c7b6-x2x9z")
    });
    let finish = account.drain.as_mut().unwrap().finished.as_mut().unwrap();
    (finish.at, finish.took, finish.slack, finish.outcomes.unfinished) = (120.0, 119.9, Some(0.0), 1);
    account
}

/// Names of open elements at the end, or why it is no XML: enough of a parser for what is written here.
fn well_formed(text: &str) -> Result<(), String> {
    let (mut open, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('<') {
        check_text(before)?;
        let (tag, behind) = after.split_once('>').ok_or("a tag does not end")?;
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name.to_owned()) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let (inner, empty) = tag.strip_suffix('/').map_or((tag, false), |inner| (inner, true));
        let quotes: Vec<&str> = inner.split('"').collect();
        if quotes.len().is_multiple_of(2) || quotes.iter().skip(1).step_by(2).any(|value| value.contains('<')) {
            return Err(format!("<{tag}> has an attribute that does not end"));
        }
        for value in quotes.iter().skip(1).step_by(2) {
            check_text(value)?;
        }
        let name = inner.split(' ').next().unwrap_or_default();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("<{tag}> has no name"));
        }
        if !empty {
            open.push(name.to_owned());
        }
    }
    if open.is_empty() && rest.trim().is_empty() { Ok(()) } else { Err(format!("open: {open:?}, left: {rest}")) }
}

fn check_text(text: &str) -> Result<(), String> {
    let known = ["amp;", "lt;", "gt;", "quot;"];
    let entities = text.split('&').skip(1).all(|rest| known.iter().any(|entity| rest.starts_with(entity)));
    let characters = text.chars().all(|c| !c.is_control() || c == '\n') && !text.contains('>');
    if entities && characters { Ok(()) } else { Err(format!("not escaped: {text:?}")) }
}

#[test]
fn the_table_is_as_it_was() {
    golden("table.txt", &table::table(&rich()));
}

#[test]
fn the_picture_is_as_it_was_and_needs_nothing_from_elsewhere() {
    let svg = svg::svg(&rich());
    assert_eq!(well_formed(&svg), Ok(()));
    let lower = svg.to_lowercase();
    for foreign in ["<script", "href", "url(http", "@import", "javascript", " on"] {
        assert!(
            !lower.replace("aria-labelledby", "").contains(&format!("{foreign}=")) && !lower.contains("<script"),
            "{foreign}"
        );
    }
    assert_eq!(lower.matches("http").count(), 1, "only the namespace");
    golden("timeline.svg", &svg);
}

#[test]
fn an_unclosed_element_or_a_bare_sign_is_noticed() {
    for bad in ["<a>", "<a></b>", "<a b=\"c></a>", "a & b", "<a>&nbsp;</a>", "<a b=\"<\"/>", "<a>\u{1b}</a>"] {
        assert!(well_formed(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_comes_from_outside_cannot_leave_its_place() {
    let bad = "\u{1b}[2J</text><script>alert(1)</script>\"&'\u{0}\u{fffe}\n";
    let mut account = rich();
    account.node = bad.into();
    account.trace_id = bad.into();
    account.announcements[0].detail = Some(bad.into());
    account.announcements[0].over = Some(Over { at: 1.0, because: bad.into() });
    account.not_drained = Some(bad.into());
    account.foreseen.push(crate::interruption::account::Foreseen { pod: bad.into(), message: bad.into() });
    for pod in &mut account.pods {
        (pod.namespace, pod.name, pod.blocked_by) = (bad.into(), bad.into(), Some(bad.into()));
    }
    let (svg, table) = (svg::svg(&account), table::table(&account));
    assert_eq!(well_formed(&svg), Ok(()));
    assert!(!svg.contains("<script") && !svg.contains('\u{1b}') && !table.contains('\u{1b}'), "{table}");
    assert_eq!(table.lines().count(), svg_lines(&account), "no line is broken");
}

/// The lines of the table of an account whose words are harmless.
fn svg_lines(account: &Account) -> usize {
    let text = serde_json::to_string(account).unwrap();
    let harmless = text.replace("\\u001b[2J</text><script>alert(1)</script>\\\"&'\\u0000\u{fffe}\\n", "x");
    table::table(&serde_json::from_str(&harmless).unwrap()).lines().count()
}

proptest::proptest! {
    #[test]
    fn times_of_any_kind_give_a_picture(times in proptest::collection::vec(proptest::num::f64::NORMAL, 14), tail in 0.0..1e9_f64) {
        let mut account = rich();
        account.shutdown_tail = tail;
        account.announcements[0].deadline = Some(times[0]);
        account.announcements[0].at = times[1];
        let drain = account.drain.as_mut().unwrap();
        drain.at = times[2];
        drain.finished.as_mut().unwrap().at = times[3];
        for (pod, times) in account.pods.iter_mut().skip(1).zip(times[4..].chunks(5)) {
            (pod.asked, pod.blocked, pod.told) = (Some(times[0]), Some(times[1]), Some(times[2]));
            (pod.ended, pod.granted) = (Some(times[3]), Some(times[4]));
        }
        let svg = svg::svg(&account);
        proptest::prop_assert_eq!(well_formed(&svg), Ok(()));
        proptest::prop_assert!(!svg.contains("NaN") && !svg.contains("\"inf") && svg.len() < 100_000);
        let _ = table::table(&account);
    }
}

#[rstest]
#[case::no_time(|account: &mut Account| account.announcements[0].deadline = None, "spot-interruption")]
#[case::nothing_done(|account: &mut Account| (account.drain, account.pods) = (None, Vec::new()), "Result: no drain")]
#[case::hibernation(|account: &mut Account| account.not_drained = Some("it begins at once".into()), "Result: not drained: it begins at once")]
#[case::rehearsal(|account: &mut Account| account.dry_run = true, "A dry run")]
#[case::taken_up(|account: &mut Account| account.resumed = Some(40.0), "An agent took it up at 40.0 s")]
#[case::back(|account: &mut Account| account.restored = Some(400.0), "  400.0 s  restored")]
#[case::too_late(|account: &mut Account| account.drain.as_mut().unwrap().finished.as_mut().unwrap().slack = Some(-3.0), "3.0 s too late")]
#[case::with_a_tail(|account: &mut Account| account.shutdown_tail = 150.0, "deadline, and processes run on for 150 s")]
fn every_turn_of_events_is_told(#[case] change: fn(&mut Account), #[case] words: &str) {
    let mut account = Account::drained();
    change(&mut account);
    let table = table::table(&account);
    assert!(table.contains(words), "{table}");
    assert_eq!(well_formed(&svg::svg(&account)), Ok(()));
}

fn two() -> (String, [String; 2]) {
    let ids = ["4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), "4bf7651916cd43dd8448eb211c80319c".to_owned()];
    let accounts = ids.clone().map(|trace_id| Account { trace_id, ..Account::drained() });
    (accounts.map(|one| serde_json::to_string(&one).unwrap()).join("\n"), ids)
}

#[test]
fn one_of_several_is_chosen_by_the_beginning_of_its_trace_id() {
    let (text, ids) = two();
    let (last, others) = choose("f", &text, None).unwrap();
    assert!(last.trace_id == ids[1] && others.unwrap().contains("f has 2 interruptions, this is the last"));
    let (chosen, others) = choose("f", &text, Some("4BF92")).unwrap();
    assert!(chosen.trace_id == ids[0] && others.is_none());
}

#[rstest]
#[case("", None, "f has no interruption report; an agent logs one")]
#[case("", Some("4"), "f has no interruption report; an agent logs one")]
#[case(
    "{\"version\":9,\"trace_id\":\"x\"}",
    None,
    "f: there is a report, but it has version 9 and this program reads version 1"
)]
fn why_nothing_can_be_shown(#[case] text: &str, #[case] trace: Option<&str>, #[case] message: &str) {
    let error = choose("f", text, trace).unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[rstest]
#[case("4bf", 2)]
#[case("77", 0)]
fn a_trace_id_that_is_none_or_several_is_refused_with_what_there_is(#[case] wanted: &str, #[case] matching: usize) {
    let (text, ids) = two();
    let error = choose("f", &text, Some(wanted)).unwrap_err().to_string();
    let words =
        format!("f has {matching} reports whose trace id begins with \"{wanted}\"; there is {}, {}", ids[0], ids[1]);
    assert_eq!(error, words);
}

#[test]
fn json_is_what_is_read_again() {
    let (text, _) = show("f", &serde_json::to_string(&rich()).unwrap(), Format::Json, None).unwrap();
    assert_eq!(choose("f", &text, None).unwrap().0, rich());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = read("no/such/file").unwrap_err().to_string();
    assert!(error.starts_with("no/such/file: "), "{error}");
}

/// Paths of all fields, `[]` for the elements of a list.
fn paths(value: &serde_json::Value, path: &str, found: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            paths(value, &path, found);
        }),
        serde_json::Value::Array(values) => {
            found.insert(format!("{path}[]"));
            for value in values {
                paths(value, &format!("{path}[]"), found);
            }
        }
        _ => _ = found.insert(path.to_owned()),
    }
}

#[test]
fn the_page_has_a_row_for_every_field_and_for_nothing_else() {
    let mut account = rich();
    account.dry_run = true;
    (account.resumed, account.over, account.restored) = (Some(1.0), Some(2.0), Some(3.0));
    account.not_drained = Some("x".into());
    account.foreseen.push(crate::interruption::account::Foreseen { pod: "a/b".into(), message: "x".into() });
    account.announcements[0].detail = Some("x".into());
    account.announcements[0].over = Some(Over { at: 2.0, because: "x".into() });
    let mut fields = std::collections::BTreeSet::new();
    paths(&serde_json::to_value(&account).unwrap(), "", &mut fields);
    fields.remove("foreseen[]");
    let page = include_str!("../../docs/report.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Format")).unwrap();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(field, _)| field.to_owned());
    assert_eq!(rows.collect::<std::collections::BTreeSet<_>>(), fields, "left: docs/report.md, right: the account");
    assert!(section.contains(&format!("format version, {}", crate::interruption::account::VERSION)));
}
