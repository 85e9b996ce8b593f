use prost::Message;
use rstest::rstest;

use super::*;
use crate::interruption::account::{Fence, Over};

pub(in crate::trace) fn account() -> Account {
    Account::sample()
}

fn spans(told: &mut Told, account: &Account, at: f64) -> Vec<Span> {
    told.spans(account, account.time(at), false)
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn words(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|one| one.key == key)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(array) => format!("{} values", array.values.len()),
        other => panic!("{other:?}"),
    })
}

/// Offsets of a span, in the account's seconds.
fn times(account: &Account, span: &Span) -> (f64, f64) {
    let since = |nanos: u64| {
        let at = Timestamp::from_nanosecond(i128::from(nanos)).unwrap();
        (at.duration_since(account.started).as_secs_f64() * 1000.0).round() / 1000.0
    };
    (since(span.start_time_unix_nano), since(span.end_time_unix_nano))
}

fn pod<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| words(span, "k8s.pod.name").as_deref() == Some(name)).unwrap()
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == i32::from(StatusCode::Error))
}

#[test]
fn a_drained_node_is_one_trace_with_a_server_span_above_all() {
    let account = Account::drained();
    let spans = spans(&mut Told::default(), &account, 119.0);
    assert_eq!(
        names(&spans),
        ["fence", "pod", "pod", "pod", "drain", "interruption"],
        "who was left alone has no span"
    );
    let (root, drain) = (&spans[5], &spans[4]);
    for span in &spans {
        assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
        assert!(span.span_id.len() == 8 && span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        let (parent, kind) = match span.name.as_str() {
            "interruption" => (Vec::new(), SpanKind::Server),
            "pod" => (drain.span_id.clone(), SpanKind::Internal),
            _ => (root.span_id.clone(), SpanKind::Internal),
        };
        assert_eq!((&span.parent_span_id, span.kind), (&parent, i32::from(kind)), "{}", span.name);
    }
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len());
    assert_eq!(times(&account, root), (0.0, 117.2));
    assert_eq!(times(&account, drain), (0.1, 117.2));
    assert_eq!(times(&account, &spans[0]), (0.0, 0.04));
    assert_eq!(spans[0].events[0].name, "spotwarden.fence.refused");
    for (key, wanted) in [
        ("k8s.node.name", "ip-10-0-0-1"),
        ("spotwarden.interruption.kind", "spot-interruption"),
        ("spotwarden.interruption.action", "terminate"),
        ("spotwarden.interruption.deadline", "2026-03-31T16:34:24Z"),
        ("spotwarden.drain.forced", "1"),
        ("spotwarden.drain.slack", "2.8"),
        ("spotwarden.dry_run", "false"),
    ] {
        assert_eq!(words(root, key).as_deref(), Some(wanted), "{key}");
    }
    assert!(!is_error(root) && root.events[0].name == "spotwarden.announced");
}

#[test]
fn a_pod_tells_what_it_wanted_what_it_got_and_what_was_in_its_way() {
    let account = Account::drained();
    let spans = spans(&mut Told::default(), &account, 119.0);
    let queue = pod(&spans, "queue");
    for (key, wanted) in [
        ("k8s.namespace.name", "shop"),
        ("spotwarden.pod.outcome", "forced"),
        ("spotwarden.pod.forced", "true"),
        ("spotwarden.pod.grace.wanted", "30"),
        ("spotwarden.pod.grace.granted", "30"),
        ("spotwarden.pod.blocked", "86.8"),
    ] {
        assert_eq!(words(queue, key).as_deref(), Some(wanted), "{key}");
    }
    assert_eq!(times(&account, queue), (0.1, 92.5));
    assert_eq!(queue.events[0].name, "spotwarden.eviction.refused");
    let message = &queue.status.as_ref().unwrap().message;
    assert!(is_error(queue) && message.starts_with("deleted past a refusal: Cannot evict"), "{message}");
    for name in ["web", "db"] {
        assert!(!is_error(pod(&spans, name)) && words(pod(&spans, name), "spotwarden.pod.blocked").is_none());
    }
}

#[test]
fn spans_are_told_when_they_end_and_once() {
    let whole = Account::drained();
    let mut told = Told::default();
    let mut account = account();
    assert_eq!(names(&spans(&mut told, &account, 0.0)), Vec::<&str>::new());
    account.fence.clone_from(&whole.fence);
    assert_eq!(names(&spans(&mut told, &account, 0.1)), ["fence"]);
    account.drain =
        whole.drain.clone().map(|drain| crate::interruption::account::DrainPart { finished: None, ..drain });
    account.pods = whole.pods.iter().map(|pod| PodPart { ended: None, outcome: None, ..pod.clone() }).collect();
    account.pods[0] = whole.pods[0].clone();
    assert_eq!(spans(&mut told, &account, 1.0), []);
    account.pods[1] = whole.pods[1].clone();
    assert_eq!(names(&spans(&mut told, &account, 3.0)), ["pod"]);
    assert_eq!(spans(&mut told, &account, 3.0), []);
    assert_eq!(names(&spans(&mut told, &whole, 117.3)), ["pod", "pod", "drain", "interruption"]);
    assert_eq!(spans(&mut told, &whole, 130.0), []);
    let restored = Account { over: Some(900.0), restored: Some(900.5), ..whole };
    let late = spans(&mut told, &restored, 900.5);
    assert_eq!((names(&late), times(&restored, &late[0])), (vec!["restore"], (900.0, 900.5)));
}

fn hanging() -> Account {
    let mut account = Account::drained();
    account.drain.as_mut().unwrap().finished = None;
    (account.pods[2].ended, account.pods[2].outcome) = (None, None);
    account
}

