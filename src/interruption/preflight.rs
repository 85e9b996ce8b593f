//! The preflight: while there is still time, asks for every pod whether its eviction would be refused.
//!
//! A dry-run eviction looks at the budget and writes nothing. A handful is under way at a time, so that a whole fleet that
//! gets its rebalance recommendation at once does not burden the API server.

use std::collections::BTreeMap;

use super::Effect;
use super::record::Record;
use crate::drain::eviction::EvictionAnswer;
use crate::drain::pod::{PodRef, PodView};

/// Questions under way at once.
const AT_ONCE: usize = 4;

/// One preflight.
#[derive(Debug)]
pub struct Preflight {
    waiting: Vec<PodRef>,
    under_way: Vec<PodRef>,
    asked: usize,
    blocked: BTreeMap<PodRef, String>,
    told: bool,
}

impl Preflight {
    /// Begins with the pods that a drain would evict now.
    pub fn new<'a>(pods: impl Iterator<Item = &'a PodView>) -> Self {
        let waiting: Vec<PodRef> =
            pods.filter(|pod| pod.skip().is_none() && pod.deletion.is_none()).map(|pod| pod.id.clone()).collect();
        Self { asked: waiting.len(), waiting, under_way: Vec::new(), blocked: BTreeMap::new(), told: false }
    }

    /// Pods whose eviction would have been refused, with the server's words.
    pub fn blocked(&self) -> &BTreeMap<PodRef, String> {
        &self.blocked
    }

    /// What to ask next, and the result once nothing is left to ask.
    pub fn step(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.under_way.len() < AT_ONCE
            && let Some(pod) = self.waiting.pop()
        {
            self.under_way.push(pod.clone());
            effects.push(Effect::Probe(pod));
        }
        if self.under_way.is_empty() && !self.told {
            self.told = true;
            let blocked = self.blocked.iter().map(|(pod, reason)| (pod.clone(), reason.clone())).collect();
            effects.push(Effect::Record(Record::Preflight { asked: self.asked, blocked }));
        }
        effects
    }

    /// Takes an answer. What is not known is not held against anybody.
    pub fn answered(&mut self, pod: &PodRef, answer: &EvictionAnswer) {
        self.under_way.retain(|other| other != pod);
        if let EvictionAnswer::Blocked(reason) | EvictionAnswer::Refused(reason) = answer {
            self.blocked.insert(pod.clone(), reason.clone());
        }
    }

    /// The pod is gone, and with it what stood in its way.
    pub fn gone(&mut self, pod: &PodRef) {
        self.waiting.retain(|other| other != pod);
        self.blocked.remove(pod);
    }
}
