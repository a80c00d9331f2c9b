//! From payments with known outcome to a policy of the ledger.
//!
//! 1. Each side's table: bins of its score, finer where frauds are; per bin the log of (share of frauds / share of honest
//!    payments); neighbours that would decrease are pooled; the knot is the bin's mean score.
//! 2. Shares: the whole for one side and every twentieth for the other, both ways round.
//! 3. Threshold: the highest at which the policy still stops the share of frauds that is asked for, with a margin of three
//!    standard errors, so that it does so on payments it has not seen.
//! 4. Of all shares the one with the fewest false positives; and if that is not clearly fewer than what the ways of today cost, a
//!    policy that decides as today, by limits alone.

use super::population::{Limits, Sample, Scores};
use anji_contracts::ops::MAX_RISK_SCORE;
use anji_contracts::rules::joint_risk::{JointRiskPolicy, Knot, SideTable, WHOLE_SHARE_BPS, check};

/// Upper ends of the bins as shares of a half-and-half mixture of both classes; the last bin reaches to the end.
const BIN_ENDS: [f64; 15] = [0.1, 0.25, 0.4, 0.5, 0.58, 0.66, 0.74, 0.8, 0.85, 0.9, 0.935, 0.96, 0.98, 0.99, 0.995];
/// Steps of the share that is not the whole.
const SHARE_STEP_BPS: usize = 500;
/// Standard errors of the recall that the threshold leaves as a margin.
const RECALL_MARGIN: f64 = 3.0;
/// Standard errors by which a fused policy must be better than the limits of today.
const CLEARLY: f64 = 2.0;

/// Whose share of frauds stopped the policy has to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The front's alone.
    Front,
    /// That of declining when either side does.
    Either,
}

/// A policy, and whether it is better than deciding by limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calibrated {
    /// Sound in the sense of `contracts`.
    pub policy: JointRiskPolicy,
    /// Both scores count; otherwise the policy consists of the limits of today.
    pub fused: bool,
}

/// A policy that is limits and nothing else.
#[must_use]
pub fn by_limits(target: Target, limits: Limits) -> JointRiskPolicy {
    let side = |limit| SideTable { knots: vec![Knot::default()], share_bps: 0, limit };
    let issuer = if target == Target::Either { limits.issuer } else { MAX_RISK_SCORE };
    JointRiskPolicy { acquirer: side(limits.front), issuer: side(issuer), threshold_millinats: 0 }
}

/// Payments per score and class.
struct Histogram {
    honest: Vec<u32>,
    fraud: Vec<u32>,
}

/// Neighbouring scores, taken as one.
#[derive(Clone, Copy, Default)]
struct Bin {
    honest: f64,
    fraud: f64,
    /// Share of the mixture, and the same times the score.
    mass: f64,
    moment: f64,
}

impl Bin {
    fn joined(self, other: Self) -> Self {
        Self {
            honest: self.honest + other.honest,
            fraud: self.fraud + other.fraud,
            mass: self.mass + other.mass,
            moment: self.moment + other.moment,
        }
    }
}

impl Histogram {
    fn of(sample: &Sample, side: impl Fn(&Scores) -> u16) -> Self {
        let count = |payments: &[Scores]| {
            let mut counts = vec![0; usize::from(MAX_RISK_SCORE) + 1];
            for scores in payments {
                counts[usize::from(side(scores))] += 1;
            }
            counts
        };
        Self { honest: count(&sample.honest), fraud: count(&sample.fraud) }
    }

