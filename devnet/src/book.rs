//! The book: what the orders file alone says must have happened, recomputed without a word from the network. Integer
//! arithmetic only; the fee rule is written here a second time on purpose (`node/docs/decisions/0004`).

use crate::orders::{Action, Order, Twist};
use std::collections::BTreeMap;

/// Who stands for "the payment's acquirer" and "the payment's issuer" in a schedule.
const ACQUIRER: u32 = 0;
const ISSUER: u32 = u32::MAX;

/// One leg of a fee schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Leg {
    pub(crate) payee: u32,
    pub(crate) rate_bps: u32,
    /// Paid out of this leg; the merchant bears it if none.
    pub(crate) borne_by: Option<usize>,
    pub(crate) returned: bool,
}

/// The schedule that the payments were quoted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Schedule {
    pub(crate) legs: Vec<Leg>,
    pub(crate) remainder_leg: usize,
}

impl Schedule {
    /// What each leg has received once `cumulative` fen were captured (or refunded): single legs round down, what the merchant
    /// bears in all rounds half up, and the remainder leg takes the difference.
    pub(crate) fn legs_at(&self, cumulative: u64) -> Vec<u64> {
        let share = |bps: u64| u128::from(cumulative) * u128::from(bps);
        let fen = |scaled: u128| u64::try_from(scaled / 10_000).unwrap_or(u64::MAX);
        let merchant_bps: u64 =
            self.legs.iter().filter(|leg| leg.borne_by.is_none()).map(|leg| u64::from(leg.rate_bps)).sum();
        let mut amounts: Vec<u64> = self.legs.iter().map(|leg| fen(share(u64::from(leg.rate_bps)))).collect();
        let others: u64 = self
            .legs
            .iter()
            .zip(&amounts)
            .enumerate()
            .filter(|(place, (leg, _))| *place != self.remainder_leg && leg.borne_by.is_none())
            .map(|(_, (_, amount))| amount)
            .sum();
        if let Some(remainder) = amounts.get_mut(self.remainder_leg) {
            *remainder = fen(share(merchant_bps) + 5_000) - others;
        }
        amounts
    }
}

/// What one order must have left behind after an act.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) captured: u64,
    pub(crate) refunded: u64,
    pub(crate) n_refunds: u32,
}

/// Follows the steps that must succeed, up to and including act `last_act` (0 or 1).
pub(crate) fn expected(order: &Order, last_act: usize) -> Expected {
    let mut sum = Expected::default();
    for step in (0..=last_act).flat_map(|act| order.act(act)).filter(|step| step.refused.is_none()) {
        match step.action {
            Action::Pay => sum.captured += order.amount,
            Action::Capture(part) | Action::Last(part) => sum.captured += part,
            Action::Refund(part) => {
                sum.n_refunds += 1;
                if step.twist != Some(Twist::Fails) {
                    sum.refunded += part;
                }
            }
            _ => {}
        }
    }
    sum
}

/// The parties of every order in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parties {
    pub(crate) acquirer: u32,
    pub(crate) issuer: u32,
}

impl Parties {
    /// The participant behind a payee of the schedule.
    pub(crate) const fn payee(self, payee: u32) -> u32 {
        match payee {
            ACQUIRER => self.acquirer,
            ISSUER => self.issuer,
            named => named,
        }
    }
}

/// Nets by participant of the window that act `act` was played in: positive is owed to the participant.
pub(crate) fn nets(orders: &[Order], schedule: &Schedule, parties: Parties, act: usize) -> BTreeMap<u32, i128> {
    let mut nets: BTreeMap<u32, i128> = BTreeMap::new();
    let mut pay = |from: u32, to: u32, fen: i128| {
        if from != to {
            *nets.entry(from).or_default() -= fen;
            *nets.entry(to).or_default() += fen;
        }
    };
    for order in orders {
        let before = if act == 0 { Expected::default() } else { expected(order, act - 1) };
        let after = expected(order, act);
        let bought = i128::from(after.captured) - i128::from(before.captured);
        let returned = i128::from(after.refunded) - i128::from(before.refunded);
        pay(parties.issuer, parties.acquirer, bought - returned);
        let at = |cumulative| schedule.legs_at(cumulative);
        let posted = at(after.captured).into_iter().zip(at(before.captured));
        let given_back = at(after.refunded).into_iter().zip(at(before.refunded));
        for ((leg, (new, old)), (back_new, back_old)) in schedule.legs.iter().zip(posted).zip(given_back) {
            let mut fen = i128::from(new) - i128::from(old);
            if leg.returned {
                fen -= i128::from(back_new) - i128::from(back_old);
            }
            let payer = leg.borne_by.and_then(|place| schedule.legs.get(place)).map_or(ACQUIRER, |leg| leg.payee);
            pay(parties.payee(payer), parties.payee(leg.payee), fen);
        }
    }
    nets
}

