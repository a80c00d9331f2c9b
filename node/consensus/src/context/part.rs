//! The one part of a proposal: the header and the hashes of its batches. The batches themselves were spread before.

use super::Anji;
use crate::engine_types::core;
use anji_contracts::types::Hash32;
use anji_verify::Header;
use std::sync::Arc;

/// Header and batch hashes, in the round they are proposed in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ProposalPart {
    /// Round of this proposal; `header.round` is that of the first one.
    pub(crate) round: u32,
    /// Round of the prevotes that let the value be proposed again.
    pub(crate) valid_round: Option<u32>,
    /// The header; its hash is the value.
    pub(crate) header: Arc<Header>,
    /// Hashes of the batches, in order.
    pub(crate) batch_hashes: Arc<[Hash32]>,
}

impl core::ProposalPart<Anji> for ProposalPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}
