//! The content secret, wrapped for one recipient by the suite of its key. Each wrap is tied to the envelope's head and to the recipient, so
//! that it opens nowhere else: by HPKE's associated data, and for SM2, which has none, by a hash that travels with the secret.

use crate::cipher::Secret;
use crate::context;
use crate::keys::{OpeningKey, Private, X25519};
use anji_contracts::entity::{EncryptionKey, SealSuite};
use anji_contracts::types::{Hash32, ParticipantId};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

type HpkeCipher = hpke::aead::ChaCha20Poly1305;
type HpkeKdf = hpke::kdf::HkdfSha256;
type Encapped = <X25519 as Kem>::EncappedKey;

/// HPKE: encapsulated key, secret, tag.
pub(crate) const X25519_WRAP_BYTES: usize = 32 + 32 + 16;
/// SM2: uncompressed point, hash, secret and binding.
pub(crate) const SM2_WRAP_BYTES: usize = 65 + 32 + 32 + 32;

/// What ties a wrap to one envelope and one recipient.
pub(crate) fn binding(head: &[u8], participant: ParticipantId) -> Hash32 {
    context::hash(context::WRAP, &[&participant.0.to_le_bytes(), head])
}

/// `None` if the key is none of its suite.
pub(crate) fn wrap(
    key: &EncryptionKey,
    binding: &Hash32,
    secret: &Secret,
    rng: &mut impl CryptoRng,
) -> Option<Vec<u8>> {
    anji_contracts::keys::check_encryption_key(key).ok()?;
    match key.suite {
        SealSuite::X25519 => {
            let public = <X25519 as Kem>::PublicKey::from_bytes(&key.public_key).ok()?;
            let (encapped, sealed) = hpke::single_shot_seal_with_rng::<HpkeCipher, HpkeKdf, X25519>(
                &OpModeS::Base,
                &public,
                context::WRAP.as_bytes(),
                &**secret,
                &binding.0,
                rng,
            )
            .ok()?;
            Some([encapped.to_bytes().as_slice(), &sealed].concat())
        }
        SealSuite::Sm2 => {
            let mut text = Zeroizing::new([0; 64]);
            text.iter_mut().zip(secret.iter().chain(&binding.0)).for_each(|(to, from)| *to = *from);
            let key = sm2::pke::EncryptingKey::from_sec1_bytes(&key.public_key).ok()?;
            key.encrypt(rng, &*text).ok()
        }
    }
}

/// `None` if the wrap was changed, or is not for this key, envelope and recipient.
pub(crate) fn unwrap(key: &OpeningKey, binding: &Hash32, wrap: &[u8]) -> Option<Secret> {
    match &key.private {
        Private::X25519(private) => {
            if wrap.len() != X25519_WRAP_BYTES {
                return None;
            }
            let (encapped, sealed) = wrap.split_at_checked(32)?;
            let encapped = Encapped::from_bytes(encapped).ok()?;
            let secret = hpke::single_shot_open::<HpkeCipher, HpkeKdf, X25519>(
                &OpModeR::Base,
                private,
                &encapped,
                context::WRAP.as_bytes(),
                sealed,
                &binding.0,
            );
            let secret = Zeroizing::new(secret.ok()?);
            Some(Zeroizing::new(secret.as_slice().try_into().ok()?))
        }
        Private::Sm2(private) => {
            // Uncompressed and nothing else: one wrap has one encoding.
            if wrap.len() != SM2_WRAP_BYTES || wrap.first() != Some(&4) {
                return None;
            }
            let key = sm2::pke::DecryptingKey::new((**private).clone());
            let text = Zeroizing::new(key.decrypt(wrap).ok()?);
            let (secret, bound) = text.split_at_checked(32)?;
            // The hash over the text was right, so whoever wrapped it wrote this binding: it is no secret.
            if bound != binding.0 {
                return None;
            }
            Some(Zeroizing::new(secret.try_into().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    /// GB/T 32918.5-2017, annex C: "encryption standard" to the key of the signature sample, here as C1 ‖ C3 ‖ C2.
    #[test]
    fn the_sample_of_the_standard_deciphers() {
        let private = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
        let c1 = "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0";
        let c3 = "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766";
        let c2 = "21886ca989ca9c7d58087307ca93092d651efa";
        let key = sm2::pke::DecryptingKey::from_slice(&hex::decode(private).expect("hex")).expect("a key");
        let text = key.decrypt(&hex::decode(format!("{c1}{c3}{c2}")).expect("hex")).expect("deciphers");
        assert_eq!(text, b"encryption standard");
    }
}
