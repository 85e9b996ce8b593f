//! The drain forecast: could this node be cleared within a notice that arrived now? Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::plan::Plan;
use super::pod::{PodRef, PodView};
use super::wish::Wish;
use super::{Policy, grace, signed_seconds};
use crate::clock::Now;
use crate::signal::Deadline;

/// What EC2 leaves between a spot interruption notice and the interruption.
pub const NOTICE: Duration = Duration::from_secs(120);

/// The verdict on every pod of the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Every pod that a drain would end, the worst first.
    pub pods: Vec<PodForecast>,
    /// Seconds that the tightest pod would have to spare; negative if its grace would be cut. `None` without pods.
    pub least_slack_seconds: Option<f64>,
}

/// What a notice that arrived now would mean for one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodForecast {
    /// Which pod.
    pub pod: PodRef,
    /// What would become of it.
    pub verdict: Verdict,
    /// For people: the annotation, the grace, the budget.
    pub reason: Option<String>,
    /// Seconds of the notice that it would have to spare beside its full grace; negative if its grace would be cut.
    pub slack_seconds: f64,
}

impl Forecast {
    /// What a notice of `lead` that arrived now would mean for these pods. `blocked` are the refusals that the last
    /// preflight got.
    pub fn of<'a>(
        pods: impl IntoIterator<Item = &'a PodView, IntoIter: Clone>,
        policy: &Policy,
        lead: Duration,
        now: Now,
        blocked: &BTreeMap<PodRef, String>,
    ) -> Self {
        let pods = pods.into_iter().filter(|view| view.skip().is_none());
        let mut plan = Plan::new(policy.clone(), now.instant);
        let end = now.plus(lead);
        plan.set_deadline(Deadline { instant: end.instant, wall: end.wall }, pods.clone(), now.instant);
        let mut found: Vec<PodForecast> = pods.map(|view| pod_forecast(&plan, view, now, blocked)).collect();
        found.sort_by(|a, b| {
            a.verdict.cmp(&b.verdict).then(a.slack_seconds.total_cmp(&b.slack_seconds)).then_with(|| a.pod.cmp(&b.pod))
        });
        let least_slack_seconds = found.iter().map(|pod| pod.slack_seconds).min_by(f64::total_cmp);
        Self { pods: found, least_slack_seconds }
    }

    /// Number of pods by verdict, in the order of [`Verdict::ALL`].
    pub fn counts(&self) -> [u32; 5] {
        Verdict::ALL.map(|verdict| {
            u32::try_from(self.pods.iter().filter(|pod| pod.verdict == verdict).count()).unwrap_or(u32::MAX)
        })
    }
}

fn pod_forecast(plan: &Plan, view: &PodView, now: Now, blocked: &BTreeMap<PodRef, String>) -> PodForecast {
    let outlook = outlook(plan, view, now);
    let (verdict, reason) = if outlook.granted < outlook.wanted {
        (Verdict::Shortened, Some(shortened(&outlook, plan.has_shares())))
    } else if view.deletion.is_some() {
        // It goes anyway; nobody asks its budget or its annotations any more.
        (Verdict::Fits, None)
    } else if let Some(refusal) = blocked.get(&view.id) {
        (Verdict::Blocked, Some(refusal.clone()))
    } else if let Some(reason) = view.wish.and_then(|wish| pinned(wish, now.wall)) {
        (Verdict::Pinned, Some(reason))
    } else if !view.controlled {
        (Verdict::Unmanaged, Some("no controller puts it up again".into()))
    } else {
        (Verdict::Fits, None)
    };
    PodForecast { pod: view.id.clone(), verdict, reason, slack_seconds: outlook.slack_seconds }
}

/// A pod's stop as a drain would plan it; whole seconds of grace.
struct Outlook {
    wanted: u64,
    granted: u64,
    slack_seconds: f64,
    stopping: bool,
}

fn outlook(plan: &Plan, view: &PodView, now: Now) -> Outlook {
    if let Some(deletion) = view.deletion {
        let ends = now.instant_of(deletion.at);
        let left = ends.saturating_duration_since(now.instant);
        let granted = u64::from(grace::granted(left, now.instant, plan.limit));
        let slack_seconds = plan.limit.map_or(0.0, |limit| signed_seconds(limit, ends.max(now.instant)));
        return Outlook { wanted: left.as_secs(), granted, slack_seconds, stopping: true };
    }
    let start = plan.window_opens(view, now.instant).map_or(now.instant, |opens| opens.max(now.instant));
    let terms = plan.terms(view, start);
    let granted = u64::from(grace::granted(view.grace, start, terms.limit));
    let slack_seconds = terms.latest.map_or(0.0, |latest| signed_seconds(latest, start));
    Outlook { wanted: view.grace.as_secs(), granted, slack_seconds, stopping: false }
}

