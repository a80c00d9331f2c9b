//! Private keys on disk: 32 random bytes from the operating system in a file only its owner may read. A key file says what the
//! key is for and of which suite it is, so that a network key can never be taken for a signing key. Key bytes are never logged or
//! printed.

use anji_contracts::entity::{SealSuite, Suite};
use anji_contracts::keys::SM2_ID;
use ed25519_dalek::{Signer, SigningKey};
use sm2::elliptic_curve::sec1::ToSec1Point;
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
    /// Signs the participant's batches (Ed25519 or SM2); lives with the adapter.
    Signing,
    /// Opens envelopes sealed to the participant (X25519 or SM2); lives with the adapter.
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

/// Which curve a key is on. Only a participant's own keys, for signing and for envelopes, may be on that of SM2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeySuite {
    /// Ed25519, and X25519 for envelopes.
    #[default]
    Ed25519,
    /// SM2, for envelopes too. The 32 bytes are the private number, big-endian.
    Sm2,
}

impl KeySuite {
    /// The word in configuration and key files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Sm2 => "sm2",
        }
    }

    /// The suite of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ed25519, Self::Sm2].into_iter().find(|it| it.name() == name)
    }

    /// The ledger's number for keys that sign.
    #[must_use]
    pub const fn signing(self) -> Suite {
        match self {
            Self::Ed25519 => Suite::Ed25519,
            Self::Sm2 => Suite::Sm2Sm3,
        }
    }

    /// The ledger's number for keys to which envelopes are sealed.
    #[must_use]
    pub const fn sealing(self) -> SealSuite {
        match self {
            Self::Ed25519 => SealSuite::X25519,
            Self::Sm2 => SealSuite::Sm2,
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
    suite: KeySuite,
    seed: [u8; 32],
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, {}, not shown)", self.purpose.name(), self.suite.name())
    }
}

impl PrivateKey {
    /// A fresh Ed25519 (or X25519) key from the operating system's randomness.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate(purpose: Purpose) -> Result<Self, KeyError> {
        Self::generate_of(purpose, KeySuite::Ed25519)
    }

    /// A fresh key of a suite.
    ///
    /// # Errors
    /// The system has no randomness to give, or keys for this purpose are of one suite only.
    pub fn generate_of(purpose: Purpose, suite: KeySuite) -> Result<Self, KeyError> {
        if suite == KeySuite::Sm2 && !matches!(purpose, Purpose::Signing | Purpose::Encryption) {
            return Err(KeyError(format!("a {} key is never of the suite sm2", purpose.name())));
        }
        loop {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| KeyError(format!("the system gives no randomness: {error}")))?;
            // One number in 2^32 is too large for SM2.
            if suite == KeySuite::Ed25519 || sm2_key(&seed).is_some() {
                return Ok(Self { purpose, suite, seed });
            }
        }
    }

    /// An Ed25519 (or X25519) key from known bytes: for tests and vectors.
    #[must_use]
    pub const fn from_seed(purpose: Purpose, seed: [u8; 32]) -> Self {
        Self { purpose, suite: KeySuite::Ed25519, seed }
    }

    /// Of which suite it is.
    #[must_use]
    pub const fn suite(&self) -> KeySuite {
        self.suite
    }

    /// The first line of its file. A key that names no suite is of Ed25519.
    fn head(&self) -> String {
        let suite = if self.suite == KeySuite::Sm2 { ", sm2" } else { "" };
        format!("anji private key v1, {}{suite}", self.purpose.name())
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
        writeln!(out, "{}\n{}", self.head(), hex::encode(self.seed)).map_err(failed)?;
        out.sync_all().map_err(failed)
    }

    /// Reads a key file, which says its suite.
    ///
    /// # Errors
    /// It is missing, readable by others, of another purpose, of a suite that is not for that purpose, or damaged.
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
        let suites: &[KeySuite] = match purpose {
            Purpose::Signing | Purpose::Encryption => &[KeySuite::Ed25519, KeySuite::Sm2],
            Purpose::Consensus | Purpose::Network | Purpose::Witness => &[KeySuite::Ed25519],
        };
        let mut blank = suites.iter().map(|suite| Self { purpose, suite: *suite, seed: [0; 32] });
        let Some(mut key) = blank.find(|it| it.head() == head) else {
            return Err(KeyError(format!(
                "{name}: not a {} key file of format v1; check that the config names the right file",
                purpose.name()
            )));
        };
        let line = lines.next().map(|line| hex::decode_to_slice(line, &mut key.seed));
        let usable = key.suite == KeySuite::Ed25519 || sm2_key(&key.seed).is_some();
        match (line, lines.next(), usable) {
            (Some(Ok(())), None, true) => Ok(key),
            _ => Err(KeyError(format!("{name}: the key file is damaged; restore it from a backup"))),
        }
    }

    /// The public key as the ledger writes it: 32 bytes of Ed25519 (X25519 for [`Purpose::Encryption`]), 33 of SM2.
    ///
    /// # Panics
    /// Never: an SM2 key is made and read only if its number is in range.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        match (self.suite, self.purpose) {
            (KeySuite::Sm2, _) => self.sm2().verifying_key().as_affine().to_sec1_point(true).as_bytes().to_vec(),
            (KeySuite::Ed25519, Purpose::Encryption) => {
                curve25519_dalek::MontgomeryPoint::mul_base_clamped(self.seed).to_bytes().to_vec()
            }
            (KeySuite::Ed25519, _) => self.ed25519().verifying_key().to_bytes().to_vec(),
        }
    }

    /// The key as an Ed25519 signing key; for purposes whose keys are of that suite only.
    #[must_use]
    pub fn ed25519(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }

    #[expect(clippy::expect_used, reason = "no key is made or read without this test")]
    fn sm2(&self) -> sm2::dsa::SigningKey {
        sm2_key(&self.seed).expect("the number was judged when the key was made or read")
    }

    /// The raw seed, for libraries that build their own key from it.
    #[must_use]
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// A signature by the key's suite, as `anji_contracts::keys::verify` takes it.
    ///
    /// # Panics
    /// Never: see [`Self::public`]. The nonce of SM2 is derived by RFC 6979; that it, r, s or r + k falls on zero is as likely as
    /// guessing the key.
    #[must_use]
    #[expect(clippy::expect_used, reason = "less likely than guessing the key")]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self.suite {
            KeySuite::Ed25519 => self.ed25519().sign(message).to_bytes(),
            KeySuite::Sm2 => {
                let signature: sm2::dsa::Signature = self.sm2().try_sign(message).expect("no number fell on zero");
                signature.to_bytes().into()
            }
        }
    }
}

