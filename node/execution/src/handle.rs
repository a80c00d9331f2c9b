//! Execution on a thread of its own: a bounded way in, answers for everybody who waits.

use crate::error::ExecutionError;
use crate::executor::{DecidedBlock, Executed, Executor};
use crate::registry::RegistrySnapshot;
use anji_storage::{ReadError, Reader};
use anji_verify::LogRoot;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, mpsc, watch};

/// Blocks that may wait for execution: consensus is held back behind them.
pub const QUEUE_BLOCKS: usize = 2;
/// Heights whose root and registry are kept in memory.
pub const RECENT_HEIGHTS: usize = 64;
/// Executed blocks that a subscriber may lie behind before it has to read from storage.
const SUBSCRIBER_BLOCKS: usize = 32;

enum Message {
    Block(Box<DecidedBlock>),
    Stop,
}

/// How the thread ended: `None` while it runs.
type Ended = Option<Result<(), Arc<ExecutionError>>>;

#[derive(Clone, Debug)]
struct Recent {
    height: u64,
    log: LogRoot,
    registry: Arc<RegistrySnapshot>,
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Message>,
    executed: watch::Receiver<Arc<Executed>>,
    executed_each: broadcast::Sender<Arc<Executed>>,
    ended: watch::Receiver<Ended>,
    recent: Arc<Mutex<VecDeque<Recent>>>,
    reader: Reader,
}

/// The way to the execution thread. Clones share it.
#[derive(Clone, Debug)]
pub struct ExecutionHandle {
    shared: Arc<Shared>,
}

/// Starts the thread. It ends when it is told to stop or every handle is dropped (the state is flushed then), or at the first error.
///
/// # Errors
/// The system gives no thread, or the state cannot be read.
pub fn spawn(executor: Executor) -> Result<ExecutionHandle, ExecutionError> {
    let last = Arc::new(executor.last());
    let reader = executor.reader().clone();
    let recent = Arc::new(Mutex::new(load_recent(&executor)?));
    let (queue, blocks) = mpsc::channel(QUEUE_BLOCKS);
    let (executed_out, executed) = watch::channel(last);
    let (executed_each, _) = broadcast::channel(SUBSCRIBER_BLOCKS);
    let (ended_out, ended) = watch::channel(None);
    let thread = Thread {
        executor,
        blocks,
        executed: executed_out,
        executed_each: executed_each.clone(),
        recent: Arc::clone(&recent),
    };
    std::thread::Builder::new().name("anji-execution".into()).spawn(move || {
        // If this thread panics, dropping the sender tells those who wait.
        let result = thread.run();
        ended_out.send_replace(Some(result.map_err(Arc::new)));
    })?;
    Ok(ExecutionHandle { shared: Arc::new(Shared { queue, executed, executed_each, ended, recent, reader }) })
}

/// What consensus needs to judge the next blocks right after a start.
fn load_recent(executor: &Executor) -> Result<VecDeque<Recent>, ReadError> {
    let newest = executor.height();
    let mut recent = VecDeque::with_capacity(RECENT_HEIGHTS);
    for height in newest.saturating_sub(4)..=newest {
        if executor.is_bare() {
            recent.push_back(Recent { height, log: executor.log_root(), registry: executor.registry() });
            continue;
        }
        let registry = executor.registry_at(height)?;
        let log = executor.reader().root_at(height)?;
        if let (Some(registry), Some(log)) = (registry, log) {
            recent.push_back(Recent { height, log, registry: Arc::new(registry) });
        }
    }
    Ok(recent)
}

struct Thread {
    executor: Executor,
    blocks: mpsc::Receiver<Message>,
    executed: watch::Sender<Arc<Executed>>,
    executed_each: broadcast::Sender<Arc<Executed>>,
    recent: Arc<Mutex<VecDeque<Recent>>>,
}

impl Thread {
    fn run(mut self) -> Result<(), ExecutionError> {
        while let Some(Message::Block(block)) = self.blocks.blocking_recv() {
            let height = block.block.header.height;
            match self.executor.execute(&block) {
                Ok(executed) => self.publish(executed),
                Err(error) => {
                    if error.is_broken() {
                        tracing::error!(height, %error, "BROKEN: the node must stop at this height");
                    } else {
                        tracing::error!(height, %error, "execution stops");
                    }
                    return Err(error);
                }
            }
        }
        self.executor.flush()?;
        tracing::info!(height = self.executor.height(), "execution stopped, state flushed");
        Ok(())
    }

