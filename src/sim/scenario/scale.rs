//! The same story in less time, for runs in real time.

use std::time::Duration;

use super::{ActorDoes, Scenario, StopsAfter, What};

impl Scenario {
    /// The scenario with everything after the notice taking `factor` of its time: lead, graces, stops, faults, arrivals.
    ///
    /// What the agent brings along stays as it is (poll interval, safety margin, its pauses), and so do expectations about
    /// its speed; a factor far below 1 makes them matter more than the scenario meant.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        let origin = self.notice.as_ref().map_or(Duration::ZERO, |notice| notice.at);
        let span = |time: Duration| time.mul_f64(factor);
        let moment = |at: Duration| at.min(origin) + span(at.saturating_sub(origin));
        if let Some(notice) = &mut self.notice {
            notice.lead = span(notice.lead);
            notice.power_off_after = span(notice.power_off_after);
        }
        for group in &mut self.pods {
            group.grace = up(group.grace, factor);
            group.arrives = moment(group.arrives);
            if let StopsAfter::Time(time) = &mut group.stops_after {
                *time = span(*time);
            }
        }
        for event in &mut self.events {
            event.at = moment(event.at);
            match &mut event.what {
                What::Imds(fault) => fault.lasts = span(fault.lasts),
                What::Api(fault) => fault.lasts = span(fault.lasts),
                What::Agent(agent) => agent.back_after = agent.back_after.map(span),
                What::Actor(actor) => {
                    if let ActorDoes::Evict { grace, .. } | ActorDoes::Delete { grace, .. } = &mut actor.does {
                        *grace = grace.map(|grace| up(grace, factor));
                    }
                }
                What::Budget(_) => {}
            }
        }
        for granted in self.expect.min_granted.values_mut() {
            *granted = down(*granted, factor);
        }
        self.expect.min_slack = self.expect.min_slack.map(span);
        self
    }
}

/// A grace is whole seconds; rounding up never makes a pod slower than its grace.
fn up(seconds: u32, factor: f64) -> u32 {
    let exact = Duration::from_secs(seconds.into()).mul_f64(factor);
    down(seconds, factor) + u32::from(exact.subsec_nanos() > 0)
}

fn down(seconds: u32, factor: f64) -> u32 {
    let exact = Duration::from_secs(seconds.into()).mul_f64(factor);
    u32::try_from(exact.as_secs()).unwrap_or(u32::MAX)
}
