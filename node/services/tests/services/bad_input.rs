//! One row for every kind of bad input: the documented code, nothing changed, the node goes on.

use crate::chain::{Chain, code, decided, metadata, none, reason};
use crate::contracts::{ACQUIRER, CLEARING, DAY_MS, HOUR_MS, pay, propose, signing_key};
use anji_contracts::batch::{MAX_BATCH_BYTES, MAX_BATCH_LIFE_MS};
use anji_contracts::encode_batch;
use anji_contracts::ops::{MandateStop, Op, OpBody, PaymentChange, WindowClose};
use anji_contracts::types::{
    Amount, ChainId, Currency, Hash32, KeyId, MandateId, OpId, PaymentId, Scene, ScopedId, WindowId,
};
use anji_proto::v1;
use bytes::Bytes;
use ed25519_dalek::Signer;
use tonic::Code;

fn suspend(reason: u16) -> OpBody {
    OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason })
}

#[tokio::test]
async fn bad_batches_get_their_code_and_nothing_is_kept() {
    let mut chain = Chain::start().await;
    let op = chain.op(suspend(1));
    let good = chain.sign(ACQUIRER, std::slice::from_ref(&op));
    let now = chain.now();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    let last = good.len() - 1;
    let encode = |chain_id: ChainId, participant, key_id, signer, expires_at_ms| {
        let sign = |digest: &[u8; 32]| signing_key(signer, 1).sign(digest).to_bytes();
        let ops = std::slice::from_ref(&op);
        Bytes::from(encode_batch(&chain_id, participant, KeyId(key_id), expires_at_ms, ops, sign).unwrap())
    };
    let own = chain.chain_id();
    let other_chain = ChainId(Hash32([9; 32]));
    let rows: Vec<(&str, Bytes, u16, Code)> = vec![
        ("oversized", vec![0; MAX_BATCH_BYTES + 1].into(), 1004, Code::InvalidArgument),
        ("empty", Bytes::new(), 1001, Code::InvalidArgument),
        ("truncated", with(&|it| it.truncate(last)), 1001, Code::InvalidArgument),
        ("cut in the header", with(&|it| it.truncate(40)), 1001, Code::InvalidArgument),
        ("garbage", vec![0xa5; 500].into(), 1002, Code::InvalidArgument),
        ("another format", with(&|it| it[0] = 9), 1002, Code::InvalidArgument),
        ("a byte too many", with(&|it| it.push(0)), 1014, Code::InvalidArgument),
        ("a changed operation", with(&|it| it[last - 64] ^= 1), 1007, Code::InvalidArgument),
        ("another chain", encode(other_chain, ACQUIRER, 1, ACQUIRER, now + 1000), 1003, Code::InvalidArgument),
        ("wrongly signed", encode(own, ACQUIRER, 1, CLEARING, now + 1000), 1008, Code::InvalidArgument),
        ("a flipped signature", with(&|it| it[last] ^= 1), 1008, Code::InvalidArgument),
        ("an unknown key", encode(own, ACQUIRER, 7, ACQUIRER, now + 1000), 1009, Code::PermissionDenied),
        ("expired", encode(own, ACQUIRER, 1, ACQUIRER, now), 1011, Code::FailedPrecondition),
        (
            "expires too far ahead",
            encode(own, ACQUIRER, 1, ACQUIRER, now + MAX_BATCH_LIFE_MS + 1),
            1012,
            Code::InvalidArgument,
        ),
    ];
    let mut wallet = chain.wallet("wallet").await;
    for (what, bytes, number, expected) in rows {
        for request in [none(bytes.clone()), decided(bytes)] {
            let status = wallet.submit_batch(request).await.expect_err(what);
            let found = metadata(&status, "code");
            assert_eq!((status.code(), found), (expected, Some(number.to_string())), "{what}: {status}");
            assert_eq!(metadata(&status, "transient"), Some((number == 1011).to_string()), "{what}");
        }
    }
    assert!(chain.mempool.is_empty());
    wallet.submit_batch(none(good)).await.expect("the batch the rows were made from is good");
}

