//! Makes the scenario happen: each thing at its time, until the node is dark or there is nothing left to see.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::observer::Observer;
use super::{Countdown, Run, World, actor, announce, cni, faults, look, reboot, setup};
use crate::clock::Now;
use crate::sim::scenario::{AgentDoes, AgentEvent, BudgetChange, Event, Limit, Notice, ScheduledChange, What};
use crate::sim::timeline::{Actor, TimelineEntry};

/// How often the records are looked at, which costs a copy of them. What is told has its own, exact time.
const LOOK: Duration = Duration::from_millis(250);
/// How often while nothing happens: hours without news must cost little.
const SELDOM_LOOK: Duration = Duration::from_secs(4);
/// Nothing happens if there was nothing to tell for so long.
const NO_NEWS: Duration = Duration::from_secs(20);
/// The world goes on for so long after everything is over: what must not happen twice needs time to happen twice.
const SETTLE: Duration = Duration::from_secs(3);
/// A world in which no power goes lives for so long after its last event.
const QUIET: Duration = Duration::from_secs(15);
/// And for so long if pods that are to be drained are still there.
const PATIENCE: Duration = Duration::from_mins(5);
/// From the kubelet's start to the start of the agent's container.
const AGENT_STARTS: Duration = Duration::from_secs(1);

/// What is due at a time of its own.
#[derive(Clone, Debug)]
enum Step {
    Notice(Notice),
    /// Some pods of the group at this place appear.
    Arrival(usize, Vec<u32>),
    /// Pods of the group at this place are deleted by their controller.
    Departure(Vec<String>),
    Event(Box<Event>),
    /// A fault is over; only for the timeline.
    Over(Actor),
    /// IMDS serves what belongs at this path again.
    RawOver(String),
    /// The time of this scheduled event has come.
    TimeComes(String),
    AgentBack,
    PowerOff,
    InstanceBack,
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

    /// The power is to go.
    fn has_power_off(&self) -> bool {
        self.0.iter().any(|(_, step)| matches!(step, Step::PowerOff))
    }

    /// The time of a scheduled event is not what it was.
    fn forget_time_of(&mut self, event: &str) {
        self.0.retain(|(_, step)| !matches!(step, Step::TimeComes(id) if id == event));
    }
}

