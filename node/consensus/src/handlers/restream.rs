//! A value is proposed again, or this node locked it late: its header and batch hashes go out once more.

use crate::app::{App, Next};
use crate::context::{Height, ProposalPart};
use crate::engine_types::core::Round;
use crate::network_actor::publish_part;
use anji_contracts::types::Hash32;
use std::sync::Arc;

pub(crate) fn on_restream(app: &App, height: Height, round: Round, valid_round: Round, value: Hash32) -> Next {
    let Some(body) = app.shared.bodies.get(height.0, &value) else {
        // Every value the engine knows of at an undecided height is in memory.
        tracing::error!(%height, %value, "a value to propose again is not here");
        return Next::Go;
    };
    let part = ProposalPart {
        round: round.as_u32().unwrap_or(0),
        valid_round: valid_round.as_u32(),
        header: Arc::clone(&body.header),
        batch_hashes: body.batches.iter().map(|batch| batch.checked.hash).collect(),
    };
    publish_part(&app.shared.network, &part);
    Next::Go
}
