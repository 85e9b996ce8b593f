//! `events/maintenance/scheduled` and `events/maintenance/history`: lists of maintenance events, read element by element.

use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::date::event_date;
use super::{Malformed, Oddity, name};
use crate::signal::Action;

/// More events than any instance has at a time. What comes after them is left out.
const MOST_EVENTS: usize = 64;

/// Longer than any id or code, and short enough for a line that people read.
const LONGEST_WORD: usize = 64;

/// As much of an odd element as a log line shows.
const SHOWN: usize = 200;

/// What is going to be done. EC2 may add to these at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The instance is stopped; a start moves it to another host.
    InstanceStop,
    /// The instance is stopped, or terminated if its root device is an instance store.
    InstanceRetirement,
    /// The guest is rebooted.
    InstanceReboot,
    /// The host is rebooted.
    SystemReboot,
    /// A short loss of network or power.
    SystemMaintenance,
    /// Something that this version does not know.
    Other,
}

impl Code {
    /// The codes that EC2 documents.
    pub const KNOWN: [Self; 5] = [
        Self::InstanceStop,
        Self::InstanceRetirement,
        Self::InstanceReboot,
        Self::SystemReboot,
        Self::SystemMaintenance,
    ];

    /// As EC2 spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InstanceStop => "instance-stop",
            Self::InstanceRetirement => "instance-retirement",
            Self::InstanceReboot => "instance-reboot",
            Self::SystemReboot => "system-reboot",
            Self::SystemMaintenance => "system-maintenance",
            Self::Other => "unknown",
        }
    }

    /// What it means for the instance; the worst for what is not known.
    pub const fn action(self) -> Action {
        match self {
            Self::InstanceStop => Action::Stop,
            Self::InstanceReboot | Self::SystemReboot => Action::Reboot,
            Self::SystemMaintenance => Action::Maintenance,
            Self::InstanceRetirement | Self::Other => Action::Terminate,
        }
    }
}

/// One maintenance event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// E.g. `instance-event-0abc12345678def90`; made from code and time if the document has none.
    pub id: String,
    /// What is going to be done.
    pub code: Code,
    /// The code in the document's own word, or `unknown`.
    pub code_word: String,
    /// When at the earliest; `None` if the document does not say it readably.
    pub not_before: Option<Timestamp>,
    /// When at the latest; events without an end have none.
    pub not_after: Option<Timestamp>,
    /// Completed or cancelled, by its state or by the prefix of its description.
    pub done: bool,
}

/// A list of maintenance events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduledEvents {
    /// In the order of the document.
    pub events: Vec<ScheduledEvent>,
    /// Every element was understood. If not, an event that is missing here may be the one that was not.
    pub complete: bool,
    /// What was not taken as it came, with the shortened text of the element.
    pub oddities: Vec<(Oddity, String)>,
}

/// Reads `events/maintenance/scheduled`. Of several events with one id the active ones count, and of these the earliest.
/// Fails only if the body is no list: an element that cannot be an event is left out, and one that is odd in a detail is an
/// event all the same.
pub fn scheduled_events(body: &[u8]) -> Result<ScheduledEvents, Malformed> {
    read(body, |list, event, oddities| {
        let Some(other) = list.iter_mut().find(|other| other.id == event.id) else {
            list.push(event);
            return;
        };
        oddities.push(Oddity::OddId);
        let rank = |event: &ScheduledEvent| (event.done, event.not_before.is_none(), event.not_before);
        if rank(&event) < rank(other) {
            *other = event;
        }
    })
}

/// Reads `events/maintenance/history` in the same way, but there an event may stand several times, once for each time that
/// it was planned for.
pub fn event_history(body: &[u8]) -> Result<ScheduledEvents, Malformed> {
    read(body, |list, event, _| list.push(event))
}

