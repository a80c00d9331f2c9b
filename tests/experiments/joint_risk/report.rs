//! All cases of the experiment and the page it prints.

use super::calibrate::{Calibrated, Target, calibrate};
use super::measure::{Figure, Measured, Way, count};
use super::population::{FRAUD_PER_MILLE, Noise, OR_FACTOR, Population, Sample, separation};
use anji_contracts::rules::joint_risk::JointRiskPolicy;
use std::fmt::Write;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Seeds from here on are for calibration.
const FIRST_TRAINING_SEED: u64 = 1;
/// Seeds from here on are held out.
const FIRST_HELD_OUT_SEED: u64 = 1_000_001;
/// Calibrations of the base case on training seeds that nothing else uses.
const REPEATS: u64 = 4;

/// How much is computed.
#[derive(Clone, PartialEq, Debug)]
pub struct Effort {
    /// Seeds that policies are calibrated on.
    pub training_seeds: u64,
    /// Seeds that everything is measured on.
    pub held_out_seeds: u64,
    /// Honest payments of a seed.
    pub honest: usize,
    /// Frauds of a seed.
    pub fraud: usize,
    /// Correlations of the sweep.
    pub correlations: &'static [f64],
    /// AUCs of the issuer's score in the sweep.
    pub issuer_aucs: &'static [f64],
}

impl Effort {
    /// The default: some seconds.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            training_seeds: 20,
            held_out_seeds: 40,
            honest: 25_000,
            fraud: 2_500,
            correlations: &[0.0, 0.3, 0.6, 0.8],
            issuer_aucs: &[0.70, 0.80, 0.92, 0.97],
        }
    }

    /// Four times the payments, a finer sweep.
    #[must_use]
    pub const fn long() -> Self {
        Self {
            training_seeds: 40,
            held_out_seeds: 80,
            honest: 50_000,
            fraud: 5_000,
            correlations: &[-0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
            issuer_aucs: &[0.60, 0.70, 0.75, 0.80, 0.85, 0.90, 0.92, 0.95, 0.97, 0.99],
        }
    }

    /// `ANJI_EXPERIMENT=long`, or the default.
    #[must_use]
    pub fn from_environment() -> Self {
        if std::env::var("ANJI_EXPERIMENT").is_ok_and(|it| it == "long") { Self::long() } else { Self::quick() }
    }
}

/// The population that the headline is about.
pub const BASE: Population = Population {
    front_auc: 0.95,
    issuer_auc: 0.92,
    honest_correlation: 0.3,
    fraud_correlation: 0.3,
    issuer_coarse: false,
    front_false_positives: 0.01,
    third_hidden: false,
};

/// One row: a policy calibrated on one population, measured on the same or another one.
#[derive(Clone, PartialEq, Debug)]
struct Plan {
    section: &'static str,
    name: String,
    calibrated_on: Population,
    measured_on: Population,
    /// Payments of each class at most that the calibration sees.
    training: (usize, usize),
    first_training_seed: u64,
}

/// A row with its figures.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special.
    pub name: String,
    /// Heading of the table it stands in.
    pub section: &'static str,
    /// Policies for the front's recall and for that of the naive OR.
    pub joint: [Calibrated; 2],
    /// What they and the ways of today do to held-out payments.
    pub measured: Measured,
    /// The lowest multiple of the front's false positives at the naive OR's recall that a sum without negative shares can reach, where known.
    pub possible: Option<f64>,
}

impl Case {
    /// No more false positives than the front's own, at no less recall than `of`, both with 95 % confidence.
    #[must_use]
    pub fn holds(&self, joint: Way, of: Way) -> bool {
        let cost = self.measured.times_false_positives(joint, Way::Front);
        cost.high <= 1.0 && self.measured.recall_over(joint, of).low >= 0.0
    }
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    effort: Effort,
    /// The base case first.
    pub cases: Vec<Case>,
}

