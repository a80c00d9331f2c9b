//! What a bundle is made of. Borsh, fields in the order written here; `proto/FORMAT.md`, "Evidence bundles", is the same for strangers.
//! What is hashed travels as its exact bytes.

use super::list::{Bytes, List};
use crate::active_tree::ActiveProof;
use crate::certificate::CommitCertificate;
use crate::checkpoint::Cosignature;
use crate::header::Header;
use crate::validators::Validator;
use crate::window_proof::WindowAbsence;
use anji_contracts::types::{Hash32, PaymentId};
use borsh::{BorshDeserialize, BorshSerialize};

/// First bytes of every bundle; the last one is the version.
pub const MAGIC: [u8; 8] = *b"ANJIEVD1";
/// Bytes of the seal at the end of every bundle.
pub const SEAL_BYTES: usize = 32;
/// Largest bundle in bytes.
pub const MAX_BUNDLE_BYTES: usize = 8 << 20;
/// Most claims of a bundle.
pub const MAX_CLAIMS: usize = 16;
/// Most changes of the validator set between the trusted one and the one that signed.
pub const MAX_SET_CHANGES: usize = 256;
/// Most validators of a set.
pub const MAX_VALIDATORS: usize = 1000;
/// Largest entry of the log in bytes.
pub const MAX_ENTRY_BYTES: usize = 65_535;
/// Largest operation in bytes.
pub const MAX_OP_BYTES: usize = 1 << 20;
/// Largest receipt in bytes.
pub const MAX_RECEIPT_BYTES: usize = 256;
/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = 86;

/// Most hashes of a path: no tree of 64-bit size is deeper.
pub const MAX_PATH: usize = 64;

/// Siblings from a leaf up to the root.
pub type Path = List<Hash32, MAX_PATH>;

/// Evidence for some claims, all of them about one log.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Bundle {
    /// Why the log is what the validators agreed on.
    pub anchor: Anchor,
    /// What is claimed of it, at least one.
    pub claims: List<Claim, MAX_CLAIMS>,
}

/// Leads from the trusted validators to one size and root of the log.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Anchor {
    /// Every change of the validator set since the trusted one, in order.
    pub set_changes: List<SetChange, MAX_SET_CHANGES>,
    /// A header whose `log` is the size and root that everything else is proven against.
    pub header: Header,
    /// The precommits that decided it.
    pub certificate: CommitCertificate,
    /// The validators' cosignatures of the checkpoint that says the same.
    pub cosignatures: List<Cosignature, MAX_VALIDATORS>,
    /// Entry `size - 1`: the block entry of the height two below the header's.
    pub block: LastEntry,
}

/// A header that hands over to another validator set.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SetChange {
    /// The last header of the set before.
    pub header: Header,
    /// The precommits of the set before.
    pub certificate: CommitCertificate,
    /// The set after, sorted by address.
    pub next: List<Validator, MAX_VALIDATORS>,
}

/// The last entry of the log: its index follows from the size.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LastEntry {
    /// The entry.
    pub entry: Bytes<MAX_ENTRY_BYTES>,
    /// Its path to the log's root.
    pub path: Path,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct EntryProof {
    /// Its index.
    pub index: u64,
    /// The entry.
    pub entry: Bytes<MAX_ENTRY_BYTES>,
    /// Its path to the log's root.
    pub path: Path,
}

/// One thing claimed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "a handful of them, decoded once")]
pub enum Claim {
    /// A participant signed an operation, and this is what the ledger answered.
    Operation(OperationClaim) = 1,
    /// An entity had this state.
    State(StateClaim) = 2,
    /// A payment was not captured in a closed window.
    Absence(AbsenceClaim) = 3,
}

/// A participant signed an operation, and this is what the ledger answered: done or refused.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct OperationClaim {
    /// The header that the participant signed.
    pub batch_header: [u8; BATCH_HEADER_BYTES],
    /// Its signature.
    pub signature: [u8; 64],
    /// Place of the operation and of its receipt in the batch.
    pub position: u32,
    /// The operation's exact bytes.
    pub op: Bytes<MAX_OP_BYTES>,
    /// Its path to the header's `ops_root`.
    pub op_path: Path,
    /// The receipt's exact bytes.
    pub receipt: Bytes<MAX_RECEIPT_BYTES>,
    /// Its path to the batch entry's `receipts_root`.
    pub receipt_path: Path,
    /// The batch entry.
    pub batch: EntryProof,
    /// The participant with its keys as it stood when the batch was executed.
    pub signer: EntryProof,
    /// Why that version was in force then.
    pub signer_standing: Standing,
    /// The entry that the operation made of what it was about, if it was done and that thing is not a hot account.
    pub made: Option<EntryProof>,
}

/// An entity had this state: now, or after the block of some height.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct StateClaim {
    /// The version claimed.
    pub entry: EntryProof,
    /// The block entry of the height asked for; none for the state at the anchor's height.
    pub at: Option<EntryProof>,
    /// Why that version was the latest then.
    pub standing: Standing,
}

/// Why a version was in force at some index of the log.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "a handful of them, decoded once")]
pub enum Standing {
    /// It still is the latest at the anchor.
    Latest(ActiveProof) = 1,
    /// The next version came after that index.
    Replaced(EntryProof) = 2,
}

/// A payment was not captured in a closed window: it is not in the sorted tree of those that were.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct AbsenceClaim {
    /// The payment.
    pub payment: PaymentId,
    /// The entry that holds number and root of the window's payments.
    pub payments: EntryProof,
    /// The two payments between which it would stand.
    pub neighbours: WindowAbsence,
}
