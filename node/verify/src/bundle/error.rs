//! Why a bundle proves nothing: which part, and what is wrong with it.

use crate::certificate::CertificateError;
use crate::checkpoint::CheckpointError;
use crate::proof_error::ProofError;
use anji_contracts::Reject;
use anji_contracts::types::{ChainId, Hash32, KeyId, ParticipantId};
use core::fmt;

/// The first thing that is wrong with a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleError {
    /// Where.
    pub part: Part,
    /// What.
    pub fault: Fault,
}

/// A part of a bundle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The file as a whole.
    File,
    /// A change of the validator set, counted from 1.
    SetChange(usize),
    /// The header that carries the log's root.
    Header,
    /// Its commit certificate.
    Certificate,
    /// The cosignatures of the checkpoint.
    Cosignatures,
    /// The block entry at the end of the log.
    Block,
    /// A claim, counted from 1, and its part.
    Claim(usize, ClaimPart),
}

/// A part of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimPart {
    /// The claim as a whole.
    Whole,
    /// The header of the batch.
    BatchHeader,
    /// The participant's signature.
    Signature,
    /// The operation.
    Operation,
    /// The receipt.
    Receipt,
    /// The batch entry.
    Batch,
    /// The participant that signed.
    Signer,
    /// Why that version of it was in force.
    SignerStanding,
    /// The entry that the operation made.
    Made,
    /// The version claimed.
    Entry,
    /// The block entry of the height asked for.
    At,
    /// Why the version was in force.
    Standing,
    /// The entry with the window's payments.
    Payments,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// More bytes than a bundle has.
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// It does not begin as a bundle does.
    NoBundle,
    /// The bytes cannot be decoded, or a count is above its bound.
    Malformed,
    /// Bytes are left over.
    TrailingBytes,
    /// The seal at its end is not the hash of what stands before it.
    Damaged,
    /// It claims nothing.
    NoClaim,
    /// A format that this verifier does not know.
    Format(u16),
    /// It is about another ledger than the trusted one.
    OtherChain(ChainId),
    /// Its height is not above the one before.
    Order {
        /// Its height.
        height: u64,
        /// The lowest it could be.
        lowest: u64,
    },
    /// It was voted on by other validators than those that follow from the trusted set.
    OtherValidators {
        /// Hash of the set it names.
        found: Hash32,
        /// Hash of the set that follows.
        expected: Hash32,
    },
    /// The set it hands over to is not the one that is written out, or is none.
    BadNextSet,
    /// It does not change the set.
    NoChange,
    /// The certificate is that of another header.
    OtherHeader,
    /// The certificate proves nothing.
    Certificate(CertificateError),
    /// The cosignatures prove nothing.
    Checkpoint(CheckpointError),
    /// The entry is not in the log at this index.
    NotInLog {
        /// The index.
        index: u64,
    },
    /// A path does not lead where it should.
    Proof(ProofError),
    /// The entry is of another kind than this place asks for.
    WrongKind,
    /// Two parts contradict each other.
    Mismatch(&'static str),
    /// The operation breaks a rule of the format.
    Op(Reject),
    /// The participant has no such key.
    UnknownKey(ParticipantId, KeyId),
    /// The key could not sign at that time.
    KeyNotValid(KeyId),
    /// The signature does not verify.
    BadSignature,
    /// The bit says that the entry is not the latest of its entity.
    NotLatest {
        /// The index.
        index: u64,
    },
    /// The version is not from before the moment asked for, or its successor is not from after it.
    NotThen,
    /// The nets of the window do not add up to zero.
    Unbalanced,
}

impl BundleError {
    pub(super) const fn new(part: Part, fault: Fault) -> Self {
        Self { part, fault }
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.fault)
    }
}

impl core::error::Error for BundleError {}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the file"),
            Self::SetChange(number) => write!(f, "change {number} of the validator set"),
            Self::Header => f.write_str("the header that carries the log's root"),
            Self::Certificate => f.write_str("the commit certificate"),
            Self::Cosignatures => f.write_str("the checkpoint's cosignatures"),
            Self::Block => f.write_str("the last block entry of the log"),
            Self::Claim(number, ClaimPart::Whole) => write!(f, "claim {number}"),
            Self::Claim(number, part) => write!(f, "claim {number}, {part}"),
        }
    }
}

impl fmt::Display for ClaimPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "the claim",
            Self::BatchHeader => "the batch header",
            Self::Signature => "the participant's signature",
            Self::Operation => "the operation",
            Self::Receipt => "the receipt",
            Self::Batch => "the batch entry",
            Self::Signer => "the signer's entry",
            Self::SignerStanding => "whether the signer's entry was in force",
            Self::Made => "the entry that the operation made",
            Self::Entry => "the entry",
            Self::At => "the block entry of the height asked for",
            Self::Standing => "whether the entry was in force",
            Self::Payments => "the entry with the window's payments",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "larger than {limit} bytes"),
            Self::NoBundle => {
                f.write_str("it does not begin with ANJIEVD1: not an evidence bundle, or one of a later format")
            }
            Self::Malformed => f.write_str("its bytes cannot be decoded"),
            Self::TrailingBytes => f.write_str("bytes are left over at the end"),
            Self::Damaged => f.write_str("its seal does not match: the file was damaged or changed"),
            Self::NoClaim => f.write_str("it claims nothing"),
            Self::Format(format) => write!(f, "format {format} is not known"),
            Self::OtherChain(chain) => write!(f, "it is about another ledger, {chain}"),
            Self::Order { height, lowest } => {
                write!(f, "its height {height} is below {lowest}, which must come before")
            }
            Self::OtherValidators { found, expected } => {
                write!(f, "its validators ({found}) are not those that follow from the trusted set ({expected})")
            }
            Self::BadNextSet => f.write_str("the set written out is not the one the header names"),
            Self::NoChange => f.write_str("it changes nothing"),
            Self::OtherHeader => f.write_str("it is the certificate of another header"),
            Self::Certificate(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
            Self::NotInLog { index } => write!(f, "it is not in the log at index {index}"),
            Self::Proof(error) => error.fmt(f),
            Self::WrongKind => f.write_str("it is not of the kind that belongs here"),
            Self::Mismatch(what) => write!(f, "{what} does not match"),
            Self::Op(reject) => write!(f, "{reject}"),
            Self::UnknownKey(participant, key) => write!(f, "participant {participant} has no key {key}"),
            Self::KeyNotValid(key) => write!(f, "key {key} could not sign at that time"),
            Self::BadSignature => f.write_str("it does not verify"),
            Self::NotLatest { index } => write!(f, "entry {index} is not the latest of its entity"),
            Self::NotThen => f.write_str("it does not cover the moment asked for"),
            Self::Unbalanced => f.write_str("the nets do not add up to zero"),
        }
    }
}
