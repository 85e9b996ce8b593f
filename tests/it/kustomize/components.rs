//! Components: each one, every two of them, and all together.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use spotwarden::config::parse::RunConfig;

use super::agent::{configuration, try_configuration};
use super::objects::{differences, id, values};
use super::{Copy, build, folders, kubectl};
use crate::peers::{root, text};

/// Those that change nothing of what the agent is told.
const NOT_FOR_THE_AGENT: &[&str] = &[
    "alertmanager-config",
    "all-nodes",
    "eviction-policy",
    "grafana-dashboard",
    "networkpolicy",
    "no-scrape-annotations",
    "podmonitor",
    "prometheusrule",
    "servicemonitor",
    "without-admission-policy",
];

/// Those that need the ConfigMap of an overlay before they do anything for the agent.
const WITH_AN_OVERLAY: &[&str] = &["cluster-name"];

/// Two that an agent refuses together, and what it says.
const CONTRADICTIONS: &[(&str, &str, &str)] =
    &[("no-host-network", "pod-ip-exhaustion-taint", "needs the headroom of pod addresses")];

/// What a component does to the base.
struct Effect {
    sets: BTreeMap<String, String>,
    removes: Vec<String>,
}

impl Effect {
    fn of(base: &BTreeMap<String, String>, with: &BTreeMap<String, String>) -> Self {
        let sets = with.iter().filter(|(path, value)| base.get(*path) != Some(value));
        let sets = sets.map(|(path, value)| (path.clone(), value.clone())).collect();
        Self { sets, removes: base.keys().filter(|path| !with.contains_key(*path)).cloned().collect() }
    }

    /// What of it is missing in `found`, but for what `other` sets to something else.
    fn lost<'a>(&'a self, found: &BTreeMap<String, String>, other: &Self) -> Vec<&'a str> {
        let unset = self.sets.iter().filter(|(path, value)| {
            let gone = other.removes.contains(path) || other.sets.get(*path).is_some_and(|set| set != *value);
            found.get(*path) != Some(value) && !gone
        });
        let kept = self.removes.iter().filter(|path| found.contains_key(*path) && !other.sets.contains_key(*path));
        unset.map(|(path, _)| path.as_str()).chain(kept.map(String::as_str)).collect()
    }
}

/// Builds with each of `combinations`, two at a time, and hands what came out to `judge`.
fn each(copy: &Copy, combinations: &[Vec<&str>], judge: impl Fn(&[&str], &str) + Sync) {
    let next = AtomicUsize::new(0);
    kubectl();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(components) = combinations.get(next.fetch_add(1, Ordering::Relaxed)) {
                    judge(components, &copy.render(components));
                }
            });
        }
    });
}

/// The settings of an agent with these components: those of the pod, or why it would not start.
fn judged(components: &[&str], objects: &[Value]) -> Option<RunConfig> {
    match try_configuration(objects, "192.0.2.23") {
        Ok(config) => Some(config),
        Err(refusal) => {
            let known =
                CONTRADICTIONS.iter().find(|(one, other, _)| [one, other].iter().all(|c| components.contains(c)));
            let expected = known.unwrap_or_else(|| panic!("{components:?}: the agent would not start: {refusal}")).2;
            assert!(refusal.contains(expected), "{components:?}: {refusal}");
            None
        }
    }
}

/// Documents that were read before, by their text: most are the same in all combinations.
#[derive(Default)]
struct Library(Mutex<HashMap<String, Arc<Document>>>);

struct Document {
    object: Value,
    values: BTreeMap<String, String>,
}

impl Library {
    fn documents(&self, manifest: &str) -> Vec<Arc<Document>> {
        let texts = manifest.split("\n---\n");
        texts.map(|text| self.document(text)).collect()
    }

    fn document(&self, text: &str) -> Arc<Document> {
        if let Some(known) = self.0.lock().unwrap().get(text) {
            return Arc::clone(known);
        }
        let object = super::parsed(text).remove(0);
        let read = Arc::new(Document { values: values(std::slice::from_ref(&object)), object });
        self.0.lock().unwrap().insert(text.to_owned(), Arc::clone(&read));
        read
    }
}

/// All values of `documents`.
fn joined(documents: &[Arc<Document>]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for document in documents {
        let before = all.len() + document.values.len();
        all.extend(document.values.clone());
        assert_eq!(all.len(), before, "two objects of one name, one of them {}", id(&document.object));
    }
    all
}

#[test]
fn each_says_what_it_is_for() {
    for name in folders("manifests/components") {
        let kustomization = text(&format!("manifests/components/{name}/kustomization.yaml"));
        assert!(kustomization.starts_with("# "), "{name} begins with what it is for");
        assert!(kustomization.contains("\nkind: Component\n"), "{name}");
    }
}

