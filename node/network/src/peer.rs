//! What is shared about one admitted peer: its queues, its request slots, its figures.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;

use crate::channel::N_CHANNELS;
use crate::metrics::{Metrics, labels, peer_label};
use crate::queue::SendQueue;
use crate::{Channel, Limits, PeerConfig};

/// An admitted peer as it stands.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// Who it is.
    pub peer_id: PeerId,
    /// The operator's name for it.
    pub name: String,
    /// Since when all push substreams to it are open; `None` while they are not.
    pub connected_since: Option<SystemTime>,
    /// The last ping round trip of this connection.
    pub rtt: Option<Duration>,
    /// Per channel, in the order of [`Channel::ALL`], since the node started.
    pub traffic: [ChannelTraffic; N_CHANNELS],
}

impl PeerStatus {
    /// Whether all push substreams to it are open.
    pub fn is_connected(&self) -> bool {
        self.connected_since.is_some()
    }
}

/// Frames and bytes of one peer on one channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelTraffic {
    /// Frames handed to a connection.
    pub sent_frames: u64,
    /// Their bytes, length prefixes not counted.
    pub sent_bytes: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames lost to a full queue or a lost connection.
    pub dropped_frames: u64,
    /// Bytes waiting now.
    pub queued_bytes: usize,
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) name: String,
    pub(crate) addrs: Vec<Multiaddr>,
    /// Slots for serving its requests.
    pub(crate) serving: Arc<Semaphore>,
    /// Slots for asking it.
    pub(crate) asking: Semaphore,
    lanes: [Lane; N_CHANNELS],
    link: Mutex<LinkFigures>,
}

/// One channel to and from the peer.
pub(crate) struct Lane {
    pub(crate) queue: SendQueue,
    sent_frames: Counter,
    sent_bytes: Counter,
    received_frames: Counter,
    received_bytes: Counter,
    dropped_frames: Counter,
}

#[derive(Default)]
struct LinkFigures {
    connected_since: Option<SystemTime>,
    rtt: Option<Duration>,
}

impl Peer {
    pub(crate) fn new(config: PeerConfig, limits: &Limits, metrics: &Metrics) -> Self {
        let lanes = Channel::ALL.map(|channel| {
            let labels = labels(&config.name, "channel", channel.name());
            Lane {
                queue: SendQueue::new(channel, limits.channel(channel)),
                sent_frames: metrics.sent_frames.get_or_create(&labels).clone(),
                sent_bytes: metrics.sent_bytes.get_or_create(&labels).clone(),
                received_frames: metrics.received_frames.get_or_create(&labels).clone(),
                received_bytes: metrics.received_bytes.get_or_create(&labels).clone(),
                dropped_frames: metrics.dropped_frames.get_or_create(&labels).clone(),
            }
        });
        // Present from the start, so that an alert on it can tell zero from unknown.
        let _ = metrics.failed_dials.get_or_create(&peer_label(&config.name));
        Self {
            id: config.peer_id,
            name: config.name,
            addrs: config.addrs,
            serving: Arc::new(Semaphore::new(limits.inbound_requests_per_peer)),
            asking: Semaphore::new(limits.outbound_requests_per_peer),
            lanes,
            link: Mutex::default(),
        }
    }

    pub(crate) fn lane(&self, channel: Channel) -> &Lane {
        &self.lanes[channel.index()]
    }

    /// Queues a frame; false when the peer is not connected or the queue refuses.
    pub(crate) fn send(&self, channel: Channel, frame: Bytes) -> bool {
        let lane = self.lane(channel);
        let pushed = lane.queue.push(frame);
        lane.dropped_frames.inc_by(pushed.n_dropped);
        pushed.accepted
    }

    pub(crate) fn on_connected(&self) {
        self.link().connected_since = Some(SystemTime::now());
        for lane in &self.lanes {
            lane.queue.open();
        }
    }

    pub(crate) fn on_disconnected(&self) {
        *self.link() = LinkFigures::default();
        for lane in &self.lanes {
            lane.dropped_frames.inc_by(lane.queue.close());
        }
    }

    pub(crate) fn on_rtt(&self, rtt: Duration) {
        self.link().rtt = Some(rtt);
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let (connected_since, rtt) = {
            let link = self.link();
            (link.connected_since, link.rtt)
        };
        PeerStatus {
            peer_id: self.id,
            name: self.name.clone(),
            connected_since,
            rtt,
            traffic: Channel::ALL.map(|channel| self.lane(channel).traffic()),
        }
    }

    fn link(&self) -> MutexGuard<'_, LinkFigures> {
        // Two plain fields: whole whatever happened to the last holder.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    pub(crate) fn on_sent(&self, size_bytes: usize) {
        self.sent_frames.inc();
        self.sent_bytes.inc_by(size_bytes as u64);
    }

    pub(crate) fn on_received(&self, size_bytes: usize) {
        self.received_frames.inc();
        self.received_bytes.inc_by(size_bytes as u64);
    }

    fn traffic(&self) -> ChannelTraffic {
        ChannelTraffic {
            sent_frames: self.sent_frames.get(),
            sent_bytes: self.sent_bytes.get(),
            received_frames: self.received_frames.get(),
            received_bytes: self.received_bytes.get(),
            dropped_frames: self.dropped_frames.get(),
            queued_bytes: self.queue.size_bytes(),
        }
    }
}
