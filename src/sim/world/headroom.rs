//! What the agent says of the pods' addresses, each time that it says something else.

use std::sync::{Arc, Mutex, PoisonError};

use super::World;
use crate::clock::Now;
use crate::cni::model::Headroom;
use crate::cni::source::Source;
use crate::sim::report::{HeadroomFacts, HeadroomSaid};
use crate::sim::timeline::Actor;

/// Everything that was said, in order of time; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Headrooms(Arc<Mutex<Vec<Said>>>);

/// One state of affairs by the agent's word.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) at: Now,
    pub(super) said: HeadroomSaid,
}

impl Headrooms {
    pub(super) fn all(&self) -> Vec<Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what is new; whether it is.
    fn add(&self, at: Now, said: &HeadroomSaid) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = all.last().is_none_or(|last| last.said != *said);
        if is_new {
            all.push(Said { at, said: said.clone() });
        }
        is_new
    }
}

/// Notes what the agent says now, if it is another thing than before.
pub(super) fn note(world: &World) {
    let Some(headroom) = world.agents.headroom() else { return };
    let said = said(&headroom);
    if world.headrooms.add(world.clock.now(), &said) {
        world.notes.add(Actor::Agent, in_words(&said, &headroom.cause), None);
    }
}

fn said(headroom: &Headroom) -> HeadroomSaid {
    let outlook = headroom.outlook;
    HeadroomSaid {
        state: headroom.state.as_str().to_owned(),
        source: headroom.source.map_or("none", Source::as_str).to_owned(),
        binding: outlook.map(|outlook| outlook.binding.as_str().to_owned()),
        now: outlook.map(|outlook| outlook.now),
        reachable: outlook.map(|outlook| outlook.reachable),
    }
}

/// Everything that can be expected of what the agent says now.
pub(super) fn facts(world: &World) -> Option<HeadroomFacts> {
    let headroom = world.agents.headroom()?;
    Some(HeadroomFacts {
        said: said(&headroom),
        confidence: headroom.confidence.as_str().to_owned(),
        exhausted_now: headroom.forecast.exhausted_now,
        exhausted_reachable: headroom.forecast.exhausted_reachable,
        starved: headroom.forecast.starved,
        truth: None,
    })
}

fn in_words(said: &HeadroomSaid, cause: &str) -> String {
    let state = if said.state == "ok" { String::new() } else { format!("; {}", said.state) };
    match (said.now, said.reachable) {
        (Some(now), Some(reachable)) => {
            let binding = said.binding.as_deref().unwrap_or("nothing");
            format!("sees addresses for {now} more pods, {reachable} in reach ({binding} binds: {cause}){state}")
        }
        _ => format!("sees no addresses ({cause}){state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn the_same_thing_said_again_is_no_news() {
        let headrooms = Headrooms::default();
        let said = |now| HeadroomSaid {
            state: "ok".into(),
            source: "introspection".into(),
            binding: None,
            now,
            reachable: now,
        };
        let at = Clock::System.now();
        assert!(headrooms.add(at, &said(Some(3))) && !headrooms.add(at, &said(Some(3))));
        assert!(headrooms.add(at, &said(Some(2))) && headrooms.add(at, &said(Some(3))));
        assert_eq!(headrooms.all().len(), 3);
    }

    #[test]
    fn what_is_said_is_told_with_its_cause() {
        let mut said = HeadroomSaid {
            state: "at_max_pods".into(),
            source: "introspection".into(),
            binding: Some("max_pods".into()),
            now: Some(2),
            reachable: Some(2),
        };
        let text = "sees addresses for 2 more pods, 2 in reach (max_pods binds: max-pods 11); at_max_pods";
        assert_eq!(in_words(&said, "max-pods 11"), text);
        (said.now, said.state) = (None, "ipamd_down".into());
        assert_eq!(in_words(&said, "gone"), "sees no addresses (gone); ipamd_down");
    }
}
