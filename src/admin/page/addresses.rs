//! The part of the page about the pods' addresses.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Span, row};
use crate::cni::model::Headroom;
use crate::cni::source::Source;

/// Writes the section. Without the Amazon VPC CNI there is none.
pub(super) fn addresses(out: &mut String, headroom: &Headroom) -> fmt::Result {
    writeln!(out, "<h2>Pod addresses</h2>\n<table class=\"facts\">")?;
    let source = headroom.source.map_or("nobody answers", Source::as_str);
    row(out, "Source", &format!("{source} ({})", headroom.confidence.as_str()))?;
    if let Some(pool) = headroom.pool.as_ref().filter(|pool| !pool.ipv6) {
        let resting = pool.cooldown.map_or_else(|| "an unknown number".to_owned(), |resting| resting.to_string());
        row(out, "Addresses", &format!("{} assigned, {resting} in cooldown, {} free", pool.assigned, pool.free()))?;
    }
    if let Some(outlook) = headroom.outlook {
        let words = format!("{} now, {} once the pool has grown", outlook.now, outlook.reachable);
        row(out, "Room for pods", &words)?;
    }
    row(out, "Growth", headroom.state.as_str())?;
    row(out, "Limit", &headroom.cause)?;
    if let Some(left) = headroom.forecast.exhausted_now {
        // A pace close to nothing gives a time beyond any clock.
        let left = Duration::try_from_secs_f64(left).map_or_else(|_| "never".to_owned(), |left| Span(left).to_string());
        row(out, "Used up in", &left)?;
    }
    held(out, headroom)?;
    advice(out, headroom)?;
    for (source, problem) in &headroom.problems {
        row(out, "Cannot be read", &format!("{source}: {problem}"))?;
    }
    for trap in &headroom.traps {
        row(out, "Setting", trap.advice())?;
    }
    for doubt in &headroom.doubts {
        row(out, "Doubt", doubt.advice())?;
    }
    writeln!(out, "</table>")
}

/// What the node holds of each subnet, and what it gives back.
fn held(out: &mut String, headroom: &Headroom) -> fmt::Result {
    for (subnet, share) in &headroom.subnets {
        let of = share.block.zip(share.usable());
        let of = of.map_or_else(String::new, |(block, usable)| format!(" of {usable} in {block}"));
        let refused = if headroom.refusals.get(subnet) == Some(&true) { "; EC2 refused more lately" } else { "" };
        let (pool, own) = (share.pool, share.interfaces);
        row(out, "Subnet", &format!("{subnet}: {pool} for pods and {own} of interfaces{of}{refused}"))?;
    }
    if let Some(departure) = headroom.departure {
        let detached = match departure.detached {
            0 => String::new(),
            interfaces => format!("; interfaces detached, which a cordon should prevent: {interfaces}"),
        };
        let words = format!("{} of {} addresses since the cordon{detached}", departure.returned, departure.held);
        row(out, "Given back", &words)?;
    }
    Ok(())
}

