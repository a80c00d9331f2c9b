//! The joint-risk decision: what a policy may look like, and that it is monotone, total and exact.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use anji_contracts::ops::MAX_POLICY_BYTES;
use anji_contracts::rules::joint_risk::{
    JointRiskPolicy, Knot, MAX_KNOTS, MAX_WEIGHT_MILLINATS, SideTable, check, combined, decide,
};
use proptest::prelude::*;

fn side(knots: &[(u16, i32)], share_bps: u16, limit: u16) -> SideTable {
    let knots = knots.iter().map(|&(score, weight_millinats)| Knot { score, weight_millinats }).collect();
    SideTable { knots, share_bps, limit }
}

/// Weights −2,000 to 6,000 and −1,000 to 3,001; the issuer counts for four fifths.
fn policy() -> JointRiskPolicy {
    JointRiskPolicy {
        acquirer: side(&[(1_000, -2_000), (5_000, 0), (9_000, 6_000)], 10_000, 9_800),
        issuer: side(&[(0, -1_000), (3_000, -1_000), (10_000, 3_001)], 8_000, 10_000),
        threshold_millinats: 3_000,
    }
}

#[test]
fn weights_follow_the_table_and_round_down() {
    let policy = policy();
    let rows = [
        (0, -2_000),
        (999, -2_000),
        (1_000, -2_000),
        (1_001, -2_000), // −1,999.5
        (1_002, -1_999),
        (3_000, -1_000),
        (5_000, 0),
        (5_001, 1), // 1.5
        (7_000, 3_000),
        (9_000, 6_000),
        (10_000, 6_000),
        (u16::MAX, 6_000),
    ];
    for (score, weight) in rows {
        assert_eq!(policy.acquirer.weight_millinats(score), weight, "score {score}");
    }
    // −1,000 + 4,001 × 1 / 7,000.
    assert_eq!(policy.issuer.weight_millinats(3_001), -1_000);
    assert_eq!(SideTable::default().weight_millinats(5), 0);
    assert_eq!(side(&[(5_000, 7)], 1, 1).weight_millinats(0), 7);
}

#[test]
fn two_scores_make_one_decision() {
    let policy = policy();
    check(&policy).unwrap();
    let rows = [
        // Neither side alone has the threshold's 3,000, together they have it to the last thousandth of a nat and then more.
        (7_000, 4_750, true),   // 3,000 + 0.8 × 0
        (7_000, 4_751, true),   // 3,000 + 0.8 × 0, rounded down
        (7_000, 4_752, false),  // 3,000 + 0.8 × 1
        (7_001, 4_750, false),  // 3,001
        (5_000, 10_000, true),  // 0.8 × 3,001: even the issuer's highest score is outvoted
        (5_600, 10_000, false), // 900 + 2,400.8
        (5_399, 10_000, true),  // 598 + 2,400.8
        (5_400, 10_000, false), // 600 + 2,400.8: the tenths count
        (7_500, 0, true),       // 3,750 − 800: the issuer's low score speaks for the shopper
    ];
    for (acquirer, issuer, accepted) in rows {
        assert_eq!(decide(&policy, acquirer, issuer), accepted, "scores {acquirer} and {issuer}");
    }
    // Limits, whatever the other side says.
    let limits = JointRiskPolicy {
        acquirer: side(&[(0, 0)], 0, 6_000),
        issuer: side(&[(0, 0)], 0, 7_000),
        threshold_millinats: 0,
    };
    check(&limits).unwrap();
    for (acquirer, issuer, accepted) in [(6_000, 7_000, true), (6_001, 0, false), (0, 7_001, false), (0, 0, true)] {
        assert_eq!(decide(&limits, acquirer, issuer), accepted, "scores {acquirer} and {issuer}");
    }
}

