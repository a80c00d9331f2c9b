//! Counts cosignatures: pure, one call per event, no clock and no IO. Every cosignature is verified once, before it is kept.

use anji_contracts::types::ChainId;
use anji_verify::checkpoint::{check_cosignature, checkpoint_text, origin};
use anji_verify::{
    Address, Cosignature, LogRoot, SignedCheckpoint, ValidatorSet, ValidatorSignatures, is_more_than_two_thirds,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Heights around the last executed one that signatures are kept for.
const WINDOW: u64 = 64;

/// What came of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The height has more than two thirds of the power: for the first time, or now with more signatures.
    Final(SignedCheckpoint),
    /// A validator signed two logs at one height, or another log than this node executed.
    Contradiction(Box<Contradiction>),
}

/// A cosignature on a log that cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Contradiction {
    pub(crate) height: u64,
    /// What was signed.
    pub(crate) signed: LogRoot,
    pub(crate) cosignature: Cosignature,
    /// What is at that height instead.
    pub(crate) other: LogRoot,
    /// The same validator's cosignature on that, if it signed both.
    pub(crate) other_cosignature: Option<Cosignature>,
}

/// What was wrong with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Not a validator.
    Unknown,
    /// A cosignature does not verify.
    BadSignature,
}

/// Result of a frame.
#[derive(Default, Debug)]
pub(crate) struct Counted {
    pub(crate) outcomes: Vec<Outcome>,
    /// Signatures verified and kept.
    pub(crate) n_new: u64,
    pub(crate) fault: Option<Fault>,
}

type Signatures = BTreeMap<Address, (LogRoot, ValidatorSignatures)>;

/// The signatures of the newest heights.
pub(crate) struct Tracker {
    origin: String,
    validators: Arc<ValidatorSet>,
    total_power: u64,
    /// Logs after the newest executed blocks.
    executed: BTreeMap<u64, LogRoot>,
    signatures: BTreeMap<u64, Signatures>,
}

impl Tracker {
    pub(crate) fn new(chain_id: &ChainId, validators: Arc<ValidatorSet>) -> Self {
        let total_power = validators.total_power();
        let (executed, signatures) = (BTreeMap::new(), BTreeMap::new());
        Self { origin: origin(chain_id), validators, total_power, executed, signatures }
    }

    /// The newest executed height that was told.
    pub(crate) fn executed_height(&self) -> u64 {
        self.executed.last_key_value().map_or(0, |(height, _)| *height)
    }

    fn in_window(&self, height: u64) -> bool {
        let executed = self.executed_height();
        height.saturating_add(WINDOW) > executed && height <= executed.saturating_add(WINDOW)
    }

    /// Signatures of the frame that are not known yet: each costs a verification.
    pub(crate) fn n_unknown(&self, checkpoint: &SignedCheckpoint) -> usize {
        if !self.in_window(checkpoint.height) {
            return 0;
        }
        let known = self.signatures.get(&checkpoint.height);
        let is_known = |it: &&ValidatorSignatures| {
            known.and_then(|known| known.get(&it.cosignature.validator)).is_some_and(|(log, _)| *log == checkpoint.log)
        };
        checkpoint.signatures.iter().filter(|it| !is_known(it)).count()
    }

    /// A block was executed here.
    pub(crate) fn on_executed(&mut self, height: u64, log: LogRoot) -> Vec<Outcome> {
        self.executed.insert(height, log);
        let oldest = self.executed_height().saturating_sub(WINDOW);
        self.executed = self.executed.split_off(&(oldest + 1));
        self.signatures = self.signatures.split_off(&(oldest + 1));
        let mut outcomes = Vec::new();
        for (signed, signatures) in self.signatures.get(&height).into_iter().flat_map(BTreeMap::values) {
            if *signed != log {
                outcomes.push(Outcome::Contradiction(Box::new(Contradiction {
                    height,
                    signed: *signed,
                    cosignature: signatures.cosignature.clone(),
                    other: log,
                    other_cosignature: None,
                })));
            }
        }
        outcomes.extend(self.known(height).filter(|it| self.is_final(it)).map(Outcome::Final));
        outcomes
    }

