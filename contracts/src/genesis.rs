//! The genesis document: everything the first block starts from. Its canonical bytes give the chain id.

use crate::codec::{self, Domain};
use crate::entity::{FeeSchedule, Participant};
use crate::types::{Amount, ChainId, Currency, ParticipantId};
use alloc::string::String;
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// The genesis document.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// [`crate::batch::FORMAT`].
    pub format: u16,
    /// A name for people, at most 64 bytes.
    pub name: String,
    /// Random bytes, so that two networks made from the same file differ.
    pub salt: [u8; 32],
    /// Ledger time of height 0.
    pub time_ms: u64,
    /// The one currency of this ledger.
    pub currency: Currency,
    /// Numbers of the rules.
    pub params: Params,
    /// All participants; numbers count from 1, in order.
    pub participants: Vec<Participant>,
    /// The validators.
    pub validators: Vec<GenesisValidator>,
    /// Fee schedules; the one with the highest version already effective is in force.
    pub schedules: Vec<FeeSchedule>,
    /// Caps and liquidity.
    pub positions: Vec<GenesisPosition>,
}

/// The numbers of the rules. All of them change by governance only.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Params {
    /// Rule book in force; 1 is the founding one.
    pub rules: u32,
    /// How long a settlement window stays open.
    pub window_length_ms: u64,
    /// Due items applied per block at most.
    pub max_due_per_block: u32,
    /// Longest time between request and `answer_by`.
    pub max_answer_ms: u64,
    /// Longest time between request and `capture_by`.
    pub max_hold_ms: u64,
    /// Shortest time a disclosure must have been shown.
    pub min_disclosure_shown_ms: u32,
    /// Most refunds of a payment (50).
    pub max_refunds: u16,
    /// Refunds are accepted this long after the first capture (one year).
    pub refund_period_ms: u64,
    /// Number of distinct participants whose approval governance needs.
    pub governance_threshold: u32,
}

impl Default for Params {
    fn default() -> Self {
        const HOUR_MS: u64 = 3_600_000;
        Self {
            rules: 1,
            window_length_ms: 24 * HOUR_MS,
            max_due_per_block: 4096,
            max_answer_ms: HOUR_MS,
            max_hold_ms: 30 * 24 * HOUR_MS,
            min_disclosure_shown_ms: 3000,
            max_refunds: 50,
            refund_period_ms: 365 * 24 * HOUR_MS,
            governance_threshold: 3,
        }
    }
}

/// A validator at genesis.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GenesisValidator {
    /// Whose node.
    pub participant: ParticipantId,
    /// Ed25519 key for votes.
    pub public_key: [u8; 32],
    /// Voting power, at least 1.
    pub power: u64,
}

/// A participant's cap and liquidity at genesis.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GenesisPosition {
    /// Whose.
    pub participant: ParticipantId,
    /// Net-debit cap.
    pub cap: Amount,
    /// Liquidity already deposited with clearing.
    pub liquidity: Amount,
}

impl Genesis {
    /// The chain id: BLAKE3 of the canonical bytes.
    #[must_use]
    pub fn chain_id(&self) -> ChainId {
        ChainId(codec::hash(Domain::Genesis, &codec::encode(self)))
    }
}
