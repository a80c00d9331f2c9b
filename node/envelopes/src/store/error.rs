//! What goes wrong with the store, by what the caller can do about it.

use crate::error::OpenError;
use anji_contracts::types::Hash32;
use std::path::{Path, PathBuf};

/// The store cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{0}: another process has these envelopes open\n  way out: stop it first")]
    Locked(PathBuf),
    /// It belongs to another ledger.
    #[error("{path}: these envelopes belong to another ledger\n  way out: give every ledger a folder of its own")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Bytes are not what was written.
    #[error(
        "{path}: damaged at byte {offset}: {what}\n  way out: restore the file from a copy, then erase again what was erased since"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The file system refuses; nothing that was acknowledged is lost.
    #[error("{path}: {what}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A write failed in a way that leaves unknown what is on the disk. The store takes no more writes until it is opened again.
    #[error(
        "{path}: a write failed and the file must be read anew: {what}\n  way out: free or mend the disk, then start again"
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// A limit of the configuration is reached.
    #[error(
        "the store is full: {envelopes} envelopes, {bytes} bytes\n  way out: raise the limits, or begin a new folder"
    )]
    Full {
        /// Envelopes in it.
        envelopes: usize,
        /// Bytes of its files.
        bytes: u64,
    },
    /// More than 16 MiB at once.
    #[error("{0} bytes are more than are kept at once")]
    TooMuch(usize),
    /// The bytes are no envelope of this ledger with its own secrets.
    #[error(transparent)]
    Refused(OpenError),
    /// It was erased; it is not taken again.
    #[error("envelope {hash} was erased at {at_ms}")]
    Erased {
        /// Which.
        hash: Hash32,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// It is not here.
    #[error("there is no envelope {0}")]
    Unknown(Hash32),
}

/// A stored envelope cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStored {
    /// It is not here.
    #[error("there is no envelope {0}")]
    Unknown(Hash32),
    /// Its secrets were destroyed.
    #[error("envelope {hash} was erased at {at_ms}")]
    Erased {
        /// Which.
        hash: Hash32,
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// Hash of the reason on file.
        reference: Hash32,
    },
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { path, what, source }
}
