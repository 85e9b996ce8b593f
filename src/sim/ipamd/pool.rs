//! The pool manager's decisions: whether the pool is too low or too high, by how much, and what stands in the way of
//! growth. Pure; one network card at a time.

use std::time::Duration;

use super::datastore::{Reserve, Stats};
use super::settings::{PREFIX_SIZE, Settings};

/// Two halves of a pass of the pool manager, with its work in between.
pub(super) const HALF_PASS: Duration = Duration::from_millis(2_500);

/// CIDRs are given back no more often.
pub(super) const RETURN_INTERVAL: Duration = Duration::from_secs(30);

/// The datastore is compared with EC2 so long after the last change.
pub(super) const RECONCILE_INTERVAL: Duration = Duration::from_secs(60);

/// No growth for so long after the subnet was recognised as full.
pub(super) const REFUSAL_PAUSE: Duration = Duration::from_secs(120);

/// What a card's pool manager goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) stats: Stats,
    /// Prefix delegation is in effect.
    pub(super) prefixes: bool,
    /// Addresses or prefixes per ENI.
    pub(super) slots: i64,
    /// As ipamd read it when it started.
    pub(super) max_pods: i64,
    pub(super) warm_eni: i64,
    pub(super) warm_ip: i64,
    pub(super) minimum_ip: i64,
    pub(super) warm_prefix: i64,
}

impl Pool {
    /// `card`: on all but the first, the targets are fixed.
    pub(super) fn new(settings: &Settings, stats: Stats, card: u32, prefixes: bool, slots: i64, max_pods: i64) -> Self {
        let fixed = card > 0;
        Self {
            stats,
            prefixes,
            slots,
            max_pods,
            warm_eni: settings.warm_eni_target,
            warm_ip: if fixed { 1 } else { settings.warm_ip_target },
            minimum_ip: if fixed { 1 } else { settings.minimum_ip_target },
            warm_prefix: settings.warm_prefix_target,
        }
    }

    fn has_targets(&self) -> bool {
        self.warm_ip != 0 || self.minimum_ip != 0
    }

    /// What ipamd takes for free: cooling addresses are in it.
    fn available(&self) -> i64 {
        self.stats.total - self.stats.assigned
    }

    /// Slots that the IP targets lack.
    fn short(&self) -> i64 {
        let short = (self.warm_ip - self.available()).max(0).max(self.minimum_ip - self.stats.total);
        if self.prefixes { prefixes_for(short) } else { short }
    }

    /// Slots beyond the targets.
    pub(super) fn over(&self) -> i64 {
        let Stats { total, assigned, cidrs, empty_cidrs, .. } = self.stats;
        match (self.has_targets(), self.prefixes) {
            (true, false) => (self.available() - self.warm_ip).max(0).min(total - self.minimum_ip).max(0),
            (true, true) => {
                let beyond_warm = empty_cidrs.min(cidrs - prefixes_for(assigned + self.warm_ip)).max(0);
                beyond_warm.min(cidrs - prefixes_for(self.minimum_ip)).max(0)
            }
            (false, true) => (empty_cidrs - self.warm_prefix).max(0),
            // Single addresses are never given back.
            (false, false) => 0,
        }
    }

    pub(super) fn is_too_low(&self) -> bool {
        if self.stats.total >= self.max_pods {
            return false;
        }
        if self.has_targets() {
            return self.short() > 0;
        }
        let (warm, chunk) = if self.prefixes { (self.warm_prefix, PREFIX_SIZE) } else { (self.warm_eni, self.slots) };
        self.available() < chunk * warm || (warm == 0 && self.available() == 0)
    }

    /// An ENI may be looked for that is not needed any more; each is then judged by itself.
    pub(super) fn may_remove_eni(&self, one_is_without_pods: bool) -> bool {
        if self.has_targets() {
            return true;
        }
        let (warm, chunk) =
            if self.prefixes { (self.warm_prefix, PREFIX_SIZE * self.slots) } else { (self.warm_eni, self.slots) };
        self.available() >= (warm + 1) * chunk || (self.prefixes && one_is_without_pods)
    }

    /// Slots to ask for on an ENI that holds `attached` already.
    pub(super) fn ask(&self, attached: i64) -> i64 {
        let wanted = match (self.has_targets(), self.prefixes) {
            (true, false) => self.short(),
            (false, false) => self.slots,
            (true, true) => self.short().max(1),
            (false, true) => (self.warm_prefix - self.stats.empty_cidrs).max(1),
        };
        wanted.min(self.slots - attached).max(0)
    }

    /// What an ENI may be needed for.
    pub(super) fn reserve(&self) -> Reserve {
        Reserve { warm_ip: self.warm_ip, minimum_ip: self.minimum_ip, warm_prefix: self.warm_prefix }
    }
}

