//! From ed25519 keys to peer ids.

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

/// The 32 bytes are no point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ed25519 public key")]
pub struct InvalidPublicKey;

/// The peer id of the node that starts with this seed.
pub fn peer_id_of_seed(seed: &[u8; 32]) -> PeerId {
    keypair_of_seed(seed).public().to_peer_id()
}

/// The peer id of the node that holds this public key.
///
/// # Errors
/// When the bytes are no public key.
pub fn peer_id_of_public_key(key: &[u8; 32]) -> Result<PeerId, InvalidPublicKey> {
    let key = ed25519::PublicKey::try_from_bytes(key).map_err(|_| InvalidPublicKey)?;
    Ok(PublicKey::from(key).to_peer_id())
}

pub(crate) fn keypair_of_seed(seed: &[u8; 32]) -> Keypair {
    // `try_from_bytes` wipes what it is given, so it gets a copy.
    let secret = ed25519::SecretKey::try_from_bytes(*seed).expect("a seed is exactly 32 bytes");
    Keypair::from(ed25519::Keypair::from(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_public_key_give_the_same_peer() {
        let seed = [7; 32];
        let key = keypair_of_seed(&seed).public().try_into_ed25519().expect("an ed25519 key").to_bytes();
        assert_eq!(peer_id_of_public_key(&key), Ok(peer_id_of_seed(&seed)));
    }

    #[test]
    fn bytes_off_the_curve_are_refused() {
        // y = 2 has no x on the curve.
        let mut key = [0; 32];
        key[0] = 2;
        assert_eq!(peer_id_of_public_key(&key), Err(InvalidPublicKey));
    }
}
