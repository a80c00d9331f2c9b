//! Signs votes and proposals of this node; verifies those of others by the strict rule (engine trap 8).
//! The key never leaves this file. A follower has no signer at all.

use crate::context::{Anji, Proposal, PublicKey, Signature, Vote};
use crate::engine_types::core::{SignedMessage, ValidatorProof, VoteExtensionScope};
use anji_contracts::codec;
use anji_contracts::types::ChainId;
use anji_verify::{Address, BaseTable, PreparedKey, Validator, ValidatorSet};
use arc_malachitebft_signing::{Error, Signer, VerificationResult, Verifier};
use async_trait::async_trait;
use ed25519_dalek::{Signer as _, SigningKey};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The consensus key of a validator.
#[derive(Clone)]
pub struct ConsensusKey(Arc<SigningKey>);

impl ConsensusKey {
    /// From its 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Arc::new(SigningKey::from_bytes(seed)))
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The address it votes under.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of(&self.public_key())
    }
}

impl fmt::Debug for ConsensusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsensusKey({})", self.address())
    }
}

/// Signs for the engine.
pub(crate) struct VoteSigner {
    chain_id: ChainId,
    key: ConsensusKey,
}

impl VoteSigner {
    pub(crate) fn new(chain_id: ChainId, key: ConsensusKey) -> Self {
        Self { chain_id, key }
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.key.0.sign(message).to_bytes())
    }
}

fn no_round() -> Error {
    Error::from_source("asked to sign a message without a round")
}

fn no_extensions() -> Error {
    Error::from_source("vote extensions are not used on this ledger")
}

#[async_trait]
impl Signer<Anji> for VoteSigner {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Anji, Vote>, Error> {
        let bytes = vote.sign_bytes(self.chain_id).ok_or_else(no_round)?;
        Ok(SignedMessage::new(vote, self.sign(&bytes)))
    }

    async fn sign_proposal(&self, proposal: Proposal) -> Result<SignedMessage<Anji, Proposal>, Error> {
        let bytes = proposal.sign_bytes(self.chain_id).ok_or_else(no_round)?;
        Ok(SignedMessage::new(proposal, self.sign(&bytes)))
    }

    async fn sign_vote_extension(
        &self,
        _scope: VoteExtensionScope<Anji>,
        _extension: (),
    ) -> Result<SignedMessage<Anji, ()>, Error> {
        Err(no_extensions())
    }

    async fn sign_validator_proof(
        &self,
        _public_key: Vec<u8>,
        _peer_id: Vec<u8>,
    ) -> Result<ValidatorProof<Anji>, Error> {
        // Who is a peer is configured; the engine's own proof protocol is not spoken.
        Err(Error::from_source("validator proofs are not used on this ledger"))
    }
}

/// Validators whose keys' multiples are kept, 215 KiB each; the votes of others are verified the ordinary way, with the same answer.
const PREPARED_KEYS: usize = 32;

/// Verifies for the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct VoteVerifier {
    chain_id: ChainId,
    prepared: Arc<BTreeMap<[u8; 32], PreparedKey>>,
}

impl VoteVerifier {
    pub(crate) fn new(chain_id: ChainId, validators: &ValidatorSet) -> Self {
        let base = BaseTable::default();
        let prepare = |it: &Validator| Some((it.public_key, PreparedKey::new(&base, &it.public_key)?));
        let prepared = validators.validators().iter().take(PREPARED_KEYS).filter_map(prepare).collect();
        Self { chain_id, prepared: Arc::new(prepared) }
    }

    /// Whether the vote is signed by `public_key`.
    pub(crate) fn verify_vote(&self, vote: &Vote, signature: &Signature, public_key: &PublicKey) -> bool {
        vote.sign_bytes(self.chain_id).is_some_and(|bytes| self.verify(&bytes, signature, public_key))
    }

    /// Whether the proposal is signed by `public_key`.
    pub(crate) fn verify_proposal(&self, proposal: &Proposal, signature: &Signature, public_key: &PublicKey) -> bool {
        proposal.sign_bytes(self.chain_id).is_some_and(|bytes| self.verify(&bytes, signature, public_key))
    }

    fn verify(&self, message: &[u8], signature: &Signature, public_key: &PublicKey) -> bool {
        match self.prepared.get(&public_key.0) {
            Some(key) => key.verify(message, &signature.0),
            None => codec::verify_ed25519(&public_key.0, message, &signature.0).is_ok(),
        }
    }
}

