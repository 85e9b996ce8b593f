//! What is attached to an ENI: a single address, an IPv4 prefix or an IPv6 prefix.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A /32, /28 or /80.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cidr {
    first: IpAddr,
    len: u8,
}

impl Cidr {
    pub(super) fn new(first: IpAddr, len: u8) -> Self {
        Self { first, len }
    }

    pub(super) fn first(self) -> IpAddr {
        self.first
    }

    /// Prefix delegation, or IPv6.
    pub(super) fn is_prefix(self) -> bool {
        self.len != 32
    }

    pub(super) fn is_ipv4(self) -> bool {
        self.first.is_ipv4()
    }

    /// Addresses in it.
    pub(super) fn size(self) -> i64 {
        let bits = if self.first.is_ipv4() { 32 } else { 128 };
        1_i64.checked_shl(bits - u32::from(self.len)).unwrap_or(i64::MAX)
    }

    /// The addresses in order; the first and the last are usable like the others.
    pub(super) fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (0..self.size()).filter_map(move |n| match self.first {
            IpAddr::V4(first) => Some(Ipv4Addr::from_bits(first.to_bits() + u32::try_from(n).ok()?).into()),
            IpAddr::V6(first) => Some(Ipv6Addr::from_bits(first.to_bits() + u128::try_from(n).ok()?).into()),
        })
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => i64::from(address.to_bits())
                .checked_sub(i64::from(first.to_bits()))
                .is_some_and(|n| (0..self.size()).contains(&n)),
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                address.to_bits().checked_sub(first.to_bits()).is_some_and(|n| n < self.size().unsigned_abs().into())
            }
            _ => false,
        }
    }

    /// Its mask as ipamd's document has it, in base64.
    pub(super) fn mask(self) -> &'static str {
        match self.len {
            28 => "////8A==",
            80 => "/////////////wAAAAAAAA==",
            _ => "/////w==",
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_comes_from_the_mask() {
        let sizes = [("10.8.1.20", 32, 1), ("10.8.2.16", 28, 16), ("2001:db8:7:1::", 80, 281_474_976_710_656)];
        for (first, len, size) in sizes {
            let cidr = Cidr::new(first.parse().unwrap(), len);
            assert_eq!(cidr.size(), size);
            assert_eq!(cidr.to_string(), format!("{first}/{len}"));
            assert!(cidr.contains(cidr.first()));
        }
        let prefix = Cidr::new("10.8.2.16".parse().unwrap(), 28);
        let all: Vec<String> = prefix.addresses().map(|address| address.to_string()).collect();
        assert_eq!((all.len(), all[0].as_str(), all[15].as_str()), (16, "10.8.2.16", "10.8.2.31"));
        assert!(!prefix.contains("10.8.2.15".parse().unwrap()) && !prefix.contains("10.8.2.32".parse().unwrap()));
        assert!(!prefix.contains("::1".parse().unwrap()));
    }
}