    /// Signatures arrived. The first mistake ends the frame.
    pub(crate) fn on_signatures(&mut self, checkpoint: &SignedCheckpoint) -> Counted {
        let mut counted = Counted::default();
        let (height, log) = (checkpoint.height, checkpoint.log);
        if !self.in_window(height) {
            return counted;
        }
        let text = checkpoint_text(&self.origin, &log);
        for signatures in &checkpoint.signatures {
            let address = signatures.cosignature.validator;
            let Some(validator) = self.validators.get(&address) else {
                counted.fault = Some(Fault::Unknown);
                break;
            };
            let known = self.signatures.get(&height).and_then(|it| it.get(&address)).cloned();
            if known.as_ref().is_some_and(|(known, _)| *known == log) {
                continue;
            }
            if check_cosignature(&validator.public_key, &text, &signatures.cosignature).is_err() {
                counted.fault = Some(Fault::BadSignature);
                break;
            }
            counted.n_new += 1;
            let executed = self.executed.get(&height).copied();
            let is_first = known.is_none();
            let (other, other_cosignature) = match known {
                Some((other, signatures)) => (Some(other), Some(signatures.cosignature)),
                None => (executed.filter(|executed| *executed != log), None),
            };
            if let Some(other) = other {
                let cosignature = signatures.cosignature.clone();
                let contradiction = Contradiction { height, signed: log, cosignature, other, other_cosignature };
                counted.outcomes.push(Outcome::Contradiction(Box::new(contradiction)));
            }
            // The first is kept, but for one that agrees with this node.
            if is_first || executed == Some(log) {
                self.signatures.entry(height).or_default().insert(address, (log, signatures.clone()));
            }
        }
        if counted.n_new > 0 {
            counted.outcomes.extend(self.known(height).filter(|it| self.is_final(it)).map(Outcome::Final));
        }
        counted
    }

    /// The signatures on what this node executed at a height; `None` if it has not, or knows none.
    pub(crate) fn known(&self, height: u64) -> Option<SignedCheckpoint> {
        let log = *self.executed.get(&height)?;
        let all = self.signatures.get(&height)?.values();
        let signatures: Vec<_> = all.filter(|(theirs, _)| *theirs == log).map(|(_, it)| it.clone()).collect();
        (!signatures.is_empty()).then_some(SignedCheckpoint { height, log, signatures })
    }

    fn is_final(&self, checkpoint: &SignedCheckpoint) -> bool {
        let power = |it: &ValidatorSignatures| self.validators.get(&it.cosignature.validator).map_or(0, |it| it.power);
        is_more_than_two_thirds(checkpoint.signatures.iter().map(power).sum(), self.total_power)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]
mod tests {
    use super::*;
    use anji_contracts::types::{Hash32, ParticipantId};
    use anji_verify::checkpoint::cosigned_message;
    use anji_verify::{Validator, check_final};
    use ed25519_dalek::{Signer, SigningKey};

    fn chain() -> ChainId {
        ChainId(Hash32([7; 32]))
    }

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn validators() -> Arc<ValidatorSet> {
        let validator = |n: u8| {
            let public_key = key(n).verifying_key().to_bytes();
            let participant = ParticipantId(u32::from(n));
            Validator { address: Address::of(&public_key), participant, public_key, power: 1 }
        };
        Arc::new(ValidatorSet::new((1..=4).map(validator).collect()).unwrap())
    }

    fn log(height: u64, root: u8) -> LogRoot {
        LogRoot { size: height * 3, root: Hash32([root; 32]) }
    }

    fn signed(n: u8, height: u64, root: u8) -> SignedCheckpoint {
        let log = log(height, root);
        let text = checkpoint_text(&origin(&chain()), &log);
        let signature = key(n).sign(&cosigned_message(9, &text)).to_bytes();
        let validator = Address::of(&key(n).verifying_key().to_bytes());
        let cosignature = Cosignature { validator, time_s: 9, signature };
        SignedCheckpoint { height, log, signatures: vec![ValidatorSignatures { cosignature, plain: [0; 64] }] }
    }

