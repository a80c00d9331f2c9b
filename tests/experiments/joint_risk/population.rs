//! The synthetic population: honest and fraudulent payments, each with the acquirer's ("front") and the issuer's score.
//!
//! Within a class both scores are monotone functions of two normals with a correlation (a Gaussian copula); fraud is shifted upwards
//! on each side by what that side's AUC says. The two sides scale their scores differently, so raw scores cannot be compared.

use super::normal::{Stream, bisect, both_above, cumulative, quantile};

/// Fraudulent payments in a thousand, for figures per million payments; rates by class do not depend on it.
pub const FRAUD_PER_MILLE: u32 = 1;
/// False positives of the naive OR as a multiple of the front's own.
pub const OR_FACTOR: f64 = 1.37;

/// How well each side's score tells fraud from honest, and how alike the sides see a payment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Population {
    /// Probability that a fraud scores above an honest payment at the front.
    pub front_auc: f64,
    /// The same at the issuer.
    pub issuer_auc: f64,
    /// Correlation of both sides among honest payments.
    pub honest_correlation: f64,
    /// Correlation of both sides among frauds.
    pub fraud_correlation: f64,
    /// The issuer scores by a list of rules: steps of half a standard deviation instead of a fine score.
    pub issuer_coarse: bool,
    /// Share of honest payments that the front declines by its own score.
    pub front_false_positives: f64,
    /// Every third fraud looks honest to both sides.
    pub third_hidden: bool,
}

/// The highest score that each side lets pass when it decides alone.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// The front's.
    pub front: u16,
    /// The issuer's.
    pub issuer: u16,
    /// What the issuer's is in standard deviations of the honest payments.
    pub issuer_point: f64,
}

/// Two scores of one payment, 0..=10,000, higher is riskier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scores {
    /// The front's.
    pub front: u16,
    /// The issuer's.
    pub issuer: u16,
}

/// The payments of one seed, by class.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Honest ones.
    pub honest: Vec<Scores>,
    /// Frauds.
    pub fraud: Vec<Scores>,
}

/// The normals behind a sample: the same for every population, so that populations differ by what they are and not by luck.
#[derive(Clone, Debug)]
pub struct Noise {
    honest: Vec<[f64; 2]>,
    fraud: Vec<[f64; 2]>,
}

impl Noise {
    /// Of a seed, for so many payments of each class.
    #[must_use]
    pub fn new(seed: u64, honest: usize, fraud: usize) -> Self {
        let draw = |purpose, count| {
            let mut stream = Stream::new(purpose, seed);
            (0..count).map(|_| stream.normals()).collect()
        };
        Self {
            honest: draw("anji experiment joint risk honest", honest),
            fraud: draw("anji experiment joint risk fraud", fraud),
        }
    }
}

/// How far frauds are shifted, in standard deviations, for an AUC: two normals differ by more than nothing with that probability.
#[must_use]
pub fn separation(auc: f64) -> f64 {
    std::f64::consts::SQRT_2 * quantile(auc)
}

/// A share of 10,000, rounded down.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn scaled(share: f64) -> u16 {
    (share * 10_000.0).clamp(0.0, 10_000.0) as u16
}

/// The front's scale is logistic.
pub(super) fn front_score(z: f64) -> u16 {
    scaled(1.0 / (1.0 + libm::exp(-1.1 * (z - 2.0))))
}

impl Population {
    /// Where the front declines, in standard deviations of the honest payments.
    fn front_point(&self) -> f64 {
        quantile(1.0 - self.front_false_positives)
    }

    /// Where the issuer declines: calibrated so that declining when either side does costs [`OR_FACTOR`] times the front's own
    /// false positives.
    fn issuer_point(&self) -> f64 {
        let front = self.front_point();
        let added = (OR_FACTOR - 1.0) * self.front_false_positives;
        // What the issuer declines and the front does not falls as the issuer's point rises.
        bisect(-8.0, 8.0, |point| cumulative(-point) - both_above(front, point, self.honest_correlation) > added)
    }

    /// The issuer's scale is that of a wider normal; by rules, in steps with an edge where the issuer declines.
    fn issuer_score(&self, z: f64, point: f64) -> u16 {
        let seen = if self.issuer_coarse { point + 0.5 * ((z - point) / 0.5).floor() + 0.25 } else { z };
        scaled(cumulative((seen - 1.0) / 1.5))
    }

    /// The lowest share of honest payments that a weighted sum of both sides' evidence can decline which stops this share of frauds,
    /// without negative shares: where the weaker side's best share would be, the better side alone. `None` where the scores
    /// are not jointly normal with one correlation.
    #[must_use]
    pub fn possible(&self, recall: f64) -> Option<f64> {
        let (d, e) = (separation(self.front_auc), separation(self.issuer_auc));
        let r = self.honest_correlation;
        if self.issuer_coarse || self.third_hidden || r.to_bits() != self.fraud_correlation.to_bits() {
            return None;
        }
        let helps = d.min(e) > r * d.max(e);
        let best = if helps { ((d * d + e * e - 2.0 * r * d * e) / (1.0 - r * r)).sqrt() } else { d.max(e) };
        Some(cumulative(quantile(recall) - best))
    }

