//! Where and how telemetry is pushed, from the environment variables of OpenTelemetry.
//!
//! Pure. The names and rules are those of the OTLP exporter's and the SDK's specification, with two differences that
//! `docs/otlp.md` tells: without an endpoint nothing is sent, and what cannot be used stops the start instead of being
//! passed over. Variables that the settings in force do not use are not judged.

use std::path::PathBuf;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use reqwest::Url;

use super::parse::{ConfigError, Given};
use super::settings::Environment;
use crate::egress::PeerTls;

/// For one request, as the exporter's specification has it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pushes, and for all of one, as the SDK's specification has it.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_EXPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// In milliseconds.
const TIMEOUT_RANGE: (u64, u64) = (1, 600_000);
const INTERVAL_RANGE: (u64, u64) = (1_000, 3_600_000);
/// Of a resource attribute's key or value; nobody writes a longer one on purpose.
const LONGEST_ATTRIBUTE: usize = 1024;

/// Every variable that is read, for the list of what applies.
pub const VARIABLES: [&str; 32] = [
    "OTEL_SDK_DISABLED",
    "OTEL_METRICS_EXPORTER",
    "OTEL_TRACES_EXPORTER",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
];

/// Whether the value of a variable is a secret.
pub fn is_secret(variable: &str) -> bool {
    variable.ends_with("_HEADERS")
}

/// Pushing telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Where metrics go; `None` if they are only scraped.
    pub metrics: Option<OtlpTarget>,
    /// Where traces go, if anywhere.
    pub traces: Option<OtlpTarget>,
    /// More headers, in a file that is read again when it changes.
    pub headers_file: Option<PathBuf>,
    /// Between two pushes of metrics.
    pub interval: Duration,
    /// For one push of metrics, whatever the request's own limit.
    pub export_timeout: Duration,
    /// What sums and histograms count from.
    pub temporality: Temporality,
    /// What the telemetry is about.
    pub resource: ResourceConfig,
}

/// One signal's collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpTarget {
    /// Whole URL.
    pub endpoint: String,
    /// Sent with every request; the values are marked as secrets.
    pub headers: HeaderMap,
    /// For one request.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// What it needs of TLS.
    pub tls: PeerTls,
}

/// What sums and histograms count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// The start of the process.
    Cumulative,
    /// The last push that was delivered.
    Delta,
    /// As delta, but for what is read and not counted, which stays cumulative.
    LowMemory,
}

/// What is said about the source of the telemetry beside what is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceConfig {
    /// `OTEL_RESOURCE_ATTRIBUTES`, in its order; the last of a key counts.
    pub attributes: Vec<(String, String)>,
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// `POD_NAME`.
    pub pod_name: Option<String>,
    /// `POD_NAMESPACE`.
    pub pod_namespace: Option<String>,
    /// `POD_UID`.
    pub pod_uid: Option<String>,
}

/// Reads everything; `None` if nothing is to be pushed. `headers_file` is the setting of that name.
pub(super) fn parse(env: &Environment, headers_file: Option<Given>) -> Result<Option<OtlpConfig>, ConfigError> {
    if given(env, "OTEL_SDK_DISABLED").map(|given| boolean(&given)).transpose()? == Some(true) {
        return Ok(None);
    }
    let metrics = target(env, "METRICS", "v1/metrics", &["otlp", "none", "prometheus"])?;
    let traces = target(env, "TRACES", "v1/traces", &["otlp", "none"])?;
    if metrics.is_none() && traces.is_none() {
        return Ok(None);
    }
    let time = |name: &str, range, default| given(env, name).map_or(Ok(default), |given| milliseconds(&given, range));
    Ok(Some(OtlpConfig {
        metrics,
        traces,
        headers_file: headers_file.map(|given| PathBuf::from(given.value)),
        interval: time("OTEL_METRIC_EXPORT_INTERVAL", INTERVAL_RANGE, DEFAULT_INTERVAL)?,
        export_timeout: time("OTEL_METRIC_EXPORT_TIMEOUT", TIMEOUT_RANGE, DEFAULT_EXPORT_TIMEOUT)?,
        temporality: temporality(env)?,
        resource: resource(env)?,
    }))
}

