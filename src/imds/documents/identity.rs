//! `instance-identity/document` and the single items that fill its gaps.

use serde_json::Value;

use super::{Malformed, Oddity, name, object};
use crate::imds::{Client, Error, Item};

/// Who and where the instance is. For names and defaults only, never for decisions about safety; what IMDS does not
/// offer (an instance launched long ago, say) is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// E.g. `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// E.g. `m5.large`.
    pub instance_type: Option<String>,
    /// E.g. `eu-west-1a`.
    pub availability_zone: Option<String>,
    /// E.g. `euw1-az2`: the same zone in every account.
    pub availability_zone_id: Option<String>,
    /// E.g. `eu-west-1`.
    pub region: Option<String>,
    /// `spot`, `on-demand`, or another purchasing option.
    pub life_cycle: Option<String>,
    /// The owner, twelve digits.
    pub account_id: Option<String>,
    /// E.g. `ami-0123456789abcdef0`.
    pub image_id: Option<String>,
    /// E.g. `x86_64`.
    pub architecture: Option<String>,
    /// The primary private address.
    pub private_ip: Option<String>,
}

/// Reads the instance identity document.
pub fn identity(body: &[u8]) -> Result<Identity, Malformed> {
    let document = object(body)?;
    let field = |key: &str| document.get(key).and_then(Value::as_str).and_then(|text| name(text.as_bytes()));
    Ok(Identity {
        instance_id: field("instanceId"),
        instance_type: field("instanceType"),
        availability_zone: field("availabilityZone"),
        availability_zone_id: None,
        region: field("region"),
        life_cycle: None,
        account_id: field("accountId"),
        image_id: field("imageId"),
        architecture: field("architecture"),
        private_ip: field("privateIp"),
    })
}

impl Client {
    /// Reads the identity: the document, then one by one what it does not have. Fails only if IMDS cannot be read at all;
    /// an item that is absent or unreadable stays `None`.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let document = self.get(Item::IdentityDocument).await?.body;
        let mut identity = match document.map(|body| identity(&body)) {
            Some(Ok(identity)) => identity,
            Some(Err(malformed)) => {
                tracing::warn!(%malformed, "the instance identity document cannot be used");
                self.count_rejected(Oddity::Malformed);
                Identity::default()
            }
            None => Identity::default(),
        };
        let items = [
            (Item::LifeCycle, &mut identity.life_cycle),
            (Item::AvailabilityZoneId, &mut identity.availability_zone_id),
            (Item::InstanceId, &mut identity.instance_id),
            (Item::InstanceType, &mut identity.instance_type),
            (Item::AvailabilityZone, &mut identity.availability_zone),
            (Item::Region, &mut identity.region),
        ];
        for (item, field) in items {
            if field.is_none() {
                *field = self.get(item).await.ok().and_then(|answer| name(&answer.body?));
            }
        }
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_fields_that_cannot_be_names_are_left_out() {
        let read = identity(br#"{"instanceId":"i-0123456789abcdef0","region":"eu west","instanceType":null}"#).unwrap();
        assert_eq!(read.instance_id.as_deref(), Some("i-0123456789abcdef0"));
        assert_eq!((read.region, read.instance_type), (None, None));
        assert!(identity(b"<html/>").is_err());
    }
}
