//! Signed batches in: admitted by the mempool, and on request answered with their receipts once decided, durable and executed here, or
//! once final.

use crate::access::not_your_data;
use crate::callers::Caller;
use crate::deadline::Deadline;
use crate::door::check_rate;
use crate::feed::Waiter;
use crate::ledger;
use crate::metrics::Held;
use crate::outlet::{Closed, Outlet};
use crate::receipts::receipt_batch;
use crate::server::Core;
use anji_contracts::Reject;
use anji_contracts::batch::{BatchHeader, FORMAT};
use anji_contracts::codec::{self, Domain};
use anji_contracts::types::Hash32;
use anji_mempool::{Admitted, Known, MempoolError, Origin};
use anji_proto::v1;
use anji_proto::v1::submit_batches_response::Answer;
use anji_storage::{BatchReceipts, Reader};
use anji_wire::{FieldError, Reason, reject_status, stream_error};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::{Status, Streaming};

/// Batches read at a time to find one of a block.
const CHUNK: usize = 64;
/// Batches of a stream that are handed in together, if they are there.
const HANDED_IN_TOGETHER: usize = 32;
/// How often a waiting call looks whether its batch has expired. That takes minutes; to look at every block would cost more than to answer.
const EXPIRY_LOOK: Duration = Duration::from_secs(1);

/// A batch that was admitted, and the way to its receipts if the caller wants to wait for them.
pub(crate) struct Submitted {
    admitted: Admitted,
    waiter: Option<Waiter>,
    until: Until,
}

/// What a caller waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    Admitted,
    Decided,
    Final,
}

/// Hands a batch in.
///
/// # Errors
/// The fields, the owner, or what the mempool says.
pub(crate) async fn admit(core: &Core, caller: &Caller, bytes: Bytes, wait: i32) -> Result<Submitted, Status> {
    let until = precheck(core, caller, &bytes, wait)?;
    // Registered before the batch is handed in, so that its receipts cannot come unseen.
    let waiter = waiter(core, &bytes, until);
    submitted(core.mempool.submit(bytes, Origin::Client).await, waiter, until)
}

/// Hands batches in that arrived together, in their order; each is answered as [`admit`] would.
async fn admit_all(core: &Core, caller: &Caller, batches: Vec<(Bytes, i32)>) -> Vec<Result<Submitted, Status>> {
    let mut good = Vec::with_capacity(batches.len());
    let prechecked: Vec<_> = batches
        .into_iter()
        .map(|(bytes, wait)| {
            let until = match check_rate(caller) {
                Ok(()) => precheck(core, caller, &bytes, wait)?,
                Err(status) => return Err(*status),
            };
            let waiter = waiter(core, &bytes, until);
            good.push(bytes);
            Ok((waiter, until))
        })
        .collect();
    let mut admitted = core.mempool.submit_all(good, Origin::Client).await.into_iter();
    prechecked
        .into_iter()
        .map(|it| {
            let (waiter, until) = it?;
            // One result each.
            submitted(admitted.next().unwrap_or(Err(MempoolError::Stopping)), waiter, until)
        })
        .collect()
}

fn precheck(core: &Core, caller: &Caller, bytes: &Bytes, wait: i32) -> Result<Until, Status> {
    let until = match v1::Wait::try_from(wait) {
        Ok(v1::Wait::Unspecified | v1::Wait::None) => Until::Admitted,
        Ok(v1::Wait::Decided) => Until::Decided,
        Ok(v1::Wait::Final) => Until::Final,
        Err(_) => return Err(FieldError::new("wait", "is not a known number").into()),
    };
    // A look at the header only, if it is one of this ledger; everything else about the bytes is the mempool's to judge.
    if let Ok(header) = codec::decode_prefix::<BatchHeader>(&mut &bytes[..])
        && header.format == FORMAT
        && header.chain_id == core.chain
        && header.participant != caller.participant
    {
        return Err(not_your_data());
    }
    Ok(until)
}

fn waiter(core: &Core, bytes: &[u8], until: Until) -> Option<Waiter> {
    (until != Until::Admitted).then(|| core.feed.wait_for(batch_hash(bytes)))
}