#[test]
fn unsound_policies_are_refused_with_the_reason() {
    type Change = fn(&mut JointRiskPolicy);
    let rows: [(Change, &str); 15] = [
        (|it| it.acquirer.knots.clear(), "1 to 16 knots"),
        (|it| it.issuer.knots.clear(), "1 to 16 knots"),
        (|it| it.issuer.knots = side(&[(0, 0); MAX_KNOTS + 1], 0, 0).knots, "1 to 16 knots"),
        (|it| it.acquirer.knots[2].score = 10_001, "0 to 10,000"),
        (|it| it.acquirer.limit = 10_001, "0 to 10,000"),
        (|it| it.issuer.limit = u16::MAX, "0 to 10,000"),
        (|it| it.acquirer.knots[2].weight_millinats = MAX_WEIGHT_MILLINATS + 1, "1,000,000"),
        (|it| it.acquirer.knots[0].weight_millinats = i32::MIN, "1,000,000"),
        (|it| it.issuer.share_bps = 10_001, "10,000 basis points"),
        (|it| it.acquirer.knots[1].score = 1_000, "must increase"),
        (|it| it.issuer.knots[1].score = 0, "must increase"),
        (|it| it.issuer.knots[1].weight_millinats = -1_001, "must not decrease"),
        (|it| it.threshold_millinats = 2 * MAX_WEIGHT_MILLINATS + 1, "beyond"),
        (|it| it.threshold_millinats = i32::MIN, "beyond"),
        (|it| it.threshold_millinats = -2_801, "declines every payment"),
    ];
    for (number, (change, reason)) in rows.into_iter().enumerate() {
        let mut policy = policy();
        change(&mut policy);
        let refused = check(&policy).unwrap_err();
        assert!(refused.contains(reason), "row {number}: {refused}");
    }
    // The lowest scores weigh exactly −2,800.
    let mut lowest = policy();
    lowest.threshold_millinats = -2_800;
    check(&lowest).unwrap();
}

#[test]
fn the_bytes_are_fixed_and_the_longest_policy_fits_a_document() {
    let small = JointRiskPolicy {
        acquirer: side(&[(1, -2)], 3, 4),
        issuer: side(&[(5, 6), (7, 8)], 9, 10),
        threshold_millinats: -11,
    };
    let bytes = [
        &[1, 0, 0, 0, 1, 0, 0xfe, 0xff, 0xff, 0xff, 3, 0, 4, 0][..],
        &[2, 0, 0, 0, 5, 0, 6, 0, 0, 0, 7, 0, 8, 0, 0, 0, 9, 0, 10, 0],
        &[0xf5, 0xff, 0xff, 0xff],
    ]
    .concat();
    assert_eq!(borsh::to_vec(&small).unwrap(), bytes);
    assert_eq!(borsh::from_slice::<JointRiskPolicy>(&bytes).unwrap(), small);
    let full = side(&[(0, 0); MAX_KNOTS], 0, 0);
    let longest = JointRiskPolicy { acquirer: full.clone(), issuer: full, threshold_millinats: 0 };
    assert!(borsh::to_vec(&longest).unwrap().len() <= MAX_POLICY_BYTES);
}

/// The decision in plain fractions: the line through two knots as numerator and denominator, its floor, and the sum.
mod naive {
    use super::*;

    /// The exact weight as a fraction with a positive denominator.
    pub(crate) fn exact(side: &SideTable, score: u16) -> (i128, i128) {
        let knots: Vec<(i128, i128)> =
            side.knots.iter().map(|knot| (i128::from(knot.score), i128::from(knot.weight_millinats))).collect();
        let score = i128::from(score);
        let first = knots[0];
        let last = knots[knots.len() - 1];
        if score <= first.0 {
            return (first.1, 1);
        }
        if score >= last.0 {
            return (last.1, 1);
        }
        let place = (1..knots.len()).find(|&place| score <= knots[place].0).unwrap();
        let ((x0, y0), (x1, y1)) = (knots[place - 1], knots[place]);
        (y0 * (x1 - score) + y1 * (score - x0), x1 - x0)
    }

    pub(crate) fn floor((numerator, denominator): (i128, i128)) -> i128 {
        let towards_zero = numerator / denominator;
        if numerator % denominator < 0 { towards_zero - 1 } else { towards_zero }
    }

    pub(crate) fn decide(policy: &JointRiskPolicy, acquirer: u16, issuer: u16) -> bool {
        if acquirer > policy.acquirer.limit || issuer > policy.issuer.limit {
            return false;
        }
        let acquirer = floor(exact(&policy.acquirer, acquirer)) * i128::from(policy.acquirer.share_bps);
        let issuer = floor(exact(&policy.issuer, issuer)) * i128::from(policy.issuer.share_bps);
        acquirer + issuer <= i128::from(policy.threshold_millinats) * 10_000
    }
}

fn any_score() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0..=10_000_u16, 1 => Just(0), 1 => Just(10_000)]
}

fn sound_side() -> impl Strategy<Value = SideTable> {
    let scores = proptest::collection::btree_set(any_score(), 1..=MAX_KNOTS);
    let weight = prop_oneof![4 => -8_000..=8_000, 1 => -MAX_WEIGHT_MILLINATS..=MAX_WEIGHT_MILLINATS];
    let weights = proptest::collection::vec(weight, MAX_KNOTS);
    let share = prop_oneof![2 => 0..=10_000_u16, 1 => Just(0), 1 => Just(10_000)];
    let limit = prop_oneof![1 => any_score(), 2 => Just(10_000)];
    (scores, weights, share, limit).prop_map(|(scores, mut weights, share, limit)| {
        weights.truncate(scores.len());
        weights.sort_unstable();
        let knots: Vec<(u16, i32)> = scores.into_iter().zip(weights).collect();
        side(&knots, share, limit)
    })
}