fn plans(effort: &Effort) -> Vec<Plan> {
    let plan = |section, name: String, population| Plan {
        section,
        name,
        calibrated_on: population,
        measured_on: population,
        training: (usize::MAX, usize::MAX),
        first_training_seed: FIRST_TRAINING_SEED,
    };
    let correlated =
        |correlation| Population { honest_correlation: correlation, fraud_correlation: correlation, ..BASE };
    let mut plans = vec![plan("Base case", "base".to_owned(), BASE)];
    for &correlation in effort.correlations {
        for &issuer_auc in effort.issuer_aucs {
            let population = Population { issuer_auc, ..correlated(correlation) };
            let name = format!("correlation {correlation:.1}, issuer {issuer_auc:.2}");
            plans.push(plan("Correlation and the issuer's quality", name, population));
        }
    }
    let section = "Other populations";
    for front_auc in [0.85, 0.90, 0.98] {
        plans.push(plan(section, format!("front {front_auc:.2}"), Population { front_auc, ..BASE }));
    }
    for (name, front_false_positives) in [("front declines 0.3 %", 0.003), ("front declines 3 %", 0.03)] {
        plans.push(plan(section, name.to_owned(), Population { front_false_positives, ..BASE }));
    }
    let third_hidden = Population { third_hidden: true, ..BASE };
    plans.push(plan(section, "a third of frauds look honest to both".to_owned(), third_hidden));
    plans.push(plan(section, "issuer's score says nothing (0.50)".to_owned(), Population { issuer_auc: 0.5, ..BASE }));
    plans.push(plan(section, "issuer by rules, coarse".to_owned(), Population { issuer_coarse: true, ..BASE }));
    for (honest_correlation, fraud_correlation) in [(0.3, 0.7), (0.7, 0.3), (0.0, 0.6)] {
        let population = Population { honest_correlation, fraud_correlation, ..BASE };
        plans.push(plan(
            section,
            format!("correlation {honest_correlation:.1}, of frauds {fraud_correlation:.1}"),
            population,
        ));
    }
    let section = "Less to calibrate on";
    for training in [(25_000, 2_500), (25_000, 1_000), (25_000, 300), (10_000, 100)] {
        let name = format!("{} honest, {} frauds", grouped(training.0), grouped(training.1));
        plans.push(Plan { training, ..plan(section, name, BASE) });
    }
    let section = "Calibrated again on other seeds";
    for repeat in 1..=REPEATS {
        let first_training_seed = FIRST_TRAINING_SEED + repeat * effort.training_seeds;
        plans.push(Plan { first_training_seed, ..plan(section, format!("training set {}", repeat + 1), BASE) });
    }
    let section = "Calibrated on the base, then the world changes";
    let changes = [
        ("correlation 0.6", correlated(0.6)),
        ("correlation 0.0", correlated(0.0)),
        ("front falls to 0.90", Population { front_auc: 0.90, ..BASE }),
        ("issuer falls to 0.85", Population { issuer_auc: 0.85, ..BASE }),
        ("issuer falls to 0.50", Population { issuer_auc: 0.50, ..BASE }),
    ];
    for (name, measured_on) in changes {
        plans.push(Plan { measured_on, ..plan(section, name.to_owned(), BASE) });
    }
    plans
}

/// Runs the experiment.
#[must_use]
pub fn run(effort: &Effort) -> Report {
    let noise = |seed| Noise::new(seed, effort.honest, effort.fraud);
    let training_seeds = effort.training_seeds * (REPEATS + 1);
    let training: Vec<Noise> = (0..training_seeds).map(|seed| noise(FIRST_TRAINING_SEED + seed)).collect();
    let held_out: Vec<Noise> = (0..effort.held_out_seeds).map(|seed| noise(FIRST_HELD_OUT_SEED + seed)).collect();
    let one = |plan: &Plan| {
        let population = plan.calibrated_on;
        let limits = population.limits();
        let skipped = usize::try_from(plan.first_training_seed - FIRST_TRAINING_SEED).unwrap_or(usize::MAX);
        let seeds = usize::try_from(effort.training_seeds).unwrap_or(usize::MAX);
        let mut seen = Sample::default();
        for noise in training.iter().skip(skipped).take(seeds) {
            if seen.honest.len() < plan.training.0 || seen.fraud.len() < plan.training.1 {
                let sample = population.sample(noise, limits);
                seen.honest.extend(sample.honest);
                seen.fraud.extend(sample.fraud);
            }
        }
        seen.honest.truncate(plan.training.0);
        seen.fraud.truncate(plan.training.1);
        let joint = calibrate(&seen, limits, [Target::Front, Target::Either]);
        let policies = [&joint[0].policy, &joint[1].policy];
        let met = |noise| count(&plan.measured_on.sample(noise, limits), limits, policies);
        let measured = Measured::new(&held_out.iter().map(met).collect::<Vec<_>>());
        let same = plan.measured_on == population;
        let possible = population.possible_times().filter(|_| same);
        Case { possible, name: plan.name.clone(), section: plan.section, joint, measured }
    };
    Report { effort: effort.clone(), cases: in_parallel(&plans(effort), one) }
}

