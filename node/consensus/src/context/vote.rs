//! Prevotes and precommits.

use super::{Anji, Height, VoterAddress};
use crate::engine_types::core::{self, NilOrVal, Round, SignedExtension, VoteType};
use anji_contracts::types::{ChainId, Hash32};
use anji_verify::certificate::{VoteBody, VoteKind};

/// A vote without its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Vote {
    pub(crate) kind: VoteType,
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<Hash32>,
    pub(crate) address: VoterAddress,
}

impl Vote {
    /// What the signature covers; `None` for a vote without a round, which no correct node makes.
    pub(crate) fn sign_bytes(&self, chain_id: ChainId) -> Option<[u8; 32]> {
        Some(self.body(chain_id)?.sign_bytes())
    }

    /// What is signed, as others verify it.
    pub(crate) fn body(&self, chain_id: ChainId) -> Option<VoteBody> {
        Some(VoteBody {
            chain_id,
            kind: match self.kind {
                VoteType::Prevote => VoteKind::Prevote,
                VoteType::Precommit => VoteKind::Precommit,
            },
            height: self.height.0,
            round: self.round.as_u32()?,
            value: match self.value {
                NilOrVal::Nil => None,
                NilOrVal::Val(value) => Some(value),
            },
            validator: self.address.0,
        })
    }
}

impl core::Vote<Anji> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Hash32> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Hash32> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &VoterAddress {
        &self.address
    }

    // Vote extensions are off (`VoteExtensionPolicy::Disabled`): nothing is carried.
    fn extension(&self) -> Option<&SignedExtension<Anji>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Anji>> {
        None
    }

    fn extend(self, _extension: SignedExtension<Anji>) -> Self {
        self
    }
}
