//! From a configuration to a running swarm.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use libp2p::core::Transport;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm, allow_block_list, connection_limits, noise, ping, tcp, yamux};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::behaviour::Streams;
use crate::channel::{N_CHANNELS, Protocols};
use crate::driver::Driver;
use crate::handle::Shared;
use crate::identity::keypair_of_seed;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::push::Message;
use crate::request::Request;
use crate::{Channel, Config, Error, NetworkHandle};

use futures::StreamExt;

/// Connections to one peer: the one in use, one that replaces it, and dead ones not yet found out.
const MAX_CONNECTIONS_PER_PEER: u32 = 4;
/// Handshakes under way; outsiders can take these, but not what we dial ourselves.
const MAX_PENDING_INCOMING: u32 = 64;
/// Yamux lets receive windows grow to 1 GiB a connection, less 256 KiB for each substream it would allow, and libp2p
/// offers no other way to lower that. This leaves 64 MiB to grow by: what a peer can make us hold while the application
/// does not read. How many substreams there really are is bounded by the link, the request slots and the negotiations.
const MAX_SUBSTREAMS: usize = 4096 - 256;
const COMMANDS: usize = 1024;
const REPORTS: usize = 256;
const PEER_EVENTS: usize = 64;

/// Starts the network.
pub struct Network;

/// What arrives, each kind in its own bounded receiver: a full one holds up nothing but itself.
/// Dropping a receiver discards what arrives there.
#[derive(Debug)]
pub struct Events {
    /// Frames of [`Channel::Consensus`].
    pub consensus: mpsc::Receiver<Message>,
    /// Frames of [`Channel::Batches`].
    pub batches: mpsc::Receiver<Message>,
    /// Frames of [`Channel::Control`].
    pub control: mpsc::Receiver<Message>,
    /// Frames of [`Channel::Checkpoints`].
    pub checkpoints: mpsc::Receiver<Message>,
    /// Requests of peers, each with its [`crate::Responder`].
    pub requests: mpsc::Receiver<Request>,
    /// Peers that came and went. When not drained, a peer that came and went in between is told once.
    pub peers: mpsc::Receiver<PeerEvent>,
}

/// A peer came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEvent {
    /// All push substreams to it are open: what is sent from now on is queued for it.
    Connected(PeerId),
    /// Its last connection is gone, and what was queued with it.
    Disconnected(PeerId),
}

/// The application's ends of what [`Events`] receives.
pub(crate) struct Inboxes {
    pub(crate) push: [mpsc::Sender<Message>; N_CHANNELS],
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) peers: mpsc::Sender<PeerEvent>,
}

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// First: it refuses a connection before any other part sees it.
    allowed: allow_block_list::Behaviour<allow_block_list::AllowedPeers>,
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    pub(crate) streams: Streams,
}