    fn finals(outcomes: &[Outcome]) -> Vec<usize> {
        let n_signatures = |outcome: &Outcome| match outcome {
            Outcome::Final(checkpoint) => {
                assert_eq!(
                    check_final(&checkpoint.log, &checkpoint.cosignatures(), &chain(), &validators()),
                    Ok(()),
                    "what is called final verifies as such"
                );
                Some(checkpoint.signatures.len())
            }
            Outcome::Contradiction(_) => None,
        };
        outcomes.iter().filter_map(n_signatures).collect()
    }

    #[test]
    fn three_of_four_on_what_was_executed_here_are_final() {
        let mut tracker = Tracker::new(&chain(), validators());
        tracker.on_executed(5, log(5, 1));
        assert!(tracker.on_signatures(&signed(1, 5, 1)).outcomes.is_empty());
        assert!(tracker.on_signatures(&signed(2, 5, 1)).outcomes.is_empty());
        assert!(tracker.on_signatures(&signed(2, 5, 1)).outcomes.is_empty(), "one validator counts once");
        assert_eq!(tracker.on_signatures(&signed(2, 5, 1)).n_new, 0, "and is verified once");
        assert_eq!(finals(&tracker.on_signatures(&signed(3, 5, 1)).outcomes), [3]);
        assert_eq!(finals(&tracker.on_signatures(&signed(4, 5, 1)).outcomes), [4], "a late one is added");
    }

    #[test]
    fn signatures_that_come_before_the_block_count_once_it_is_executed() {
        let mut tracker = Tracker::new(&chain(), validators());
        tracker.on_executed(4, log(4, 1));
        for n in 1..=3 {
            assert!(tracker.on_signatures(&signed(n, 5, 1)).outcomes.is_empty(), "not executed here");
        }
        assert_eq!(finals(&tracker.on_executed(5, log(5, 1))), [3]);
    }

    #[test]
    fn another_root_is_told_and_never_counts() {
        let mut tracker = Tracker::new(&chain(), validators());
        tracker.on_executed(5, log(5, 1));
        let told = tracker.on_signatures(&signed(1, 5, 2)).outcomes;
        assert!(matches!(&told[..], [Outcome::Contradiction(it)] if it.height == 5 && it.other_cosignature.is_none()));
        for n in 2..=3 {
            assert!(tracker.on_signatures(&signed(n, 5, 1)).outcomes.is_empty());
        }
        let both = tracker.on_signatures(&signed(1, 5, 1)).outcomes;
        assert!(
            matches!(&both[..], [Outcome::Contradiction(it), Outcome::Final(_)] if it.other_cosignature.is_some()),
            "it signed both: {both:?}"
        );
        assert!(tracker.on_signatures(&signed(4, 6, 2)).outcomes.is_empty());
        let late = tracker.on_executed(6, log(6, 1));
        assert!(matches!(&late[..], [Outcome::Contradiction(it)] if it.height == 6));
    }

    #[test]
    fn forged_and_foreign_signatures_are_faults() {
        let mut tracker = Tracker::new(&chain(), validators());
        tracker.on_executed(5, log(5, 1));
        assert_eq!(tracker.on_signatures(&signed(9, 5, 1)).fault, Some(Fault::Unknown));
        let mut forged = signed(1, 5, 1);
        forged.log.root = Hash32([3; 32]);
        assert_eq!(tracker.on_signatures(&forged).fault, Some(Fault::BadSignature));
        let mut later = signed(1, 5, 1);
        later.signatures[0].cosignature.time_s += 1;
        assert_eq!(tracker.on_signatures(&later).fault, Some(Fault::BadSignature), "the time is signed too");
        assert_eq!(tracker.known(5), None);
    }

    #[test]
    fn memory_is_bounded_by_the_window() {
        let mut tracker = Tracker::new(&chain(), validators());
        tracker.on_executed(1_000, log(1, 1));
        for height in [1, 900, 1_000 + WINDOW + 1, u64::MAX] {
            let frame = signed(1, height.min(1 << 40), 1);
            assert_eq!(tracker.n_unknown(&frame), 0, "{height}");
            assert_eq!(tracker.on_signatures(&frame).n_new, 0, "{height}");
        }
        for height in 1_001..1_500 {
            tracker.on_signatures(&signed(1, height, 1));
            tracker.on_executed(height, log(height, 1));
        }
        assert!(tracker.executed.len() <= 64 && tracker.signatures.len() <= 64);
    }
}
