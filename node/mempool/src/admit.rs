//! The way in: judgement of the bytes, then a place in the pool; and the pool's face to proposer, executor and operator.

use crate::candidate::CandidateLimits;
use crate::error::{Full, MempoolError};
use crate::frame::encode_frames;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pool::{Fate, Pool, PoolBatch};
use crate::ports::{Clock, Registry, Spread};
use crate::standing::{PeerStanding, Standings};
use anji_contracts::batch::{MAX_BATCH_BYTES, check_expiry};
use anji_contracts::types::{ChainId, Hash32, ParticipantId};
use anji_contracts::{DecodedBatch, Reject, decode_batch};
use anji_network::PeerId;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Judging bytes are counted in units of this size, since a semaphore counts in 32 bits.
const JUDGING_UNIT: usize = 1024;
/// A batch up to this size is judged where it arrives: one signature and a few operations take some thirty microseconds, less than handing
/// them to another thread and back.
pub(crate) const JUDGED_IN_PLACE: usize = 4096;
/// So many of them are judged in one go: about a millisecond.
const JUDGED_TOGETHER: usize = 32;

/// Where a batch comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client of this node. What is admitted is pushed to the peers.
    Client,
    /// A peer's push.
    Peer(PeerId),
}

/// What was known of a batch before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Nothing.
    New,
    /// It waits for a block already.
    Waiting,
    /// It is in the decided block of this height.
    OnChain {
        /// The height.
        height: u64,
    },
}

/// A batch was admitted, now or before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// BLAKE3 of the bytes.
    pub batch_hash: Hash32,
    /// Who signed it.
    pub participant: ParticipantId,
    /// Its number of operations.
    pub n_ops: u32,
    /// No block whose time is at or after this may hold it.
    pub expires_at_ms: u64,
    /// Whether it was known.
    pub known: Known,
}

/// The pool in figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MempoolStatus {
    /// Batches waiting for a block.
    pub n_batches: u64,
    /// Their operations.
    pub n_ops: u64,
    /// Memory of everything kept.
    pub memory_bytes: u64,
    /// Its bound.
    pub limit_bytes: u64,
}

/// The mempool. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Mempool {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    chain: ChainId,
    pub(crate) limits: Limits,
    registry: Arc<dyn Registry>,
    pub(crate) spread: Arc<dyn Spread>,
    pub(crate) clock: Clock,
    pool: Mutex<Pool>,
    standings: Mutex<Standings>,
    /// Units of [`JUDGING_UNIT`] bytes that may wait for judgement.
    waiting_room: Arc<Semaphore>,
    judges: Arc<Semaphore>,
    n_waiting: watch::Sender<usize>,
    pub(crate) metrics: Metrics,
}

