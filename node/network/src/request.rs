//! One request, one answer, one short substream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::AsyncWriteExt;
use libp2p::{PeerId, Stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

use crate::Limits;
use crate::driver::{Report, Violation};
use crate::error::RequestError;
use crate::frame::{FrameError, FrameWriter, read_frame};
use crate::peer::Peer;

/// A peer asks something.
#[derive(Debug)]
pub struct Request {
    /// Who asks; proven by the handshake.
    pub from: PeerId,
    /// What it asks.
    pub bytes: Bytes,
    /// Takes the answer.
    pub responder: Responder,
}

/// Answers one request. Dropping it closes the substream, which the peer sees as [`RequestError::Refused`].
#[derive(Debug)]
pub struct Responder(oneshot::Sender<Bytes>);

impl Responder {
    /// Sends the answer; false when nobody waits for it any more.
    pub fn answer(self, bytes: Bytes) -> bool {
        self.0.send(bytes).is_ok()
    }

    /// Whether nobody waits for the answer any more, so that work on it can stop.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// How a served request ended, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    Answered,
    Unanswered,
    TimedOut,
    Lost,
}

impl Served {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unanswered => "unanswered",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
        }
    }
}

/// Reads a request, waits for the application's answer, writes it. The slot is held until all of that is over.
pub(crate) async fn serve(
    mut stream: Stream,
    peer: Arc<Peer>,
    limits: Arc<Limits>,
    requests: mpsc::Sender<Request>,
    _slot: OwnedSemaphorePermit,
) -> Result<Served, Report> {
    let bytes = match timeout(limits.serve_timeout, read_frame(&mut stream, limits.request_bytes)).await {
        Err(_) => return Ok(Served::TimedOut),
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None) | Err(FrameError::Io(_))) => return Ok(Served::Lost),
        Ok(Err(FrameError::TooLarge { size_bytes, limit_bytes })) => {
            return Err(Report::Violation {
                peer: peer.id,
                violation: Violation::FrameTooLarge { what: "request", size_bytes, limit_bytes },
            });
        }
    };
    let answer = timeout(limits.serve_timeout, ask_application(peer.id, bytes, &requests)).await;
    let bytes = match answer {
        Err(_) => return Ok(Served::TimedOut),
        Ok(None) => {
            let _ = stream.close().await;
            return Ok(Served::Unanswered);
        }
        Ok(Some(bytes)) => bytes,
    };
    if bytes.len() > limits.answer_bytes {
        tracing::error!(
            peer = %peer.name, size_bytes = bytes.len(), limit_bytes = limits.answer_bytes,
            "our answer is larger than an answer may be, the request stays unanswered"
        );
        return Ok(Served::Unanswered);
    }
    let write = async {
        let mut writer = FrameWriter::new(stream);
        writer.write(&bytes).await?;
        writer.close().await
    };
    Ok(match timeout(limits.serve_timeout, write).await {
        Err(_) => Served::TimedOut,
        Ok(Err(_)) => Served::Lost,
        Ok(Ok(_)) => Served::Answered,
    })
}

async fn ask_application(from: PeerId, bytes: Bytes, requests: &mpsc::Sender<Request>) -> Option<Bytes> {
    let (reply, answer) = oneshot::channel();
    requests.send(Request { from, bytes, responder: Responder(reply) }).await.ok()?;
    answer.await.ok()
}

/// Writes our request and reads the answer; the caller bounds the time.
///
/// # Errors
/// `AnswerTooLarge` asks the caller to report the peer.
pub(crate) async fn ask(stream: Stream, request: &[u8], answer_bytes: usize) -> Result<Bytes, RequestError> {
    let lost = |error: std::io::Error| RequestError::ConnectionLost(error.to_string());
    let mut writer = FrameWriter::new(stream);
    writer.write(request).await.map_err(lost)?;
    let mut stream = writer.close().await.map_err(lost)?;
    match read_frame(&mut stream, answer_bytes).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(RequestError::Refused),
        Err(FrameError::Io(error)) => Err(lost(error)),
        Err(FrameError::TooLarge { size_bytes, limit_bytes }) => {
            Err(RequestError::AnswerTooLarge { size_bytes, limit_bytes })
        }
    }
}

/// How long a caller may wait at all: what it said, at most a day, so that no addition overflows.
pub(crate) fn bounded(wait: Duration) -> Duration {
    wait.min(Duration::from_secs(24 * 60 * 60))
}