fn submitted(
    result: Result<Admitted, MempoolError>,
    waiter: Option<Waiter>,
    until: Until,
) -> Result<Submitted, Status> {
    match result {
        Ok(admitted) => Ok(Submitted { admitted, waiter, until }),
        Err(error) => Err(mempool_status(&error)),
    }
}

/// The answer to a batch that was handed in; waits for its receipts if the caller wanted that.
///
/// # Errors
/// It expired undecided, the deadline passed, or the node is stopping.
pub(crate) async fn answer(
    core: &Core,
    submitted: Submitted,
    deadline: Deadline,
) -> Result<v1::SubmitBatchResponse, Status> {
    let Submitted { admitted, waiter, until } = submitted;
    let receipts = match waiter {
        None => None,
        Some(mut waiter) => {
            let _waiting = Held::new(&core.metrics.waiting_calls);
            let receipts = decision(core, &admitted, &mut waiter, deadline).await?;
            if until == Until::Final {
                finality(core, receipts.height, &admitted.batch_hash, deadline).await?;
            }
            Some(receipt_batch(&receipts))
        }
    };
    Ok(v1::SubmitBatchResponse {
        batch_hash: admitted.batch_hash.0.to_vec(),
        known: admitted.known != Known::New,
        receipts,
    })
}

async fn decision(
    core: &Core,
    admitted: &Admitted,
    waiter: &mut Waiter,
    deadline: Deadline,
) -> Result<Arc<BatchReceipts>, Status> {
    let head = core.feed.head();
    let hash = admitted.batch_hash;
    if let Known::OnChain { height } = admitted.known
        && height <= head.borrow().height
    {
        // Executed before, perhaps long before the waiter was there.
        let found = ledger::read(&core.reader, move |reader| Ok(find_batch(reader, height, &hash)?)).await?;
        if let Some(found) = found {
            return Ok(Arc::new(found));
        }
    }
    let deadline = deadline.at_most(core.limits.longest_wait);
    loop {
        let head_time_ms = head.borrow().time_ms;
        tokio::select! {
            biased;
            receipts = waiter.receipts() => return Ok(receipts),
            () = core.stopping.cancelled() => {
                let text = "the node is stopping; the batch may still be decided: ask GetOperation or send it again";
                return Err(about_batch(Reason::ShuttingDown, text, &hash));
            }
            () = deadline.passed() => return Err(still_pending(&hash)),
            // Every block that could hold the batch is executed, and receipts are told before the head: it never will be.
            () = std::future::ready(()), if head_time_ms >= admitted.expires_at_ms => {
                return waiter.try_receipts().ok_or_else(|| reject_status(Reject::BatchExpired));
            }
            () = tokio::time::sleep(EXPIRY_LOOK) => {}
        }
    }
}

/// Waits until a height is final.
async fn finality(core: &Core, height: u64, hash: &Hash32, deadline: Deadline) -> Result<(), Status> {
    let mut final_height = core.final_height.clone();
    tokio::select! {
        biased;
        // The sender lives as long as the node; if it is gone, the node is stopping.
        reached = final_height.wait_for(|it| *it >= height) => match reached {
            Ok(_) => Ok(()),
            Err(_) => Err(about_batch(Reason::ShuttingDown, "the node is stopping; the batch is decided, but not final yet", hash)),
        },
        () = core.stopping.cancelled() => {
            Err(about_batch(Reason::ShuttingDown, "the node is stopping; the batch is decided, but not final yet", hash))
        }
        () = deadline.at_most(core.limits.longest_wait).passed() => {
            let text = "decided, but not final before the deadline; send the same bytes again";
            Err(about_batch(Reason::StillPending, text, hash))
        }
    }
}

/// The receipts of a batch in the executed block at `height`.
fn find_batch(reader: &Reader, height: u64, hash: &Hash32) -> Result<Option<BatchReceipts>, anji_storage::ReadError> {
    let Some(before) = height.checked_sub(1) else { return Ok(None) };
    let (Some(before), Some(block)) = (reader.block_record(before)?, reader.block_record(height)?) else {
        return Ok(None);
    };
    let mut seq = before.n_batches_total;
    while seq < block.n_batches_total {
        let batches = reader.receipts_from(seq, CHUNK)?;
        let Some(last) = batches.last().map(|batch| batch.seq) else { return Ok(None) };
        if let Some(found) = batches.into_iter().find(|batch| batch.batch_hash == *hash) {
            return Ok(Some(found));
        }
        seq = last.saturating_add(1);
    }
    Ok(None)
}

