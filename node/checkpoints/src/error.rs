//! What stops the node here.

use anji_contracts::types::Hash32;
use std::io;
use std::path::PathBuf;

/// Why checkpoints cannot go on; the node must stop, as going on could sign two roots for one size.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointsError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file belongs to another chain or validator.
    #[error("{} was made for another chain or another validator\n  way out: put the right data folder in its place", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// This validator signed one log and has now executed another.
    #[error(
        "CONTRADICTION at height {height}: this validator has signed the log of size {signed_size} with root {signed_root}, and its own log now has size {size} and root {root}; it signs nothing more\n  way out: this node or its disk is wrong; keep the data folder for inspection, and restore from the other nodes"
    )]
    Contradiction {
        /// The height.
        height: u64,
        /// What was signed.
        signed_size: u64,
        /// What was signed.
        signed_root: Hash32,
        /// What was executed.
        size: u64,
        /// What was executed.
        root: Hash32,
    },
    /// The stored checkpoints cannot be read or written.
    #[error("checkpoints cannot be kept: {0}")]
    Store(String),
    /// The system gives no thread.
    #[error("no thread for checkpoints: {0}")]
    Thread(io::Error),
}

impl CheckpointsError {
    /// For the process: 70 when money could be wrong, 74 when the machine is.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Contradiction { .. } => 70,
            Self::Foreign { .. } => 78,
            Self::Io { .. } | Self::Store(_) | Self::Thread(_) => 74,
        }
    }
}
