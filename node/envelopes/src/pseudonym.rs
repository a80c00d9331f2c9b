//! Pseudonyms: a person or shop as one institution shows them on the ledger. Stable within the institution, so that limits can count;
//! meaningless to anybody else, since two institutions give one person two pseudonyms. The secret is never rotated: a new one makes everybody a
//! stranger to the limits. Whoever has it can list persons and find their pseudonyms, so it is kept like the signing key.

use anji_contracts::types::Pseudonym;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// Whom a pseudonym stands for. A person who also keeps a shop has two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Person {
    /// Who pays.
    Payer,
    /// Who is paid.
    Merchant,
}

/// An institution's secret for pseudonyms.
#[derive(Clone)]
pub struct PseudonymSecret(Zeroizing<[u8; 32]>);

impl fmt::Debug for PseudonymSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymSecret(not shown)")
    }
}

impl PseudonymSecret {
    /// The secret with these bytes; they come from the operating system's randomness.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// HMAC-SHA256(secret, "anji v1 pseudonym" ‖ kind ‖ id), its first 16 bytes; kind is one byte, 1 payer, 2 merchant. `id` is the
    /// institution's own, unchangeable name for the person: an account number rather than a telephone number.
    #[must_use]
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn of(&self, kind: Person, id: &[u8]) -> Pseudonym {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes a key of any length");
        mac.update(b"anji v1 pseudonym");
        mac.update(match kind {
            Person::Payer => &[1],
            Person::Merchant => &[2],
        });
        mac.update(id);
        let mut short = [0; 16];
        short.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        Pseudonym(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_stable_within_an_institution_and_meaningless_beyond() {
        let (own, other) = (PseudonymSecret::new([1; 32]), PseudonymSecret::new([2; 32]));
        let payer = own.of(Person::Payer, b"10023");
        assert_eq!(payer, own.of(Person::Payer, b"10023"));
        assert_ne!(payer, other.of(Person::Payer, b"10023"));
        assert_ne!(payer, own.of(Person::Merchant, b"10023"));
        assert_ne!(payer, own.of(Person::Payer, b"10024"));
        // Computed apart: python3 -c "import hmac; print(hmac.new(b'\x01'*32, b'anji v1 pseudonym\x0110023', 'sha256').hexdigest()[:32])"
        assert_eq!(hex::encode(payer.0), "21ec2b12d5e94583e47bbba047ebd1e5");
        assert_eq!(format!("{own:?}"), "PseudonymSecret(not shown)");
    }
}
