//! The block header. Its hash is the value that consensus decides; its body is a list of batches, named by hash.

use alloc::vec::Vec;
use anji_contracts::codec::{self, Domain};
use anji_contracts::types::{ChainId, Hash32};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::log_tree::LogRoot;
use crate::validators::Address;

/// Most batches a block may hold.
pub const MAX_BLOCK_BATCHES: usize = 4096;

/// What consensus decides, by its hash.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Header {
    /// [`anji_contracts::batch::FORMAT`].
    pub format: u16,
    /// Which ledger.
    pub chain_id: ChainId,
    /// Counted from 1.
    pub height: u64,
    /// The round in which this header was first proposed.
    pub round: u32,
    /// Ledger time in milliseconds since 1970; greater than the parent's.
    pub time_ms: u64,
    /// Hash of the header before; zero at height 1.
    pub parent_hash: Hash32,
    /// Who proposed it.
    pub proposer: Address,
    /// Number of batches in the body.
    pub n_batches: u32,
    /// Merkle root over the batch hashes, in order.
    pub batches_root: Hash32,
    /// The log after block `height - 2` (after genesis for heights 1 and 2).
    pub log: LogRoot,
    /// Validators that vote on this height.
    pub validators_hash: Hash32,
    /// Validators that vote on the next height.
    pub next_validators_hash: Hash32,
    /// Rule book in force.
    pub rules: u32,
}

impl Header {
    /// The value that consensus decides.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        codec::hash(Domain::BlockHeader, &codec::encode(self))
    }

    /// The root that commits to the body.
    #[must_use]
    pub fn batches_root_of(batch_hashes: &[Hash32]) -> Hash32 {
        let leaves: Vec<Hash32> = batch_hashes.iter().map(|hash| codec::merkle_leaf(&hash.0)).collect();
        codec::merkle_root(&leaves)
    }
}
