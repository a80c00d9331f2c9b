//! What was executed, for everybody who waits: the head of the chain, the newest receipts, and calls that wait for one batch.
//!
//! The node calls [`Feed::executed`] for every executed block in order. If it skips some, the feed reads them from storage, so that
//! nothing is lost to a slow moment. Receivers read storage up to the ring and then the ring: no gap, no duplicate.

use anji_contracts::types::Hash32;
use anji_storage::{BatchReceipts, BlockRecord, ReadError, Reader};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// Receipts kept for streams that are up to date.
const RING_RECEIPTS: usize = 100_000;
/// Batches read from storage at a time to fill a gap.
const GAP_BATCHES: usize = 64;

type Waiters = HashMap<Hash32, HashMap<u64, oneshot::Sender<Arc<BatchReceipts>>>>;

/// The executed blocks of this node, as they come.
pub struct Feed {
    reader: Reader,
    head: watch::Sender<BlockRecord>,
    ring: Mutex<Ring>,
    waiters: Mutex<(u64, Waiters)>,
}

#[derive(Default)]
struct Ring {
    batches: VecDeque<Arc<BatchReceipts>>,
    n_receipts: usize,
    next_seq: u64,
}

impl Feed {
    /// Starts at the last executed block.
    ///
    /// # Errors
    /// The state cannot be read, or there is no executed block: genesis is written when the ledger is opened.
    pub fn new(reader: Reader) -> Result<Arc<Self>, ReadError> {
        let nothing = || ReadError::Corrupted {
            place: "roots".to_owned(),
            what: "no block is executed, not even genesis".to_owned(),
        };
        let last = reader.last_block()?.ok_or_else(nothing)?;
        Ok(Arc::new(Self {
            reader,
            head: watch::Sender::new(last),
            ring: Mutex::new(Ring { next_seq: last.n_batches_total, ..Ring::default() }),
            waiters: Mutex::default(),
        }))
    }

    /// A block was executed; `batches` are its receipts. Blocks may be skipped, never told out of order.
    ///
    /// # Errors
    /// The state cannot be read. Nothing is lost: the next call fills the gap.
    pub async fn executed(&self, batches: &[Arc<BatchReceipts>]) -> Result<(), ReadError> {
        // Read before filling: everything up to this block is told below.
        let Some(record) = self.reader.last_block()? else { return Ok(()) };
        let mut batches: VecDeque<_> = batches.iter().cloned().collect();
        loop {
            let next_seq = self.next_seq();
            if next_seq >= record.n_batches_total {
                break;
            }
            while batches.front().is_some_and(|batch| batch.seq < next_seq) {
                batches.pop_front();
            }
            match batches.pop_front_if(|batch| batch.seq == next_seq) {
                Some(batch) => self.tell(batch),
                None => {
                    let missed = self.read_from(next_seq).await?;
                    if missed.is_empty() {
                        let what = format!("the receipts of batch {next_seq} are missing");
                        return Err(ReadError::Corrupted { place: "receipts".to_owned(), what });
                    }
                    missed.into_iter().for_each(|batch| self.tell(Arc::new(batch)));
                }
            }
        }
        // The head last: whoever sees it finds the receipts.
        self.head.send_replace(record);
        Ok(())
    }

    async fn read_from(&self, seq: u64) -> Result<Vec<BatchReceipts>, ReadError> {
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.receipts_from(seq, GAP_BATCHES));
        read.await.unwrap_or_else(|error| {
            Err(ReadError::Corrupted {
                place: "receipts".to_owned(),
                what: format!("the read did not finish: {error}"),
            })
        })
    }

    fn tell(&self, batch: Arc<BatchReceipts>) {
        let waiting = self.waiters().1.remove(&batch.batch_hash);
        self.ring().push(batch.clone());
        for waiter in waiting.into_iter().flat_map(HashMap::into_values) {
            // An error means that the caller has hung up.
            let _ = waiter.send(batch.clone());
        }
    }

    /// The last executed block, and a word whenever it changes.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<BlockRecord> {
        self.head.subscribe()
    }

    /// The next sequence that this feed will tell of.
    pub(crate) fn next_seq(&self) -> u64 {
        self.ring().next_seq
    }

    /// Batches from `seq` on that are still in the ring, at most `limit`; `None` if `seq` is older than the ring.
    pub(crate) fn newest_from(&self, seq: u64, limit: usize) -> Option<Vec<Arc<BatchReceipts>>> {
        let ring = self.ring();
        let first = ring.batches.front().map_or(ring.next_seq, |batch| batch.seq);
        let skip = usize::try_from(seq.checked_sub(first)?).ok()?;
        Some(ring.batches.iter().skip(skip).take(limit).cloned().collect())
    }

    /// Waits for the receipts of one batch that is not executed yet. Register before handing the batch in.
    pub(crate) fn wait_for(self: &Arc<Self>, batch_hash: Hash32) -> Waiter {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.waiters();
        waiters.0 = waiters.0.wrapping_add(1);
        let number = waiters.0;
        waiters.1.entry(batch_hash).or_default().insert(number, sender);
        drop(waiters);
        Waiter { feed: self.clone(), batch_hash, number, receiver }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiters(&self) -> MutexGuard<'_, (u64, Waiters)> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, batch: Arc<BatchReceipts>) {
        self.next_seq = batch.seq.saturating_add(1);
        self.n_receipts = self.n_receipts.saturating_add(batch.receipts.len().max(1));
        self.batches.push_back(batch);
        while self.n_receipts > RING_RECEIPTS && self.batches.len() > 1 {
            let Some(old) = self.batches.pop_front() else { break };
            self.n_receipts = self.n_receipts.saturating_sub(old.receipts.len().max(1));
        }
    }
}

/// A call that waits for one batch. Dropping it gives the place back.
pub(crate) struct Waiter {
    feed: Arc<Feed>,
    batch_hash: Hash32,
    number: u64,
    receiver: oneshot::Receiver<Arc<BatchReceipts>>,
}

impl Waiter {
    /// The receipts, once the batch is executed.
    pub(crate) async fn receipts(&mut self) -> Arc<BatchReceipts> {
        match (&mut self.receiver).await {
            Ok(receipts) => receipts,
            // The sender is dropped only after it was used or with this waiter.
            Err(_) => std::future::pending().await,
        }
    }

    /// The receipts, if they are there already.
    pub(crate) fn try_receipts(&mut self) -> Option<Arc<BatchReceipts>> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.feed.waiters();
        if let Some(of_batch) = waiters.1.get_mut(&self.batch_hash) {
            of_batch.remove(&self.number);
            if of_batch.is_empty() {
                waiters.1.remove(&self.batch_hash);
            }
        }
    }
}