fn read(
    body: &[u8],
    insert: impl Fn(&mut Vec<ScheduledEvent>, ScheduledEvent, &mut Vec<Oddity>),
) -> Result<ScheduledEvents, Malformed> {
    // One bad byte in a description must not hide the event, let alone its siblings.
    let text = String::from_utf8_lossy(body);
    if text.trim().is_empty() {
        return Err(Malformed("it is empty"));
    }
    let elements: Vec<&RawValue> = serde_json::from_str(&text).map_err(|_| Malformed("it is no JSON list"))?;
    let mut read = ScheduledEvents { complete: elements.len() <= MOST_EVENTS, ..ScheduledEvents::default() };
    for element in elements.iter().take(MOST_EVENTS) {
        let mut oddities = Vec::new();
        if let Some(event) = event(element, &mut oddities) {
            insert(&mut read.events, event, &mut oddities);
        } else {
            read.complete = false;
            oddities.push(Oddity::Malformed);
        }
        let shown: String = element.get().chars().take(SHOWN).collect();
        read.oddities.extend(oddities.into_iter().map(|oddity| (oddity, shown.clone())));
    }
    if elements.len() > MOST_EVENTS {
        read.oddities.push((Oddity::Malformed, format!("a list of {} events", elements.len())));
    }
    Ok(read)
}

fn event(element: &RawValue, oddities: &mut Vec<Oddity>) -> Option<ScheduledEvent> {
    let fields: Map<String, Value> = serde_json::from_str(element.get()).ok()?;
    let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let short = |key: &str| name(text(key)?.as_bytes()).filter(|word| word.len() <= LONGEST_WORD);
    let (id, word) = (short("EventId"), short("Code"));
    let not_before = text("NotBefore").and_then(event_date);
    if id.is_none() && (word.is_none() || not_before.is_none()) {
        return None;
    }
    let code = word.as_deref().and_then(code).unwrap_or(Code::Other);
    let (terminal, known_state) = text("State").map_or((false, false), state);
    let not_after = text("NotAfter").map(event_date);
    let odd = [
        (code == Code::Other || !known_state, Oddity::UnknownWord),
        (not_before.is_none(), Oddity::NoTime),
        (is_odd(not_before) || not_after.is_some_and(|end| end.is_none() || is_odd(end)), Oddity::OddTime),
        (id.is_none(), Oddity::OddId),
    ];
    oddities.extend(odd.into_iter().filter_map(|(is, oddity)| is.then_some(oddity)));
    let not_before = not_before.map(|(time, _)| time);
    let code_word = word.unwrap_or_else(|| Code::Other.as_str().to_owned());
    let made_up = || not_before.map(|time| format!("{code_word}@{time}")).unwrap_or_default();
    Some(ScheduledEvent {
        id: id.unwrap_or_else(made_up),
        code,
        not_before,
        not_after: not_after.flatten().map(|(time, _)| time),
        done: terminal || text("Description").is_some_and(is_marked_done),
        code_word,
    })
}

fn is_odd(time: Option<(Timestamp, bool)>) -> bool {
    time.is_some_and(|(_, odd)| odd)
}

fn code(word: &str) -> Option<Code> {
    Code::KNOWN.into_iter().find(|code| word.eq_ignore_ascii_case(code.as_str()))
}

/// Whether a state is final, and whether it is known at all.
fn state(word: &str) -> (bool, bool) {
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    let terminal = is("completed") || is("canceled") || is("cancelled");
    (terminal, terminal || is("active"))
}

