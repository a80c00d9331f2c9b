//! A round begins. After a start the engine is given the proposals that the block file holds for the height: they were judged before they
//! were written, and the engine may have voted for one of them (engine trap 1).

use crate::app::{App, Next};
use crate::context::{Anji, BlockValue, Height, VoterAddress};
use crate::engine_types::ProposedValue;
use crate::engine_types::core::{Round, Validity};
use arc_malachitebft_app_channel::Reply;
use std::time::Instant;

pub(crate) fn on_started_round(
    app: &mut App,
    height: Height,
    round: Round,
    proposer: VoterAddress,
    reply: Reply<Vec<ProposedValue<Anji>>>,
) -> Next {
    let shared = &app.shared;
    let number = round.as_u32().unwrap_or(0);
    tracing::debug!(%height, round = number, %proposer, "round started");
    if number > 0 {
        shared.metrics.skipped_rounds.inc();
    }
    shared.metrics.round.set(i64::from(number));
    shared.update_progress(|progress| {
        if progress.height != height.0 {
            progress.height_started = Instant::now();
        }
        (progress.height, progress.round) = (height.0, number);
    });

    let values = if app.resumed { Vec::new() } else { known_values(app, height) };
    app.resumed = true;
    let _ = reply.send(values);
    Next::Go
}

fn known_values(app: &App, height: Height) -> Vec<ProposedValue<Anji>> {
    let values: Vec<ProposedValue<Anji>> = app
        .shared
        .bodies
        .of_height(height.0)
        .into_iter()
        .map(|(value, body)| ProposedValue {
            height,
            round: Round::new(body.header.round),
            valid_round: Round::Nil,
            proposer: VoterAddress(body.header.proposer),
            value: BlockValue(value),
            validity: Validity::Valid,
        })
        .collect();
    if !values.is_empty() {
        tracing::info!(%height, count = values.len(), "proposals of this height were in the block file");
    }
    values
}
