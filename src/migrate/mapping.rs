//! From what was set for NTH to values of the chart here, and to what has to be said about it. Pure.

mod node;
mod notify;
mod pod;

use std::collections::BTreeSet;

use serde_json::Value;

use super::given::Settings;
use super::table::Fate;
use super::tree::Place;
use super::yaml::Document;

/// How much something that is said matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A person has to do it.
    Hand,
    /// A key that NTH does not have.
    Unknown,
    /// It was set and there is nothing like it.
    NoEquivalent,
    /// It is done otherwise.
    Different,
    /// It did nothing in NTH either.
    Idle,
}

impl Kind {
    /// In JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hand => "by-hand",
            Self::Unknown => "unknown",
            Self::NoEquivalent => "no-equivalent",
            Self::Different => "different",
            Self::Idle => "without-effect",
        }
    }

    /// Whether somebody has to look at it before the values can be used.
    pub fn needs_a_hand(self) -> bool {
        matches!(self, Self::Hand | Self::Unknown | Self::NoEquivalent)
    }
}

/// Something to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// How much it matters.
    pub kind: Kind,
    /// NTH's key.
    pub key: String,
    /// Where it was set; absent for a default.
    pub place: Option<Place>,
    /// What to know or to do.
    pub text: String,
}

/// What comes out.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    /// The values.
    pub values: Document,
    /// What there is to say, what matters most first.
    pub notes: Vec<Note>,
    /// Keys of which there is nothing to carry over: set to NTH's default, or to what is always so here.
    pub idle: Vec<&'static str>,
}

impl Migration {
    /// Somebody has to look at it before the values can be used.
    pub fn needs_a_hand(&self) -> bool {
        self.notes.iter().any(|note| note.kind.needs_a_hand())
    }
}

/// How it is to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// In a dry run beside NTH.
    pub beside: bool,
}

/// Maps everything.
pub fn migrate(settings: &Settings, wish: Wish) -> Migration {
    let mut draft = Draft { settings, wish, out: Migration::default(), said: BTreeSet::new() };
    draft.strays();
    draft.dry_run();
    node::responses(&mut draft);
    node::marks(&mut draft);
    notify::sinks(&mut draft);
    notify::egress(&mut draft);
    pod::scheduling(&mut draft);
    pod::metadata(&mut draft);
    pod::ports(&mut draft);
    pod::monitor(&mut draft);
    draft.the_rest();
    draft.out.idle.clone_from(&settings.idle);
    let unsaid = settings.rows().map(|row| row.key).filter(|key| settings.given(key).is_some());
    draft.out.idle.extend(unsaid.filter(|key| !draft.said.contains(*key)));
    draft.out.notes.sort_by_key(|note| note.kind);
    draft.out
}

/// Keys that the functions of the groups answer for; the rest is copied or told as the table has it.
const GROUPED: [&str; 41] = [
    "enableSpotInterruptionDraining",
    "enableRebalanceMonitoring",
    "enableRebalanceDraining",
    "enableScheduledEventDraining",
    "enableASGLifecycleDraining",
    "cordonOnly",
    "taintNode",
    "TAINT_EFFECT",
    "excludeFromLoadBalancers",
    "dryRun",
    "webhookURL",
    "webhookURLSecretName",
    "webhookHeaders",
    "webhookProxy",
    "webhookTemplate",
    "webhookTemplateConfigMapName",
    "webhookTemplateConfigMapKey",
    "emitKubernetesEvents",
    "enablePrometheusServer",
    "enableProbesServer",
    "prometheusServerPort",
    "logLevel",
    "jsonLogging",
    "dnsPolicy",
    "linuxDnsPolicy",
    "podLabels",
    "linuxPodLabels",
    "podAnnotations",
    "linuxPodAnnotations",
    "serviceAccount.annotations",
    "nodeSelector",
    "daemonsetNodeSelector",
    "linuxNodeSelector",
    "affinity",
    "daemonsetAffinity",
    "linuxAffinity",
    "tolerations",
    "daemonsetTolerations",
    "linuxTolerations",
    "podMonitor.create",
    "targetNodeOs",
];