fn shortened(outlook: &Outlook, shares: bool) -> String {
    let asks = if outlook.stopping { "goes on stopping for" } else { "asks for" };
    let leaves = if shares && !outlook.stopping { "its priority's share of a notice" } else { "a notice" };
    format!("{asks} {} s, {leaves} leaves {} s", outlook.wanted, outlook.granted)
}

fn pinned(wish: Wish, now: Timestamp) -> Option<String> {
    let annotation = wish.pinned_by(now)?;
    Some(match wish {
        Wish::Stay { until: Some(until), .. } => format!("{annotation} until {until:.0}"),
        Wish::Finish => format!("{annotation}: on-completion"),
        Wish::Stay { .. } | Wish::Leave => annotation.to_owned(),
    })
}

/// What a notice that arrived now would mean for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Its grace is longer than a notice leaves.
    Shortened,
    /// Its eviction would be refused, as the last preflight saw it.
    Blocked,
    /// An annotation asks to leave it alone, which a notice cannot.
    Pinned,
    /// Nothing would put it up again elsewhere.
    Unmanaged,
    /// It would end in time with all of its grace.
    Fits,
}

impl Verdict {
    /// Every verdict, the worst first.
    pub const ALL: [Self; 5] = [Self::Shortened, Self::Blocked, Self::Pinned, Self::Unmanaged, Self::Fits];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shortened => "shortened",
            Self::Blocked => "blocked",
            Self::Pinned => "pinned",
            Self::Unmanaged => "unmanaged",
            Self::Fits => "fits",
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::pod::Deletion;
    use super::super::tests::{pod, policy, ranked, secs, shares, start};
    use super::super::wish::DO_NOT_DISRUPT;
    use super::*;

    fn forecast(pods: &[PodView], policy: &Policy, now: Now) -> Forecast {
        Forecast::of(pods, policy, NOTICE, now, &BTreeMap::new())
    }

    fn of_one(view: PodView) -> PodForecast {
        forecast(&[view], &policy(), start()).pods.remove(0)
    }

    const STAY: Option<Wish> = Some(Wish::Stay { asked_by: DO_NOT_DISRUPT, until: None });

    fn stay_until(text: &str) -> PodView {
        let wish = Wish::Stay { asked_by: DO_NOT_DISRUPT, until: Some(text.parse().unwrap()) };
        PodView { wish: Some(wish), ..pod("web", 30) }
    }

