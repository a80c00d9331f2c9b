//! The full check of a data folder: every sum, index and root recomputed from the entries.
#![allow(clippy::missing_errors_doc, unused_variables)]

use anji_storage::{ReadError, Reader};
use anji_verify::LogRoot;

/// One thing that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What should hold.
    pub name: &'static str,
    /// Whether it does.
    pub holds: bool,
    /// The figures, or the first thing that does not fit.
    pub detail: String,
}

/// What the full check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Height the state is at.
    pub height: u64,
    /// Its log.
    pub log: LogRoot,
    /// Number of entities.
    pub n_entities: u64,
    /// Number of payments.
    pub n_payments: u64,
    /// All checks, in a fixed order.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether every check held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

/// Recomputes everything from the entries. Reads the whole state once; memory grows with the number of open items only.
/// `progress` is told (entries read, entries in all) now and then.
pub fn scan_invariants(reader: &Reader, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, ReadError> {
    unimplemented!()
}
