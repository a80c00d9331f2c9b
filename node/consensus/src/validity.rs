//! When a block is valid. Pure: a function of header, body, the parent, the state after the height before the parent, and the
//! batches of the last ten minutes of ledger time. No clock, no arrival order, no network: two nodes never disagree, and a decided block
//! is valid on every node, now and in any replay (engine traps 7 and 10).
//!
//! The only clock test of the ledger is [`crate::clock`]'s, for live proposals, and its answer is "not yet", never "invalid".

use anji_contracts::Reject;
use anji_contracts::batch::{FORMAT, MAX_BATCH_LIFE_MS};
use anji_contracts::types::{ChainId, Hash32, KeyId, ParticipantId};
use anji_verify::{Address, Header, LogRoot, MAX_BLOCK_BATCHES};
use std::collections::HashSet;

/// Most bytes of all batches of a block. A block always fits an answer of the sync protocol.
pub const MAX_BLOCK_BYTES: usize = 2 << 20;
/// Most operations of a block.
pub const MAX_BLOCK_OPS: u32 = 10_000;

/// What a header must say, given everything before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Which ledger.
    pub chain_id: ChainId,
    /// The height after the parent's.
    pub height: u64,
    /// Hash of the parent; zero at height 1.
    pub parent_hash: Hash32,
    /// Ledger time of the parent; that of genesis at height 1.
    pub parent_time_ms: u64,
    /// The validators of this height.
    pub validators_hash: Hash32,
    /// The validators of the next height.
    pub next_validators_hash: Hash32,
    /// The rule book in force.
    pub rules: u32,
    /// The log after `height - 2`, or after genesis.
    pub log: LogRoot,
}

/// What the rules need to know of a batch that decoded and whose signature verifies with its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchFacts {
    /// Its hash.
    pub hash: Hash32,
    /// Its size.
    pub size_bytes: usize,
    /// Its number of operations.
    pub n_ops: u32,
    /// Who signed.
    pub participant: ParticipantId,
    /// With which key.
    pub key_id: KeyId,
    /// First ledger time at which it may not enter.
    pub expires_at_ms: u64,
}

/// The rule that a block breaks. `name` is for metrics.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Fault {
    #[error("format {0} is not served")]
    Format(u16),
    #[error("the header names chain {0}")]
    Chain(ChainId),
    #[error("the header is of height {found}, not {expected}")]
    Height { found: u64, expected: u64 },
    #[error("the parent is {expected}, the header names {found}")]
    Parent { found: Hash32, expected: Hash32 },
    #[error("time {time_ms} is not after the parent's {parent_time_ms}")]
    Time { time_ms: u64, parent_time_ms: u64 },
    #[error("{found} may not propose in round {round}, {expected} does")]
    Proposer { found: Address, expected: Address, round: u32 },
    #[error("the header counts {counted} batches, the body has {found}, at most {MAX_BLOCK_BATCHES} are allowed")]
    BatchCount { counted: u32, found: usize },
    #[error("the batches' root is {found}, the header names {named}")]
    BatchesRoot { found: Hash32, named: Hash32 },
    #[error("{bytes} bytes of batches, at most {MAX_BLOCK_BYTES}")]
    Bytes { bytes: usize },
    #[error("{ops} operations, at most {MAX_BLOCK_OPS}")]
    Ops { ops: u32 },
    #[error("batch {batch}: {reject}")]
    Batch { batch: Hash32, reject: Reject },
    #[error("the validators of this height have hash {expected}, the header names {found}")]
    Validators { found: Hash32, expected: Hash32 },
    #[error("the next validators have hash {expected}, the header names {found}")]
    NextValidators { found: Hash32, expected: Hash32 },
    #[error("after height {of_height} the log is {} entries with root {}, the header names {} with root {}",
        expected.size, expected.root, found.size, found.root)]
    Log { found: LogRoot, expected: LogRoot, of_height: u64 },
    #[error("rules {expected} are in force, the header names {found}")]
    Rules { found: u32, expected: u32 },
}

impl Fault {
    /// A word for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Format(_) => "format",
            Self::Chain(_) => "chain",
            Self::Height { .. } => "height",
            Self::Parent { .. } => "parent",
            Self::Time { .. } => "time",
            Self::Proposer { .. } => "proposer",
            Self::BatchCount { .. } => "batch_count",
            Self::BatchesRoot { .. } => "batches_root",
            Self::Bytes { .. } => "bytes",
            Self::Ops { .. } => "ops",
            Self::Batch { .. } => "batch",
            Self::Validators { .. } => "validators",
            Self::NextValidators { .. } => "next_validators",
            Self::Log { .. } => "log",
            Self::Rules { .. } => "rules",
        }
    }
}

