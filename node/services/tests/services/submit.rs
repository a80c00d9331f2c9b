//! Handing batches in: waiting, repeating, deadlines, expiry, full pools, many at once.

use crate::chain::{Chain, code, decided, metadata, none, reason, wait_for};
use crate::contracts::{ACQUIRER, pay};
use anji_contracts::ops::{MandateStop, OpBody};
use anji_contracts::types::MandateId;
use anji_mempool::Limits as PoolLimits;
use anji_proto::v1;
use anji_proto::v1::submit_batches_response::Answer;
use anji_services::Limits;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_types::StatusExt;

fn suspend(reason: u16) -> OpBody {
    OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason })
}

fn one(chain: &mut Chain, reason: u16) -> Bytes {
    let op = chain.op(suspend(reason));
    chain.sign(ACQUIRER, &[op])
}

#[tokio::test]
async fn a_decided_batch_answers_with_its_receipts_however_often_it_is_sent() {
    let mut chain = Chain::start().await;
    let mandate = chain.mandate().await;
    let ops = [chain.op(OpBody::Pay(pay(mandate, 700))), chain.op(OpBody::Pay(pay(mandate, 0)))];
    let batch = chain.sign(ACQUIRER, &ops);
    let mut wallet = chain.wallet("wallet").await;

    let admitted = wallet.submit_batch(none(batch.clone())).await.unwrap().into_inner();
    assert!(!admitted.known && admitted.receipts.is_none() && admitted.batch_hash.len() == 32);
    // Two callers wait for the same bytes.
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (mut wallet, batch) = (wallet.clone(), batch.clone());
            tokio::spawn(async move { wallet.submit_batch(decided(batch)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    chain.block_of(1).await;
    let mut answers = Vec::new();
    for call in waiting {
        answers.push(call.await.unwrap().unwrap().into_inner());
    }
    // Long executed: the same answer, from storage.
    chain.block().await;
    chain.block().await;
    answers.push(wallet.submit_batch(decided(batch)).await.unwrap().into_inner());
    for answer in &answers {
        assert!(answer.known);
        assert_eq!(answer.batch_hash, admitted.batch_hash);
        assert_eq!(answer.receipts, answers[0].receipts);
    }
    let receipts = answers[0].receipts.clone().unwrap();
    assert_eq!(receipts.receipts.iter().map(code).collect::<Vec<_>>(), [0, 5001]);
    assert_eq!((receipts.seq, receipts.height, receipts.participant), (2, 3, 1));
    assert_eq!(receipts.batch_hash, admitted.batch_hash);
}

#[tokio::test]
async fn a_call_that_waits_for_finality_answers_when_its_block_is_final() {
    let mut chain = Chain::start().await;
    let batch = one(&mut chain, 1);
    let request = v1::SubmitBatchRequest { signed_batch: batch.clone(), wait: v1::Wait::Final.into() };
    let mut wallet = chain.wallet("wallet").await;
    let mut call = {
        let (mut wallet, request) = (wallet.clone(), request.clone());
        tokio::spawn(async move { wallet.submit_batch(request).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    chain.block_of(1).await;
    let early = tokio::time::timeout(Duration::from_millis(200), &mut call).await;
    assert!(early.is_err(), "decided is not final: {early:?}");
    chain.final_height.send_replace(chain.height);
    let answer = call.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.receipts.unwrap().height, chain.height);
    // Long final: the same answer at once.
    assert!(wallet.submit_batch(request).await.unwrap().into_inner().receipts.is_some());

    let batch = one(&mut chain, 2);
    wallet.submit_batch(none(batch.clone())).await.unwrap();
    chain.block_of(1).await;
    let mut request = Request::new(v1::SubmitBatchRequest { signed_batch: batch, wait: v1::Wait::Final.into() });
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let status = wallet.submit_batch(request).await.expect_err("it does not become final");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "STILL_PENDING"));
    assert!(status.message().contains("decided, but not final"), "{}", status.message());
}

#[tokio::test]
async fn a_deadline_gives_the_hash_to_ask_for_and_the_batch_goes_on() {
    let mut chain = Chain::start().await;
    let op = chain.op(suspend(1));
    let batch = chain.sign(ACQUIRER, std::slice::from_ref(&op));
    let hash = anji_contracts::decode_batch(&batch, &chain.chain_id()).unwrap().hash;
    let mut wallet = chain.wallet("wallet").await;
    let mut request = Request::new(decided(batch));
    // As a header only: the client library would otherwise give up by itself at the same moment.
    request.metadata_mut().insert("grpc-timeout", "400m".parse().unwrap());
    let since = Instant::now();
    let status = wallet.submit_batch(request).await.expect_err("no block is made");
    assert!(since.elapsed() < Duration::from_millis(2_000));
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "STILL_PENDING"));
    assert_eq!(metadata(&status, "batch_hash"), Some(hash.to_string()));
    let operation = Some(v1::Id { participant: 1, op_id: anji_wire::ledger::op_id(op.op_id) });
    let ask = v1::GetOperationRequest { operation };
    assert_eq!(wallet.get_operation(ask.clone()).await.expect_err("not yet").code(), Code::NotFound);
    chain.block_of(1).await;
    let answer = wallet.get_operation(ask).await.unwrap().into_inner();
    assert_eq!(answer.batch_hash, hash.0);
    assert_eq!(code(answer.receipt.as_ref().unwrap()), 3004);
}

#[tokio::test]
async fn a_batch_that_no_block_took_before_it_expired_is_told_so() {
    let mut chain = Chain::start().await;
    let op = chain.op(suspend(1));
    let batch = chain.sign_until(ACQUIRER, &[op], chain.now() + 1_000);
    let mut wallet = chain.wallet("wallet").await;
    let call = tokio::spawn(async move { wallet.submit_batch(decided(batch)).await });
    wait_for("it waits", || !chain.mempool.is_empty()).await;
    chain.pass(1_000);
    assert_eq!(chain.block().await, 0, "expired, so not in the block");
    let status = tokio::time::timeout(Duration::from_secs(10), call).await.unwrap().unwrap().expect_err("expired");
    assert_eq!((status.code(), metadata(&status, "code")), (Code::FailedPrecondition, Some("1011".into())));
}

#[tokio::test]
async fn a_full_share_of_the_pool_says_when_to_come_back() {
    let pool = PoolLimits { participant_batches: 2, ..PoolLimits::default() };
    let mut chain = Chain::with(Limits::default(), pool).await;
    let mut wallet = chain.wallet("wallet").await;
    for reason in 0..2 {
        wallet.submit_batch(none(one(&mut chain, reason))).await.expect("fits");
    }
    let status = wallet.submit_batch(none(one(&mut chain, 2))).await.expect_err("full");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "MEMPOOL_FULL"));
    assert!(status.get_details_retry_info().and_then(|info| info.retry_delay).is_some_and(|it| it > Duration::ZERO));
    chain.block_of(2).await;
    wallet.submit_batch(none(one(&mut chain, 3))).await.expect("there is room again");
}

