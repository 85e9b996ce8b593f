//! What was found of the sinks of notifications. Pure.

use super::report::{Finding, Status};
use crate::notify::Sink;
use crate::notify::trial::Found;

/// One finding for each sort of sink that is set; of several the worst counts.
pub fn findings(found: &[Found]) -> Vec<Finding> {
    let of = |sink: Sink| {
        let all: Vec<&Found> = found.iter().filter(|found| found.sink == sink).collect();
        (!all.is_empty()).then(|| finding(sink, &all))
    };
    Sink::ALL.into_iter().filter_map(of).collect()
}

fn finding(sink: Sink, all: &[&Found]) -> Finding {
    let refused = all.iter().any(|found| found.refused);
    let failed: Vec<&&Found> = all.iter().filter(|found| found.result.is_err()).collect();
    let (status, remedy) = match (refused, failed.is_empty()) {
        (true, _) => (Status::Missing, Some("Correct what the file holds; the agent does not start with it.")),
        (false, false) => {
            (Status::Warning, Some("See docs/notifications.md; the agent works, but nobody hears of it this way."))
        }
        (false, true) => (Status::Ok, None),
    };
    let words = |found: &Found| match &found.result {
        Ok(words) | Err(words) => words.clone(),
    };
    let finding = if let [only] = all {
        Finding::new(sink.as_str(), status, words(only))
    } else {
        let text = format!("{} of {} are well", all.len() - failed.len(), all.len());
        let details = all.iter().map(|found| format!("{}: {}", found.name, words(found)));
        Finding::new(sink.as_str(), status, text).details(details)
    };
    match remedy {
        Some(remedy) => finding.remedy(remedy),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sink: Sink, result: Result<&str, &str>, refused: bool) -> Found {
        let result = result.map(str::to_owned).map_err(str::to_owned);
        Found { sink, name: format!("{} one", sink.as_str()), result, refused }
    }

    #[test]
    fn each_sort_that_is_set_has_a_finding_with_the_worst_of_its_members() {
        let findings = findings(&[
            found(Sink::Slack, Err("/s/url is no use"), true),
            found(Sink::Alertmanager, Ok("fine"), false),
            found(Sink::Alertmanager, Err("its host takes no connection"), false),
        ]);
        let told: Vec<_> = findings.iter().map(|one| (one.id, one.status, one.details.len())).collect();
        assert_eq!(told, [("slack", Status::Missing, 0), ("alertmanager", Status::Warning, 2)]);
        assert_eq!(findings[1].found, "1 of 2 are well");
        assert!(findings.iter().all(|one| one.remedy.is_some()));
    }

    #[test]
    fn without_sinks_there_is_nothing_to_say() {
        assert_eq!(findings(&[]), []);
        assert_eq!(findings(&[found(Sink::Webhook, Ok("fine"), false)])[0].status, Status::Ok);
    }
}
