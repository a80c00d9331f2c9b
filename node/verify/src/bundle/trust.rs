//! What a verifier takes for given: which ledger, and who its validators were at some height. Everything else is proven.

use crate::validators::{Address, Validator, ValidatorSet};
use alloc::collections::BTreeMap;
use alloc::string::String;
use anji_contracts::Genesis;
use anji_contracts::types::{ChainId, ParticipantId};

/// The pinned keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// Which ledger.
    pub chain_id: ChainId,
    /// The first height that `validators` vote on; 1 for the set of the genesis document.
    pub height: u64,
    /// The validators of that height.
    pub validators: ValidatorSet,
    /// What participants are called. For words only: nothing is judged by a name.
    pub names: BTreeMap<ParticipantId, String>,
}

impl Trust {
    /// What a genesis document pins; `None` if its validators are no valid set.
    #[must_use]
    pub fn of_genesis(genesis: &Genesis) -> Option<Self> {
        let validators = genesis.validators.iter().map(|it| Validator {
            address: Address::of(&it.public_key),
            participant: it.participant,
            public_key: it.public_key,
            power: it.power,
        });
        Some(Self {
            chain_id: genesis.chain_id(),
            height: 1,
            validators: ValidatorSet::new(validators.collect())?,
            names: genesis.participants.iter().map(|it| (it.id, it.name.clone())).collect(),
        })
    }
}
