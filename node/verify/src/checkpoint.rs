//! Checkpoints of the log and who signed them: C2SP tlog-checkpoint text (origin, size, root), `cosignature/v1` of
//! tlog-cosignature, and the rule that makes a checkpoint **final**: cosignatures of validators with more than two thirds of the
//! power on one size and root. A validator signs with its consensus key; votes sign 32 bytes, these texts are longer, so that
//! neither can be taken for the other.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use anji_contracts::codec;
use anji_contracts::types::{ChainId, Hash32, ParticipantId};
use base64ct::{Base64, Encoding};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

use crate::log_tree::LogRoot;
use crate::note::{NoteError, NoteSignature, SignatureKind, SignedNote, VerifierKey, key_id};
use crate::validators::{Address, Validator, ValidatorSet, is_more_than_two_thirds};

/// Most a timestamp may be, seconds: the specification's bound.
pub const MAX_TIME_S: u64 = i64::MAX as u64;

/// The log's name: first line of every checkpoint, and key name of the plain signatures.
#[must_use]
pub fn origin(chain_id: &ChainId) -> String {
    let hex: String = chain_id.to_string().chars().take(32).collect();
    format!("anji.{hex}")
}

/// Key name of a validator's cosignatures.
#[must_use]
pub fn cosigner_name(chain_id: &ChainId, participant: ParticipantId) -> String {
    format!("{}.v{participant}", origin(chain_id))
}

/// The text that is signed: origin, size and root, a line each.
#[must_use]
pub fn checkpoint_text(origin: &str, log: &LogRoot) -> String {
    format!("{origin}\n{}\n{}\n", log.size, Base64::encode_string(&log.root.0))
}

/// What a `cosignature/v1` signs: two lines of its own above the checkpoint's text. `time_s` is at most [`MAX_TIME_S`].
#[must_use]
pub fn cosigned_message(time_s: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

/// A checkpoint as read from a note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Size and root.
    pub log: LogRoot,
    /// Lines below the root; ours have none.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// Reads a checkpoint's text.
    ///
    /// # Errors
    /// [`CheckpointError::BadText`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let bad = CheckpointError::BadText;
        let mut lines = text.strip_suffix('\n').ok_or(bad.clone())?.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(bad.clone())?;
        let size_line = lines.next().ok_or(bad.clone())?;
        let size: u64 = size_line.parse().map_err(|_| bad.clone())?;
        if size.to_string() != size_line {
            return Err(bad);
        }
        let root = lines.next().filter(|line| line.len() == 44).ok_or(bad.clone())?;
        let root = Base64::decode_vec(root).map_err(|_| bad.clone())?;
        let root = Hash32(root.try_into().map_err(|_| bad.clone())?);
        let extensions: Vec<String> = lines.map(ToString::to_string).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(bad);
        }
        Ok(Self { origin: origin.to_string(), log: LogRoot { size, root }, extensions })
    }
}

/// A validator's `cosignature/v1`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Cosignature {
    /// Who signed.
    pub validator: Address,
    /// When, by the signer's clock: seconds since 1970, at most [`MAX_TIME_S`].
    pub time_s: u64,
    /// Ed25519 over [`cosigned_message`].
    pub signature: [u8; 64],
}

/// Both signatures of one validator on one checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ValidatorSignatures {
    /// The timestamped one, which counts for finality.
    pub cosignature: Cosignature,
    /// Plain Ed25519 over the checkpoint's text, for clients that know notes only.
    pub plain: [u8; 64],
}

/// The checkpoint after one block, with the validators' signatures on it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedCheckpoint {
    /// The block's height.
    pub height: u64,
    /// The log after it.
    pub log: LogRoot,
    /// The signatures, by address.
    pub signatures: Vec<ValidatorSignatures>,
}

impl SignedCheckpoint {
    /// The cosignatures alone: what [`check_final`] judges.
    #[must_use]
    pub fn cosignatures(&self) -> Vec<Cosignature> {
        self.signatures.iter().map(|it| it.cosignature.clone()).collect()
    }