#[test]
fn each_does_something_to_the_base_and_the_agent_starts_with_it() {
    let copy = Copy::new("alone");
    let base = build(&root().join("manifests/base"));
    let plain = configuration(&base, "192.0.2.23");
    let names = folders("manifests/components");
    let combinations: Vec<Vec<&str>> = names.iter().map(|name| vec![name.as_str()]).collect();
    each(&copy, &combinations, |components, manifest| {
        let (name, objects) = (components[0], super::parsed(manifest));
        assert_ne!(values(&objects), values(&base), "{name} does nothing");
        let config = configuration(&objects, "192.0.2.23");
        let silent = NOT_FOR_THE_AGENT.contains(&name) || WITH_AN_OVERLAY.contains(&name);
        assert_eq!(config == plain, silent, "{name}: what the agent is told");
    });
    for name in NOT_FOR_THE_AGENT.iter().chain(WITH_AN_OVERLAY) {
        assert!(names.iter().any(|known| known == name), "there is no component {name}");
    }
}

/// Nothing is there twice, nothing that one of them does is lost, and the order does not matter.
#[test]
fn every_two_build_in_both_orders_to_the_same() {
    let (copy, library) = (Copy::new("pairs"), Library::default());
    let names = folders("manifests/components");
    let base = values(&build(&root().join("manifests/base")));
    let effects: Mutex<BTreeMap<String, Effect>> = Mutex::default();
    let alone: Vec<Vec<&str>> = names.iter().map(|name| vec![name.as_str()]).collect();
    each(&copy, &alone, |components, manifest| {
        let effect = Effect::of(&base, &joined(&library.documents(manifest)));
        effects.lock().unwrap().insert(components[0].to_owned(), effect);
    });
    let effects = effects.into_inner().unwrap();

    let mut pairs = Vec::new();
    for (at, first) in names.iter().enumerate() {
        pairs.extend(names[at + 1..].iter().map(|second| vec![&**first, &**second]));
    }
    each(&copy, &pairs, |pair, forward| {
        let backward = copy.render(&[pair[1], pair[0]]);
        let documents = library.documents(forward);
        let found = joined(&documents);
        let (first, second) = (&effects[pair[0]], &effects[pair[1]]);
        for (name, one, other) in [(pair[0], first, second), (pair[1], second, first)] {
            assert_eq!(one.lost(&found, other), Vec::<&str>::new(), "{pair:?} loses what {name} does");
        }
        let objects = |documents: &[Arc<Document>]| -> Vec<Value> {
            documents.iter().map(|document| document.object.clone()).collect()
        };
        let config = judged(pair, &objects(&documents));
        if forward != backward {
            let documents = library.documents(&backward);
            let different = differences(&found, &joined(&documents));
            assert!(different.is_empty(), "{pair:?} in both orders: {different:#?}");
            assert_eq!(judged(pair, &objects(&documents)), config, "{pair:?}");
        }
    });
}

#[test]
fn all_together_build_in_any_order_to_the_same() {
    let copy = Copy::new("all");
    let names = folders("manifests/components");
    let forward: Vec<&str> = names.iter().map(String::as_str).collect();
    let backward: Vec<&str> = forward.iter().rev().copied().collect();
    let mut turned = forward.clone();
    turned.rotate_left(names.len() / 2);
    let [first, others @ ..] = &[&forward, &backward, &turned].map(|order| copy.build(order));
    for other in others {
        let different = differences(&values(first), &values(other));
        assert!(different.is_empty(), "{different:#?}");
    }
    assert_eq!(judged(&forward, first), None, "some contradict each other");
    let contradictory: Vec<&str> = CONTRADICTIONS.iter().map(|(one, _, _)| *one).collect();
    let peaceful: Vec<&str> = forward.into_iter().filter(|name| !contradictory.contains(name)).collect();
    assert!(judged(&peaceful, &copy.build(&peaceful)).unwrap().agent.dry_run);
}

#[test]
fn those_that_contradict_each_other_are_refused_by_the_agent_and_say_so() {
    let copy = Copy::new("contradictions");
    for (one, other, _) in CONTRADICTIONS {
        assert_eq!(judged(&[one, other], &copy.build(&[one, other])), None, "{one} and {other} get on");
        let said = text(&format!("manifests/components/{other}/kustomization.yaml"));
        assert!(said.contains(&format!("Not with {one}")), "{other} does not say it");
    }
}

/// A kubelet gives an address without brackets.
#[test]
fn the_admin_port_is_on_the_pod_s_address_of_either_family() {
    let base = build(&root().join("manifests/base"));
    for (address, expected) in [("192.0.2.23", "192.0.2.23:9808"), ("2001:db8::23", "[2001:db8::23]:9808")] {
        assert_eq!(configuration(&base, address).agent.admin_address.to_string(), expected);
    }
}