#[tokio::test]
async fn what_is_not_the_callers_is_refused() {
    let mut chain = Chain::start().await;
    let op = chain.op(suspend(1));
    let bytes = chain.sign(CLEARING, std::slice::from_ref(&op));
    let status = chain.wallet("wallet").await.submit_batch(decided(bytes)).await.expect_err("another's batch");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_YOUR_DATA"));

    let mandate = chain.mandate().await;
    let (payment, _) = chain.requested(mandate).await;
    let (mandate, payment) = (anji_wire::ledger::id(mandate.0), anji_wire::ledger::id(payment.0));
    let mut stranger = chain.wallet("wallet2").await;
    let denied = [
        stranger.get_payment(v1::GetPaymentRequest { payment: Some(payment.clone()) }).await.map(drop),
        stranger.get_mandate(v1::GetMandateRequest { mandate: Some(mandate.clone()) }).await.map(drop),
        stranger.get_operation(v1::GetOperationRequest { operation: Some(payment.clone()) }).await.map(drop),
        stranger.get_position(v1::GetPositionRequest { participant: 2 }).await.map(drop),
        stranger
            .stream_receipts(v1::StreamReceiptsRequest { from_seq: 0, participant: 1, ..Default::default() })
            .await
            .map(drop),
    ];
    for (place, result) in denied.into_iter().enumerate() {
        let status = result.expect_err("not the stranger's");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_YOUR_DATA"), "{place}");
    }
    for name in ["wallet", "credit", "clearing", "regulator"] {
        let mut party = chain.wallet(name).await;
        party.get_payment(v1::GetPaymentRequest { payment: Some(payment.clone()) }).await.expect(name);
        party.get_mandate(v1::GetMandateRequest { mandate: Some(mandate.clone()) }).await.expect(name);
    }
}

#[tokio::test]
async fn messages_beyond_the_limit_are_refused_unread() {
    let chain = Chain::start().await;
    let mut wallet = chain.wallet("wallet").await;
    let status = wallet.submit_batch(none(vec![0; MAX_BATCH_BYTES + (70 << 10)])).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange);
    wallet.get_chain_info(v1::GetChainInfoRequest {}).await.expect("the node goes on");
}

#[tokio::test]
async fn bad_fields_are_named() {
    let chain = Chain::start().await;
    let mut wallet = chain.wallet("wallet").await;
    let id = |participant, length: usize| Some(v1::Id { participant, op_id: vec![1; length] });
    let field = |result: Result<(), tonic::Status>| {
        let status = result.expect_err("a bad field");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        metadata(&status, "field").unwrap()
    };
    for (payment, expected) in [
        (None, "payment"),
        (id(0, 16), "payment.participant"),
        (id(1, 15), "payment.op_id"),
        (id(1, 17), "payment.op_id"),
    ] {
        assert_eq!(field(wallet.get_payment(v1::GetPaymentRequest { payment }).await.map(drop)), expected);
    }
    let refund = v1::GetRefundRequest { refund: id(1, 0) };
    assert_eq!(field(wallet.get_refund(refund).await.map(drop)), "refund.op_id");
    assert_eq!(field(wallet.get_mandate(v1::GetMandateRequest { mandate: None }).await.map(drop)), "mandate");
    let operation = v1::GetOperationRequest { operation: id(1, 3) };
    assert_eq!(field(wallet.get_operation(operation).await.map(drop)), "operation.op_id");
    let changes = v1::StreamChangesRequest { from_index: 0, kinds: vec![99] };
    assert_eq!(field(wallet.stream_changes(changes).await.map(drop)), "kinds");
    let wait = v1::SubmitBatchRequest { signed_batch: Bytes::new(), wait: 9 };
    assert_eq!(field(wallet.submit_batch(wait).await.map(drop)), "wait");

    for (what, status) in [
        ("payment", wallet.get_payment(v1::GetPaymentRequest { payment: id(1, 16) }).await.map(drop)),
        ("refund", wallet.get_refund(v1::GetRefundRequest { refund: id(1, 16) }).await.map(drop)),
        ("mandate", wallet.get_mandate(v1::GetMandateRequest { mandate: id(1, 16) }).await.map(drop)),
        ("operation", wallet.get_operation(v1::GetOperationRequest { operation: id(0, 16) }).await.map(drop)),
        ("window", wallet.get_window(v1::GetWindowRequest { window: 99 }).await.map(drop)),
    ] {
        let status = status.expect_err(what);
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NOT_FOUND"), "{what}");
    }
}