/// A finished event keeps its place in the list for up to an hour, with a prefix in its description.
fn is_marked_done(description: &str) -> bool {
    let start = description.trim_start().to_ascii_lowercase();
    ["[completed]", "[canceled]", "[cancelled]"].iter().any(|prefix| start.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const DOCUMENTED: &str = r#"[{"NotBefore":"14 Nov 2026 09:00:43 GMT","Code":"system-reboot","Description":"scheduled reboot",
  "EventId":"instance-event-0abc12345678def90","NotAfter":"14 Nov 2026 09:17:23 GMT","State":"active"}]"#;

    fn documented() -> ScheduledEvent {
        ScheduledEvent {
            id: "instance-event-0abc12345678def90".into(),
            code: Code::SystemReboot,
            code_word: "system-reboot".into(),
            not_before: "2026-11-14T09:00:43Z".parse().ok(),
            not_after: "2026-11-14T09:17:23Z".parse().ok(),
            done: false,
        }
    }

    /// The documented event with some fields replaced, or removed by null.
    fn element(changes: &Value) -> String {
        let list: Value = serde_json::from_str(DOCUMENTED).unwrap();
        let mut fields = list[0].as_object().unwrap().clone();
        for (key, value) in changes.as_object().unwrap() {
            fields.insert(key.clone(), value.clone());
        }
        fields.retain(|_, value| !value.is_null());
        Value::from(fields).to_string()
    }

    fn one(changes: &Value) -> (ScheduledEvent, Vec<Oddity>) {
        let read = scheduled_events(format!("[{}]", element(changes)).as_bytes()).unwrap();
        assert!(read.complete);
        (read.events[0].clone(), read.oddities.iter().map(|(oddity, _)| *oddity).collect())
    }

    #[test]
    fn the_documented_list_is_one_event_with_nothing_odd() {
        let read = scheduled_events(DOCUMENTED.as_bytes()).unwrap();
        assert_eq!(read, ScheduledEvents { events: vec![documented()], complete: true, oddities: Vec::new() });
        let empty = ScheduledEvents { complete: true, ..ScheduledEvents::default() };
        assert_eq!(scheduled_events(b"[]"), Ok(empty.clone()));
        assert_eq!(scheduled_events(b" [ ]\n"), Ok(empty));
    }

    #[rstest]
    #[case("instance-stop", Code::InstanceStop, Action::Stop, &[])]
    #[case("instance-retirement", Code::InstanceRetirement, Action::Terminate, &[])]
    #[case("instance-reboot", Code::InstanceReboot, Action::Reboot, &[])]
    #[case("system-reboot", Code::SystemReboot, Action::Reboot, &[])]
    #[case("system-maintenance", Code::SystemMaintenance, Action::Maintenance, &[])]
    #[case("System-Maintenance ", Code::SystemMaintenance, Action::Maintenance, &[])]
    #[case("instance-teleport", Code::Other, Action::Terminate, &[Oddity::UnknownWord])]
    #[case("two words", Code::Other, Action::Terminate, &[Oddity::UnknownWord])]
    fn a_code_is_an_action(#[case] word: &str, #[case] code: Code, #[case] action: Action, #[case] odd: &[Oddity]) {
        let (event, oddities) = one(&serde_json::json!({ "Code": word }));
        assert_eq!((event.code, event.code.action(), oddities.as_slice()), (code, action, odd));
    }

    #[rstest]
    #[case("active", "scheduled reboot", false, &[])]
    #[case("Active", "", false, &[])]
    #[case("completed", "scheduled reboot", true, &[])]
    #[case("canceled", "scheduled reboot", true, &[])]
    #[case("Cancelled", "scheduled reboot", true, &[])]
    #[case("active", "[Completed] scheduled reboot", true, &[])]
    #[case("active", " [canceled] scheduled reboot", true, &[])]
    #[case("active", "[Cancelled]", true, &[])]
    #[case("active", "not [Completed] yet", false, &[])]
    #[case("paused", "scheduled reboot", false, &[Oddity::UnknownWord])]
    #[case("paused", "[Completed] scheduled reboot", true, &[Oddity::UnknownWord])]
    fn an_event_is_done_by_its_state_or_by_its_description(
        #[case] state: &str,
        #[case] description: &str,
        #[case] done: bool,
        #[case] odd: &[Oddity],
    ) {
        let (event, oddities) = one(&serde_json::json!({ "State": state, "Description": description }));
        assert_eq!((event.done, oddities.as_slice()), (done, odd));
    }

    #[rstest]
    #[case::no_end(serde_json::json!({ "NotAfter": null }), &[])]
    #[case::no_description(serde_json::json!({ "Description": null }), &[])]
    #[case::with_a_deadline(serde_json::json!({ "NotBeforeDeadline": "20 Nov 2026 09:00:43 GMT" }), &[])]
    #[case::nonsense_deadline(serde_json::json!({ "NotBeforeDeadline": 7 }), &[])]
    #[case::unknown_keys(serde_json::json!({ "New": { "a": [1] } }), &[])]
    #[case::no_state(serde_json::json!({ "State": null }), &[Oddity::UnknownWord])]
    #[case::no_code(serde_json::json!({ "Code": null }), &[Oddity::UnknownWord])]
    #[case::numeric_code(serde_json::json!({ "Code": 7 }), &[Oddity::UnknownWord])]
    #[case::rfc3339(serde_json::json!({ "NotBefore": "2026-11-14T09:00:43Z" }), &[Oddity::OddTime])]
    #[case::local(serde_json::json!({ "NotBefore": "14 Nov 2026 10:00:43 +0100" }), &[Oddity::OddTime])]
    #[case::fraction(serde_json::json!({ "NotBefore": "14 Nov 2026 09:00:43.9 GMT" }), &[Oddity::OddTime])]
    #[case::odd_end(serde_json::json!({ "NotAfter": "next week" }), &[Oddity::OddTime])]
    fn a_detail_that_is_missing_or_odd_leaves_an_event(#[case] changes: Value, #[case] odd: &[Oddity]) {
        let (event, oddities) = one(&changes);
        assert_eq!((event.id, event.not_before), (documented().id, documented().not_before));
        assert_eq!((event.done, oddities.as_slice()), (false, odd));
    }

    #[rstest]
    #[case(Value::Null)]
    #[case(serde_json::json!("soon"))]
    #[case(serde_json::json!(1_794_646_843))]
    #[case(serde_json::json!("31 Feb 2026 09:00:43 GMT"))]
    fn an_event_without_a_readable_time_is_an_event(#[case] time: Value) {
        let (event, oddities) = one(&serde_json::json!({ "NotBefore": time }));
        assert_eq!((event.not_before, oddities), (None, vec![Oddity::NoTime]));
    }

    #[rstest]
    #[case(Value::Null)]
    #[case(serde_json::json!(""))]
    #[case(serde_json::json!(12))]
    #[case(serde_json::json!("<b>"))]
    #[case(serde_json::json!("x".repeat(300)))]
    fn an_event_without_a_usable_id_gets_one_that_stays(#[case] id: Value) {
        let (event, oddities) = one(&serde_json::json!({ "EventId": id }));
        assert_eq!((event.id.as_str(), oddities), ("system-reboot@2026-11-14T09:00:43Z", vec![Oddity::OddId]));
    }

    #[rstest]
    #[case::null("null")]
    #[case::text("\"system-reboot\"")]
    #[case::list("[]")]
    #[case::empty("{}")]
    #[case::neither_id_nor_time(r#"{"Code":"system-reboot","State":"active"}"#)]
    #[case::number_beyond_all("{\"EventId\":1e999}")]
    fn one_bad_element_leaves_its_siblings_and_shows_itself(#[case] bad: &str) {
        let good = element(&serde_json::json!({}));
        for list in [format!("[{bad},{good}]"), format!("[{good},{bad}]"), format!("[{bad},{good},{bad}]")] {
            let read = scheduled_events(list.as_bytes()).unwrap();
            assert_eq!((read.events, read.complete), (vec![documented()], false));
            assert_eq!(read.oddities[0], (Oddity::Malformed, bad.to_owned()));
        }
    }

    #[test]
    fn deep_nesting_is_one_bad_element_and_a_bad_byte_none() {
        let good = element(&serde_json::json!({}));
        let (open, close) = ("[".repeat(20_000), "]".repeat(20_000));
        let read = scheduled_events(format!(r#"[{{"a":{open}{close}}},{good}]"#).as_bytes()).unwrap();
        assert_eq!((read.events, read.complete), (vec![documented()], false));
        assert!(read.oddities[0].1.len() <= SHOWN);
        let mut body = format!("[{}]", element(&serde_json::json!({ "Description": "a?b" }))).into_bytes();
        let at = body.iter().position(|byte| *byte == b'?').unwrap();
        body[at] = 0xff;
        assert_eq!(scheduled_events(&body).unwrap().events, [documented()]);
    }

    #[rstest]
    #[case::the_earlier(&[("active", Some("16")), ("active", Some("15"))], Some("15"), false)]
    #[case::in_any_order(&[("active", Some("15")), ("active", Some("16"))], Some("15"), false)]
    #[case::the_active(&[("completed", Some("15")), ("active", Some("16"))], Some("16"), false)]
    #[case::the_one_with_a_time(&[("active", None), ("active", Some("16"))], Some("16"), false)]
    #[case::three(&[("active", Some("17")), ("active", Some("15")), ("active", Some("16"))], Some("15"), false)]
    #[case::all_done(&[("completed", Some("16")), ("canceled", Some("15"))], Some("15"), true)]
    fn of_several_events_with_one_id_the_earliest_active_one_counts(
        #[case] listed: &[(&str, Option<&str>)],
        #[case] day: Option<&str>,
        #[case] done: bool,
    ) {
        let not_before = |day: Option<&str>| day.map(|day| format!("{day} Nov 2026 09:00:43 GMT"));
        let elements: Vec<String> = listed
            .iter()
            .map(|(state, day)| element(&serde_json::json!({ "State": state, "NotBefore": not_before(*day) })))
            .collect();
        let read = scheduled_events(format!("[{}]", elements.join(",")).as_bytes()).unwrap();
        let expected = day.map(|day| format!("2026-11-{day}T09:00:43Z").parse().unwrap());
        assert_eq!(read.events.len(), 1);
        assert_eq!((read.events[0].not_before, read.events[0].done), (expected, done));
        let doubles = read.oddities.iter().filter(|(oddity, _)| *oddity == Oddity::OddId).count();
        assert_eq!(doubles, listed.len() - 1);
    }

    #[test]
    fn the_history_may_name_an_event_once_for_each_time_it_was_planned_for() {
        let planned = |day: &str| element(&serde_json::json!({ "NotBefore": format!("{day} Nov 2026 09:00:43 GMT") }));
        let read = event_history(format!("[{},{}]", planned("14"), planned("15")).as_bytes()).unwrap();
        assert_eq!((read.events.len(), read.oddities), (2, Vec::new()));
    }

    #[test]
    fn a_list_without_end_is_cut_and_not_complete() {
        let elements: Vec<String> =
            (0..1000).map(|number| element(&serde_json::json!({ "EventId": format!("e{number}") }))).collect();
        let read = scheduled_events(format!("[{}]", elements.join(",")).as_bytes()).unwrap();
        assert_eq!((read.events.len(), read.complete), (MOST_EVENTS, false));
    }

    #[rstest]
    #[case(b"")]
    #[case(b" \n")]
    #[case(b"{}")]
    #[case(b"null")]
    #[case(b"<html>Sign in</html>")]
    #[case(br#"[{"EventId":"e1""#)]
    #[case(b"[] []")]
    #[case(&[0xff, 0xfe])]
    fn what_is_no_list_is_malformed(#[case] body: &[u8]) {
        assert!(scheduled_events(body).is_err());
    }

    proptest! {
        /// Whatever stands beside it, a good element is read.
        #[test]
        fn a_good_element_survives_any_company(
            company in proptest::collection::vec(any::<String>().prop_map(|text| Value::from(text).to_string()), 0..9),
            at in 0_usize..10,
        ) {
            let mut elements = company;
            elements.insert(at.min(elements.len()), element(&serde_json::json!({})));
            let read = scheduled_events(format!("[{}]", elements.join(",")).as_bytes()).unwrap();
            prop_assert_eq!(read.events, vec![documented()]);
            prop_assert_eq!(read.complete, elements.len() == 1);
        }
    }
}
