//! What the caller decides: address, peers, chain, identity, limits.

use std::fmt;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use crate::Channel;

/// Everything a node needs to join its peers.
#[derive(Clone)]
pub struct Config {
    /// The one address to listen on; port 0 lets the system choose.
    pub listen: Multiaddr,
    /// The peers admitted, and dialled when they have an address. Nobody else gets past the handshake.
    pub peers: Vec<PeerConfig>,
    /// The chain, in hex; part of every protocol name.
    pub chain_id_hex: String,
    /// The ed25519 seed behind our peer id. Never logged.
    pub identity_seed: [u8; 32],
    /// Bounds of queues, frames and time.
    pub limits: Limits,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .field("chain_id_hex", &self.chain_id_hex)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// One admitted peer.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Who it must prove to be.
    pub peer_id: PeerId,
    /// The operator's name for it, in logs and metrics.
    pub name: String,
    /// Where to dial it, `/ip4/../tcp/..` or `/dns4/../tcp/..`; empty for a peer that dials us.
    pub addrs: Vec<Multiaddr>,
}

/// Bounds of one push channel.
#[derive(Debug, Clone, Copy)]
pub struct ChannelLimits {
    /// The largest frame, sent or received.
    pub frame_bytes: usize,
    /// Frames waiting for one peer.
    pub queue_frames: usize,
    /// Bytes waiting for one peer.
    pub queue_bytes: usize,
    /// Frames received from all peers that the application has not taken yet.
    pub inbox_frames: usize,
}

/// Every bound there is. All nodes of a network should use the same frame, request and answer sizes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bounds of [`Channel::Consensus`].
    pub consensus: ChannelLimits,
    /// Bounds of [`Channel::Batches`].
    pub batches: ChannelLimits,
    /// Bounds of [`Channel::Control`].
    pub control: ChannelLimits,
    /// Bounds of [`Channel::Checkpoints`].
    pub checkpoints: ChannelLimits,
    /// The largest request.
    pub request_bytes: usize,
    /// The largest answer.
    pub answer_bytes: usize,
    /// Requests of one peer that we serve at a time; more are refused unread.
    pub inbound_requests_per_peer: usize,
    /// Our own requests to one peer at a time; more wait within their time-out. Keep it below the peers'
    /// `inbound_requests_per_peer`: a slot there is free a moment after the answer is here.
    pub outbound_requests_per_peer: usize,
    /// Serving a request: time to read it, for the application to answer, and to write the answer, each.
    pub serve_timeout: Duration,
    /// First pause after a failed dial; doubles each time.
    pub redial_min: Duration,
    /// Longest pause between dials, jitter not counted.
    pub redial_max: Duration,
    /// How long a peer stays away after a violation.
    pub violation_pause: Duration,
    /// How often to ping an open connection.
    pub ping_interval: Duration,
    /// A connection without a ping answer for so long is closed.
    pub ping_timeout: Duration,
    /// How long a replaced connection stays once nothing runs on it.
    pub drain_timeout: Duration,
    /// TCP, noise and yamux together.
    pub handshake_timeout: Duration,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl Default for Limits {
    fn default() -> Self {
        Self {
            consensus: ChannelLimits {
                frame_bytes: 256 * KIB,
                queue_frames: 4096,
                queue_bytes: 16 * MIB,
                inbox_frames: 1024,
            },
            batches: ChannelLimits {
                frame_bytes: MIB + 256 * KIB,
                queue_frames: 1024,
                queue_bytes: 64 * MIB,
                inbox_frames: 64,
            },
            control: ChannelLimits {
                frame_bytes: 64 * KIB,
                queue_frames: 1024,
                queue_bytes: 4 * MIB,
                inbox_frames: 256,
            },
            checkpoints: ChannelLimits {
                frame_bytes: 64 * KIB,
                queue_frames: 1024,
                queue_bytes: 4 * MIB,
                inbox_frames: 256,
            },
            request_bytes: 64 * KIB,
            answer_bytes: 16 * MIB,
            inbound_requests_per_peer: 16,
            outbound_requests_per_peer: 12,
            serve_timeout: Duration::from_secs(30),
            redial_min: Duration::from_millis(100),
            redial_max: Duration::from_secs(5),
            violation_pause: Duration::from_secs(10),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The bounds of one channel.
    pub fn channel(&self, channel: Channel) -> &ChannelLimits {
        match channel {
            Channel::Consensus => &self.consensus,
            Channel::Batches => &self.batches,
            Channel::Control => &self.control,
            Channel::Checkpoints => &self.checkpoints,
        }
    }

    /// Says what would make the limits unusable.
    pub(crate) fn check(&self) -> Result<(), String> {
        for channel in Channel::ALL {
            let limits = self.channel(channel);
            let name = channel.name();
            if limits.frame_bytes == 0 || limits.queue_frames == 0 || limits.inbox_frames == 0 {
                return Err(format!("{name}: a limit is zero"));
            }
            if limits.queue_bytes < limits.frame_bytes {
                return Err(format!("{name}: the queue holds less than one frame"));
            }
            check_length(name, limits.frame_bytes)?;
        }
        check_length("request", self.request_bytes)?;
        check_length("answer", self.answer_bytes)?;
        if self.inbound_requests_per_peer == 0 || self.outbound_requests_per_peer == 0 {
            return Err("requests: a limit is zero".to_owned());
        }
        if self.inbound_requests_per_peer > MAX_REQUESTS || self.outbound_requests_per_peer > MAX_REQUESTS {
            return Err(format!("requests: at most {MAX_REQUESTS} at a time"));
        }
        if self.redial_min.is_zero() || self.redial_max < self.redial_min {
            return Err("redial: 0 < redial_min <= redial_max".to_owned());
        }
        Ok(())
    }
}

/// Each slot may hold an answer; more would be no bound at all.
const MAX_REQUESTS: usize = 256;

fn check_length(what: &str, bytes: usize) -> Result<(), String> {
    u32::try_from(bytes).map(|_| ()).map_err(|_| format!("{what}: a frame length is 32 bits"))
}