#[async_trait]
impl Verifier<Anji> for VoteVerifier {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        public_key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::from_bool(self.verify_vote(vote, signature, public_key)))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        public_key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::from_bool(self.verify_proposal(proposal, signature, public_key)))
    }

    async fn verify_signed_vote_extension(
        &self,
        _scope: &VoteExtensionScope<Anji>,
        _extension: &(),
        _signature: &Signature,
        _public_key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(&self, _proof: &ValidatorProof<Anji>) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{BlockValue, Height, VoterAddress};
    use crate::engine_types::core::{NilOrVal, Round, VoteType};
    use anji_contracts::types::Hash32;
    use anji_verify::{CommitCertificate, CommitSignature, verify_certificate};

    const CHAIN: ChainId = ChainId(Hash32([7; 32]));

    fn validators(key: &ConsensusKey) -> ValidatorSet {
        let validator = Validator {
            address: key.address(),
            participant: anji_contracts::types::ParticipantId(1),
            public_key: key.public_key(),
            power: 1,
        };
        ValidatorSet::new(vec![validator]).expect("valid")
    }

    fn vote(key: &ConsensusKey) -> Vote {
        Vote {
            kind: VoteType::Precommit,
            height: Height(5),
            round: Round::new(2),
            value: NilOrVal::Val(Hash32([3; 32])),
            address: VoterAddress(key.address()),
        }
    }

    #[tokio::test]
    async fn a_signed_precommit_makes_a_certificate_that_a_stranger_accepts() {
        let key = ConsensusKey::from_seed(&[1; 32]);
        let signed = VoteSigner::new(CHAIN, key.clone()).sign_vote(vote(&key)).await.expect("signs");
        let set = validators(&key);
        let mut certificate = CommitCertificate {
            height: 5,
            round: 2,
            value: Hash32([3; 32]),
            signatures: vec![CommitSignature { validator: key.address(), signature: signed.signature.0 }],
        };
        assert_eq!(verify_certificate(&certificate, &CHAIN, &set), Ok(()));
        certificate.round = 1;
        assert!(verify_certificate(&certificate, &CHAIN, &set).is_err());
    }

    #[tokio::test]
    async fn every_field_is_covered_and_chains_do_not_mix() {
        // The key of a validator, which is prepared, and one that is not.
        let key = ConsensusKey::from_seed(&[1; 32]);
        let stranger = ConsensusKey::from_seed(&[2; 32]);
        for known in [&key, &stranger] {
            every_field_is_covered(key.clone(), &validators(known)).await;
        }
    }

    async fn every_field_is_covered(key: ConsensusKey, validators: &ValidatorSet) {
        let public_key = PublicKey(key.public_key());
        let signer = VoteSigner::new(CHAIN, key.clone());
        let verifier = VoteVerifier::new(CHAIN, validators);
        let signed = signer.sign_vote(vote(&key)).await.expect("signs");
        assert!(verifier.verify_vote(&signed.message, &signed.signature, &public_key));
        let other = VoteVerifier::new(ChainId(Hash32([8; 32])), validators);
        assert!(!other.verify_vote(&signed.message, &signed.signature, &public_key));
        for change in [
            |vote: &mut Vote| vote.kind = VoteType::Prevote,
            |vote: &mut Vote| vote.height = Height(6),
            |vote: &mut Vote| vote.round = Round::new(1),
            |vote: &mut Vote| vote.value = NilOrVal::Nil,
            |vote: &mut Vote| vote.address = VoterAddress(Address([0; 20])),
        ] {
            let mut changed = signed.message;
            change(&mut changed);
            assert!(!verifier.verify_vote(&changed, &signed.signature, &public_key));
        }

        let proposal = Proposal {
            height: Height(5),
            round: Round::new(2),
            value: BlockValue(Hash32([3; 32])),
            pol_round: Round::new(1),
            address: VoterAddress(key.address()),
        };
        let signed = signer.sign_proposal(proposal).await.expect("signs");
        assert!(verifier.verify_proposal(&proposal, &signed.signature, &public_key));
        let without_pol = Proposal { pol_round: Round::Nil, ..proposal };
        assert!(!verifier.verify_proposal(&without_pol, &signed.signature, &public_key));
    }

    #[test]
    fn a_vote_without_a_round_has_nothing_to_sign() {
        let key = ConsensusKey::from_seed(&[1; 32]);
        assert_eq!(Vote { round: Round::Nil, ..vote(&key) }.sign_bytes(CHAIN), None);
    }
}