    /// At most 16 knots, scores increasing, weights not decreasing.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of scores; some thousands")]
    fn knots(&self) -> Vec<Knot> {
        let total = |counts: &[u32]| counts.iter().map(|&count| f64::from(count)).sum::<f64>();
        let (honest, fraud) = (total(&self.honest), total(&self.fraud));
        let (mut bins, mut open, mut share) = (Vec::new(), Bin::default(), 0.0);
        let mut ends = BIN_ENDS.into_iter().peekable();
        for (score, (&h, &f)) in (0_u16..).zip(self.honest.iter().zip(&self.fraud)) {
            let mass = 0.5 * (f64::from(h) / honest + f64::from(f) / fraud);
            let moment = mass * f64::from(score);
            open = open.joined(Bin { honest: f64::from(h), fraud: f64::from(f), mass, moment });
            share += mass;
            if ends.peek().is_some_and(|&end| share >= end) {
                bins.push(std::mem::take(&mut open));
                while ends.next_if(|&end| share >= end).is_some() {}
            }
        }
        bins.push(open);
        // Half a payment more in each bin, so that an empty class gives no infinite ratio.
        let ratio = |bin: &Bin| libm::log((bin.fraud + 0.5) / (fraud + 1.0) / ((bin.honest + 0.5) / (honest + 1.0)));
        let mut pooled: Vec<Bin> = Vec::new();
        for mut bin in bins.into_iter().filter(|bin| bin.mass > 0.0) {
            while let Some(last) = pooled.pop_if(|last| ratio(last) >= ratio(&bin)) {
                bin = last.joined(bin);
            }
            pooled.push(bin);
        }
        let knot = |bin: &Bin| Knot {
            score: (bin.moment / bin.mass).round() as u16,
            weight_millinats: (ratio(bin) * 1_000.0).round() as i32,
        };
        let mut knots: Vec<Knot> = pooled.iter().map(knot).collect();
        knots.dedup_by_key(|knot| knot.score);
        knots
    }
}

/// The weight of every score, as the ledger computes it.
fn weights(side: &SideTable) -> Vec<i64> {
    (0..=MAX_RISK_SCORE).map(|score| i64::from(side.weight_millinats(score))).collect()
}

/// How many frauds have to be stopped: the target's own count and the margin.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "counts")]
fn frauds_wanted(reached: usize, frauds: usize) -> usize {
    let (reached, frauds) = (reached as f64, frauds as f64);
    let error = (reached * (1.0 - reached / frauds)).sqrt();
    (reached + RECALL_MARGIN * error).ceil() as usize
}