fn given(env: &Environment, name: &str) -> Option<Given> {
    env.get(name).map(|value| Given { name: name.to_owned(), value: value.to_owned() })
}

/// The signal's own variable, or the one for all signals.
fn of_signal(env: &Environment, signal: &str, what: &str) -> Option<Given> {
    let own = given(env, &format!("OTEL_EXPORTER_OTLP_{signal}_{what}"));
    own.or_else(|| given(env, &format!("OTEL_EXPORTER_OTLP_{what}")))
}

fn target(env: &Environment, signal: &str, path: &str, exporters: &[&str]) -> Result<Option<OtlpTarget>, ConfigError> {
    let Some(endpoint) = endpoint(env, signal, path)? else { return Ok(None) };
    if let Some(given) = given(env, &format!("OTEL_{signal}_EXPORTER"))
        && !exports(&given, exporters)?
    {
        return Ok(None);
    }
    if let Some(given) = of_signal(env, signal, "PROTOCOL")
        && !given.value.eq_ignore_ascii_case("http/protobuf")
    {
        let valid = "use http/protobuf and the collector's HTTP port, which is 4318 as a rule";
        return Err(given.refuse("is not spoken here", valid));
    }
    let headers = of_signal(env, signal, "HEADERS").map(|given| {
        let valid = "write name=value,name=value with values percent-encoded";
        headers(&given.value).map_err(|why| given.hidden().refuse(why, valid))
    });
    let timeout = of_signal(env, signal, "TIMEOUT").map(|given| milliseconds(&given, TIMEOUT_RANGE));
    Ok(Some(OtlpTarget {
        endpoint,
        headers: headers.transpose()?.unwrap_or_default(),
        timeout: timeout.transpose()?.unwrap_or(DEFAULT_TIMEOUT),
        gzip: compression(env, signal)?,
        tls: tls(env, signal)?,
    }))
}

/// Whether the list of exporters has ours.
fn exports(given: &Given, known: &[&str]) -> Result<bool, ConfigError> {
    let names: Vec<_> = given.value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    if names.iter().any(|name| !known.contains(&name.as_str())) {
        return Err(given.refuse("names an exporter that is not there", format!("use {}", known.join(" or "))));
    }
    Ok(names.iter().any(|name| name == "otlp"))
}

/// A signal's own address is used as it is; the common one is a base that the signal's path is added to.
fn endpoint(env: &Environment, signal: &str, path: &str) -> Result<Option<String>, ConfigError> {
    if let Some(given) = given(env, &format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")) {
        return Ok(Some(url(&given)?.into()));
    }
    let Some(given) = given(env, "OTEL_EXPORTER_OTLP_ENDPOINT") else { return Ok(None) };
    let mut url = url(&given)?;
    if url.query().is_some() {
        return Err(given.refuse("has a query, and the signal's path is added behind it", VALID_ENDPOINT));
    }
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/{path}"));
    Ok(Some(url.into()))
}

const VALID_ENDPOINT: &str = "write for example http://10.0.0.1:4318, or https://HOST/PATH for a collector elsewhere";

fn url(given: &Given) -> Result<Url, ConfigError> {
    if given.value.contains('@') {
        let valid = "put them into a header: --otlp-headers-file, or OTEL_EXPORTER_OTLP_HEADERS";
        return Err(given.hidden().refuse("holds credentials", valid));
    }
    if given.value.contains("$(") {
        let valid = "define that variable for the container, before this one";
        return Err(given.refuse("names a variable that the kubelet did not know", valid));
    }
    let url = Url::parse(&given.value).map_err(|_| given.refuse("is not a URL", VALID_ENDPOINT))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(given.refuse("is not an http:// or https:// URL", VALID_ENDPOINT));
    }
    if url.fragment().is_some() {
        return Err(given.refuse("has a fragment", VALID_ENDPOINT));
    }
    Ok(url)
}

