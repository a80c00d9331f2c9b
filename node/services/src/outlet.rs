//! The sending end of a stream: bounded, and honest when it ends. A receiver that takes nothing for a while is cut off; what was
//! queued before is still delivered, then the status that says why.

use crate::callers::Caller;
use crate::deadline::{Deadline, passed_status};
use crate::metrics::{Held, Metrics};
use anji_wire::Reason;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages that wait for the receiver, beside what HTTP/2 holds.
const QUEUE: usize = 4;

/// Makes a stream's two ends. The caller's place for the stream is held until the receiving end is dropped.
///
/// # Errors
/// TOO_MANY_STREAMS.
pub(crate) fn open<T>(
    caller: &Caller,
    method: &'static str,
    deadline: Deadline,
    slow_after: Duration,
    stopping: &CancellationToken,
    metrics: &Metrics,
) -> Result<(Outlet<T>, Inlet<T>), Status> {
    let place = caller.open_stream().ok_or_else(|| {
        metrics.on_refused(Reason::TooManyStreams);
        Reason::TooManyStreams.status("this caller has too many streams open; close one first")
    })?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let end = Arc::new(OnceLock::new());
    let outlet =
        Outlet { sender, end: end.clone(), deadline, slow_after, stopping: stopping.clone(), metrics: metrics.clone() };
    Ok((outlet, Inlet { receiver, end, told: false, _place: place, _open: metrics.stream(method) }))
}

/// The end that the node writes to.
pub(crate) struct Outlet<T> {
    sender: mpsc::Sender<T>,
    end: Arc<OnceLock<Status>>,
    deadline: Deadline,
    slow_after: Duration,
    stopping: CancellationToken,
    metrics: Metrics,
}

/// The stream is over; whoever writes to it stops.
#[derive(Debug)]
pub(crate) struct Closed;

impl<T> Outlet<T> {
    /// Queues a message; waits for room as long as the receiver takes something now and then.
    ///
    /// # Errors
    /// The stream is over, by the receiver or by us.
    pub(crate) async fn send(&self, message: T) -> Result<(), Closed> {
        let sent = self.or_over(tokio::time::timeout(self.slow_after, self.sender.send(message))).await?;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Closed),
            Err(_) => {
                self.metrics.slow_receivers.inc();
                self.close(Reason::SlowReceiver.status("the receiver did not keep up; resume from the last sequence"));
                Err(Closed)
            }
        }
    }

    /// Waits for something unless the stream is over before.
    ///
    /// # Errors
    /// The stream is over: the receiver hung up, its deadline passed, or the node is stopping.
    pub(crate) async fn or_over<O>(&self, something: impl Future<Output = O>) -> Result<O, Closed> {
        tokio::select! {
            biased;
            () = self.sender.closed() => Err(Closed),
            () = self.stopping.cancelled() => {
                self.close(Reason::ShuttingDown.status("the node is stopping; resume later or elsewhere"));
                Err(Closed)
            }
            () = self.deadline.passed() => {
                self.close(passed_status());
                Err(Closed)
            }
            output = something => Ok(output),
        }
    }

    /// Ends the stream with this status, after what is queued. The first one stands.
    pub(crate) fn close(&self, status: Status) {
        let _ = self.end.set(status);
    }
}

/// The end that tonic reads from.
pub(crate) struct Inlet<T> {
    receiver: mpsc::Receiver<T>,
    end: Arc<OnceLock<Status>>,
    told: bool,
    _place: OwnedSemaphorePermit,
    _open: Held,
}

impl<T> Stream for Inlet<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.receiver.poll_recv(context) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            // The writer is gone; tell why, once.
            Poll::Ready(None) => {
                let end = if self.told { None } else { self.end.get().cloned() };
                self.told = true;
                Poll::Ready(end.map(Err))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::{CallerSpec, Callers};
    use anji_contracts::types::ParticipantId;
    use tokio_stream::StreamExt;

    fn caller() -> Arc<Caller> {
        let token_blake3 = *blake3::hash(b"t").as_bytes();
        let spec =
            CallerSpec { name: "c".into(), token_blake3, participant: ParticipantId(1), wallet: true, operator: true };
        let limits = crate::Limits { streams_per_caller: 1, ..crate::Limits::default() };
        Callers::new(vec![spec], &limits).expect("good").find(b"t").expect("known")
    }

    fn ends(stopping: &CancellationToken) -> (Outlet<u32>, Inlet<u32>) {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let none = Deadline::of(&tonic::metadata::MetadataMap::new());
        open(&caller(), "M", none, Duration::from_millis(200), stopping, &metrics).expect("one is free")
    }

    #[tokio::test]
    async fn a_slow_receiver_gets_what_was_queued_and_then_the_reason() {
        let (outlet, mut inlet) = ends(&CancellationToken::new());
        let mut sent = 0;
        while outlet.send(sent).await.is_ok() {
            sent += 1;
        }
        drop(outlet);
        assert_eq!(sent, 4);
        for expected in 0..4 {
            assert_eq!(inlet.next().await.expect("queued").expect("queued"), expected);
        }
        let status = inlet.next().await.expect("a reason").expect_err("a reason");
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(inlet.next().await.is_none());
    }

    #[tokio::test]
    async fn stopping_and_hanging_up_end_the_stream() {
        let stopping = CancellationToken::new();
        let (outlet, mut inlet) = ends(&stopping);
        stopping.cancel();
        assert!(outlet.or_over(std::future::pending::<()>()).await.is_err());
        drop(outlet);
        assert_eq!(inlet.next().await.expect("a reason").expect_err("a reason").code(), tonic::Code::Unavailable);

        let (outlet, inlet) = ends(&CancellationToken::new());
        drop(inlet);
        assert!(outlet.or_over(std::future::pending::<()>()).await.is_err());
        assert!(outlet.send(1).await.is_err());
    }

    #[test]
    fn a_caller_has_so_many_streams() {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let (caller, stopping) = (caller(), CancellationToken::new());
        let none = Deadline::of(&tonic::metadata::MetadataMap::new());
        let open = || open::<u32>(&caller, "M", none, Duration::from_secs(5), &stopping, &metrics);
        let first = open().expect("one is free");
        assert_eq!(open().err().map(|status| status.code()), Some(tonic::Code::ResourceExhausted));
        drop(first);
        assert!(open().is_ok());
    }
}
