//! Proof that a validator signed two things that exclude each other: two votes for one step, two proposals for one round, two roots for
//! one size of the log. Whoever knows the validator's key can check it, alone and at any age.

use alloc::string::String;
use anji_contracts::codec::{self, Domain};
use anji_contracts::types::{ChainId, Hash32};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

use crate::certificate::{VoteBody, VoteKind};
use crate::checkpoint::{Cosignature, check_cosignature, checkpoint_text, origin};
use crate::log_tree::LogRoot;
use crate::validators::{Address, ValidatorSet};

/// What a proposer signs.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ProposalBody {
    /// Which ledger.
    pub chain_id: ChainId,
    /// Height proposed for.
    pub height: u64,
    /// Round proposed in.
    pub round: u32,
    /// Header hash.
    pub value: Hash32,
    /// Round in which more than two thirds prevoted for the value, if it is proposed again.
    pub pol_round: Option<u32>,
    /// Who proposes.
    pub validator: Address,
}

impl ProposalBody {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn sign_bytes(&self) -> [u8; 32] {
        codec::hash(Domain::Proposal, &codec::encode(self)).0
    }
}

/// A statement and the Ed25519 signature over it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Signed<T> {
    /// What was said.
    pub body: T,
    /// Over its sign bytes.
    pub signature: [u8; 64],
}

/// A log and the cosignature on it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedLog {
    /// Size and root.
    pub log: LogRoot,
    /// The validator's.
    pub cosignature: Cosignature,
}

/// Two signatures of one validator that exclude each other.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Equivocation {
    /// Two votes of one kind in one round.
    Votes(Signed<VoteBody>, Signed<VoteBody>),
    /// Two proposals in one round.
    Proposals(Signed<ProposalBody>, Signed<ProposalBody>),
    /// Two roots for one size of the log.
    Roots(SignedLog, SignedLog),
}

/// Why a pair of signatures proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EquivocationError {
    /// The two can stand beside each other, or are of two validators or another ledger.
    NoContradiction,
    /// The signer is no validator.
    Unknown(Address),
    /// A signature does not verify.
    BadSignature(Address),
}

impl fmt::Display for EquivocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContradiction => f.write_str("the two statements do not contradict each other"),
            Self::Unknown(address) => write!(f, "{address} is not a validator"),
            Self::BadSignature(address) => write!(f, "a signature of validator {address} does not verify"),
        }
    }
}

impl core::error::Error for EquivocationError {}

impl Equivocation {
    /// Who signed both.
    #[must_use]
    pub const fn validator(&self) -> Address {
        match self {
            Self::Votes(first, _) => first.body.validator,
            Self::Proposals(first, _) => first.body.validator,
            Self::Roots(first, _) => first.cosignature.validator,
        }
    }

    /// One name for one contradiction, however often it is reported: what it is about, without the signatures.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Votes(first, _) => {
                let VoteBody { kind, height, round, .. } = &first.body;
                let kind = match kind {
                    VoteKind::Prevote => "prevotes",
                    VoteKind::Precommit => "precommits",
                };
                alloc::format!("two {kind} at height {height}, round {round}")
            }
            Self::Proposals(first, _) => {
                alloc::format!("two proposals at height {}, round {}", first.body.height, first.body.round)
            }
            Self::Roots(first, _) => alloc::format!("two roots for log size {}", first.log.size),
        }
    }

    /// Checks that one validator of the set signed both, and that they exclude each other.
    ///
    /// # Errors
    /// [`EquivocationError`].
    pub fn check(&self, chain_id: &ChainId, validators: &ValidatorSet) -> Result<(), EquivocationError> {
        let address = self.validator();
        let key = validators.get(&address).ok_or(EquivocationError::Unknown(address))?.public_key;
        let verify = |bytes: &[u8], signature: &[u8; 64]| {
            codec::verify_ed25519(&key, bytes, signature).map_err(|_| EquivocationError::BadSignature(address))
        };
        match self {
            Self::Votes(first, second) => {
                let (a, b) = (&first.body, &second.body);
                let same =
                    a.chain_id == *chain_id && VoteBody { value: b.value, ..a.clone() } == *b && a.value != b.value;
                expect(same)?;
                verify(&a.sign_bytes(), &first.signature)?;
                verify(&b.sign_bytes(), &second.signature)
            }
            Self::Proposals(first, second) => {
                let (a, b) = (&first.body, &second.body);
                let same = a.chain_id == *chain_id
                    && ProposalBody { value: b.value, pol_round: b.pol_round, ..a.clone() } == *b
                    && a != b;
                expect(same)?;
                verify(&a.sign_bytes(), &first.signature)?;
                verify(&b.sign_bytes(), &second.signature)
            }
            Self::Roots(first, second) => {
                let same = first.cosignature.validator == second.cosignature.validator
                    && first.log.size == second.log.size
                    && first.log.root != second.log.root;
                expect(same)?;
                [first, second].into_iter().try_for_each(|it| {
                    let text = checkpoint_text(&origin(chain_id), &it.log);
                    check_cosignature(&key, &text, &it.cosignature)
                        .map_err(|_| EquivocationError::BadSignature(address))
                })
            }
        }
    }
}

