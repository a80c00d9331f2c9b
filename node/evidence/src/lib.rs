//! Makes evidence bundles out of what a node has stored. `anji-verify` checks them; the format is in `proto/FORMAT.md`.
//!
//! [`Evidence::bundle`] picks the newest block whose checkpoint is final and whose root a decided header carries, and proves
//! everything asked for against the log after that block. Nothing is signed here and nothing is trusted: a wrong bundle fails at
//! whoever checks it. Reads block on the disk.
#![deny(missing_docs)]

mod absence;
mod anchor;
mod claims;
mod error;

pub use anchor::Anchored;
pub use error::EvidenceError;

use anji_contracts::EntityKey;
use anji_contracts::types::{PaymentId, ScopedId, WindowId};
use anji_storage::Reader;
use anji_verify::bundle::{Bundle, List, MAX_CLAIMS};

/// How often a newer anchor is taken when blocks overtake a bundle in the making.
const ATTEMPTS: usize = 3;

/// Something to be proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// What a participant signed under this id, and what the ledger answered.
    Operation(ScopedId),
    /// The state of an entity after the block of a height; `None`: after the newest block that can be proven.
    State(EntityKey, Option<u64>),
    /// That a payment was not captured in a closed window.
    Absence(PaymentId, WindowId),
}

/// A bundle with the block it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// The bundle.
    pub bundle: Bundle,
    /// Height of the block after which the log was as proven.
    pub height: u64,
}

/// The maker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Evidence {
    reader: Reader,
}

impl Evidence {
    /// A maker of bundles out of this state.
    #[must_use]
    pub const fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// Proves everything asked for in one bundle.
    ///
    /// # Errors
    /// [`EvidenceError`]: it is not so, it cannot be proven yet, or the node has trouble.
    pub fn bundle(&self, asks: &[Ask]) -> Result<Made, EvidenceError> {
        let mut attempts = 1;
        loop {
            match self.attempt(asks) {
                Err(EvidenceError::Overtaken) if attempts < ATTEMPTS => attempts += 1,
                answer => return answer,
            }
        }
    }

    fn attempt(&self, asks: &[Ask]) -> Result<Made, EvidenceError> {
        let anchored = Anchored::newest(&self.reader)?;
        let claims: Result<Vec<_>, _> = asks.iter().map(|ask| anchored.claim(ask)).collect();
        let claims = List::new(claims?).ok_or(EvidenceError::TooMany { most: MAX_CLAIMS })?;
        let height = anchored.height();
        Ok(Made { bundle: Bundle { anchor: anchored.into_anchor(), claims }, height })
    }
}