/// Applies `one` to all plans on all cores; the answers are in the order of the plans.
fn in_parallel(plans: &[Plan], one: impl Fn(&Plan) -> Case + Sync) -> Vec<Case> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((place, plan)) = Some(next.fetch_add(1, Relaxed)).and_then(|it| Some((it, plans.get(it)?))) {
            done.push((place, one(plan)));
        }
        done
    };
    let mut cases: Vec<(usize, Case)> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|it| it.join().expect("a worker does not panic")).collect()
    });
    cases.sort_unstable_by_key(|&(place, _)| place);
    cases.into_iter().map(|(_, case)| case).collect()
}

fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let place = |index: usize| (digits.len() - index).is_multiple_of(3) && index > 0;
    let comma = |(index, digit): (usize, char)| place(index).then_some(',').into_iter().chain([digit]);
    digits.chars().enumerate().flat_map(comma).collect()
}

fn times(it: Figure) -> String {
    format!("{:.2} ({:.2}–{:.2})", it.value, it.low, it.high)
}

fn percent(it: Figure, digits: usize) -> String {
    format!("{:.digits$} % ({:.digits$}–{:.digits$})", 100.0 * it.value, 100.0 * it.low, 100.0 * it.high)
}

/// A difference in percentage points.
fn points(it: Figure) -> String {
    // No minus before a nought.
    let point = |share: f64| (1_000.0 * share).round() / 10.0 + 0.0;
    format!("{:+.1} ({:+.1}–{:+.1})", point(it.value), point(it.low), point(it.high))
}

impl Report {
    /// The page: description, base case, one table per section. Its last line is the hash of what is above it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut page = self.described() + &self.base();
        let mut section = "";
        for case in &self.cases {
            if case.section != section {
                section = case.section;
                let _ = write!(page, "\n{section}\n\n{HEAD}");
            }
            page.push_str(&row(case));
            page.push('\n');
        }
        page.push_str(NOTES);
        let hash = blake3::hash(page.as_bytes()).to_hex();
        let _ = writeln!(page, "\nHash of this page: {}", &hash[..32]);
        page
    }

    fn described(&self) -> String {
        let effort = &self.effort;
        let last = |first: u64, count: u64| first + count - 1;
        format!(
            "Joint risk on a synthetic population\n\n\
             Two sides score each payment; fraud is {FRAUD_PER_MILLE} payment in 1,000. Within honest payments and within frauds both scores are\n\
             monotone functions of two normals with a correlation (Gaussian copula); a side's AUC says how far frauds are shifted.\n\
             The front alone declines {:.1} % of honest payments; the issuer's own limit is set so that declining when either side does\n\
             (naive OR) declines {OR_FACTOR} times as many. Base: AUC {:.2} (front, {:.2} standard deviations apart) and {:.2} (issuer, {:.2}), correlation {:.1}.\n\
             A seed is {} honest payments and {} frauds. Calibrated on seeds {FIRST_TRAINING_SEED} to {}, measured on seeds {FIRST_HELD_OUT_SEED} to {}.\n\
             In brackets 95 % intervals: Wilson for rates, bootstrap over the held-out seeds for ratios and differences.\n",
            100.0 * BASE.front_false_positives,
            BASE.front_auc,
            separation(BASE.front_auc),
            BASE.issuer_auc,
            separation(BASE.issuer_auc),
            BASE.honest_correlation,
            grouped(effort.honest),
            grouped(effort.fraud),
            last(FIRST_TRAINING_SEED, effort.training_seeds),
            last(FIRST_HELD_OUT_SEED, effort.held_out_seeds),
        )
    }

    /// Rates and policies of the base case.
    fn base(&self) -> String {
        let Some(case) = self.cases.first() else { return String::new() };
        let mut text = "\nBase case in full\n\n| declines | honest payments | frauds (recall) | honest a fraud stopped | false positives, front = 1 |\n\
                        |---|---|---|---|---|\n"
            .to_owned();
        let ways = [
            ("front alone", Way::Front),
            ("issuer alone", Way::Issuer),
            ("either (naive OR)", Way::Either),
            ("joint, at the front's recall", Way::JointAsFront),
            ("joint, at the OR's recall", Way::JointAsEither),
        ];
        for (name, way) in ways {
            let (cost, recall) = (case.measured.false_positive_rate(way), case.measured.recall(way));
            let frauds = f64::from(FRAUD_PER_MILLE) / 1_000.0;
            let per_fraud = cost.value * (1.0 - frauds) / (recall.value * frauds);
            let ratio = times(case.measured.times_false_positives(way, Way::Front));
            let (cost, recall) = (percent(cost, 3), percent(recall, 1));
            let _ = writeln!(text, "| {name} | {cost} | {recall} | {per_fraud:.1} | {ratio} |");
        }
        for (name, it) in ["the front's", "the OR's"].iter().zip(&case.joint) {
            let _ = write!(text, "\nPolicy at {name} recall: {}", described(&it.policy));
        }
        text + "\n"
    }
}

