//! Nodes on loopback with known seeds, and waiting for conditions instead of sleeping.

use std::time::Duration;

use anji_network::{
    Channel, Config, Events, Limits, Message, Multiaddr, Network, NetworkHandle, PeerConfig, PeerEvent, PeerId,
    peer_id_of_seed,
};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

pub(crate) const CHAIN: &str = "00c0ffee";
/// Far above what anything here takes; only a hang meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) handle: NetworkHandle,
    pub(crate) events: Events,
    pub(crate) registry: Registry,
    pub(crate) seed: u8,
}

pub(crate) fn id(seed: u8) -> PeerId {
    peer_id_of_seed(&[seed; 32])
}

/// A port that was free a moment ago. From below the range of outgoing connections, which would compete for it.
pub(crate) fn free_addr() -> Multiaddr {
    loop {
        let port = rand::random_range(10_000..32_000_u16);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
        }
    }
}

pub(crate) fn peer(seed: u8, addr: Option<&Multiaddr>) -> PeerConfig {
    PeerConfig { peer_id: id(seed), name: format!("node-{seed}"), addrs: addr.cloned().into_iter().collect() }
}

/// Limits under which a test does not wait long.
pub(crate) fn quick_limits() -> Limits {
    Limits {
        redial_min: Duration::from_millis(20),
        redial_max: Duration::from_millis(200),
        violation_pause: Duration::from_millis(300),
        drain_timeout: Duration::from_millis(200),
        ..Limits::default()
    }
}

pub(crate) async fn start_with(seed: u8, listen: &Multiaddr, peers: Vec<PeerConfig>, limits: Limits) -> Node {
    let config =
        Config { listen: listen.clone(), peers, chain_id_hex: CHAIN.to_owned(), identity_seed: [seed; 32], limits };
    let mut registry = Registry::default();
    let (handle, events) = Network::start(config, &mut registry).await.expect("a free port and a sound configuration");
    Node { handle, events, registry, seed }
}

pub(crate) async fn start(seed: u8, listen: &Multiaddr, peers: Vec<PeerConfig>) -> Node {
    start_with(seed, listen, peers, quick_limits()).await
}

/// `n` nodes that all dial each other at once, connected.
pub(crate) async fn mesh_with(n: u8, limits: &Limits) -> Vec<Node> {
    let addrs: Vec<Multiaddr> = (0..n).map(|_| free_addr()).collect();
    let mut nodes = Vec::new();
    for seed in 1..=n {
        let others = (1..=n).filter(|other| *other != seed);
        let peers = others.map(|other| peer(other, Some(&addrs[usize::from(other) - 1]))).collect();
        nodes.push(start_with(seed, &addrs[usize::from(seed) - 1], peers, limits.clone()).await);
    }
    for node in &nodes {
        node.wait_connected(usize::from(n) - 1).await;
    }
    nodes
}

pub(crate) async fn mesh(n: u8) -> Vec<Node> {
    mesh_with(n, &quick_limits()).await
}

/// One node that listens and one that dials, with these limits on both sides.
pub(crate) async fn pair(limits: &Limits) -> (Node, Node) {
    let addr = free_addr();
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let a = start_with(1, &addr, vec![peer(2, None)], limits.clone()).await;
    let b = start_with(2, &any, vec![peer(1, Some(&addr))], limits.clone()).await;
    a.wait_connected(1).await;
    b.wait_connected(1).await;
    (a, b)
}

impl Node {
    pub(crate) fn id(&self) -> PeerId {
        id(self.seed)
    }

    pub(crate) fn n_connected(&self) -> usize {
        self.handle.peers().iter().filter(|peer| peer.is_connected()).count()
    }

    pub(crate) async fn wait_connected(&self, n: usize) {
        wait_until("connected", || self.n_connected() == n).await;
    }

    /// A metric's value from the exposition text: the first line that starts so.
    pub(crate) fn metric(&self, line_start: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a string takes all");
        let line = text.lines().find(|line| line.starts_with(line_start));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    pub(crate) async fn next_peer_event(&mut self) -> PeerEvent {
        timeout(PATIENCE, self.events.peers.recv()).await.expect("an event in time").expect("the network runs")
    }
}

pub(crate) async fn next(inbox: &mut Receiver<Message>) -> Message {
    timeout(PATIENCE, inbox.recv()).await.expect("a frame in time").expect("the network runs")
}

pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}

/// The frame number `n` of a test: the number first, then as much else as asked.
pub(crate) fn numbered(n: u32, len: usize) -> Bytes {
    let mut frame = vec![0xA5; len.max(4)];
    frame[..4].copy_from_slice(&n.to_be_bytes());
    Bytes::from(frame)
}

pub(crate) fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[..4].try_into().expect("four bytes"))
}

/// Both directions of one channel between two nodes work.
pub(crate) async fn assert_talk(a: &mut Node, b: &mut Node) {
    assert!(a.handle.send(b.id(), Channel::Control, Bytes::from_static(b"ping")));
    assert_eq!(next(&mut b.events.control).await.bytes, "ping");
    assert!(b.handle.send(a.id(), Channel::Control, Bytes::from_static(b"pong")));
    assert_eq!(next(&mut a.events.control).await.bytes, "pong");
}
