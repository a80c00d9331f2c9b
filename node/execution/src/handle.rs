//! Execution on a thread of its own: a bounded way in, answers for everybody who waits.
#![allow(clippy::missing_errors_doc, unused_variables, clippy::unused_async)]

use crate::error::ExecutionError;
use crate::executor::{DecidedBlock, Executed, Executor};
use crate::registry::RegistrySnapshot;
use anji_verify::LogRoot;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// Blocks that may wait for execution: consensus is held back behind them.
pub const QUEUE_BLOCKS: usize = 2;

/// Starts the thread. It ends when every handle is dropped and the queue is empty (the state is flushed then), or at the first error.
pub fn spawn(executor: Executor) -> std::io::Result<ExecutionHandle> {
    unimplemented!()
}

/// The way to the execution thread. Clones share it.
#[derive(Clone, Debug)]
pub struct ExecutionHandle {
    _inner: Arc<()>,
}

impl ExecutionHandle {
    /// Hands over the next decided block; waits while two blocks are queued. The block must be durable.
    pub async fn submit(&self, block: DecidedBlock) -> Result<(), ExecutionError> {
        unimplemented!()
    }

    /// The last executed block, without waiting.
    #[must_use]
    pub fn executed(&self) -> Arc<Executed> {
        unimplemented!()
    }

    /// Tells of every executed block; one that looks away sees only the newest.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Executed>> {
        unimplemented!()
    }

    /// Every executed block in order; one that lags gets `Lagged` and reads what it missed from storage.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Executed>> {
        unimplemented!()
    }

    /// The log after `height` if it is executed and among the newest 64 heights; older ones are in storage.
    #[must_use]
    pub fn try_root_after(&self, height: u64) -> Option<LogRoot> {
        unimplemented!()
    }

    /// The log after `height`; waits until it is executed.
    pub async fn root_after(&self, height: u64) -> Result<LogRoot, ExecutionError> {
        unimplemented!()
    }

    /// Participants, keys and rules now.
    #[must_use]
    pub fn registry(&self) -> Arc<RegistrySnapshot> {
        unimplemented!()
    }

    /// Participants, keys and rules after `height`; waits until it is executed. `None` if it is more than 64 heights ago.
    pub async fn registry_after(&self, height: u64) -> Result<Option<Arc<RegistrySnapshot>>, ExecutionError> {
        unimplemented!()
    }

    /// The same without waiting; `None` if it is not executed yet or more than 64 heights ago.
    #[must_use]
    pub fn try_registry_after(&self, height: u64) -> Option<Arc<RegistrySnapshot>> {
        unimplemented!()
    }

    /// Resolves when execution has stopped, with the reason; `None` after a clean stop.
    pub async fn stopped(&self) -> Option<Arc<ExecutionError>> {
        unimplemented!()
    }
}