/// What could be better. The agent changes none of it.
fn advice(out: &mut String, headroom: &Headroom) -> fmt::Result {
    if let Some((warm, pool)) = headroom.warm.zip(headroom.pool.as_ref()) {
        let (warm_ip, minimum_ip, idle) = (warm.warm_ip, warm.minimum_ip, warm.idle(pool.free()));
        let words =
            format!("WARM_IP_TARGET={warm_ip} and MINIMUM_IP_TARGET={minimum_ip} would do; {idle} free beyond that");
        row(out, "Warm targets", &words)?;
    }
    if let Some(efficiency) = headroom.efficiency {
        let share = |part: f64| format!("{:.0} %", part * 100.0);
        let mut words = format!("{} of the addresses held are pods'", share(efficiency.used));
        if let Some(idle) = efficiency.idle_beyond_max_pods.filter(|idle| *idle > 0) {
            write!(words, "; {idle} are more than the kubelet takes pods")?;
        }
        if efficiency.returnable > 0 {
            let scattered = share(efficiency.fragmentation);
            write!(words, "; prefixes are scattered by {scattered}, packed pods would free {}", efficiency.returnable)?;
        }
        row(out, "Use", &words)?;
        if let Some(pods) = efficiency.overcommit.filter(|pods| *pods > 0) {
            row(
                out,
                "Overcommitted",
                &format!("by {pods}: more pods can be placed here than can ever get an address"),
            )?;
        }
    }
    if let Some(left) = headroom.branch_headroom {
        row(out, "Pods with own security groups", &format!("{left} more"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::cni::advice::{Doubt, Efficiency};
    use crate::cni::departure::Departure;
    use crate::cni::model::{Model, Reading};
    use crate::cni::node::NodeFacts;
    use crate::cni::warm::WarmTargets;

    fn headroom() -> Headroom {
        let now = Now { instant: tokio::time::Instant::now(), wall: "2026-05-04T10:00:30Z".parse().unwrap() };
        let reading = Reading {
            network: None,
            interfaces: Some(Ok(include_bytes!("../../../tests/golden/cni/enis-blanked.json"))),
            settings: None,
            metrics: Some(Ok(include_bytes!("../../../tests/golden/cni/metrics.txt"))),
        };
        let facts = NodeFacts { max_pods: Some(11), pods: 4, ..NodeFacts::default() };
        Model::default().observe(now, &reading, &facts).unwrap()
    }

    fn section(headroom: &Headroom) -> String {
        let mut out = String::new();
        addresses(&mut out, headroom).unwrap();
        out
    }

    #[tokio::test]
    async fn the_section_tells_figures_limit_and_source() {
        let text = section(&headroom());
        for row in [
            "<tr><th>Source</th><td>introspection (exact)</td></tr>",
            "<tr><th>Addresses</th><td>1 assigned, 1 in cooldown, 1 free</td></tr>",
            "<tr><th>Room for pods</th><td>1 now, 7 once the pool has grown</td></tr>",
            "<tr><th>Growth</th><td>ok</td></tr>",
            "<tr><th>Limit</th><td>max-pods 11</td></tr>",
        ] {
            assert!(text.contains(row), "{row} in\n{text}");
        }
        assert!(!text.contains("Used up") && !text.contains("Cannot be read"), "{text}");
    }

    #[tokio::test]
    async fn what_is_wrong_has_rows_and_is_escaped() {
        let mut headroom = headroom();
        headroom.forecast.exhausted_now = Some(754.4);
        headroom.problems.insert("metrics", "<b>".to_owned());
        headroom.cause = "subnet-<script>".to_owned();
        let text = section(&headroom);
        assert!(text.contains("<th>Used up in</th><td>12 min 34 s</td>"), "{text}");
        assert!(text.contains("<th>Cannot be read</th><td>metrics: &lt;b&gt;</td>"), "{text}");
        assert!(!text.contains("<script>"), "{text}");
        headroom.forecast.exhausted_now = Some(f64::INFINITY);
        assert!(section(&headroom).contains("<td>never</td>"));
    }

    #[tokio::test]
    async fn subnets_advice_and_what_is_given_back_have_rows() {
        let mut headroom = headroom();
        let subnet = "subnet-0123456789abcdef0";
        headroom.subnets.values_mut().for_each(|share| share.block = "10.8.1.0/24".parse().ok());
        headroom.refusals = [(subnet.to_owned(), true)].into();
        headroom.departure = Some(Departure { held: 20, returned: 6, detached: 1 });
        headroom.warm = Some(WarmTargets { warm_ip: 0, minimum_ip: 4 });
        headroom.branch_headroom = Some(7);
        let wasted = |efficiency| Efficiency {
            idle_beyond_max_pods: Some(3),
            fragmentation: 0.5,
            returnable: 16,
            overcommit: Some(2),
            ..efficiency
        };
        headroom.efficiency = headroom.efficiency.map(wasted);
        headroom.doubts = vec![Doubt::PrimaryInPool];
        let text = section(&headroom);
        for row in [
            "<td>subnet-0123456789abcdef0: 3 for pods and 2 of interfaces of 251 in 10.8.1.0/24; EC2 refused more lately</td>",
            "<td>6 of 20 addresses since the cordon; interfaces detached, which a cordon should prevent: 1</td>",
            "<td>WARM_IP_TARGET=0 and MINIMUM_IP_TARGET=4 would do; 1 free beyond that</td>",
            "; 3 are more than the kubelet takes pods; prefixes are scattered by 50 %, packed pods would free 16</td>",
            "<td>by 2: more pods can be placed here than can ever get an address</td>",
            "<td>7 more</td>",
            "update the CNI</td>",
        ] {
            assert!(text.contains(row), "{row} in\n{text}");
        }
    }
}
