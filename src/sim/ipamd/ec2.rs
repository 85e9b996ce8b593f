//! EC2 as far as ipamd calls it: subnets, the ENIs of this instance, refusals. What is here survives ipamd.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::cidr::Cidr;
use super::datastore::{Addresses, Eni};
use super::subnet::{Refusal, Subnet};
use crate::sim::imds::NetworkTree;

/// A call, by its name in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// `AssignPrivateIpAddresses`.
    Assign,
    /// `UnassignPrivateIpAddresses`.
    Unassign,
    /// `CreateNetworkInterface`.
    Create,
    /// `AttachNetworkInterface`.
    Attach,
    /// `ModifyNetworkInterfaceAttribute`.
    Modify,
    /// `DetachNetworkInterface`.
    Detach,
    /// `DeleteNetworkInterface`.
    Delete,
    /// `DescribeNetworkInterfaces`.
    Describe,
    /// `waitForENIAndIPsAttached`: no call of EC2, but measured like one.
    Wait,
}

impl Api {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Assign => "AssignPrivateIpAddresses",
            Self::Unassign => "UnassignPrivateIpAddresses",
            Self::Create => "CreateNetworkInterface",
            Self::Attach => "AttachNetworkInterface",
            Self::Modify => "ModifyNetworkInterfaceAttribute",
            Self::Detach => "DetachNetworkInterface",
            Self::Delete => "DeleteNetworkInterface",
            Self::Describe => "DescribeNetworkInterfaces",
            Self::Wait => "waitForENIAndIPsAttached",
        }
    }
}

/// An ENI of this instance.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) card: u32,
    pub(super) device: u32,
    pub(super) trunk: bool,
    pub(super) excluded: bool,
    pub(super) subnet: String,
    /// Its own, which no pod gets.
    pub(super) address: Cidr,
    pub(super) cidrs: Vec<Cidr>,
    pub(super) since: Timestamp,
}

impl Attached {
    pub(super) fn is_primary(&self) -> bool {
        self.card == 0 && self.device == 0
    }

    /// As ipamd writes it down.
    pub(super) fn for_datastore(&self, id: &str) -> Eni {
        let route_table = match (self.card, self.device) {
            (0, 0) => 254,
            (0, device) => device + 1,
            (card, device) => 10_000 + 100 * card + device,
        };
        Eni {
            id: id.to_owned(),
            primary: self.is_primary(),
            trunk: self.trunk,
            excluded: self.excluded,
            device: self.device,
            route_table,
            subnet: self.subnet.clone(),
            since: self.since,
            cidrs: self.cidrs.iter().map(|cidr| (cidr.to_string(), (*cidr, Addresses::new()))).collect(),
        }
    }
}

/// A new ENI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) card: u32,
    /// Addresses, or prefixes.
    pub(super) slots: i64,
    pub(super) prefixes: bool,
    /// Refused with the generic code if the subnet is full.
    pub(super) custom_networking: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Ec2 {
    pub(super) subnets: Vec<Subnet>,
    pub(super) enis: BTreeMap<String, Attached>,
    /// Calls that are refused whatever the subnet has.
    pub(super) refused: BTreeMap<Api, Refusal>,
    made: u32,
}

impl Ec2 {
    pub(super) fn new(subnets: Vec<Subnet>) -> Self {
        Self { subnets, enis: BTreeMap::new(), refused: BTreeMap::new(), made: 0 }
    }

    pub(super) fn check(&self, api: Api) -> Result<(), Refusal> {
        self.refused.get(&api).map_or(Ok(()), |refusal| Err(*refusal))
    }

    /// The primary ENI's subnet.
    pub(super) fn home(&self) -> String {
        let primary = self.enis.values().find(|eni| eni.is_primary()).map(|eni| eni.subnet.clone());
        primary.or_else(|| self.subnets.first().map(|subnet| subnet.id().to_owned())).unwrap_or_default()
    }

