//! ipamd's datastore of one network card: ENIs, what is attached to them, who holds which address. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::cidr::Cidr;

/// An ENI younger than this is not removed.
const TOO_YOUNG: Duration = Duration::from_secs(60);

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) container: String,
    /// Network interfaces of the pod.
    pub(super) interfaces: u32,
}

/// An address that has been handed out at least once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) holder: Option<Holder>,
    /// Not reset on release.
    pub(super) assigned: Option<Timestamp>,
    pub(super) unassigned: Option<Timestamp>,
}

impl Address {
    /// Free, but not to be handed out yet. The very end of the period still counts.
    fn is_cooling(&self, at: Timestamp, cooldown: Duration) -> bool {
        let cooldown = SignedDuration::try_from(cooldown).unwrap_or(SignedDuration::MAX);
        self.holder.is_none() && self.unassigned.is_some_and(|since| at.duration_since(since) <= cooldown)
    }
}

/// Addresses of a CIDR, filled as they are handed out; what is not there was never used or has been scanned away.
pub(super) type Addresses = BTreeMap<IpAddr, Address>;

/// One ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Eni {
    pub(super) id: String,
    pub(super) primary: bool,
    pub(super) trunk: bool,
    pub(super) excluded: bool,
    pub(super) device: u32,
    pub(super) route_table: u32,
    pub(super) subnet: String,
    pub(super) since: Timestamp,
    /// By their text, as the document sorts them.
    pub(super) cidrs: BTreeMap<String, (Cidr, Addresses)>,
}

impl Eni {
    fn held(&self) -> usize {
        self.cidrs.values().map(|(_, addresses)| held(addresses)).sum()
    }

    fn size(&self) -> i64 {
        self.cidrs.values().map(|(cidr, _)| cidr.size()).sum()
    }
}

fn held(addresses: &Addresses) -> usize {
    addresses.values().filter(|address| address.holder.is_some()).count()
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Sums over what can carry pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    /// Addresses.
    pub(super) total: i64,
    /// Of these, held by pods.
    pub(super) assigned: i64,
    /// Of these, free but in their cooldown.
    pub(super) cooling: i64,
    /// CIDRs; in prefix delegation, prefixes.
    pub(super) cidrs: i64,
    /// CIDRs without a pod.
    pub(super) empty_cidrs: i64,
}

/// The targets that an ENI may be needed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reserve {
    pub(super) warm_ip: i64,
    pub(super) minimum_ip: i64,
    pub(super) warm_prefix: i64,
}

/// An address that changed hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) eni: String,
    pub(super) cidr: Cidr,
    pub(super) address: IpAddr,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Datastore {
    pub(super) enis: BTreeMap<String, Eni>,
    /// `TotalIPs`: counted, not summed up, and wrong after an ENI was removed by force.
    pub(super) total: i64,
    /// `AssignedIPs`.
    pub(super) assigned: i64,
    prefixes: bool,
    cooldown: Duration,
}

impl Datastore {
    /// An empty one. `prefixes`: pods get their addresses from prefixes.
    pub(super) fn new(prefixes: bool, cooldown: Duration) -> Self {
        Self { enis: BTreeMap::new(), total: 0, assigned: 0, prefixes, cooldown }
    }

    pub(super) fn add_eni(&mut self, eni: Eni) {
        self.total += eni.size();
        self.assigned += count(eni.held());
        self.enis.insert(eni.id.clone(), eni);
    }

    /// Nothing happens if it is there already, or the ENI is not.
    pub(super) fn add_cidr(&mut self, eni: &str, cidr: Cidr) {
        let Some(eni) = self.enis.get_mut(eni) else { return };
        if eni.cidrs.insert(cidr.to_string(), (cidr, Addresses::new())).is_none() {
            self.total += cidr.size();
        }
    }

    /// Takes back `count` CIDRs at most that no pod uses, cooling or not.
    pub(super) fn take_freeable(&mut self, wanted: i64) -> Vec<(String, Cidr)> {
        let mut taken = Vec::new();
        for eni in self.enis.values_mut().filter(|eni| !eni.excluded) {
            let left = usize::try_from(wanted).unwrap_or(0).saturating_sub(taken.len());
            let free = eni.cidrs.values().filter(|(cidr, addresses)| {
                cidr.is_ipv4() && cidr.is_prefix() == self.prefixes && held(addresses) == 0
            });
            let free: Vec<Cidr> = free.map(|(cidr, _)| *cidr).take(left).collect();
            for cidr in free {
                eni.cidrs.remove(&cidr.to_string());
                self.total -= cidr.size();
                taken.push((eni.id.clone(), cidr));
            }
        }
        taken
    }

