//! Asks ipamd, with short time-outs and without trust: three paths, read only.

use std::time::Duration;

use bytes::Bytes;

use super::model::Problem;
use crate::config::{CniConfig, LocalAddress};
use crate::http::{self, BuildError, ReadError};

/// For a whole request. ipamd answers within milliseconds; it holds its lock meanwhile, which pods wait for.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// A document with every address of the largest instance has some hundred kilobytes.
const LARGEST: usize = 1024 * 1024;

/// Clients for both endpoints of ipamd.
#[derive(Clone, Debug)]
pub struct Client {
    introspection: Endpoint,
    metrics: Endpoint,
}

#[derive(Clone, Debug)]
struct Endpoint {
    client: reqwest::Client,
    base: String,
}

impl Endpoint {
    fn new(address: &LocalAddress) -> Result<Self, BuildError> {
        let base = match address {
            LocalAddress::Tcp(address) => format!("http://{address}"),
            // The name goes into the Host header alone.
            LocalAddress::Unix(_) => "http://localhost".to_owned(),
        };
        Ok(Self { client: http::local(address, TIMEOUT)?, base })
    }

    /// The body of an answer with status 200, whatever its content type says.
    async fn get(&self, path: &str) -> Result<Bytes, Problem> {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.map_err(|error| problem(&error))?;
        if response.status() != 200 {
            return Err(Problem::Status(response.status().as_u16()));
        }
        http::read_capped(response, LARGEST).await.map_err(|error| match error {
            ReadError::TooLarge(_) => Problem::TooLarge,
            ReadError::Transfer(error) => problem(&error),
        })
    }
}

impl Client {
    /// Puts the clients together; nothing is sent.
    pub fn new(config: &CniConfig) -> Result<Self, BuildError> {
        Ok(Self { introspection: Endpoint::new(&config.introspection)?, metrics: Endpoint::new(&config.metrics)? })
    }

    /// `/v1/enis`. Costs ipamd a copy of its data store under the lock that pods wait for: every few seconds at most.
    pub async fn interfaces(&self) -> Result<Bytes, Problem> {
        self.introspection.get("/v1/enis").await
    }

    /// `/v1/ipamd-env-settings`.
    pub async fn settings(&self) -> Result<Bytes, Problem> {
        self.introspection.get("/v1/ipamd-env-settings").await
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> Result<Bytes, Problem> {
        self.metrics.get("/metrics").await
    }
}

fn problem(error: &reqwest::Error) -> Problem {
    if error.is_timeout() {
        Problem::Timeout
    } else if error.is_connect() {
        Problem::Refused
    } else {
        Problem::Broken
    }
}
