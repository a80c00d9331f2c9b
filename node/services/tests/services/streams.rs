//! Streams of receipts and changes: from anywhere, no gap, no duplicate; slow receivers, deadlines, stopping.

use crate::chain::{Chain, Wallet, none, reason, wait_for};
use crate::contracts::{ACQUIRER, HOUR_MS, ISSUER, pay};
use anji_contracts::ops::{MandateStop, OpBody};
use anji_contracts::types::MandateId;
use anji_mempool::Limits as PoolLimits;
use anji_proto::v1;
use anji_proto::v1::change::State;
use anji_proto::v1::stream_changes_response::Item as ChangeItem;
use anji_proto::v1::stream_receipts_response::Item;
use anji_services::Limits;
use std::time::Duration;
use tonic::{Code, Request, Streaming};

fn suspend(reason: u16) -> OpBody {
    OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason })
}

/// A batch of each of the two participants and a block; two sequences.
async fn two_batches(chain: &mut Chain, n_ops: usize) {
    for (name, participant) in [("wallet", ACQUIRER), ("credit", ISSUER)] {
        let ops: Vec<_> = (0..n_ops).map(|_| chain.op(suspend(1))).collect();
        let batch = chain.sign(participant, &ops);
        chain.wallet(name).await.submit_batch(none(batch)).await.unwrap();
    }
    chain.block_of(2).await;
}

async fn receipts(wallet: &mut Wallet, from_seq: u64) -> Streaming<v1::StreamReceiptsResponse> {
    wallet.stream_receipts(v1::StreamReceiptsRequest { from_seq, ..Default::default() }).await.unwrap().into_inner()
}

async fn next_batch(stream: &mut Streaming<v1::StreamReceiptsResponse>) -> v1::ReceiptBatch {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.expect("in time");
        match message.unwrap().expect("more").item.unwrap() {
            Item::Batch(batch) => return batch,
            Item::NextSeq(_) | Item::FinalHeight(_) => {}
        }
    }
}

