//! The experiment as a test: the same figures again, the claim for the base case, and the figures in the documentation.
#![allow(clippy::unwrap_used, reason = "a test")]

use anji_experiments::joint_risk::measure::Way;
use anji_experiments::joint_risk::report::{BASE, row};
use anji_experiments::joint_risk::{Effort, Report, run};
use std::sync::LazyLock;

static REPORT: LazyLock<Report> = LazyLock::new(|| run(&Effort::quick()));

#[test]
fn the_naive_or_costs_37_percent_more_false_positives() {
    // The limits follow from the population, not from these seeds, so the seeds' own ratio lies about it.
    let cost = REPORT.cases[0].measured.times_false_positives(Way::Either, Way::Front);
    assert!((cost.value - 1.37).abs() < 0.03, "{cost:?}");
}

#[test]
fn the_joint_policy_costs_no_more_than_the_front_alone() {
    let base = &REPORT.cases[0];
    assert!(base.joint.iter().all(|it| it.fused));
    // At no less recall than the front's own, and at no less than that of the naive OR.
    assert!(base.holds(Way::JointAsFront, Way::Front), "{}", row(base));
    assert!(base.holds(Way::JointAsEither, Way::Either), "{}", row(base));
}

#[test]
fn the_policy_is_nearly_the_best_that_any_rule_could_be() {
    for way in [Way::JointAsFront, Way::JointAsEither] {
        let measured = &REPORT.cases[0].measured;
        let possible = BASE.possible(measured.recall(way).value).unwrap();
        let reached = measured.false_positive_rate(way);
        println!("{way:?}: {:.3} %, possible {:.3} %", 100.0 * reached.value, 100.0 * possible);
        assert!(reached.low < 1.05 * possible, "{reached:?} where {possible} is possible");
    }
}

#[test]
fn no_correlation_or_quality_makes_it_cost_more_than_the_front_alone() {
    let sweeps = ["Base case", "Correlation and the issuer's quality", "Calibrated again on other seeds"];
    let cases = REPORT.cases.iter().filter(|it| sweeps.contains(&it.section));
    let broken: Vec<String> = cases.filter(|it| !it.holds(Way::JointAsFront, Way::Front)).map(row).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_same_seeds_give_the_same_page() {
    let small =
        Effort { training_seeds: 2, held_out_seeds: 4, correlations: &[0.3], issuer_aucs: &[0.8], ..Effort::quick() };
    let page = run(&small).text();
    assert_eq!(page, run(&small).text());
    // The same on every machine; another hash means another experiment.
    assert_eq!(page.lines().last(), Some("Hash of this page: e362fe871160d2c7620774e4b1b43b0d"));
}

#[test]
fn the_documentation_shows_these_figures() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../node/docs/JOINT_RISK.md");
    let written = std::fs::read_to_string(path).unwrap();
    let page = REPORT.text();
    let rows = page.lines().filter(|line| line.starts_with("| ") || line.starts_with("Hash of"));
    let missing: Vec<&str> = rows.filter(|row| !written.contains(row)).collect();
    assert!(missing.is_empty(), "not in JOINT_RISK.md:\n{}", missing.join("\n"));
}
