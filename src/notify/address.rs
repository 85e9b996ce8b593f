//! Where a sink is: what an address may look like, and the file that a secret one comes from.
//!
//! Whoever knows the address of a webhook can post to it. It is read from a file at each use, so that one that is replaced
//! is used from then on, and no error, log line or type of this module shows it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;

/// Longer than any address; a file that is larger is something else.
const LONGEST: usize = 4096;

/// Where an address comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// A file that holds it and nothing else, for instance of a mounted Secret.
    File(PathBuf),
    /// It is known: for addresses that are no secrets, and for simulated worlds.
    Known(Arc<str>),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Known(_) => f.write_str("Known(…)"),
        }
    }
}

/// What is wrong with an address. Never holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Its file cannot be read for now.
    #[error("{} cannot be read: {why}; mount the Secret there, it is read again with the next message", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// Its file is empty, as one of a Secret without its value.
    #[error("{} is empty; write the value into it, it is read again with the next message", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// What it holds can never be used.
    #[error("{source_name} {problem}; {valid}")]
    Wrong {
        /// The file, or the setting.
        source_name: String,
        /// What is wrong.
        problem: &'static str,
        /// What would be valid.
        valid: &'static str,
    },
}

impl AddressError {
    /// The file's content is to be changed; waiting does not help.
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong { .. })
    }
}

impl Address {
    /// The address as it is now.
    pub fn read(&self) -> Result<Url, AddressError> {
        match self {
            Self::File(path) => {
                let text = secret(path)?;
                check(&text).map_err(|(problem, valid)| wrong(path.display().to_string(), problem, valid))
            }
            Self::Known(text) => {
                check(text).map_err(|(problem, valid)| wrong("the address".to_owned(), problem, valid))
            }
        }
    }
}

fn wrong(source_name: String, problem: &'static str, valid: &'static str) -> AddressError {
    AddressError::Wrong { source_name, problem, valid }
}

/// The content of a file that holds one secret, without the white space around it.
pub fn secret(path: &Path) -> Result<String, AddressError> {
    let unreadable = |why: String| AddressError::Unreadable { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let source_name = || path.display().to_string();
    let valid = "write the value into it, and nothing else";
    if text.len() > LONGEST {
        return Err(wrong(source_name(), "is too large for what it should hold", valid));
    }
    let text = String::from_utf8(text).map_err(|_| wrong(source_name(), "holds no text", valid))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(AddressError::Empty { path: path.to_owned() });
    }
    if text.chars().any(|character| character.is_control() || character == ' ' && !is_credential(text)) {
        return Err(wrong(source_name(), "holds more than one word", valid));
    }
    Ok(text.to_owned())
}

/// `Bearer …`, `Basic …`: the one kind of secret with a space.
fn is_credential(text: &str) -> bool {
    text.split(' ').count() == 2 && text.split(' ').all(|word| !word.is_empty()) && !text.contains("://")
}

const URL: &str = "use an https:// URL, or http:// for a host of the cluster or of a private network";

/// A URL to which a message may be sent: over TLS, or to a host that no message leaves the network for.
pub fn check(text: &str) -> Result<Url, (&'static str, &'static str)> {
    let url = Url::parse(text).map_err(|_| ("is not a URL", URL))?;
    if url.host_str().is_none_or(str::is_empty) || url.cannot_be_a_base() {
        return Err(("has no host", URL));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_near(&url) => Ok(url),
        "http" => Err(("is http:// to a public host, which everybody on the way can read", URL)),
        _ => Err(("is neither https:// nor http://", URL)),
    }
}

/// The base of an Alertmanager: what [`check`] takes, without anything secret or superfluous.
pub fn check_base(text: &str) -> Result<Url, (&'static str, &'static str)> {
    let url = check(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("holds credentials", "put the value of the Authorization header into --alertmanager-auth-file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err((
            "has a query or fragment",
            "use the base URL, for example http://alertmanager.monitoring.svc:9093",
        ));
    }
    if url.path().trim_end_matches('/').ends_with(super::alertmanager::PATH) {
        return Err(("names the API", "leave out /api/v2/alerts"));
    }
    Ok(url)
}