#[rstest]
#[case::long_before(100.0, false, 0.0, false)]
#[case::just_before(117.9, false, 0.0, false)]
#[case::at_last(118.0, false, 0.0, true)]
#[case::too_late(150.0, false, 0.0, true)]
#[case::with_a_tail(118.0, false, 60.0, false)]
#[case::at_the_end_of_the_tail(178.0, false, 60.0, true)]
#[case::rolled_out_in_the_middle(100.0, true, 60.0, false)]
#[case::stopped_with_the_node(115.0, true, 60.0, true)]
#[case::stopped_with_the_node(115.0, true, 0.0, true)]
fn at_the_last_call_everything_is_told_as_it_is(
    #[case] at: f64,
    #[case] stopping: bool,
    #[case] shutdown_tail: f64,
    #[case] is_last: bool,
) {
    let account = Account { shutdown_tail, ..hanging() };
    let mut told = Told::default();
    let spans = told.spans(&account, account.time(at), stopping);
    assert_eq!(names(&spans).contains(&"interruption"), is_last, "{:?}", names(&spans));
    if !is_last {
        assert_eq!(names(&spans), ["fence", "pod", "pod"]);
        return;
    }
    let open = pod(&spans, "db");
    assert_eq!((times(&account, open).1, words(open, "spotwarden.pod.outcome").as_deref()), (at, Some("running")));
    assert!(is_error(open) && is_error(spans.last().unwrap()), "{spans:?}");
    assert_eq!(times(&account, spans.last().unwrap()), (0.0, at));
    let mut ended = account.clone();
    (ended.pods[2].ended, ended.pods[2].outcome) = (Some(at + 1.0), Some(Outcome::Unfinished));
    assert_eq!(told.spans(&ended, account.time(at + 1.0), stopping), [], "nothing is told twice");
}

#[test]
fn without_a_deadline_there_is_no_last_call_and_the_end_completes_the_trace() {
    let mut account = account();
    (account.announcements[0].deadline, account.announcements[0].deadline_time) = (None, None);
    account.fence = Some(Fence { at: 0.1, took: 0.1, refused: Vec::new() });
    let mut told = Told::default();
    assert_eq!(last_call(&account), None);
    assert_eq!(names(&told.spans(&account, account.time(5000.0), true)), ["fence"]);
    account.announcements[0].over = Some(Over { at: 5100.0, because: "expired".into() });
    account.over = Some(5100.0);
    let root = spans(&mut told, &account, 5100.0);
    assert_eq!((names(&root), times(&account, &root[0])), (vec!["interruption"], (0.0, 5100.0)));
    assert_eq!(
        root[0].events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(),
        ["spotwarden.announced", "spotwarden.over"]
    );
}

#[test]
fn what_was_survived_gets_only_its_way_back() {
    let mut account = account();
    (account.resumed, account.over) = (Some(300.0), Some(300.0));
    account.announcements[0].over = Some(Over { at: 300.0, because: "booted".into() });
    let mut told = Told::default();
    assert_eq!(spans(&mut told, &account, 300.0), [], "the root was told before the boot");
    account.restored = Some(310.0);
    let spans = spans(&mut told, &account, 310.0);
    assert_eq!(names(&spans), ["restore"]);
    let before = Told::default().spans(&Account::drained(), Account::drained().time(119.0), false);
    assert_eq!(
        Some(&spans[0].parent_span_id),
        before.last().map(|root| &root.span_id),
        "under the root of the agent before"
    );
}

#[test]
fn a_hibernation_is_complete_with_its_fence() {
    let mut account = account();
    account.not_drained = Some("a hibernation begins with its notice".into());
    account.fence = Some(Fence { at: 0.2, took: 0.2, refused: Vec::new() });
    let spans = spans(&mut Told::default(), &account, 1.0);
    assert_eq!((names(&spans), times(&account, &spans[1])), (vec!["fence", "interruption"], (0.0, 0.2)));
}

#[test]
fn a_restarted_agent_uses_the_same_ids_and_another_interruption_others() {
    let account = Account::drained();
    let ids = |account: &Account| -> BTreeSet<Vec<u8>> {
        spans(&mut Told::default(), account, 119.0).into_iter().map(|span| span.span_id).collect()
    };
    assert_eq!(ids(&account), ids(&Account { resumed: Some(50.0), ..account.clone() }));
    let other = Account { trace_id: "0af7651916cd43dd8448eb211c80319c".into(), ..account.clone() };
    assert!(ids(&account).is_disjoint(&ids(&other)));
    let mut told = Told::default();
    assert_eq!(
        spans(&mut told, &account, 119.0).len(),
        spans(&mut told, &other, 119.0).len(),
        "what was told of one is not of the other"
    );
}

#[test]
fn a_pod_that_comes_again_has_a_span_of_its_own() {
    let mut account = Account::drained();
    account.pods.push(account.pods[1].clone());
    let spans = spans(&mut Told::default(), &account, 119.0);
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!((spans.len(), ids.len()), (7, 7));
}

#[test]
fn the_trace_of_a_full_node_fits_into_one_small_request() {
    let mut account = Account::drained();
    let pod = account.pods[3].clone();
    account.pods = (0..110).map(|index| PodPart { name: format!("{}-{index}", pod.name), ..pod.clone() }).collect();
    let spans = spans(&mut Told::default(), &account, 119.0);
    let bytes: usize = spans.iter().map(Message::encoded_len).sum();
    assert!(spans.len() == 113 && bytes < 96 * 1024, "{} spans, {bytes} bytes", spans.len());
    assert_eq!(Span::decode(spans[0].encode_to_vec().as_slice()).unwrap(), spans[0]);
}