/// Sums of every leg over all orders: (posted, returned).
pub(crate) fn fee_totals(orders: &[Order], schedule: &Schedule) -> Vec<(u64, u64)> {
    let mut totals = vec![(0, 0); schedule.legs.len()];
    for end in orders.iter().map(|order| expected(order, 1)) {
        let legs = schedule.legs_at(end.captured).into_iter().zip(schedule.legs_at(end.refunded));
        for ((total, leg), (posted, returned)) in totals.iter_mut().zip(&schedule.legs).zip(legs) {
            total.0 += posted;
            total.1 += if leg.returned { returned } else { 0 };
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founding(inside: bool) -> Schedule {
        let leg = |payee, rate_bps, borne_by| Leg { payee, rate_bps, borne_by, returned: true };
        let (channel, technical) = if inside { (Some(1), Some(2)) } else { (None, None) };
        let legs = vec![
            leg(ACQUIRER, 60, None),
            leg(ISSUER, 50, None),
            leg(3, 10, None),
            leg(6, 5, channel),
            leg(7, 10, technical),
        ];
        Schedule { legs, remainder_leg: 0 }
    }

    fn order(story: &str, amount: u64) -> Order {
        format!("O1,S1,M1,5812,online,{amount},{story},captured,0,0").parse().expect("good")
    }

    const PARTIES: Parties = Parties { acquirer: 1, issuer: 2 };

    #[test]
    fn ten_thousand_yuan_give_the_published_legs() {
        assert_eq!(founding(false).legs_at(1_000_000), [6_000, 5_000, 1_000, 500, 1_000]);
        assert_eq!(founding(true).legs_at(1_000_000), [6_000, 5_000, 1_000, 500, 1_000]);
    }

    #[test]
    fn the_remainder_leg_takes_what_rounding_leaves() {
        // 1.35 % of 37 fen is 0.4995, of 38 fen 0.513: the half is between them.
        assert_eq!(founding(false).legs_at(37), [0, 0, 0, 0, 0]);
        assert_eq!(founding(false).legs_at(38), [1, 0, 0, 0, 0]);
        for cumulative in 0..30_000 {
            let legs = founding(false).legs_at(cumulative);
            assert_eq!(legs.iter().sum::<u64>(), (cumulative * 135 + 5_000) / 10_000);
        }
    }

    #[test]
    fn nets_add_up_to_zero_and_follow_the_money() {
        let orders = [order("pay // refund:1000000", 1_000_000)];
        let first = nets(&orders, &founding(false), PARTIES, 0);
        assert_eq!(first, BTreeMap::from([(1, 992_500), (2, -995_000), (3, 1_000), (6, 500), (7, 1_000)]));
        let second = nets(&orders, &founding(false), PARTIES, 1);
        assert!(first.iter().all(|(who, net)| second.get(who) == Some(&-net)), "a full refund undoes all of it");
        let inside = nets(&orders, &founding(true), PARTIES, 0);
        assert_eq!(inside, BTreeMap::from([(1, 994_000), (2, -995_500), (3, 0), (6, 500), (7, 1_000)]));
    }

    #[test]
    fn refused_and_failed_steps_move_nothing() {
        let it = expected(&order("pay refund:5@fails refund:9!5008 refund:3", 8), 1);
        assert_eq!(it, Expected { captured: 8, refunded: 3, n_refunds: 2 });
        let it = expected(&order("request hold capture:2 // last:3 void!5003", 8), 0);
        assert_eq!(it.captured, 2);
    }
}
