//! Whether a checkpoint is cosigned: the checks of tlog-witness, in its order.

use super::request::AddCheckpoint;
use super::state::{StateFolder, WitnessError};
use anji_verify::LogRoot;
use anji_verify::checkpoint::{check_line, cosignature_line, cosigned_message};
use anji_verify::log_proof::check_consistency;
use anji_verify::note::{SignatureKind, SignedNote, VerifierKey, check_name};
use ed25519_dalek::{Signer, SigningKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A log that the witness cosigns.
#[derive(Clone, Debug)]
pub struct TrustedLog {
    /// Its name: the checkpoint's first line.
    pub origin: String,
    /// Keys of the log: of a ledger, its validators' plain keys.
    pub keys: Vec<VerifierKey>,
    /// How many different keys of these must have signed; for a ledger, more than two thirds.
    pub required: usize,
}

/// A witness's key.
pub struct WitnessKey {
    name: String,
    key: SigningKey,
}

impl WitnessKey {
    /// From its name and 32-byte seed.
    ///
    /// # Errors
    /// The name is empty, or has a space or a plus in it.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, WitnessError> {
        check_name(name).map_err(|error| WitnessError::Config(format!("the witness's name: {error}")))?;
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(seed) })
    }

    /// What others verify its cosignatures with.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        let public_key = self.key.verifying_key().to_bytes();
        VerifierKey { name: self.name.clone(), kind: SignatureKind::CosignatureV1, public_key }
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({})", self.verifier())
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// 200: signature lines.
    Cosigned(String),
    /// 409 with the size of the last cosigned checkpoint.
    WrongOldSize(u64),
    /// Another status, and one sentence.
    Refused(u16, &'static str),
}

/// The witness.
#[derive(Debug)]
pub struct Witness {
    key: WitnessKey,
    folder: StateFolder,
    /// Every log with the last checkpoint cosigned; its lock is held from the look at it until the new one is on disk.
    logs: BTreeMap<String, (TrustedLog, Mutex<LogRoot>)>,
}

impl Witness {
    /// Opens the state folder.
    ///
    /// # Errors
    /// It is in use or damaged, or a log in the configuration cannot be.
    pub fn open(key: WitnessKey, logs: Vec<TrustedLog>, folder: &Path) -> Result<Self, WitnessError> {
        let folder = StateFolder::open(folder)?;
        let mut known = BTreeMap::new();
        for log in logs {
            let origin = log.origin.clone();
            let distinct: BTreeSet<[u8; 32]> = log.keys.iter().map(|it| it.public_key).collect();
            if log.required == 0 || log.required > distinct.len() {
                let n_keys = distinct.len();
                let what =
                    format!("log {origin}: `required = {}` must be 1 to {n_keys}, its number of keys", log.required);
                return Err(WitnessError::Config(what));
            }
            let last = Mutex::new(folder.load(&origin)?);
            if known.insert(origin.clone(), (log, last)).is_some() {
                return Err(WitnessError::Config(format!("log {origin} is configured twice")));
            }
        }
        Ok(Self { key, folder, logs: known })
    }

    /// What others verify its cosignatures with.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        self.key.verifier()
    }

    /// Judges a submission. Blocks on the disk.
    pub(crate) fn add_checkpoint(&self, body: &[u8], time_s: u64) -> Answer {
        let Some(submitted) = AddCheckpoint::parse(body) else {
            return Answer::Refused(400, "this is not an add-checkpoint request");
        };
        let AddCheckpoint { old_size, proof, note, checkpoint } = submitted;
        let Some((log, last)) = self.logs.get(&checkpoint.origin) else {
            return Answer::Refused(404, "this witness does not know the log");
        };
        if !is_signed(log, &note) {
            return Answer::Refused(403, "the checkpoint is not signed by enough keys of the log");
        }
        if old_size > checkpoint.log.size {
            return Answer::Refused(400, "the old size is above the checkpoint's");
        }
        // A plain value: whole whatever happened to the last holder.
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if old_size != last.size {
            return Answer::WrongOldSize(last.size);
        }
        let refusal = if old_size == checkpoint.log.size && last.root != checkpoint.log.root {
            Some((409, "another root was cosigned for this size"))
        } else if check_consistency(&last, &checkpoint.log, &proof).is_err() {
            Some((422, "the checkpoint does not continue the one cosigned before"))
        } else {
            None
        };
        if let Some((status, why)) = refusal {
            tracing::error!(origin = checkpoint.origin, before = ?*last, submitted = ?checkpoint.log, why, "NOT COSIGNED: it may be a fork; what was submitted is kept");
            if let Err(error) = self.folder.keep_evidence(&checkpoint.origin, body) {
                tracing::error!(%error, "the evidence could not be kept");
            }
            return Answer::Refused(status, why);
        }
        if checkpoint.log.size > last.size {
            if let Err(error) = self.folder.save(&checkpoint.origin, &note) {
                tracing::error!(%error, "the checkpoint could not be remembered, so it is not cosigned");
                return Answer::Refused(500, "the witness cannot write its state");
            }
            *last = checkpoint.log;
        }
        drop(last);
        let key = self.key.verifier();
        let signature = self.key.key.sign(&cosigned_message(time_s, &note.text)).to_bytes();
        Answer::Cosigned(format!("{}\n", cosignature_line(&key.name, &key.public_key, time_s, &signature)))
    }
}

