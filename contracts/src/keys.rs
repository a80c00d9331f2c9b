//! Public keys and signatures: the one home of "is this a key" and "did this key sign that", for every suite. Keys are judged
//! strictly, so that two nodes can never differ; nothing here signs or reads a private key. What exactly is signed is told in
//! `proto/FORMAT.md`, section 2.

use crate::entity::{EncryptionKey, SealSuite, Suite};
use crate::reject::Reject;

/// The identifier that goes into the Z value of every SM2 signature here: the default of GM/T 0009.
pub const SM2_ID: &str = "1234567812345678";

impl Suite {
    /// Bytes of a public key.
    #[must_use]
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::Sm2Sm3 => 33,
        }
    }
}

impl SealSuite {
    /// Bytes of a public key.
    #[must_use]
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::Sm2 => 33,
        }
    }
}

/// Whether these bytes are a public key that may sign: Ed25519 as a point that is not of small order, SM2 as a compressed point of
/// the curve (tag 2 or 3, x below the field's prime) that is not −G, whose private key n − 1 the standard rules out.
///
/// A curve operation: bytes from the network are judged by their length first, and by this once the signature over them is verified.
///
/// # Errors
/// [`Reject::Malformed`].
pub fn check_signing_key(suite: Suite, public_key: &[u8]) -> Result<(), Reject> {
    let good = match suite {
        Suite::Ed25519 => ed25519_key(public_key).is_some_and(|key| !key.is_weak()),
        Suite::Sm2Sm3 => is_sm2_key(public_key),
    };
    if good { Ok(()) } else { Err(Reject::Malformed) }
}

/// Whether these bytes are a public key to which envelopes can be sealed: X25519 of other than small order, SM2 as in
/// [`check_signing_key`].
///
/// # Errors
/// [`Reject::Malformed`].
pub fn check_encryption_key(key: &EncryptionKey) -> Result<(), Reject> {
    let good = match key.suite {
        SealSuite::X25519 => is_x25519_key(&key.public_key),
        SealSuite::Sm2 => is_sm2_key(&key.public_key),
    };
    if good { Ok(()) } else { Err(Reject::Malformed) }
}

/// Verifies a signature by the rule of the key's suite.
///
/// # Errors
/// [`Reject::BadSignature`], also where the bytes are no key.
pub fn verify(suite: Suite, public_key: &[u8], message: &[u8], signature: &[u8; 64]) -> Result<(), Reject> {
    match suite {
        Suite::Ed25519 => verify_ed25519(public_key, message, signature),
        Suite::Sm2Sm3 => verify_sm2(public_key, message, signature),
    }
}

/// Ed25519 by the strict rule (RFC 8032 without cofactor, small-order keys refused): the one rule everywhere.
///
/// # Errors
/// [`Reject::BadSignature`].
pub fn verify_ed25519(public_key: &[u8], message: &[u8], signature: &[u8; 64]) -> Result<(), Reject> {
    let key = ed25519_key(public_key).ok_or(Reject::BadSignature)?;
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).map_err(|_| Reject::BadSignature)
}

/// SM2 with SM3 (GB/T 32918.2) under [`SM2_ID`]: the signature is r ‖ s, 32 bytes each, big-endian, both from 1 to n − 1.
///
/// There is no rule about a high s. Unlike ECDSA, (r, −s) verifies for nobody: r names one point up to its sign, and moving to the
/// other sign takes the private key. Who sees a signature therefore cannot make a second one.
///
/// # Errors
/// [`Reject::BadSignature`].
pub fn verify_sm2(public_key: &[u8], message: &[u8], signature: &[u8; 64]) -> Result<(), Reject> {
    use sm2::dsa::signature::Verifier;
    let key = sm2_key(public_key).ok_or(Reject::BadSignature)?;
    let key = sm2::dsa::VerifyingKey::new(SM2_ID, key).map_err(|_| Reject::BadSignature)?;
    let signature = sm2::dsa::Signature::from_slice(signature).map_err(|_| Reject::BadSignature)?;
    key.verify(message, &signature).map_err(|_| Reject::BadSignature)
}

fn ed25519_key(bytes: &[u8]) -> Option<ed25519_dalek::VerifyingKey> {
    ed25519_dalek::VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()
}

/// X25519 takes any 32 bytes; with one of the few points of small order the shared secret would be known to everybody. A clamped
/// scalar is a multiple of 8, so it takes exactly those to zero.
fn is_x25519_key(bytes: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 32]>::try_from(bytes) else { return false };
    curve25519_dalek::MontgomeryPoint(bytes).mul_clamped([1; 32]).to_bytes() != [0; 32]
}

/// A point of the SM2 curve by its compressed encoding and no other: 02 or 03, then x.
fn sm2_key(bytes: &[u8]) -> Option<sm2::PublicKey> {
    let compressed = bytes.len() == Suite::Sm2Sm3.public_key_bytes() && matches!(bytes.first(), Some(2 | 3));
    if compressed { sm2::PublicKey::from_sec1_bytes(bytes).ok() } else { None }
}

fn is_sm2_key(bytes: &[u8]) -> bool {
    /// −G: the x of the base point with the odd y.
    const MINUS_BASE: [u8; 33] = [
        0x03, 0x32, 0xc4, 0xae, 0x2c, 0x1f, 0x19, 0x81, 0x19, 0x5f, 0x99, 0x04, 0x46, 0x6a, 0x39, 0xc9, 0x94, 0x8f,
        0xe3, 0x0b, 0xbf, 0xf2, 0x66, 0x0b, 0xe1, 0x71, 0x5a, 0x45, 0x89, 0x33, 0x4c, 0x74, 0xc7,
    ];
    bytes != MINUS_BASE && sm2_key(bytes).is_some()
}
