//! Wrong bytes and wrong operations, one row each: a clear answer with a code, nothing lost, the node stays up.

use anji_contracts::batch::MAX_BATCH_BYTES;
use anji_contracts::ops::{Op, OpBody, WindowClose};
use anji_contracts::types::{Amount, ChainId, Hash32, WindowId};
use anji_proto::v1 as pb;
use anji_tests::{ALL, Ledger, Net, reject_code};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use tonic::Code;

/// What a node answers to wrong bytes.
async fn refusal(ledger: &Ledger, bytes: Bytes) -> (Code, Option<u16>) {
    match ledger.submit("acquirer", 1, &bytes).await {
        Ok(receipts) => panic!("accepted: {receipts:?}"),
        Err(status) => (status.code(), reject_code(&status)),
    }
}

fn with_amount(op: Op, amount: u64) -> Op {
    let OpBody::Pay(mut pay) = op.body else { panic!("not a payment") };
    pay.amount = Amount(amount);
    Op { body: OpBody::Pay(pay), ..op }
}

#[test]
fn wrong_bytes_are_refused_with_their_code() {
    let mut net = Net::four("bad-bytes").start();
    let ledger = net.ledger().clone();
    let mandate = net.run(ledger.mandates(&["acquirer"], 1))[0];
    let good = || ledger.batch(1, &[ledger.pay(mandate, 5)]);
    let now = Ledger::now_ms();
    let cut = |bytes: Bytes, n: usize| bytes.slice(..bytes.len() - n);
    let flipped = |bytes: Bytes, at_end: usize| {
        let mut bytes = bytes.to_vec();
        let place = bytes.len() - at_end;
        bytes[place] ^= 1;
        Bytes::from(bytes)
    };
    let stranger = SigningKey::from_bytes(&[9; 32]);
    let other_chain = ChainId(Hash32([9; 32]));
    let one = [ledger.pay(mandate, 5)];
    let rows = [
        ("garbage", Bytes::from_static(b"once upon a time there was a very good batch of nothing at all, and it was not a batch, but it was long enough to be one if it had been one, which it was not, as was said before, and will be said again, and again"), Code::InvalidArgument, vec![1001, 1002]),
        ("empty", Bytes::new(), Code::InvalidArgument, vec![1001]),
        ("truncated", cut(good(), 1), Code::InvalidArgument, vec![1001]),
        ("trailing bytes", [good().as_ref(), b"x"].concat().into(), Code::InvalidArgument, vec![1014]),
        ("oversized", vec![0; MAX_BATCH_BYTES + 1].into(), Code::InvalidArgument, vec![1004]),
        ("wrong chain", ledger.batch_with(other_chain, 1, ledger.key(1), now + 60_000, &one), Code::InvalidArgument, vec![1003]),
        ("wrongly signed", flipped(good(), 1), Code::InvalidArgument, vec![1008]),
        ("another's signature", ledger.batch_with(ledger.chain(), 1, &stranger, now + 60_000, &one), Code::InvalidArgument, vec![1008]),
        ("changed operation", flipped(good(), 70), Code::InvalidArgument, vec![1001, 1007]),
        ("expired", ledger.batch_with(ledger.chain(), 1, ledger.key(1), now - 1_000, &one), Code::FailedPrecondition, vec![1011]),
        ("expires too late", ledger.batch_with(ledger.chain(), 1, ledger.key(1), now + 3_600_000, &one), Code::InvalidArgument, vec![1012]),
    ];
    for (name, bytes, status, codes) in rows {
        let (got, code) = net.run(refusal(&ledger, bytes));
        assert_eq!(got, status, "{name} ({code:?})");
        assert!(codes.iter().any(|wanted| code == Some(*wanted)), "{name}: {code:?}");
    }
    // The issuer's batch under the acquirer's token.
    let not_mine = ledger.batch(2, &one);
    let (status, _) = net.run(refusal(&ledger, not_mine));
    assert_eq!(status, Code::PermissionDenied, "another participant's batch");
    // An unknown key number and an unknown participant cannot be signed by encode_batch's caller otherwise than by changing the header.
    for (name, place, codes) in [("unknown key", 38, [1009, 1010]), ("unknown participant", 34, [1009, 1010])] {
        let mut bytes = good().to_vec();
        bytes[place] = 77;
        let (status, code) = net.run(refusal(&ledger, bytes.into()));
        assert!(
            status == Code::PermissionDenied && code.is_none_or(|code| codes.contains(&code)),
            "{name}: {status:?} {code:?}"
        );
    }
    // Nothing of this hurt: a good one settles, on every node the same.
    net.run(ledger.done(&["acquirer"], 1, &[ledger.pay(mandate, 5)]));
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}