fn described(policy: &JointRiskPolicy) -> String {
    format!(
        "shares {} (front) and {} (issuer) bps, {} and {} knots, threshold {} thousandths of a nat.",
        policy.acquirer.share_bps,
        policy.issuer.share_bps,
        policy.acquirer.knots.len(),
        policy.issuer.knots.len(),
        policy.threshold_millinats
    )
}

const HEAD: &str = "| case | front's recall | recall of the OR | joint at the front's recall: false positives | recall | \
                    joint at the OR's recall: false positives | recall | possible | ≤ 1.00 |\n|---|---|---|---|---|---|---|---|---|\n";

const NOTES: &str = "\nFalse positives are multiples of the front's own. Recall is in percentage points more than the front's; in the last recall column more\n\
                     than the OR's. \"limits\": both scores together were not clearly better in calibration, and the policy keeps the limits of today.\n\
                     \"possible\": the lowest false positives at the OR's recall, without a margin, of any weighted sum without negative shares.\n\
                     \"≤ 1.00\": no more false positives than the front alone at no less recall than the front / than the OR, with 95 % confidence each;\n\
                     \"same\" where the policy is the front's own limit.\n";

/// One line of a table.
#[must_use]
pub fn row(case: &Case) -> String {
    let it = &case.measured;
    let cost = |calibrated: &Calibrated, way| {
        let kept = if calibrated.fused { "" } else { ", limits" };
        times(it.times_false_positives(way, Way::Front)) + kept
    };
    let answer = |calibrated: &Calibrated, joint, of| match (case.holds(joint, of), calibrated.fused) {
        (true, true) => "yes",
        (true, false) => "same",
        (false, _) => "no",
    };
    format!(
        "| {} | {:.1} % | {} | {} | {} | {} | {} | {} | {} / {} |",
        case.name,
        100.0 * it.recall(Way::Front).value,
        points(it.recall_over(Way::Either, Way::Front)),
        cost(&case.joint[0], Way::JointAsFront),
        points(it.recall_over(Way::JointAsFront, Way::Front)),
        cost(&case.joint[1], Way::JointAsEither),
        points(it.recall_over(Way::JointAsEither, Way::Either)),
        case.possible.map_or("–".to_owned(), |it| format!("{it:.2}")),
        answer(&case.joint[0], Way::JointAsFront, Way::Front),
        answer(&case.joint[1], Way::JointAsEither, Way::Either),
    )
}
