//! Opening a data folder: what is checked before a node may start on it.
#![allow(clippy::missing_errors_doc, unused_variables)]

use crate::{BlockFile, OpenError, Reader, Store};
use anji_contracts::Genesis;
use anji_contracts::types::ChainId;
use std::path::Path;

/// How much is read back and checked at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// Every byte of every file; the newest million entries are hashed again.
    #[default]
    Full,
    /// Structure, and the newest segment and entries. What is older is checked when it is read.
    Recent,
}

/// Sizes. The defaults keep RocksDB under 200 MiB.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// RocksDB's block cache.
    pub cache_bytes: usize,
    /// Written state that is held in memory before it is flushed; up to twice that while a flush runs.
    pub write_buffer_bytes: usize,
    /// A segment of the block file ends past this size.
    pub segment_bytes: u64,
    /// What is checked at start.
    pub verify: Verify,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 80 << 20, write_buffer_bytes: 48 << 20, segment_bytes: 256 << 20, verify: Verify::Full }
    }
}

/// An open data folder. The folder stays locked until all three are dropped.
#[derive(Debug)]
pub struct Opened {
    /// The only writer of the state; execution owns it.
    pub store: Store,
    /// Reads of the state; clone it freely.
    pub reader: Reader,
    /// The block file; clone it freely.
    pub blocks: BlockFile,
}

/// A data folder opened for looking only: works beside a running node and changes nothing.
#[derive(Debug)]
pub struct ReadOnly {
    /// The chain in the folder.
    pub chain: ChainId,
    /// The state as of its last flush; its height may be below the block file's.
    pub reader: Reader,
    /// The block file; appends are refused.
    pub blocks: BlockFile,
}

impl Store {
    /// Opens the data folder of `genesis`' chain, or makes it.
    pub fn open(dir: &Path, genesis: &Genesis, options: &StoreOptions) -> Result<Opened, OpenError> {
        unimplemented!()
    }

    /// Opens a data folder for looking only.
    pub fn open_read_only(dir: &Path, options: &StoreOptions) -> Result<ReadOnly, OpenError> {
        unimplemented!()
    }
}
