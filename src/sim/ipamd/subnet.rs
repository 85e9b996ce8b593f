//! The subnet as EC2 sees it: single addresses, whole prefixes, and what is left of both.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::cidr::Cidr;

/// Addresses of a block that a prefix needs whole and aligned.
const BLOCK: u32 = 16;

/// A refusal of EC2. The code is what metrics carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No free address.
    InsufficientFreeAddressesInSubnet,
    /// No whole, aligned /28, whatever the number of free addresses.
    InsufficientCidrBlocks,
    /// A new ENI with prefixes under custom networking: the wording of a full subnet behind a generic code.
    InvalidParameterValue,
    /// The ENI is full; benign.
    PrivateIpAddressLimitExceeded,
    /// The instance has no slot left.
    AttachmentLimitExceeded,
    /// Throttled.
    RequestLimitExceeded,
    /// IAM.
    UnauthorizedOperation,
}

impl Refusal {
    /// The error code.
    pub fn code(self) -> &'static str {
        match self {
            Self::InsufficientFreeAddressesInSubnet => "InsufficientFreeAddressesInSubnet",
            Self::InsufficientCidrBlocks => "InsufficientCidrBlocks",
            Self::InvalidParameterValue => "InvalidParameterValue",
            Self::PrivateIpAddressLimitExceeded => "PrivateIpAddressLimitExceeded",
            Self::AttachmentLimitExceeded => "AttachmentLimitExceeded",
            Self::RequestLimitExceeded => "RequestLimitExceeded",
            Self::UnauthorizedOperation => "UnauthorizedOperation",
        }
    }

    /// The error's text.
    pub fn message(self) -> &'static str {
        match self {
            Self::InsufficientFreeAddressesInSubnet => {
                "The specified subnet does not have enough free addresses to satisfy the request."
            }
            Self::InsufficientCidrBlocks => {
                "The specified subnet does not have enough free cidr blocks to satisfy the request."
            }
            Self::InvalidParameterValue => "There aren't sufficient free Ipv4 addresses or prefixes",
            Self::PrivateIpAddressLimitExceeded => "Number of private addresses will exceed limit.",
            Self::AttachmentLimitExceeded => "Interface count exceeds the limit for the instance",
            Self::RequestLimitExceeded => "Request limit exceeded.",
            Self::UnauthorizedOperation => "You are not authorized to perform this operation.",
        }
    }

    /// One of the two that ipamd recognises as a full subnet and answers with a pause.
    pub fn is_recognised(self) -> bool {
        matches!(self, Self::InsufficientFreeAddressesInSubnet | Self::InsufficientCidrBlocks)
    }
}

/// An IPv4 subnet. EC2 keeps its first four addresses and its last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    id: String,
    base: u32,
    size: u32,
    /// Distances from the base.
    taken: BTreeSet<u32>,
}