const fn expect(contradiction: bool) -> Result<(), EquivocationError> {
    if contradiction { Ok(()) } else { Err(EquivocationError::NoContradiction) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test")]
mod tests {
    use super::*;
    use crate::checkpoint::cosigned_message;
    use crate::validators::Validator;
    use alloc::vec::Vec;
    use anji_contracts::types::ParticipantId;
    use ed25519_dalek::{Signer, SigningKey};

    fn chain() -> ChainId {
        ChainId(Hash32([5; 32]))
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn set() -> ValidatorSet {
        let public_key = key().verifying_key().to_bytes();
        let participant = ParticipantId(1);
        let validator = Validator { address: Address::of(&public_key), participant, public_key, power: 1 };
        ValidatorSet::new(Vec::from([validator])).unwrap()
    }

    fn me() -> Address {
        Address::of(&key().verifying_key().to_bytes())
    }

    fn vote(round: u32, value: Option<u8>) -> Signed<VoteBody> {
        let value = value.map(|it| Hash32([it; 32]));
        let kind = VoteKind::Precommit;
        let body = VoteBody { chain_id: chain(), kind, height: 9, round, value, validator: me() };
        let signature = key().sign(&body.sign_bytes()).to_bytes();
        Signed { body, signature }
    }

    fn proposal(value: u8, pol_round: Option<u32>) -> Signed<ProposalBody> {
        let value = Hash32([value; 32]);
        let body = ProposalBody { chain_id: chain(), height: 9, round: 2, value, pol_round, validator: me() };
        let signature = key().sign(&body.sign_bytes()).to_bytes();
        Signed { body, signature }
    }

    fn root(size: u64, root: u8) -> SignedLog {
        let log = LogRoot { size, root: Hash32([root; 32]) };
        let message = cosigned_message(3, &checkpoint_text(&origin(&chain()), &log));
        let signature = key().sign(&message).to_bytes();
        SignedLog { log, cosignature: Cosignature { validator: me(), time_s: 3, signature } }
    }

    fn all() -> Vec<Equivocation> {
        Vec::from([
            Equivocation::Votes(vote(1, Some(1)), vote(1, Some(2))),
            Equivocation::Votes(vote(1, Some(1)), vote(1, None)),
            Equivocation::Proposals(proposal(1, None), proposal(2, None)),
            Equivocation::Proposals(proposal(1, None), proposal(1, Some(1))),
            Equivocation::Roots(root(7, 1), root(7, 2)),
        ])
    }

    #[test]
    fn contradictions_are_proven() {
        for it in all() {
            assert_eq!(it.check(&chain(), &set()), Ok(()), "{}", it.subject());
            let other = ChainId(Hash32([6; 32]));
            assert!(it.check(&other, &set()).is_err(), "on another ledger they prove nothing");
        }
    }

    #[test]
    fn what_can_stand_side_by_side_is_no_contradiction() {
        let rows = [
            Equivocation::Votes(vote(1, Some(1)), vote(1, Some(1))),
            Equivocation::Votes(vote(1, Some(1)), vote(2, Some(2))),
            Equivocation::Proposals(proposal(1, None), proposal(1, None)),
            Equivocation::Roots(root(7, 1), root(7, 1)),
            Equivocation::Roots(root(7, 1), root(8, 2)),
        ];
        for it in rows {
            assert_eq!(it.check(&chain(), &set()), Err(EquivocationError::NoContradiction), "{it:?}");
        }
    }

    #[test]
    fn any_flipped_bit_fails() {
        for it in all() {
            let bytes = codec::encode(&it);
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                let checked = codec::decode::<Equivocation>(&flipped).ok().map(|it| it.check(&chain(), &set()));
                assert_ne!(checked, Some(Ok(())), "byte {at} of {}", it.subject());
            }
        }
    }
}