    fn publish(&self, executed: Executed) {
        let executed = Arc::new(executed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT_HEIGHTS {
            recent.pop_front();
        }
        recent.push_back(Recent {
            height: executed.height,
            log: executed.log,
            registry: Arc::clone(&executed.registry),
        });
        drop(recent);
        // The watch goes last: who is woken by it finds everything else in place. Nobody listening is no error.
        let _ = self.executed_each.send(Arc::clone(&executed));
        self.executed.send_replace(executed);
    }
}

impl ExecutionHandle {
    /// Hands over the next decided block; waits while [`QUEUE_BLOCKS`] blocks are queued. The block must be durable.
    ///
    /// # Errors
    /// [`ExecutionError::Stopped`].
    pub async fn submit(&self, block: DecidedBlock) -> Result<(), ExecutionError> {
        let message = Message::Block(Box::new(block));
        self.shared.queue.send(message).await.map_err(|_| ExecutionError::Stopped)
    }

    /// The last executed block, without waiting.
    #[must_use]
    pub fn executed(&self) -> Arc<Executed> {
        Arc::clone(&self.shared.executed.borrow())
    }

    /// Tells of every executed block; one that looks away sees only the newest.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Executed>> {
        self.shared.executed.clone()
    }

    /// Every executed block in order; one that lags gets `Lagged` and reads what it missed from storage.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Executed>> {
        self.shared.executed_each.subscribe()
    }

    /// Reads of the state that execution writes.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    fn recent(&self, height: u64) -> Option<Recent> {
        let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().find(|it| it.height == height).cloned()
    }

    /// The log after `height` if it is executed and among the newest [`RECENT_HEIGHTS`]; older ones are in storage.
    #[must_use]
    pub fn try_root_after(&self, height: u64) -> Option<LogRoot> {
        self.recent(height).map(|it| it.log)
    }

    /// The log after `height`; waits until it is executed.
    ///
    /// # Errors
    /// [`ExecutionError::Stopped`] if that will not happen, or the store failed.
    pub async fn root_after(&self, height: u64) -> Result<LogRoot, ExecutionError> {
        self.executed_up_to(height).await?;
        if let Some(log) = self.try_root_after(height) {
            return Ok(log);
        }
        let reader = self.shared.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.root_at(height)).await;
        read.map_err(|_| ExecutionError::Stopped)??.ok_or(ExecutionError::Stopped)
    }

    /// Waits until `height` is executed.
    ///
    /// # Errors
    /// [`ExecutionError::Stopped`] if that will not happen.
    pub async fn executed_up_to(&self, height: u64) -> Result<(), ExecutionError> {
        let mut executed = self.shared.executed.clone();
        executed.wait_for(|it| it.height >= height).await.map(|_| ()).map_err(|_| ExecutionError::Stopped)
    }

    /// Participants, keys and rules now.
    #[must_use]
    pub fn registry(&self) -> Arc<RegistrySnapshot> {
        Arc::clone(&self.shared.executed.borrow().registry)
    }

    /// Participants, keys and rules after `height`; waits until it is executed. `None` if it is too long ago.
    ///
    /// # Errors
    /// [`ExecutionError::Stopped`] if that will not happen.
    pub async fn registry_after(&self, height: u64) -> Result<Option<Arc<RegistrySnapshot>>, ExecutionError> {
        self.executed_up_to(height).await?;
        Ok(self.try_registry_after(height))
    }

    /// The same without waiting; `None` if it is not executed yet or too long ago.
    #[must_use]
    pub fn try_registry_after(&self, height: u64) -> Option<Arc<RegistrySnapshot>> {
        self.recent(height).map(|it| it.registry)
    }

    /// Runs what is queued, makes the state durable and ends the thread; returns when that is done.
    ///
    /// # Errors
    /// Why execution had stopped before.
    pub async fn stop(&self) -> Result<(), Arc<ExecutionError>> {
        // If the thread is gone already, how it ended says why.
        let _ = self.shared.queue.send(Message::Stop).await;
        self.stopped().await.map_or(Ok(()), Err)
    }

    /// Resolves when execution has stopped, with the reason; `None` after a clean stop.
    pub async fn stopped(&self) -> Option<Arc<ExecutionError>> {
        let mut ended = self.shared.ended.clone();
        let result = match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            // The sender is gone without a word: the thread panicked.
            Err(_) => Some(Err(Arc::new(ExecutionError::Panicked))),
        };
        result.and_then(Result::err)
    }
}
