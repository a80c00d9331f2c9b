//! The signed proposal: names a header by its hash. The header itself travels as a part.

use super::{Anji, BlockValue, Height, VoterAddress};
use crate::engine_types::core::{self, Round};
use anji_contracts::types::ChainId;
use anji_verify::equivocation::ProposalBody;

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
        Some(self.body(chain_id)?.sign_bytes())
    }

    /// What is signed, as others verify it.
    pub(crate) fn body(&self, chain_id: ChainId) -> Option<ProposalBody> {
        Some(ProposalBody {
            chain_id,
            height: self.height.0,
            round: self.round.as_u32()?,
            value: self.value.0,
            pol_round: self.pol_round.as_u32(),
            validator: self.address.0,
        })
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