#[test]
fn wrong_operations_get_a_receipt_with_their_code() {
    let mut net = Net::four("bad-ops").start();
    let ledger = net.ledger().clone();
    let mandate = net.run(ledger.mandates(&["acquirer"], 1))[0];
    let pay = |amount| with_amount(ledger.pay(mandate, 1), amount);
    let now = Ledger::now_ms();
    let day = 86_400_000;
    let rows = [
        ("zero amount", 1, pay(0), Some(5001)),
        ("overflow", 1, pay(u64::MAX), Some(4011)),
        ("wrong role", 2, pay(5), Some(2001)),
        (
            "wrong role at the window",
            1,
            ledger.op(OpBody::WindowClose(WindowClose { window: WindowId(1) })),
            Some(2001),
        ),
        ("clock behind", 1, Op { op_id: ledger.op_id_at(now - day - 60_000), ..pay(5) }, Some(3002)),
        ("clock ahead", 1, Op { op_id: ledger.op_id_at(now + 600_000), ..pay(5) }, Some(3003)),
        ("clock a minute ahead", 1, Op { op_id: ledger.op_id_at(now + 60_000), ..pay(5) }, None),
        ("good", 1, pay(5), None),
    ];
    for (name, participant, op, code) in rows {
        let node = if participant == 1 { "acquirer" } else { "issuer" };
        assert_eq!(net.run(ledger.code(node, participant, op)), code, "{name}");
    }
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}

#[test]
fn the_same_id_is_answered_once_and_another_body_is_a_conflict() {
    let net = Net::four("same-id").start();
    let ledger = net.ledger().clone();
    let mandate = net.run(ledger.mandates(&["acquirer"], 1))[0];
    let op = ledger.pay(mandate, 700);
    let batch = ledger.batch(1, std::slice::from_ref(&op));
    let first = net.run(ledger.submit("acquirer", 1, &batch)).expect("settles");
    // The same bytes again, at another node: the same answer, no second execution.
    let again = net.run(ledger.submit("provider", 1, &batch)).expect("known");
    assert_eq!((again.seq, &again.receipts), (first.seq, &first.receipts));
    // The same operation in another batch: the first receipt.
    let repacked = net.run(ledger.submit("acquirer", 1, &ledger.batch(1, &[ledger.pay(mandate, 1), op.clone()])));
    assert_eq!(repacked.expect("settles").receipts[1], first.receipts[0]);
    // The same id with another body: a conflict, and the first answer stands.
    assert_eq!(net.run(ledger.code("acquirer", 1, with_amount(op.clone(), 701))), Some(3001));
    let kept = net.run(ledger.operation("issuer", 1, &op.op_id.0.to_be_bytes()));
    assert!(kept.is_err() || kept.is_ok_and(|receipt| receipt == first.receipts[0]));
    let own = net.run(ledger.operation("acquirer", 1, &op.op_id.0.to_be_bytes())).expect("known");
    assert_eq!(own, first.receipts[0]);
}

#[test]
fn a_caller_without_the_right_token_gets_nothing() {
    let net = Net::four("tokens").start();
    let text = std::fs::read_to_string(net.dir.join("network.json")).expect("network.json");
    let network: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let address = network["nodes"][0]["grpc"].as_str().expect("grpc").to_owned();
    let ask = |token: Option<&'static str>| {
        let address = address.clone();
        async move {
            let channel =
                tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("address").connect_lazy();
            let mut wallet = pb::wallet_service_client::WalletServiceClient::new(channel);
            let mut request = tonic::Request::new(pb::GetChainInfoRequest {});
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", token.parse().expect("printable"));
            }
            wallet.get_chain_info(request).await.map(|_| ()).map_err(|status| status.code())
        }
    };
    assert_eq!(net.run(ask(None)), Err(Code::Unauthenticated));
    assert_eq!(net.run(ask(Some("Bearer wrong"))), Err(Code::Unauthenticated));
    assert_eq!(net.run(ask(Some("Basic test-token-of-participant-1"))), Err(Code::Unauthenticated));
    assert_eq!(net.run(ask(Some("Bearer test-token-of-participant-1"))), Ok(()));
}
