//! A node whose pods want different times, some more than there is, some under a budget that never gives way.

use std::time::Duration;

use spotwarden::sim::kubelet::PodFate;
use spotwarden::sim::objects::{self, PodSpec};
use tokio::time::{sleep, sleep_until};

use crate::Result;
use crate::calls::{Calls, summary};
use crate::lab::Lab;
use crate::report::Row;
use crate::stand::Stand;

const NODE: &str = "mixed";
/// Name, number, own grace in seconds. Each needs four fifths of its grace.
const GROUPS: [(&str, usize, u32); 5] =
    [("thirty", 40, 30), ("sixty", 10, 60), ("ninety", 5, 90), ("hundreds", 3, 300), ("blocked", 6, 30)];
/// The group that wants more than there is.
const TOO_LONG: Duration = Duration::from_mins(5);
/// So that what follows a start is over.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(lab: &Lab) -> Result<Vec<Row>> {
    let pods = GROUPS.iter().flat_map(|&(name, count, grace)| {
        let pod =
            move |number| PodSpec::new(NODE, &format!("{name}-{number}")).on(NODE).grace(grace).stops_after("80%");
        (0..count).map(pod)
    });
    let budget = objects::budget(NODE, "blocked", &[("app", "blocked")], Some(6), None);
    let stand = Stand::new(lab, NODE, pods.collect(), vec![budget]).await?;
    sleep(SETTLE).await;
    let notice = stand.give_notice();
    stand.kubelet.power_off(notice.deadline);
    sleep_until(notice.deadline + Duration::from_secs(1)).await;

    let fates = stand.fates();
    let cut_off = count(&fates, |fate| fate.cut_off);
    let untold = count(&fates, |fate| fate.told_at.is_none());
    let shortened = |fate: &PodFate| fate.grace_granted.is_none_or(|granted| granted < fate.own_grace);
    let wrongly = count(&fates, |fate| shortened(fate) && fate.own_grace < TOO_LONG);
    let granted = GROUPS.map(|(name, _, own)| {
        let group = fates.iter().filter(|fate| fate.name.starts_with(name));
        let least = group.filter_map(|fate| fate.grace_granted).min().unwrap_or_default();
        format!("{} of {own} s", least.as_secs())
    });
    let calls = Calls::of(&lab.audit_log().await?, NODE);
    let all = calls.between(notice.at.wall, notice.at.plus(Duration::from_secs(121)).wall);
    Ok(vec![
        Row {
            what: format!("mixed node, {} pods, notice of 120 s: pods lost", fates.len()),
            goal: "nobody cut off by the power; only the 300 s pods shortened".into(),
            measured: format!(
                "{cut_off} cut off, {untold} never told; least grace: {}, and {} behind the budget",
                granted.get(..4).unwrap_or_default().join(", "),
                granted.get(4).map_or("", String::as_str)
            ),
            incumbent: "9 of 64: 3 cut off, 6 never told",
            met: Some((cut_off, untold, wrongly) == (0, 0, 0)),
        },
        Row {
            what: "API calls of the mixed node, from notice to power off".into(),
            goal: "–".into(),
            measured: format!("{} ({})", all.len(), summary(&all)),
            incumbent: "571",
            met: None,
        },
    ])
}

fn count(fates: &[PodFate], guilty: impl Fn(&PodFate) -> bool) -> usize {
    fates.iter().filter(|fate| guilty(fate)).count()
}
