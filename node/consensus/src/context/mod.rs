//! What the engine is told about this ledger: heights, values, votes, who proposes. Plain data, no IO, no clock.
//! What is signed is defined in `anji_verify`; here it is only carried. Read `vote.rs` for messages, `voters.rs` for the set.

mod part;
mod proposal;
mod signing;
mod types;
mod vote;
mod voters;

pub(crate) use part::ProposalPart;
pub(crate) use proposal::Proposal;
pub(crate) use signing::{Ed25519, PublicKey, Signature};
pub(crate) use types::{BlockValue, Height, VoterAddress};
pub(crate) use vote::Vote;
pub(crate) use voters::{Voter, Voters};

use crate::engine_types::core::{Context, LinearTimeouts, NilOrVal, Round, VoteType};
use anji_contracts::types::Hash32;

/// The engine's view of this ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anji;

impl Context for Anji {
    type Address = VoterAddress;
    type Height = Height;
    type ProposalPart = ProposalPart;
    type Proposal = Proposal;
    type Validator = Voter;
    type ValidatorSet = Voters;
    type Timeouts = LinearTimeouts;
    type Value = BlockValue;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, voters: &'a Voters, height: Height, round: Round) -> &'a Voter {
        debug_assert_eq!(height, voters.height(), "the engine holds one set per height");
        voters.proposer(round.as_u32().unwrap_or(0))
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: BlockValue,
        pol_round: Round,
        address: VoterAddress,
    ) -> Proposal {
        Proposal { height, round, value, pol_round, address }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<Hash32>, address: VoterAddress) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, address }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<Hash32>, address: VoterAddress) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, address }
    }
}
