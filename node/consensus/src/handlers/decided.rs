//! A block is decided: certificate to disk, then the reply, then execution. From here on the order is a fact.

use crate::app::{App, Next};
use crate::codec;
use crate::context::Anji;
use crate::engine_types::core::CommitCertificate as EngineCertificate;
use crate::error::{Fatal, PortError};
use crate::ports::{Batch, Body, StoredBody};
use crate::shared::Shared;
use anji_contracts::decode_batch;
use anji_contracts::types::{ChainId, Hash32};
use anji_verify::CommitCertificate;
use arc_malachitebft_app_channel::Reply;
use std::sync::Arc;
use std::time::Instant;

pub(crate) async fn on_decided(app: &App, certificate: &EngineCertificate<Anji>, reply: Reply<()>) -> Next {
    match decide(&app.shared, certificate, reply).await {
        Ok(()) => Next::Go,
        Err(fatal) => {
            app.shared.fail(fatal);
            Next::Stop
        }
    }
}

async fn decide(shared: &Arc<Shared>, certificate: &EngineCertificate<Anji>, reply: Reply<()>) -> Result<(), Fatal> {
    let certificate = codec::certificate_to_ledger(certificate).map_err(|error| Fatal::Engine(error.to_string()))?;
    let (height, value) = (certificate.height, certificate.value);
    let body = body_of(shared, height, value).await?;

    let started = Instant::now();
    let written = certificate.clone();
    shared.blocking(move |shared| shared.blocks.append_decision(&written)).await.map_err(Fatal::Blocks)?;
    shared.metrics.append_seconds.observe(started.elapsed().as_secs_f64());

    advance(shared, value, &body);
    let _ = reply.send(());
    tell(shared, &body, &certificate);
    // Execution is at most two blocks behind, as the next height is started only then: its queue has room.
    shared.execution.submit(&body, &certificate).await.map_err(Fatal::Execution)
}

/// The chain has a new tip; body and certificate are durable.
pub(crate) fn advance(shared: &Shared, value: Hash32, body: &Body) {
    let height = body.header.height;
    let hashes: Vec<Hash32> = body.batches.iter().map(|batch| batch.checked.hash).collect();
    shared.chain_mut().apply(&body.header, value, &hashes);
    shared.pool.mark_included(height, body.header.time_ms, &hashes);
    shared.bodies.prune(height);
    shared.set_decided(height);
}

fn tell(shared: &Shared, body: &Body, certificate: &CommitCertificate) {
    let seconds = shared.progress().height_started.elapsed().as_secs_f64();
    let bytes: usize = body.batches.iter().map(|batch| batch.bytes.len()).sum();
    let (height, round, batches) = (certificate.height, certificate.round, body.batches.len());
    shared.metrics.decide_seconds.observe(seconds);
    shared.metrics.block_bytes.observe(bytes as f64);
    shared.metrics.block_batches.observe(batches as f64);
    tracing::debug!(height, round, batches, bytes, seconds, value = %certificate.value, "decided");
}

async fn body_of(shared: &Arc<Shared>, height: u64, value: Hash32) -> Result<Body, Fatal> {
    if let Some(body) = shared.bodies.get(height, &value) {
        return Ok(body);
    }
    // Not in memory, for instance after a replay of the engine's log; it must be in the block file.
    let stored = shared.blocking(move |shared| shared.blocks.load_proposal(&value)).await.map_err(Fatal::Blocks)?;
    let stored = stored.filter(|stored| stored.header.height == height).ok_or(Fatal::BodyMissing { height, value })?;
    restore(stored, &shared.config.chain_id).map_err(Fatal::Blocks)
}

/// A body from the block file. It was judged, signatures included, before it was written.
pub(crate) fn restore(stored: StoredBody, chain_id: &ChainId) -> Result<Body, PortError> {
    let height = stored.header.height;
    let batches: Result<Vec<Batch>, PortError> = stored
        .batches
        .into_iter()
        .map(|bytes| {
            let decoded = decode_batch(&bytes, chain_id)
                .map_err(|reject| PortError::new(format!("height {height}: a kept batch does not decode: {reject}")))?;
            Ok(Batch { bytes, checked: Arc::new(decoded.assume_verified()) })
        })
        .collect();
    Ok(Body { header: Arc::new(stored.header), batches: batches?.into() })
}