#[tokio::test]
async fn operations_that_the_rules_refuse_are_answers_not_errors() {
    let mut chain = Chain::start().await;
    let mandate = chain.mandate().await;
    let mut world = crate::contracts::World::new();
    world.now_ms = chain.now();
    let unknown = MandateId(ScopedId { participant: ACQUIRER, op_id: OpId(5) });
    let with = |change: &dyn Fn(&mut anji_contracts::ops::Pay)| {
        let mut it = pay(mandate, 700);
        change(&mut it);
        OpBody::Pay(it)
    };
    let change = PaymentChange { payment: PaymentId::default(), amount: Amount(1) };
    let rows: Vec<(&str, &str, OpBody, u32)> = vec![
        ("wrong role", "credit", OpBody::MandatePropose(propose(&world)), 2001),
        ("wrong role for a window", "wallet", OpBody::WindowClose(WindowClose { window: WindowId(1) }), 2001),
        ("not in force", "wallet", OpBody::PaymentIncrement(change), 2009),
        ("a forbidden scene", "wallet", with(&|it| it.scene = Scene::SocialTransfer), 2007),
        ("another currency", "wallet", with(&|it| it.currency = Currency(840)), 2008),
        ("unknown mandate", "wallet", OpBody::Pay(pay(unknown, 700)), 3004),
        ("zero amount", "wallet", with(&|it| it.amount = Amount(0)), 5001),
        ("overflow", "wallet", with(&|it| it.amount = Amount(u64::MAX)), 4011),
        ("stale version", "wallet", with(&|it| it.guarantee_version = 9), 4009),
        ("another window", "clearing", OpBody::WindowClose(WindowClose { window: WindowId(7) }), 3007),
    ];
    for (what, name, body, expected) in rows {
        let receipt = chain.run(name, body).await;
        assert_eq!(code(&receipt), expected, "{what}");
    }

    let old = Op { op_id: OpId::new(chain.now() - DAY_MS - HOUR_MS, 1), linked: false, body: with(&|_| {}) };
    assert_eq!(code(&chain.run_op("wallet", old).await), 3002, "id too old");
    let new = Op { op_id: OpId::new(chain.now() + HOUR_MS, 1), linked: false, body: with(&|_| {}) };
    assert_eq!(code(&chain.run_op("wallet", new).await), 3003, "id too new");

    let first = chain.op(with(&|_| {}));
    assert_eq!(code(&chain.run_op("wallet", first.clone()).await), 0);
    let again = chain.run_op("wallet", first.clone()).await;
    assert_eq!((code(&again), again.height < chain.height), (0, true), "same id, same body: the first receipt");
    let conflict = Op { body: with(&|it| it.amount = Amount(701)), ..first.clone() };
    assert_eq!(code(&chain.run_op("wallet", conflict).await), 3001, "same id, other body");

    // The first answer, also when the id is far too old to be used again.
    chain.pass(3 * DAY_MS);
    chain.block().await;
    let operation = Some(v1::Id { participant: 0, op_id: anji_wire::ledger::op_id(first.op_id) });
    let answer = chain.wallet("wallet").await.get_operation(v1::GetOperationRequest { operation }).await.unwrap();
    assert_eq!(answer.into_inner().receipt, Some(again));
}
