//! Why execution stops. Nothing in here is a business answer.

use anji_contracts::Reject;
use anji_contracts::types::Hash32;
use anji_storage::{CommitError, ReadError};
use anji_verify::LogRoot;

/// Execution cannot go on. The node stops; where [`Self::is_broken`], with exit code 70, since going on could make a balance wrong.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The header names another log than this node computed: the state here or there is wrong.
    #[error(
        "height {height}: the decided header says that after height {of_height} the log is {} entries with root {}, this node has {} entries with root {}",
        header.size, header.root, own.size, own.root
    )]
    BrokenRoot {
        /// Height of the header.
        height: u64,
        /// The height the root belongs to.
        of_height: u64,
        /// What the header says.
        header: LogRoot,
        /// What was computed here.
        own: LogRoot,
    },
    /// A sum over the whole ledger does not fit.
    #[error("height {height}: {what}")]
    BrokenSum {
        /// Height of the block.
        height: u64,
        /// Which sum, with both sides.
        what: String,
    },
    /// The decided block is not the successor of the last one, or its body is not the one its header names.
    #[error("height {height} ({header_hash}): {what}")]
    BrokenBlock {
        /// Height of the block.
        height: u64,
        /// Its header hash.
        header_hash: Hash32,
        /// What does not fit.
        what: String,
    },
    /// A batch of a decided block cannot be decoded.
    #[error("height {height}, batch {position}: {reject}")]
    BrokenBatch {
        /// Height of the block.
        height: u64,
        /// Place of the batch in the block.
        position: usize,
        /// What is wrong with it.
        reject: Reject,
    },
    /// The genesis document does not describe a state.
    #[error("genesis: {0}")]
    Genesis(String),
    /// The state could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The state could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The system gives no thread.
    #[error("starting the execution thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The execution thread panicked: a bug; the message is on stderr.
    #[error("the execution thread panicked")]
    Panicked,
    /// Execution stopped before; the first error is in the log and with [`crate::ExecutionHandle::stopped`].
    #[error("execution has stopped")]
    Stopped,
}

impl ExecutionError {
    /// Whether going on could make a balance wrong: exit code 70.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        match self {
            Self::BrokenRoot { .. }
            | Self::BrokenSum { .. }
            | Self::BrokenBlock { .. }
            | Self::BrokenBatch { .. }
            | Self::Panicked => true,
            Self::Genesis(_) | Self::Commit(_) | Self::Read(_) | Self::Thread(_) | Self::Stopped => false,
        }
    }
}