/// The migration in the making.
struct Draft<'a> {
    settings: &'a Settings,
    wish: Wish,
    out: Migration,
    /// Keys that something was said about.
    said: BTreeSet<String>,
}

impl Draft<'_> {
    /// A value, for the keys that it comes from, with what the table says about the first of them.
    fn put(&mut self, path: &str, value: impl Into<Value>, keys: &[&str]) {
        let note = keys.first().and_then(|key| self.settings.row(key)).map_or("", |row| row.note);
        self.put_saying(path, value, keys, note);
    }

    /// A value with words of its own.
    fn put_saying(&mut self, path: &str, value: impl Into<Value>, keys: &[&str], words: &str) {
        let given: Vec<String> = keys.iter().filter_map(|key| self.origin(key)).collect();
        self.said.extend(keys.iter().map(|key| (*key).to_owned()));
        let origin = match (given.is_empty(), keys.first()) {
            (true, Some(key)) => format!("By NTH's default of {key}"),
            _ => given.join(", "),
        };
        let full_stop = if words.is_empty() { "." } else { ": " };
        let path: Vec<&str> = path.split('.').collect();
        self.out.values.put(&path, value.into(), &[format!("{origin}{full_stop}{words}")]);
    }

    /// `key: value (file:line)` of what was given.
    fn origin(&self, key: &str) -> Option<String> {
        let given = self.settings.given(key)?;
        let place = given.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        Some(format!("{key}: {}{place}", shown(key, &given.value)))
    }

    fn note(&mut self, kind: Kind, key: &str, text: impl Into<String>) {
        let place = self.settings.given(key).and_then(|given| given.place.clone());
        self.said.insert(key.to_owned());
        self.out.notes.push(Note { kind, key: key.to_owned(), place, text: text.into() });
    }

    /// What the table says about the key.
    fn note_of_table(&mut self, kind: Kind, key: &str) {
        let words = self.settings.row(key).map_or("", |row| row.note);
        self.note(kind, key, words);
    }

    fn strays(&mut self) {
        for stray in &self.settings.strays {
            let (key, place, text) = (stray.key.clone(), stray.place.clone(), stray.why.clone());
            self.out.notes.push(Note { kind: Kind::Unknown, key, place, text });
        }
    }

    fn dry_run(&mut self) {
        if self.wish.beside {
            let words = "Beside NTH: nothing is changed and nobody is told. Take this line out at the switch";
            self.out.values.put(&["dryRun"], true.into(), &[format!("{words}.")]);
        } else if self.settings.is_on("dryRun") {
            self.put("dryRun", true, &["dryRun"]);
        }
    }

    /// Rows of which nothing but the table has to be known.
    fn the_rest(&mut self) {
        let queue = self.settings.is_on("enableSqsTerminationDraining");
        for row in self.settings.rows() {
            let Some(given) = self.settings.given(row.key) else { continue };
            if GROUPED.contains(&row.key) {
                continue;
            }
            match (row.fate, row.ours) {
                (Fate::Same | Fate::Renamed, Some(ours)) => self.put(ours, given.value.clone(), &[row.key]),
                (Fate::Queue, _) if !queue => {
                    self.note(Kind::Idle, row.key, "of queue mode, which is not on");
                }
                (Fate::Different, _) => self.note_of_table(Kind::Different, row.key),
                (Fate::Hand, _) => self.note_of_table(Kind::Hand, row.key),
                _ => self.note_of_table(Kind::NoEquivalent, row.key),
            }
        }
    }
}

/// Values that may hold a secret, and are not shown.
const SECRET: [&str; 5] = ["webhookURL", "webhookHeaders", "webhookProxy", "awsAccessKeyID", "awsSecretAccessKey"];
/// Longest text of a value in a comment.
const MOST_SHOWN: usize = 60;

/// A value for a comment.
fn shown(key: &str, value: &Value) -> String {
    if SECRET.contains(&key) {
        return "(not shown)".into();
    }
    let text = value.to_string();
    if text.chars().count() <= MOST_SHOWN {
        return text;
    }
    text.chars().take(MOST_SHOWN).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
