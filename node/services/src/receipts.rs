//! The stream of receipts: from any sequence, out of storage until it has caught up, then out of the feed's ring; every batch once,
//! in order.

use crate::access::Sight;
use crate::feed::Feed;
use crate::ledger;
use crate::outlet::{Closed, Outlet};
use crate::server::Core;
use anji_contracts::types::ParticipantId;
use anji_proto::v1;
use anji_proto::v1::stream_receipts_response::Item;
use anji_storage::BatchReceipts;
use anji_wire::Reason;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::Status;

/// Batches taken at a time.
const CHUNK: usize = 16;

/// Whose batches a stream shows; `None` for everybody's.
///
/// # Errors
/// NOT_YOUR_DATA.
pub(crate) fn filter(sight: Sight, wanted: u32) -> Result<Option<ParticipantId>, Status> {
    match wanted {
        0 if sight.all => Ok(None),
        0 => Ok(Some(sight.own)),
        wanted => {
            let wanted = ParticipantId(wanted);
            sight.check(&[wanted])?;
            Ok(Some(wanted))
        }
    }
}

/// Runs a stream until it is over.
pub(crate) async fn run(
    core: Arc<Core>,
    from_seq: u64,
    filter: Option<ParticipantId>,
    outlet: Outlet<v1::StreamReceiptsResponse>,
) {
    // The outlet knows why it is over; whoever reads from the other end is told.
    let _ = follow(&core, from_seq, filter, &outlet).await;
}

async fn follow(
    core: &Core,
    mut next_seq: u64,
    filter: Option<ParticipantId>,
    outlet: &Outlet<v1::StreamReceiptsResponse>,
) -> Result<(), Closed> {
    // Subscribed before the first look, so that nothing comes in between unseen.
    let mut head = core.feed.head();
    let mut told = Instant::now();
    loop {
        let batches = match outlet.or_over(load(core, &core.feed, next_seq)).await? {
            Ok(batches) => batches,
            Err(status) => {
                outlet.close(status);
                return Err(Closed);
            }
        };
        for batch in &batches {
            if batch.seq != next_seq {
                tracing::error!(expected = next_seq, found = batch.seq, "receipts of a batch are missing");
                outlet.close(Reason::StorageFailed.status("receipts are missing; the node's log says more"));
                return Err(Closed);
            }
            if filter.is_none_or(|participant| participant == batch.participant) {
                outlet.send(v1::StreamReceiptsResponse { item: Some(Item::Batch(receipt_batch(batch))) }).await?;
                core.metrics.sent_batches.inc();
                told = Instant::now();
            }
            next_seq = next_seq.saturating_add(1);
        }
        if told.elapsed() >= core.limits.heartbeat {
            outlet.send(v1::StreamReceiptsResponse { item: Some(Item::NextSeq(next_seq)) }).await?;
            told = Instant::now();
        }
        if batches.is_empty() {
            let quiet = tokio::time::timeout_at(told + core.limits.heartbeat, head.changed());
            // Woken by a block or by the heartbeat: both mean to look again. The feed outlives its streams.
            let _ = outlet.or_over(quiet).await?;
        }
    }
}

async fn load(core: &Core, feed: &Feed, seq: u64) -> Result<Vec<Arc<BatchReceipts>>, Status> {
    if let Some(batches) = feed.newest_from(seq, CHUNK) {
        return Ok(batches);
    }
    ledger::read(&core.reader, move |reader| Ok(reader.receipts_from(seq, CHUNK)?))
        .await
        .map(|batches| batches.into_iter().map(Arc::new).collect())
}

/// A batch's receipts as they are sent.
pub(crate) fn receipt_batch(batch: &BatchReceipts) -> v1::ReceiptBatch {
    anji_meter::measure(anji_meter::Stage::Reply, || v1::ReceiptBatch {
        seq: batch.seq,
        height: batch.height,
        participant: batch.participant.0,
        batch_hash: batch.batch_hash.0.to_vec(),
        receipts: batch.receipts.iter().map(anji_wire::ledger::receipt).collect(),
    })
}
