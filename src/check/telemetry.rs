//! What the collector answered to an empty export. Pure.

use super::report::{Finding, OTLP_METRICS, OTLP_TRACES, Status};
use crate::otlp::OtlpSignal;

/// A collector that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// For which signal.
    pub signal: OtlpSignal,
    /// The whole URL.
    pub endpoint: String,
    /// The status of its answer, or what is in the way.
    pub answer: Result<u16, String>,
}

/// One finding for each signal that is pushed.
pub fn findings(asked: &[Asked]) -> Vec<Finding> {
    asked.iter().map(finding).collect()
}

fn finding(asked: &Asked) -> Finding {
    let id = match asked.signal {
        OtlpSignal::Metrics => OTLP_METRICS,
        OtlpSignal::Traces => OTLP_TRACES,
    };
    // What follows may be a key.
    let address = asked.endpoint.split('?').next().unwrap_or_default();
    match &asked.answer {
        Ok(status) => Finding::new(id, Status::Ok, format!("{address} answered {status} to an empty export")),
        Err(why) => Finding::new(id, Status::Warning, format!("{address}: {why}"))
            .remedy("See docs/otlp.md; the agent works, but its telemetry does not arrive this way."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_says_what_its_collector_answered_and_no_query() {
        let asked = |signal, answer: Result<u16, &str>| Asked {
            signal,
            endpoint: "https://otlp.example.com/v1/metrics?key=secret".into(),
            answer: answer.map_err(str::to_owned),
        };
        let found = findings(&[
            asked(OtlpSignal::Metrics, Ok(200)),
            asked(OtlpSignal::Traces, Err("the collector answered 401")),
        ]);
        assert_eq!(found[0].found, "https://otlp.example.com/v1/metrics answered 200 to an empty export");
        assert_eq!(found[1].found, "https://otlp.example.com/v1/metrics: the collector answered 401");
        let told: Vec<_> = found.iter().map(|one| (one.id, one.status, one.remedy.is_some())).collect();
        assert_eq!(told, [("otlp-metrics", Status::Ok, false), ("otlp-traces", Status::Warning, true)]);
    }
}
