//! The kubelet's `shutdownGracePeriodByPodPriority`, as people paste it from a kubelet configuration.

use serde_json::{Map, Value};

use super::PriorityShare;

/// The key in a `KubeletConfiguration`.
const KEY: &str = "shutdownGracePeriodByPodPriority";
const PRIORITY: &str = "priority";
const SECONDS: &str = "shutdownGracePeriodSeconds";

/// Reads YAML or JSON: the bare list, or a mapping that has it under its key, such as a whole kubelet configuration.
/// Entries come back in ascending order of priority. The error completes "this value …".
pub(super) fn parse(text: &str) -> Result<Vec<PriorityShare>, String> {
    let document: Value = serde_saphyr::from_str(text).map_err(|error| {
        let message = error.to_string();
        format!("is not YAML: {}", message.lines().next().unwrap_or_default().trim())
    })?;
    let list = match document {
        Value::Array(list) => list,
        Value::Object(mut mapping) => match mapping.remove(KEY) {
            Some(Value::Array(list)) => list,
            Some(_) => return Err(format!("has a `{KEY}` that is not a list")),
            None => return Err(format!("has no `{KEY}`")),
        },
        _ => return Err("is not a list of priorities".into()),
    };
    let mut shares =
        list.iter().enumerate().map(|(index, entry)| share(entry, index + 1)).collect::<Result<Vec<_>, _>>()?;
    shares.sort_by_key(|share| share.priority);
    if let Some([twice, _]) = shares.array_windows().find(|[left, right]| left.priority == right.priority) {
        return Err(format!("has the priority {} twice", twice.priority));
    }
    if shares.iter().all(|share| share.seconds == 0) {
        return Err("leaves no entry any time".into());
    }
    Ok(shares)
}

fn share(entry: &Value, place: usize) -> Result<PriorityShare, String> {
    let Value::Object(entry) = entry else { return Err(format!("has an entry {place} that is not a mapping")) };
    if let Some(key) = entry.keys().find(|key| ![PRIORITY, SECONDS].contains(&key.as_str())) {
        return Err(format!("has an unknown key `{}` in entry {place}", key.escape_debug()));
    }
    let priority = number(entry, PRIORITY, place)?;
    let seconds = number(entry, SECONDS, place)?;
    Ok(PriorityShare {
        priority: priority.try_into().map_err(|_| format!("has a `{PRIORITY}` in entry {place} beyond 32 bits"))?,
        seconds: seconds.try_into().map_err(|_| format!("has a negative or huge `{SECONDS}` in entry {place}"))?,
    })
}

fn number(entry: &Map<String, Value>, key: &str, place: usize) -> Result<i64, String> {
    let value = entry.get(key).ok_or_else(|| format!("has no `{key}` in entry {place}"))?;
    value.as_i64().ok_or_else(|| format!("has a `{key}` in entry {place} that is not a whole number"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const EXPECTED: [PriorityShare; 3] = [
        PriorityShare { priority: -5, seconds: 10 },
        PriorityShare { priority: 0, seconds: 60 },
        PriorityShare { priority: 2_000_000_000, seconds: 0 },
    ];

    #[rstest]
    #[case::list(
        "- {priority: 0, shutdownGracePeriodSeconds: 60}\n- priority: -5\n  shutdownGracePeriodSeconds: 10\n- priority: 2000000000\n  shutdownGracePeriodSeconds: 0\n"
    )]
    #[case::mapping(
        "shutdownGracePeriodByPodPriority:\n  - priority: 2000000000\n    shutdownGracePeriodSeconds: 0\n  - priority: 0\n    shutdownGracePeriodSeconds: 60\n  - priority: -5\n    shutdownGracePeriodSeconds: 10\n"
    )]
    #[case::whole_configuration(
        "---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 110\nshutdownGracePeriodByPodPriority:\n- {priority: -5, shutdownGracePeriodSeconds: 10}\n- {priority: 0, shutdownGracePeriodSeconds: 60}\n- {priority: 2000000000, shutdownGracePeriodSeconds: 0}\nclusterDNS: [10.0.0.10]\n"
    )]
    #[case::json(r#"[{"priority":-5,"shutdownGracePeriodSeconds":10},{"priority":0,"shutdownGracePeriodSeconds":60},{"priority":2000000000,"shutdownGracePeriodSeconds":0}]"#)]
    fn what_a_kubelet_reads_is_read(#[case] text: &str) {
        assert_eq!(parse(text).unwrap(), EXPECTED);
    }

    #[rstest]
    #[case::word("soon", "is not a list of priorities")]
    #[case::empty_list("[]", "leaves no entry any time")]
    #[case::null("~", "is not a list of priorities")]
    #[case::no_time("[{priority: 0, shutdownGracePeriodSeconds: 0}]", "leaves no entry any time")]
    #[case::other_mapping("maxPods: 110", "has no `shutdownGracePeriodByPodPriority`")]
    #[case::no_list("shutdownGracePeriodByPodPriority: 5", "that is not a list")]
    #[case::no_mapping("[5]", "has an entry 1 that is not a mapping")]
    #[case::no_seconds("[{priority: 5}]", "has no `shutdownGracePeriodSeconds` in entry 1")]
    #[case::no_priority("[{shutdownGracePeriodSeconds: 5}]", "has no `priority` in entry 1")]
    #[case::typo("[{priority: 5, shutdownGracePeriodSecond: 5}]", "unknown key `shutdownGracePeriodSecond` in entry 1")]
    #[case::text(
        "[{priority: high, shutdownGracePeriodSeconds: 5}]",
        "`priority` in entry 1 that is not a whole number"
    )]
    #[case::duration("[{priority: 0, shutdownGracePeriodSeconds: 5s}]", "that is not a whole number")]
    #[case::negative("[{priority: 0, shutdownGracePeriodSeconds: -5}]", "negative or huge")]
    #[case::huge("[{priority: 0, shutdownGracePeriodSeconds: 5000000000}]", "negative or huge")]
    #[case::beyond("[{priority: 3000000000, shutdownGracePeriodSeconds: 5}]", "beyond 32 bits")]
    #[case::twice(
        "[{priority: 0, shutdownGracePeriodSeconds: 5}, {priority: 0, shutdownGracePeriodSeconds: 6}]",
        "has the priority 0 twice"
    )]
    #[case::broken("[{priority: 0", "is not YAML")]
    #[case::two_documents("[]\n---\n[]\n", "is not YAML")]
    fn what_a_kubelet_would_refuse_or_misread_is_refused_in_one_line(#[case] text: &str, #[case] why: &str) {
        let message = parse(text).unwrap_err();
        assert!(message.contains(why) && message.lines().count() == 1, "{message:?}");
    }

    #[test]
    fn no_text_makes_it_panic() {
        proptest::proptest!(|(text in "[-\\[\\]{}:, \n&*!a-z0-9]{0,40}")| {
            let _ = parse(&text);
        });
    }
}
