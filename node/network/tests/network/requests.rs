//! Requests and answers: matched, bounded in size, number and time.

use std::time::Duration;

use anji_network::RequestError;
use bytes::Bytes;
use futures::future::join_all;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn answers_go_to_their_requests_whatever_their_order() {
    let (a, mut b) = pair(&quick_limits()).await;
    let server = tokio::spawn(async move {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(b.events.requests.recv().await.expect("a request"));
        }
        for request in held.into_iter().rev() {
            let answer = Bytes::from([request.bytes.as_ref(), b" answered"].concat());
            assert!(request.responder.answer(answer));
        }
        b
    });
    let ask = |n: u32| a.handle.request(id(2), Bytes::from(n.to_string()), PATIENCE);
    for (n, answer) in join_all((0..8).map(ask)).await.into_iter().enumerate() {
        assert_eq!(answer.expect("an answer"), format!("{n} answered"));
    }
    server.await.expect("the server ran");
    assert_eq!(a.metric(r#"anji_network_requests_total{peer="node-2",result="answered"}"#), 8.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_slots_wait_and_are_all_answered() {
    let (a, mut b) = pair(&quick_limits()).await;
    tokio::spawn(async move {
        while let Some(request) = b.events.requests.recv().await {
            request.responder.answer(request.bytes);
        }
    });
    let ask = |n: u32| a.handle.request(id(2), numbered(n, 1000), PATIENCE);
    for (n, answer) in join_all((0..500).map(ask)).await.into_iter().enumerate() {
        assert_eq!(number_of(&answer.expect("an answer")) as usize, n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_answer_and_an_empty_one_pass() {
    let (a, mut b) = pair(&quick_limits()).await;
    tokio::spawn(async move {
        for len in [16 << 20, 0] {
            let request = b.events.requests.recv().await.expect("a request");
            request.responder.answer(Bytes::from(vec![7; len]));
        }
        b.events.requests.recv().await
    });
    for len in [16 << 20, 0] {
        let answer = a.handle.request(id(2), Bytes::new(), PATIENCE).await.expect("an answer");
        assert_eq!(answer.len(), len);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_answer_times_out_and_frees_its_slot() {
    let mut limits = quick_limits();
    limits.outbound_requests_per_peer = 1;
    limits.inbound_requests_per_peer = 2;
    limits.serve_timeout = Duration::from_millis(100);
    let (a, mut b) = pair(&limits).await;
    for _ in 0..5 {
        let ask = a.handle.request(id(2), Bytes::from_static(b"?"), Duration::from_millis(300));
        let (answer, request) = tokio::join!(ask, b.events.requests.recv());
        // Whoever gives up first, b by closing or a by its own clock, a has no answer and asks again.
        assert!(matches!(answer, Err(RequestError::Timeout | RequestError::Refused | RequestError::ConnectionLost(_))));
        wait_until("the server gave up", || request.as_ref().is_some_and(|request| request.responder.is_closed()))
            .await;
    }
    let ask = a.handle.request(id(2), Bytes::from_static(b"?"), PATIENCE);
    let answer = async { b.events.requests.recv().await.expect("a request").responder.answer("!".into()) };
    let (answer, answered) = tokio::join!(ask, answer);
    assert_eq!((answer.expect("an answer").as_ref(), answered), (b"!".as_ref(), true));
    assert!(a.handle.peers()[0].is_connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_clock_counts() {
    let (a, mut b) = pair(&quick_limits()).await;
    let ask = a.handle.request(id(2), Bytes::from_static(b"?"), Duration::from_millis(50));
    let (answer, request) = tokio::join!(ask, b.events.requests.recv());
    assert_eq!(answer, Err(RequestError::Timeout));
    drop(request);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_responder_refuses() {
    let (a, mut b) = pair(&quick_limits()).await;
    let ask = a.handle.request(id(2), Bytes::from_static(b"?"), PATIENCE);
    let (answer, ()) = tokio::join!(ask, async { drop(b.events.requests.recv().await) });
    assert_eq!(answer, Err(RequestError::Refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_sent_say_so_at_once() {
    let (a, b) = pair(&quick_limits()).await;
    let large = a.handle.request(id(2), Bytes::from(vec![0; (64 << 10) + 1]), PATIENCE).await;
    assert!(matches!(large, Err(RequestError::TooLarge { .. })));
    let stranger = a.handle.request(id(9), Bytes::new(), PATIENCE).await;
    assert_eq!(stranger, Err(RequestError::NotConnected(id(9))));
    b.handle.shutdown().await;
    a.wait_connected(0).await;
    assert_eq!(a.handle.request(id(2), Bytes::new(), PATIENCE).await, Err(RequestError::NotConnected(id(2))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_ends_when_the_peer_goes() {
    let (a, mut b) = pair(&quick_limits()).await;
    let ask = a.handle.request(id(2), Bytes::from_static(b"?"), PATIENCE);
    let leave = async {
        let _request = b.events.requests.recv().await.expect("a request");
        b.handle.shutdown().await;
    };
    let (answer, ()) = tokio::join!(ask, leave);
    assert!(matches!(answer, Err(RequestError::Refused | RequestError::ConnectionLost(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_oversized_answer_is_not_sent() {
    let mut limits = quick_limits();
    limits.answer_bytes = 1000;
    let (mut a, mut b) = pair(&limits).await;
    let ask = a.handle.request(id(2), Bytes::from_static(b"?"), PATIENCE);
    let answer = async { b.events.requests.recv().await.expect("a request").responder.answer(vec![0; 1001].into()) };
    let (answer, _) = tokio::join!(ask, answer);
    assert!(matches!(answer, Err(RequestError::Refused | RequestError::ConnectionLost(_))), "{answer:?}");
    assert_talk(&mut a, &mut b).await;
}
