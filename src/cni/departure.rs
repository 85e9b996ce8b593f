//! What becomes of the addresses of a node that is cordoned, which is one that is about to go: what ipamd gives back, and
//! whether it leaves network interfaces alone.
//!
//! On a cordoned node ipamd detaches none. If it does all the same, an instance that dies between the two steps of it leaves
//! the interface behind, with its addresses (amazon-vpc-cni-k8s #1223).

use super::counters::Counters;
use super::pool::Pool;

/// Since the cordon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// Addresses of subnets that the node held when it was cordoned, those of its interfaces included.
    pub held: i64,
    /// Those of them that it holds no longer.
    pub returned: i64,
    /// Network interfaces that ipamd has detached since.
    pub detached: u64,
}

impl Departure {
    /// Takes up a reading of a node that is `cordoned` or not. The pool is that of introspection or none, since sums of
    /// different sources cannot be compared.
    pub fn step(last: Option<Self>, cordoned: bool, pool: Option<&Pool>, counted: Option<Counters>) -> Option<Self> {
        if !cordoned {
            return None;
        }
        let now = pool.map(|pool| pool.interfaces.iter().map(|one| one.attached).fold(pool.enis, i64::saturating_add));
        let detached = counted.map_or(0, |counters| counters.detachments);
        let Some(last) = last else { return now.map(|held| Self { held, returned: 0, detached: 0 }) };
        Some(Self {
            returned: now.map_or(last.returned, |now| (last.held - now).max(0)),
            detached: last.detached.saturating_add(detached),
            ..last
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::pool::Interface;

    fn pool(attached: &[i64]) -> Pool {
        let interface = |attached: &i64| Interface {
            id: String::new(),
            subnet_id: None,
            primary: false,
            total: *attached,
            assigned: 0,
            cooldown: 0,
            attached: *attached,
        };
        let enis = i64::try_from(attached.len()).unwrap();
        Pool { interfaces: attached.iter().map(interface).collect(), enis, ..Pool::default() }
    }

    #[test]
    fn what_is_given_back_after_a_cordon_is_counted_and_so_is_a_detachment() {
        let detached = |detachments| Some(Counters { detachments, ..Counters::default() });
        assert_eq!(Departure::step(None, false, Some(&pool(&[9])), None), None);
        let first = Departure::step(None, true, Some(&pool(&[9, 9])), detached(1));
        assert_eq!(first, Some(Departure { held: 20, returned: 0, detached: 0 }), "what was before does not count");
        let then = Departure::step(first, true, Some(&pool(&[9, 3])), detached(0));
        assert_eq!(then, Some(Departure { held: 20, returned: 6, detached: 0 }));
        let then = Departure::step(then, true, None, detached(1));
        assert_eq!(then, Some(Departure { held: 20, returned: 6, detached: 1 }));
        assert_eq!(Departure::step(then, false, Some(&pool(&[9])), None), None, "the cordon is gone");
    }
}