    /// Takes out an ENI that nobody needs: old enough, no pod, nothing cooling, neither primary nor trunk, and not what
    /// keeps a target.
    pub(super) fn take_unneeded_eni(&mut self, reserve: Reserve, at: Timestamp) -> Option<Eni> {
        let id = self.enis.values().find(|eni| self.is_unneeded(eni, reserve, at))?.id.clone();
        let eni = self.enis.remove(&id)?;
        self.total -= eni.size();
        Some(eni)
    }

    fn is_unneeded(&self, eni: &Eni, reserve: Reserve, at: Timestamp) -> bool {
        let young = SignedDuration::try_from(TOO_YOUNG).unwrap_or(SignedDuration::MAX);
        let cooling =
            || eni.cidrs.values().any(|(_, all)| all.values().any(|address| address.is_cooling(at, self.cooldown)));
        if eni.primary || eni.trunk || at.duration_since(eni.since) < young || eni.held() > 0 || cooling() {
            return false;
        }
        let mut others = self.clone();
        others.enis.remove(&eni.id);
        let others = others.stats(at);
        let keeps_warm = reserve.warm_ip > 0 && others.total - others.assigned < reserve.warm_ip;
        let keeps_minimum = reserve.minimum_ip > 0 && others.total < reserve.minimum_ip;
        let keeps_prefix = self.prefixes && reserve.warm_prefix > 0 && others.empty_cidrs < reserve.warm_prefix;
        !keeps_warm && !keeps_minimum && !keeps_prefix
    }

    /// Takes out an ENI that is gone with its pods. The total goes down twice, as in ipamd.
    pub(super) fn force_out(&mut self, id: &str) -> Option<(Eni, usize)> {
        let eni = self.enis.remove(id)?;
        let pods = eni.held();
        self.assigned -= count(pods);
        self.total -= eni.size() * if pods > 0 { 2 } else { 1 };
        Some((eni, pods))
    }

    /// Hands out an address. The walk over ENIs and CIDRs begins anywhere, as it does over Go's maps; `random` says where.
    pub(super) fn assign(
        &mut self,
        holder: &Holder,
        at: Timestamp,
        mut random: impl FnMut() -> usize,
    ) -> Option<Moved> {
        let (prefixes, cooldown) = (self.prefixes, self.cooldown);
        for eni in rotated(&self.enis.keys().cloned().collect::<Vec<_>>(), random()) {
            let Some(eni) = self.enis.get_mut(&eni).filter(|eni| !eni.excluded) else { continue };
            for key in rotated(&eni.cidrs.keys().cloned().collect::<Vec<_>>(), random()) {
                let Some((cidr, addresses)) = eni.cidrs.get_mut(&key) else { continue };
                if cidr.is_ipv4() && cidr.is_prefix() != prefixes {
                    continue;
                }
                let Some(address) = unused(*cidr, addresses, at, cooldown) else { continue };
                let entry = Address { holder: Some(holder.clone()), assigned: Some(at), unassigned: None };
                addresses.insert(address, entry);
                self.assigned += 1;
                return Some(Moved { eni: eni.id.clone(), cidr: *cidr, address });
            }
        }
        None
    }

    /// Writes down an allocation of an earlier process, wherever its address is.
    pub(super) fn restore(&mut self, address: IpAddr, holder: &Holder, at: Timestamp) -> Option<Moved> {
        let around = |eni: &Eni| eni.cidrs.values().find(|(cidr, _)| cidr.contains(address)).map(|(cidr, _)| *cidr);
        let (eni, cidr) = self.enis.values_mut().find_map(|eni| around(eni).map(|cidr| (eni, cidr)))?;
        let (_, addresses) = eni.cidrs.get_mut(&cidr.to_string())?;
        addresses.insert(address, Address { holder: Some(holder.clone()), assigned: Some(at), unassigned: None });
        self.assigned += 1;
        Some(Moved { eni: eni.id.clone(), cidr, address })
    }

