//! An envelope's bytes. It has two parts. The **fixed part**, [`Envelope`], says what it is about, who may read it and holds the
//! ciphertext; its hash is what the ledger keeps. [`Wraps`] holds the content secret once per recipient. The hash does not cover the wraps:
//! they can be destroyed, sent to each recipient alone, or made anew, and what the ledger proves about the fixed part stays as it was.
//!
//! Sizes are judged before anything is read: [`Envelope::decode`] and [`Wraps::decode`] take bytes from anywhere.

use crate::cipher::Cipher;
use crate::context::{self, hash};
use crate::error::OpenError;
use anji_contracts::codec;
use anji_contracts::entity::{EncryptionKey, SealSuite};
use anji_contracts::types::{ChainId, DisputeId, Hash32, MandateId, ParticipantId, PaymentId, RefundId, WindowId};
use borsh::{BorshDeserialize, BorshSerialize};

/// How every fixed part begins.
pub const ENVELOPE_MAGIC: [u8; 8] = *b"anji env";
/// How every list of wrapped secrets begins.
pub const WRAPS_MAGIC: [u8; 8] = *b"anji wrp";
/// Version of both.
pub const VERSION: u16 = 1;
/// Longest clear text in bytes.
pub const MAX_TEXT_BYTES: usize = 60_000;
/// Longest fixed part in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 64 * 1024;
/// Most recipients.
pub const MAX_RECIPIENTS: usize = 16;
/// Longest list of wrapped secrets in bytes.
pub const MAX_WRAPS_BYTES: usize = 4096;
/// Clear text is padded to a multiple of this, so that its length tells little.
pub const PADDING_BYTES: usize = 256;

/// What an envelope is about, by the ledger's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Subject {
    /// A shopper's link.
    Mandate(MandateId) = 1,
    /// A payment.
    Payment(PaymentId) = 2,
    /// A refund.
    Refund(RefundId) = 3,
    /// A dispute.
    Dispute(DisputeId) = 4,
    /// A settlement window.
    Window(WindowId) = 5,
}

/// What is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Purpose {
    /// What was bought, where, by whom.
    Order = 1,
    /// Who stands behind a pseudonym.
    Identity = 2,
    /// Evidence of a dispute.
    Evidence = 3,
    /// Instructions for a settlement.
    Instruction = 4,
    /// A report to the regulator.
    Report = 5,
}

/// What an envelope is about. Who opens one says what it expects; an envelope of anything else is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct About {
    /// Which ledger.
    pub chain: ChainId,
    /// Which entity.
    pub subject: Subject,
    /// What for.
    pub purpose: Purpose,
}

/// One who may open it, and with which key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Recipient {
    /// Who.
    pub participant: ParticipantId,
    /// The suite of its key.
    pub suite: SealSuite,
    /// Hash of suite and key, see [`Recipient::of`].
    pub key_hash: Hash32,
}

impl Recipient {
    /// The recipient with this key.
    #[must_use]
    pub fn of(participant: ParticipantId, key: &EncryptionKey) -> Self {
        let suite = codec::encode(&key.suite);
        Self { participant, suite: key.suite, key_hash: hash(context::RECIPIENT, &[&suite, &key.public_key]) }
    }
}

/// All of the fixed part but the ciphertext, which is bound to these bytes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// [`ENVELOPE_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u16,
    /// What it is about.
    pub about: About,
    /// Who sealed it, by its own word: the ledger's signature over the hash proves it.
    pub sender: ParticipantId,
    /// Who may open it, by ascending number.
    pub recipients: Vec<Recipient>,
    /// How the text is enciphered.
    pub cipher: Cipher,
    /// Hash of the content secret. All recipients get the same secret, or notice.
    pub secret_hash: Hash32,
}

/// The fixed part of an envelope.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Envelope {
    /// What it is about and who may open it.
    pub head: Head,
    /// The padded text, enciphered, with 16 bytes of tag.
    pub ciphertext: Vec<u8>,
}

/// The content secret, wrapped for some or all of the recipients.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Wraps {
    /// [`WRAPS_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u16,
    /// Hash of the fixed part they belong to.
    pub envelope: Hash32,
    /// One per recipient, by ascending number of the participant.
    pub wraps: Vec<Wrap>,
}

/// The content secret for one recipient.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Wrap {
    /// Whose.
    pub participant: ParticipantId,
    /// By the suite of its key.
    pub bytes: Vec<u8>,
}

/// What the ledger keeps of an envelope: the hash of its fixed part as it stands.
#[must_use]
pub fn envelope_hash(fixed: &[u8]) -> Hash32 {
    hash(context::ENVELOPE, &[fixed])
}

impl Envelope {
    /// Reads a fixed part and judges all that can be judged without a key.
    ///
    /// # Errors
    /// [`OpenError::Malformed`] or [`OpenError::UnknownVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        check_start(bytes, ENVELOPE_MAGIC, MAX_ENVELOPE_BYTES)?;
        let it: Self = codec::decode(bytes).map_err(|_| OpenError::Malformed("the fields do not fill the bytes"))?;
        let recipients = &it.head.recipients;
        if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
            return Err(OpenError::Malformed("no recipient, or too many"));
        }
        if !recipients.is_sorted_by(|one, next| one.participant < next.participant) {
            return Err(OpenError::Malformed("recipients are not in order, or twice there"));
        }
        let padded = it.ciphertext.len().checked_sub(Cipher::TAG_BYTES);
        if padded.is_none_or(|length| length == 0 || length % PADDING_BYTES != 0) {
            return Err(OpenError::Malformed("the ciphertext has a length that no text gives"));
        }
        Ok(it)
    }

    /// The recipient with this number.
    #[must_use]
    pub fn recipient(&self, participant: ParticipantId) -> Option<&Recipient> {
        self.head.recipients.iter().find(|it| it.participant == participant)
    }
}

impl Wraps {
    /// Reads a list of wrapped secrets.
    ///
    /// # Errors
    /// [`OpenError::Malformed`] or [`OpenError::UnknownVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        check_start(bytes, WRAPS_MAGIC, MAX_WRAPS_BYTES)?;
        let it: Self = codec::decode(bytes).map_err(|_| OpenError::Malformed("the wraps do not fill the bytes"))?;
        if it.wraps.is_empty() || it.wraps.len() > MAX_RECIPIENTS {
            return Err(OpenError::Malformed("no wrap, or too many"));
        }
        if !it.wraps.is_sorted_by(|one, next| one.participant < next.participant) {
            return Err(OpenError::Malformed("wraps are not in order, or twice there"));
        }
        Ok(it)
    }

    /// The bytes with this recipient's wrap and no other's: what is sent to it.
    #[must_use]
    pub fn only(&self, participant: ParticipantId) -> Option<Vec<u8>> {
        let wrap = self.wraps.iter().find(|it| it.participant == participant)?;
        Some(codec::encode(&Self { wraps: vec![wrap.clone()], ..self.clone() }))
    }
}

/// Magic, version and size.
fn check_start(bytes: &[u8], magic: [u8; 8], most: usize) -> Result<(), OpenError> {
    if bytes.len() > most {
        return Err(OpenError::Malformed("longer than any that is ever made"));
    }
    if !bytes.starts_with(&magic) {
        return Err(OpenError::Malformed("begins with another magic"));
    }
    let version = bytes.get(8..10).and_then(|it| it.try_into().ok()).map(u16::from_le_bytes);
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(OpenError::UnknownVersion(other)),
        None => Err(OpenError::Malformed("ends before its version")),
    }
}