/// Judges a header. `proposer` is the schedule of the height.
///
/// # Errors
/// The first rule that is broken.
pub fn check_header(header: &Header, expected: &Expected, proposer: impl FnOnce(u32) -> Address) -> Result<(), Fault> {
    if header.format != FORMAT {
        return Err(Fault::Format(header.format));
    }
    if header.chain_id != expected.chain_id {
        return Err(Fault::Chain(header.chain_id));
    }
    if header.height != expected.height {
        return Err(Fault::Height { found: header.height, expected: expected.height });
    }
    if header.parent_hash != expected.parent_hash {
        return Err(Fault::Parent { found: header.parent_hash, expected: expected.parent_hash });
    }
    if header.time_ms <= expected.parent_time_ms {
        return Err(Fault::Time { time_ms: header.time_ms, parent_time_ms: expected.parent_time_ms });
    }
    let turn = proposer(header.round);
    if header.proposer != turn {
        return Err(Fault::Proposer { found: header.proposer, expected: turn, round: header.round });
    }
    if header.validators_hash != expected.validators_hash {
        return Err(Fault::Validators { found: header.validators_hash, expected: expected.validators_hash });
    }
    if header.next_validators_hash != expected.next_validators_hash {
        let (found, expected) = (header.next_validators_hash, expected.next_validators_hash);
        return Err(Fault::NextValidators { found, expected });
    }
    if header.rules != expected.rules {
        return Err(Fault::Rules { found: header.rules, expected: expected.rules });
    }
    if header.log != expected.log {
        let of_height = header.height.saturating_sub(2);
        return Err(Fault::Log { found: header.log, expected: expected.log, of_height });
    }
    Ok(())
}

/// Whether the list of batch hashes is the one the header commits to. Needs nothing but the two.
///
/// # Errors
/// [`Fault::BatchCount`] or [`Fault::BatchesRoot`].
pub fn check_batch_list(header: &Header, batch_hashes: &[Hash32]) -> Result<(), Fault> {
    let counted = usize::try_from(header.n_batches).unwrap_or(usize::MAX);
    if batch_hashes.len() != counted || counted > MAX_BLOCK_BATCHES {
        return Err(Fault::BatchCount { counted: header.n_batches, found: batch_hashes.len() });
    }
    let root = Header::batches_root_of(batch_hashes);
    if root != header.batches_root {
        return Err(Fault::BatchesRoot { found: root, named: header.batches_root });
    }
    Ok(())
}

/// Judges one batch for a block of time `time_ms`. `key` answers as of the height before the parent; `is_recent` knows the batches of the
/// ancestors of the last ten minutes.
///
/// # Errors
/// [`Fault::Batch`].
pub fn check_batch(
    batch: &BatchFacts,
    time_ms: u64,
    key: impl FnOnce(ParticipantId, KeyId, u64) -> Result<(), Reject>,
    is_recent: impl FnOnce(&Hash32) -> bool,
) -> Result<(), Fault> {
    let fault = |reject| Fault::Batch { batch: batch.hash, reject };
    if batch.expires_at_ms <= time_ms {
        return Err(fault(Reject::BatchExpired));
    }
    if batch.expires_at_ms > time_ms.saturating_add(MAX_BATCH_LIFE_MS) {
        return Err(fault(Reject::ExpiryTooFar));
    }
    key(batch.participant, batch.key_id, time_ms).map_err(fault)?;
    if is_recent(&batch.hash) {
        return Err(fault(Reject::BatchRepeated));
    }
    Ok(())
}

/// Judges a body: sizes, then each batch, then repetition within the block. The list was checked against the header before.
///
/// # Errors
/// The first rule that is broken.
pub fn check_body(
    header: &Header,
    batches: &[BatchFacts],
    mut key: impl FnMut(ParticipantId, KeyId, u64) -> Result<(), Reject>,
    is_recent: impl Fn(&Hash32) -> bool,
) -> Result<(), Fault> {
    let bytes = batches.iter().fold(0usize, |sum, batch| sum.saturating_add(batch.size_bytes));
    if bytes > MAX_BLOCK_BYTES {
        return Err(Fault::Bytes { bytes });
    }
    let ops = batches.iter().fold(0u32, |sum, batch| sum.saturating_add(batch.n_ops));
    if ops > MAX_BLOCK_OPS {
        return Err(Fault::Ops { ops });
    }
    let mut seen = HashSet::with_capacity(batches.len());
    for batch in batches {
        check_batch(batch, header.time_ms, &mut key, &is_recent)?;
        if !seen.insert(batch.hash) {
            return Err(Fault::Batch { batch: batch.hash, reject: Reject::BatchRepeated });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "validity_tests.rs"]
mod tests;
