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

/// What a stream shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// From this sequence on.
    pub(crate) from_seq: u64,
    /// Whose batches; `None` for everybody's.
    pub(crate) participant: Option<ParticipantId>,
    /// Only those of final blocks.
    pub(crate) final_only: bool,
    /// The final height too.
    pub(crate) tell_final: bool,
}

/// Runs a stream until it is over.
pub(crate) async fn run(core: Arc<Core>, wanted: Wanted, outlet: Outlet<v1::StreamReceiptsResponse>) {
    // The outlet knows why it is over; whoever reads from the other end is told.
    let _ = follow(&core, wanted, &outlet).await;
}

async fn follow(core: &Core, wanted: Wanted, outlet: &Outlet<v1::StreamReceiptsResponse>) -> Result<(), Closed> {
    let Wanted { from_seq: mut next_seq, participant: filter, final_only, tell_final } = wanted;
    // Subscribed before the first look, so that nothing comes in between unseen.
    let mut head = core.feed.head();
    let mut final_height = core.final_height.clone();
    let mut told_final = 0;
    let mut told = Instant::now();
    loop {
        let final_now = *final_height.borrow_and_update();
        let mut batches = match outlet.or_over(load(core, &core.feed, next_seq)).await? {
            Ok(batches) => batches,
            Err(status) => {
                outlet.close(status);
                return Err(Closed);
            }
        };
        if final_only {
            // What is not final yet is loaded again once it is.
            let n_final = batches.iter().take_while(|batch| batch.height <= final_now).count();
            batches.truncate(n_final);
        }
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
        if tell_final && final_now > told_final {
            outlet.send(v1::StreamReceiptsResponse { item: Some(Item::FinalHeight(final_now)) }).await?;
            told_final = final_now;
        }
        if told.elapsed() >= core.limits.heartbeat {
            outlet.send(v1::StreamReceiptsResponse { item: Some(Item::NextSeq(next_seq)) }).await?;
            told = Instant::now();
        }
        if batches.is_empty() {
            let quiet = tokio::time::sleep_until(told + core.limits.heartbeat);
            let news = async {
                tokio::select! {
                    // A stream of final receipts has no use for a block before it is final.
                    Ok(()) = head.changed(), if !final_only => {}
                    Ok(()) = final_height.changed(), if final_only || tell_final => {}
                    () = quiet => {}
                }
            };
            // Whatever woke it means to look again.
            outlet.or_over(news).await?;
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
