//! One decision from both sides' risk scores, so that two controls do not multiply false declines.
//!
//! If each side declines by its own score, an honest payment fails when either of them errs: the false declines nearly add up.
//! At any given share of honest payments declined, the most fraud is stopped by declining where the likelihood ratio
//! `P(a, i | fraud) / P(a, i | honest)` of both scores is highest (Neyman and Pearson). Hence, for scores a and i:
//!
//! - **Weights.** A table per side gives the log of that side's own likelihood ratio, in thousandths of a nat: `w(a)`, `v(i)`. If
//!   the sides err independently of each other, the joint ratio is the product of theirs, and its log the **sum of the weights**.
//! - **Shares.** Sides that look at the same payment partly see the same thing, and the plain sum counts it twice. Each weight
//!   is multiplied by its side's share, at most the whole. For scores that are jointly normal in each class, with separations d
//!   and e (in standard deviations) and correlation r, the best shares have the ratio `(1 - r·e/d) : (1 - r·d/e)`: the weaker side
//!   counts for less, and where that is negative for nothing, because a higher score must never help. Only the ratio of the shares
//!   and the threshold decide, so the larger share may always be the whole.
//! - **Decision.** Declined when `share · w(a) + share' · v(i)` exceeds the threshold, or when either score alone exceeds its
//!   side's limit.
//!
//! Every table is non-decreasing and no share is negative, so a higher score never turns a decline into an acceptance.
//! A weight between two knots is rounded down; nothing else is rounded: the sum is compared in ten-thousandths of a thousandth.
//!
//! Without a policy a payment is accepted whatever the scores are, as long as both assertions are fresh (`risk`).
//! How to calibrate a policy and what it achieves: `node/docs/JOINT_RISK.md`.

use crate::ops::MAX_RISK_SCORE;
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// Most knots of a table.
pub const MAX_KNOTS: usize = 16;
/// Highest weight, and the lowest with a minus before it: a thousand nats, far beyond what any sample could show.
pub const MAX_WEIGHT_MILLINATS: i32 = 1_000_000;
/// A share that counts a side's weight in full.
pub const WHOLE_SHARE_BPS: u16 = 10_000;

/// A point of a side's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Knot {
    /// The side's score, 0..=10,000.
    pub score: u16,
    /// Log-likelihood ratio of fraud against honest at this score, in thousandths of a nat; positive speaks for fraud.
    pub weight_millinats: i32,
}

/// How the score of one side counts.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct SideTable {
    /// 1 to [`MAX_KNOTS`] points, scores strictly increasing, weights never decreasing. Straight lines between them; below the
    /// first and above the last the weight stays what it is there.
    pub knots: Vec<Knot>,
    /// What part of the weight counts, in basis points; at most [`WHOLE_SHARE_BPS`].
    pub share_bps: u16,
    /// A score above this declines whatever the other side says; 10,000 is no limit.
    pub limit: u16,
}

/// How two scores make one decision: the policy document of kind 3. Only one that [`check`] finds sound may come into force.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct JointRiskPolicy {
    /// The acquirer's score, asserted with the payment.
    pub acquirer: SideTable,
    /// The issuer's score, asserted on the mandate or with the authorisation.
    pub issuer: SideTable,
    /// A combined weight above this declines, in thousandths of a nat.
    pub threshold_millinats: i32,
}

impl SideTable {
    /// The weight of a score in thousandths of a nat, before the share; between two knots rounded down. 0 without knots.
    #[must_use]
    pub fn weight_millinats(&self, score: u16) -> i32 {
        let mut below: Option<&Knot> = None;
        for knot in &self.knots {
            if score < knot.score {
                return below.map_or(knot.weight_millinats, |below| between(below, knot, score));
            }
            below = Some(knot);
        }
        below.map_or(0, |last| last.weight_millinats)
    }

    /// Share times weight, in ten-thousandths of a thousandth of a nat: below 2^47 for any table.
    fn shared(&self, score: u16) -> i64 {
        i64::from(self.share_bps).saturating_mul(i64::from(self.weight_millinats(score)))
    }
}

/// The height over `score` of the line from one knot to the next, rounded down; `below.score <= score < above.score`.
fn between(below: &Knot, above: &Knot, score: u16) -> i32 {
    let [start, end] = [below, above].map(|knot| i64::from(knot.weight_millinats));
    let run = i64::from(above.score.saturating_sub(below.score));
    let along = i64::from(score.saturating_sub(below.score));
    // At most 2^32 times 2^16; the run is positive, so the Euclidean quotient is the floor.
    let risen = end.saturating_sub(start).saturating_mul(along).checked_div_euclid(run).unwrap_or(0);
    i32::try_from(start.saturating_add(risen)).unwrap_or(below.weight_millinats)
}

/// The combined weight of two scores in ten-thousandths of a thousandth of a nat: both weights, each times its share.
#[must_use]
pub fn combined(policy: &JointRiskPolicy, acquirer_score: u16, issuer_score: u16) -> i64 {
    policy.acquirer.shared(acquirer_score).saturating_add(policy.issuer.shared(issuer_score))
}

/// Whether a payment with these scores may go on. Total for any policy; monotone for one that [`check`] finds sound: if it
/// accepts two scores, it accepts all pairs that are no higher.
///
/// # Correctness
/// Freshness of the assertions is another rule, judged before this one.
#[must_use]
pub fn decide(policy: &JointRiskPolicy, acquirer_score: u16, issuer_score: u16) -> bool {
    let threshold = i64::from(policy.threshold_millinats).saturating_mul(i64::from(WHOLE_SHARE_BPS));
    acquirer_score <= policy.acquirer.limit
        && issuer_score <= policy.issuer.limit
        && combined(policy, acquirer_score, issuer_score) <= threshold
}

/// Whether a policy can be decided with.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check(policy: &JointRiskPolicy) -> Result<(), &'static str> {
    check_side(&policy.acquirer)?;
    check_side(&policy.issuer)?;
    // Two weights at most, each with a share of at most the whole.
    let most = MAX_WEIGHT_MILLINATS.unsigned_abs().saturating_mul(2);
    if policy.threshold_millinats.unsigned_abs() > most {
        return Err("the threshold is beyond what two weights can reach");
    }
    if !decide(policy, 0, 0) {
        return Err("the policy declines every payment; a switch is the way to stop payments");
    }
    Ok(())
}

fn check_side(side: &SideTable) -> Result<(), &'static str> {
    if side.knots.is_empty() || side.knots.len() > MAX_KNOTS {
        return Err("a table has 1 to 16 knots");
    }
    if side.knots.iter().any(|knot| knot.score > MAX_RISK_SCORE) || side.limit > MAX_RISK_SCORE {
        return Err("scores and limits are 0 to 10,000");
    }
    if side.knots.iter().any(|knot| knot.weight_millinats.unsigned_abs() > MAX_WEIGHT_MILLINATS.unsigned_abs()) {
        return Err("a weight is at most 1,000,000 thousandths of a nat, either way");
    }
    if side.share_bps > WHOLE_SHARE_BPS {
        return Err("a share is at most 10,000 basis points");
    }
    for (below, above) in side.knots.iter().zip(side.knots.iter().skip(1)) {
        if below.score >= above.score {
            return Err("the scores of a table must increase");
        }
        if below.weight_millinats > above.weight_millinats {
            return Err("the weights of a table must not decrease");
        }
    }
    Ok(())
}
