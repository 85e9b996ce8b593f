//! Why IMDS could not be read.

use crate::http::ReadError;
use crate::imds::{Endpoint, Failure, Outcome};

/// What went wrong with one request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token request was sent and nothing came back. The packets of this one answer carry the hop limit as their IP
    /// TTL, so that a pod in its own network namespace never receives it.
    #[error(
        "IMDS did not answer the token request: a pod outside the host network gets no answer while the instance's \
         HttpPutResponseHopLimit is 1; set hostNetwork: true on the agent's pod or raise the hop limit to 2"
    )]
    TokenTimeout,
    /// The time was up before the answer was complete.
    #[error("IMDS did not answer the {} request in time; the next poll asks again", .0.as_str())]
    Timeout(Endpoint),
    /// No connection, or it broke before the answer was complete.
    #[error("no usable connection to IMDS for the {} request: {detail}; the next poll asks again", endpoint.as_str())]
    Connection {
        /// What was asked.
        endpoint: Endpoint,
        /// The innermost cause.
        detail: String,
    },
    /// 401 although the token was fresh.
    #[error("IMDS refused a fresh token on the {} request (401); the next poll asks again", .0.as_str())]
    Unauthorized(Endpoint),
    /// 403: the metadata endpoint is switched off, or something in between forbids it.
    #[error(
        "IMDS refused the {} request (403): the instance metadata endpoint is disabled or blocked; set \
         HttpEndpoint=enabled in the instance's metadata options",
        .0.as_str()
    )]
    Forbidden(Endpoint),
    /// 429.
    #[error("IMDS throttles the {} request (429); something else on this node may be asking too often", .0.as_str())]
    Throttled(Endpoint),
    /// 5xx.
    #[error("IMDS failed on the {} request (status {status}); the next poll asks again", endpoint.as_str())]
    Server {
        /// What was asked.
        endpoint: Endpoint,
        /// The answer.
        status: u16,
    },
    /// Any other status.
    #[error(
        "unexpected status {status} on the {} request: is this an IMDS with version 2 at all? Check the configured endpoint",
        endpoint.as_str()
    )]
    Status {
        /// What was asked.
        endpoint: Endpoint,
        /// The answer.
        status: u16,
    },
    /// The body exceeds what any document of IMDS needs.
    #[error("the answer to the {} request is larger than {cap} bytes and was not read", endpoint.as_str())]
    TooLarge {
        /// What was asked.
        endpoint: Endpoint,
        /// The limit in bytes.
        cap: usize,
    },
    /// The token is empty, too long, or has characters that no header may carry.
    #[error("IMDS handed out a token that cannot be put into a header; it was dropped and the next poll asks again")]
    UnusableToken,
}

impl Error {
    /// The class of the failure, as metrics and logs spell it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::TokenTimeout | Self::Timeout(_) => Failure::Timeout,
            Self::Connection { .. } => Failure::Connection,
            Self::Unauthorized(_) | Self::Forbidden(_) => Failure::Denied,
            Self::Throttled(_) => Failure::Throttled,
            Self::Server { .. } => Failure::ServerError,
            Self::Status { .. } | Self::TooLarge { .. } | Self::UnusableToken => Failure::Protocol,
        }
    }

    /// The result of the request.
    pub fn outcome(&self) -> Outcome {
        Outcome::Failed(self.failure())
    }

    /// A bounded label.
    pub fn reason(&self) -> &'static str {
        self.failure().as_str()
    }

    pub(super) fn from_status(endpoint: Endpoint, status: u16) -> Self {
        match status {
            401 => Self::Unauthorized(endpoint),
            403 => Self::Forbidden(endpoint),
            429 => Self::Throttled(endpoint),
            500..=599 => Self::Server { endpoint, status },
            _ => Self::Status { endpoint, status },
        }
    }

    pub(super) fn from_transfer(endpoint: Endpoint, error: &reqwest::Error) -> Self {
        // A connection that cannot be made in time is no hop-limit symptom: that lets the connection through.
        if error.is_timeout() && !error.is_connect() {
            return if endpoint == Endpoint::Token { Self::TokenTimeout } else { Self::Timeout(endpoint) };
        }
        Self::Connection { endpoint, detail: innermost(error) }
    }

    pub(super) fn from_read(endpoint: Endpoint, error: &ReadError) -> Self {
        match error {
            ReadError::TooLarge(cap) => Self::TooLarge { endpoint, cap: *cap },
            ReadError::Transfer(error) => Self::from_transfer(endpoint, error),
        }
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
