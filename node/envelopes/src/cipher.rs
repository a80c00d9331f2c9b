//! How the text itself is enciphered. Key and nonce come from the content secret, which is fresh for every envelope: no key ever enciphers
//! two texts.

use crate::context::{self, hash};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use borsh::{BorshDeserialize, BorshSerialize};
use chacha20poly1305::ChaCha20Poly1305;
use sm4::Sm4;
use zeroize::Zeroizing;

/// How a text is enciphered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Cipher {
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 1,
    /// SM4 (GB/T 32907) in GCM with 12 bytes of nonce and 16 of tag (RFC 8998).
    Sm4Gcm = 2,
}

/// What an envelope's text is enciphered with, before it is wrapped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

impl Cipher {
    /// Bytes by which a ciphertext is longer than its text.
    pub const TAG_BYTES: usize = 16;

    /// `None` never happens within an envelope's bounds.
    pub(crate) fn encipher(self, secret: &Secret, head: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let (key, nonce) = parameters(secret);
        let payload = Payload { msg: text, aad: head };
        match self {
            Self::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new_from_slice(&*key).ok()?.encrypt(&nonce.into(), payload).ok()
            }
            Self::Sm4Gcm => sm4_gcm(&key)?.encrypt(&nonce.into(), payload).ok(),
        }
    }

    /// `None` if text, head or secret are not those of [`Self::encipher`].
    pub(crate) fn decipher(self, secret: &Secret, head: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (key, nonce) = parameters(secret);
        let payload = Payload { msg: ciphertext, aad: head };
        let text = match self {
            Self::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new_from_slice(&*key).ok()?.decrypt(&nonce.into(), payload).ok()?
            }
            Self::Sm4Gcm => sm4_gcm(&key)?.decrypt(&nonce.into(), payload).ok()?,
        };
        Some(Zeroizing::new(text))
    }
}

/// SM4 takes the first 16 bytes of the key. The nonce, unknown to anybody else, makes up for what its short key gives away to somebody
/// who collects many envelopes.
fn sm4_gcm(key: &[u8; 32]) -> Option<AesGcm<Sm4, U12>> {
    AesGcm::<Sm4, U12>::new_from_slice(key.get(..16)?).ok()
}

fn parameters(secret: &Secret) -> (Zeroizing<[u8; 32]>, [u8; 12]) {
    let key = hash(context::KEY, &[&**secret]).0;
    let mut nonce = [0; 12];
    let full = hash(context::NONCE, &[&**secret]).0;
    nonce.iter_mut().zip(full).for_each(|(to, from)| *to = from);
    (Zeroizing::new(key), nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8998, A.2.1.
    #[test]
    fn sm4_gcm_is_that_of_rfc_8998() {
        let text = hex::decode(
            "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccddddddddddddddddeeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa",
        )
        .expect("hex");
        let aad = hex::decode("feedfacedeadbeeffeedfacedeadbeefabaddad2").expect("hex");
        let mut key = [0; 32];
        hex::decode_to_slice("0123456789abcdeffedcba9876543210", &mut key[..16]).expect("hex");
        let mut nonce = [0; 12];
        hex::decode_to_slice("00001234567800000000abcd", &mut nonce).expect("hex");
        let sealed = sm4_gcm(&key).expect("16 bytes").encrypt(&nonce.into(), Payload { msg: &text, aad: &aad });
        let expected = "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d83de3541e4c2b58177e065a9bf7b62ec";
        assert_eq!(hex::encode(sealed.expect("sealed")), expected);
    }
}