    /// The checkpoint as a signed note: of every validator that signed, its plain line and its cosignature line. Lines that do not
    /// verify are left out.
    #[must_use]
    pub fn note(&self, chain_id: &ChainId, validators: &ValidatorSet) -> SignedNote {
        let text = checkpoint_text(&origin(chain_id), &self.log);
        let mut signatures = Vec::new();
        for ValidatorSignatures { cosignature, plain } in &self.signatures {
            let Some(validator) = validators.get(&cosignature.validator) else { continue };
            let (key, cosigner) = (log_key(chain_id, validator), cosigner_key(chain_id, validator));
            let plain = plain_line(&key.name, &key.public_key, plain);
            let timed =
                cosignature_line(&cosigner.name, &cosigner.public_key, cosignature.time_s, &cosignature.signature);
            signatures.extend((check_line(&key, &text, &plain) == Some(true)).then_some(plain));
            signatures.extend((check_line(&cosigner, &text, &timed) == Some(true)).then_some(timed));
        }
        SignedNote { text, signatures }
    }
}

/// Why a checkpoint is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CheckpointError {
    /// The text is not a checkpoint.
    BadText,
    /// More cosignatures than there are validators.
    TooMany,
    /// A validator signed twice.
    Duplicate(Address),
    /// An address that is no validator.
    Unknown(Address),
    /// A signature does not verify.
    BadSignature(Address),
    /// The signers have two thirds of the power or less.
    NotEnoughPower {
        /// Power of the signers.
        signed: u64,
        /// Power of all validators.
        total: u64,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadText => f.write_str("this is not a checkpoint"),
            Self::TooMany => f.write_str("the checkpoint has more cosignatures than there are validators"),
            Self::Duplicate(address) => write!(f, "validator {address} cosigned twice"),
            Self::Unknown(address) => write!(f, "{address} is not a validator"),
            Self::BadSignature(address) => write!(f, "the cosignature of validator {address} does not verify"),
            Self::NotEnoughPower { signed, total } => {
                write!(f, "cosigned by power {signed} of {total}; more than two thirds is needed")
            }
        }
    }
}

impl core::error::Error for CheckpointError {}

/// Checks one cosignature over a checkpoint's text.
///
/// # Errors
/// [`CheckpointError::BadSignature`].
pub fn check_cosignature(public_key: &[u8; 32], text: &str, cosignature: &Cosignature) -> Result<(), CheckpointError> {
    let bad = CheckpointError::BadSignature(cosignature.validator);
    if cosignature.time_s > MAX_TIME_S {
        return Err(bad);
    }
    let message = cosigned_message(cosignature.time_s, text);
    codec::verify_ed25519(public_key, &message, &cosignature.signature).map_err(|_| bad)
}

/// Checks that the checkpoint is final: validators with more than two thirds of the power cosigned it, each once, and every
/// cosignature given verifies.
///
/// # Errors
/// What is wrong, see [`CheckpointError`].
pub fn check_final(
    log: &LogRoot,
    cosignatures: &[Cosignature],
    chain_id: &ChainId,
    validators: &ValidatorSet,
) -> Result<(), CheckpointError> {
    if cosignatures.len() > validators.validators().len() {
        return Err(CheckpointError::TooMany);
    }
    let text = checkpoint_text(&origin(chain_id), log);
    let mut seen = BTreeSet::new();
    let mut signed = 0u64;
    for cosignature in cosignatures {
        let address = cosignature.validator;
        if !seen.insert(address) {
            return Err(CheckpointError::Duplicate(address));
        }
        let known = validators.get(&address).ok_or(CheckpointError::Unknown(address))?;
        check_cosignature(&known.public_key, &text, cosignature)?;
        signed = signed.saturating_add(known.power);
    }
    let total = validators.total_power();
    if is_more_than_two_thirds(signed, total) { Ok(()) } else { Err(CheckpointError::NotEnoughPower { signed, total }) }
}

/// The key that a validator's plain signatures verify with: any client of the C2SP log formats takes it as the log's.
#[must_use]
pub fn log_key(chain_id: &ChainId, validator: &Validator) -> VerifierKey {
    VerifierKey { name: origin(chain_id), kind: SignatureKind::Ed25519, public_key: validator.public_key }
}

/// The key that a validator's cosignatures verify with.
#[must_use]
pub fn cosigner_key(chain_id: &ChainId, validator: &Validator) -> VerifierKey {
    VerifierKey {
        name: cosigner_name(chain_id, validator.participant),
        kind: SignatureKind::CosignatureV1,
        public_key: validator.public_key,
    }
}

