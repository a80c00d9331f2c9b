//! Why there is no bundle.

use anji_storage::ReadError;

/// Why there is no bundle, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The ledger does not have it, as far as it can be proven now.
    #[error("the ledger has no such {what}, as of block {height}, the newest that can be proven")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// The newest height that can be proven.
        height: u64,
    },
    /// The entity did not exist yet.
    #[error("there was no such {what} after block {height}")]
    NotThen {
        /// What was asked for.
        what: &'static str,
        /// The height asked for.
        height: u64,
    },
    /// It will be provable soon.
    #[error("it cannot be proven yet: {0}; ask again in a moment")]
    NotYet(&'static str),
    /// The opposite is the case.
    #[error("the payment was captured in that window")]
    Captured,
    /// The window is still open, or its payments are not committed to yet.
    #[error("the window is open, or the list of its payments is not complete yet; ask again after it has closed")]
    WindowOpen,
    /// Too many versions lie between now and then.
    #[error("more than {most} later versions; ask an archive for it")]
    TooFar {
        /// The bound.
        most: usize,
    },
    /// More was asked for than a bundle holds.
    #[error("a bundle has at most {most} claims")]
    TooMany {
        /// The bound.
        most: usize,
    },
    /// Blocks came faster than the bundle could be made.
    #[error("the chain went on faster than the bundle could be made; ask again")]
    Overtaken,
    /// The node's data.
    #[error(transparent)]
    Storage(#[from] ReadError),
    /// The node's data contradicts itself.
    #[error("the node's data contradicts itself: {0}")]
    Inconsistent(&'static str),
}
