//! Who is not on the list gets through the handshake and no further. [`RawPeer`] speaks libp2p without our crate.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Transport;
use libp2p::core::upgrade::Version;
use libp2p::identity::{Keypair, ed25519};
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{Multiaddr, Stream, StreamProtocol, Swarm, noise, tcp, yamux};
use libp2p_stream::{Control, IncomingStreams};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::harness::*;

const CHANNELS: [&str; 4] = ["consensus", "batches", "control", "checkpoints"];

fn protocol(chain: &str, what: &str) -> StreamProtocol {
    let version = if what == "batches" { 2 } else { 1 };
    StreamProtocol::try_from_owned(format!("/anji/{chain}/{what}/{version}")).expect("a protocol name")
}

/// A libp2p node of its own making with any identity; its swarm runs in a task.
pub(crate) struct RawPeer {
    control: Control,
    chain: String,
    closed: watch::Receiver<bool>,
    /// Bytes that arrived on push substreams, and substreams that were opened to us.
    arrived: mpsc::UnboundedReceiver<(&'static str, Vec<u8>)>,
    requests: IncomingStreams,
    task: tokio::task::JoinHandle<()>,
    _held: mpsc::UnboundedReceiver<Stream>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawPeer {
    pub(crate) async fn connect(seed: u8, to: &Multiaddr) -> Self {
        Self::connect_as(seed, to, CHAIN, true).await
    }

    /// Accepts every substream and reads from none.
    pub(crate) async fn connect_silent(seed: u8, to: &Multiaddr) -> Self {
        Self::connect_as(seed, to, CHAIN, false).await
    }

    pub(crate) async fn connect_as(seed: u8, to: &Multiaddr, chain: &str, reads: bool) -> Self {
        let secret = ed25519::SecretKey::try_from_bytes([seed; 32]).expect("32 bytes");
        let keypair = Keypair::from(ed25519::Keypair::from(secret));
        let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&keypair).expect("a keypair"))
            .multiplex(yamux::Config::default())
            .boxed();
        let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
        let local = keypair.public().to_peer_id();
        let mut swarm = Swarm::new(transport, libp2p_stream::Behaviour::new(), local, config);
        let mut control = swarm.behaviour().new_control();
        let (arrived_tx, arrived) = mpsc::unbounded_channel();
        let (held_tx, held) = mpsc::unbounded_channel();
        for what in CHANNELS {
            let mut incoming = control.accept(protocol(chain, what)).expect("accepted once");
            let (arrived, held) = (arrived_tx.clone(), held_tx.clone());
            tokio::spawn(async move {
                while let Some((_, mut stream)) = incoming.next().await {
                    let _ = arrived.send((what, Vec::new()));
                    if !reads {
                        let _ = held.send(stream);
                        continue;
                    }
                    let arrived = arrived.clone();
                    tokio::spawn(async move {
                        let mut buffer = vec![0; 1 << 16];
                        while let Ok(n) = stream.read(&mut buffer).await {
                            if n == 0 || arrived.send((what, buffer[..n].to_vec())).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
        }
        let requests = control.accept(protocol(chain, "request")).expect("accepted once");

        swarm.dial(to.clone()).expect("an address");
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => break,
                SwarmEvent::OutgoingConnectionError { error: DialError::Transport(error), .. } => {
                    panic!("the handshake itself fails: {error:?}")
                }
                _ => {}
            }
        }
        let (closed_tx, closed) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
                    let _ = closed_tx.send(true);
                }
            }
        });
        Self { control, chain: chain.to_owned(), closed, arrived, requests, task, _held: held }
    }

    pub(crate) async fn open(&mut self, what: &str) -> Result<Stream, String> {
        let open = self.control.open_stream(id(1), protocol(&self.chain, what));
        match timeout(PATIENCE, open).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => panic!("no answer to the negotiation"),
        }
    }

    pub(crate) async fn accept_request(&mut self) -> Stream {
        timeout(PATIENCE, self.requests.next()).await.expect("a request in time").expect("the swarm runs").1
    }

    pub(crate) async fn wait_closed(&mut self) {
        timeout(PATIENCE, self.closed.wait_for(|closed| *closed)).await.expect("closed in time").expect("it runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outsider_with_the_right_protocols_gets_no_substream_and_no_byte() {
    let addr = free_addr();
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let mut a = start(1, &addr, vec![peer(2, None)]).await;
    let mut b = start(2, &any, vec![peer(1, Some(&addr))]).await;
    a.wait_connected(1).await;
    for _ in 0..5 {
        let mut outsider = RawPeer::connect(99, &addr).await;
        // Asking for substreams at once, before the refusal can have arrived, and again after it.
        for what in ["consensus", "batches", "control", "request"] {
            if let Ok(mut stream) = outsider.open(what).await {
                let _ = stream.write_all(b"\0\0\0\x05hello").await;
                panic!("the outsider has a {what} substream");
            }
        }
        a.handle.broadcast(anji_network::Channel::Consensus, numbered(1, 100));
        outsider.wait_closed().await;
        assert!(outsider.arrived.try_recv().is_err(), "something reached the outsider");
        assert!(outsider.open("consensus").await.is_err());
    }
    assert!(a.metric("anji_network_refused_connections_total") >= 5.0);
    assert!(a.events.control.try_recv().is_err());
    assert!(a.events.requests.try_recv().is_err());
    assert_eq!(a.handle.peers().len(), 1);
    for _ in 0..5 {
        next(&mut b.events.consensus).await;
    }
    assert_talk(&mut a, &mut b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_chain_never_counts_as_connected() {
    let addr = free_addr();
    let a = start(1, &addr, vec![peer(3, None)]).await;
    let mut other = RawPeer::connect_as(3, &addr, "0badc0de", true).await;
    for what in CHANNELS {
        assert!(other.open(what).await.is_err());
    }
    other.wait_closed().await;
    assert!(other.arrived.try_recv().is_err());
    assert_eq!(a.n_connected(), 0);
    assert_eq!(a.metric("anji_network_connected_peers"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admitted_raw_peer_does_get_frames() {
    // The counter-check of the tests above: what they assert absent is there for a peer on the list.
    let addr = free_addr();
    let a = start(1, &addr, vec![peer(3, None)]).await;
    let mut raw = RawPeer::connect(3, &addr).await;
    a.wait_connected(1).await;
    a.handle.broadcast(anji_network::Channel::Control, "news".into());
    let frame = timeout(PATIENCE, async {
        loop {
            if let Some((what, bytes)) = raw.arrived.recv().await
                && !bytes.is_empty()
            {
                return (what, bytes);
            }
        }
    });
    assert_eq!(frame.await.expect("in time"), ("control", b"\0\0\0\x04news".to_vec()));
}
