//! Connections come, double, go and come again.

use std::time::Duration;

use anji_network::{Channel, PeerEvent};
use bytes::Bytes;
use tokio::time::sleep;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_peer_is_connected_again() {
    let (addr_a, addr_b) = (free_addr(), free_addr());
    let mut a = start(1, &addr_a, vec![peer(2, Some(&addr_b))]).await;
    for round in 0..3 {
        let mut b = start(2, &addr_b, vec![peer(1, Some(&addr_a))]).await;
        assert_eq!(a.next_peer_event().await, PeerEvent::Connected(id(2)), "round {round}");
        b.wait_connected(1).await;
        assert_talk(&mut a, &mut b).await;
        b.handle.shutdown().await;
        assert_eq!(a.next_peer_event().await, PeerEvent::Disconnected(id(2)), "round {round}");
        assert_eq!(a.handle.broadcast(Channel::Control, Bytes::from_static(b"nobody")), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_every_handle_ends_a_node() {
    let (a, b) = pair(&quick_limits()).await;
    drop(b.handle);
    a.wait_connected(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_dial_each_other_at_once_lose_nothing_and_keep_one_connection() {
    let mut n_doubled = 0;
    for round in 0..20 {
        let mut nodes = mesh(2).await;
        let (mut b, mut a) = (nodes.pop().expect("two nodes"), nodes.pop().expect("two nodes"));
        // While the second connection comes and the first drains, every frame still arrives.
        for n in 0..300 {
            assert!(a.handle.send(b.id(), Channel::Consensus, numbered(n, 500)));
            assert!(b.handle.send(a.id(), Channel::Consensus, numbered(n, 500)));
            if n % 50 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        for node in [&mut a, &mut b] {
            let mut seen = Vec::new();
            for _ in 0..300 {
                seen.push(number_of(&next(&mut node.events.consensus).await.bytes));
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..300), "round {round}: a frame twice or never");
            assert_eq!(node.next_peer_event().await, PeerEvent::Connected(if node.seed == 1 { id(2) } else { id(1) }));
            assert!(node.events.peers.try_recv().is_err(), "round {round}: the change of connections shows");
        }
        let n_opened = a.metric("anji_network_connections_total");
        assert!(n_opened <= 2.0, "round {round}: {n_opened} connections");
        n_doubled += u32::from(n_opened > 1.0);
        wait_until("one connection is left", || a.metric("anji_network_open_connections ") == 1.0).await;
        assert_talk(&mut a, &mut b).await;
        a.handle.shutdown().await;
    }
    assert!(n_doubled > 0, "no two connections met: the test tests nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_stays_open() {
    let (mut a, mut b) = pair(&quick_limits()).await;
    // Several times the drain time-out, which must touch no connection in use.
    sleep(Duration::from_millis(1000)).await;
    assert_talk(&mut a, &mut b).await;
    assert_eq!(a.metric("anji_network_connections_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_time_shows_up() {
    let mut limits = quick_limits();
    limits.ping_interval = Duration::from_millis(50);
    let (a, _b) = pair(&limits).await;
    wait_until("a ping", || a.handle.peers()[0].rtt.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_given_by_name_is_dialled() {
    let addr = free_addr();
    let named = addr.to_string().replace("/ip4/127.0.0.1", "/dns4/localhost").parse().expect("an address");
    let a = start(1, &addr, vec![peer(2, None)]).await;
    let b = start(2, &free_addr(), vec![peer(1, Some(&named))]).await;
    a.wait_connected(1).await;
    b.wait_connected(1).await;
}
