//! The outbox: which request stands for which operation, fixed once and synced before anything is sent. After `kill -9` it says what
//! was asked and what was answered, so that the same request never acts under a second operation id. [`index`] is its memory,
//! [`file`] its disk, [`writer`] the thread between them.

pub(crate) mod file;
pub(crate) mod index;
pub(crate) mod record;
pub(crate) mod writer;

use std::path::PathBuf;

/// The outbox cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Another process has it open.
    #[error(
        "{0}: another adapter is running on this outbox\n  way out: stop it first; two adapters of one participant need a data_dir each"
    )]
    Locked(PathBuf),
    /// It belongs to another chain or participant.
    #[error(
        "{path}: this outbox belongs to another chain or participant\n  way out: give `data_dir` a folder of its own; keep the old one until its requests are settled"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Bytes are not what was written.
    #[error(
        "{path}: damaged at byte {offset}: {what}\n  way out: restore the file from a copy. Without it, check every request that was open against the ledger before it is repeated, then start with an empty data_dir"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The file system refuses; nothing was lost.
    #[error("{path}: {what}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What is on the disk is not known any more: the adapter must stop and read it again.
    #[error(
        "{path}: the disk failed while the outbox was synced: {source}\n  way out: check the disk, then start again; open requests are looked up at the node"
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl OutboxError {
    /// Whether the adapter may go on.
    pub(crate) const fn is_fatal(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

#[cfg(test)]
mod tests;