#[tokio::test]
async fn a_stream_of_batches_keeps_their_order_and_survives_bad_ones() {
    let mut chain = Chain::start().await;
    let (sender, receiver) = mpsc::channel(100);
    let mut wallet = chain.wallet("wallet").await;
    let mut answers = wallet.submit_batches(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let mut ids = Vec::new();
    for tag in 0..20u64 {
        let op = chain.op(suspend(tag as u16));
        ids.push(anji_wire::ledger::op_id(op.op_id));
        let mut bytes = chain.sign(ACQUIRER, &[op]).to_vec();
        if tag == 7 {
            bytes.truncate(50);
        }
        let wait = v1::Wait::Decided.into();
        sender.send(v1::SubmitBatchesRequest { tag, signed_batch: bytes.into(), wait }).await.unwrap();
    }
    drop(sender);
    chain.block_of(19).await;
    let mut found = BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(found.insert(answer.tag, answer.answer.unwrap()).is_none());
    }
    assert_eq!(found.len(), 20);
    let mut last_seq = None;
    for (tag, answer) in found {
        match answer {
            Answer::Accepted(accepted) => {
                let receipts = accepted.receipts.unwrap();
                assert_eq!(receipts.receipts[0].op_id, ids[tag as usize]);
                assert!(last_seq < Some(receipts.seq), "in the order sent");
                last_seq = Some(receipts.seq);
            }
            Answer::Error(error) => {
                let shown = (tag, error.reject_code, error.status_code, error.reason.as_str());
                assert_eq!(shown, (7, 1001, Code::InvalidArgument as i32, "MALFORMED"));
            }
        }
    }
}

#[tokio::test]
async fn a_stream_reads_no_more_than_it_may_leave_undecided() {
    let limits = Limits { undecided_per_stream: 4, ..Limits::default() };
    let mut chain = Chain::with(limits, PoolLimits::default()).await;
    let (sender, receiver) = mpsc::channel(100);
    let mut answers =
        chain.wallet("wallet").await.submit_batches(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for tag in 0..10u64 {
        let signed_batch = one(&mut chain, tag as u16);
        sender.send(v1::SubmitBatchesRequest { tag, signed_batch, wait: v1::Wait::Decided.into() }).await.unwrap();
    }
    wait_for("four", || chain.mempool.status().n_batches == 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(chain.mempool.status().n_batches, 4);
    drop(sender);
    let mut n = 0;
    for expected in [4, 4, 2] {
        chain.block_of(expected).await;
        for _ in 0..expected {
            answers.message().await.unwrap().unwrap();
            n += 1;
        }
    }
    assert_eq!((n, answers.message().await.unwrap().is_none()), (10, true));
}

#[tokio::test]
async fn stopping_ends_waiting_calls_with_the_hash() {
    let mut chain = Chain::start().await;
    let batch = one(&mut chain, 1);
    let mut wallet = chain.wallet("wallet").await;
    let call = tokio::spawn(async move { wallet.submit_batch(decided(batch)).await });
    wait_for("it waits", || !chain.mempool.is_empty()).await;
    let since = Instant::now();
    chain.services.stop().await;
    let status = call.await.unwrap().expect_err("stopping");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    assert!(metadata(&status, "batch_hash").is_some());
    assert!(since.elapsed() < Duration::from_secs(6));
}
