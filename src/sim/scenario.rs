//! What happens in a simulated world, as a plain value read from a TOML file.
//!
//! A scenario says what the node carries, when the platform announces what, what goes wrong meanwhile, and what must be
//! true in the end. It knows nothing of the agent's insides: expectations are about the world. Times are seconds since
//! the start of the world. `docs/scenarios.md` describes the format for people; a test keeps the two in step.

mod cni;
mod event;
mod expect;
mod model;
mod parse;
mod scale;
mod shipped;
mod sinks;

use std::path::PathBuf;
use std::time::Duration;

pub use cni::{CniEvent, CniFault, CniSpec, Environment, HeadroomExpect, HeadroomStory, Span, SubnetSpec};
pub use event::{
    ActorDoes, ActorEvent, AgentDoes, AgentEvent, ApiEvent, ApiFault, BudgetChange, Event, EventBecomes, FencePart,
    ImdsEvent, ImdsFault, InstanceEvent, KeyValue, RawDocument, RebalanceEvent, ScheduledChange, What,
};
pub use expect::{Expect, NodeExpect, Window};
pub use model::{AgentSpec, Budget, Limit, NodeSpec, Notice, Owner, Phase, PodGroup, StopsAfter, Taint};
pub use parse::EVENT_REASONS;
pub use shipped::{SHIPPED, shipped};
pub use sinks::{SinkExpect, SinkSpec, Sinks};

use crate::config::Response;
use crate::signal::Action;

/// A scenario that passed every check of the format.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without folder and extension; also names the node and the namespace.
    pub name: String,
    /// One line for `simulate --list`.
    pub title: String,
    /// A paragraph on what is shown and why it matters.
    pub description: String,
    /// The spot notice, if there is one; other announcements are events.
    pub notice: Option<Notice>,
    /// The world goes on for at least so long.
    pub lasts: Option<Duration>,
    /// Why a real API server would show no more than the embedded one; absent = it is played on both.
    pub virtual_only: Option<String>,
    /// The node before anything happens.
    pub node: NodeSpec,
    /// The node's VPC CNI; absent = the node has another one.
    pub cni: Option<CniSpec>,
    /// Who outside of the cluster is told.
    pub sinks: Sinks,
    /// How the agent is configured.
    pub agent: AgentSpec,
    /// What runs on the node.
    pub pods: Vec<PodGroup>,
    /// Disruption budgets in the scenario's namespace.
    pub budgets: Vec<Budget>,
    /// What else happens, in order of time.
    pub events: Vec<Event>,
    /// What must be true in the end.
    pub expect: Expect,
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither shipped nor a file.
    #[error("no scenario is called {name:?} and there is no such file; `--list` shows the scenarios{}", hint.as_deref().map(|near| format!(", the nearest name is {near:?}")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// A name that looks like it.
        hint: Option<String>,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's text is not a scenario.
    #[error("{file}:{line}: {message}")]
    Invalid {
        /// Which file.
        file: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong and what would be valid.
        message: String,
    },
}

/// Largest scenario file that is read: ten times the largest that anybody would write by hand.
const MAX_FILE_BYTES: u64 = 256 * 1024;

impl Scenario {
    /// Reads a scenario from a file's text. `file` is named in errors and gives the scenario its name.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        parse::scenario(file, text)
    }

    /// The shipped scenario called `name`, or the one in the file `name`.
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        if let Some((file, text)) = shipped::text(name) {
            return Self::parse(&file, text);
        }
        let path = PathBuf::from(name);
        let looks_like_a_path = path.components().count() > 1 || path.extension().is_some();
        if !looks_like_a_path && !path.is_file() {
            return Err(ScenarioError::Unknown { name: name.to_owned(), hint: shipped::nearest(name) });
        }
        let unreadable = |source| ScenarioError::Unreadable { path: path.clone(), source };
        let invalid = |message| ScenarioError::Invalid { file: name.to_owned(), line: 1, message };
        let file = std::fs::metadata(&path).map_err(unreadable)?;
        if !file.is_file() {
            return Err(invalid("a scenario is a regular file, in TOML; see docs/scenarios.md".into()));
        }
        let size = file.len();
        if size > MAX_FILE_BYTES {
            return Err(invalid(format!("the file has {size} bytes; a scenario has at most {MAX_FILE_BYTES}")));
        }
        let text = String::from_utf8(std::fs::read(&path).map_err(unreadable)?);
        let text = text.map_err(|error| {
            let (good, bad) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let line = bad.iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
            let message = "this is not UTF-8 text; a scenario is TOML".to_owned();
            ScenarioError::Invalid { file: name.to_owned(), line, message }
        })?;
        Self::parse(name, &text)
    }

    /// Whether the agent is supposed to clear the node: what the file says, else what follows from the spot notice.
    pub fn is_drained(&self) -> bool {
        let drains = self.agent.on_spot_interruption.unwrap_or(Response::Drain) == Response::Drain;
        let by_notice = self.notice.as_ref().is_some_and(|notice| notice.action != Action::Hibernate);
        self.expect.drained.unwrap_or(by_notice && drains && !self.agent.dry_run)
    }

    /// The group that a pod of this name belongs to.
    pub fn group_of(&self, pod: &str) -> Option<&PodGroup> {
        let (group, _) = pod.rsplit_once('-')?;
        self.pods.iter().find(|candidate| candidate.name == group)
    }
}
