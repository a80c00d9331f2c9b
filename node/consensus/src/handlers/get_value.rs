//! It is this node's turn to propose. The header goes out while its body is being synced; the engine gets the value, and signs it, only
//! after that (engine trap 1).

use crate::app::{App, Next};
use crate::chain::log_height;
use crate::context::{Anji, BlockValue, Height, ProposalPart};
use crate::engine_types::LocallyProposedValue;
use crate::engine_types::core::Round;
use crate::network_actor::publish_part;
use crate::ports::{Batch, Body, CandidateLimits, Keys};
use crate::proposals::{facts, keep_body};
use crate::shared::Shared;
use crate::validity::{self, MAX_BLOCK_BYTES, MAX_BLOCK_OPS};
use anji_contracts::batch::FORMAT;
use anji_contracts::types::Hash32;
use anji_verify::{Address, Header, LogRoot, MAX_BLOCK_BATCHES};
use arc_malachitebft_app_channel::Reply;
use std::sync::Arc;
use std::time::Duration;

/// Execution gets so much less than the engine's time-out: a later answer would be ignored anyway.
const MARGIN: Duration = Duration::from_millis(50);

pub(crate) async fn on_get_value(
    app: &App,
    height: Height,
    round: Round,
    timeout: Duration,
    reply: Reply<LocallyProposedValue<Anji>>,
) -> Next {
    let shared = &app.shared;
    let (Some(own), Some(number)) = (app.voter, round.as_u32()) else {
        tracing::error!(%height, %round, "asked for a proposal, which this node does not make");
        return Next::Go;
    };
    // Not answering is right wherever the answer would be wrong: the round then passes, as with a silent proposer.
    let Some((value, body)) = existing_or_new(shared, own, height.0, number, timeout).await else {
        shared.metrics.unproposed.inc();
        return Next::Go;
    };
    let part = part_of(&body, number);
    publish_part(&shared.network, &part);
    match keep_body(shared, value, body).await {
        Ok(true) => {
            let _ = reply.send(LocallyProposedValue { height, round, value: BlockValue(value) });
            Next::Go
        }
        Ok(false) => Next::Go,
        Err(_) => Next::Stop,
    }
}

fn part_of(body: &Body, round: u32) -> ProposalPart {
    let batch_hashes = body.batches.iter().map(|batch| batch.checked.hash).collect();
    ProposalPart { round, valid_round: None, header: Arc::clone(&body.header), batch_hashes }
}

async fn existing_or_new(
    shared: &Arc<Shared>,
    own: Address,
    height: u64,
    round: u32,
    timeout: Duration,
) -> Option<(Hash32, Body)> {
    if height != shared.decided_height() + 1 {
        tracing::warn!(height, "asked to propose for another height than the next");
        return None;
    }
    // After a crash: what was proposed then is proposed again, not something else.
    if let Some(known) = shared.bodies.proposed_by(own, height, round) {
        return Some(known);
    }
    let executed = log_height(height);
    let wait = shared.execution.wait_executed(executed);
    match tokio::time::timeout(timeout.saturating_sub(MARGIN), wait).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(height, %error, "no proposal: execution has stopped");
            return None;
        }
        Err(_) => {
            tracing::warn!(height, round, executed, "no proposal: the block two before is not executed yet");
            return None;
        }
    }
    let log = shared.execution.root_after(executed)?;
    let keys = shared.execution.keys_after(executed)?;
    Some(build(shared, own, round, log, &keys))
}

/// A block on the tip from what the pool has. Valid by construction: whatever breaks a rule is left out.
fn build(shared: &Shared, own: Address, round: u32, log: LogRoot, keys: &Arc<dyn Keys>) -> (Hash32, Body) {
    let tip = shared.chain().tip();
    let time_ms = shared.config.clock.now_ms().max(tip.time_ms + 1);
    let limits = CandidateLimits { batches: MAX_BLOCK_BATCHES, ops: MAX_BLOCK_OPS, bytes: MAX_BLOCK_BYTES, time_ms };
    let mut batches = shared.pool.candidate(&limits);
    let chain = shared.chain();
    batches.retain(|batch| is_good(batch, time_ms, keys, |hash| chain.recent().contains(hash)));
    let expected = chain.expected(log, keys.rules());
    let hashes: Vec<Hash32> = batches.iter().map(|batch| batch.checked.hash).collect();
    let header = Header {
        format: FORMAT,
        chain_id: expected.chain_id,
        height: expected.height,
        round,
        time_ms,
        parent_hash: expected.parent_hash,
        proposer: own,
        n_batches: u32::try_from(batches.len()).expect("at most 4,096"),
        batches_root: Header::batches_root_of(&hashes),
        log,
        validators_hash: expected.validators_hash,
        next_validators_hash: expected.next_validators_hash,
        rules: expected.rules,
    };
    (header.hash(), Body { header: Arc::new(header), batches: batches.into() })
}

fn is_good(batch: &Batch, time_ms: u64, keys: &Arc<dyn Keys>, is_recent: impl FnOnce(&Hash32) -> bool) -> bool {
    let key = |participant, key_id, at| keys.check_key(participant, key_id, at);
    match validity::check_batch(&facts(batch), time_ms, key, is_recent) {
        Ok(()) => true,
        Err(fault) => {
            tracing::debug!(%fault, "left out of the proposal");
            false
        }
    }
}
