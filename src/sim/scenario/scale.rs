//! The same story in less time, for runs in real time.

use std::time::Duration;

use super::{ActorDoes, AgentSpec, CniEvent, Scenario, StopsAfter, What};

impl Scenario {
    /// The scenario with everything after the notice taking `factor` of its time: lead, graces, stops, faults, arrivals,
    /// announced times, the agent's settings that go with them.
    ///
    /// What the agent brings along stays as it is (poll intervals, safety margin, its pauses), and so do expectations about
    /// its speed; a factor far below 1 makes them matter more than the scenario meant.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        let origin = self.notice.as_ref().map_or(Duration::ZERO, |notice| notice.at);
        let span = |time: Duration| time.mul_f64(factor);
        let moment = |at: Duration| at.min(origin) + span(at.saturating_sub(origin));
        if let Some(notice) = &mut self.notice {
            notice.lead = span(notice.lead);
            notice.power_off_after = span(notice.power_off_after);
            notice.back_after = notice.back_after.map(span);
        }
        self.lasts = self.lasts.map(moment);
        for sink in self.sinks.values_mut() {
            sink.lasts = sink.lasts.map(moment);
        }
        self.agent.scale(span);
        for group in &mut self.pods {
            group.grace = up(group.grace, factor);
            group.arrives = moment(group.arrives);
            group.every = group.every.map(span);
            group.lives = group.lives.map(span);
            if let StopsAfter::Time(time) = &mut group.stops_after {
                *time = span(*time);
            }
        }
        for event in &mut self.events {
            event.at = moment(event.at);
            event.what.scale(factor);
        }
        for granted in self.expect.min_granted.values_mut() {
            *granted = down(*granted, factor);
        }
        for window in self.expect.told.values_mut() {
            (window.from, window.to) = (moment(window.from), moment(window.to));
        }
        self.expect.min_slack = self.expect.min_slack.map(span);
        self
    }
}

impl AgentSpec {
    fn scale(&mut self, span: impl Fn(Duration) -> Duration) {
        let times = [
            &mut self.rebalance_expiry,
            &mut self.scheduled_event_lead,
            &mut self.asg_hook_timeout,
            &mut self.load_balancer_wait,
            &mut self.shutdown_tail,
        ];
        for time in times {
            *time = time.map(&span);
        }
    }
}

impl What {
    fn scale(&mut self, factor: f64) {
        let span = |time: Duration| time.mul_f64(factor);
        match self {
            Self::Imds(fault) => fault.lasts = span(fault.lasts),
            Self::Api(fault) => fault.lasts = span(fault.lasts),
            Self::Agent(agent) => agent.back_after = agent.back_after.map(span),
            Self::Actor(actor) => {
                if let ActorDoes::Evict { grace, .. } | ActorDoes::Delete { grace, .. } | ActorDoes::Drain { grace } =
                    &mut actor.does
                {
                    *grace = grace.map(|grace| up(grace, factor));
                }
            }
            Self::Rebalance(rebalance) => rebalance.ago = span(rebalance.ago),
            Self::Scheduled(change) => {
                change.not_before_in = change.not_before_in.map(span);
                change.lasts = change.lasts.map(span);
            }
            Self::Raw(raw) => raw.lasts = raw.lasts.map(span),
            Self::Instance(instance) => instance.back_after = instance.back_after.map(span),
            Self::Cni(CniEvent::Fault { lasts, .. }) => *lasts = span(*lasts),
            Self::Cni(_) | Self::Budget(_) | Self::Lifecycle(_) | Self::Look(_) => {}
        }
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