    /// All subnets, the one with most free addresses first.
    pub(super) fn by_free(&self) -> Vec<String> {
        let mut subnets: Vec<&Subnet> = self.subnets.iter().collect();
        subnets.sort_by_key(|subnet| std::cmp::Reverse(subnet.free()));
        subnets.into_iter().map(|subnet| subnet.id().to_owned()).collect()
    }

    pub(super) fn subnet(&mut self, id: &str) -> Option<&mut Subnet> {
        self.subnets.iter_mut().find(|subnet| subnet.id() == id)
    }

    /// Creates an ENI and attaches it.
    pub(super) fn create(&mut self, subnet: &str, wanted: Wanted, at: Timestamp) -> Result<String, Refusal> {
        self.check(Api::Create)?;
        let network = self.subnet(subnet).ok_or(Refusal::InsufficientFreeAddressesInSubnet)?;
        let address = network.take_addresses(1)?.into_iter().next();
        let address = address.ok_or(Refusal::InsufficientFreeAddressesInSubnet)?;
        let cidrs =
            if wanted.prefixes { network.take_prefixes(wanted.slots) } else { network.take_addresses(wanted.slots) };
        let cidrs = cidrs.map_err(|refusal| {
            network.give_back(address);
            let generic = wanted.prefixes && wanted.custom_networking;
            if generic { Refusal::InvalidParameterValue } else { refusal }
        })?;
        Ok(self.attach(wanted.card, subnet, address, cidrs, at))
    }

    /// Attaches an ENI with what it has been given.
    pub(super) fn attach(&mut self, card: u32, subnet: &str, address: Cidr, cidrs: Vec<Cidr>, at: Timestamp) -> String {
        // Device 0 of the other cards is the card's own.
        let first = u32::from(card > 0);
        let taken: Vec<u32> = self.enis.values().filter(|eni| eni.card == card).map(|eni| eni.device).collect();
        let device = (first..u32::MAX).find(|device| !taken.contains(device)).unwrap_or(first);
        self.made += 1;
        let id = format!("eni-0123456789abcd{:03x}", 0xe00 + self.made);
        let subnet = subnet.to_owned();
        let eni = Attached { card, device, trunk: false, excluded: false, subnet, address, cidrs, since: at };
        self.enis.insert(id.clone(), eni);
        id
    }

    /// Gives an ENI more addresses or prefixes: all that are asked for, or none.
    pub(super) fn assign(&mut self, eni: &str, count: i64, prefixes: bool) -> Result<Vec<Cidr>, Refusal> {
        self.check(Api::Assign)?;
        let Some(attached) = self.enis.get_mut(eni) else { return Err(Refusal::UnauthorizedOperation) };
        let subnet = self.subnets.iter_mut().find(|subnet| subnet.id() == attached.subnet);
        let subnet = subnet.ok_or(Refusal::InsufficientFreeAddressesInSubnet)?;
        let cidrs = if prefixes { subnet.take_prefixes(count) } else { subnet.take_addresses(count) }?;
        attached.cidrs.extend(&cidrs);
        Ok(cidrs)
    }

    pub(super) fn unassign(&mut self, eni: &str, cidr: Cidr) {
        let Some(attached) = self.enis.get_mut(eni) else { return };
        attached.cidrs.retain(|held| *held != cidr);
        let subnet = attached.subnet.clone();
        if let Some(subnet) = self.subnet(&subnet) {
            subnet.give_back(cidr);
        }
    }

    /// Detaches an ENI and deletes it.
    pub(super) fn remove(&mut self, eni: &str) {
        let Some(attached) = self.enis.remove(eni) else { return };
        if let Some(subnet) = self.subnet(&attached.subnet) {
            attached.cidrs.iter().chain([&attached.address]).for_each(|cidr| subnet.give_back(*cidr));
        }
    }

