//! What a node keeps on disk: the block file, which is the write-ahead log, and the state derived from it.
//!
//! Bodies and certificates are synced to the block file before anything is told ([`BlockFile`]). Entries, indexes and log
//! tiles live in RocksDB with its own log off ([`Store`], [`Reader`]); after a crash they are at an older executed height and
//! execution replays the blocks past it. Deleting `state/` loses nothing. Nothing here judges a block or an operation.
//! Read [`blocks`] for the file format, [`columns`] for the state's, [`open`] for what start-up checks.
#![deny(missing_docs)]

mod active;
pub mod blocks;
mod checkpoints;
pub mod columns;
mod commit;
mod entries;
pub mod error;
mod folder;
pub mod open;
mod proofs;
mod reader;
mod state;
mod sums;
mod tiles;
mod windows;

pub use active::{ActiveAt, PROVABLE_BLOCKS};
pub use blocks::disk::{Disk, SystemDisk};
pub use blocks::{Block, BlockFile, Proposal};
pub use checkpoints::CheckpointStore;
pub use columns::{BatchReceipts, BlockRecord, Latest, OpRow};
pub use commit::{BlockCommit, EntryBuffer, Store};
pub use error::{AppendError, CommitError, OpenError, ReadError};
pub use folder::FileBirth;
pub use open::{Opened, ReadOnly, StoreOptions, Verify};
pub use proofs::LogProver;
pub use reader::{DiskUsage, Known, Reader, RecentBatch};

/// Version of everything in the data folder. Raised with every change of a file's or a column family's bytes.
///
/// History: 1, the founding format; 2, the bitmap of latest versions and the payments of windows; 3, final checkpoints; 4, entries in rows of
/// sixteen, and payments in their first version found by their operation.
pub const FORMAT_VERSION: u32 = 4;