#[tokio::test]
async fn final_receipts_come_when_their_block_is_final_and_not_before() {
    let mut chain = Chain::start().await;
    let mut wallet = chain.wallet("clearing").await;
    let final_only = v1::StreamReceiptsRequest { wait: v1::Wait::Final.into(), ..Default::default() };
    let mut finals = wallet.stream_receipts(final_only).await.unwrap().into_inner();
    let telling = v1::StreamReceiptsRequest { tell_final: true, ..Default::default() };
    let mut told = wallet.stream_receipts(telling).await.unwrap().into_inner();
    for _ in 0..3 {
        two_batches(&mut chain, 1).await;
    }
    assert_eq!(next_batch(&mut told).await.seq, 0, "decided receipts do not wait");
    let early = tokio::time::timeout(Duration::from_millis(200), next_batch(&mut finals)).await;
    assert!(early.is_err(), "nothing is final yet: {early:?}");
    chain.final_height.send_replace(2);
    for seq in 0..4 {
        let batch = next_batch(&mut finals).await;
        assert_eq!(batch.seq, seq);
        assert!(batch.height <= 2);
    }
    let early = tokio::time::timeout(Duration::from_millis(200), next_batch(&mut finals)).await;
    assert!(early.is_err(), "height 3 is not final: {early:?}");
    chain.final_height.send_replace(3);
    assert_eq!(next_batch(&mut finals).await.seq, 4);
    let last = loop {
        let message = tokio::time::timeout(Duration::from_secs(20), told.message()).await.expect("in time");
        if let Item::FinalHeight(3) = message.unwrap().expect("more").item.unwrap() {
            break 3;
        }
    };
    assert_eq!(last, 3);
    let status = wallet.stream_receipts(v1::StreamReceiptsRequest { wait: 9, ..Default::default() }).await;
    assert_eq!(status.expect_err("no such wait").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn receipts_come_from_any_sequence_stored_ones_first_then_new_ones() {
    let mut chain = Chain::start().await;
    for _ in 0..20 {
        two_batches(&mut chain, 2).await;
    }
    let mut clearing = chain.wallet("clearing").await;
    let mut all = receipts(&mut clearing, 0).await;
    let mut first = Vec::new();
    for seq in 0..40 {
        let batch = next_batch(&mut all).await;
        assert_eq!((batch.seq, batch.receipts.len()), (seq, 2));
        first.push(batch);
    }
    let mut late = receipts(&mut clearing, 37).await;
    // The live part; both streams go on with the same batches.
    for _ in 0..3 {
        two_batches(&mut chain, 1).await;
    }
    for seq in 37..46 {
        let batch = next_batch(&mut late).await;
        assert_eq!(batch.seq, seq);
        match first.get(seq as usize) {
            Some(stored) => assert_eq!(*stored, batch),
            None => assert_eq!(next_batch(&mut all).await, batch),
        }
    }
    // A participant gets its own, in order; the sequence is still the chain's.
    let mut own = receipts(&mut chain.wallet("credit").await, 0).await;
    for block in 0..23 {
        let batch = next_batch(&mut own).await;
        assert_eq!(batch.participant, 2);
        assert_eq!(batch.seq / 2, block);
    }
}

#[tokio::test]
async fn blocks_that_were_not_told_are_read_from_storage() {
    let mut chain = Chain::start().await;
    let mut clearing = chain.wallet("clearing").await;
    let mut stream = receipts(&mut clearing, 0).await;
    two_batches(&mut chain, 1).await;
    // A call waits for a batch of a block that the feed is not told of.
    chain.told = false;
    let op = chain.op(suspend(3));
    let batch = chain.sign(ACQUIRER, &[op]);
    let mut wallet = chain.wallet("wallet").await;
    let call = tokio::spawn(async move { wallet.submit_batch(crate::chain::decided(batch)).await });
    chain.block_of(1).await;
    for _ in 0..40 {
        two_batches(&mut chain, 1).await;
    }
    assert!(!call.is_finished());
    chain.told = true;
    chain.block().await;
    let answer = tokio::time::timeout(Duration::from_secs(10), call).await.expect("told now").unwrap().unwrap();
    assert_eq!(answer.into_inner().receipts.unwrap().seq, 2);
    for seq in 0..83 {
        assert_eq!(next_batch(&mut stream).await.seq, seq);
    }
}

#[tokio::test]
async fn a_quiet_stream_tells_where_to_resume() {
    let limits = Limits { heartbeat: Duration::from_millis(100), ..Limits::default() };
    let mut chain = Chain::with(limits, PoolLimits::default()).await;
    two_batches(&mut chain, 1).await;
    // Nothing of this caller's: the position moves on all the same.
    let mut wallet = chain.wallet("wallet2").await;
    let mut stream = receipts(&mut wallet, 0).await;
    let item = stream.message().await.unwrap().unwrap().item.unwrap();
    assert_eq!(item, Item::NextSeq(2));
    let request = v1::StreamChangesRequest { from_index: 1_000_000, kinds: vec![] };
    let mut changes = wallet.stream_changes(request).await.unwrap().into_inner();
    let item = changes.message().await.unwrap().unwrap().item.unwrap();
    assert_eq!(item, ChangeItem::NextIndex(1_000_000));
}

#[tokio::test]
async fn a_slow_receiver_is_cut_off_and_resumes() {
    let limits = Limits { slow_receiver: Duration::from_millis(300), ..Limits::default() };
    let mut chain = Chain::with(limits, PoolLimits::default()).await;
    for _ in 0..10 {
        two_batches(&mut chain, 400).await;
    }
    let mut clearing = chain.narrow_wallet("clearing").await;
    let mut stream = receipts(&mut clearing, 0).await;
    // Some 500 kB wait; HTTP/2 lets 64 kB through to this client while it does not read.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut next_seq = 0;
    let status = loop {
        match stream.message().await {
            Ok(Some(message)) => match message.item.unwrap() {
                Item::Batch(batch) => {
                    assert_eq!(batch.seq, next_seq);
                    next_seq += 1;
                }
                Item::NextSeq(_) | Item::FinalHeight(_) => {}
            },
            Ok(None) => panic!("ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "SLOW_RECEIVER"));
    assert!(next_seq < 20, "cut off after {next_seq}");
    let mut again = receipts(&mut clearing, next_seq).await;
    for seq in next_seq..20 {
        assert_eq!(next_batch(&mut again).await.seq, seq);
    }
}

#[tokio::test]
async fn streams_are_counted_per_caller_and_end_with_deadline_or_node() {
    let limits = Limits { streams_per_caller: 2, ..Limits::default() };
    let chain = Chain::with(limits, PoolLimits::default()).await;
    let mut wallet = chain.wallet("wallet").await;
    let first = receipts(&mut wallet, 0).await;
    let mut second = receipts(&mut wallet, 0).await;
    let status = wallet.stream_receipts(v1::StreamReceiptsRequest::default()).await.expect_err("two are open");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
    drop(first);
    let mut third = None;
    for _ in 0..200 {
        let mut request = Request::new(v1::StreamReceiptsRequest::default());
        request.metadata_mut().insert("grpc-timeout", "500m".parse().unwrap());
        match wallet.stream_receipts(request).await {
            Ok(stream) => {
                third = Some(stream.into_inner());
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    let status = third.expect("a place became free").message().await.expect_err("its deadline passes");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_PASSED"));
    chain.services.stop().await;
    let status = second.message().await.expect_err("the node stops");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
}

async fn next_change(stream: &mut Streaming<v1::StreamChangesResponse>) -> v1::Change {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.expect("in time");
        match message.unwrap().expect("more").item.unwrap() {
            ChangeItem::Change(change) => return change,
            ChangeItem::NextIndex(_) => {}
        }
    }
}

#[tokio::test]
async fn changes_tell_each_party_what_concerns_it_and_what_time_did() {
    let mut chain = Chain::start().await;
    let kinds = vec![v1::EntityKind::Payment.into(), v1::EntityKind::Mandate.into()];
    let request = v1::StreamChangesRequest { from_index: 0, kinds };
    let mut issuer = chain.wallet("credit").await.stream_changes(request.clone()).await.unwrap().into_inner();
    let mut stranger = chain.wallet("wallet2").await.stream_changes(request.clone()).await.unwrap().into_inner();
    let mandate = chain.mandate().await;
    let (payment, terms) = chain.requested(mandate).await;
    assert_eq!(crate::chain::code(&chain.run("wallet", OpBody::Pay(pay(mandate, 500))).await), 0);
    // Nobody answers: ledger time expires the payment, and no receipt says so.
    let answer_by_ms = terms.answer_by_ms;
    chain.pass(answer_by_ms - chain.now() + HOUR_MS);
    chain.block().await;

    let mut told = Vec::new();
    while told.len() < 5 {
        let change = next_change(&mut issuer).await;
        let by = change.cause.as_ref().map(|id| id.participant);
        told.push(match change.state.clone().unwrap() {
            State::Mandate(it) => (change.index, "mandate", it.status, change.version, by),
            State::Payment(it) if it.id == Some(anji_wire::ledger::id(payment.0)) => {
                (change.index, "payment", it.status, change.version, by)
            }
            State::Payment(it) => (change.index, "pay", it.status, change.version, by),
            other => panic!("not asked for: {other:?}"),
        });
    }
    let shape: Vec<_> = told.iter().map(|(_, what, status, version, by)| (*what, *status, *version, *by)).collect();
    let (proposed, active, requested, captured, expired) = (1, 2, 1, 5, 7);
    assert_eq!(
        shape,
        [
            ("mandate", proposed, 1, Some(1)),
            ("mandate", active, 2, Some(2)),
            ("payment", requested, 1, Some(1)),
            ("pay", captured, 1, Some(1)),
            ("payment", expired, 2, None),
        ]
    );
    // Resumed in the middle: exactly the rest.
    let resume = v1::StreamChangesRequest { from_index: told[2].0 + 1, ..request };
    let mut again = chain.wallet("wallet").await.stream_changes(resume).await.unwrap().into_inner();
    assert_eq!(next_change(&mut again).await.index, told[3].0);
    assert_eq!(next_change(&mut again).await.index, told[4].0);
    // A stranger is told nothing of it.
    let nothing = tokio::time::timeout(Duration::from_millis(500), stranger.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn a_receiver_that_hangs_up_frees_its_place() {
    let limits = Limits { streams_per_caller: 1, ..Limits::default() };
    let chain = Chain::with(limits, PoolLimits::default()).await;
    for _ in 0..3 {
        let mut wallet = chain.wallet("wallet").await;
        let mut opened = None;
        for _ in 0..400 {
            opened = wallet.stream_receipts(v1::StreamReceiptsRequest::default()).await.ok();
            if opened.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(opened.is_some(), "the place of the stream before became free");
    }
    wait_for("idle", || chain.mempool.is_empty()).await;
}