fn prefixes_for(addresses: i64) -> i64 {
    (addresses + PREFIX_SIZE - 1).div_euclid(PREFIX_SIZE)
}

/// Whether another ENI may be attached.
pub(super) fn has_room_for_eni(attached: i64, excluded: i64, eni_max: i64, trunk_is_awaited: bool) -> bool {
    attached - excluded < eni_max - i64::from(trunk_is_awaited) - excluded
}

/// Whether growth has to wait.
pub(super) fn is_growth_blocked(settings: &Settings, unschedulable: bool, since_refusal: Option<Duration>) -> bool {
    (unschedulable && !settings.manage_enis_non_schedulable)
        || settings.provisioning_disabled
        || since_refusal.is_some_and(|since| since < REFUSAL_PAUSE)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn pool(slots: i64, total: i64, assigned: i64) -> Pool {
        let stats = Stats { total, assigned, ..Stats::default() };
        Pool::new(&Settings::default(), stats, 0, false, slots, 1000)
    }

    fn prefixes(cidrs: i64, empty_cidrs: i64, assigned: i64) -> Pool {
        let stats = Stats { total: 16 * cidrs, assigned, cidrs, empty_cidrs, cooling: 0 };
        Pool { prefixes: true, stats, ..pool(9, 0, 0) }
    }

    /// m5.large: 9 addresses per ENI.
    #[rstest]
    #[case::an_empty_node_is_content(1, 9, 0, false)]
    #[case::one_pod_takes_from_the_warm_eni(1, 9, 1, true)]
    #[case::two_enis_carry_nine_pods(1, 18, 9, false)]
    #[case::the_tenth_wants_a_third(1, 18, 10, true)]
    #[case::without_a_warm_eni_the_last_address_is_waited_for(0, 9, 8, false)]
    #[case::and_then_it_is_too_late(0, 9, 9, true)]
    #[case::two_warm_enis(2, 18, 0, false)]
    #[case::two_warm_enis_and_a_pod(2, 18, 1, true)]
    fn warm_enis_keep_whole_enis_free(
        #[case] warm: i64,
        #[case] total: i64,
        #[case] assigned: i64,
        #[case] too_low: bool,
    ) {
        let pool = Pool { warm_eni: warm, ..pool(9, total, assigned) };
        assert_eq!(pool.is_too_low(), too_low);
        assert_eq!(pool.over(), 0, "single addresses are not given back");
    }

    #[rstest]
    // warm, minimum, total, assigned; short, over
    #[case::empty(5, 0, 0, 0, 5, 0)]
    #[case::content(5, 0, 7, 2, 0, 0)]
    #[case::one_short(5, 0, 7, 3, 1, 0)]
    #[case::over(5, 0, 18, 2, 0, 11)]
    #[case::the_minimum_counts_what_is_assigned(2, 10, 4, 4, 6, 0)]
    #[case::the_minimum_keeps_the_rest(2, 10, 12, 0, 0, 2)]
    #[case::the_minimum_alone_is_no_warm_pool(0, 10, 10, 10, 0, 0)]
    #[case::the_minimum_alone_gives_back_what_is_free(0, 10, 27, 10, 0, 17)]
    #[case::of_both_the_larger_lack_counts(3, 10, 9, 9, 3, 0)]
    fn ip_targets_count_addresses(
        #[case] warm_ip: i64,
        #[case] minimum_ip: i64,
        #[case] total: i64,
        #[case] assigned: i64,
        #[case] short: i64,
        #[case] over: i64,
    ) {
        let pool = Pool { warm_ip, minimum_ip, ..pool(100, total, assigned) };
        assert_eq!((pool.short(), pool.over(), pool.is_too_low()), (short, over, short > 0));
        assert_eq!(pool.ask(0), short);
    }

    #[rstest]
    // warm prefixes; prefixes, empty, assigned; too low, asked for, over
    #[case::fresh(1, 0, 0, 0, true, 1, 0)]
    #[case::one_is_free(1, 1, 1, 0, false, 1, 0)]
    #[case::a_pod_breaks_it(1, 1, 0, 1, true, 1, 0)]
    #[case::sixteen_free_on_two_are_enough(1, 2, 0, 16, false, 1, 0)]
    #[case::fifteen_are_not(1, 2, 0, 17, true, 1, 0)]
    #[case::three_empty_ones(1, 4, 3, 2, false, 1, 2)]
    #[case::none_wanted_and_none_free(0, 2, 0, 32, true, 1, 0)]
    #[case::none_wanted_and_one_free(0, 2, 0, 31, false, 1, 0)]
    #[case::two_at_once(3, 1, 1, 0, true, 2, 0)]
    fn warm_prefixes_count_blocks_of_sixteen(
        #[case] warm_prefix: i64,
        #[case] cidrs: i64,
        #[case] empty: i64,
        #[case] assigned: i64,
        #[case] too_low: bool,
        #[case] asked: i64,
        #[case] over: i64,
    ) {
        let pool = Pool { warm_prefix, ..prefixes(cidrs, empty, assigned) };
        assert_eq!((pool.is_too_low(), pool.ask(0), pool.over()), (too_low, asked, over));
    }

    #[rstest]
    // warm, minimum; prefixes, empty, assigned; short, over
    #[case::five_need_one_prefix(5, 0, 0, 0, 0, 1, 0)]
    #[case::seventeen_need_two(17, 0, 0, 0, 0, 2, 0)]
    #[case::the_minimum_rounds_up(0, 33, 1, 1, 0, 2, 0)]
    #[case::returns_what_nobody_needs(5, 0, 4, 3, 2, 0, 3)]
    #[case::returns_only_what_is_empty(5, 0, 4, 1, 6, 0, 1)]
    #[case::the_minimum_holds_two(5, 32, 4, 3, 2, 0, 2)]
    fn ip_targets_with_prefixes_round_up(
        #[case] warm_ip: i64,
        #[case] minimum_ip: i64,
        #[case] cidrs: i64,
        #[case] empty: i64,
        #[case] assigned: i64,
        #[case] short: i64,
        #[case] over: i64,
    ) {
        let pool = Pool { warm_ip, minimum_ip, ..prefixes(cidrs, empty, assigned) };
        assert_eq!((pool.short(), pool.over()), (short, over));
    }

    #[test]
    fn growth_stops_at_max_pods_and_may_overshoot_by_a_chunk() {
        let pool = Pool { max_pods: 20, ..pool(9, 18, 15) };
        assert!(pool.is_too_low() && pool.ask(0) == 9, "27 addresses for 20 pods");
        assert!(!Pool { stats: Stats { total: 20, assigned: 20, ..Stats::default() }, ..pool }.is_too_low());
    }

    #[test]
    fn cooling_addresses_look_free_to_the_pool_manager() {
        let stats = Stats { total: 9, assigned: 0, cooling: 9, ..Stats::default() };
        assert!(!Pool { stats, ..pool(9, 0, 0) }.is_too_low());
    }

    #[test]
    fn other_cards_keep_one_address_warm_whatever_is_set() {
        let settings = Settings { warm_ip_target: 7, minimum_ip_target: 9, ..Settings::default() };
        let pool = Pool::new(&settings, Stats::default(), 1, false, 9, 1000);
        assert_eq!((pool.warm_ip, pool.minimum_ip, pool.short()), (1, 1, 1));
    }

    #[rstest]
    #[case(17, 0, false)]
    #[case(18, 0, true)]
    #[case(27, 9, true)]
    #[case(27, 10, false)]
    fn an_eni_may_go_if_the_warm_one_remains(#[case] total: i64, #[case] assigned: i64, #[case] may: bool) {
        assert_eq!(pool(9, total, assigned).may_remove_eni(true), may);
    }

    #[test]
    fn with_prefixes_an_eni_may_go_if_one_is_without_pods() {
        let pool = prefixes(4, 1, 20);
        assert!(pool.may_remove_eni(true) && !pool.may_remove_eni(false));
        assert!(Pool { warm_ip: 1, ..pool }.may_remove_eni(false), "with targets each is judged by itself");
    }

    #[test]
    fn a_slot_is_kept_for_the_trunk_until_it_is_there() {
        assert!(has_room_for_eni(2, 0, 3, false) && !has_room_for_eni(2, 0, 3, true));
        assert!(!has_room_for_eni(3, 0, 3, false));
        // Excluded ones are subtracted on both sides.
        assert!(has_room_for_eni(2, 1, 3, false) && !has_room_for_eni(3, 1, 3, false));
    }

    #[test]
    fn growth_waits_for_a_cordon_and_two_minutes_after_a_refusal() {
        let settings = Settings::default();
        let second = Duration::from_secs(1);
        assert!(!is_growth_blocked(&settings, false, None));
        assert!(is_growth_blocked(&settings, true, None));
        assert!(is_growth_blocked(&settings, false, Some(119 * second)));
        assert!(!is_growth_blocked(&settings, false, Some(120 * second)));
        let manages = Settings { manage_enis_non_schedulable: true, ..settings.clone() };
        assert!(!is_growth_blocked(&manages, true, None));
        assert!(is_growth_blocked(&Settings { provisioning_disabled: true, ..settings }, false, None));
    }
}