/// Sound policies; the threshold often lies within the weights, so that neither answer is rare.
fn sound_policy() -> impl Strategy<Value = JointRiskPolicy> {
    (sound_side(), sound_side(), any_score(), any_score(), -2..=2_i32).prop_map(|(acquirer, issuer, a, i, off)| {
        let mut policy = JointRiskPolicy { acquirer, issuer, threshold_millinats: 0 };
        let lowest = combined(&policy, 0, 0).div_euclid(10_000) + 1;
        let near = combined(&policy, a, i).div_euclid(10_000) + i64::from(off);
        let most = i64::from(2 * MAX_WEIGHT_MILLINATS);
        policy.threshold_millinats = i32::try_from(near.max(lowest).min(most)).unwrap();
        policy
    })
}

fn any_side() -> impl Strategy<Value = SideTable> {
    let knots = proptest::collection::vec((any::<u16>(), any::<i32>()), 0..24);
    (knots, any::<u16>(), any::<u16>()).prop_map(|(knots, share, limit)| side(&knots, share, limit))
}

/// Scores at, beside and between the knots.
fn telling_scores(side: &SideTable) -> Vec<u16> {
    let mut scores = vec![0, 1, 9_999, 10_000, side.limit];
    for knot in &side.knots {
        scores.extend([knot.score.saturating_sub(1), knot.score, (knot.score + 1).min(10_000)]);
    }
    scores
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_higher_score_never_helps(policy in sound_policy(), a in any_score(), b in any_score(), other in any_score()) {
        prop_assert_eq!(check(&policy), Ok(()));
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(combined(&policy, low, other) <= combined(&policy, high, other));
        prop_assert!(combined(&policy, other, low) <= combined(&policy, other, high));
        prop_assert!(decide(&policy, low, other) || !decide(&policy, high, other));
        prop_assert!(decide(&policy, other, low) || !decide(&policy, other, high));
        prop_assert!(decide(&policy, 0, 0));
    }

    #[test]
    fn the_decision_is_that_of_plain_fractions(policy in sound_policy(), a in any_score(), i in any_score()) {
        prop_assert_eq!(decide(&policy, a, i), naive::decide(&policy, a, i));
        for acquirer in telling_scores(&policy.acquirer) {
            for issuer in telling_scores(&policy.issuer) {
                prop_assert_eq!(
                    decide(&policy, acquirer, issuer),
                    naive::decide(&policy, acquirer, issuer),
                    "scores {} and {}", acquirer, issuer
                );
            }
        }
    }

    #[test]
    fn a_weight_is_the_floor_of_the_line(table in sound_side(), score in any_score()) {
        let weight = i128::from(table.weight_millinats(score));
        let (numerator, denominator) = naive::exact(&table, score);
        prop_assert!(weight * denominator <= numerator && numerator < (weight + 1) * denominator);
    }

    #[test]
    fn any_bytes_that_decode_can_be_judged(
        acquirer in any_side(), issuer in any_side(), threshold_millinats in any::<i32>(), a in any::<u16>(), i in any::<u16>(),
    ) {
        let policy = JointRiskPolicy { acquirer, issuer, threshold_millinats };
        let _ = (check(&policy), decide(&policy, a, i), combined(&policy, a, i));
    }

    #[test]
    fn extremes_do_not_overflow(
        weights in proptest::collection::vec(prop_oneof![Just(i32::MIN), Just(i32::MAX), any::<i32>()], 4),
        share in prop_oneof![Just(0), Just(u16::MAX)], a in any::<u16>(), i in any::<u16>(),
        threshold_millinats in prop_oneof![Just(i32::MIN), Just(i32::MAX)],
    ) {
        let [low, high, start, end] = weights[..] else { unreachable!() };
        let acquirer = side(&[(0, low), (u16::MAX, high)], share, u16::MAX);
        let issuer = side(&[(0, start), (u16::MAX, end)], share, u16::MAX);
        let sum = [(&acquirer, a), (&issuer, i)]
            .map(|(table, score)| naive::floor(naive::exact(table, score)) * i128::from(share));
        let policy = JointRiskPolicy { acquirer, issuer, threshold_millinats };
        prop_assert_eq!(i128::from(combined(&policy, a, i)), sum[0] + sum[1]);
        prop_assert_eq!(decide(&policy, a, i), sum[0] + sum[1] <= i128::from(threshold_millinats) * 10_000);
    }
}
