//! One request to the collector, and what its answer means. When to ask again is the caller's to decide.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use super::headers::HeaderFile;
use super::schedule::Outcome;
use super::{Failure, OtlpSignal};
use crate::clock::Clock;
use crate::config::EgressConfig;
use crate::config::otlp::{OtlpConfig, OtlpTarget};
use crate::egress::{self, Answer, PeerTls, SendError};
use crate::gzip::gzip;
use crate::metrics::otlp::OtlpMetrics;
use crate::tls::Refusal;

/// Of the collector's own words no more is logged.
const MAX_MESSAGE: usize = 200;

/// For a request that only tries the way.
const TRIAL_LIMIT: Duration = Duration::from_secs(5);

/// Sends one signal to its collector.
#[derive(Debug)]
pub struct Exporter {
    signal: OtlpSignal,
    target: OtlpTarget,
    headers: Option<HeaderFile>,
    egress: EgressConfig,
    /// Built at the first request: a file that is missing then may be there for the next.
    client: Option<reqwest::Client>,
    counts: OtlpMetrics,
    clock: Clock,
    /// The last failure, so that a lasting one is told once.
    trouble: Option<String>,
}

/// A failure with its words.
struct Trouble {
    failure: Failure,
    outcome: Outcome,
    words: String,
}

impl Exporter {
    /// An exporter of `signal`; `None` if it goes nowhere.
    pub fn new(
        signal: OtlpSignal,
        config: &OtlpConfig,
        egress: &EgressConfig,
        counts: OtlpMetrics,
        clock: Clock,
    ) -> Option<Self> {
        let target = match signal {
            OtlpSignal::Metrics => config.metrics.clone(),
            OtlpSignal::Traces => config.traces.clone(),
        };
        Some(Self {
            signal,
            target: target?,
            headers: config.headers_file.clone().map(HeaderFile::new),
            egress: egress.clone(),
            client: None,
            counts,
            clock,
            trouble: None,
        })
    }

    /// Sends one request and counts and logs what becomes of it. Over within `limit`, and within the signal's own limit.
    pub async fn send(&mut self, body: Vec<u8>, limit: Duration) -> Outcome {
        let trouble = self.tried(body, limit).await.err();
        self.tell(trouble)
    }

    /// Sends an empty request, which a collector takes and forgets: its answer, or what is in the way. Counts and logs
    /// nothing.
    pub async fn try_out(&mut self) -> Result<StatusCode, String> {
        self.tried(Vec::new(), TRIAL_LIMIT).await.map_err(|trouble| trouble.words)
    }

    /// Counts and logs a request that was given up by its caller.
    pub(super) fn given_up(&mut self) {
        let words = "no answer yet, and there was something newer to send".to_owned();
        self.tell(Some(Trouble { failure: Failure::Timeout, outcome: Outcome::Later(None), words }));
    }

    async fn tried(&mut self, body: Vec<u8>, limit: Duration) -> Result<StatusCode, Trouble> {
        let answer = self.attempt(body, limit).await?;
        self.judge(&answer).map_or(Ok(answer.status), Err)
    }

    async fn attempt(&mut self, body: Vec<u8>, limit: Duration) -> Result<Answer, Trouble> {
        let headers = self.headers.as_mut().map(HeaderFile::read).transpose().map_err(unusable)?;
        let client = match &self.client {
            Some(client) => client.clone(),
            None => egress::client(&self.egress, &self.target.tls).map_err(|error| unusable(error.to_string()))?,
        };
        self.client = Some(client.clone());
        let mut all = self.target.headers.clone();
        all.extend(headers.unwrap_or_else(HeaderMap::new));
        let request = client.post(&self.target.endpoint).headers(all).header(CONTENT_TYPE, "application/x-protobuf");
        let request = if self.target.gzip {
            request.header(CONTENT_ENCODING, "gzip").body(gzip(&body))
        } else if body.is_empty() {
            // Nothing is sent that says so by itself, and some servers refuse a POST of unknown length.
            request.header(CONTENT_LENGTH, 0)
        } else {
            request.body(body)
        };
        let sent = egress::send(request, limit.min(self.target.timeout), self.clock.now().wall).await;
        let has_files = self.target.tls != PeerTls::default() || self.egress.ca_file.is_some();
        if sent.as_ref().is_err_and(|error| *error != SendError::TimedOut) && has_files {
            // They may be others by now, and the collector may want those.
            self.client = None;
        }
        sent.map_err(|error| {
            let (failure, advice) = silence(error);
            Trouble { failure, outcome: Outcome::Later(None), words: format!("{error}; {advice}") }
        })
    }