    /// The ENI that carries an address.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.enis.values().any(|eni| eni.cidrs.iter().any(|cidr| cidr.contains(address)))
    }

    /// What IMDS tells of the ENIs. What there is nothing of has no item.
    pub(super) fn network_tree(&self) -> NetworkTree {
        let mut tree = NetworkTree::new();
        for (id, eni) in &self.enis {
            // The ids count up, which makes a hardware address out of each.
            let number = id.get(id.len().saturating_sub(3)..).and_then(|end| u16::from_str_radix(end, 16).ok());
            let [high, low] = (0x1000 + number.unwrap_or_default().saturating_sub(0xe00)).to_be_bytes();
            let mut tell = |item: &str, text: String| {
                if !text.is_empty() {
                    tree.insert(format!("0a:00:00:00:{high:02x}:{low:02x}/{item}"), text);
                }
            };
            let (prefixes, single): (Vec<&Cidr>, Vec<&Cidr>) =
                eni.cidrs.iter().filter(|cidr| cidr.is_ipv4()).partition(|cidr| cidr.is_prefix());
            let own = std::iter::once(&eni.address);
            let addresses: Vec<String> = own.chain(single).map(|cidr| cidr.first().to_string()).collect();
            let prefixes: Vec<String> = prefixes.into_iter().map(Cidr::to_string).collect();
            let subnet = self.subnets.iter().find(|subnet| subnet.id() == eni.subnet);
            tell("interface-id", id.clone());
            tell("device-number", eni.device.to_string());
            tell("network-card", if eni.card > 0 { eni.card.to_string() } else { String::new() });
            tell("subnet-id", eni.subnet.clone());
            tell("subnet-ipv4-cidr-block", subnet.map(Subnet::block).unwrap_or_default());
            tell("local-ipv4s", addresses.join("\n"));
            tell("ipv4-prefix", prefixes.join("\n"));
        }
        tree
    }

    /// What this node holds of a subnet.
    pub(super) fn held_of(&self, subnet: &str) -> Vec<Cidr> {
        let enis = self.enis.values().filter(|eni| eni.subnet == subnet);
        enis.flat_map(|eni| eni.cidrs.iter().copied().chain([eni.address])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ec2(len: u8) -> Ec2 {
        Ec2::new(vec![Subnet::new("subnet-a", "10.8.1.0".parse().unwrap(), len)])
    }

    fn wanted(slots: i64, prefixes: bool) -> Wanted {
        Wanted { card: 0, slots, prefixes, custom_networking: false }
    }

    #[test]
    fn a_refused_eni_leaves_no_trace_in_its_subnet() {
        let mut ec2 = ec2(28);
        for (wanted, refusal) in [
            (wanted(11, false), Refusal::InsufficientFreeAddressesInSubnet),
            (wanted(1, true), Refusal::InsufficientCidrBlocks),
            (Wanted { custom_networking: true, ..wanted(1, true) }, Refusal::InvalidParameterValue),
        ] {
            assert_eq!(ec2.create("subnet-a", wanted, Timestamp::UNIX_EPOCH), Err(refusal));
            assert_eq!((ec2.subnets[0].free(), ec2.enis.len()), (11, 0));
        }
        ec2.refused.insert(Api::Create, Refusal::RequestLimitExceeded);
        let throttled = ec2.create("subnet-a", wanted(1, false), Timestamp::UNIX_EPOCH);
        assert_eq!(throttled, Err(Refusal::RequestLimitExceeded));
    }

    #[test]
    fn a_removed_eni_gives_everything_back_and_frees_its_device() {
        let mut ec2 = ec2(24);
        let free = ec2.subnets[0].free();
        let ids: Vec<String> =
            (0..3).map(|_| ec2.create("subnet-a", wanted(9, false), Timestamp::UNIX_EPOCH).unwrap()).collect();
        assert_eq!(free - ec2.subnets[0].free(), 30);
        let devices = |ec2: &Ec2| ec2.enis.values().map(|eni| eni.device).collect::<Vec<_>>();
        assert_eq!(devices(&ec2), [0, 1, 2]);
        ec2.remove(&ids[1]);
        assert_eq!(free - ec2.subnets[0].free(), 20);
        ec2.create("subnet-a", wanted(0, false), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(devices(&ec2), [0, 2, 1]);
        assert_eq!(ec2.held_of("subnet-a").len(), 21);
    }
}
