use rstest::rstest;

use super::*;

const NTH_CONSOLE: &str = include_str!("../../../tests/golden/nth/console.log");
const NTH_JSON: &str = include_str!("../../../tests/golden/nth/json.log");
const OWN_PLAIN: &str = include_str!("../../../tests/golden/nth/spotwarden.plain.log");
const OWN_JSON: &str = include_str!("../../../tests/golden/nth/spotwarden.json.log");

fn nth(text: &str) -> Log {
    nth_log(&[text.to_owned()])
}

fn own(text: &str) -> Log {
    own_log(&[text.to_owned()])
}

#[allow(clippy::unnecessary_wraps, reason = "compared with what is an option")]
fn at(time: &str) -> Option<Timestamp> {
    Some(format!("2026-11-21T{time}Z").parse().unwrap())
}

#[rstest]
#[case(NTH_CONSOLE)]
#[case(NTH_JSON)]
fn nths_log_tells_what_it_did(#[case] text: &str) {
    let log = nth(text);
    let [part] = log.parts.as_slice() else { panic!("{log:?}") };
    assert_eq!((part.node.as_deref(), part.kind.as_deref()), (Some("spot-beside"), Some("spot-interruption")));
    assert_eq!(part.event, at("16:25:19"));
    let times = [part.seen, part.fenced, part.first_eviction, part.last_eviction, part.finished, part.told];
    let expected = ["16:23:20", "16:23:21", "16:23:22", "16:23:22", "16:25:22", "16:25:24"];
    assert_eq!(times, expected.map(at));
    assert_eq!(part.pods, ["db-0", "web-0", "web-1", "web-2"].map(|pod| format!("sim-beside/{pod}")));
    assert_eq!((part.tries, part.result.as_deref(), part.dry_run), (27, Some("failed"), false));
    let refused: Vec<_> = part.refused.iter().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, "sim-beside/db-0");
    assert!(refused[0].1.starts_with("Cannot evict pod as it would violate"), "{refused:?}");
    assert_eq!(part.errors, [r#"error when evicting pods/"db-0" -n "sim-beside": global timeout reached: 2m0s"#]);
    assert_eq!(log.troubles.len(), 1, "{:?}", log.troubles);
    assert!(log.whole_seconds);
}

#[rstest]
#[case::plain(OWN_PLAIN, true)]
#[case::json(OWN_JSON, true)]
#[case::plain_without_report(OWN_PLAIN, false)]
#[case::json_without_report(OWN_JSON, false)]
fn our_log_tells_the_same_with_and_without_its_report(#[case] text: &str, #[case] reported: bool) {
    let kept: Vec<&str> = text.lines().filter(|line| reported || !line.contains("interruption report")).collect();
    let log = own(&kept.join("\n"));
    let [part] = log.parts.as_slice() else { panic!("{log:?}") };
    assert_eq!((part.node.as_deref(), part.kind.as_deref()), (Some("spot-beside"), Some("spot-interruption")));
    assert_eq!(part.event, at("16:25:19"));
    let times = [part.seen, part.fenced, part.first_eviction, part.last_eviction];
    assert!(times.iter().all(|time| *time > at("16:23:19.2") && *time < at("16:23:19.4")), "{times:?}");
    assert_eq!(part.pods, ["db-0", "web-0", "web-1", "web-2"].map(|pod| format!("sim-beside/{pod}")));
    assert!(part.dry_run && part.errors.is_empty());
    assert_eq!(part.result.as_deref().is_some_and(|words| words.starts_with("4 graceful")), reported);
}

#[test]
fn the_table_puts_them_side_by_side() {
    let comparison = compare(nth(NTH_CONSOLE), own(OWN_PLAIN));
    assert!(comparison.is_complete());
    let table = table::table(&comparison);
    let row = |name: &str| table.lines().find(|line| line.trim().starts_with(name)).unwrap_or_default();
    assert!(row("notice seen").ends_with("0.7 s sooner"), "{table}");
    assert!(row("first eviction").contains("16:23:22 ") && row("first eviction").contains("16:23:19.338"), "{table}");
    assert!(row("pods asked").contains("4, 1 refused, 27 tries"), "{table}");
}

/// Each line as a log store or `kubectl` gives it.
#[rstest]
#[case::prefix(|line: &str| format!("[pod/x/y] {line}"))]
#[case::docker(|line: &str| serde_json::json!({"log": format!("{line}\n"), "stream": "stderr"}).to_string())]
#[case::store(|line: &str| serde_json::json!({"message": line, "logStreamName": "s"}).to_string())]
fn what_is_around_the_lines_changes_nothing(#[case] wrap: fn(&str) -> String) {
    let wrapped = |text: &str| text.lines().map(wrap).collect::<Vec<_>>().join("\n");
    for (ours, theirs) in [(OWN_PLAIN, NTH_CONSOLE), (OWN_JSON, NTH_JSON)] {
        assert_eq!(nth(&wrapped(theirs)), nth(theirs));
        assert_eq!(own(&wrapped(ours)), own(ours));
    }
}

#[test]
fn the_time_of_the_runtime_is_finer() {
    let taken = NTH_CONSOLE.lines().map(|line| format!("2026-11-21T{}.25Z stdout F {line}", &line[11..19]));
    let taken = taken.collect::<Vec<_>>().join("\n");
    let log = nth(&taken);
    assert_eq!((log.parts[0].seen, log.whole_seconds), (at("16:23:20.25"), false));
}

#[test]
fn the_two_streams_of_nth_may_be_two_files() {
    let (errors, rest): (Vec<&str>, Vec<&str>) = NTH_CONSOLE.lines().partition(|line| line.contains("ERR"));
    let log = nth_log(&[errors.join("\n"), rest.join("\n")]);
    assert_eq!(log, nth(NTH_CONSOLE));
}

#[test]
fn a_log_that_begins_in_the_midst_still_tells() {
    let from = NTH_CONSOLE.find("2026/11/21 16:23:22 INF Draining").unwrap();
    let log = nth(&NTH_CONSOLE[from..]);
    let [part] = log.parts.as_slice() else { panic!("{log:?}") };
    assert_eq!((part.seen, part.fenced, &part.kind), (None, at("16:23:22"), &None));
    let comparison = compare(log, own(OWN_PLAIN));
    assert!(comparison.is_complete(), "{comparison:?}");
    let requested = NTH_CONSOLE.find("2026/11/21 16:23:21 INF Requesting").unwrap();
    assert_eq!(nth(&NTH_CONSOLE[requested..]).parts[0].kind.as_deref(), Some("spot-interruption"));
}

#[test]
fn an_event_that_nth_takes_for_a_new_one_each_time_is_counted() {
    let event = |second: u32| {
        format!(
            "2026/11/21 10:00:{second:02} INF Adding new event to the event store event={{\"EventID\":\"t-{second}\",\
             \"Kind\":\"ASG_LIFECYCLE\",\"NodeName\":\"n1\",\"StartTime\":\"2026-11-21T10:00:00Z\"}}\n"
        )
    };
    let log = nth(&(0..20).step_by(2).map(event).collect::<String>());
    let [part] = log.parts.as_slice() else { panic!("{log:?}") };
    assert_eq!((part.repeated, part.event, part.kind.as_deref()), (9, None, Some("asg-termination")));
}

#[test]
fn nths_own_dry_run_and_its_crash_are_told() {
    let log = nth(
        "2026/11/21 10:00:01 INF Node would have been cordoned and drained, but dry-run flag was set. node_name=n1 reason=\"x \\n\"\n\
         2026/11/21 10:00:01 INF Node successfully cordoned and drained node_name=n1\n\
         2026/11/21 10:00:09 WRN Stopping NTH - Duplicate Error Threshold hit.\npanic: x\n",
    );
    assert_eq!((log.parts[0].dry_run, log.parts[0].node.as_deref()), (true, Some("n1")));
    assert_eq!(log.troubles.keys().collect::<Vec<_>>(), ["NTH crashed: the same error four times"]);
}

#[test]
fn what_only_one_saw_is_shown_as_such() {
    let other = OWN_PLAIN.replace("spot-beside", "spot-other");
    let comparison = compare(nth(NTH_CONSOLE), own(&other));
    assert!(!comparison.is_complete() && comparison.pairs.len() == 2);
    let table = table::table(&comparison);
    assert!(table.contains("spotwarden: not in its log") && table.contains("NTH: not in its log"), "{table}");
    let hours_apart = own(&OWN_PLAIN.replace("2026-11-21T16", "2026-11-21T19"));
    let comparison = compare(nth(NTH_CONSOLE), hours_apart);
    assert!(comparison.overlap.is_none() && comparison.pairs.len() == 2);
    assert!(table::table(&comparison).starts_with("The two logs have no time in common"));
}

#[test]
fn logs_without_announcements_say_so() {
    let quiet = |text: &str| text.lines().take(4).collect::<Vec<_>>().join("\n");
    let comparison = compare(nth(&quiet(NTH_CONSOLE)), own(&OWN_PLAIN.lines().take(1).collect::<String>()));
    assert!(!comparison.is_complete());
    assert!(table::table(&comparison).starts_with("Neither log tells of an announcement"));
}

proptest::proptest! {
    #[test]
    fn no_log_is_too_damaged(cut in 0_usize..8000, drop in 0_usize..40, noise in "\\PC{0,80}") {
        for (ours, theirs) in [(OWN_PLAIN, NTH_CONSOLE), (OWN_JSON, NTH_JSON)] {
            let damaged = |text: &str| {
                let mut lines: Vec<&str> = text.get(..cut).unwrap_or(text).lines().collect();
                if drop < lines.len() {
                    lines[drop] = &noise;
                }
                lines.join("\n")
            };
            let _ = table::table(&compare(nth(&damaged(theirs)), own(&damaged(ours))));
        }
    }
}
