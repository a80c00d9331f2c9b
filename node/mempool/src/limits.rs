//! The bounds of the pool.

use std::time::Duration;

const MIB: usize = 1 << 20;

/// Bounds of the pool. Sizes are the memory a batch takes, its decoded operations included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Everything kept.
    pub total_bytes: usize,
    /// What waits of one participant.
    pub participant_bytes: usize,
    /// Batches of one participant that wait.
    pub participant_batches: usize,
    /// Executed batches are kept up to this size for peers that still ask.
    pub executed_bytes: usize,
    /// And up to this age.
    pub executed_age: Duration,
    /// Batches on the chain that are remembered by hash, at least until they have expired.
    pub remembered_batches: usize,
    /// Batches judged at the same time: threads that decode, hash and verify.
    pub judging_threads: usize,
    /// Bytes that may wait for judgement or be under it.
    pub judging_bytes: usize,
    /// Bytes a peer may push in a second.
    pub peer_bytes_per_second: u32,
    /// Batches a peer may push in a second.
    pub peer_batches_per_second: u32,
    /// So many bad pushes within a minute cost the peer its standing.
    pub peer_faults: u32,
    /// For how long.
    pub peer_mute: Duration,
    /// A client's batch that waits longer than this is pushed again.
    pub respread_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: 256 * MIB,
            participant_bytes: 64 * MIB,
            participant_batches: 10_000,
            executed_bytes: 32 * MIB,
            executed_age: Duration::from_secs(30),
            remembered_batches: 200_000,
            judging_threads: 2,
            judging_bytes: 32 * MIB,
            peer_bytes_per_second: 64 << 20,
            peer_batches_per_second: 20_000,
            peer_faults: 10,
            peer_mute: Duration::from_secs(60),
            respread_after: Duration::from_secs(2),
        }
    }
}