    /// The share of frauds that either side stops by its own limit.
    fn either_recall(&self) -> f64 {
        let front = self.front_point() - separation(self.front_auc);
        let issuer = self.issuer_point() - separation(self.issuer_auc);
        cumulative(-front) + cumulative(-issuer) - both_above(front, issuer, self.fraud_correlation)
    }

    /// [`Self::possible`] at the recall of declining when either side does, as a multiple of the front's own false positives.
    #[must_use]
    pub fn possible_times(&self) -> Option<f64> {
        self.possible(self.either_recall()).map(|it| it / self.front_false_positives)
    }

    /// The operating points of the sides when they decide alone.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let point = self.issuer_point();
        // By rules, the highest score that passes is that of the step below the edge.
        let passes = if self.issuer_coarse { point - 0.25 } else { point };
        Limits { front: front_score(self.front_point()), issuer: self.issuer_score(passes, point), issuer_point: point }
    }

    /// The payments that a seed's noise gives in this population; `limits` are those that the sides have set themselves, which
    /// may have been when the population was another one.
    #[must_use]
    pub fn sample(&self, noise: &Noise, limits: Limits) -> Sample {
        let score = |&[own, other]: &[f64; 2], shift: [f64; 2], correlation: f64| {
            let rest = (1.0 - correlation * correlation).sqrt();
            let issuer = correlation * own + rest * other + shift[1];
            Scores { front: front_score(own + shift[0]), issuer: self.issuer_score(issuer, limits.issuer_point) }
        };
        let seen = [separation(self.front_auc), separation(self.issuer_auc)];
        let shift = |place: usize| if self.third_hidden && place.is_multiple_of(3) { [0.0; 2] } else { seen };
        let honest = noise.honest.iter().map(|pair| score(pair, [0.0; 2], self.honest_correlation));
        let fraud = noise.fraud.iter().enumerate();
        let fraud = fraud.map(|(place, pair)| score(pair, shift(place), self.fraud_correlation));
        Sample { honest: honest.collect(), fraud: fraud.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Population = Population {
        front_auc: 0.95,
        issuer_auc: 0.92,
        honest_correlation: 0.3,
        fraud_correlation: 0.3,
        issuer_coarse: false,
        front_false_positives: 0.01,
        third_hidden: false,
    };

    /// Wins and half the ties of frauds against honest payments, over all pairs of a sample.
    fn auc(sample: &Sample, side: impl Fn(&Scores) -> u16) -> f64 {
        let mut below = vec![0_u32; 10_002];
        for scores in &sample.honest {
            below[usize::from(side(scores)) + 1] += 1;
        }
        for score in 1..below.len() {
            below[score] += below[score - 1];
        }
        let wins: f64 = sample
            .fraud
            .iter()
            .map(|it| usize::from(side(it)))
            .map(|score| f64::midpoint(f64::from(below[score]), f64::from(below[score + 1])))
            .sum();
        wins / sample.honest.len() as f64 / sample.fraud.len() as f64
    }

    #[test]
    fn a_sample_has_the_quality_and_the_points_that_were_asked_for() {
        let noise = Noise::new(7, 300_000, 30_000);
        for population in
            [BASE, Population { issuer_coarse: true, ..BASE }, Population { honest_correlation: 0.8, ..BASE }]
        {
            let limits = population.limits();
            let sample = population.sample(&noise, limits);
            assert!((auc(&sample, |it| it.front) - 0.95).abs() < 0.003);
            assert!((auc(&sample, |it| it.issuer) - 0.92).abs() < 0.005);
            let stopped = sample.fraud.iter().filter(|it| it.front > limits.front || it.issuer > limits.issuer).count();
            let expected = population.either_recall();
            assert!((stopped as f64 / sample.fraud.len() as f64 - expected).abs() < 0.01, "{expected}");
            let share = |declines: &dyn Fn(&Scores) -> bool| {
                sample.honest.iter().filter(|it| declines(it)).count() as f64 / sample.honest.len() as f64
            };
            let front = share(&|it| it.front > limits.front);
            let either = share(&|it| it.front > limits.front || it.issuer > limits.issuer);
            assert!((front - 0.01).abs() < 0.000_6, "{front}");
            assert!((either / front - OR_FACTOR).abs() < 0.03, "{}", either / front);
        }
    }

    #[test]
    fn a_seed_gives_the_same_payments_again_and_another_seed_others() {
        let first = BASE.sample(&Noise::new(1, 100, 10), BASE.limits());
        assert_eq!(first.honest, BASE.sample(&Noise::new(1, 100, 10), BASE.limits()).honest);
        assert_ne!(first.honest, BASE.sample(&Noise::new(2, 100, 10), BASE.limits()).honest);
    }
}
