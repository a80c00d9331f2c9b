//! A proposal that `proposals.rs` let through: everything about it was checked before the engine heard of it.

use crate::app::Next;
use crate::context::{Anji, BlockValue, Height, ProposalPart, VoterAddress};
use crate::engine_types::ProposedValue;
use crate::engine_types::core::{Round, Validity};
use crate::engine_types::streaming::StreamMessage;
use arc_malachitebft_app_channel::Reply;

pub(crate) fn on_received_part(part: StreamMessage<ProposalPart>, reply: Reply<Option<ProposedValue<Anji>>>) -> Next {
    let value = part.content.into_data().map(|part| ProposedValue {
        height: Height(part.header.height),
        round: Round::new(part.round),
        valid_round: Round::from(part.valid_round),
        proposer: VoterAddress(part.header.proposer),
        value: BlockValue(part.header.hash()),
        validity: Validity::Valid,
    });
    let _ = reply.send(value);
    Next::Go
}
