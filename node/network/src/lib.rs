//! The links between admitted nodes: one libp2p swarm, one port, opaque bytes.
//!
//! 1. TCP, noise and yamux. The identity is an ed25519 key; its peer id must be on the other side's list.
//! 2. An unknown peer is refused right after the noise handshake, before a single substream or protocol name.
//! 3. Every protocol name carries the chain: `/anji/<chain_id_hex>/<channel>/<version>`. Another chain or version never gets a
//!    substream.
//! 4. Four push channels, each its own long-lived substream per peer and direction, so that a vote never waits
//!    behind a batch; and one short substream per request. A frame is a `u32` length (big-endian) and the bytes.
//! 5. [`NetworkHandle::broadcast`] and [`NetworkHandle::send`] never block. Each peer has one queue per channel, bounded
//!    in frames and bytes. Full: `Consensus`, `Control` and `Checkpoints` drop the *oldest* frame (a newer one supersedes it);
//!    `Batches` refuses the *newest* (older ones are named by a proposal first; whoever misses one asks for it).
//! 6. Inbound nothing is dropped: each channel has its own bounded receiver in [`Events`]; while the application does
//!    not drain it, the substream is not read and the sender's queue fills. A full receiver of one channel stops no other.
//! 7. Requests: at most so many per peer at a time; more are refused unread. Dropping a [`Responder`] closes the substream.
//! 8. A length above the limit, or more substreams than the protocol knows, is a violation: nothing is allocated, all
//!    connections to that peer are closed, counted, logged, and it is kept away for a while. Nobody else notices.
//! 9. A peer is *connected* when all four push substreams to it are open. Its queues exist only from then until the
//!    last connection is gone: what was queued is dropped with them, counted, and the layers above ask again.
//! 10. Both sides dialling at once leaves two connections. Both keep the one dialled by the smaller peer id; the
//!     other one is drained, not cut: its writers finish, its requests are answered, then it closes for idleness.
//!     Order within a channel holds per connection, not across such a change.
//! 11. Dials repeat for ever with capped, jittered back-off; a ping finds connections that died without a word.
//!
//! Read `driver.rs` next (who owns what), then `push.rs` and `request.rs` (what runs on a substream).

mod behaviour;
mod channel;
mod config;
mod driver;
mod error;
mod frame;
mod handle;
mod identity;
mod link;
mod metrics;
mod peer;
mod push;
mod queue;
mod request;
mod resolve;
mod start;

pub use channel::Channel;
pub use config::{ChannelLimits, Config, Limits, PeerConfig};
pub use error::{Error, RequestError};
pub use handle::NetworkHandle;
pub use identity::{InvalidPublicKey, peer_id_of_public_key, peer_id_of_seed};
pub use libp2p::{Multiaddr, PeerId};
pub use peer::{ChannelTraffic, PeerStatus};
pub use push::Message;
pub use request::{Request, Responder};
pub use start::{Events, Network, PeerEvent};