    /// Takes an address back from a pod's sandbox; its cooldown begins.
    pub(super) fn release(&mut self, container: &str, at: Timestamp) -> Option<Moved> {
        for eni in self.enis.values_mut() {
            for (cidr, addresses) in eni.cidrs.values_mut() {
                let held = addresses
                    .iter_mut()
                    .find(|(_, entry)| entry.holder.as_ref().is_some_and(|holder| holder.container == container));
                if let Some((address, entry)) = held {
                    entry.holder = None;
                    entry.unassigned = Some(at);
                    self.assigned -= 1;
                    return Some(Moved { eni: eni.id.clone(), cidr: *cidr, address: *address });
                }
            }
        }
        None
    }

    /// What the pool manager goes by: ENIs that are not excluded, CIDRs of the mode.
    pub(super) fn stats(&self, at: Timestamp) -> Stats {
        let mut stats = Stats::default();
        for (cidr, addresses) in self.usable() {
            let assigned = held(addresses);
            stats.total += cidr.size();
            stats.assigned += count(assigned);
            stats.cooling += count(addresses.values().filter(|entry| entry.is_cooling(at, self.cooldown)).count());
            stats.cidrs += 1;
            stats.empty_cidrs += i64::from(assigned == 0);
        }
        stats
    }

    /// Until the next address comes out of its cooldown.
    pub(super) fn next_free(&self, at: Timestamp) -> Option<SignedDuration> {
        let cooldown = SignedDuration::try_from(self.cooldown).unwrap_or(SignedDuration::MAX);
        let cooling =
            self.usable().flat_map(|(_, all)| all.values()).filter(|entry| entry.is_cooling(at, self.cooldown));
        cooling.filter_map(|entry| Some(cooldown - at.duration_since(entry.unassigned?))).min()
    }

    /// ENIs that the pool manager fills, with the number of their CIDRs.
    pub(super) fn fillable(&self, slots: i64, skip_primary: bool) -> Vec<(String, i64)> {
        let enis = self.enis.values().filter(|eni| !(eni.trunk || eni.excluded || skip_primary && eni.primary));
        let enis = enis.map(|eni| (eni.id.clone(), count(eni.cidrs.len())));
        enis.filter(|(_, cidrs)| *cidrs < slots).collect()
    }

    /// An ENI without pods exists, apart from the primary and the trunk.
    pub(super) fn has_eni_without_pods(&self) -> bool {
        self.enis.values().any(|eni| !eni.primary && !eni.trunk && eni.held() == 0)
    }

    pub(super) fn has_trunk(&self) -> bool {
        self.enis.values().any(|eni| eni.trunk)
    }

    pub(super) fn excluded(&self) -> i64 {
        count(self.enis.values().filter(|eni| eni.excluded).count())
    }

    /// IPv4 CIDRs on all ENIs, and how many of them are prefixes.
    pub(super) fn cidrs(&self) -> (i64, i64) {
        let all = || self.enis.values().flat_map(|eni| eni.cidrs.values()).filter(|(cidr, _)| cidr.is_ipv4());
        (count(all().count()), count(all().filter(|(cidr, _)| cidr.is_prefix()).count()))
    }

    fn usable(&self) -> impl Iterator<Item = &(Cidr, Addresses)> {
        let cidrs = self.enis.values().filter(|eni| !eni.excluded).flat_map(|eni| eni.cidrs.values());
        cidrs.filter(|(cidr, _)| !cidr.is_ipv4() || cidr.is_prefix() == self.prefixes)
    }
}

/// An address to hand out. Scanning forgets every entry whose cooldown is over and takes the first of them before an
/// address that was never used.
fn unused(cidr: Cidr, addresses: &mut Addresses, at: Timestamp, cooldown: Duration) -> Option<IpAddr> {
    let mut rested = None;
    addresses.retain(|address, entry| {
        let over = entry.holder.is_none() && !entry.is_cooling(at, cooldown);
        if over {
            rested = rested.or(Some(*address));
        }
        !over
    });
    rested.or_else(|| cidr.addresses().find(|address| !addresses.contains_key(address)))
}

