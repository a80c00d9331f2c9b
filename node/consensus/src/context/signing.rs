//! Keys and signatures as the engine carries them. Private keys stay in the signer.

use crate::engine_types::core::SigningScheme;

/// Ed25519, verified by the strict rule everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ed25519;

/// A validator's public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PublicKey(pub(crate) [u8; 32]);

/// A signature; ordered, as the engine sorts certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Signature(pub(crate) [u8; 64]);

impl SigningScheme for Ed25519 {
    type DecodingError = String;
    type Signature = Signature;
    type PublicKey = PublicKey;
    /// The engine never holds one.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, String> {
        bytes.try_into().map(Signature).map_err(|_| format!("a signature has 64 bytes, not {}", bytes.len()))
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, String> {
        bytes.try_into().map(PublicKey).map_err(|_| format!("a public key has 32 bytes, not {}", bytes.len()))
    }

    fn encode_public_key(public_key: &PublicKey) -> Vec<u8> {
        public_key.0.to_vec()
    }
}