    /// What an answer complains about. The codes that may be tried again are those of the OTLP specification.
    fn judge(&self, answer: &Answer) -> Option<Trouble> {
        let status = answer.status;
        if status.is_success() {
            let (rejected, words) = self.partial(answer);
            return (rejected > 0).then(|| Trouble {
                failure: Failure::Partial,
                outcome: Outcome::Taken,
                words: format!("the collector dropped {rejected} of what was sent: {}", plain(&words)),
            });
        }
        let (failure, outcome) = match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => (Failure::Busy, Outcome::Later(answer.retry_after)),
            _ => (Failure::Refused, Outcome::Never),
        };
        let advice = match status.as_u16() {
            300..=399 => "; redirects are not followed, name the address that it leads to",
            401 | 403 => "; look at OTEL_EXPORTER_OTLP_HEADERS and --otlp-headers-file",
            404 | 405 => "; is it the port for OTLP over HTTP, and the path right?",
            415 => "; the collector takes no protobuf, or no gzip: see OTEL_EXPORTER_OTLP_COMPRESSION",
            _ => "",
        };
        Some(Trouble { failure, outcome, words: format!("the collector answered {}{advice}", status.as_u16()) })
    }

    /// What a success says was not taken. An answer that cannot be read is a success all the same.
    fn partial(&self, answer: &Answer) -> (i64, String) {
        let body = answer.body.as_ref();
        let partial = match self.signal {
            OtlpSignal::Metrics => ExportMetricsServiceResponse::decode(body)
                .ok()
                .and_then(|response| response.partial_success)
                .map(|partial| (partial.rejected_data_points, partial.error_message)),
            OtlpSignal::Traces => ExportTraceServiceResponse::decode(body)
                .ok()
                .and_then(|response| response.partial_success)
                .map(|partial| (partial.rejected_spans, partial.error_message)),
        };
        partial.unwrap_or_default()
    }

    fn tell(&mut self, trouble: Option<Trouble>) -> Outcome {
        let signal = self.signal.as_str();
        let Some(Trouble { failure, outcome, words }) = trouble else {
            self.counts.exported(self.signal);
            if self.trouble.take().is_some() {
                tracing::info!(signal, "the collector takes telemetry again");
            }
            return Outcome::Taken;
        };
        self.counts.failed(self.signal, failure);
        if self.trouble.as_ref() != Some(&words) {
            tracing::warn!(signal, reason = failure.as_str(), "telemetry was not delivered: {words}");
            self.trouble = Some(words);
        }
        outcome
    }

    /// Counts what was given up for want of room.
    pub(super) fn dropped(&self) {
        self.counts.failed(self.signal, Failure::Dropped);
    }
}

/// What no answer means, and what to do about it.
fn silence(error: SendError) -> (Failure, &'static str) {
    let address = "is the address of OTEL_EXPORTER_OTLP_ENDPOINT that of a collector?";
    match error {
        SendError::TimedOut => (Failure::Timeout, address),
        SendError::Unreachable | SendError::Broken => (Failure::Connection, address),
        SendError::Tls(refusal) => {
            let advice = match refusal {
                Refusal::UnknownIssuer => "give the issuer's certificate in OTEL_EXPORTER_OTLP_CERTIFICATE",
                Refusal::OtherName => "write the host in OTEL_EXPORTER_OTLP_ENDPOINT as the certificate has it",
                Refusal::Expired | Refusal::NotYetValid | Refusal::Unusable => "look at the collector's certificate",
                Refusal::ClientCertificate => {
                    "see OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY"
                }
                Refusal::NoAgreement => "the scheme and port of OTEL_EXPORTER_OTLP_ENDPOINT decide",
            };
            (Failure::Tls, advice)
        }
    }
}

fn unusable(words: String) -> Trouble {
    Trouble { failure: Failure::Configuration, outcome: Outcome::Later(None), words }
}

/// The collector's words on one line, shortened.
fn plain(words: &str) -> String {
    words.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
