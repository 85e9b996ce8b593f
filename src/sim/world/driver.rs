//! Makes the scenario happen: each thing at its time, until the node is dark or there is nothing left to see.

use std::time::Duration;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::observer::Observer;
use super::{Run, World, actor, faults, setup};
use crate::clock::Now;
use crate::sim::scenario::{AgentDoes, AgentEvent, BudgetChange, Event, Limit, Notice, What};
use crate::sim::timeline::{Actor, TimelineEntry};

/// How often the records are looked at, which costs a copy of them. What is told has its own, exact time.
const LOOK: Duration = Duration::from_millis(250);
/// The world goes on for so long after everything is over: what must not happen twice needs time to happen twice.
const SETTLE: Duration = Duration::from_secs(3);
/// A world without a notice lives for so long after its last event.
const QUIET: Duration = Duration::from_secs(15);

/// What is due at a time of its own.
#[derive(Clone, Debug)]
enum Step {
    Notice(Notice),
    Arrival(usize),
    Event(Box<Event>),
    /// A fault is over; only for the timeline.
    Over(Actor),
    AgentBack,
    PowerOff,
}

/// What is to come, in order of time.
struct Agenda(Vec<(Instant, Step)>);

impl Agenda {
    fn add(&mut self, at: Instant, step: Step) {
        let place = self.0.partition_point(|(other, _)| *other <= at);
        self.0.insert(place, (at, step));
    }

    fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    fn due(&mut self, now: Instant) -> Option<Step> {
        (self.next()? <= now).then(|| self.0.remove(0).1)
    }

    /// Nothing is to come but the end of the instance.
    fn is_through(&self) -> bool {
        self.0.iter().all(|(_, step)| matches!(step, Step::PowerOff))
    }
}

/// Plays the world's scenario; returns when things happened.
pub(super) async fn play(world: &mut World, mut tell: impl FnMut(TimelineEntry)) -> Run {
    let mut run = Run { start: world.clock.now(), notice_at: None, deadline: None, powered_off: None };
    let mut agenda = agenda(world, &run);
    let end_of_quiet = agenda.0.last().map_or(run.start.instant, |(at, _)| *at) + QUIET;
    let mut observer = Observer::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut over_at: Option<Instant> = None;
    start_agent(world);
    loop {
        tokio::select! {
            biased;
            () = at(agenda.next()) => {}
            () = world.agents.changed() => {
                // Hundreds of times in a drain; what it tells is printed with the next look.
                observer.agent(world);
                continue;
            }
            _ = looks.tick() => {}
        }
        while let Some(step) = agenda.due(Instant::now()) {
            enact(world, &mut run, &mut agenda, step);
        }
        observer.look(world, &run, false).into_iter().for_each(&mut tell);
        let ended = match world.scenario.notice {
            Some(_) => is_over(world, &run, &agenda),
            None => Instant::now() >= end_of_quiet,
        };
        over_at = ended.then(|| over_at.unwrap_or_else(Instant::now));
        // What the power did to the pods is seen with the next look.
        let settle = if run.powered_off.is_some() { LOOK } else { SETTLE };
        let settled = over_at.is_some_and(|since| since.elapsed() >= settle);
        if settled {
            observer.look(world, &run, true).into_iter().for_each(&mut tell);
            return run;
        }
    }
}

fn agenda(world: &World, run: &Run) -> Agenda {
    let mut agenda = Agenda(Vec::new());
    let start = run.start.instant;
    for event in &world.scenario.events {
        agenda.add(start + event.at, Step::Event(Box::new(event.clone())));
    }
    for (index, group) in world.scenario.pods.iter().enumerate().filter(|(_, group)| !group.arrives.is_zero()) {
        agenda.add(start + group.arrives, Step::Arrival(index));
    }
    if let Some(notice) = &world.scenario.notice {
        agenda.add(start + notice.at, Step::Notice(notice.clone()));
    }
    agenda
}

/// The node is dark, or clear and quiet.
fn is_over(world: &World, run: &Run, agenda: &Agenda) -> bool {
    if run.powered_off.is_some() {
        return true;
    }
    if run.notice_at.is_none() || !agenda.is_through() || !world.scenario.is_drained() {
        return false;
    }
    let expected: u32 = world.scenario.pods.iter().filter(|group| group.is_drained()).map(|group| group.count).sum();
    let fates = world.kubelet.fates();
    let gone = fates.iter().filter(|fate| fate.gone_at.is_some() && drained(world, &fate.name)).count();
    let agent_is_done = !world.agents.is_running() || world.agents.status().is_some_and(|status| status.drained);
    gone >= expected as usize && agent_is_done
}

fn drained(world: &World, pod: &str) -> bool {
    world.scenario.group_of(pod).is_some_and(super::super::scenario::PodGroup::is_drained)
}

