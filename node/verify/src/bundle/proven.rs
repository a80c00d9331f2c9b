//! What a bundle that holds proves, for programs.

use crate::log_tree::LogRoot;
use crate::validators::Address;
use alloc::vec::Vec;
use anji_contracts::entity::{EntityKey, Participant};
use anji_contracts::entry::{EntityEntry, Receipt};
use anji_contracts::ops::Op;
use anji_contracts::types::{ChainId, KeyId, ParticipantId, PaymentId, WindowId};

/// A bundle that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// Which ledger.
    pub chain_id: ChainId,
    /// The log that everything was proven against.
    pub log: LogRoot,
    /// The height after which the log was so.
    pub height: u64,
    /// Ledger time of that height's block, in milliseconds since 1970.
    pub time_ms: u64,
    /// The height whose header says so.
    pub decided_at_height: u64,
    /// Changes of the validator set that were followed from the trusted one on.
    pub n_set_changes: usize,
    /// Validators of the set that signed.
    pub n_validators: usize,
    /// How many of them voted for the header.
    pub n_precommits: usize,
    /// Who cosigned the checkpoint, in the order of the file.
    pub signers: Vec<Signer>,
    /// What is proven, claim by claim.
    pub statements: Vec<Statement>,
}

/// A validator that cosigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signer {
    /// Whose node.
    pub participant: ParticipantId,
    /// Its address.
    pub address: Address,
    /// When, in seconds since 1970 by its own clock.
    pub time_s: u64,
}

/// A height and its ledger time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The height.
    pub height: u64,
    /// Its block's ledger time, in milliseconds since 1970.
    pub time_ms: u64,
}

/// One thing proven.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them")]
pub enum Statement {
    /// The participant signed the operation, and the ledger answered with the receipt.
    Operation {
        /// Who signed, as it stood then.
        signer: Participant,
        /// With which of its keys.
        key: KeyId,
        /// What it signed.
        op: Op,
        /// What the ledger answered.
        receipt: Receipt,
        /// Log index of the batch entry that commits to both.
        batch_index: u64,
        /// Log index and content of the entry that the operation made.
        made: Option<(u64, EntityEntry)>,
    },
    /// The entity had this state.
    State {
        /// Log index of the version.
        index: u64,
        /// The version.
        entry: EntityEntry,
        /// After which block; none: after the block of [`Proven::height`].
        at: Option<Moment>,
        /// It was replaced later, at this log index.
        replaced: Option<u64>,
    },
    /// The payment was not captured in the window.
    Absence {
        /// The window.
        window: WindowId,
        /// The payment.
        payment: PaymentId,
        /// How many payments were captured in the window.
        n_payments: u64,
        /// Log index of the entry that commits to them.
        index: u64,
    },
}

impl Statement {
    /// What the statement is about, for comparing with what was asked for.
    #[must_use]
    pub fn subject(&self) -> Option<EntityKey> {
        match self {
            Self::Operation { receipt, .. } => match receipt.result {
                anji_contracts::OpResult::Done(key) => Some(key),
                anji_contracts::OpResult::Refused(_) => None,
            },
            Self::State { entry, .. } => Some(entry.key),
            Self::Absence { payment, .. } => Some(EntityKey::Payment(*payment)),
        }
    }
}
