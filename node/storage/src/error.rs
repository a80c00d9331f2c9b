//! What can go wrong on disk, by the decision the caller can take: refuse to start, stop the node, or answer one request.

use anji_contracts::types::{ChainId, Hash32};
use std::io;
use std::path::PathBuf;

/// The data folder cannot be opened. Nothing was changed, except that a torn tail may have been cut off.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the folder.
    #[error("{} is in use by another process{holder}; stop it first, or give this node its own data folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// " (pid N)" where known.
        holder: String,
    },
    /// The folder belongs to another chain.
    #[error("{} holds the data of chain {found}, but the genesis file is that of chain {expected}; use the data folder of this chain, or an empty one", path.display())]
    WrongChain {
        /// The data folder.
        path: PathBuf,
        /// The chain in the folder.
        found: ChainId,
        /// The chain of the genesis document given.
        expected: ChainId,
    },
    /// The folder was written by another version.
    #[error("{} has storage format {found}, this program writes format {expected}; run the program version that wrote it, or start with an empty folder and let the node catch up", path.display())]
    WrongVersion {
        /// The data folder.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// [`crate::FORMAT_VERSION`].
        expected: u32,
    },
    /// Bytes differ from what was written.
    #[error("{} is corrupted{}: {what}; {way_out}", path.display(), at(*offset))]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// Where in the file, if known.
        offset: Option<u64>,
        /// What is wrong.
        what: String,
        /// What the operator can do.
        way_out: &'static str,
    },
    /// Files contradict each other though each is well formed.
    #[error("{}: {what}; {way_out}", path.display())]
    Inconsistent {
        /// The folder or file.
        path: PathBuf,
        /// What does not fit.
        what: String,
        /// What the operator can do.
        way_out: &'static str,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn at(offset: Option<u64>) -> String {
    offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default()
}

/// The block file could not take a record. Whatever the variant, nothing was acknowledged: the caller must not vote, decide or
/// answer on the strength of the record, and except for [`Self::Refused`] it must stop the node.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full. The file was cut back to the end of its last good record; free space and start again.
    #[error("no space left for {}: the record was not written and the file is intact; free space and start the node again", path.display())]
    DiskFull {
        /// The segment.
        path: PathBuf,
    },
    /// The system refused; the file was cut back to its last good record where that was possible.
    #[error("{}: {source}; the record was not acknowledged, the node must stop", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// An earlier write or sync failed, so nothing more is taken in this run.
    #[error("the block file refused an earlier write and takes nothing more until the node is started again")]
    Poisoned,
    /// Two different values are decided at one height: safety of consensus is broken.
    #[error("height {height} is already decided as {decided}, a second decision names {offered}")]
    Conflict {
        /// The height.
        height: u64,
        /// What is on disk.
        decided: Hash32,
        /// What was offered.
        offered: Hash32,
    },
    /// What is decided already could not be read back to compare it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record does not fit: the caller's mistake, the file is unchanged and goes on.
    #[error("height {height}: {what}")]
    Refused {
        /// The height of the record.
        height: u64,
        /// What does not fit.
        what: String,
    },
}

/// A read failed. Never an answer of the ledger: the caller reports its own trouble.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is stored cannot be what was written.
    #[error("{place} is corrupted: {what}")]
    Corrupted {
        /// File and offset, or column family and key.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The system or RocksDB refused.
    #[error("{place}: {what}")]
    Failed {
        /// File, or column family and key.
        place: String,
        /// The answer.
        what: String,
    },
}

/// A block's effects could not be written. The state on disk is as before; the node must stop.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// RocksDB refused; often a full disk.
    #[error("writing the state of height {height} to {}: {what}", path.display())]
    Failed {
        /// The height.
        height: u64,
        /// The state folder.
        path: PathBuf,
        /// RocksDB's answer.
        what: String,
    },
    /// The caller offered a block out of turn or with numbers that do not fit.
    #[error("height {height} does not follow the state: {what}")]
    OutOfTurn {
        /// The height offered.
        height: u64,
        /// What does not fit.
        what: String,
    },
    /// A read on the way failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}