/// Loopback, private addresses, names of the cluster's own services and names without a domain.
fn is_near(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            // 100.64.0.0/10 is what EKS gives pods in secondary ranges.
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            ip.is_loopback() || ip.is_private() || shared
        }
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => {
            let labels: Vec<&str> = host.trim_end_matches('.').rsplit('.').collect();
            matches!(labels.as_slice(), [_] | ["svc", ..] | ["local", "cluster", ..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://hooks.slack.com/services/T0/B0/secret")]
    #[case("https://203.0.113.7/x")]
    #[case("http://127.0.0.1:8080/x")]
    #[case("http://[::1]:8080/x")]
    #[case("http://10.1.2.3/")]
    #[case("http://100.64.0.9/")]
    #[case("http://[fd00::1]/")]
    #[case("http://relay.tools.svc/hook")]
    #[case("http://relay.tools.svc.cluster.local:80/hook")]
    #[case("http://relay/hook")]
    fn an_address_over_tls_or_nearby_is_taken(#[case] text: &str) {
        assert_eq!(check(text).map(|_| ()), Ok(()));
    }

    #[rstest]
    #[case("hooks.slack.com/services/secret", "is not a URL")]
    #[case("", "is not a URL")]
    #[case("https://", "is not a URL")]
    #[case("mailto:secret@example.com", "has no host")]
    #[case("ftp://example.com/secret", "is neither https:// nor http://")]
    #[case("http://hooks.slack.com/secret", "is http:// to a public host")]
    #[case("http://203.0.113.7/secret", "is http:// to a public host")]
    #[case("http://169.254.169.254/secret", "is http:// to a public host")]
    #[case("http://svc.example.com/secret", "is http:// to a public host")]
    #[case("http://[2001:db8::1]/secret", "is http:// to a public host")]
    fn any_other_is_refused(#[case] text: &str, #[case] expected: &str) {
        let (problem, _) = check(text).unwrap_err();
        assert!(problem.starts_with(expected), "{problem}");
    }

    #[rstest]
    #[case("http://alertmanager:9093", None)]
    #[case("https://am.example.com/prefix/", None)]
    #[case("https://me:hunter2@am.example.com", Some("holds credentials"))]
    #[case("https://am.example.com/?a=b", Some("has a query or fragment"))]
    #[case("https://am.example.com/api/v2/alerts", Some("names the API"))]
    fn a_base_has_nothing_superfluous(#[case] text: &str, #[case] problem: Option<&str>) {
        assert_eq!(check_base(text).err().map(|(problem, _)| problem), problem);
    }

    fn written(name: &str, content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("spotwarden-address-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    #[rstest]
    #[case::empty("empty", b"", "is empty; write the value into it")]
    #[case::blank("blank", b" \n\t\n", "is empty; write the value into it")]
    #[case::malformed("malformed", b"hooks.example.com/secret\n", "is not a URL; use an https:// URL")]
    #[case::public("public", b"http://hooks.example.com/secret\n", "is http:// to a public host")]
    #[case::two("two", b"https://a.example.com/secret\nhttps://b.example.com/secret\n", "holds more than one word")]
    #[case::words("words", b"the secret url", "holds more than one word")]
    #[case::binary("binary", b"\xff\xfesecret", "holds no text")]
    #[case::huge("huge", &[b's'; 5000], "is too large for what it should hold")]
    fn a_bad_file_is_named_and_what_it_holds_is_not(#[case] name: &str, #[case] content: &[u8], #[case] problem: &str) {
        let path = written(name, content);
        let error = Address::File(path.clone()).read().unwrap_err();
        std::fs::remove_file(&path).unwrap();
        let message = error.to_string();
        assert!(message.starts_with(&format!("{} {problem}", path.display())), "{message}");
        let debug = format!("{error:?}");
        assert!(
            !message.contains("secret") && !debug.contains("secret") && !message.contains("example.com"),
            "{message}"
        );
        assert_eq!(error.is_wrong(), !problem.starts_with("is empty"));
    }

    #[test]
    fn a_file_that_is_missing_may_come() {
        let error = Address::File("/nonexistent/url".into()).read().unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/url cannot be read: "), "{error}");
        assert!(!error.is_wrong());
    }

    #[test]
    fn a_file_that_is_replaced_is_read_again() {
        let path = written("replaced", b"  https://a.example.com/1\n");
        let address = Address::File(path.clone());
        assert_eq!(address.read().unwrap().path(), "/1");
        // As the kubelet does: a link is swapped.
        let other = written("replacement", b"https://a.example.com/2");
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(address.read().unwrap().path(), "/2");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_known_address_is_not_shown_either() {
        let address = Address::Known("http://hooks.example.com/secret".into());
        let error = address.read().unwrap_err();
        assert!(!format!("{address:?} {error} {error:?}").contains("example.com"));
    }
}
