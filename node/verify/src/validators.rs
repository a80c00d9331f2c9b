//! Validator sets: who votes at a height, with which key and power.

use alloc::vec::Vec;
use anji_contracts::codec::{self, Domain};
use anji_contracts::types::{Hash32, ParticipantId};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

/// A validator's address: the first 20 bytes of the BLAKE3 of its public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Address(pub [u8; 20]);

impl Address {
    /// The address of a public key.
    #[must_use]
    pub fn of(public_key: &[u8; 32]) -> Self {
        let hash = codec::hash(Domain::Address, public_key);
        let mut address = [0; 20];
        for (to, from) in address.iter_mut().zip(hash.0) {
            *to = from;
        }
        Self(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One validator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub struct Validator {
    /// Its address.
    pub address: Address,
    /// Whose node it is.
    pub participant: ParticipantId,
    /// Ed25519 key its votes verify with.
    pub public_key: [u8; 32],
    /// Voting power.
    pub power: u64,
}

/// Whether `power` is more than two thirds of `total`: what decides a block and makes a checkpoint final.
#[must_use]
pub fn is_more_than_two_thirds(power: u64, total: u64) -> bool {
    u128::from(power).saturating_mul(3) > u128::from(total).saturating_mul(2)
}

/// The validators of a height, sorted by address, without duplicates.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
}

impl ValidatorSet {
    /// Sorts and keeps the validators with power; `None` if there are none, if an address repeats or if the powers overflow.
    #[must_use]
    pub fn new(mut validators: Vec<Validator>) -> Option<Self> {
        validators.retain(|validator| validator.power > 0);
        validators.sort_by_key(|validator| validator.address);
        let unique = validators.windows(2).all(|pair| match pair {
            [left, right] => left.address != right.address,
            _ => true,
        });
        let fits = validators.iter().try_fold(0u64, |sum, validator| sum.checked_add(validator.power)).is_some();
        (unique && fits && !validators.is_empty()).then_some(Self { validators })
    }

    /// The validators, by address.
    #[must_use]
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// The validator with this address.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<&Validator> {
        self.validators.binary_search_by_key(address, |it| it.address).ok().and_then(|index| self.validators.get(index))
    }

    /// Sum of all powers.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.validators.iter().fold(0, |sum, validator| sum.saturating_add(validator.power))
    }

    /// What headers commit to.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        codec::hash(Domain::ValidatorSet, &codec::encode(&self.validators))
    }
}
