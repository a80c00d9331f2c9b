//! Signs this validator's checkpoints, on a thread of its own: record, sync, sign. Blocks that come while a sync runs share the next.

use crate::cosigned::{Cosigned, Permit, Signed};
use crate::error::CheckpointsError;
use crate::metrics::Metrics;
use anji_contracts::types::ChainId;
use anji_verify::checkpoint::{checkpoint_text, cosigned_message, origin};
use anji_verify::{Address, Cosignature, SignedCheckpoint, ValidatorSignatures};
use ed25519_dalek::{Signer, SigningKey};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Executed blocks that wait for the signer; the oldest give way, as a later checkpoint covers them.
const WAITING: usize = 64;
/// Shortest time from one sync to the next: at most 50 a second.
const SYNC_PAUSE: Duration = Duration::from_millis(20);

/// The validator's key, as far as checkpoints are concerned: the one it votes with. Votes sign 32 bytes, checkpoints longer texts.
pub struct CosignKey {
    key: SigningKey,
    address: Address,
}

impl CosignKey {
    /// From its 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let address = Address::of(&key.verifying_key().to_bytes());
        Self { key, address }
    }

    /// The address it signs under.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    fn sign(&self, origin: &str, signed: &Signed, time_s: u64) -> SignedCheckpoint {
        let text = checkpoint_text(origin, &signed.log);
        let signature = self.key.sign(&cosigned_message(time_s, &text)).to_bytes();
        let plain = self.key.sign(text.as_bytes()).to_bytes();
        let cosignature = Cosignature { validator: self.address, time_s, signature };
        let signatures = vec![ValidatorSignatures { cosignature, plain }];
        SignedCheckpoint { height: signed.height, log: signed.log, signatures }
    }
}

impl fmt::Debug for CosignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignKey({})", self.address)
    }
}

/// What the thread is to do.
#[derive(Default)]
struct Waiting {
    blocks: VecDeque<Signed>,
    /// The first height this node may sign for; `None` while it is no voting validator.
    signs_from: Option<u64>,
    stop: bool,
}

/// The way to the thread. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct CosignerHandle(Arc<(Mutex<Waiting>, Condvar)>);

impl CosignerHandle {
    /// A block was executed. Never blocks.
    pub(crate) fn executed(&self, block: Signed) {
        let mut waiting = self.lock();
        if waiting.blocks.len() >= WAITING {
            waiting.blocks.pop_front();
        }
        waiting.blocks.push_back(block);
        drop(waiting);
        self.0.1.notify_one();
    }

    pub(crate) fn signs_from(&self, height: Option<u64>) {
        self.lock().signs_from = height;
        self.0.1.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.0.1.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Plain fields: whole whatever happened to the last holder.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for blocks that may be signed; `None` at the end.
    fn next(&self) -> Option<(u64, VecDeque<Signed>)> {
        let mut waiting = self.lock();
        loop {
            if waiting.stop {
                return None;
            }
            if let Some(from) = waiting.signs_from
                && !waiting.blocks.is_empty()
            {
                return Some((from, std::mem::take(&mut waiting.blocks)));
            }
            // Until this node votes, the newest blocks are kept: once it does, those it may sign are among them.
            waiting = self.0.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The thread's own.
pub(crate) struct Cosigner {
    pub(crate) chain_id: ChainId,
    pub(crate) key: CosignKey,
    pub(crate) file: Cosigned,
    pub(crate) handle: CosignerHandle,
    pub(crate) metrics: Metrics,
}

impl Cosigner {
    /// Signs until it is stopped; each checkpoint is handed to `out` after it is durable. Blocks the thread.
    ///
    /// # Errors
    /// The node must stop.
    pub(crate) fn run(mut self, out: impl Fn(SignedCheckpoint)) -> Result<(), CheckpointsError> {
        let origin = origin(&self.chain_id);
        while let Some((from, blocks)) = self.handle.next() {
            let started = Instant::now();
            self.file.raise_floor(from.saturating_sub(1))?;
            let mut permitted = Vec::with_capacity(blocks.len());
            for block in blocks {
                match self.file.take(block)? {
                    Permit::Sign => permitted.push(block),
                    Permit::Skip => tracing::debug!(height = block.height, "not cosigned: it is too old"),
                }
            }
            self.file.sync()?;
            self.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
            // Nothing was ever signed before 1970; a clock that says so gets 0, which verifiers may refuse.
            let time_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            for block in &permitted {
                out(self.key.sign(&origin, block, time_s));
                self.metrics.cosigned.inc();
            }
            std::thread::sleep(SYNC_PAUSE.saturating_sub(started.elapsed()));
        }
        Ok(())
    }
}
