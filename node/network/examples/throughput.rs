//! What four nodes in one process carry over loopback: broadcast of 200 kB frames, and the round trip of a small vote,
//! alone and beside the batches. `cargo run --release -p anji-network --example throughput`

use std::time::{Duration, Instant};

use anji_network::{
    Channel, Config, Events, Limits, Message, Multiaddr, Network, NetworkHandle, PeerConfig, PeerId, peer_id_of_seed,
};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

const N_NODES: u8 = 4;
const N_FRAMES: u32 = 5_000;
const FRAME_BYTES: u32 = 200_000;
const N_ROUND_TRIPS: usize = 5_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = |seed: u8| -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{}", 23_450 + u16::from(seed)).parse().expect("an address")
    };
    let mut nodes: Vec<(NetworkHandle, Events)> = Vec::new();
    for seed in 1..=N_NODES {
        let peers = (1..=N_NODES).filter(|other| *other != seed).map(|other| PeerConfig {
            peer_id: peer_id_of_seed(&[other; 32]),
            name: format!("node-{other}"),
            addrs: vec![addr(other)],
        });
        let config = Config {
            listen: addr(seed),
            peers: peers.collect(),
            chain_id_hex: "00".to_owned(),
            identity_seed: [seed; 32],
            limits: Limits::default(),
        };
        nodes.push(Network::start(config, &mut Registry::default()).await?);
    }
    for (handle, _) in &nodes {
        while handle.peers().iter().any(|peer| !peer.is_connected()) {
            sleep(Duration::from_millis(10)).await;
        }
    }
    // Until doubled connections have drained.
    sleep(2 * Limits::default().drain_timeout).await;

    let (sender, Events { consensus: mut votes, .. }) = nodes.remove(0);
    let echo = nodes[0].0.local_peer();
    let mut drains = Vec::new();
    for (handle, mut events) in nodes {
        tokio::spawn(async move {
            while let Some(vote) = events.consensus.recv().await {
                handle.send(vote.from, Channel::Consensus, vote.bytes);
            }
        });
        drains.push(tokio::spawn(async move {
            for _ in 0..2 * N_FRAMES {
                events.batches.recv().await;
            }
        }));
    }

    print_round_trips("idle", &sender, &mut votes, echo).await;
    let started = Instant::now();
    send_frames(&sender).await;
    while queued_bytes_max(&sender) > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let megabytes = f64::from(N_FRAMES) * f64::from(FRAME_BYTES) / 1e6;
    let per_second = megabytes / started.elapsed().as_secs_f64();
    let n_peers = f64::from(N_NODES - 1);
    println!("broadcast: {per_second:.0} MB/s to each of {n_peers} peers, {:.0} MB/s in all", per_second * n_peers);

    let background = tokio::spawn({
        let sender = sender.clone();
        async move { send_frames(&sender).await }
    });
    print_round_trips("beside the broadcast", &sender, &mut votes, echo).await;
    background.await?;
    for drain in drains {
        drain.await?;
    }
    Ok(())
}

fn queued_bytes_max(sender: &NetworkHandle) -> usize {
    sender.peers().iter().map(|peer| peer.traffic[1].queued_bytes).max().unwrap_or(0)
}

async fn send_frames(sender: &NetworkHandle) {
    let frame = Bytes::from(vec![0x5A; FRAME_BYTES as usize]);
    let mut n_sent = 0;
    while n_sent < N_FRAMES {
        // Room for one more at every peer, so that no frame is refused by one and taken by another.
        if queued_bytes_max(sender) > Limits::default().batches.queue_bytes / 2 {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        assert_eq!(sender.broadcast(Channel::Batches, frame.clone()), usize::from(N_NODES) - 1);
        n_sent += 1;
    }
}

async fn print_round_trips(what: &str, sender: &NetworkHandle, votes: &mut Receiver<Message>, echo: PeerId) {
    let vote = Bytes::from(vec![1; 100]);
    let mut micros = Vec::with_capacity(N_ROUND_TRIPS);
    for _ in 0..N_ROUND_TRIPS {
        let sent_at = Instant::now();
        assert!(sender.send(echo, Channel::Consensus, vote.clone()));
        votes.recv().await;
        micros.push(sent_at.elapsed().as_micros());
    }
    micros.sort_unstable();
    let (p50, p99) = (micros[N_ROUND_TRIPS / 2], micros[N_ROUND_TRIPS * 99 / 100]);
    println!("round trip of 100 bytes, {what}: p50 {p50} us, p99 {p99} us");
}
