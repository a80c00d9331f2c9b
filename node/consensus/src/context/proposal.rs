//! The signed proposal: names a header by its hash. The header itself travels as a part.

use super::{Anji, BlockValue, Height, VoterAddress};
use crate::engine_types::core::{self, Round};
use anji_contracts::codec::{self, Domain};
use anji_contracts::types::{ChainId, Hash32};
use anji_verify::Address;
use borsh::BorshSerialize;

/// What a proposer signs.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub(crate) struct ProposalBody {
    /// Which ledger.
    pub(crate) chain_id: ChainId,
    /// Height proposed for.
    pub(crate) height: u64,
    /// Round proposed in.
    pub(crate) round: u32,
    /// Header hash.
    pub(crate) value: Hash32,
    /// Round in which more than two thirds prevoted for the value, if it is proposed again.
    pub(crate) pol_round: Option<u32>,
    /// Who proposes.
    pub(crate) validator: Address,
}

/// A proposal without its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: BlockValue,
    pub(crate) pol_round: Round,
    pub(crate) address: VoterAddress,
}

impl Proposal {
    /// What the signature covers; `None` for a proposal without a round, which no correct node makes.
    pub(crate) fn sign_bytes(&self, chain_id: ChainId) -> Option<[u8; 32]> {
        let body = ProposalBody {
            chain_id,
            height: self.height.0,
            round: self.round.as_u32()?,
            value: self.value.0,
            pol_round: self.pol_round.as_u32(),
            validator: self.address.0,
        };
        Some(codec::hash(Domain::Proposal, &codec::encode(&body)).0)
    }
}

impl core::Proposal<Anji> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockValue {
        &self.value
    }

    fn take_value(self) -> BlockValue {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &VoterAddress {
        &self.address
    }
}