impl Network {
    /// Listens, admits and dials the configured peers, and keeps doing so until the last handle is gone.
    /// Needs a Tokio runtime with time and IO.
    ///
    /// # Errors
    /// When the configuration contradicts itself or the address cannot be listened on.
    pub async fn start(config: Config, registry: &mut Registry) -> Result<(NetworkHandle, Events), Error> {
        check(&config)?;
        let mut swarm = build_swarm(&config)?;
        let listen_error = |reason: String| Error::Listen { addr: config.listen.clone(), reason };
        swarm.listen_on(config.listen.clone()).map_err(|error| listen_error(error.to_string()))?;
        let first_addr = loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => break address,
                SwarmEvent::ListenerClosed { reason, .. } => {
                    return Err(listen_error(reason.err().map_or_else(String::new, |error| error.to_string())));
                }
                _ => {}
            }
        };

        let metrics = Metrics::register(registry);
        let limits = Arc::new(config.limits);
        let peers: Vec<Arc<Peer>> =
            config.peers.into_iter().map(|peer| Arc::new(Peer::new(peer, &limits, &metrics))).collect();
        let shared = Arc::new(Shared {
            local: *swarm.local_peer_id(),
            by_id: peers.iter().map(|peer| (peer.id, Arc::clone(peer))).collect::<HashMap<_, _>>(),
            peers,
            limits: Arc::clone(&limits),
            metrics,
            listen_addrs: Mutex::new(vec![first_addr]),
        });
        let (inboxes, events) = channels(&limits);
        let (commands, commands_rx) = mpsc::channel(COMMANDS);
        let (reports, reports_rx) = mpsc::channel(REPORTS);
        let driver = Driver::new(swarm, Arc::clone(&shared), inboxes, commands_rx, reports.clone(), reports_rx);
        tokio::spawn(driver.run());
        Ok((NetworkHandle::new(shared, commands, reports), events))
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let chain = &config.chain_id_hex;
    if chain.is_empty() || chain.len() > 128 || !chain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::Config("chain_id_hex is not 1 to 128 hex digits".to_owned()));
    }
    config.limits.check().map_err(Error::Config)?;
    let local = crate::peer_id_of_seed(&config.identity_seed);
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for peer in &config.peers {
        if peer.peer_id == local {
            return Err(Error::Config(format!("peer {} has our own identity", peer.name)));
        }
        if !ids.insert(peer.peer_id) || !names.insert(peer.name.as_str()) {
            return Err(Error::Config(format!("peer {} is listed twice", peer.name)));
        }
    }
    Ok(())
}

fn build_swarm(config: &Config) -> Result<Swarm<Behaviour>, Error> {
    let keypair = keypair_of_seed(&config.identity_seed);
    let local = keypair.public().to_peer_id();
    let limits = &config.limits;

    let mut mux = yamux::Config::default();
    mux.set_max_num_streams(MAX_SUBSTREAMS);
    let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&keypair).map_err(|error| Error::Identity(error.to_string()))?)
        .multiplex(mux)
        .timeout(limits.handshake_timeout)
        .boxed();

    let mut allowed = allow_block_list::Behaviour::default();
    for peer in &config.peers {
        allowed.allow_peer(peer.peer_id);
    }
    let n_peers = u32::try_from(config.peers.len()).map_err(|_| Error::Config("too many peers".to_owned()))?;
    let n_connections = n_peers.saturating_mul(MAX_CONNECTIONS_PER_PEER);
    let connection_limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_INCOMING))
        .with_max_established(Some(n_connections))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER));
    let behaviour = Behaviour {
        allowed,
        limits: connection_limits::Behaviour::new(connection_limits),
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(limits.ping_interval).with_timeout(limits.ping_timeout),
        ),
        streams: Streams::new(Protocols::new(&config.chain_id_hex)),
    };
    let swarm_config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(limits.drain_timeout)
        .with_max_negotiating_inbound_streams(16 + limits.inbound_requests_per_peer);
    Ok(Swarm::new(transport, behaviour, local, swarm_config))
}

fn channels(limits: &crate::Limits) -> (Inboxes, Events) {
    let inbox = |channel| mpsc::channel(limits.channel(channel).inbox_frames);
    let (consensus_tx, consensus) = inbox(Channel::Consensus);
    let (batches_tx, batches) = inbox(Channel::Batches);
    let (control_tx, control) = inbox(Channel::Control);
    let (checkpoints_tx, checkpoints) = inbox(Channel::Checkpoints);
    // The slots per peer bound what can wait here beyond this.
    let (requests_tx, requests) = mpsc::channel(limits.inbound_requests_per_peer);
    let (peers_tx, peers) = mpsc::channel(PEER_EVENTS);
    let push = [consensus_tx, batches_tx, control_tx, checkpoints_tx];
    let inboxes = Inboxes { push, requests: requests_tx, peers: peers_tx };
    (inboxes, Events { consensus, batches, control, checkpoints, requests, peers })
}