/// The signature line of a plain Ed25519 signature over the note's text.
#[must_use]
pub fn plain_line(name: &str, public_key: &[u8; 32], signature: &[u8; 64]) -> NoteSignature {
    NoteSignature {
        name: name.to_string(),
        key_id: key_id(name, SignatureKind::Ed25519, public_key),
        signature: signature.to_vec(),
    }
}

/// The signature line of a cosignature: the time, big-endian, then the signature.
#[must_use]
pub fn cosignature_line(name: &str, public_key: &[u8; 32], time_s: u64, signature: &[u8; 64]) -> NoteSignature {
    let mut bytes = time_s.to_be_bytes().to_vec();
    bytes.extend_from_slice(signature);
    NoteSignature {
        name: name.to_string(),
        key_id: key_id(name, SignatureKind::CosignatureV1, public_key),
        signature: bytes,
    }
}

/// Checks a signature line with a key; `None` if the line is another key's, else whether it verifies.
#[must_use]
pub fn check_line(key: &VerifierKey, text: &str, line: &NoteSignature) -> Option<bool> {
    if line.name != key.name || line.key_id != key.id() {
        return None;
    }
    let verifies = match key.kind {
        SignatureKind::Ed25519 => <&[u8; 64]>::try_from(line.signature.as_slice())
            .is_ok_and(|signature| codec::verify_ed25519(&key.public_key, text.as_bytes(), signature).is_ok()),
        SignatureKind::CosignatureV1 => read_cosignature(line).is_some_and(|(time_s, signature)| {
            codec::verify_ed25519(&key.public_key, &cosigned_message(time_s, text), &signature).is_ok()
        }),
    };
    Some(verifies)
}

/// Time and signature of a cosignature line; `None` if it has another length or a time above [`MAX_TIME_S`].
#[must_use]
pub fn read_cosignature(line: &NoteSignature) -> Option<(u64, [u8; 64])> {
    let (time, signature) = line.signature.split_first_chunk::<8>()?;
    let time_s = u64::from_be_bytes(*time);
    (time_s <= MAX_TIME_S).then_some(())?;
    Some((time_s, signature.try_into().ok()?))
}