/// Reads `name=value` pairs between commas or line ends, the values percent-encoded. The error completes "this …" and
/// repeats no value, for they are secrets.
pub fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let entries = text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    for (place, entry) in entries.enumerate() {
        let place = place + 1;
        let (name, value) = entry.split_once('=').ok_or_else(|| format!("has an entry {place} without `=`"))?;
        let name: HeaderName =
            name.trim().parse().map_err(|_| format!("has an entry {place} whose name cannot be a header's"))?;
        if RESERVED.contains(&name) {
            return Err(format!("sets the header `{name}`, which belongs to the exporter"));
        }
        let value = percent_decoded(value.trim())
            .ok_or_else(|| format!("has a value for `{name}` that is not percent-encoded as it should be"))?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| format!("has a value for `{name}` with a character that no header can hold"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What the request's own body and connection decide.
const RESERVED: [HeaderName; 6] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, CONNECTION];

/// `None` for a `%` without two hexadecimal digits, and for bytes that are not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

fn compression(env: &Environment, signal: &str) -> Result<bool, ConfigError> {
    let Some(given) = of_signal(env, signal, "COMPRESSION") else { return Ok(false) };
    match given.value.to_ascii_lowercase().as_str() {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(given.refuse("is not known", "use gzip or none")),
    }
}

fn tls(env: &Environment, signal: &str) -> Result<PeerTls, ConfigError> {
    let file = |what| of_signal(env, signal, what);
    let certificate = match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
        (Some(certificate), Some(key)) => Some((certificate.value.into(), key.value.into())),
        (None, None) => None,
        (Some(alone), None) => {
            let valid = "set OTEL_EXPORTER_OTLP_CLIENT_KEY too";
            return Err(alone.refuse("is a certificate without its key", valid));
        }
        (None, Some(alone)) => {
            let valid = "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE too";
            return Err(alone.refuse("is a key without its certificate", valid));
        }
    };
    Ok(PeerTls { ca_file: file("CERTIFICATE").map(|given| given.value.into()), certificate })
}

fn temporality(env: &Environment) -> Result<Temporality, ConfigError> {
    let Some(given) = given(env, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE") else {
        return Ok(Temporality::Cumulative);
    };
    match given.value.to_ascii_lowercase().as_str() {
        "cumulative" => Ok(Temporality::Cumulative),
        "delta" => Ok(Temporality::Delta),
        "lowmemory" => Ok(Temporality::LowMemory),
        _ => Err(given.refuse("is not known", "use cumulative, delta or lowmemory")),
    }
}

fn resource(env: &Environment) -> Result<ResourceConfig, ConfigError> {
    let owned = |name| env.get(name).map(str::to_owned);
    let attributes = given(env, "OTEL_RESOURCE_ATTRIBUTES").map(|given| {
        let valid = "write key=value,key=value with values percent-encoded";
        attributes(&given.value).map_err(|why| given.refuse(why, valid))
    });
    Ok(ResourceConfig {
        attributes: attributes.transpose()?.unwrap_or_default(),
        service_name: owned("OTEL_SERVICE_NAME"),
        pod_name: owned("POD_NAME"),
        pod_namespace: owned("POD_NAMESPACE"),
        pod_uid: owned("POD_UID"),
    })
}

fn attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .enumerate()
        .map(|(place, entry)| {
            let place = place + 1;
            let (key, value) = entry.split_once('=').ok_or_else(|| format!("has an entry {place} without `=`"))?;
            let decoded = |text: &str| percent_decoded(text.trim());
            let (key, value) = decoded(key)
                .zip(decoded(value))
                .ok_or_else(|| format!("has an entry {place} that is not percent-encoded as it should be"))?;
            if key.is_empty() {
                return Err(format!("has an entry {place} without a key"));
            }
            if key.len().max(value.len()) > LONGEST_ATTRIBUTE {
                return Err(format!("has an entry {place} of more than {LONGEST_ATTRIBUTE} bytes"));
            }
            Ok((key, value))
        })
        .collect()
}

fn boolean(given: &Given) -> Result<bool, ConfigError> {
    match given.value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(given.refuse("is not known", "use true or false")),
    }
}

fn milliseconds(given: &Given, (least, most): (u64, u64)) -> Result<Duration, ConfigError> {
    let valid = format!("use whole milliseconds, {least} to {most}");
    let value: u64 = given
        .value
        .trim()
        .parse()
        .map_err(|_| given.refuse("is not a whole number of milliseconds", valid.as_str()))?;
    if !(least..=most).contains(&value) {
        return Err(given.refuse("is out of range", valid));
    }
    Ok(Duration::from_millis(value))
}

#[cfg(test)]
mod tests;
