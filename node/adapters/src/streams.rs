//! What the adapter streams to its callers: work that waits for them, and every change that concerns the participant. A caller that
//! does not keep up is cut off and resumes where it was; nothing is buffered for it beyond a small bound.

use crate::engine::lock;
use crate::follow::{Patience, SILENCE};
use crate::node::to_caller;
use crate::service::Service;
use crate::work::Kind;
use anji_contracts::types::OpId;
use anji_proto::v1;
use anji_wire::Reason;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// A stream to a caller.
pub(crate) type Out<T> = ReceiverStream<Result<T, Status>>;

/// Items on their way to one caller.
const BUFFER: usize = 64;
/// A caller that takes nothing for this long is cut off.
const PATIENCE: Duration = Duration::from_secs(10);
/// Items of work looked at in one go.
const PAGE: usize = 256;

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// Hands one item on; `false` once the caller is gone or was cut off.
async fn send<T>(out: &Sender<T>, item: T) -> bool {
    match tokio::time::timeout(PATIENCE, out.send(Ok(item))).await {
        Ok(sent) => sent.is_ok(),
        Err(_) => {
            let status =
                Reason::SlowReceiver.status("the receiver does not keep up; resume after the last item received");
            // The buffer is full; the end waits for room like everything else, but not for ever.
            let _ = tokio::time::timeout(PATIENCE, out.send(Err(status))).await;
            false
        }
    }
}

fn stopping() -> Status {
    Reason::ShuttingDown.status("the adapter is stopping; resume later")
}

/// Open items first, then new ones as they come.
pub(crate) fn work(service: Service, place: OwnedSemaphorePermit) -> Out<v1::WorkItem> {
    let (out, stream) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        let _place = place;
        let mut news = service.work.watch();
        let mut from = 0;
        loop {
            news.borrow_and_update();
            loop {
                let page = service.work.open_from(from, PAGE);
                let Some((last, _)) = page.last() else { break };
                let after = last.saturating_add(1);
                for (index, item) in page {
                    match load(&service, index, item).await {
                        Ok(Some(item)) => {
                            if !send(&out, item).await {
                                return;
                            }
                        }
                        Ok(None) => {}
                        Err(status) => {
                            let _ = out.send(Err(to_caller(status))).await;
                            return;
                        }
                    }
                }
                from = after;
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = out.closed() => return,
                () = service.stop.cancelled() => {
                    let _ = out.send(Err(stopping())).await;
                    return;
                }
            }
        }
    });
    ReceiverStream::new(stream)
}

/// The item's state now; `None` if it no longer waits.
async fn load(service: &Service, seq: u64, item: crate::work::Item) -> Result<Option<v1::WorkItem>, Status> {
    let id = Some(item.id());
    let nodes = &service.nodes;
    let work = match item.kind {
        Kind::Mandate => {
            let message = v1::GetMandateRequest { mandate: id };
            let answer =
                nodes.call(message, |mut client, request| async move { client.get_mandate(request).await }).await?;
            let waiting = answer.mandate.filter(|it| it.status() == v1::MandateStatus::Proposed);
            waiting.map(v1::work_item::Work::Mandate)
        }
        Kind::Payment => {
            let message = v1::GetPaymentRequest { payment: id };
            let answer =
                nodes.call(message, |mut client, request| async move { client.get_payment(request).await }).await?;
            let waiting = answer.payment.filter(|it| it.status() == v1::PaymentStatus::Requested);
            waiting.map(v1::work_item::Work::Payment)
        }
        Kind::Refund => {
            let message = v1::GetRefundRequest { refund: id };
            let answer =
                nodes.call(message, |mut client, request| async move { client.get_refund(request).await }).await?;
            let waiting = answer.refund.filter(|it| it.status() == v1::RefundStatus::Accepted);
            waiting.map(v1::work_item::Work::Refund)
        }
    };
    Ok(work.map(|work| v1::WorkItem { seq, work: Some(work) }))
}

/// Every change of a mandate, payment, refund or window that the participant may see.
pub(crate) fn results(service: Service, place: OwnedSemaphorePermit, from_seq: u64) -> Out<v1::ResultItem> {
    let (out, stream) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        let _place = place;
        let mut next = from_seq;
        let mut patience = Patience::default();
        loop {
            let ended = tokio::select! {
                ended = results_once(&service, &out, &mut next, &mut patience) => ended,
                () = out.closed() => return,
                () = service.stop.cancelled() => Some(stopping()),
            };
            if let Some(status) = ended {
                let _ = out.send(Err(status)).await;
                return;
            }
            if out.is_closed() {
                return;
            }
            patience.wait().await;
        }
    });
    ReceiverStream::new(stream)
}

/// Reads until the node's stream breaks (`None`: try again) or there is no point in going on.
async fn results_once(
    service: &Service,
    out: &Sender<v1::ResultItem>,
    next: &mut u64,
    patience: &mut Patience,
) -> Option<Status> {
    let kinds = [v1::EntityKind::Mandate, v1::EntityKind::Payment, v1::EntityKind::Refund, v1::EntityKind::Window];
    let message = v1::StreamChangesRequest { from_index: *next, kinds: kinds.into_iter().map(i32::from).collect() };
    let nodes = &service.nodes;
    let opened = nodes.open(message, |mut client, request| async move { client.stream_changes(request).await }).await;
    let (node, mut stream) = match opened {
        Ok(opened) => opened,
        Err(status) => return hopeless(status),
    };
    loop {
        let item = match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(item))) => item.item,
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => {
                nodes.stream_failed(node, &status);
                return hopeless(status);
            }
            Err(_) => {
                nodes.stream_failed(node, &Status::unavailable("the node fell silent"));
                return None;
            }
        };
        patience.reset();
        match item {
            Some(v1::stream_changes_response::Item::Change(change)) => {
                let index = change.index;
                if let Some(result) = result_of(service, change)
                    && !send(out, result).await
                {
                    return None;
                }
                *next = index.saturating_add(1);
            }
            Some(v1::stream_changes_response::Item::NextIndex(index)) => *next = (*next).max(index),
            None => {}
        }
    }
}

/// Trouble that trying again does not mend.
fn hopeless(status: Status) -> Option<Status> {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::PermissionDenied | Code::OutOfRange | Code::FailedPrecondition
    )
    .then_some(status)
}

fn result_of(service: &Service, change: v1::Change) -> Option<v1::ResultItem> {
    let state = match change.state? {
        v1::change::State::Mandate(it) => v1::result_item::State::Mandate(it),
        v1::change::State::Payment(it) => v1::result_item::State::Payment(it),
        v1::change::State::Refund(it) => v1::result_item::State::Refund(it),
        v1::change::State::Window(it) => v1::result_item::State::Window(it),
        v1::change::State::Position(_) | v1::change::State::Participant(_) | v1::change::State::Schedule(_) => {
            return None;
        }
    };
    let own = change.cause.as_ref().filter(|it| it.participant == service.shared.participant.0);
    let op_id =
        own.and_then(|it| <[u8; 16]>::try_from(it.op_id.as_slice()).ok()).map(|it| OpId(u128::from_be_bytes(it)));
    let request_id = op_id.and_then(|op_id| lock(&service.index).request_of(op_id));
    Some(v1::ResultItem {
        seq: change.index,
        cause: change.cause,
        request_id: request_id.map(|it| String::from(&*it)).unwrap_or_default(),
        state: Some(state),
    })
}