/// Plays the world's scenario; returns when things happened.
pub(super) async fn play(world: &mut World, mut tell: impl FnMut(TimelineEntry)) -> Run {
    let mut run = Run::beginning(world.clock.now());
    let mut agenda = agenda(world, &run);
    let mut last_step = run.start.instant;
    let mut observer = Observer::default();
    let mut next_look = run.start.instant;
    let mut last_news = run.start.instant;
    let mut over_at: Option<Instant> = None;
    start_agent(world);
    loop {
        tokio::select! {
            biased;
            () = at(agenda.next()) => {}
            () = world.agents.changed() => {
                // Hundreds of times in a drain; what it tells is printed with the next look.
                observer.agent(world);
                last_news = Instant::now();
                next_look = next_look.min(last_news + LOOK);
                continue;
            }
            () = sleep_until(next_look) => {}
        }
        while let Some(step) = agenda.due(Instant::now()) {
            enact(world, &mut run, &mut agenda, step);
            last_step = Instant::now();
        }
        let now = Instant::now();
        let told = observer.look(world, &run, false);
        if !told.is_empty() {
            last_news = now;
        }
        next_look = now + if last_news.max(last_step) + NO_NEWS < now { SELDOM_LOOK } else { LOOK };
        told.into_iter().for_each(&mut tell);
        over_at = is_over(world, &run, &agenda, last_step).then(|| over_at.unwrap_or(now));
        // What the power did to the pods is seen with the next look.
        let settle = if run.powered_off.is_some() { LOOK } else { SETTLE };
        if over_at.is_some_and(|since| since.elapsed() >= settle) {
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
    for (place, group) in world.scenario.pods.iter().enumerate() {
        let mut batches: BTreeMap<Duration, Vec<u32>> = BTreeMap::new();
        for (at, index) in group.arrivals() {
            batches.entry(at).or_default().push(index);
        }
        for (at, batch) in batches {
            if let Some(lives) = group.lives {
                let names = batch.iter().map(|index| group.pod_name(*index)).collect();
                agenda.add(start + at + lives, Step::Departure(names));
            }
            if group.comes_later() {
                agenda.add(start + at, Step::Arrival(place, batch));
            }
        }
    }
    if let Some(notice) = &world.scenario.notice {
        agenda.add(start + notice.at, Step::Notice(notice.clone()));
    }
    agenda
}

/// The node is dark for good, or everything that was to happen has happened and is quiet.
fn is_over(world: &World, run: &Run, agenda: &Agenda, last_step: Instant) -> bool {
    let now = Instant::now();
    if run.powered_off.is_some() {
        return true;
    }
    let lasts = world.scenario.lasts.unwrap_or_default();
    if !agenda.is_through() || now < run.start.instant + lasts {
        return false;
    }
    if agenda.has_power_off() {
        // The end of the instance need not be waited for once nothing is left that it could hit.
        let agent_is_done = !world.agents.is_running() || world.agents.status().is_some_and(|status| status.drained);
        return world.scenario.is_drained() && agent_is_done && is_clear(world);
    }
    let quiet = now >= last_step + QUIET;
    quiet && (!world.scenario.is_drained() || is_clear(world) || now >= last_step + PATIENCE)
}

/// Every pod that is to be drained is gone.
fn is_clear(world: &World) -> bool {
    let expected: u32 = world.scenario.pods.iter().filter(|group| group.is_drained()).map(|group| group.count).sum();
    let fates = world.kubelet.fates();
    let gone = fates.iter().filter(|fate| fate.gone_at.is_some() && drained(world, &fate.name)).count();
    gone >= expected as usize
}

fn drained(world: &World, pod: &str) -> bool {
    world.scenario.group_of(pod).is_some_and(super::super::scenario::PodGroup::is_drained)
}

fn enact(world: &mut World, run: &mut Run, agenda: &mut Agenda, step: Step) {
    let now = world.clock.now();
    match step {
        Step::Notice(notice) => give_notice(world, run, agenda, &notice, now),
        Step::Arrival(group, pods) => arrive(world, group, &pods),
        Step::Departure(pods) => actor::leave(world, pods),
        Step::Event(event) => happen(world, run, agenda, now, &event),
        Step::Over(actor) => world.notes.add(actor, "is well again", None),
        Step::RawOver(path) => {
            announce::raw_is_over(&world.imds, &path);
            world.notes.add(Actor::Imds, format!("serves what belongs at {path} again"), None);
        }
        Step::TimeComes(event) => {
            world.notes.add(Actor::World, format!("the time of {event} has come"), None);
        }
        Step::AgentBack => {
            world.notes.add(Actor::World, "a new agent starts", None);
            start_agent(world);
        }
        Step::PowerOff => {
            let back_after = world.scenario.notice.as_ref().and_then(|notice| notice.back_after);
            go_down(world, run, agenda, now, back_after);
        }
        Step::InstanceBack => {
            world.notes.add(Actor::World, "the instance is up again", None);
            reboot::up(world);
            if let Some(off_at) = run.off_at.filter(|off_at| *off_at > now.instant) {
                world.kubelet.power_off(off_at);
            }
            agenda.add(now.instant + AGENT_STARTS, Step::AgentBack);
        }
    }
}

/// The instance is down, for good or until it is started again.
fn go_down(world: &mut World, run: &mut Run, agenda: &mut Agenda, now: Now, back_after: Option<Duration>) {
    run.down_at.get_or_insert(now);
    reboot::down(world, now);
    if let Some(after) = back_after {
        world.notes.add(Actor::World, "the instance goes down", None);
        agenda.add(now.instant + after, Step::InstanceBack);
    } else {
        world.notes.add(Actor::World, "the power goes", None);
        world.imds.power_off();
        world.cni.down(true);
        run.powered_off = Some(now);
    }
}

fn start_agent(world: &mut World) {
    if let Err(error) = world.agents.start() {
        world.agents.died = Some(error.to_string());
    }
}

fn give_notice(world: &World, run: &mut Run, agenda: &mut Agenda, notice: &Notice, now: Now) {
    let announced = announce::spot(&world.imds, notice, now);
    let deadline = Now { instant: now.instant_of(announced), wall: announced };
    if !notice.fails {
        let off_at = deadline.instant + notice.power_off_after;
        world.kubelet.power_off(off_at);
        agenda.add(off_at, Step::PowerOff);
        run.off_at = Some(off_at);
    }
    run.notice_at = Some(now);
    run.deadline = Some(deadline);
    run.countdown = Some(Countdown { since: now.instant, until: deadline.instant });
    world.notes.add(Actor::World, format!("EC2 will {} the instance at {announced}", notice.action.as_str()), None);
}

/// A scheduled event appears, moves or ends.
fn schedule(world: &mut World, run: &mut Run, agenda: &mut Agenda, now: Now, change: &ScheduledChange) {
    let (what, time) = world.maintenance.change(&world.imds, change, now);
    world.notes.add(Actor::World, what, None);
    agenda.forget_time_of(&change.id);
    let until = time.map(|time| now.instant_of(time));
    if let Some(until) = until {
        agenda.add(until, Step::TimeComes(change.id.clone()));
    }
    // A spot notice is what people count down to, whatever else is coming.
    if run.deadline.is_none() {
        run.countdown = until.map(|until| Countdown { since: now.instant, until });
    }
}

fn arrive(world: &mut World, group: usize, pods: &[u32]) {
    let Some(group) = world.scenario.pods.get(group).cloned() else { return };
    let names: Vec<String> = pods.iter().map(|index| group.pod_name(*index)).collect();
    for name in &names {
        world.notes.add(Actor::World, "a pod arrives", Some(name.clone()));
    }
    let (client, node, namespace) = (world.backend.client.clone(), world.node.clone(), world.namespace.clone());
    let (scenario, notes) = (world.scenario.clone(), world.notes.clone());
    world.tasks.spawn(async move {
        let setup = setup::Setup { client, node: &node, namespace: &namespace, scenario: &scenario };
        if let Err(error) = setup.some(&group, names).await {
            notes.add(Actor::World, format!("the pods cannot arrive: {error}"), None);
        }
    });
}

fn happen(world: &mut World, run: &mut Run, agenda: &mut Agenda, now: Now, event: &Event) {
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
        What::Rebalance(event) => {
            world.notes.add(Actor::World, announce::rebalance(&world.imds, event, now), None);
        }
        What::Scheduled(change) => schedule(world, run, agenda, now, change),
        What::Lifecycle(state) => world.notes.add(Actor::World, announce::lifecycle(&world.imds, state), None),
        What::Raw(document) => {
            world.notes.add(Actor::Imds, announce::raw(&world.imds, document), None);
            if let Some(lasts) = document.lasts {
                agenda.add(now.instant + lasts, Step::RawOver(document.path.clone()));
            }
        }
        What::Instance(event) => go_down(world, run, agenda, now, event.back_after),
        What::Cni(event) => cni::happen(world, event),
        What::Look(expected) => look::look(world, expected, now),
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
