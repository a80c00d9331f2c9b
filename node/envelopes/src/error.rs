//! What goes wrong with envelopes, by what the caller can do about it. No text here shows a byte of a key or of clear text.

use crate::envelope::About;
use anji_contracts::types::ParticipantId;

/// An envelope cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// More than [`crate::envelope::MAX_TEXT_BYTES`].
    #[error("the text has {0} bytes, more than fit into an envelope")]
    TooLong(usize),
    /// None, or more than [`crate::envelope::MAX_RECIPIENTS`].
    #[error("an envelope has 1 to 16 recipients, not {0}")]
    Recipients(usize),
    /// Each at most once.
    #[error("participant {0} is named twice as a recipient")]
    RecipientTwice(ParticipantId),
    /// Its key is no key of its suite.
    #[error("the encryption key of participant {0} is no key of its suite")]
    BadKey(ParticipantId),
}

/// An envelope cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The bytes are no envelope.
    #[error("these bytes are no envelope: {0}")]
    Malformed(&'static str),
    /// Made by a later version.
    #[error("the envelope is of version {0}, which this version does not know")]
    UnknownVersion(u16),
    /// Of another ledger, entity or purpose than was asked for.
    #[error("the envelope is about something else: {0:?}")]
    AboutSomethingElse(Box<About>),
    /// The wrapped secrets are those of another envelope.
    #[error("the wrapped secrets belong to another envelope")]
    OtherWraps,
    /// It was sealed to others.
    #[error("participant {0} is no recipient of the envelope")]
    NotARecipient(ParticipantId),
    /// It was sealed to another key of this participant.
    #[error("the envelope was sealed to another key; use the one with that hash")]
    OtherKey,
    /// No secret for this recipient is among those given.
    #[error("the wrapped secret for participant {0} is not there")]
    NoWrap(ParticipantId),
    /// The wrapped secret was changed, or is not for this key or envelope.
    #[error("the wrapped secret does not open")]
    BadWrap,
    /// The ciphertext or head was changed, or the sender gave this recipient another secret than it committed to.
    #[error("the text does not open: it was changed, or the sender did not keep to one secret")]
    BadText,
}
