//! What a simulated instance has to say about itself, and the bytes of the error pages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::signals::Signals;

const META_DATA: &str = "/latest/meta-data";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";

/// Who and where the simulated instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySpec {
    /// `instance-id`.
    pub instance_id: String,
    /// `instance-type`.
    pub instance_type: String,
    /// `placement/region`.
    pub region: String,
    /// `placement/availability-zone`.
    pub availability_zone: String,
    /// `placement/availability-zone-id`.
    pub availability_zone_id: String,
    /// `instance-life-cycle`; absent on an instance that was launched long ago.
    pub life_cycle: Option<String>,
    /// `local-ipv4`.
    pub private_ip: String,
    /// `local-hostname`; on EKS mostly the name of the node.
    pub local_hostname: String,
    /// `mac`.
    pub mac: String,
    /// The owner.
    pub account_id: String,
    /// `ami-id`.
    pub image_id: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
}

impl Default for IdentitySpec {
    fn default() -> Self {
        Self {
            instance_id: "i-0123456789abcdef0".into(),
            instance_type: "m5.large".into(),
            region: "eu-west-1".into(),
            availability_zone: "eu-west-1a".into(),
            availability_zone_id: "euw1-az1".into(),
            life_cycle: Some("spot".into()),
            private_ip: "10.0.1.10".into(),
            local_hostname: "ip-10-0-1-10.eu-west-1.compute.internal".into(),
            mac: "02:00:00:00:00:0a".into(),
            account_id: "123456789012".into(),
            image_id: "ami-0123456789abcdef0".into(),
            architecture: "x86_64".into(),
        }
    }
}

/// Items below `network/interfaces/macs/` by their path from there on.
pub type NetworkTree = BTreeMap<String, String>;

/// The content at `path`: an item, or the listing of a directory. Directories are found with and without their slash.
pub(super) fn lookup(
    identity: &IdentitySpec,
    signals: &Signals,
    network: &NetworkTree,
    now: Timestamp,
    path: &str,
) -> Option<Vec<u8>> {
    if path == DOCUMENT {
        return Some(document(identity).into_bytes());
    }
    let below = path.strip_prefix(META_DATA)?;
    let mut items = items(identity, signals, now);
    items.extend(network.iter().map(|(path, text)| (format!("network/interfaces/macs/{path}").into(), text.clone())));
    let item = below.strip_prefix('/').and_then(|item| items.get(item)).cloned();
    item.or_else(|| listing(&items, below)).map(String::into_bytes)
}

fn items(identity: &IdentitySpec, signals: &Signals, now: Timestamp) -> BTreeMap<Cow<'static, str>, String> {
    let plain = [
        ("ami-id", identity.image_id.clone()),
        ("hostname", identity.local_hostname.clone()),
        ("instance-action", "none".into()),
        ("instance-id", identity.instance_id.clone()),
        ("instance-type", identity.instance_type.clone()),
        ("local-hostname", identity.local_hostname.clone()),
        ("local-ipv4", identity.private_ip.clone()),
        ("mac", identity.mac.clone()),
        ("placement/availability-zone", identity.availability_zone.clone()),
        ("placement/availability-zone-id", identity.availability_zone_id.clone()),
        ("placement/region", identity.region.clone()),
        ("services/domain", "amazonaws.com".into()),
        ("services/partition", "aws".into()),
    ];
    let mut items: BTreeMap<Cow<'static, str>, String> = plain.map(|(item, text)| (item.into(), text)).into();
    if let Some(life_cycle) = &identity.life_cycle {
        items.insert("instance-life-cycle".into(), life_cycle.clone());
    }
    items.extend(signals.items(now).into_iter().map(|(item, text)| (item.into(), text)));
    items
}

fn listing(items: &BTreeMap<Cow<'static, str>, String>, below: &str) -> Option<String> {
    if !below.is_empty() && !below.starts_with('/') {
        return None;
    }
    let directory = below.trim_matches('/');
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    let names: BTreeSet<&str> = items
        .keys()
        .filter_map(|item| item.strip_prefix(&prefix))
        .map(|rest| rest.split_inclusive('/').next().unwrap_or(rest))
        .collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join("\n"))
}

