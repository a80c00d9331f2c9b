//! What the pool needs of its neighbours, as narrow as it gets.

use anji_contracts::{DecodedBatch, Reject};
use anji_network::{Channel, NetworkHandle};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Participants and their keys after the last executed block.
pub trait Registry: Send + Sync + 'static {
    /// For each batch, whether the key that it names may sign at `time_ms`, and whether it did: [`Reject::UnknownKey`],
    /// [`Reject::KeyNotValid`] or [`Reject::BadSignature`] if not. Each by itself, whatever stands beside it. Blocks the thread for the
    /// signatures.
    fn check_signatures(&self, batches: &[&DecodedBatch], time_ms: u64) -> Vec<Result<(), Reject>>;
}

/// The way to the peers.
pub trait Spread: Send + Sync + 'static {
    /// Pushes a frame of batches to every connected peer; never blocks. Returns how many took it.
    fn push(&self, frame: Bytes) -> usize;
}

impl Spread for NetworkHandle {
    fn push(&self, frame: Bytes) -> usize {
        self.broadcast(Channel::Batches, frame)
    }
}

/// Milliseconds since 1970 by this node's clock.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