fn rotated(keys: &[String], by: usize) -> Vec<String> {
    let (tail, head) = keys.split_at(by.checked_rem(keys.len()).unwrap_or(0));
    head.iter().chain(tail).cloned().collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(30);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_777_885_200 + second).unwrap()
    }

    fn cidr(text: &str) -> Cidr {
        let (first, len) = text.split_once('/').unwrap();
        Cidr::new(first.parse().unwrap(), len.parse().unwrap())
    }

    fn eni(id: &str, cidrs: &[&str]) -> Eni {
        Eni {
            id: id.into(),
            primary: id == "eni-1",
            trunk: false,
            excluded: false,
            device: 0,
            route_table: 254,
            subnet: "subnet-a".into(),
            since: at(-600),
            cidrs: cidrs.iter().map(|text| ((*text).to_owned(), (cidr(text), Addresses::new()))).collect(),
        }
    }

    fn store(prefixes: bool, enis: &[(&str, &[&str])]) -> Datastore {
        let mut store = Datastore::new(prefixes, COOLDOWN);
        for (id, cidrs) in enis {
            store.add_eni(eni(id, cidrs));
        }
        store
    }

    fn pod(name: &str) -> Holder {
        Holder { namespace: "demo".into(), name: name.into(), container: name.into(), interfaces: 1 }
    }

    fn assign(store: &mut Datastore, name: &str, second: i64) -> Option<String> {
        store.assign(&pod(name), at(second), || 0).map(|moved| moved.address.to_string())
    }

    fn sums(store: &Datastore, second: i64) -> (i64, i64, i64) {
        let stats = store.stats(at(second));
        (stats.total, stats.assigned, stats.cooling)
    }

    #[test]
    fn an_address_rests_for_its_cooldown_and_one_moment_longer() {
        let mut store = store(false, &[("eni-1", &["10.8.1.20/32"])]);
        assert_eq!(assign(&mut store, "a", 0).as_deref(), Some("10.8.1.20"));
        assert_eq!(assign(&mut store, "b", 1), None);
        store.release("a", at(10)).unwrap();
        assert_eq!((sums(&store, 10), store.next_free(at(10))), ((1, 0, 1), Some(SignedDuration::from_secs(30))));
        assert_eq!(assign(&mut store, "b", 40), None, "the 30th second still counts");
        assert_eq!(sums(&store, 40), (1, 0, 1));
        assert_eq!((sums(&store, 41), store.next_free(at(41))), ((1, 0, 0), None));
        assert_eq!(assign(&mut store, "b", 41).as_deref(), Some("10.8.1.20"));
        assert!(store.release("a", at(42)).is_none(), "a sandbox that holds nothing");
    }

    #[test]
    fn entries_appear_when_handed_out_and_go_at_the_next_scan_of_their_cidr() {
        let mut store = store(true, &[("eni-1", &["10.8.2.16/28"])]);
        let entries = |store: &Datastore| store.enis["eni-1"].cidrs["10.8.2.16/28"].1.len();
        assert_eq!((entries(&store), sums(&store, 0)), (0, (16, 0, 0)));
        assert_eq!(assign(&mut store, "a", 0).as_deref(), Some("10.8.2.16"));
        assert_eq!(assign(&mut store, "b", 0).as_deref(), Some("10.8.2.17"));
        store.release("a", at(1)).unwrap();
        store.release("b", at(1)).unwrap();
        // Not used yet comes before still cooling.
        assert_eq!(assign(&mut store, "c", 2).as_deref(), Some("10.8.2.18"));
        assert_eq!((entries(&store), sums(&store, 60)), (3, (16, 1, 0)), "stale entries are free");
        assert_eq!(assign(&mut store, "d", 60).as_deref(), Some("10.8.2.16"));
        assert_eq!(entries(&store), 2, "the scan forgot the other one");
        store.release("c", at(61)).unwrap();
        assert_eq!(assign(&mut store, "e", 120).as_deref(), Some("10.8.2.18"), "rested before forgotten");
    }

    #[test]
    fn only_cidrs_of_the_mode_on_enis_that_are_not_excluded_carry_pods() {
        let mut store = store(true, &[("eni-1", &["10.8.1.20/32"]), ("eni-2", &["10.8.2.16/28"])]);
        assert_eq!((sums(&store, 0), store.total), ((16, 0, 0), 17));
        assert_eq!(assign(&mut store, "a", 0).as_deref(), Some("10.8.2.16"));
        store.enis.get_mut("eni-2").unwrap().excluded = true;
        assert_eq!((sums(&store, 0), store.assigned), ((0, 0, 0), 1));
        assert_eq!(assign(&mut store, "b", 0), None);
        assert!(store.fillable(9, false).iter().all(|(id, _)| id == "eni-1"));
        assert!(store.fillable(9, true).is_empty());
    }

    #[test]
    fn an_eni_removed_by_force_with_its_pods_is_subtracted_twice() {
        let mut store = store(false, &[("eni-1", &[]), ("eni-2", &["10.8.1.60/32", "10.8.1.61/32"])]);
        assign(&mut store, "a", 0).unwrap();
        assert_eq!(store.force_out("eni-2").map(|(_, pods)| pods), Some(1));
        assert_eq!((store.total, store.assigned, sums(&store, 0)), (-2, 0, (0, 0, 0)));
    }

    #[rstest]
    #[case::nothing_set(Reserve::default(), true)]
    #[case::another_two_are_warm(Reserve { warm_ip: 2, ..Reserve::default() }, true)]
    #[case::needed_as_warm(Reserve { warm_ip: 3, ..Reserve::default() }, false)]
    #[case::another_two_are_there(Reserve { minimum_ip: 2, ..Reserve::default() }, true)]
    #[case::needed_for_the_minimum(Reserve { minimum_ip: 3, ..Reserve::default() }, false)]
    #[case::prefixes_mean_nothing_here(Reserve { warm_prefix: 9, ..Reserve::default() }, true)]
    fn an_eni_is_removed_unless_a_target_needs_it(#[case] reserve: Reserve, #[case] removed: bool) {
        let mut store = store(false, &[("eni-1", &["10.8.1.20/32", "10.8.1.21/32"]), ("eni-2", &["10.8.1.60/32"])]);
        let taken = store.take_unneeded_eni(reserve, at(0));
        assert_eq!(taken.map(|eni| eni.id), removed.then(|| "eni-2".into()));
        assert_eq!(store.total, if removed { 2 } else { 3 });
    }

    #[test]
    fn an_eni_that_is_young_used_cooling_primary_or_a_trunk_stays() {
        let fresh = || store(false, &[("eni-1", &["10.8.1.20/32"]), ("eni-2", &["10.8.1.60/32"])]);
        let taken = |store: &mut Datastore, second| store.take_unneeded_eni(Reserve::default(), at(second)).is_some();
        let mut young = fresh();
        young.enis.get_mut("eni-2").unwrap().since = at(0);
        assert!(!taken(&mut young, 59) && taken(&mut young, 60));
        let mut trunk = fresh();
        trunk.enis.get_mut("eni-2").unwrap().trunk = true;
        assert!(!taken(&mut trunk, 0));
        let mut used = fresh();
        used.assign(&pod("a"), at(0), || 1).unwrap();
        assert!(!taken(&mut used, 100));
        used.release("a", at(100)).unwrap();
        assert!(!taken(&mut used, 130) && taken(&mut used, 131));
        assert!(!taken(&mut used, 200), "only the primary is left");
    }

    #[test]
    fn cidrs_are_given_back_only_if_no_pod_uses_them() {
        let mut store = store(false, &[("eni-1", &["10.8.1.20/32", "10.8.1.21/32"]), ("eni-2", &["10.8.1.60/32"])]);
        assign(&mut store, "a", 0).unwrap();
        let taken: Vec<String> = store.take_freeable(9).iter().map(|(_, cidr)| cidr.to_string()).collect();
        assert_eq!(taken, ["10.8.1.21/32", "10.8.1.60/32"]);
        assert_eq!((store.total, sums(&store, 0)), (1, (1, 1, 0)));
        assert!(store.take_freeable(0).is_empty());
    }

    #[test]
    fn ipv6_addresses_are_handed_out_in_order() {
        let mut store = store(false, &[("eni-1", &["2001:db8:7:1::/80"])]);
        assert_eq!(assign(&mut store, "a", 0).as_deref(), Some("2001:db8:7:1::"));
        assert_eq!(assign(&mut store, "b", 0).as_deref(), Some("2001:db8:7:1::1"));
        assert_eq!(store.total, 281_474_976_710_656);
    }

    #[test]
    fn pods_spread_and_pin_prefixes_after_a_scale_down() {
        let prefixes = ["10.8.2.16/28", "10.8.2.32/28", "10.8.2.48/28", "10.8.2.64/28"];
        let mut store = store(true, &[("eni-1", &prefixes)]);
        let mut turn = 0;
        for n in 0..40 {
            store
                .assign(&pod(&n.to_string()), at(0), || {
                    turn += 1;
                    turn / 2
                })
                .unwrap();
        }
        for n in 0..30 {
            store.release(&n.to_string(), at(1)).unwrap();
        }
        let stats = store.stats(at(60));
        assert_eq!((stats.assigned, stats.cidrs), (10, 4));
        assert!(stats.empty_cidrs < 3, "ten pods would fit on one prefix");
    }
}
