//! Who may sign what: participants, keys and rules as of one height, for admission and for block validity.

use anji_contracts::batch::find_key;
use anji_contracts::entity::{Entity, EntityKey, Key, Participant};
use anji_contracts::genesis::Params;
use anji_contracts::keys;
use anji_contracts::types::{ChainId, Currency, KeyId, ParticipantId};
use anji_contracts::{DecodedBatch, Genesis, Reject};
use anji_storage::{ReadError, Reader};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions of a participant that are looked back over to find the one of an earlier height.
const HISTORY_LIMIT: usize = 1000;

/// Participants, keys and rules after the block at `height`. Published after every block, shared by [`Arc`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistrySnapshot {
    /// The height.
    pub height: u64,
    /// Its ledger time.
    pub time_ms: u64,
    /// Which ledger.
    pub chain: ChainId,
    /// The numbers of the rules in force.
    pub params: Arc<Params>,
    /// The ledger's currency.
    pub currency: Currency,
    /// All participants.
    pub participants: Arc<BTreeMap<ParticipantId, Participant>>,
}

impl RegistrySnapshot {
    /// Reads the snapshot of an executed height, the newest or an earlier one.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(reader: &Reader, genesis: &Genesis, height: u64) -> Result<Self, ReadError> {
        let missing = || ReadError::Corrupted {
            place: format!("state, column family roots, height {height}"),
            what: "the record is missing, though the height was executed".into(),
        };
        let record = reader.block_record(height)?.ok_or_else(missing)?;
        let mut participants = BTreeMap::new();
        for now in reader.participants()? {
            let versions = reader.history(&EntityKey::Participant(now.id), HISTORY_LIMIT)?;
            let then = versions.into_iter().find(|version| version.index < record.log.size);
            if let Some(Entity::Participant(participant)) = then.map(|version| version.entry.state) {
                participants.insert(participant.id, participant);
            }
        }
        Ok(Self {
            height,
            time_ms: record.time_ms,
            chain: genesis.chain_id(),
            params: Arc::new(genesis.params.clone()),
            currency: genesis.currency,
            participants: Arc::new(participants),
        })
    }

    /// The same participants and rules, one block later.
    pub(crate) fn at_next_block(&self, height: u64, time_ms: u64) -> Self {
        Self { height, time_ms, ..self.clone() }
    }

    /// Whether a change of this entity changes the snapshot.
    pub(crate) const fn is_made_of(key: &EntityKey) -> bool {
        matches!(key, EntityKey::Participant(_))
    }

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
        find_key(self.participant(participant).ok_or(Reject::UnknownKey)?, key_id, time_ms)
    }

    /// The key that signed `batch`, after looking it up and verifying the signature. Slow: the signature check is most of it.
    ///
    /// # Errors
    /// [`Reject::UnknownKey`], [`Reject::KeyNotValid`] or [`Reject::BadSignature`].
    pub fn check_signature(&self, batch: &DecodedBatch, time_ms: u64) -> Result<&Key, Reject> {
        let key = self.key(batch.header.participant, batch.header.key_id, time_ms)?;
        keys::verify(key.suite, &key.public_key, &batch.signing_digest, &batch.signature)?;
        Ok(key)
    }
}