impl Subnet {
    /// An empty subnet of 2^(32 − `len`) addresses; `len` is kept between 16 and 28, as EC2 does.
    pub fn new(id: &str, base: Ipv4Addr, len: u8) -> Self {
        let size = 1_u32 << (32 - u32::from(len.clamp(16, 28)));
        let base = base.to_bits() & !(size - 1);
        Self { id: id.to_owned(), base, size, taken: (0..4).chain([size - 1]).collect() }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As it is written down: `10.8.1.0/24`.
    pub(super) fn block(&self) -> String {
        format!("{}/{}", Ipv4Addr::from_bits(self.base), self.size.leading_zeros() + 1)
    }

    /// Addresses that nobody holds; what EC2 shows as available.
    pub fn free(&self) -> u32 {
        self.size - u32::try_from(self.taken.len()).unwrap_or(u32::MAX).min(self.size)
    }

    /// Blocks that can become a prefix.
    pub fn free_blocks(&self) -> u32 {
        u32::try_from(self.blocks().count()).unwrap_or(u32::MAX)
    }

    /// Somebody else takes addresses until `left` are free; nothing happens if fewer are.
    pub fn leave_free(&mut self, left: u32) {
        let take = self.free().saturating_sub(left);
        // From the end, so that those left lie together.
        let others: Vec<u32> = (0..self.size).rev().filter(|at| !self.taken.contains(at)).collect();
        self.taken.extend(others.into_iter().take(usize::try_from(take).unwrap_or(usize::MAX)));
    }

    /// Somebody else takes one address of each free block but `left`: prefixes run out while addresses are free.
    pub fn fragment(&mut self, left: u32) {
        let blocks: Vec<u32> = self.blocks().skip(usize::try_from(left).unwrap_or(usize::MAX)).collect();
        self.taken.extend(blocks.into_iter().map(|block| block + BLOCK / 2));
    }

    /// Somebody else gives everything back. `keep` says what is held by the node.
    pub(super) fn free_others(&mut self, keep: impl IntoIterator<Item = Cidr>) {
        self.taken = (0..4).chain([self.size - 1]).collect();
        for cidr in keep {
            let offsets: Vec<u32> = self.offsets(cidr).collect();
            self.taken.extend(offsets);
        }
    }

    /// `count` addresses, or none at all.
    pub(super) fn take_addresses(&mut self, count: i64) -> Result<Vec<Cidr>, Refusal> {
        let count = u32::try_from(count).unwrap_or(0);
        if count > self.free() {
            return Err(Refusal::InsufficientFreeAddressesInSubnet);
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let found: Vec<u32> = (0..self.size).filter(|at| !self.taken.contains(at)).take(count).collect();
        self.taken.extend(&found);
        Ok(found.into_iter().map(|at| self.cidr(at, 32)).collect())
    }

    /// `count` prefixes, or none at all.
    pub(super) fn take_prefixes(&mut self, count: i64) -> Result<Vec<Cidr>, Refusal> {
        let count = usize::try_from(count).unwrap_or(0);
        let found: Vec<u32> = self.blocks().take(count).collect();
        if found.len() < count {
            return Err(Refusal::InsufficientCidrBlocks);
        }
        self.taken.extend(found.iter().flat_map(|block| *block..block + BLOCK));
        Ok(found.into_iter().map(|at| self.cidr(at, 28)).collect())
    }

    pub(super) fn give_back(&mut self, cidr: Cidr) {
        let offsets: Vec<u32> = self.offsets(cidr).collect();
        for at in offsets {
            self.taken.remove(&at);
        }
    }

    fn blocks(&self) -> impl Iterator<Item = u32> {
        (0..self.size / BLOCK).map(|n| n * BLOCK).filter(|at| self.taken.range(*at..at + BLOCK).next().is_none())
    }

    fn cidr(&self, at: u32, len: u8) -> Cidr {
        Cidr::new(Ipv4Addr::from_bits(self.base + at).into(), len)
    }

    fn offsets(&self, cidr: Cidr) -> impl Iterator<Item = u32> {
        let first = match cidr.first() {
            std::net::IpAddr::V4(first) => Some(first.to_bits()),
            std::net::IpAddr::V6(_) => None,
        };
        let count = u32::try_from(cidr.size()).unwrap_or(0);
        let (base, size) = (self.base, self.size);
        first.into_iter().flat_map(move |first| {
            (first..first.saturating_add(count))
                .filter_map(move |address| address.checked_sub(base).filter(|at| *at < size))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(len: u8) -> Subnet {
        Subnet::new("subnet-a", Ipv4Addr::new(10, 8, 1, 0), len)
    }

    #[test]
    fn five_addresses_are_never_handed_out() {
        let mut subnet = subnet(28);
        assert_eq!((subnet.free(), subnet.free_blocks()), (11, 0));
        let taken = subnet.take_addresses(11).unwrap();
        assert_eq!(taken.first().map(ToString::to_string).as_deref(), Some("10.8.1.4/32"));
        assert_eq!(taken.last().map(ToString::to_string).as_deref(), Some("10.8.1.14/32"));
        assert_eq!(subnet.take_addresses(1), Err(Refusal::InsufficientFreeAddressesInSubnet));
    }

    #[test]
    fn a_request_gets_all_or_nothing() {
        let mut subnet = subnet(24);
        subnet.leave_free(3);
        assert_eq!(subnet.take_addresses(4), Err(Refusal::InsufficientFreeAddressesInSubnet));
        assert_eq!(subnet.free(), 3);
        assert_eq!(subnet.take_addresses(3).map(|taken| taken.len()), Ok(3));
    }

    #[test]
    fn a_prefix_needs_a_whole_aligned_block() {
        let mut subnet = subnet(24);
        // The first and the last of 16 blocks hold addresses of EC2's own.
        assert_eq!(subnet.free_blocks(), 14);
        assert_eq!(subnet.take_prefixes(1).unwrap().first().map(ToString::to_string).as_deref(), Some("10.8.1.16/28"));
        let before = subnet.free();
        subnet.fragment(1);
        assert_eq!((subnet.free_blocks(), before - subnet.free()), (1, 12));
        assert_eq!(subnet.take_prefixes(2), Err(Refusal::InsufficientCidrBlocks));
        assert_eq!(subnet.take_prefixes(1).map(|taken| taken.len()), Ok(1));
        assert_eq!(subnet.take_prefixes(1), Err(Refusal::InsufficientCidrBlocks));
        assert!(subnet.take_addresses(100).is_ok(), "fragmented, not full");
    }

    #[test]
    fn what_is_given_back_is_free_again() {
        let mut subnet = subnet(24);
        let free = (subnet.free(), subnet.free_blocks());
        let prefix = subnet.take_prefixes(1).unwrap()[0];
        let address = subnet.take_addresses(1).unwrap()[0];
        subnet.give_back(prefix);
        subnet.give_back(address);
        assert_eq!((subnet.free(), subnet.free_blocks()), free);
        let kept = subnet.take_addresses(2).unwrap();
        subnet.leave_free(0);
        subnet.free_others(kept);
        assert_eq!(subnet.free(), free.0 - 2);
    }
}
