//! The thin shell around the Kubernetes API: reads the own node and its pods, carries out what was decided.

pub mod api;
pub mod attributes;
pub mod client;
pub mod events;
pub mod eviction;
mod kubeconfig;
pub mod metered;
pub mod node;

pub(crate) mod reduced;
pub mod watch;
pub(crate) mod wire;

/// An error with its causes in one line. Of each only the first line: a YAML error goes on with the text around it, which
/// in a kubeconfig may be a token.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        let line = cause.lines().next().unwrap_or_default();
        if !text.contains(line) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(line);
        }
        text
    })
}
