//! What the rest of the node holds: sends, asks, looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::behaviour::OpenError;
use crate::driver::{Command, Report, Violation};
use crate::error::RequestError;
use crate::metrics::{Metrics, labels};
use crate::peer::{Peer, PeerStatus};
use crate::request::{ask, bounded};
use crate::{Channel, Limits};

/// Cheap to clone. The network ends when the last one is dropped, or by [`NetworkHandle::shutdown`].
#[derive(Clone)]
pub struct NetworkHandle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    reports: mpsc::Sender<Report>,
}

/// What the handles and the driver both see.
pub(crate) struct Shared {
    pub(crate) local: PeerId,
    /// In the order of the configuration.
    pub(crate) peers: Vec<Arc<Peer>>,
    pub(crate) by_id: HashMap<PeerId, Arc<Peer>>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Metrics,
    pub(crate) listen_addrs: Mutex<Vec<Multiaddr>>,
}

impl NetworkHandle {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Sender<Command>, reports: mpsc::Sender<Report>) -> Self {
        Self { shared, commands, reports }
    }

    /// Our own peer id.
    pub fn local_peer(&self) -> PeerId {
        self.shared.local
    }

    /// Queues a frame for every connected peer and says how many took it. Never blocks; see the crate's head for full queues.
    pub fn broadcast(&self, channel: Channel, bytes: Bytes) -> usize {
        if !self.fits(channel, &bytes) {
            return 0;
        }
        self.shared.peers.iter().filter(|peer| peer.send(channel, bytes.clone())).count()
    }

    /// Queues a frame for one peer; false when it is not connected, or its `Batches` queue is full. Never blocks.
    pub fn send(&self, peer: PeerId, channel: Channel, bytes: Bytes) -> bool {
        self.fits(channel, &bytes) && self.shared.by_id.get(&peer).is_some_and(|peer| peer.send(channel, bytes))
    }

    /// Asks a connected peer and waits for its answer. Dropping the future closes the substream.
    ///
    /// # Errors
    /// See [`RequestError`]; none of them says that the peer did not act on the request, except `NotConnected` and `TooLarge`.
    pub async fn request(&self, peer: PeerId, bytes: Bytes, wait: Duration) -> Result<Bytes, RequestError> {
        let asked_at = Instant::now();
        let known = self.shared.by_id.get(&peer).ok_or(RequestError::NotConnected(peer))?;
        let result = match timeout(bounded(wait), self.request_unbounded(known, bytes)).await {
            Ok(result) => result,
            Err(_) => Err(RequestError::Timeout),
        };
        let metrics = &self.shared.metrics;
        metrics.requests.get_or_create(&labels(&known.name, "result", result_name(&result))).inc();
        if result.is_ok() {
            metrics.request_seconds.observe(asked_at.elapsed().as_secs_f64());
        }
        result
    }

    async fn request_unbounded(&self, peer: &Peer, bytes: Bytes) -> Result<Bytes, RequestError> {
        let limits = &self.shared.limits;
        if bytes.len() > limits.request_bytes {
            return Err(RequestError::TooLarge { size_bytes: bytes.len(), limit_bytes: limits.request_bytes });
        }
        let not_connected = || RequestError::NotConnected(peer.id);
        let _slot = peer.asking.acquire().await.map_err(|_| not_connected())?;
        let (reply, opened) = futures::channel::oneshot::channel();
        self.commands.send(Command::OpenRequest { peer: peer.id, reply }).await.map_err(|_| not_connected())?;
        let stream = match opened.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error @ (OpenError::Unsupported | OpenError::Timeout | OpenError::Io(_)))) => {
                return Err(RequestError::ConnectionLost(error.to_string()));
            }
            // Dropped unanswered: there is no connection to ask on, or it went while the substream was negotiated.
            Err(_) => return Err(not_connected()),
        };
        let result = ask(stream, &bytes, limits.answer_bytes).await;
        if let Err(RequestError::AnswerTooLarge { size_bytes, limit_bytes }) = result {
            let violation = Violation::FrameTooLarge { what: "answer", size_bytes, limit_bytes };
            // Fails only when the network has ended, and then the peer is cut off already.
            let _ = self.reports.send(Report::Violation { peer: peer.id, violation }).await;
        }
        result
    }

    /// Every configured peer as it stands, in the order of the configuration.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.shared.peers.iter().map(|peer| peer.status()).collect()
    }

    /// The addresses we listen on; with the port the system chose.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.shared.listen_addrs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes every connection and the port, and waits for that. Queued frames are dropped.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            // An error means that the driver has ended already, which is what was asked for.
            let _ = ended.await;
        }
    }

    fn fits(&self, channel: Channel, bytes: &Bytes) -> bool {
        let limit_bytes = self.shared.limits.channel(channel).frame_bytes;
        let fits = bytes.len() <= limit_bytes;
        if !fits {
            let channel = channel.name();
            tracing::error!(channel, size_bytes = bytes.len(), limit_bytes, "our own frame is too large, not sent");
        }
        fits
    }
}

fn result_name(result: &Result<Bytes, RequestError>) -> &'static str {
    match result {
        Ok(_) => "answered",
        Err(RequestError::NotConnected(_)) => "not_connected",
        Err(RequestError::TooLarge { .. }) => "too_large",
        Err(RequestError::Timeout) => "timed_out",
        Err(RequestError::Refused) => "refused",
        Err(RequestError::ConnectionLost(_)) => "lost",
        Err(RequestError::AnswerTooLarge { .. }) => "answer_too_large",
    }
}
