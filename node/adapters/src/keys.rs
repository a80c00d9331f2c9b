//! Private keys on disk: 32 random bytes from the operating system in a file only its owner may read. A key file says what the
//! key is for, so that a network key can never be taken for a signing key. Key bytes are never logged or printed.

use ed25519_dalek::{Signer, SigningKey};
use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Signs consensus votes (Ed25519); lives with the node.
    Consensus,
    /// The node's identity towards its peers (Ed25519); lives with the node.
    Network,
    /// Signs the participant's batches (Ed25519); lives with the adapter.
    Signing,
    /// Opens envelopes sealed to the participant (X25519); lives with the adapter.
    Encryption,
    /// Cosigns checkpoints as an outside witness (Ed25519); lives with the witness.
    Witness,
}

impl Purpose {
    /// The word in the file and the file's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Network => "network",
            Self::Signing => "signing",
            Self::Encryption => "encryption",
            Self::Witness => "witness",
        }
    }
}

/// A key file that cannot be written or used. Names the file and the way out, never the key.
#[derive(Debug)]
pub struct KeyError(String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyError {}

/// A private key.
#[derive(Clone)]
pub struct PrivateKey {
    purpose: Purpose,
    seed: [u8; 32],
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, not shown)", self.purpose.name())
    }
}

impl PrivateKey {
    /// A fresh key from the operating system's randomness.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate(purpose: Purpose) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| KeyError(format!("the system gives no randomness: {error}")))?;
        Ok(Self { purpose, seed })
    }

    /// A key from known bytes: for tests and vectors.
    #[must_use]
    pub const fn from_seed(purpose: Purpose, seed: [u8; 32]) -> Self {
        Self { purpose, seed }
    }

    /// Writes a new file with mode 0600 and makes it durable.
    ///
    /// # Errors
    /// The file exists (a key is never overwritten) or cannot be written.
    pub fn write_new(&self, file: &Path) -> Result<(), KeyError> {
        let failed = |error: std::io::Error| {
            let hint = if error.kind() == std::io::ErrorKind::AlreadyExists {
                "; a key is never overwritten: move the old one away first if it is really to go"
            } else {
                ""
            };
            KeyError(format!("{}: cannot write the key: {error}{hint}", file.display()))
        };
        let mut out =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
        writeln!(out, "anji private key v1, {}\n{}", self.purpose.name(), hex::encode(self.seed)).map_err(failed)?;
        out.sync_all().map_err(failed)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It is missing, readable by others, of another purpose or damaged.
    pub fn read(file: &Path, purpose: Purpose) -> Result<Self, KeyError> {
        let name = file.display();
        let failed = |error: std::io::Error| {
            KeyError(format!("{name}: cannot read the {} key: {error}; check the path in the config", purpose.name()))
        };
        let mode = std::fs::metadata(file).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyError(format!(
                "{name}: others may read this key (mode {:o}); run `chmod 600 {name}`, and replace the key if the machine is shared",
                mode & 0o777
            )));
        }
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        if head != format!("anji private key v1, {}", purpose.name()) {
            return Err(KeyError(format!(
                "{name}: not a {} key file of format v1; check that the config names the right file",
                purpose.name()
            )));
        }
        let mut seed = [0; 32];
        match (lines.next().map(|line| hex::decode_to_slice(line, &mut seed)), lines.next()) {
            (Some(Ok(())), None) => Ok(Self { purpose, seed }),
            _ => Err(KeyError(format!("{name}: the key file is damaged; restore it from a backup"))),
        }
    }

    /// The public key: Ed25519, or X25519 for [`Purpose::Encryption`].
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        match self.purpose {
            Purpose::Encryption => curve25519_dalek::MontgomeryPoint::mul_base_clamped(self.seed).to_bytes(),
            Purpose::Consensus | Purpose::Network | Purpose::Signing | Purpose::Witness => {
                self.ed25519().verifying_key().to_bytes()
            }
        }
    }

    /// The key as an Ed25519 signing key.
    #[must_use]
    pub fn ed25519(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }

    /// The raw seed, for libraries that build their own key from it.
    #[must_use]
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// An Ed25519 signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.ed25519().sign(message).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_is_for_one_purpose_only() {
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("signing.key");
        let key = PrivateKey::generate(Purpose::Signing).expect("randomness");
        key.write_new(&file).expect("written");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(PrivateKey::read(&file, Purpose::Signing).expect("reads").public(), key.public());
        let shown = PrivateKey::read(&file, Purpose::Network).expect_err("other purpose").to_string();
        assert!(shown.contains("not a network key file"), "{shown}");
        assert!(key.write_new(&file).expect_err("kept").to_string().contains("never overwritten"));
        assert!(!format!("{key:?}").contains(&hex::encode(key.seed())));
    }

    #[test]
    fn a_loose_or_damaged_file_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("n.key");
        let read = |file: &Path| PrivateKey::read(file, Purpose::Network).expect_err("refused").to_string();
        assert!(read(&file).contains("n.key: cannot read the network key"));
        PrivateKey::generate(Purpose::Network).expect("randomness").write_new(&file).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("mode");
        assert!(read(&file).contains("chmod 600"), "{}", read(&file));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode");
        for damaged in [
            "",
            "anji private key v1, network\n",
            "anji private key v1, network\nabc\n",
            "anji private key v1, network\n00\n00\n",
        ] {
            std::fs::write(&file, damaged).expect("written");
            let shown = read(&file);
            assert!(
                shown.contains("n.key") && (shown.contains("damaged") || shown.contains("not a network")),
                "{shown}"
            );
        }
    }

    #[test]
    fn x25519_public_key_is_that_of_rfc_7748() {
        let mut seed = [0; 32];
        seed[0] = 9;
        // RFC 7748 section 5.2: scalar and point both 9, after one iteration.
        let expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
        assert_eq!(hex::encode(PrivateKey::from_seed(Purpose::Encryption, seed).public()), expected);
    }
}