fn enact(world: &mut World, run: &mut Run, agenda: &mut Agenda, step: Step) {
    let now = world.clock.now();
    match step {
        Step::Notice(notice) => give_notice(world, run, agenda, &notice, now),
        Step::Arrival(group) => arrive(world, group),
        Step::Event(event) => happen(world, agenda, now, &event),
        Step::Over(Actor::Imds) => world.notes.add(Actor::Imds, "is well again", None),
        Step::Over(actor) => world.notes.add(actor, "is well again", None),
        Step::AgentBack => {
            world.notes.add(Actor::World, "a new agent starts", None);
            start_agent(world);
        }
        Step::PowerOff => {
            world.notes.add(Actor::World, "the power goes", None);
            world.imds.power_off();
            world.agents.end(AgentDoes::Crash);
            run.powered_off = Some(now);
        }
    }
}

fn start_agent(world: &mut World) {
    if let Err(error) = world.agents.start() {
        world.agents.died = Some(error.to_string());
    }
}

fn give_notice(world: &World, run: &mut Run, agenda: &mut Agenda, notice: &Notice, now: Now) {
    // IMDS writes whole seconds; the scenario's lead is the least that there is.
    let exact = now.plus(notice.lead).wall;
    let whole = jiff::Timestamp::from_second(exact.as_second()).unwrap_or(exact);
    let announced = if whole < exact { now.plus(Duration::from_secs(1)).plus(notice.lead).wall } else { whole };
    let announced = jiff::Timestamp::from_second(announced.as_second()).unwrap_or(announced);
    let deadline = Now { instant: now.instant_of(announced), wall: announced };
    world.imds.set_spot_action(notice.action.as_str(), announced);
    let power_off = deadline.instant + notice.power_off_after;
    world.kubelet.power_off(power_off);
    agenda.add(power_off, Step::PowerOff);
    run.notice_at = Some(now);
    run.deadline = Some(deadline);
    world.notes.add(Actor::World, format!("EC2 will {} the instance at {announced}", notice.action.as_str()), None);
}

fn arrive(world: &mut World, group: usize) {
    let Some(group) = world.scenario.pods.get(group).cloned() else { return };
    for name in group.pod_names() {
        world.notes.add(Actor::World, "a pod arrives", Some(name));
    }
    let (client, node, namespace) = (world.backend.client.clone(), world.node.clone(), world.namespace.clone());
    let (scenario, notes) = (world.scenario.clone(), world.notes.clone());
    world.tasks.spawn(async move {
        let setup = setup::Setup { client, node: &node, namespace: &namespace, scenario: &scenario };
        if let Err(error) = setup.group(&group).await {
            notes.add(Actor::World, format!("the pods cannot arrive: {error}"), None);
        }
    });
}

fn happen(world: &mut World, agenda: &mut Agenda, now: Now, event: &Event) {
    match &event.what {
        What::Budget(change) => change_budget(world, change),
        What::Imds(fault) => {
            world.notes.add(Actor::Imds, faults::imds(&world.imds, fault), None);
            if !fault.lasts.is_zero() {
                agenda.add(now.instant + fault.lasts, Step::Over(Actor::Imds));
            }
        }
        What::Api(fault) => {
            let what = faults::api(&world.gateway, &world.backend, fault);
            world.notes.add(Actor::Api, what, None);
            if !fault.lasts.is_zero() {
                agenda.add(now.instant + fault.lasts, Step::Over(Actor::Api));
            }
        }
        What::Agent(AgentEvent { does, back_after }) => {
            let what = match does {
                AgentDoes::Crash => "the agent is killed",
                AgentDoes::Stop => "the agent is told to stop",
            };
            world.notes.add(Actor::World, what, None);
            world.agents.end(*does);
            if let Some(after) = back_after {
                agenda.add(now.instant + *after, Step::AgentBack);
            }
        }
        What::Actor(event) => actor::act(world, event),
    }
}

fn change_budget(world: &mut World, change: &BudgetChange) {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(world.backend.client.clone(), &world.namespace);
    let (spec, limit) = match change.limit {
        Limit::MinAvailable(pods) => {
            (json!({"minAvailable": pods, "maxUnavailable": null}), format!("{pods} available"))
        }
        Limit::MaxUnavailable(pods) => {
            (json!({"minAvailable": null, "maxUnavailable": pods}), format!("{pods} unavailable"))
        }
    };
    let (name, notes) = (change.name.clone(), world.notes.clone());
    let what = format!("the budget {name} now wants {limit}");
    world.tasks.spawn(async move {
        let patch = Patch::Merge(json!({"spec": spec}));
        match budgets.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => notes.add(Actor::World, what, None),
            Err(error) => notes.add(Actor::World, format!("the budget {name} cannot be changed: {error}"), None),
        }
    });
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
