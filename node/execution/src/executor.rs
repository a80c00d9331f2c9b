//! One decided block from bytes to root.
#![allow(clippy::missing_errors_doc, unused_variables)]

use crate::error::ExecutionError;
use crate::metrics::ExecutionMetrics;
use crate::registry::RegistrySnapshot;
use anji_contracts::types::{Hash32, ScopedId};
use anji_contracts::{CheckedBatch, Genesis, Reject};
use anji_storage::{BatchReceipts, Block, Opened};
use anji_verify::LogRoot;
use std::sync::Arc;

/// A decided block on its way into execution.
#[derive(Clone, Debug)]
pub struct DecidedBlock {
    /// The block as archived; it must be durable.
    pub block: Block,
    /// Batches that were decoded and verified before, by place; what is missing is decoded again.
    pub checked: Vec<Option<Arc<CheckedBatch>>>,
}

impl From<Block> for DecidedBlock {
    fn from(block: Block) -> Self {
        Self { block, checked: Vec::new() }
    }
}

/// An operation that would have broken an invariant: refused with a 9xxx code, an operator must look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// Which operation.
    pub op: ScopedId,
    /// Which code.
    pub reject: Reject,
}

/// What a block did, once it is durable and executed here: its receipts are `decided`.
#[derive(Clone, Debug)]
pub struct Executed {
    /// Its height; 0 is genesis.
    pub height: u64,
    /// Hash of its header.
    pub header_hash: Hash32,
    /// Its ledger time.
    pub time_ms: u64,
    /// The log after it.
    pub log: LogRoot,
    /// Receipts, batch by batch.
    pub batches: Vec<Arc<BatchReceipts>>,
    /// Operations refused with a 9xxx code.
    pub alarms: Vec<Alarm>,
    /// Participants, keys and rules after it.
    pub registry: Arc<RegistrySnapshot>,
}

/// Bounds of memory.
#[derive(Clone, Debug)]
pub struct ExecutionOptions {
    /// Entities (mandates, lines, open payments) kept decoded in memory, at most twice this many.
    pub cached_entities: usize,
    /// Operation ids of the newest blocks kept in memory, at most twice this many.
    pub cached_ops: usize,
}

impl Default for ExecutionOptions {
    fn default() -> Self {
        Self { cached_entities: 100_000, cached_ops: 200_000 }
    }
}

/// Runs blocks in order on one thread. Owns the state's only writer.
#[derive(Debug)]
pub struct Executor {
    _opened: Opened,
}

impl Executor {
    /// Writes genesis where the state is empty, then replays the decided blocks that the state does not have yet.
    pub fn open(
        opened: Opened,
        genesis: &Genesis,
        options: &ExecutionOptions,
        metrics: ExecutionMetrics,
    ) -> Result<Self, ExecutionError> {
        unimplemented!()
    }

    /// Runs the block above the executed height and commits its effects.
    pub fn execute(&mut self, block: &DecidedBlock) -> Result<Executed, ExecutionError> {
        unimplemented!()
    }

    /// Makes the state durable: for a clean stop.
    pub fn flush(&mut self) -> Result<(), ExecutionError> {
        unimplemented!()
    }

    /// Height of the last executed block.
    #[must_use]
    pub fn height(&self) -> u64 {
        unimplemented!()
    }

    /// The log after it.
    #[must_use]
    pub fn log_root(&self) -> LogRoot {
        unimplemented!()
    }

    /// Participants, keys and rules after it.
    #[must_use]
    pub fn registry(&self) -> Arc<RegistrySnapshot> {
        unimplemented!()
    }
}
