//! Salted commitments: a hash on the ledger that says nothing about a field until salt and field are shown, and then proves the field. Salt and
//! field travel in an envelope; once they are erased, the hash can no longer be tied to anybody.

use crate::context;
use anji_contracts::types::Hash32;
use rand_core::CryptoRng;
use std::fmt;

/// 32 random bytes, fresh for every commitment. Without them a field with few values could be guessed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(not shown)")
    }
}

impl Salt {
    /// A fresh one.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        Self(salt)
    }
}

/// The commitment to a field: H("anji v1 commitment", salt ‖ field).
#[must_use]
pub fn commit(salt: &Salt, field: &[u8]) -> Hash32 {
    context::hash(context::COMMITMENT, &[&salt.0, field])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_opens_with_its_own_salt_and_field_only() {
        let mut rng = rand::rng();
        let (salt, other) = (Salt::generate(&mut rng), Salt::generate(&mut rng));
        assert_ne!(salt, other);
        let hash = commit(&salt, b"Li Chun");
        assert_eq!(hash, commit(&salt, b"Li Chun"));
        assert_ne!(hash, commit(&other, b"Li Chun"));
        assert_ne!(hash, commit(&salt, b"Li Chun "));
        assert_eq!(format!("{salt:?}"), "Salt(not shown)");
    }
}
