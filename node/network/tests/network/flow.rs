//! Frames reach everyone, in order, and no channel holds up another.

use std::time::Duration;

use anji_network::{Channel, ChannelLimits};
use bytes::Bytes;
use tokio::time::timeout;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_every_peer_on_its_channel() {
    let mut nodes = mesh(4).await;
    for channel in Channel::ALL {
        let frame = Bytes::from(format!("news on {}", channel.name()));
        assert_eq!(nodes[0].handle.broadcast(channel, frame.clone()), 3);
        let from = nodes[0].id();
        for node in &mut nodes[1..] {
            let inbox = match channel {
                Channel::Consensus => &mut node.events.consensus,
                Channel::Batches => &mut node.events.batches,
                Channel::Control => &mut node.events.control,
                Channel::Checkpoints => &mut node.events.checkpoints,
            };
            let message = next(inbox).await;
            assert_eq!((message.from, message.bytes), (from, frame.clone()));
        }
    }
    let status = &nodes[0].handle.peers()[0];
    assert_eq!(status.traffic[0].sent_frames, 1);
    assert_eq!(status.traffic[0].sent_bytes, "news on consensus".len() as u64);
    let labels = r#"anji_network_sent_frames_total{peer="node-2",channel="consensus"}"#;
    assert_eq!(nodes[0].metric(labels), 1.0);
    assert_eq!(nodes[0].metric("anji_network_connected_peers"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_one_channel_arrive_once_and_in_order() {
    let (a, mut b) = pair(&quick_limits()).await;
    for n in 0..2000 {
        assert!(a.handle.send(b.id(), Channel::Consensus, numbered(n, 4 + (n as usize * 37) % 3000)));
    }
    for n in 0..2000 {
        assert_eq!(number_of(&next(&mut b.events.consensus).await.bytes), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_passes_batches_that_nobody_drains() {
    let (a, mut b) = pair(&quick_limits()).await;
    let mut n_batches = 0;
    while a.handle.send(b.id(), Channel::Batches, numbered(n_batches, 1 << 20)) {
        n_batches += 1;
        assert!(n_batches < 10_000, "the queue has no end");
        tokio::task::yield_now().await;
    }
    // The way for batches is full from end to end, and b takes none. Votes and requests still go both ways.
    assert!(a.handle.send(b.id(), Channel::Consensus, Bytes::from_static(b"vote")));
    assert_eq!(next(&mut b.events.consensus).await.bytes, "vote");
    assert!(b.handle.send(a.id(), Channel::Consensus, Bytes::from_static(b"vote back")));
    let mut a = a;
    assert_eq!(next(&mut a.events.consensus).await.bytes, "vote back");
    // Nothing that was accepted is lost once b drains.
    for n in 0..n_batches {
        assert_eq!(number_of(&next(&mut b.events.batches).await.bytes), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_costs_a_bounded_queue() {
    let mut limits = quick_limits();
    let small = ChannelLimits { frame_bytes: 64 << 10, queue_frames: 50, queue_bytes: 1 << 20, inbox_frames: 4 };
    limits.batches = small;
    limits.consensus = small;
    let (a, mut b) = pair(&limits).await;
    let n_sent = 2000;
    let mut n_accepted = 0;
    for n in 0..n_sent {
        n_accepted += u32::from(a.handle.send(b.id(), Channel::Batches, numbered(n, 64 << 10)));
        assert!(a.handle.send(b.id(), Channel::Consensus, numbered(n, 64 << 10)));
        let status = &a.handle.peers()[0];
        assert!(status.traffic[0].queued_bytes <= 1 << 20);
        assert!(status.traffic[1].queued_bytes <= 1 << 20);
    }
    assert!(n_accepted < n_sent / 2, "{n_accepted} of {n_sent}: something took frames without bound");
    let status = a.handle.peers().remove(0);
    assert_eq!(status.traffic[1].dropped_frames, u64::from(n_sent - n_accepted));
    assert!(status.is_connected());

    // Batches: what was accepted arrives, the first frames among it.
    for _ in 0..n_accepted {
        next(&mut b.events.batches).await;
    }
    // Consensus: the oldest went, so the newest is the last to arrive.
    let mut last = next(&mut b.events.consensus).await;
    while number_of(&last.bytes) != n_sent - 1 {
        let newer = next(&mut b.events.consensus).await;
        assert!(number_of(&newer.bytes) > number_of(&last.bytes));
        last = newer;
    }
    assert!(timeout(Duration::from_millis(50), b.events.batches.recv()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_oversized_frame_is_not_sent() {
    let (a, b) = pair(&quick_limits()).await;
    let frame = Bytes::from(vec![0; (64 << 10) + 1]);
    assert_eq!(a.handle.broadcast(Channel::Control, frame.clone()), 0);
    assert!(!a.handle.send(b.id(), Channel::Control, frame));
    assert_eq!(b.n_connected(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_receiver_does_not_break_the_peer() {
    let (mut a, b) = pair(&quick_limits()).await;
    let (handle, events) = (b.handle, b.events);
    drop(events.batches);
    for n in 0..200 {
        a.handle.send(handle.local_peer(), Channel::Batches, numbered(n, 100_000));
    }
    assert!(handle.send(a.id(), Channel::Control, Bytes::from_static(b"well")));
    assert_eq!(next(&mut a.events.control).await.bytes, "well");
    assert_eq!(a.metric("anji_network_connections_total"), 1.0);
}
