//! Who may sign what: participants, keys and rules as of one height, for admission and for block validity.

use anji_contracts::codec;
use anji_contracts::entity::{Key, Participant, Suite};
use anji_contracts::genesis::Params;
use anji_contracts::types::{ChainId, Currency, KeyId, ParticipantId};
use anji_contracts::{DecodedBatch, Reject};
use std::collections::BTreeMap;

/// Participants, keys and rules after the block at `height`. Published after every block, shared by [`std::sync::Arc`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistrySnapshot {
    /// The height.
    pub height: u64,
    /// Its ledger time.
    pub time_ms: u64,
    /// Which ledger.
    pub chain: ChainId,
    /// The numbers of the rules in force.
    pub params: Params,
    /// The ledger's currency.
    pub currency: Currency,
    /// All participants.
    pub participants: BTreeMap<ParticipantId, Participant>,
}

impl RegistrySnapshot {
    /// A participant by number.
    #[must_use]
    pub fn participant(&self, id: ParticipantId) -> Option<&Participant> {
        self.participants.get(&id)
    }

    /// The key that a batch names, if it may sign at `time_ms`.
    ///
    /// # Errors
    /// [`Reject::UnknownKey`] or [`Reject::KeyNotValid`].
    pub fn key(&self, participant: ParticipantId, key_id: KeyId, time_ms: u64) -> Result<&Key, Reject> {
        let participant = self.participants.get(&participant).ok_or(Reject::UnknownKey)?;
        let key = participant.keys.iter().find(|key| key.key_id == key_id).ok_or(Reject::UnknownKey)?;
        let revoked = key.revoked_at_ms.is_some_and(|at| at <= time_ms);
        let valid = participant.active && key.valid_from_ms <= time_ms && time_ms < key.valid_until_ms && !revoked;
        if valid { Ok(key) } else { Err(Reject::KeyNotValid) }
    }

    /// The key that signed `batch`, after looking it up and verifying the signature at `time_ms`. Slow: the signature check is most of it.
    ///
    /// # Errors
    /// [`Reject::UnknownKey`], [`Reject::KeyNotValid`] or [`Reject::BadSignature`].
    pub fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<&Key, Reject> {
        let key = self.key(batch.header.participant, batch.header.key_id, time_ms)?;
        match key.suite {
            Suite::Ed25519 => codec::verify_ed25519(&key.public_key, &batch.signing_digest, &batch.signature)?,
            Suite::Sm2Sm3 => return Err(Reject::KeyNotValid),
        }
        Ok(key)
    }
}
