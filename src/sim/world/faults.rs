//! A scenario's faults in the words of the simulated services.

use http::StatusCode;
use tokio::time::Instant;

use super::BackendHandle;
use crate::sim::gateway::Gateway;
use crate::sim::gateway::answers::CannedAnswer;
use crate::sim::gateway::denial::Denial;
use crate::sim::gateway::faults::{Fault, FaultKind};
use crate::sim::imds::{Fault as ImdsFaultSpec, FaultKind as ImdsFaultKind, SimImds};
use crate::sim::scenario::{ApiEvent, ApiFault, FencePart, ImdsEvent, ImdsFault};

/// Something that happens once still needs a moment in which it is in force.
const ONCE: std::time::Duration = std::time::Duration::from_millis(1);

/// Where session tokens come from.
const TOKEN_PATH: &str = "/latest/api/token";

/// Lays a fault over IMDS from now on; returns what it is, for people.
pub(super) fn imds(imds: &SimImds, event: &ImdsEvent) -> &'static str {
    let now = Instant::now();
    let lay = |fault: ImdsFaultSpec| imds.fault(fault.from(now).until(now + event.lasts));
    match event.fault {
        ImdsFault::Hangs => {
            lay(ImdsFaultSpec::new(ImdsFaultKind::Silence));
            "accepts connections and does not answer"
        }
        ImdsFault::Unavailable => {
            lay(ImdsFaultSpec::new(ImdsFaultKind::Status(503)));
            "answers everything with 503"
        }
        ImdsFault::Flaps => {
            lay(ImdsFaultSpec::new(ImdsFaultKind::Status(404)).path("/latest/meta-data/spot"));
            "takes the notice back although it stands"
        }
        ImdsFault::Disabled => {
            lay(ImdsFaultSpec::new(ImdsFaultKind::Status(403)));
            "is switched off: 403"
        }
        ImdsFault::HopLimit => {
            lay(ImdsFaultSpec::new(ImdsFaultKind::Silence).path(TOKEN_PATH));
            "never answers requests for a session token"
        }
        ImdsFault::TokensRefused => {
            lay(ImdsFaultSpec::new(ImdsFaultKind::Status(401)).path("/latest/meta-data").every(2));
            "refuses every second request with a session token"
        }
        ImdsFault::TokensExpire => {
            imds.forget_tokens();
            "forgets all session tokens"
        }
    }
}

/// Lays a fault over the way to the API server from now on; returns what it is, for people.
pub(super) fn api(gateway: &Gateway, backend: &BackendHandle, event: &ApiEvent) -> String {
    let now = Instant::now();
    let inject = |kind: FaultKind| {
        gateway.inject(Fault::new(kind).between(now, now + event.lasts.max(ONCE)));
    };
    match event.fault {
        ApiFault::Slow(latency) => {
            inject(FaultKind::Latency(latency));
            format!("answers {} s later", latency.as_secs_f64())
        }
        ApiFault::Gone => {
            inject(FaultKind::Unavailable);
            "is gone".into()
        }
        ApiFault::Throttled => {
            inject(FaultKind::Answer(CannedAnswer::throttled()));
            "answers everything with 429".into()
        }
        ApiFault::Unavailable => {
            let busy = CannedAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n");
            inject(FaultKind::Answer(busy));
            "answers everything with 503".into()
        }
        ApiFault::Compacted => {
            // A real server cannot be made to compact at will; the agent sees the same from the gateway.
            if let Some(server) = &backend.embedded {
                server.compact();
            }
            inject(FaultKind::CloseWatches { expired: true });
            "has compacted its history, watches end".into()
        }
        ApiFault::Denied(part) => {
            let message = format!("the {} is not yours to change", part.as_str());
            inject(FaultKind::Deny(Denial::of(pointer(part), "simulated-policy", &message)));
            format!("has a policy against changing the node's {}", part.as_str())
        }
    }
}

/// Where a part of the fence is in a Node (RFC 6901).
fn pointer(part: FencePart) -> &'static str {
    match part {
        FencePart::Taint => "/spec/taints",
        FencePart::Cordon => "/spec/unschedulable",
        FencePart::Label => "/metadata/labels/node.kubernetes.io~1exclude-from-external-load-balancers",
        FencePart::Annotation => "/metadata/annotations/spotwarden~1state",
    }
}
