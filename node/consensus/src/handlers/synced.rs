//! A decided block from a peer, while this node catches up. The engine has verified the certificate. The block is judged by every rule
//! but no clock; its signatures are covered by the certificate. If it breaks a rule all the same, this node or more than a third of the
//! power is wrong, and the node stops instead of standing still (engine traps 7 and 10).

use crate::app::{App, Next};
use crate::chain::log_height;
use crate::codec;
use crate::context::{Anji, BlockValue, Height, VoterAddress};
use crate::engine_types::ProposedValue;
use crate::engine_types::core::{Round, Validity};
use crate::error::{Fatal, PortError};
use crate::ports::{Batch, Body};
use crate::proposals::{facts, keep_body};
use crate::shared::Shared;
use crate::validity::{self, Fault};
use anji_contracts::decode_batch;
use anji_contracts::types::Hash32;
use arc_malachitebft_app_channel::Reply;
use arc_malachitebft_app_channel::app::engine::host::SyncedValueOutcome;
use bytes::Bytes;
use std::sync::Arc;

/// What a synced block turned out to be.
enum Judged {
    Good(Hash32, Body),
    /// The bytes are not the block that the certificate names: the peer's fault.
    Foreign(String),
    /// The certificate names this block, and it breaks a rule.
    Broken(Hash32, Fault),
}

pub(crate) async fn on_synced_value(
    app: &App,
    height: Height,
    round: Round,
    proposer: VoterAddress,
    bytes: Bytes,
    reply: Reply<SyncedValueOutcome<Anji>>,
) -> Next {
    let shared = &app.shared;
    let outcome = match shared.blocking(move |shared| judge(shared, height.0, &bytes)).await {
        Ok(Judged::Good(value, body)) => match keep_body(shared, value, body).await {
            Ok(_) => {
                shared.metrics.synced_blocks.inc();
                shared.set_last_synced(height.0);
                SyncedValueOutcome::Verdict(ProposedValue {
                    height,
                    round,
                    valid_round: Round::Nil,
                    proposer,
                    value: BlockValue(value),
                    validity: Validity::Valid,
                })
            }
            Err(_) => return Next::Stop,
        },
        Ok(Judged::Foreign(what)) => {
            tracing::warn!(%height, what, "a peer sent something else than the decided block");
            SyncedValueOutcome::PeerFault
        }
        Ok(Judged::Broken(value, fault)) => {
            shared.fail(Fatal::InvalidDecision { height: height.0, value, fault });
            return Next::Stop;
        }
        Err(error) => {
            tracing::warn!(%height, %error, "a synced block could not be judged yet");
            SyncedValueOutcome::LocalTransientError
        }
    };
    let _ = reply.send(outcome);
    Next::Go
}

fn judge(shared: &Shared, height: u64, bytes: &[u8]) -> Result<Judged, PortError> {
    let (certified, block) = match codec::split_synced_value(bytes) {
        Ok(split) => split,
        Err(error) => return Ok(Judged::Foreign(error.to_string())),
    };
    let value = block.header.hash();
    if value != certified {
        return Ok(Judged::Foreign(format!("its header is {value}, the certificate is for {certified}")));
    }
    // From here on the header is the decided one; the batches are still the peer's word.
    let mut batches = Vec::with_capacity(block.batches.len());
    let mut hashes = Vec::with_capacity(block.batches.len());
    let mut undecodable = None;
    for bytes in block.batches {
        let bytes = Bytes::from(bytes);
        hashes.push(anji_contracts::codec::hash(anji_contracts::codec::Domain::Batch, &bytes));
        match decode_batch(&bytes, &shared.config.chain_id) {
            Ok(decoded) => batches.push(Batch { bytes, checked: Arc::new(decoded.assume_verified()) }),
            Err(reject) => undecodable = Some(reject),
        }
    }
    if let Err(fault) = validity::check_batch_list(&block.header, &hashes) {
        return Ok(Judged::Foreign(fault.to_string()));
    }
    if let Some(reject) = undecodable {
        return Ok(Judged::Broken(value, Fault::Batch { batch: Hash32::ZERO, reject }));
    }
    let executed = log_height(height);
    let not_executed = || PortError::new(format!("height {executed} is not executed yet"));
    let log = shared.execution.root_after(executed).ok_or_else(not_executed)?;
    let keys = shared.execution.keys_after(executed).ok_or_else(not_executed)?;

    let chain = shared.chain();
    if chain.tip().height + 1 != height {
        return Err(PortError::new(format!("the chain is at height {}", chain.tip().height)));
    }
    let expected = chain.expected(log, keys.rules());
    let body_facts: Vec<_> = batches.iter().map(facts).collect();
    let key = |participant, key_id, time_ms| keys.check_key(participant, key_id, time_ms);
    let judged = validity::check_header(&block.header, &expected, |round| chain.proposer(round))
        .and_then(|()| validity::check_body(&block.header, &body_facts, key, |hash| chain.recent().contains(hash)));
    Ok(match judged {
        Ok(()) => Judged::Good(value, Body { header: Arc::new(block.header), batches: batches.into() }),
        Err(fault) => Judged::Broken(value, fault),
    })
}