fn document(identity: &IdentitySpec) -> String {
    let document = serde_json::json!({
        "accountId": identity.account_id,
        "architecture": identity.architecture,
        "availabilityZone": identity.availability_zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "imageId": identity.image_id,
        "instanceId": identity.instance_id,
        "instanceType": identity.instance_type,
        "kernelId": null,
        "marketplaceProductCodes": null,
        "pendingTime": "2026-03-31T08:00:00Z",
        "privateIp": identity.private_ip,
        "ramdiskId": null,
        "region": identity.region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

/// The `number`th token: 56 characters, opaque.
pub(super) fn token(number: u64) -> String {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("SIMULATED-{spread:016x}{:016x}{number:012x}==", spread.rotate_left(32))
}

/// The phrase that goes with a status, in the status line and on the error page.
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// The error page, byte for byte as the service was recorded to send it.
pub(super) fn error_page(status: u16) -> Vec<u8> {
    let title = format!("{status} - {}", phrase(status));
    format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
         \t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
         <head>\n  <title>{title}</title>\n </head>\n \
         <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::signals::{SpotAction, SpotTime};
    use super::*;

    fn text(signals: &Signals, path: &str) -> Option<String> {
        let now = "2026-03-31T16:32:24Z".parse().unwrap();
        lookup(&IdentitySpec::default(), signals, &NetworkTree::new(), now, path)
            .map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn error_pages_have_the_recorded_length() {
        for (status, length) in [(400, 343), (401, 345), (403, 339), (404, 339)] {
            assert_eq!(error_page(status).len(), length, "{status}");
        }
    }

    #[test]
    fn tokens_are_56_characters_and_differ() {
        assert_eq!(token(1).len(), 56);
        assert_ne!(token(1), token(2));
    }

    #[test]
    fn listings_show_a_signal_only_while_it_is_there() {
        let quiet = Signals::default();
        let root = text(&quiet, "/latest/meta-data/").unwrap();
        assert!(root.lines().any(|line| line == "placement/"));
        assert!(!root.contains("spot") && !root.contains("autoscaling"));
        assert_eq!(text(&quiet, "/latest/meta-data").unwrap(), root);
        assert_eq!(text(&quiet, "/latest/meta-data/events/").unwrap(), "maintenance/");
        assert_eq!(text(&quiet, "/latest/meta-data/spot/"), None);
        let time = "2026-03-31T16:34:24Z".parse().unwrap();
        let told = Signals {
            spot: Some(SpotAction { action: "terminate".into(), time: SpotTime::At(time) }),
            rebalance: Some(time),
            lifecycle: Some("InService".into()),
            ..Signals::default()
        };
        let root = text(&told, "/latest/meta-data/").unwrap();
        assert!(["spot/", "autoscaling/"].iter().all(|wanted| root.lines().any(|line| line == *wanted)), "{root}");
        assert_eq!(text(&told, "/latest/meta-data/spot/").unwrap(), "instance-action\ntermination-time");
        assert_eq!(text(&told, "/latest/meta-data/events/").unwrap(), "maintenance/\nrecommendations/");
        assert_eq!(text(&told, "/latest/meta-data/autoscaling/").unwrap(), "target-lifecycle-state");
    }

    #[test]
    fn interfaces_are_listed_as_folders() {
        let tree = [("0a:00:00:00:10:01/interface-id".to_owned(), "eni-1".to_owned())].into();
        let now = "2026-03-31T16:32:24Z".parse().unwrap();
        let at = |path: &str| {
            let path = format!("/latest/meta-data/network/interfaces/macs/{path}");
            let body = lookup(&IdentitySpec::default(), &Signals::default(), &tree, now, &path);
            body.map(|body| String::from_utf8(body).unwrap())
        };
        assert_eq!(at("").as_deref(), Some("0a:00:00:00:10:01/"));
        assert_eq!(at("0a:00:00:00:10:01/interface-id").as_deref(), Some("eni-1"));
        assert_eq!(at("0a:00:00:00:10:01/ipv4-prefix"), None);
    }

    #[test]
    fn what_is_misspelt_or_secret_is_absent() {
        for path in ["/latest/meta-dataspot", "/latest/meta-data/Instance-Id", "/latest/meta-data/iam/", "/", "/1.0"] {
            assert_eq!(text(&Signals::default(), path), None, "{path}");
        }
    }
}
