//! Placeholder for the client's builder.

use std::path::Path;

use futures::FutureExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("no client for the API server: {0}")]
pub struct ClientError(String);

/// Builds the client from a kubeconfig, or from the pod's service account.
pub fn build(kubeconfig: Option<&Path>) -> Result<kube::Client, ClientError> {
    let config = match kubeconfig {
        None => kube::Config::incluster().map_err(|error| ClientError(error.to_string()))?,
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| ClientError(error.to_string()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .now_or_never()
                .ok_or_else(|| ClientError("the kubeconfig cannot be read at once".into()))?
                .map_err(|error| ClientError(error.to_string()))?
        }
    };
    kube::Client::try_from(config).map_err(|error| ClientError(error.to_string()))
}
