//! An admitted peer that breaks the protocol is cut off; nobody else notices.

use std::time::Duration;

use anji_network::{Channel, RequestError};
use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use tokio::time::timeout;

use crate::harness::*;
use crate::outsiders::RawPeer;

/// The node under test, an honest peer, and the address for the raw peer with seed 3.
async fn victim_and_friend() -> (Node, Node, libp2p::Multiaddr) {
    let addr = free_addr();
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let victim = start(1, &addr, vec![peer(2, None), peer(3, None)]).await;
    let friend = start(2, &any, vec![peer(1, Some(&addr))]).await;
    victim.wait_connected(1).await;
    friend.wait_connected(1).await;
    (victim, friend, addr)
}

/// Reads until the other side ends the substream.
async fn assert_cut_off(mut stream: Stream) {
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the substream stays open");
    assert!(rest.is_empty());
}

const VIOLATION: &str = r#"anji_network_violations_total{peer="node-3",kind="frame_too_large"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_length_above_the_limit_cuts_the_peer_off_on_every_channel() {
    for (what, limit) in
        [("consensus", 256 << 10), ("batches", 1280 << 10), ("control", 64 << 10), ("request", 64 << 10)]
    {
        for length in [limit + 1, u32::MAX] {
            let (mut victim, mut friend, addr) = victim_and_friend().await;
            let mut raw = RawPeer::connect(3, &addr).await;
            let mut stream = raw.open(what).await.expect("an admitted peer may open substreams");
            stream.write_all(&length.to_be_bytes()).await.expect("still open");
            stream.flush().await.expect("still open");
            raw.wait_closed().await;
            assert_cut_off(stream).await;
            assert_eq!(victim.metric(VIOLATION), 1.0, "{what} {length}");
            // Kept away for a while even when it comes back at once.
            let mut again = RawPeer::connect(3, &addr).await;
            again.wait_closed().await;
            assert_talk(&mut victim, &mut friend).await;
            assert_eq!(victim.metric(r#"anji_network_connections_total{peer="node-2"}"#), 1.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_substream_cuts_the_peer_off_and_it_may_return_after_the_pause() {
    let (mut victim, mut friend, addr) = victim_and_friend().await;
    let mut raw = RawPeer::connect(3, &addr).await;
    let mut stream = raw.open("consensus").await.expect("an admitted peer may open substreams");
    // The victim may be quicker to cut than we to write.
    let _ = stream.write_all(&[0xFF; 5000]).await;
    let _ = stream.flush().await;
    raw.wait_closed().await;
    assert_eq!(victim.metric(VIOLATION), 1.0);
    tokio::time::sleep(quick_limits().violation_pause).await;
    let mut raw = RawPeer::connect(3, &addr).await;
    let mut stream = raw.open("control").await.expect("welcome again");
    stream.write_all(b"\0\0\0\x05sorry").await.expect("open");
    stream.flush().await.expect("open");
    assert_eq!(next(&mut victim.events.control).await.bytes, "sorry");
    assert_talk(&mut victim, &mut friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_inside_a_frame_delivers_nothing_and_harms_nobody() {
    let (mut victim, mut friend, addr) = victim_and_friend().await;
    let mut raw = RawPeer::connect(3, &addr).await;
    for what in ["consensus", "batches", "control", "request"] {
        for part in [&b"\0\0"[..], b"\0\0\0\x05", b"\0\0\0\x05four"] {
            let mut stream = raw.open(what).await.expect("an admitted peer may open substreams");
            stream.write_all(part).await.expect("open");
            stream.close().await.expect("open");
        }
    }
    assert_talk(&mut victim, &mut friend).await;
    assert!(victim.events.consensus.try_recv().is_err());
    assert!(victim.events.batches.try_recv().is_err());
    assert!(victim.events.requests.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_substreams_of_one_channel_cut_the_peer_off() {
    let (mut victim, mut friend, addr) = victim_and_friend().await;
    let mut raw = RawPeer::connect(3, &addr).await;
    let mut held = Vec::new();
    while let Ok(stream) = raw.open("batches").await {
        held.push(stream);
        assert!(held.len() < 50, "no end to substreams");
    }
    raw.wait_closed().await;
    assert_eq!(victim.metric(r#"anji_network_violations_total{peer="node-3",kind="too_many_substreams"}"#), 1.0);
    assert_talk(&mut victim, &mut friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_slots_are_refused_unread() {
    let (mut victim, mut friend, addr) = victim_and_friend().await;
    let mut raw = RawPeer::connect(3, &addr).await;
    let slots = quick_limits().inbound_requests_per_peer;
    let mut held = Vec::new();
    for _ in 0..slots + 5 {
        if let Ok(mut stream) = raw.open("request").await {
            let _ = stream.write_all(b"\0\0\0\x01?").await;
            let _ = stream.flush().await;
            held.push(stream);
        }
    }
    let refused = r#"anji_network_served_requests_total{peer="node-3",result="refused"}"#;
    wait_until("refused", || victim.metric(refused) == 5.0).await;
    let mut waiting = Vec::new();
    for _ in 0..slots {
        waiting.push(timeout(PATIENCE, victim.events.requests.recv()).await.expect("in time").expect("a request"));
    }
    assert!(victim.events.requests.try_recv().is_err());
    // The friend's slots are its own.
    let ask = friend.handle.request(id(1), Bytes::from_static(b"?"), PATIENCE);
    let answer = async { victim.events.requests.recv().await.expect("a request").responder.answer("!".into()) };
    assert_eq!(tokio::join!(ask, answer).0.expect("an answer"), "!");
    assert_talk(&mut victim, &mut friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_above_the_limit_cuts_the_peer_off() {
    let (mut victim, mut friend, addr) = victim_and_friend().await;
    let mut raw = RawPeer::connect(3, &addr).await;
    wait_until("connected", || victim.n_connected() == 2).await;
    let ask = victim.handle.request(id(3), Bytes::from_static(b"?"), PATIENCE);
    let answer = async {
        let mut stream = raw.accept_request().await;
        stream.write_all(&((16_u32 << 20) + 1).to_be_bytes()).await.expect("open");
        stream.flush().await.expect("open");
        stream
    };
    let (answer, _stream) = tokio::join!(ask, answer);
    assert!(matches!(answer, Err(RequestError::AnswerTooLarge { .. })), "{answer:?}");
    raw.wait_closed().await;
    assert_eq!(victim.metric(VIOLATION), 1.0);
    assert_talk(&mut victim, &mut friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_ends_is_bounded_by_the_callers_clock() {
    let (victim, _friend, addr) = victim_and_friend().await;
    let mut raw = RawPeer::connect(3, &addr).await;
    wait_until("connected", || victim.n_connected() == 2).await;
    let ask = victim.handle.request(id(3), Bytes::from_static(b"?"), Duration::from_millis(200));
    let answer = async {
        let mut stream = raw.accept_request().await;
        stream.write_all(b"\0\x01\0\0slow").await.expect("open");
        stream.flush().await.expect("open");
        stream
    };
    let (answer, _stream) = tokio::join!(ask, answer);
    assert_eq!(answer, Err(RequestError::Timeout));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_handshake_harms_nobody() {
    let (mut victim, mut friend, addr) = victim_and_friend().await;
    let port = addr.to_string().rsplit('/').next().and_then(|port| port.parse().ok()).expect("a port");
    for _ in 0..20 {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &[0xA5; 3000]).await;
    }
    assert_talk(&mut victim, &mut friend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_loses_only_its_own_frames() {
    let (victim, mut friend, addr) = victim_and_friend().await;
    let raw = RawPeer::connect_silent(3, &addr).await;
    wait_until("connected", || victim.n_connected() == 2).await;
    for n in 0..500 {
        victim.handle.broadcast(Channel::Batches, numbered(n, 1 << 20));
        assert_eq!(number_of(&next(&mut friend.events.batches).await.bytes), n);
    }
    let status = victim.handle.peers();
    assert_eq!(status[0].traffic[1].dropped_frames, 0);
    assert!(status[1].traffic[1].dropped_frames > 0);
    assert!(status[1].traffic[1].queued_bytes <= 64 << 20);
    drop(raw);
}