impl Mempool {
    /// An empty pool for one chain.
    #[must_use]
    pub fn new(
        chain: ChainId,
        limits: Limits,
        registry: Arc<dyn Registry>,
        spread: Arc<dyn Spread>,
        clock: Clock,
        metrics: &mut prometheus_client::registry::Registry,
    ) -> Self {
        // At least one batch of the largest size must fit the waiting room.
        let room = (limits.judging_bytes.max(MAX_BATCH_BYTES) / JUDGING_UNIT).min(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                chain,
                registry,
                spread,
                clock,
                pool: Mutex::new(Pool::new(limits.clone())),
                standings: Mutex::default(),
                waiting_room: Arc::new(Semaphore::new(room)),
                judges: Arc::new(Semaphore::new(limits.judging_threads.max(1))),
                n_waiting: watch::Sender::new(0),
                metrics: Metrics::register(metrics),
                limits,
            }),
        }
    }

    /// Judges the exact bytes of a batch and keeps it. The same bytes again are no error: they are known.
    ///
    /// # Errors
    /// [`MempoolError`]; nothing was kept.
    pub async fn submit(&self, bytes: Bytes, origin: Origin) -> Result<Admitted, MempoolError> {
        let result = if bytes.len() > JUDGED_IN_PLACE {
            self.judge_elsewhere(bytes, origin).await
        } else {
            self.judge_here(&[bytes], origin).await.pop().unwrap_or(Err(MempoolError::Stopping))
        };
        self.shared.metrics.count(origin, &result);
        result
    }

    /// Judges batches that arrived together, in their order. Each gets the answer that [`Mempool::submit`] would give it; small ones cost less
    /// this way, as they share what is not their own.
    pub async fn submit_all(&self, batches: Vec<Bytes>, origin: Origin) -> Vec<Result<Admitted, MempoolError>> {
        let mut results = Vec::with_capacity(batches.len());
        let mut rest = batches.as_slice();
        while let [first, others @ ..] = rest {
            let n_small = rest.iter().take(JUDGED_TOGETHER).take_while(|it| it.len() <= JUDGED_IN_PLACE).count();
            if n_small < 2 {
                results.push(self.submit(first.clone(), origin).await);
                rest = others;
                continue;
            }
            let (small, others) = rest.split_at(n_small);
            let judged = self.judge_here(small, origin).await;
            judged.iter().for_each(|result| self.shared.metrics.count(origin, result));
            results.extend(judged);
            rest = others;
        }
        results
    }

    /// On a thread for what takes milliseconds.
    async fn judge_elsewhere(&self, bytes: Bytes, origin: Origin) -> Result<Admitted, MempoolError> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(Reject::TooLarge.into());
        }
        let place = self.enter_waiting_room(bytes.len(), origin).await?;
        let judge = self.shared.judges.clone().acquire_owned().await.map_err(|_| MempoolError::Stopping)?;
        let this = self.clone();
        // A judge that has begun finishes even if the caller hangs up; place and judge are given back when it has.
        let task = tokio::task::spawn_blocking(move || {
            let _permits = (place, judge);
            this.judge_now(&[bytes], origin).pop().unwrap_or(Err(MempoolError::Stopping))
        });
        task.await.map_err(|_| MempoolError::Stopping)?
    }

    /// On this thread: a few small batches.
    async fn judge_here(&self, batches: &[Bytes], origin: Origin) -> Vec<Result<Admitted, MempoolError>> {
        let size = batches.iter().map(Bytes::len).sum();
        let admitted = async {
            let place = self.enter_waiting_room(size, origin).await?;
            Ok((place, self.shared.judges.clone().acquire_owned().await.map_err(|_| MempoolError::Stopping)?))
        };
        match admitted.await {
            Ok(_permits) => self.judge_now(batches, origin),
            Err(error) => batches.iter().map(|_| Err(MempoolError::clone(&error))).collect(),
        }
    }

    fn judge_now(&self, batches: &[Bytes], origin: Origin) -> Vec<Result<Admitted, MempoolError>> {
        let started = Instant::now();
        let results = anji_meter::measure(anji_meter::Stage::Verify, || self.keep(self.judge(batches, origin), origin));
        self.shared.metrics.judging_seconds.observe(started.elapsed().as_secs_f64());
        results
    }

    /// A client is told to come back when the waiting room is full; peers are read one after the other, so they wait.
    async fn enter_waiting_room(&self, size: usize, origin: Origin) -> Result<OwnedSemaphorePermit, MempoolError> {
        let units = u32::try_from(size.div_ceil(JUDGING_UNIT)).unwrap_or(u32::MAX);
        let room = self.shared.waiting_room.clone();
        match origin {
            Origin::Client => {
                room.try_acquire_many_owned(units).map_err(|_| full(Full::Judging, Duration::from_millis(50)))
            }
            Origin::Peer(_) => room.acquire_many_owned(units).await.map_err(|_| MempoolError::Stopping),
        }
    }

    /// Everything that is judged on the bytes alone, the keys and the clock.
    fn judge(&self, batches: &[Bytes], origin: Origin) -> Vec<Result<Judged<PoolBatch>, Reject>> {
        let shared = &self.shared;
        let decoded: Vec<Result<DecodedBatch, Reject>> =
            batches.iter().map(|bytes| decode_batch(bytes, &shared.chain)).collect();
        let fates: Vec<Fate> = {
            let pool = self.pool();
            decoded.iter().map(|it| it.as_ref().map_or(Fate::Unknown, |it| pool.fate(&it.hash))).collect()
        };
        let now_ms = (shared.clock)();
        let judge = |(decoded, fate): (Result<DecodedBatch, Reject>, Fate)| {
            let decoded = decoded?;
            // The same bytes were verified before, so they need no second look; not even when they have expired meanwhile.
            if let Some(known) = known_of(fate) {
                return Ok(Judged::Known(admitted(&decoded, known)));
            }
            check_expiry(decoded.header.expires_at_ms, now_ms)?;
            Ok(Judged::New(decoded))
        };
        let looks: Vec<Result<Judged<DecodedBatch>, Reject>> = decoded.into_iter().zip(fates).map(judge).collect();
        let new = looks.iter().filter_map(|look| match look {
            Ok(Judged::New(decoded)) => Some(decoded),
            _ => None,
        });
        let mut verdicts = shared.registry.check_signatures(&new.collect::<Vec<_>>(), now_ms).into_iter();
        let finish = |(look, bytes): (Result<Judged<DecodedBatch>, Reject>, &Bytes)| {
            Ok(match look? {
                Judged::Known(admitted) => Judged::Known(admitted),
                Judged::New(decoded) => {
                    // One verdict each; without one, nothing was verified.
                    verdicts.next().unwrap_or(Err(Reject::BadSignature))?;
                    tracing::trace!(batch = %decoded.hash, ?origin, "batch verified");
                    // A copy of the right size: what arrived may be a slice of a larger buffer, which would be kept alive and not be counted.
                    let bytes = Bytes::copy_from_slice(bytes);
                    // Verified just now, with the key that its header names.
                    Judged::New(PoolBatch { bytes, checked: Arc::new(decoded.assume_verified()) })
                }
            })
        };
        looks.into_iter().zip(batches).map(finish).collect()
    }

    /// Finds places for the new ones, and pushes those of this node's own clients to the peers.
    fn keep(
        &self,
        judged: Vec<Result<Judged<PoolBatch>, Reject>>,
        origin: Origin,
    ) -> Vec<Result<Admitted, MempoolError>> {
        let now_ms = (self.shared.clock)();
        let own = origin == Origin::Client;
        let mut spread = Vec::new();
        let mut pool = self.pool();
        let keep = |judged: Result<Judged<PoolBatch>, Reject>| {
            let batch = match judged? {
                Judged::Known(admitted) => return Ok(admitted),
                Judged::New(batch) => batch,
            };
            let (bytes, checked) = (batch.bytes.clone(), Arc::clone(&batch.checked));
            let fate = pool.insert(batch, own, false, now_ms).map_err(|what| match what {
                Full::Pool => full(what, Duration::from_millis(500)),
                Full::Participant | Full::Judging => full(what, Duration::from_millis(200)),
            })?;
            let known = known_of(fate).unwrap_or(Known::New);
            if own && known == Known::New {
                spread.push(bytes);
            }
            Ok(admitted(&checked, known))
        };
        let results = judged.into_iter().map(keep).collect();
        self.publish(&pool);
        drop(pool);
        for frame in encode_frames(&spread) {
            self.shared.spread.push(frame);
        }
        results
    }

    /// A batch that was fetched for a proposal and verified by the caller: kept if there is room, expired or not.
    pub fn offer(&self, batch: PoolBatch) {
        let now_ms = (self.shared.clock)();
        let hash = batch.checked.hash;
        let mut pool = self.pool();
        if let Err(what) = pool.insert(batch, false, true, now_ms) {
            tracing::debug!(batch = %hash, ?what, "no room to keep a fetched batch");
        }
        self.publish(&pool);
    }

    /// A kept batch: waiting, included, or executed lately.
    #[must_use]
    pub fn get(&self, hash: &Hash32) -> Option<PoolBatch> {
        self.pool().get(hash)
    }

    /// The bytes of those of the `hashes` that are kept, in order, until `max_bytes` are reached: an answer to a peer that asks.
    #[must_use]
    pub fn serve(&self, hashes: &[Hash32], max_bytes: usize) -> Vec<Bytes> {
        let pool = self.pool();
        let mut size = 0usize;
        hashes
            .iter()
            .filter_map(|hash| pool.get(hash))
            .map(|batch| batch.bytes)
            .take_while(|bytes| {
                size = size.saturating_add(bytes.len());
                size <= max_bytes
            })
            .collect()
    }

    /// Batches for a block, a fair share of each participant; they stay in the pool until they are included.
    #[must_use]
    pub fn candidate(&self, limits: &CandidateLimits) -> Vec<PoolBatch> {
        let mut pool = self.pool();
        let chosen = pool.candidate(limits);
        self.publish(&pool);
        chosen
    }

    /// These batches are in the decided block of this height and time; also told at start for the blocks of the last ten minutes.
    pub fn mark_included(&self, height: u64, time_ms: u64, hashes: &[Hash32]) {
        let mut pool = self.pool();
        pool.mark_included(height, time_ms, hashes);
        self.publish(&pool);
    }

    /// The block is executed: its batches are kept for a while for peers that still ask.
    pub fn mark_executed(&self, height: u64) {
        let now_ms = (self.shared.clock)();
        let mut pool = self.pool();
        pool.mark_executed(height, now_ms);
        self.publish(&pool);
    }

    /// Whether nothing waits for a block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self.shared.n_waiting.borrow() == 0
    }

    /// Waits until something waits for a block.
    pub async fn wait_nonempty(&self) {
        // The sender lives as long as the pool, so this cannot fail.
        let _ = self.shared.n_waiting.subscribe().wait_for(|n_waiting| *n_waiting > 0).await;
    }

    /// The pool in figures.
    #[must_use]
    pub fn status(&self) -> MempoolStatus {
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let pool = self.pool();
        MempoolStatus {
            n_batches: wide(pool.n_waiting()),
            n_ops: pool.n_waiting_ops(),
            memory_bytes: wide(pool.memory_bytes()),
            limit_bytes: wide(self.shared.limits.total_bytes),
        }
    }

    /// How a peer stands.
    #[must_use]
    pub fn peer_standing(&self, peer: &PeerId) -> PeerStanding {
        self.standings().get(peer)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn standings(&self) -> MutexGuard<'_, Standings> {
        self.shared.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits, and the gauges. Called with the lock held, so that the figures never run backwards.
    pub(crate) fn publish(&self, pool: &Pool) {
        let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let counters = &self.shared.metrics.counters;
        counters.waiting_batches.set(signed(pool.n_waiting()));
        counters.waiting_ops.set(i64::try_from(pool.n_waiting_ops()).unwrap_or(i64::MAX));
        counters.kept_batches.set(signed(pool.n_kept()));
        counters.memory_bytes.set(signed(pool.memory_bytes()));
        counters.remembered_batches.set(signed(pool.n_remembered()));
        let n_waiting = pool.n_waiting();
        self.shared.n_waiting.send_if_modified(|before| std::mem::replace(before, n_waiting) != n_waiting);
    }
}

/// A batch under judgement: `New` before its signature is verified and after it, in the form it has then.
enum Judged<T> {
    New(T),
    Known(Admitted),
}

fn admitted(batch: &DecodedBatch, known: Known) -> Admitted {
    Admitted {
        batch_hash: batch.hash,
        participant: batch.header.participant,
        n_ops: batch.header.n_ops,
        expires_at_ms: batch.header.expires_at_ms,
        known,
    }
}

fn full(what: Full, retry_after: Duration) -> MempoolError {
    MempoolError::Full { what, retry_after }
}

fn known_of(fate: Fate) -> Option<Known> {
    match fate {
        Fate::Unknown => None,
        Fate::Kept => Some(Known::Waiting),
        Fate::OnChain { height } => Some(Known::OnChain { height }),
    }
}