/// Policies for each target, from payments with known outcome and the sides' limits of today.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts")]
pub fn calibrate<const N: usize>(training: &Sample, limits: Limits, targets: [Target; N]) -> [Calibrated; N] {
    let table = |side: &dyn Fn(&Scores) -> u16| Histogram::of(training, side).knots();
    let side = |knots| SideTable { knots, share_bps: WHOLE_SHARE_BPS, limit: MAX_RISK_SCORE };
    let (front, issuer) = (side(table(&|it| it.front)), side(table(&|it| it.issuer)));
    let (front_weights, issuer_weights) = (weights(&front), weights(&issuer));
    let today = targets.map(|target| {
        let policy = by_limits(target, limits);
        let declined = |payments: &[Scores]| {
            let passes = |it: &&Scores| it.front <= policy.acquirer.limit && it.issuer <= policy.issuer.limit;
            payments.len() - payments.iter().filter(passes).count()
        };
        let wanted = frauds_wanted(declined(&training.fraud), training.fraud.len());
        (declined(&training.honest), wanted, policy)
    });
    let mut best: [Option<(usize, JointRiskPolicy)>; N] = [const { None }; N];
    let partial = || (0..WHOLE_SHARE_BPS).step_by(SHARE_STEP_BPS);
    let shares = partial().map(|share| (WHOLE_SHARE_BPS, share)).chain([(WHOLE_SHARE_BPS, WHOLE_SHARE_BPS)]);
    for (front_share, issuer_share) in shares.chain(partial().map(|share| (share, WHOLE_SHARE_BPS))) {
        let combined = |payments: &[Scores]| -> Vec<i64> {
            let one = |it: &Scores| {
                i64::from(front_share) * front_weights[usize::from(it.front)]
                    + i64::from(issuer_share) * issuer_weights[usize::from(it.issuer)]
            };
            payments.iter().map(one).collect()
        };
        let (honest, mut fraud) = (combined(&training.honest), combined(&training.fraud));
        for ((_, wanted, _), best) in today.iter().zip(&mut best) {
            // The last fraud that has to be stopped must be strictly above the threshold.
            let Some(place) = fraud.len().checked_sub(*wanted) else { continue };
            if place == fraud.len() {
                continue;
            }
            let (_, last, _) = fraud.select_nth_unstable(place);
            let whole = i64::from(WHOLE_SHARE_BPS);
            let threshold = (*last - 1).div_euclid(whole);
            let false_positives = honest.iter().filter(|&&it| it > threshold * whole).count();
            let policy = JointRiskPolicy {
                acquirer: SideTable { share_bps: front_share, ..front.clone() },
                issuer: SideTable { share_bps: issuer_share, ..issuer.clone() },
                threshold_millinats: i32::try_from(threshold).unwrap_or(i32::MAX),
            };
            if check(&policy).is_ok() && best.as_ref().is_none_or(|(least, _)| false_positives < *least) {
                *best = Some((false_positives, policy));
            }
        }
    }
    let mut best = best.into_iter();
    today.map(|(cost, _, limits_alone)| match best.next().flatten() {
        Some((least, policy)) if least as f64 + CLEARLY * ((least + cost) as f64).sqrt() < cost as f64 => {
            Calibrated { policy, fused: true }
        }
        _ => Calibrated { policy: limits_alone, fused: false },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joint_risk::normal::quantile;
    use crate::joint_risk::population::{Noise, Population, front_score, separation};
    use anji_contracts::rules::joint_risk::decide;

    const EVEN: Population = Population {
        front_auc: 0.92,
        issuer_auc: 0.92,
        honest_correlation: 0.0,
        fraud_correlation: 0.0,
        issuer_coarse: false,
        front_false_positives: 0.01,
        third_hidden: false,
    };

    fn training(population: &Population) -> Sample {
        population.sample(&Noise::new(3, 200_000, 20_000), population.limits())
    }

    #[test]
    fn the_table_is_the_log_likelihood_ratio() {
        // Two normals of variance one, d apart: d·z − d²/2, here at the front's operating point.
        let sample = training(&EVEN);
        let [it] = calibrate(&sample, EVEN.limits(), [Target::Front]);
        let d = separation(0.92);
        for upper in [0.2, 0.05, 0.01] {
            let z = quantile(1.0 - upper);
            let weight = f64::from(it.policy.acquirer.weight_millinats(front_score(z))) / 1_000.0;
            assert!((weight - (d * z - d * d / 2.0)).abs() < 0.2, "{upper}: {weight}");
        }
        assert!(it.policy.acquirer.knots.len() > 12);
    }

    #[test]
    fn the_ledger_decides_as_the_calibration_expected() {
        let uneven = Population { issuer_auc: 0.85, honest_correlation: 0.4, fraud_correlation: 0.4, ..EVEN };
        let (sample, limits) = (training(&uneven), uneven.limits());
        let declined = |policy: &JointRiskPolicy, payments: &[Scores]| {
            payments.iter().filter(|it| !decide(policy, it.front, it.issuer)).count()
        };
        let targets = [Target::Front, Target::Either];
        for (target, it) in targets.into_iter().zip(calibrate(&sample, limits, targets)) {
            let today = by_limits(target, limits);
            let wanted = frauds_wanted(declined(&today, &sample.fraud), sample.fraud.len());
            let stopped = declined(&it.policy, &sample.fraud);
            assert!(it.fused && stopped >= wanted, "{stopped} of {wanted}");
            // The next threshold would stop too few; a thousandth of a nat holds few frauds.
            let mut next = it.policy.clone();
            next.threshold_millinats += 1;
            assert!(declined(&next, &sample.fraud) < wanted);
            assert!(declined(&it.policy, &sample.honest) < declined(&today, &sample.honest));
        }
    }

    #[test]
    fn shares_follow_quality_and_correlation() {
        let shares = |population: &Population| {
            let [it] = calibrate(&training(population), population.limits(), [Target::Front]);
            assert!(it.fused);
            (it.policy.acquirer.share_bps, it.policy.issuer.share_bps)
        };
        let (front, issuer) = shares(&EVEN);
        assert!(front >= 8_000 && issuer >= 8_000, "{front} {issuer}");
        // d = 2.33, e = 1.47, r = 0.4: 1 − 0.4 × 1.59 = 0.37 to 1 − 0.4 × 0.63 = 0.75.
        let uneven = Population { front_auc: 0.95, issuer_auc: 0.85, ..EVEN };
        let (front, issuer) = shares(&Population { honest_correlation: 0.4, fraud_correlation: 0.4, ..uneven });
        assert!(front == 10_000 && (2_500..=7_500).contains(&issuer), "{front} {issuer}");
    }

    #[test]
    fn a_score_that_says_nothing_leaves_the_front_as_it_is() {
        let useless = Population { issuer_auc: 0.5, ..EVEN };
        let [it] = calibrate(&training(&useless), useless.limits(), [Target::Front]);
        assert!(!it.fused);
        let front = useless.limits().front;
        for issuer in [0, 5_000, 10_000] {
            assert!(decide(&it.policy, front, issuer) && !decide(&it.policy, front + 1, issuer));
        }
    }
}