/// The answer when the deadline passes before a decision.
pub(crate) fn still_pending(hash: &Hash32) -> Status {
    let text = "not decided before the deadline; ask GetOperation, or send the same bytes again";
    about_batch(Reason::StillPending, text, hash)
}

fn about_batch(reason: Reason, text: &str, hash: &Hash32) -> Status {
    reason.status_with(text, [("batch_hash", hash.to_string().as_str())])
}

/// The hash of a batch's bytes.
pub(crate) fn batch_hash(bytes: &[u8]) -> Hash32 {
    codec::hash(Domain::Batch, bytes)
}

fn mempool_status(error: &MempoolError) -> Status {
    match error {
        MempoolError::Reject(reject) => reject_status(*reject),
        MempoolError::Full { retry_after, .. } => Reason::MempoolFull.status_retry(error.to_string(), *retry_after),
        MempoolError::Stopping => Reason::ShuttingDown.status("the node is stopping"),
    }
}

/// Serves a stream of batches: admitted in the order they come, answered as they are known.
pub(crate) async fn run_stream(
    core: Arc<Core>,
    caller: Arc<Caller>,
    requests: Streaming<v1::SubmitBatchesRequest>,
    deadline: Deadline,
    outlet: Outlet<v1::SubmitBatchesResponse>,
) {
    // The outlet knows why it is over; whoever reads from the other end is told.
    let _ = take_batches(core, &caller, requests, deadline, Arc::new(outlet)).await;
}

async fn take_batches(
    core: Arc<Core>,
    caller: &Caller,
    mut requests: Streaming<v1::SubmitBatchesRequest>,
    deadline: Deadline,
    outlet: Arc<Outlet<v1::SubmitBatchesResponse>>,
) -> Result<(), Closed> {
    let places = Arc::new(Semaphore::new(core.limits.undecided_per_stream.clamp(1, Semaphore::MAX_PERMITS)));
    loop {
        // Without a free place nothing is read: the caller's side fills up and pauses.
        let Ok(place) = outlet.or_over(places.clone().acquire_owned()).await? else { return Ok(()) };
        let first = outlet.or_over(requests.message()).await?;
        let (mut group, mut end) = (Vec::new(), None);
        let (mut place, mut next) = (Some(place), Some(first));
        // What is there already is handed in together.
        while let (Some(taken), Some(message)) = (place.take(), next.take()) {
            match message {
                Ok(Some(request)) => group.push((request, taken)),
                // The caller has sent all; what is under way is still answered.
                Ok(None) => end = Some(Ok(())),
                Err(status) => end = Some(Err(status)),
            }
            if end.is_none() && group.len() < HANDED_IN_TOGETHER {
                place = places.clone().try_acquire_owned().ok();
            }
            if place.is_some() {
                next = tokio::select! {
                    biased;
                    message = requests.message() => Some(message),
                    () = std::future::ready(()) => None,
                };
            }
        }
        let (tickets, batches): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|(v1::SubmitBatchesRequest { tag, signed_batch, wait }, place)| ((tag, place), (signed_batch, wait)))
            .unzip();
        let submitted = outlet.or_over(admit_all(&core, caller, batches)).await?;
        for ((tag, place), submitted) in tickets.into_iter().zip(submitted) {
            let (core, outlet) = (core.clone(), outlet.clone());
            tokio::spawn(async move {
                let result = match submitted {
                    Ok(submitted) => answer(&core, submitted, deadline).await,
                    Err(status) => Err(status),
                };
                let answer = match result {
                    Ok(response) => Answer::Accepted(response),
                    Err(status) => Answer::Error(stream_error(&status)),
                };
                // An error means that the stream is over; nobody is left to be told.
                let _ = outlet.send(v1::SubmitBatchesResponse { tag, answer: Some(answer) }).await;
                drop(place);
            });
        }
        match end {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(status)) => {
                outlet.close(status);
                return Ok(());
            }
        }
    }
}
