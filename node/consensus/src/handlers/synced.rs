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
use crate::wire::BlockBytes;
use anji_contracts::decode_batch;
use anji_contracts::types::{ChainId, Hash32};
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
    let body = match read_body(&shared.config.chain_id, certified, block) {
        Ok(body) => body,
        Err(Unread::Foreign(what)) => return Ok(Judged::Foreign(what)),
        Err(Unread::Broken(fault)) => return Ok(Judged::Broken(certified, fault)),
    };
    Ok(match judge_body(shared, height, &body)? {
        Ok(()) => Judged::Good(certified, body),
        Err(fault) => Judged::Broken(certified, fault),
    })
}

/// Why bytes from a peer are no body to judge.
pub(crate) enum Unread {
    /// They are not the block that the certificate names: the peer's fault.
    Foreign(String),
    /// They are, and a batch of it does not decode.
    Broken(Fault),
}

/// The body that a certificate names, from a peer's bytes: needs nothing but the two. The certificate covers the signatures of the batches.
pub(crate) fn read_body(chain_id: &ChainId, certified: Hash32, block: BlockBytes) -> Result<Body, Unread> {
    let value = block.header.hash();
    if value != certified {
        return Err(Unread::Foreign(format!("its header is {value}, the certificate is for {certified}")));
    }
    // From here on the header is the decided one; the batches are still the peer's word.
    let mut batches = Vec::with_capacity(block.batches.len());
    let mut hashes = Vec::with_capacity(block.batches.len());
    let mut undecodable = None;
    for bytes in block.batches {
        let bytes = Bytes::from(bytes);
        match decode_batch(&bytes, chain_id) {
            Ok(decoded) => {
                let checked = Arc::new(decoded.assume_verified());
                hashes.push(checked.hash);
                batches.push(Batch { bytes, checked });
            }
            Err(reject) => {
                hashes.push(anji_contracts::codec::hash(anji_contracts::codec::Domain::Batch, &bytes));
                undecodable = Some(reject);
            }
        }
    }
    validity::check_batch_list(&block.header, &hashes).map_err(|fault| Unread::Foreign(fault.to_string()))?;
    match undecodable {
        Some(reject) => Err(Unread::Broken(Fault::Batch { batch: Hash32::ZERO, reject })),
        None => Ok(Body { header: Arc::new(block.header), batches: batches.into() }),
    }
}

/// Judges the body of the next height by every rule but a clock. The block two before it must be executed.
///
/// # Errors
/// It is not, or the chain is elsewhere: nothing is said about the body.
pub(crate) fn judge_body(shared: &Shared, height: u64, body: &Body) -> Result<Result<(), Fault>, PortError> {
    let executed = log_height(height);
    let not_executed = || PortError::new(format!("height {executed} is not executed yet"));
    let log = shared.execution.root_after(executed).ok_or_else(not_executed)?;
    let keys = shared.execution.keys_after(executed).ok_or_else(not_executed)?;

    let body_facts: Vec<_> = body.batches.iter().map(facts).collect();
    let chain = shared.chain();
    if chain.tip().height + 1 != height {
        return Err(PortError::new(format!("the chain is at height {}", chain.tip().height)));
    }
    let expected = chain.expected(log, keys.rules());
    let key = |participant, key_id, time_ms| keys.check_key(participant, key_id, time_ms);
    Ok(validity::check_header(&body.header, &expected, |round| chain.proposer(round))
        .and_then(|()| validity::check_body(&body.header, &body_facts, key, |hash| chain.recent().contains(hash))))
}
