//! What this node holds of each subnet. What is free there cannot be known from a node; only a refusal says that nothing is.

use std::collections::BTreeMap;

use super::pool::Pool;

/// This node's part of one subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetShare {
    /// Addresses for pods.
    pub pool: i64,
    /// Addresses of the interfaces themselves.
    pub interfaces: i64,
}

/// The node's part of each subnet by its id; empty where the source tells no subnets (CNI before v1.22, metrics). With
/// prefixes of IPv6 only the interfaces are counted.
pub fn shares(pool: &Pool) -> BTreeMap<String, SubnetShare> {
    let mut shares = BTreeMap::<String, SubnetShare>::new();
    for interface in &pool.interfaces {
        if let Some(subnet) = &interface.subnet_id {
            let share = shares.entry(subnet.clone()).or_default();
            share.interfaces += 1;
            share.pool += if pool.ipv6 { 0 } else { interface.attached };
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::pool::Interface;

    fn interface(id: &str, subnet: Option<&str>, attached: i64) -> Interface {
        Interface {
            id: id.into(),
            subnet_id: subnet.map(str::to_owned),
            primary: false,
            total: attached,
            assigned: 0,
            cooldown: 0,
            attached,
        }
    }

    #[test]
    fn each_subnet_has_its_interfaces_and_their_addresses() {
        let interfaces =
            vec![interface("a", Some("s1"), 4), interface("b", Some("s2"), 16), interface("c", Some("s1"), 1)];
        let pool = Pool { interfaces, ..Pool::default() };
        let expected = [
            ("s1".to_owned(), SubnetShare { pool: 5, interfaces: 2 }),
            ("s2".to_owned(), SubnetShare { pool: 16, interfaces: 1 }),
        ];
        assert_eq!(shares(&pool), BTreeMap::from(expected));
    }

    #[test]
    fn interfaces_without_a_subnet_are_left_out() {
        let pool = Pool { interfaces: vec![interface("a", None, 4)], ..Pool::default() };
        assert!(shares(&pool).is_empty());
    }
}
