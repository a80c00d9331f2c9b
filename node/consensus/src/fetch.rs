//! Gathers the batches of a proposal. As a rule all of them were spread before and are in the pool; what is missing is asked for, from
//! the proposer first. A batch that was fetched is verified here, with the keys that the block is judged by.

use crate::context::ProposalPart;
use crate::ports::{Batch, Keys};
use crate::proposals::{Refusal, until_decided};
use crate::shared::Shared;
use crate::validity::Fault;
use crate::wire::{self, MAX_HASHES_PER_REQUEST, PeerRequest};
use anji_contracts::codec::{self, Domain};
use anji_contracts::decode_batch;
use anji_contracts::types::Hash32;
use anji_network::PeerId;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A batch may be on its way: it is waited for so long, so often, before it is asked for.
const GRACE: Duration = Duration::from_millis(4);
const GRACE_ROUNDS: u32 = 5;
/// A peer has so long to answer before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between asking all of them in vain and asking again.
const PAUSE: Duration = Duration::from_millis(100);

/// All batches of the proposal, in order. Waits until they are there or the height is decided.
pub(crate) async fn collect(
    shared: &Arc<Shared>,
    from: PeerId,
    part: &ProposalPart,
    keys: &Arc<dyn Keys>,
) -> Result<Vec<Batch>, Refusal> {
    let height = part.header.height;
    let mut fetched: HashMap<Hash32, Batch> = HashMap::new();
    let mut attempt = 0;
    loop {
        let mut missing = Vec::new();
        let mut batches = Vec::with_capacity(part.batch_hashes.len());
        for hash in part.batch_hashes.iter() {
            match fetched.get(hash).cloned().or_else(|| shared.pool.get(hash)) {
                Some(batch) => batches.push(batch),
                None => missing.push(*hash),
            }
        }
        if missing.is_empty() {
            return Ok(batches);
        }
        attempt += 1;
        if attempt <= GRACE_ROUNDS {
            until_decided(shared, height, tokio::time::sleep(GRACE)).await?;
            continue;
        }
        let got = until_decided(shared, height, ask_around(shared, from, &missing)).await?;
        if got.is_empty() {
            tracing::debug!(height, missing = missing.len(), "nobody has the batches of this proposal yet");
            until_decided(shared, height, tokio::time::sleep(PAUSE)).await?;
        }
        shared.metrics.fetched_batches.inc_by(got.len() as u64);
        for batch in verify(shared, got, part.header.time_ms, keys).await? {
            shared.pool.offer(&batch);
            fetched.insert(batch.checked.hash, batch);
        }
    }
}

/// Asks the proposer, then the other connected peers, until somebody has some of the batches.
async fn ask_around(shared: &Arc<Shared>, from: PeerId, missing: &[Hash32]) -> Vec<Bytes> {
    let others = shared.peers.connected().into_iter().filter(|peer| *peer != from);
    for peer in std::iter::once(from).chain(others) {
        let got = ask(shared, peer, missing).await;
        if !got.is_empty() {
            return got;
        }
    }
    Vec::new()
}

async fn ask(shared: &Arc<Shared>, peer: PeerId, missing: &[Hash32]) -> Vec<Bytes> {
    let wanted = &missing[..missing.len().min(MAX_HASHES_PER_REQUEST)];
    let request = wire::encode(&PeerRequest::Batches(wanted.to_vec()));
    let answer = match shared.network.request(peer, request, PATIENCE).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%peer, %error, "no batches from this peer");
            return Vec::new();
        }
    };
    match wire::decode_batches(&answer) {
        // What was not asked for is not looked at.
        Ok(answer) => answer
            .batches
            .into_iter()
            .filter(|bytes| wanted.contains(&codec::hash(Domain::Batch, bytes)))
            .map(Bytes::from)
            .collect(),
        Err(error) => {
            shared.metrics.dropped("malformed_answer");
            tracing::warn!(%peer, %error, "this peer's answer holds no batches");
            Vec::new()
        }
    }
}

/// Decodes and verifies: milliseconds of work, off the async threads. One bad batch makes the whole block invalid.
async fn verify(
    shared: &Arc<Shared>,
    got: Vec<Bytes>,
    time_ms: u64,
    keys: &Arc<dyn Keys>,
) -> Result<Vec<Batch>, Refusal> {
    let keys = Arc::clone(keys);
    let verified = shared
        .blocking(move |shared| {
            let batches: Result<Vec<Batch>, Fault> = got
                .into_iter()
                .map(|bytes| {
                    let hash = codec::hash(Domain::Batch, &bytes);
                    let fault = |reject| Fault::Batch { batch: hash, reject };
                    let decoded = decode_batch(&bytes, &shared.config.chain_id).map_err(fault)?;
                    keys.check_signature(&decoded, time_ms).map_err(fault)?;
                    // Verified in the line above.
                    Ok(Batch { bytes, checked: Arc::new(decoded.assume_verified()) })
                })
                .collect();
            Ok(batches)
        })
        .await?;
    Ok(verified?)
}