/// Whether enough different keys of the log signed, and none of its lines is false.
fn is_signed(log: &TrustedLog, note: &SignedNote) -> bool {
    let mut signers = BTreeSet::new();
    for line in &note.signatures {
        for key in &log.keys {
            match check_line(key, &note.text, line) {
                Some(true) => drop(signers.insert(key.public_key)),
                Some(false) => return false,
                None => {}
            }
        }
    }
    signers.len() >= log.required
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]
mod tests {
    use super::*;
    use anji_contracts::types::Hash32;
    use anji_verify::LogTree;
    use anji_verify::checkpoint::{checkpoint_text, plain_line, read_cosignature};
    use anji_verify::log_proof::consistency_path;
    use anji_verify::log_tree::{leaf_hash, subtree_root};
    use anji_verify::note::parse_signature_lines;

    const ORIGIN: &str = "log.example/l1";

    fn log_key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn trusted(required: usize) -> TrustedLog {
        let key = |n| {
            let public_key = log_key(n).verifying_key().to_bytes();
            VerifierKey { name: ORIGIN.to_owned(), kind: SignatureKind::Ed25519, public_key }
        };
        TrustedLog { origin: ORIGIN.to_owned(), keys: (1..=4).map(key).collect(), required }
    }

    fn open(folder: &Path) -> Witness {
        let key = WitnessKey::new("witness.example/w1", &[9; 32]).unwrap();
        Witness::open(key, vec![trusted(3)], folder).unwrap()
    }

    /// A log whose first `common` entries are those of every other one, and the later ones are of its own `kind`.
    fn leaves(size: u64, common: u64, kind: u8) -> Vec<Hash32> {
        (0..size).map(|index| leaf_hash(&[index as u8, if index < common { 0 } else { kind }])).collect()
    }

    fn root(leaves: &[Hash32]) -> LogRoot {
        let mut tree = LogTree::new();
        leaves.iter().for_each(|leaf| tree.append(*leaf, &mut |_| {}));
        tree.root()
    }

    fn body(old: u64, leaves: &[Hash32], signers: &[u8]) -> Vec<u8> {
        let log = root(leaves);
        let text = checkpoint_text(ORIGIN, &log);
        let line = |n: &u8| {
            let key = log_key(*n);
            plain_line(ORIGIN, &key.verifying_key().to_bytes(), &key.sign(text.as_bytes()).to_bytes())
        };
        let note = SignedNote { text: text.clone(), signatures: signers.iter().map(line).collect() };
        let subtree = |level: u32, index: u64| {
            let (from, width) = ((index << level) as usize, 1 << level);
            subtree_root(&leaves[from..from + width]).ok_or(())
        };
        let proof =
            if old == 0 || old >= log.size { Vec::new() } else { consistency_path(old, log.size, subtree).unwrap() };
        AddCheckpoint::render(old, &proof, &note.to_string()).into_bytes()
    }

    fn is_cosigned(witness: &Witness, answer: &Answer, leaves: &[Hash32]) -> bool {
        let Answer::Cosigned(lines) = answer else { return false };
        let text = checkpoint_text(ORIGIN, &root(leaves));
        let lines = parse_signature_lines(lines).unwrap();
        assert_eq!(read_cosignature(&lines[0]).unwrap().0, 77);
        check_line(&witness.verifier(), &text, &lines[0]) == Some(true)
    }

