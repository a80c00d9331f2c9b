//! What each way of deciding does to payments it was not calibrated on, with confidence intervals.

use super::calibrate::{Target, by_limits};
use super::normal::Stream;
use super::population::{Limits, Sample, Scores};
use anji_contracts::rules::joint_risk::{JointRiskPolicy, decide};

/// The ways of deciding that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The front's own limit.
    Front,
    /// The issuer's own limit.
    Issuer,
    /// Declined when either side declines.
    Either,
    /// The joint policy calibrated for the front's recall.
    JointAsFront,
    /// The joint policy calibrated for the recall of [`Way::Either`].
    JointAsEither,
}

const WAYS: usize = 5;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// Declined payments of one seed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    honest: [u64; WAYS],
    fraud: [u64; WAYS],
    all_honest: u64,
    all_fraud: u64,
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    /// As measured.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Counts of all seeds, and their bootstrap: sums over seeds drawn with replacement.
#[derive(Clone, Debug)]
pub struct Measured {
    total: Counts,
    resampled: Vec<Counts>,
}

/// Decides every payment of a seed in every way; all decisions are the ledger's.
#[must_use]
pub fn count(sample: &Sample, limits: Limits, joint: [&JointRiskPolicy; 2]) -> Counts {
    let issuer = by_limits(Target::Either, Limits { front: 10_000, ..limits });
    let (front, either) = (by_limits(Target::Front, limits), by_limits(Target::Either, limits));
    let declined = |payments: &[Scores]| {
        [&front, &issuer, &either, joint[0], joint[1]]
            .map(|policy| payments.iter().filter(|it| !decide(policy, it.front, it.issuer)).count() as u64)
    };
    Counts {
        honest: declined(&sample.honest),
        fraud: declined(&sample.fraud),
        all_honest: sample.honest.len() as u64,
        all_fraud: sample.fraud.len() as u64,
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        for way in 0..WAYS {
            self.honest[way] += other.honest[way];
            self.fraud[way] += other.fraud[way];
        }
        self.all_honest += other.all_honest;
        self.all_fraud += other.all_fraud;
    }

    fn sum<'a>(counts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        counts.into_iter().for_each(|it| sum.add(it));
        sum
    }

    #[expect(clippy::cast_precision_loss, reason = "counts")]
    fn times_false_positives(&self, way: Way, of: Way) -> f64 {
        self.honest[way as usize] as f64 / self.honest[of as usize] as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "counts")]
    fn recall_over(&self, way: Way, of: Way) -> f64 {
        (self.fraud[way as usize] as f64 - self.fraud[of as usize] as f64) / self.all_fraud as f64
    }
}

impl Measured {
    /// From the counts of each seed. The resamples are the same for every case.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "an index")]
    pub fn new(seeds: &[Counts]) -> Self {
        let mut stream = Stream::new("anji experiment joint risk bootstrap", 1);
        let mut one = || &seeds[(stream.bits() % seeds.len() as u64) as usize];
        let resampled = (0..RESAMPLES).map(|_| Counts::sum((0..seeds.len()).map(|_| one()).collect::<Vec<_>>()));
        let resampled = resampled.collect();
        Self { total: Counts::sum(seeds), resampled }
    }

    fn figure(&self, of: impl Fn(&Counts) -> f64) -> Figure {
        let mut values: Vec<f64> = self.resampled.iter().map(&of).collect();
        values.sort_unstable_by(f64::total_cmp);
        let tail = RESAMPLES / 40;
        Figure { value: of(&self.total), low: values[tail], high: values[RESAMPLES - 1 - tail] }
    }

    /// False positives of a way as a multiple of another's.
    #[must_use]
    pub fn times_false_positives(&self, way: Way, of: Way) -> Figure {
        self.figure(|it| it.times_false_positives(way, of))
    }

    /// Recall of a way less another's.
    #[must_use]
    pub fn recall_over(&self, way: Way, of: Way) -> Figure {
        self.figure(|it| it.recall_over(way, of))
    }

    /// Share of honest payments that a way declines, with Wilson's interval.
    #[must_use]
    pub fn false_positive_rate(&self, way: Way) -> Figure {
        wilson(self.total.honest[way as usize], self.total.all_honest)
    }

    /// Share of frauds that a way stops, with Wilson's interval.
    #[must_use]
    pub fn recall(&self, way: Way) -> Figure {
        wilson(self.total.fraud[way as usize], self.total.all_fraud)
    }
}

/// Wilson's 95 % interval of a share.
#[expect(clippy::cast_precision_loss, reason = "counts")]
fn wilson(hits: u64, all: u64) -> Figure {
    let (n, z) = (all as f64, 1.959_964);
    let value = hits as f64 / n;
    let scale = 1.0 + z * z / n;
    let centre = (value + z * z / (2.0 * n)) / scale;
    let half = z / scale * (value * (1.0 - value) / n + z * z / (4.0 * n * n)).sqrt();
    Figure { value, low: centre - half, high: centre + half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_is_what_the_books_say() {
        // 10 of 100: 5.523 % to 17.437 %.
        let it = wilson(10, 100);
        assert!((it.low - 0.055_23).abs() < 1e-4 && (it.high - 0.174_37).abs() < 1e-4, "{it:?}");
        assert_eq!(wilson(0, 10).value, 0.0);
    }

    #[test]
    fn the_bootstrap_holds_seeds_together() {
        let seed =
            |honest: u64| Counts { honest: [honest, 0, 2 * honest, honest, 0], all_honest: 1_000, ..Counts::default() };
        let measured = Measured::new(&[seed(5), seed(10), seed(30)]);
        // Twice as many in every seed: twice as many in every resample.
        let twice = measured.times_false_positives(Way::Either, Way::Front);
        assert_eq!((twice.value, twice.low, twice.high), (2.0, 2.0, 2.0));
        assert_eq!(measured.false_positive_rate(Way::Front).value, 0.015);
    }
}
