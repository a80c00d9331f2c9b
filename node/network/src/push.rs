//! What runs on a push substream: a writer that empties the peer's queue, a reader that fills the application's receiver.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::{PeerId, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Channel;
use crate::driver::{Report, Violation};
use crate::frame::{FrameError, FrameWriter, read_frame};
use crate::peer::Peer;

/// A frame from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it; proven by the handshake.
    pub from: PeerId,
    /// What it sent.
    pub bytes: Bytes,
}

/// Sends what is queued until `retired`; then everything taken from the queue has been flushed and the substream closed.
///
/// # Errors
/// When the connection or the other side's reader is gone.
pub(crate) async fn write_frames(
    stream: Stream,
    peer: Arc<Peer>,
    channel: Channel,
    retired: CancellationToken,
) -> io::Result<()> {
    let lane = peer.lane(channel);
    let mut writer = FrameWriter::new(stream);
    // Dropping `pop` loses nothing, so it may race; a frame once taken is written outside the race.
    while let Some(first) = retired.run_until_cancelled(lane.queue.pop()).await {
        let mut next = Some(first);
        while let Some(frame) = next {
            writer.write(&frame).await?;
            lane.on_sent(frame.len());
            next = if retired.is_cancelled() { None } else { lane.queue.try_pop() };
        }
        writer.flush().await?;
    }
    writer.close().await.map(drop)
}

/// Receives until the peer closes the substream. While the application does not drain `inbox`, nothing is read.
pub(crate) async fn read_frames(
    mut stream: Stream,
    peer: Arc<Peer>,
    channel: Channel,
    limit_bytes: usize,
    inbox: mpsc::Sender<Message>,
) -> Option<Report> {
    let lane = peer.lane(channel);
    loop {
        match read_frame(&mut stream, limit_bytes).await {
            Ok(Some(bytes)) => {
                lane.on_received(bytes.len());
                // An error means that the application has dropped this receiver: it wants nothing of the channel.
                let _ = inbox.send(Message { from: peer.id, bytes }).await;
            }
            Ok(None) => return None,
            Err(FrameError::Io(error)) => {
                tracing::debug!(peer = %peer.name, channel = channel.name(), %error, "push substream ended");
                return None;
            }
            Err(FrameError::TooLarge { size_bytes, limit_bytes }) => {
                return Some(Report::Violation {
                    peer: peer.id,
                    violation: Violation::FrameTooLarge { what: channel.name(), size_bytes, limit_bytes },
                });
            }
        }
    }
}
