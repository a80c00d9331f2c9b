//! The rules that several machines share. Each answers yes or a reject and changes nothing.

pub(crate) mod disclosure;
pub(crate) mod exposure;
pub mod joint_risk;
pub(crate) mod licence;
pub(crate) mod risk;
pub(crate) mod scenes;

/// How far a participant's clock may be ahead of ledger time: ids, risk assertions and consents allow this much.
pub(crate) const CLOCK_AHEAD_MS: u64 = 2 * 60 * 1000;