/// Reads a signed checkpoint.
///
/// # Errors
/// The note's mistake, or `None` for a note that is not a checkpoint.
pub fn parse_signed_checkpoint(bytes: &[u8]) -> Result<(SignedNote, Checkpoint), Option<NoteError>> {
    let note = SignedNote::parse(bytes)?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(|_| None)?;
    Ok((note, checkpoint))
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test"
)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

    fn chain() -> ChainId {
        ChainId(Hash32([0xab; 32]))
    }

    fn keys() -> Vec<SigningKey> {
        (1u8..=4).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect()
    }

    fn set() -> ValidatorSet {
        let validators = keys().into_iter().zip(1u32..).map(|(key, number)| {
            let public_key = key.verifying_key().to_bytes();
            Validator { address: Address::of(&public_key), participant: ParticipantId(number), public_key, power: 10 }
        });
        ValidatorSet::new(validators.collect()).unwrap()
    }

    fn cosign(key: &SigningKey, log: &LogRoot, time_s: u64) -> Cosignature {
        let message = cosigned_message(time_s, &checkpoint_text(&origin(&chain()), log));
        let validator = Address::of(&key.verifying_key().to_bytes());
        Cosignature { validator, time_s, signature: key.sign(&message).to_bytes() }
    }

    #[test]
    fn example_of_the_specification_is_read_and_its_parts_are_made_the_same_way() {
        let (note, checkpoint) = parse_signed_checkpoint(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(checkpoint.log.size, 20_852_163);
        assert_eq!(checkpoint_text(&checkpoint.origin, &checkpoint.log), note.text);
        let (time_s, _) = read_cosignature(&note.signatures[1]).unwrap();
        assert_eq!(time_s, 1_679_315_147);
        let message = cosigned_message(time_s, &note.text);
        assert_eq!(
            core::str::from_utf8(&message).unwrap(),
            "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        );
    }

    #[test]
    fn names_come_from_the_chain_and_the_participant() {
        assert_eq!(origin(&chain()), "anji.abababababababababababababababab");
        assert_eq!(cosigner_name(&chain(), ParticipantId(7)), "anji.abababababababababababababababab.v7");
    }

    #[test]
    fn three_of_four_make_a_checkpoint_final_and_two_do_not() {
        let log = LogRoot { size: 9, root: Hash32([9; 32]) };
        let all: Vec<_> = keys().iter().map(|key| cosign(key, &log, 1_700_000_000)).collect();
        let check = |cosignatures: &[Cosignature]| check_final(&log, cosignatures, &chain(), &set());
        assert_eq!(check(&all), Ok(()));
        assert_eq!(check(&all[1..]), Ok(()));
        assert_eq!(check(&all[2..]), Err(CheckpointError::NotEnoughPower { signed: 20, total: 40 }));
        let twice = [all[0].clone(), all[1].clone(), all[0].clone()];
        assert_eq!(check(&twice), Err(CheckpointError::Duplicate(all[0].validator)));
        let five: Vec<_> = all.iter().chain(&all[..1]).cloned().collect();
        assert_eq!(check(&five), Err(CheckpointError::TooMany));
        let stranger = cosign(&SigningKey::from_bytes(&[9; 32]), &log, 1);
        assert_eq!(check(core::slice::from_ref(&stranger)), Err(CheckpointError::Unknown(stranger.validator)));
        let other = LogRoot { size: 9, root: Hash32([8; 32]) };
        assert_eq!(check_final(&other, &all, &chain(), &set()), Err(CheckpointError::BadSignature(all[0].validator)));
    }

    #[test]
    fn any_flipped_bit_of_a_cosignature_fails() {
        let log = LogRoot { size: 9, root: Hash32([9; 32]) };
        let all: Vec<_> = keys()[..3].iter().map(|key| cosign(key, &log, 1_700_000_000)).collect();
        let bytes = codec::encode(&all);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let verdict = codec::decode::<Vec<Cosignature>>(&flipped)
                .ok()
                .filter(|cosignatures| check_final(&log, cosignatures, &chain(), &set()).is_ok());
            assert_eq!(verdict, None, "byte {at}");
        }
    }

    #[test]
    fn lines_verify_with_their_keys_only_and_a_changed_text_fails() {
        let log = LogRoot { size: 9, root: Hash32([9; 32]) };
        let set = set();
        let signer = &keys()[0];
        let validator = set.get(&Address::of(&signer.verifying_key().to_bytes())).unwrap();
        let text = checkpoint_text(&origin(&chain()), &log);
        let plain_key = log_key(&chain(), validator);
        let cosigner = cosigner_key(&chain(), validator);
        let plain = plain_line(&plain_key.name, &validator.public_key, &signer.sign(text.as_bytes()).to_bytes());
        let cosignature = cosign(signer, &log, 77);
        let line = cosignature_line(&cosigner.name, &validator.public_key, 77, &cosignature.signature);
        assert_eq!(check_line(&plain_key, &text, &plain), Some(true));
        assert_eq!(check_line(&cosigner, &text, &line), Some(true));
        assert_eq!(check_line(&plain_key, &text, &line), None);
        assert_eq!(check_line(&cosigner, &text, &plain), None);
        let other = checkpoint_text("other", &log);
        assert_eq!(check_line(&plain_key, &other, &plain), Some(false));
        assert_eq!(check_line(&cosigner, &other, &line), Some(false));
        let mut late = line.clone();
        late.signature[0] = 0x80;
        assert_eq!(check_line(&cosigner, &text, &late), Some(false));
        let note = SignedNote { text, signatures: Vec::from([plain, line]) };
        let (again, checkpoint) = parse_signed_checkpoint(note.to_string().as_bytes()).unwrap();
        assert_eq!((again, checkpoint.log), (note, log));
    }

    #[test]
    fn texts_that_are_no_checkpoint_are_refused() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        let ok = |text: &str| Checkpoint::parse(text).is_ok();
        assert!(ok(&format!("o\n0\n{root}\n")));
        assert!(ok(&format!("o\n1\n{root}\nextension\n")));
        for text in ["", "o\n", "o\n1\n"] {
            assert!(!ok(text));
        }
        assert!(!ok(&format!("\n1\n{root}\n")));
        assert!(!ok(&format!("o\n01\n{root}\n")));
        assert!(!ok(&format!("o\n+1\n{root}\n")));
        assert!(!ok(&format!("o\n18446744073709551616\n{root}\n")));
        assert!(!ok(&format!("o\n1\n{root}")));
        assert!(!ok(&format!("o\n1\n{root}\n\n")));
        assert!(!ok(&format!("o\n1\n{}\n", &root[..40])));
    }
}
