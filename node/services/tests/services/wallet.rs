//! Reads of the wallet service.

use crate::chain::{Chain, code};
use crate::contracts::{ACQUIRER, capture, pay};
use anji_contracts::ops::{OpBody, PaymentHold, RefundRequest, WindowClose};
use anji_contracts::types::{Amount, PaymentId, RefundId, ScopedId, WindowId};
use anji_proto::v1;
use anji_wire::ledger::id;

#[tokio::test]
async fn chain_info_says_what_a_client_must_know_before_it_signs() {
    let mut chain = Chain::start().await;
    chain.mandate().await;
    let info = chain.wallet("credit").await.get_chain_info(v1::GetChainInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.chain_id, chain.chain_id().0.0);
    assert_eq!((info.name.as_str(), info.format, info.rules, info.currency), ("test", 1, 1, 156));
    assert_eq!((info.height, info.time_ms, info.open_window, info.caller), (2, chain.now(), 1, 2));
    assert_eq!((info.next_batch_seq, info.participants.len()), (2, 9));
    assert!(info.log_size > 15 && info.log_root.len() == 32);
    let schedule = info.schedule.unwrap();
    assert_eq!((schedule.version, schedule.legs.is_empty()), (1, false));
    let params = info.params.unwrap();
    assert_eq!((params.max_batch_bytes, params.max_batch_ops, params.max_refunds), (1 << 20, 4096, 50));
    let key = &info.participants[0].keys[0];
    assert_eq!((key.key_id, key.suite, key.public_key.len()), (1, 1, 32));
}

#[tokio::test]
async fn a_payments_life_can_be_read_step_by_step() {
    let mut chain = Chain::start().await;
    let mandate = chain.mandate().await;
    let (payment, _) = chain.requested(mandate).await;
    let mut wallet = chain.wallet("wallet").await;
    let ask = v1::GetPaymentRequest { payment: Some(id(payment.0)) };
    let before = wallet.get_payment(ask.clone()).await.unwrap().into_inner();
    assert_eq!(before.payment.as_ref().unwrap().status, v1::PaymentStatus::Requested as i32);
    assert_eq!(before.version, 1);

    let hold = PaymentHold { payment, assertion: crate::contracts::risk(), disclosure: None };
    assert_eq!(code(&chain.run("credit", OpBody::PaymentHold(hold)).await), 0);
    assert_eq!(code(&chain.run("wallet", OpBody::PaymentCapture(capture(payment, 300, true))).await), 0);
    let after = wallet.get_payment(ask).await.unwrap().into_inner();
    let it = after.payment.unwrap();
    assert_eq!((it.amount, it.held, it.captured, it.released), (700, 700, 300, 400));
    assert_eq!(it.status, v1::PaymentStatus::Captured as i32);
    assert_eq!(it.captures, [v1::CaptureLeg { window: 1, amount: 300 }]);
    assert!(it.fees.iter().any(|leg| leg.posted > 0));
    assert!(after.index > before.index && after.version == 3);

    let op = chain.op(OpBody::RefundRequest(RefundRequest {
        payment,
        amount: Amount(100),
        reason: 3,
        order_hash: crate::contracts::order().order_hash,
    }));
    let refund = RefundId(ScopedId { participant: ACQUIRER, op_id: op.op_id });
    assert_eq!(code(&chain.run_op("wallet", op).await), 0);
    let ask = v1::GetRefundRequest { refund: Some(id(refund.0)) };
    for name in ["wallet", "credit", "regulator"] {
        let it = chain.wallet(name).await.get_refund(ask.clone()).await.unwrap().into_inner().refund.unwrap();
        assert_eq!((it.amount, it.status, it.window), (100, v1::RefundStatus::Accepted as i32, 0));
    }
    let denied = chain.wallet("wallet2").await.get_refund(ask).await.expect_err("a stranger");
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);

    let ask = v1::GetMandateRequest { mandate: Some(id(mandate.0)) };
    let answer = chain.wallet("credit").await.get_mandate(ask).await.unwrap().into_inner();
    let (mandate, line) = (answer.mandate.unwrap(), answer.line.unwrap());
    assert_eq!((mandate.status, mandate.guarantee_version), (v1::MandateStatus::Active as i32, 1));
    assert_eq!((line.held.as_str(), line.owed.as_str()), ("0", "300"));
}

#[tokio::test]
async fn a_window_shows_each_its_own_and_its_nets_to_all() {
    let mut chain = Chain::start().await;
    let mandate = chain.mandate().await;
    let op = chain.op(OpBody::Pay(pay(mandate, 10_000)));
    let payment = PaymentId(ScopedId { participant: ACQUIRER, op_id: op.op_id });
    assert_eq!(code(&chain.run_op("wallet", op).await), 0);
    let open = v1::GetWindowRequest { window: 0 };
    let own = chain.wallet("wallet").await.get_window(open).await.unwrap().into_inner();
    assert_eq!(own.window.unwrap().status, v1::WindowStatus::Open as i32);
    assert!(own.obligations.iter().all(|it| it.participant == 1) && own.obligations.len() == 1);
    let all = chain.wallet("clearing").await.get_window(open).await.unwrap().into_inner();
    assert!(all.obligations.len() >= 4);
    let sum = |pick: fn(&v1::Obligation) -> &String| -> i128 {
        all.obligations.iter().map(|it| pick(it).parse::<i128>().unwrap()).sum()
    };
    assert_eq!(sum(|it| &it.debits), sum(|it| &it.credits));

    assert_eq!(code(&chain.run("clearing", OpBody::WindowClose(WindowClose { window: WindowId(1) })).await), 0);
    let closed = v1::GetWindowRequest { window: 1 };
    for name in ["wallet2", "wallet", "regulator"] {
        let window = chain.wallet(name).await.get_window(closed).await.unwrap().into_inner().window.unwrap();
        assert_eq!(window.status, v1::WindowStatus::Closed as i32);
        let nets: Vec<i128> = window.nets.iter().map(|net| net.net.parse().unwrap()).collect();
        assert!(nets.len() >= 4 && nets.iter().sum::<i128>() == 0, "{nets:?}");
    }
    assert_eq!(chain.wallet("wallet").await.get_window(open).await.unwrap().into_inner().window.unwrap().id, 2);

    let position = v1::GetPositionRequest { participant: 0 };
    let it = chain.wallet("credit").await.get_position(position).await.unwrap().into_inner().position.unwrap();
    assert_eq!((it.participant, it.cap, it.liquidity.as_str()), (2, 1_000_000_000, "1000000000"));
    assert!(it.unsettled_debits.parse::<u128>().unwrap() >= 9_000);
    let operation = v1::GetOperationRequest { operation: Some(id(payment.0)) };
    let answer = chain.wallet("regulator").await.get_operation(operation).await.unwrap().into_inner();
    assert_eq!(code(answer.receipt.as_ref().unwrap()), 0);
    assert_eq!((answer.batch_seq, answer.batch_hash.len()), (2, 32));
}
