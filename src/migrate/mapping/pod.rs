//! The pod: where it runs, what it carries, on which port it is reached.

use serde_json::{Map, Value, json};

use super::{Draft, Kind};

/// Of three values the strongest that says anything, as NTH's template takes them.
pub(super) fn scheduling(draft: &mut Draft<'_>) {
    for (path, keys) in [
        ("nodeSelector", ["linuxNodeSelector", "nodeSelector", "daemonsetNodeSelector"]),
        ("affinity", ["linuxAffinity", "affinity", "daemonsetAffinity"]),
        ("tolerations", ["linuxTolerations", "tolerations", "daemonsetTolerations"]),
    ] {
        let says = |value: &Value| !matches!(value, Value::Null) && *value != json!([]) && *value != json!({});
        let strongest = keys.iter().find(|key| says(&draft.settings.value(key)));
        let last = keys.last().copied().unwrap_or_default();
        let chosen = strongest.copied().unwrap_or(last);
        for key in keys.iter().filter(|key| **key != chosen) {
            if draft.settings.given(key).is_some_and(|given| says(&given.value)) {
                draft.note(Kind::Idle, key, format!("{chosen} wins over it"));
            }
        }
        if draft.settings.given(chosen).is_some() {
            draft.put(path, draft.settings.value(chosen), &[chosen]);
            match path {
                "tolerations" => tolerations(draft, chosen),
                "affinity" => affinity(draft, chosen),
                _ => {}
            }
        } else if path == "affinity" {
            draft.note_of_table(Kind::Different, "daemonsetAffinity");
        }
    }
    if draft.settings.text("targetNodeOs").is_some_and(|os| os.to_ascii_lowercase().contains("windows")) {
        draft.note_of_table(Kind::NoEquivalent, "targetNodeOs");
    }
    let policy = ["dnsPolicy", "linuxDnsPolicy"].into_iter().find(|key| draft.settings.given(key).is_some());
    if let Some(key) = policy {
        draft.put("dnsPolicy", draft.settings.value(key), &[key]);
    }
}

/// Helm merges mappings, so the chart's terms for spot nodes stay beside an affinity that has no such list.
fn affinity(draft: &mut Draft<'_>, key: &str) {
    let terms = "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    if draft.settings.value(key).pointer(terms).is_none_or(Value::is_null) {
        let words = "the chart's own condition, spot nodes alone, stays beside it: to have the agent elsewhere too give \
                     `nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution`";
        draft.note(Kind::Different, key, words);
    }
}

/// An agent that restarts on a node that it has fenced has to come back there.
fn tolerations(draft: &mut Draft<'_>, key: &str) {
    let value = draft.settings.value(key);
    let all = |one: &Value| one.get("operator") == Some(&json!("Exists")) && one.get("key").is_none_or(Value::is_null);
    let any_effect = |one: &Value| one.get("effect").is_none_or(|effect| effect.is_null() || effect == "");
    if !value.as_array().is_some_and(|list| list.iter().any(|one| all(one) && any_effect(one))) {
        let words = "an agent that restarts on a fenced node does not come back with these; add `{operator: Exists}`, which is the \
                     default, or tolerate the fence's taint";
        draft.note(Kind::Hand, key, words);
    }
}

/// Labels and annotations.
pub(super) fn metadata(draft: &mut Draft<'_>) {
    for [key, linux] in [["podLabels", "linuxPodLabels"], ["podAnnotations", "linuxPodAnnotations"]] {
        let merged: Map<String, Value> = [key, linux]
            .iter()
            .filter_map(|key| draft.settings.given(key)?.value.as_object().cloned())
            .flatten()
            .collect();
        if !merged.is_empty() {
            draft.put_saying(key, merged, &[key, linux], "");
        }
    }
    let annotations = draft.settings.given("serviceAccount.annotations").and_then(|given| given.value.as_object());
    if let Some(mut annotations) = annotations.cloned() {
        let role = annotations.remove("eks.amazonaws.com/role-arn");
        if role.is_some() {
            draft.note_of_table(Kind::Different, "serviceAccount.annotations");
        }
        if !annotations.is_empty() {
            draft.put("serviceAccount.annotations", annotations, &["serviceAccount.annotations"]);
        }
    }
}

/// Ports, probes and the log.
pub(super) fn ports(draft: &mut Draft<'_>) {
    let port = draft.settings.given("prometheusServerPort").map(|given| given.value.clone());
    match port {
        Some(_) if draft.wish.beside => {
            let words =
                "NTH has this port of the node while it runs; set `metrics.port` to it once NTH is gone, if you like";
            draft.note(Kind::Different, "prometheusServerPort", words);
        }
        Some(port) => draft.put("metrics.port", port, &["prometheusServerPort"]),
        None if draft.settings.is_on("enablePrometheusServer") => {
            let words =
                "metrics are on port 9808 and no longer on 9092: security groups and scrape configurations follow";
            draft.note(Kind::Different, "prometheusServerPort", words);
        }
        None => draft.note_of_table(Kind::Different, "enablePrometheusServer"),
    }
    if draft.settings.given("logLevel").is_some()
        && let Some(level) = draft.settings.text("logLevel")
    {
        match level.to_ascii_lowercase().as_str() {
            "info" => {}
            known @ ("debug" | "error") => draft.put("log.level", known, &["logLevel"]),
            _ => draft.note(Kind::Hand, "logLevel", "is not info, debug or error; NTH does not start with it"),
        }
    }
    if draft.settings.is_on("jsonLogging") {
        draft.put("log.format", "json", &["jsonLogging"]);
    }
}

/// A PodMonitor that NTH would not have rendered is not carried over.
pub(super) fn monitor(draft: &mut Draft<'_>) {
    if !draft.settings.is_on("podMonitor.create") {
        return;
    }
    let words = if draft.settings.is_on("enablePrometheusServer") {
        ""
    } else {
        "NTH made none, for want of enablePrometheusServer; here it comes"
    };
    draft.put_saying("podMonitor.enabled", true, &["podMonitor.create"], words);
}
