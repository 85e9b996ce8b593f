//! What of the node's marks is ours, as far as this process knows.
//!
//! The annotation on the Node is the record; this keeps up with it through answers that are lost, looks at the Node that
//! are older than the last answer, other copies of the agent, and people who take a mark away and set it again.

use super::fence::{self, Part};
use super::state::{Marks, State};
use crate::k8s::node::NodeView;

/// Annotations that are remembered: more than are ever on their way through the watch at once.
const REMEMBERED: usize = 16;

/// Our part of the marks.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Ours, as the API server acknowledged it.
    ours: Marks,
    /// Those of ours that the watch has shown on the node. An older look than the last answer does not show them yet.
    confirmed: Marks,
    /// Annotations whose marks this process knows of. Any other one tells of marks that are ours all the same: set by a
    /// patch whose answer was lost, or by another copy of the agent.
    known: Vec<String>,
    /// Marks of a patch without an annotation whose answer never came, and that may have been applied.
    unanswered: Option<Marks>,
}

impl Ledger {
    /// What is ours of what `node` carries.
    pub(super) fn ours_on(&self, node: &NodeView) -> Marks {
        fence::present(node, &self.ours)
    }

    /// There is a record where none should be: by a patch that was given up, or one that an older look had not shown. Its
    /// marks are ours whether it is known or not.
    pub(super) fn relearn(&mut self, state: &State, node: &NodeView) {
        self.claim(&fence::present(node, &state.marks));
    }

    /// Takes over what an agent before this one had recorded on `node`; the parts of it that somebody took away since.
    pub(super) fn take_over(&mut self, state: &State, node: &NodeView) -> Vec<Part> {
        let present = fence::present(node, &state.marks);
        self.claim(&present);
        self.know(fence::state_text(node));
        state.marks.clone().without(&present).parts()
    }

    /// Takes a look at the Node as the watch shows it; marks of ours that were there and are not any more.
    pub(super) fn seen(&mut self, node: &NodeView) -> Marks {
        let present = fence::present(node, &self.ours);
        std::mem::replace(&mut self.confirmed, present.clone()).without(&present)
    }

    /// These are somebody else's to set or to leave now.
    pub(super) fn give_up(&mut self, marks: &Marks) {
        self.ours = std::mem::take(&mut self.ours).without(marks);
    }

    /// The record on the Node, if this process knows nothing of it yet: another copy of the agent wrote it.
    pub(super) fn foreign_record(&self, node: &NodeView) -> Option<State> {
        let text = fence::state_text(node).filter(|text| !self.known.iter().any(|known| known == text))?;
        State::parse(text).ok()
    }

    /// What the Node tells about what is ours, before a patch is made for it.
    pub(super) fn learn(&mut self, node: &NodeView) {
        if let Some(unanswered) = &self.unanswered {
            let present = fence::present(node, unanswered);
            self.claim(&present);
        }
        if let Some(state) = self.foreign_record(node) {
            self.claim(&fence::present(node, &state.marks));
            self.know(fence::state_text(node));
        }
    }

    /// A patch was applied, or nothing had to change: these are ours now. `text` is the annotation that it wrote.
    pub(super) fn settled(&mut self, ours: Marks, text: Option<&str>) {
        self.unanswered = None;
        self.confirmed = Marks::default();
        self.ours = ours;
        self.know(text);
    }

    /// The answer to a patch that makes `ours` ours never came. If the annotation says `text` next, it may be by this
    /// patch, also if one before it said the same.
    pub(super) fn unanswered(&mut self, ours: Marks, text: Option<&str>) {
        self.known.retain(|known| Some(known.as_str()) != text);
        self.unanswered = text.is_none().then_some(ours);
    }

    fn claim(&mut self, marks: &Marks) {
        self.ours = std::mem::take(&mut self.ours).with(marks);
    }

    fn know(&mut self, text: Option<&str>) {
        self.known.extend(text.map(str::to_owned));
        let surplus = self.known.len().saturating_sub(REMEMBERED);
        self.known.drain(..surplus);
    }
}