    #[rstest]
    #[case::fits(pod("web", 30), Verdict::Fits, None, 87.0)]
    #[case::fits_exactly(pod("web", 117), Verdict::Fits, None, 0.0)]
    #[case::too_long(pod("web", 300), Verdict::Shortened, Some("asks for 300 s, a notice leaves 117 s"), -183.0)]
    #[case::unmanaged(
        PodView { controlled: false, ..pod("web", 30) }, Verdict::Unmanaged, Some("no controller puts it up again"), 87.0
    )]
    #[case::pinned(PodView { wish: STAY, ..pod("web", 30) }, Verdict::Pinned, Some(DO_NOT_DISRUPT), 87.0)]
    #[case::pinned_until(
        stay_until("2026-03-31T20:00:00Z"),
        Verdict::Pinned,
        Some("karpenter.sh/do-not-disrupt until 2026-03-31T20:00:00Z"),
        87.0
    )]
    #[case::was_pinned(stay_until("2026-03-31T16:00:00Z"), Verdict::Fits, None, 87.0)]
    #[case::on_completion(
        PodView { wish: Some(Wish::Finish), ..pod("web", 30) },
        Verdict::Pinned, Some("cluster-autoscaler.kubernetes.io/safe-to-evict: on-completion"), 87.0
    )]
    #[case::does_not_mind(PodView { wish: Some(Wish::Leave), ..pod("web", 30) }, Verdict::Fits, None, 87.0)]
    #[case::the_worst_counts(
        PodView { wish: STAY, controlled: false, ..pod("web", 300) },
        Verdict::Shortened, Some("asks for 300 s, a notice leaves 117 s"), -183.0
    )]
    #[case::pinned_is_worse_than_unmanaged(
        PodView { wish: STAY, controlled: false, ..pod("web", 30) }, Verdict::Pinned, Some(DO_NOT_DISRUPT), 87.0
    )]
    fn one_pod_has_the_worst_verdict_that_fits(
        #[case] view: PodView,
        #[case] verdict: Verdict,
        #[case] reason: Option<&str>,
        #[case] slack: f64,
    ) {
        let found = of_one(view);
        assert_eq!((found.verdict, found.reason.as_deref(), found.slack_seconds), (verdict, reason, slack));
    }

    #[rstest]
    #[case::in_time(20, Verdict::Fits, 97.0)]
    #[case::too_late(300, Verdict::Shortened, -183.0)]
    fn a_pod_that_is_stopping_is_judged_by_when_it_ends(
        #[case] left: u64,
        #[case] verdict: Verdict,
        #[case] slack: f64,
    ) {
        let deletion = Some(Deletion { at: start().plus(secs(left)).wall, grace: secs(400) });
        let found = of_one(PodView { deletion, wish: STAY, controlled: false, ..pod("web", 400) });
        assert_eq!((found.verdict, found.slack_seconds), (verdict, slack));
    }

    #[test]
    fn a_refusal_of_the_preflight_is_the_reason() {
        let pods = [pod("web", 30), pod("long", 300)];
        let refusals = pods.iter().map(|pod| (pod.id.clone(), "budget needs 1 and has 1".to_owned())).collect();
        let forecast = Forecast::of(&pods, &policy(), NOTICE, start(), &refusals);
        let verdicts: Vec<Verdict> = forecast.pods.iter().map(|pod| pod.verdict).collect();
        assert_eq!(verdicts, [Verdict::Shortened, Verdict::Blocked]);
        assert_eq!(forecast.pods[1].reason.as_deref(), Some("budget needs 1 and has 1"));
    }

    #[test]
    fn the_worst_come_first_and_pods_that_no_drain_touches_not_at_all() {
        let pods = [
            pod("b-fits", 30),
            PodView { controlled: false, ..pod("bare", 10) },
            pod("a-fits", 30),
            pod("tight", 110),
            pod("long", 200),
            pod("longer", 300),
            PodView { daemon_set: true, ..pod("daemon", 1000) },
            PodView { mirror: true, ..pod("static", 1000) },
            PodView { finished: true, ..pod("job", 1000) },
        ];
        let forecast = forecast(&pods, &policy(), start());
        let names: Vec<&str> = forecast.pods.iter().map(|pod| pod.pod.name.as_str()).collect();
        assert_eq!(names, ["longer", "long", "bare", "tight", "a-fits", "b-fits"]);
        assert_eq!((forecast.least_slack_seconds, forecast.counts()), (Some(-183.0), [2, 0, 0, 1, 3]));
    }

    #[test]
    fn an_empty_node_has_no_slack_to_speak_of() {
        assert_eq!(forecast(&[], &policy(), start()), Forecast::default());
    }

    #[rstest]
    #[case::runs_into_the_tail(200, Verdict::Fits, 67.0)]
    #[case::has_to_be_told_before_it(30, Verdict::Fits, 117.0)]
    #[case::longer_than_both(300, Verdict::Shortened, -33.0)]
    fn the_tail_counts(#[case] grace: u64, #[case] verdict: Verdict, #[case] slack: f64) {
        let policy = Policy { shutdown_tail: secs(150), ..policy() };
        let found = forecast(&[pod("web", grace)], &policy, start()).pods.remove(0);
        assert_eq!((found.verdict, found.slack_seconds), (verdict, slack));
    }

    #[test]
    fn priority_shares_count() {
        let pods = [ranked("web", 0, 30), ranked("dns", 5, 60)];
        let forecast = forecast(&pods, &shares(&[(0, 60), (5, 30)]), start());
        assert_eq!(
            forecast.pods[0].reason.as_deref(),
            Some("asks for 60 s, its priority's share of a notice leaves 39 s")
        );
        assert_eq!((forecast.least_slack_seconds, forecast.pods[1].slack_seconds), (Some(-21.0), 48.0));
    }
}
