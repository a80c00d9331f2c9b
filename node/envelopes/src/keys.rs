//! The private key that opens envelopes. It is read and kept by whoever holds the participant's keys; here it only opens.

use anji_contracts::entity::{EncryptionKey, SealSuite};
use hpke::{Deserializable, Kem, Serializable};
use sm2::elliptic_curve::sec1::ToSec1Point;
use std::fmt;

pub(crate) type X25519 = hpke::kem::X25519HkdfSha256;

/// A participant's private key for envelopes. Never shown; wiped when it is dropped.
#[derive(Clone)]
pub struct OpeningKey {
    pub(crate) private: Private,
    public: EncryptionKey,
}

#[derive(Clone)]
pub(crate) enum Private {
    X25519(<X25519 as Kem>::PrivateKey),
    Sm2(Box<sm2::SecretKey>),
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({:?}, not shown)", self.public.suite)
    }
}

impl OpeningKey {
    /// The key of a suite with these 32 bytes: a scalar that gets clamped (X25519), or a number from 1 to n − 2, big-endian (SM2).
    /// `None` if they are no such number.
    #[must_use]
    pub fn from_bytes(suite: SealSuite, bytes: &[u8; 32]) -> Option<Self> {
        let (private, public_key) = match suite {
            SealSuite::X25519 => {
                let private = <X25519 as Kem>::PrivateKey::from_bytes(bytes).ok()?;
                let public = X25519::sk_to_pk(&private).to_bytes().to_vec();
                (Private::X25519(private), public)
            }
            SealSuite::Sm2 => {
                let private = sm2::SecretKey::from_slice(bytes).ok()?;
                let public = private.public_key().to_sec1_point(true).as_bytes().to_vec();
                (Private::Sm2(Box::new(private)), public)
            }
        };
        let public = EncryptionKey { suite, public_key };
        anji_contracts::keys::check_encryption_key(&public).ok()?;
        Some(Self { private, public })
    }

    /// Its public half, as the ledger has it.
    #[must_use]
    pub const fn public(&self) -> &EncryptionKey {
        &self.public
    }
}