    #[test]
    fn a_log_that_goes_on_is_cosigned_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let witness = open(folder.path());
        let (five, nine) = (leaves(5, 99, 0), leaves(9, 99, 0));
        let answer = witness.add_checkpoint(&body(0, &five, &[1, 2, 3]), 77);
        assert!(is_cosigned(&witness, &answer, &five), "{answer:?}");
        let again = witness.add_checkpoint(&body(5, &five, &[1, 2, 4]), 77);
        assert!(is_cosigned(&witness, &again, &five), "the same again: {again:?}");
        assert_eq!(witness.add_checkpoint(&body(0, &nine, &[1, 2, 3]), 77), Answer::WrongOldSize(5));
        drop(witness);
        let witness = open(folder.path());
        let answer = witness.add_checkpoint(&body(5, &nine, &[1, 2, 3, 4]), 77);
        assert!(is_cosigned(&witness, &answer, &nine), "{answer:?}");
        assert_eq!(witness.add_checkpoint(&body(5, &nine, &[1, 2, 3]), 77), Answer::WrongOldSize(9));
        assert_eq!(std::fs::read_dir(folder.path().join("evidence")).unwrap().count(), 0);
    }

    #[test]
    fn a_fork_is_refused_and_kept_as_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let witness = open(folder.path());
        let five = leaves(5, 99, 0);
        witness.add_checkpoint(&body(0, &five, &[1, 2, 3]), 77);
        let other_five = leaves(5, 4, 1);
        let refused = witness.add_checkpoint(&body(5, &other_five, &[1, 2, 3]), 77);
        assert!(matches!(refused, Answer::Refused(409, _)), "another root for one size: {refused:?}");
        let other_nine = leaves(9, 4, 1);
        let refused = witness.add_checkpoint(&body(5, &other_nine, &[1, 2, 3]), 77);
        assert!(matches!(refused, Answer::Refused(422, _)), "it does not begin with what was cosigned: {refused:?}");
        let kept: Vec<_> = std::fs::read_dir(folder.path().join("evidence")).unwrap().flatten().collect();
        assert_eq!(kept.len(), 2);
        let text = std::fs::read_to_string(kept[0].path()).unwrap();
        assert!(text.contains(&checkpoint_text(ORIGIN, &root(&five))) && text.contains("submitted, not cosigned"));
        let nine = leaves(9, 99, 0);
        let answer = witness.add_checkpoint(&body(5, &nine, &[1, 2, 3]), 77);
        assert!(is_cosigned(&witness, &answer, &nine), "the true log goes on: {answer:?}");
    }

    #[test]
    fn what_is_not_the_logs_is_refused_in_the_order_of_the_specification() {
        let folder = tempfile::tempdir().unwrap();
        let witness = open(folder.path());
        let five = leaves(5, 99, 0);
        let status = |body: &[u8]| match witness.add_checkpoint(body, 77) {
            Answer::Refused(status, _) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(status(b"nonsense"), 400);
        let foreign = String::from_utf8(body(0, &five, &[1, 2, 3])).unwrap().replace(ORIGIN, "other.example");
        assert_eq!(status(foreign.as_bytes()), 404);
        assert_eq!(status(&body(0, &five, &[1, 2])), 403, "three must sign");
        assert_eq!(status(&body(0, &five, &[1, 1, 1])), 403, "one key counts once");
        assert_eq!(status(&body(0, &five, &[1, 2, 8])), 403, "a stranger's signature is ignored");
        let mut forged = String::from_utf8(body(0, &five, &[1, 2, 3])).unwrap();
        forged = forged.replacen("\n5\n", "\n6\n", 1);
        assert_eq!(status(forged.as_bytes()), 403);
        assert_eq!(status(&body(6, &five, &[1, 2, 3])), 400, "the old size is above the new one");
    }

    #[test]
    fn a_damaged_or_shared_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let witness = open(folder.path());
        let key = || WitnessKey::new("w", &[9; 32]).unwrap();
        assert!(matches!(Witness::open(key(), vec![trusted(3)], folder.path()), Err(WitnessError::Locked { .. })));
        witness.add_checkpoint(&body(0, &leaves(5, 99, 0), &[1, 2, 3]), 77);
        drop(witness);
        let file = std::fs::read_dir(folder.path()).unwrap().flatten().map(|it| it.path());
        let file = file.into_iter().find(|it| it.extension().is_some_and(|it| it == "checkpoint")).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(Witness::open(key(), vec![trusted(3)], folder.path()), Err(WitnessError::Damaged { .. })));
        std::fs::write(&file, &bytes).unwrap();
        assert!(Witness::open(key(), vec![trusted(5)], folder.path()).is_err(), "five of four keys");
        assert!(Witness::open(key(), vec![trusted(3), trusted(3)], folder.path()).is_err(), "twice");
        assert!(WitnessKey::new("a name", &[9; 32]).is_err());
    }
}
