//! What the mempool needs of execution: the keys of now.

use anji_contracts::entity::{Key, Suite};
use anji_contracts::{DecodedBatch, Reject, keys};
use anji_execution::ExecutionHandle;
use anji_mempool::Registry;
use anji_verify::{BaseTable, PreparedKey, Signed, verify_each};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Keys whose multiples are kept, 215 KiB each. On a ledger with more, the others' signatures are verified the ordinary way.
const PREPARED_KEYS: usize = 128;

/// Participants and keys after the last executed block.
pub(crate) struct LatestKeys {
    execution: ExecutionHandle,
    prepared: PreparedKeys,
}

impl LatestKeys {
    pub(crate) fn new(execution: ExecutionHandle) -> Self {
        Self { execution, prepared: PreparedKeys::default() }
    }
}

impl Registry for LatestKeys {
    fn check_signatures(&self, batches: &[&DecodedBatch], time_ms: u64) -> Vec<Result<(), Reject>> {
        let registry = self.execution.registry();
        self.prepared.check(batches, |batch| {
            let Key { suite, public_key, .. } = registry.key(batch.header.participant, batch.header.key_id, time_ms)?;
            Ok((*suite, public_key.as_slice()))
        })
    }
}

/// Ed25519 keys of participants, prepared when they are first seen. A key never changes, so neither does what is kept of it. SM2
/// signatures are verified the ordinary way.
#[derive(Default)]
struct PreparedKeys {
    base: BaseTable,
    by_public_key: RwLock<HashMap<Vec<u8>, Arc<PreparedKey>>>,
}

impl PreparedKeys {
    /// Judges each batch by the key that `key_of` finds for it.
    fn check<'a>(
        &self,
        batches: &[&DecodedBatch],
        key_of: impl Fn(&DecodedBatch) -> Result<(Suite, &'a [u8]), Reject>,
    ) -> Vec<Result<(), Reject>> {
        let mut verdicts = Vec::with_capacity(batches.len());
        let mut prepared = Vec::with_capacity(batches.len());
        for (place, batch) in batches.iter().enumerate() {
            verdicts.push(match key_of(batch) {
                Ok((suite, public_key)) => match self.get(suite, public_key) {
                    // Judged below, with the others.
                    Some(key) => {
                        prepared.push((place, key));
                        Err(Reject::BadSignature)
                    }
                    None => keys::verify(suite, public_key, &batch.signing_digest, &batch.signature),
                },
                Err(reject) => Err(reject),
            });
        }
        let signed: Vec<Signed> = prepared
            .iter()
            .map(|(place, key)| {
                let batch = batches[*place];
                Signed { key, message: &batch.signing_digest, signature: &batch.signature }
            })
            .collect();
        for ((place, _), is_good) in prepared.iter().zip(verify_each(&signed)) {
            if is_good {
                verdicts[*place] = Ok(());
            }
        }
        verdicts
    }

    /// `None` for another suite, for what is no good key, and for keys beyond the bound.
    fn get(&self, suite: Suite, public_key: &[u8]) -> Option<Arc<PreparedKey>> {
        if suite != Suite::Ed25519 {
            return None;
        }
        // A map of finished keys: whole whatever happened to the last holder.
        let known = {
            let keys = self.by_public_key.read().unwrap_or_else(PoisonError::into_inner);
            if !keys.contains_key(public_key) && keys.len() >= PREPARED_KEYS {
                return None;
            }
            keys.get(public_key).cloned()
        };
        known.or_else(|| {
            let made = Arc::new(PreparedKey::new(&self.base, public_key.try_into().ok()?)?);
            let mut keys = self.by_public_key.write().unwrap_or_else(PoisonError::into_inner);
            if keys.len() < PREPARED_KEYS {
                keys.insert(public_key.to_vec(), Arc::clone(&made));
            }
            Some(made)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::ops::{MandateStop, Op, OpBody};
    use anji_contracts::types::{ChainId, Hash32, KeyId, MandateId, OpId, ParticipantId};
    use anji_contracts::{decode_batch, encode_batch};
    use ed25519_dalek::{Signer, SigningKey};

    const CHAIN: ChainId = ChainId(Hash32([1; 32]));

    fn signing_key(participant: u32) -> SigningKey {
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&participant.to_le_bytes());
        SigningKey::from_bytes(&seed)
    }

    fn batch(participant: u32, signer: u32) -> DecodedBatch {
        let body = OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason: 1 });
        let op = Op { op_id: OpId::new(1, participant.into()), linked: false, body };
        let sign = |digest: &[u8; 32]| signing_key(signer).sign(digest).to_bytes();
        let bytes = encode_batch(&CHAIN, ParticipantId(participant), KeyId(1), 9, &[op], sign).expect("well formed");
        decode_batch(&bytes, &CHAIN).expect("just encoded")
    }

    #[test]
    fn each_batch_gets_its_own_verdict_by_its_own_key_below_and_above_the_bound() {
        let n_keys = u32::try_from(PREPARED_KEYS).expect("a small number") + 3;
        let public: Vec<Vec<u8>> = (0..n_keys).map(|it| signing_key(it).verifying_key().to_bytes().to_vec()).collect();
        let keys = PreparedKeys::default();
        let key_of = |batch: &DecodedBatch| match batch.header.participant.0 as usize {
            1 => Err(Reject::KeyNotValid),
            // No point, and a point of small order.
            2 => Ok((Suite::Ed25519, &[2; 32][..])),
            3 => Ok((Suite::Ed25519, &[0; 32][..])),
            it => Ok((Suite::Ed25519, public[it].as_slice())),
        };
        for _ in 0..2 {
            // Every fifth is signed by another.
            let batches: Vec<DecodedBatch> =
                (0..n_keys).map(|it| batch(it, if it % 5 == 4 { it + 1 } else { it })).collect();
            let expected: Vec<Result<(), Reject>> = (0..n_keys)
                .map(|it| match it {
                    1 => Err(Reject::KeyNotValid),
                    2 | 3 => Err(Reject::BadSignature),
                    it if it % 5 == 4 => Err(Reject::BadSignature),
                    _ => Ok(()),
                })
                .collect();
            assert_eq!(keys.check(&batches.iter().collect::<Vec<_>>(), key_of), expected);
        }
        assert_eq!(keys.by_public_key.read().expect("nothing panicked").len(), PREPARED_KEYS);
    }
}
