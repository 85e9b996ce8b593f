//! Notices and the fence.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::interruption::record::Record;
use crate::signal::Kind;

/// Upper bounds in seconds. The promise is half a tenth of a second; the API server's own latency and a first failed
/// attempt fill the rest.
const FENCE_BUCKETS: [f64; 4] = [0.05, 0.1, 0.25, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Counters of what was announced, of how fast the node was fenced, and of the way back.
#[derive(Debug)]
pub struct InterruptionMetrics {
    notices: Family<KindLabel, Counter>,
    notice_to_fence: Histogram,
    fence_failures: Counter,
    fence_parts_refused: Counter,
    restores: Counter,
    state_annotation_errors: Counter,
}

impl InterruptionMetrics {
    /// Registers everything under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            notices: Family::default(),
            notice_to_fence: Histogram::new(FENCE_BUCKETS),
            fence_failures: Counter::default(),
            fence_parts_refused: Counter::default(),
            restores: Counter::default(),
            state_annotation_errors: Counter::default(),
        };
        let Self { notices, notice_to_fence, fence_failures, fence_parts_refused, restores, state_annotation_errors } =
            &metrics;
        registry.register(
            "notices",
            "Notices that nobody had seen before; a restarted agent does not count one again",
            notices.clone(),
        );
        registry.register_with_unit(
            "notice_to_fence",
            "Time from a notice being read to the API server's acknowledgement of the fence",
            Unit::Seconds,
            notice_to_fence.clone(),
        );
        registry.register(
            "fence_failures",
            "Times that the fence began to fail, or to fail for another reason; it is tried until it holds",
            fence_failures.clone(),
        );
        registry.register(
            "fence_parts_refused",
            "Parts of the fence that the API server refused while it accepted the rest",
            fence_parts_refused.clone(),
        );
        registry.register(
            "restores",
            "Times that what this agent had put on the node was taken away again because all that was announced is over",
            restores.clone(),
        );
        registry.register(
            "state_annotation_errors",
            "Times that the node's state annotation could not be used",
            state_annotation_errors.clone(),
        );
        for kind in Kind::ALL {
            drop(notices.get_or_create(&KindLabel { kind: kind.as_str() }));
        }
        metrics
    }

    /// Counts what concerns notices and the fence.
    pub fn record(&self, record: &Record) {
        match record {
            Record::NoticeSeen { signal, .. } => {
                self.notices.get_or_create(&KindLabel { kind: signal.kind.as_str() }).inc();
            }
            Record::Fenced { after, refused } => {
                self.notice_to_fence.observe(after.as_secs_f64());
                self.fence_parts_refused.inc_by(refused.len() as u64);
            }
            Record::FenceFailed { .. } => {
                self.fence_failures.inc();
            }
            Record::Restored => {
                self.restores.inc();
            }
            Record::StateUnreadable { .. } => {
                self.state_annotation_errors.inc();
            }
            Record::Resumed { .. }
            | Record::Interruption(_)
            | Record::Survived { .. }
            | Record::Rescheduled { .. }
            | Record::Over { .. }
            | Record::RestoreFailed { .. }
            | Record::Preflight { .. }
            | Record::DrainStarted { .. }
            | Record::EvictionBlocked { .. }
            | Record::StopAccepted { .. }
            | Record::PodEnded { .. }
            | Record::DrainFinished { .. }
            | Record::DrainPostponed { .. }
            | Record::NotDrained { .. } => {}
        }
    }
}