/// An SM2 key, if its number is from 1 to n − 2 as the standard wants it.
fn sm2_key(seed: &[u8; 32]) -> Option<sm2::dsa::SigningKey> {
    let key = sm2::dsa::SigningKey::from_slice(SM2_ID, seed).ok()?;
    // n − 1 has the public key −G, which the ledger's rule refuses.
    let public = key.verifying_key().as_affine().to_sec1_point(true);
    anji_contracts::keys::check_signing_key(Suite::Sm2Sm3, public.as_bytes()).ok()?;
    Some(key)
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

    #[test]
    fn an_sm2_key_says_so_in_its_file_and_signs_what_the_ledger_takes() {
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("signing.key");
        let key = PrivateKey::generate_of(Purpose::Signing, KeySuite::Sm2).expect("randomness");
        key.write_new(&file).expect("written");
        let text = std::fs::read_to_string(&file).expect("reads");
        assert!(text.starts_with("anji private key v1, signing, sm2\n"), "another head");
        let read = PrivateKey::read(&file, Purpose::Signing).expect("reads");
        assert_eq!((read.suite(), read.public()), (KeySuite::Sm2, key.public()));
        assert_eq!(read.public().len(), 33);
        let signature = read.sign(b"something");
        assert_eq!(signature, key.sign(b"something"), "the nonce is derived, not drawn");
        anji_contracts::keys::verify(Suite::Sm2Sm3, &key.public(), b"something", &signature).expect("verifies");
        assert!(anji_contracts::keys::verify(Suite::Sm2Sm3, &key.public(), b"somethinh", &signature).is_err());

        // Numbers that are none: 0, n − 1, n, all ones. And n − 2, the last good one.
        let order = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d541";
        let zeros = "0".repeat(64);
        for bad in [&zeros, &format!("{order}22"), &format!("{order}23"), &"f".repeat(64)] {
            std::fs::write(&file, format!("anji private key v1, signing, sm2\n{bad}\n")).expect("written");
            let shown = PrivateKey::read(&file, Purpose::Signing).expect_err("refused").to_string();
            assert!(shown.contains("damaged"), "{shown}");
        }
        std::fs::write(&file, format!("anji private key v1, signing, sm2\n{order}21\n")).expect("written");
        PrivateKey::read(&file, Purpose::Signing).expect("n - 2 is a key");

        // Votes are never signed with SM2.
        assert!(PrivateKey::generate_of(Purpose::Consensus, KeySuite::Sm2).is_err());
        std::fs::write(&file, format!("anji private key v1, consensus, sm2\n{}\n", "1".repeat(64))).expect("written");
        assert!(
            PrivateKey::read(&file, Purpose::Consensus).expect_err("refused").to_string().contains("not a consensus")
        );
    }
}
