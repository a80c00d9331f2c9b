//! Arbitrary and mutated bytes: never a panic, never two encodings of one value, never a broken ledger.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

mod common;
#[path = "common/samples.rs"]
mod samples;

use anji_contracts::batch::split_batch;
use anji_contracts::codec::{decode, encode};
use anji_contracts::entity::{Entity, EntityKey, OpRecord, key_from_sort_bytes};
use anji_contracts::entry::{Entry, Receipt};
use anji_contracts::genesis::Genesis;
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::*;
use anji_contracts::{decode_batch, genesis_writes};
use borsh::{BorshDeserialize, BorshSerialize};
use common::*;
use proptest::prelude::*;

/// Bytes that decode are the canonical bytes of what they decode to.
fn canonical<T: BorshDeserialize + BorshSerialize>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        assert_eq!(encode(&value), bytes);
    }
}

fn decode_all(bytes: &[u8]) {
    canonical::<Op>(bytes);
    canonical::<Entity>(bytes);
    canonical::<EntityKey>(bytes);
    canonical::<Entry>(bytes);
    canonical::<Receipt>(bytes);
    canonical::<OpRecord>(bytes);
    canonical::<Genesis>(bytes);
    if let Some(key) = key_from_sort_bytes(bytes) {
        assert_eq!(key.to_sort_bytes(), bytes);
    }
    if let Ok(genesis) = decode::<Genesis>(bytes) {
        let _ = genesis_writes(&genesis);
    }
    let chain = genesis().chain_id();
    let split = split_batch(bytes, &chain);
    if let Ok(batch) = decode_batch(bytes, &chain) {
        assert_eq!(batch.ops.len(), batch.body_hashes.len());
        let split = split.unwrap();
        assert_eq!((split.hash, &split.header, split.signature), (batch.hash, &batch.header, batch.signature));
        assert!(split.ops.iter().map(|it| it.to_vec()).eq(batch.ops.iter().map(encode)));
    }
}

/// Where to change what: flips, cuts, insertions of extreme bytes.
fn mutate(mut bytes: Vec<u8>, changes: &[(u16, u8, u8)]) -> Vec<u8> {
    for (at, what, value) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(*at) % bytes.len();
        match what % 5 {
            0 => bytes[at] ^= 1 << (value % 8),
            1 => bytes[at] = *value,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, *value),
            _ => bytes[at] = if value.is_multiple_of(2) { 0 } else { 0xff },
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    proptest::collection::vec(any::<(u16, u8, u8)>(), 1..6)
}

/// A ledger in which the mutated operations find something to act on.
fn busy_world() -> (World, Vec<OpBody>) {
    let mut world = World::new();
    let mandate = world.active_mandate();
    let payment = world.held(mandate, 10_000);
    world.captured(payment, 4_000, false);
    let refund = world.refund_requested(payment, 1_000);
    let requested = world.requested(mandate, 5_000);
    let order_hash = order().order_hash;
    let bodies = vec![
        OpBody::MandatePropose(propose(&world)),
        OpBody::Pay(pay(mandate, 1_234)),
        OpBody::PaymentRequest(request(&world, mandate, 99)),
        OpBody::PaymentHold(anji_contracts::ops::PaymentHold {
            payment: requested,
            assertion: risk(),
            disclosure: None,
        }),
        OpBody::PaymentCapture(capture(payment, 3_000, false)),
        OpBody::PaymentVoid(anji_contracts::ops::PaymentVoid { payment, reason: 0 }),
        OpBody::RefundRequest(anji_contracts::ops::RefundRequest { payment, amount: Amount(7), reason: 0, order_hash }),
        OpBody::RefundPost(anji_contracts::ops::RefundStep { refund, reason: 0 }),
        OpBody::MandateRefresh(anji_contracts::ops::MandateRefresh {
            mandate,
            guarantee: None,
            assertion: Some(risk()),
            disclosure: Some(disclosure()),
            consent: None,
            repaid: Amount(5),
        }),
        OpBody::CapSet(anji_contracts::ops::CapSet { participant: ISSUER, cap: Amount(1) }),
        OpBody::LiquidityWithdraw(anji_contracts::ops::LiquidityMove {
            participant: ISSUER,
            amount: Amount(9),
            bank_reference: "B".into(),
        }),
        OpBody::WindowClose(anji_contracts::ops::WindowClose { window: WindowId(1) }),
    ];
    (world, bodies)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        decode_all(&bytes);
    }

    #[test]
    fn mutated_samples_never_panic(pick in any::<prop::sample::Index>(), changes in changes()) {
        let world = World::new();
        let op = |body| Op { op_id: OpId::new(START_MS, 1), linked: false, body };
        let mut all: Vec<Vec<u8>> = samples::op_bodies().into_iter().map(|body| encode(&op(body))).collect();
        all.extend(samples::receipts().iter().map(|it| encode(&it.1)));
        all.push(encode(&genesis()));
        all.push(world.batch_bytes(ACQUIRER, &[op(samples::op_bodies().remove(6))]));
        let bytes = all.swap_remove(pick.index(all.len()));
        decode_all(&mutate(bytes, &changes));
    }

    #[test]
    fn mutated_operations_never_break_the_ledger(
        pick in any::<prop::sample::Index>(),
        changes in changes(),
        signer in 1..10_u32,
    ) {
        let (mut world, mut bodies) = busy_world();
        let body = bodies.swap_remove(pick.index(bodies.len()));
        let op_id = world.new_id();
        let bytes = mutate(encode(&Op { op_id, linked: false, body }), &changes);
        if let Ok(op) = decode::<Op>(&bytes)
            && !op.linked
            && op.body.check_fields().is_ok()
        {
            for signer in [ParticipantId(signer), ACQUIRER, ISSUER, CLEARING] {
                let batch = world.batch(signer, std::slice::from_ref(&op));
                let effects = world.block(&[batch]);
                prop_assert_eq!(&effects.alarms, &[], "no bytes from outside may raise an alarm");
                prop_assert_eq!(world.view.scan(), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn a_length_that_promises_gigabytes_allocates_nothing() {
    // A disclosure's lender of 4 GiB, a blob of 4 GiB, a batch of 4 billion operations.
    for tag in 0..=255_u8 {
        let mut bytes = vec![0; 17];
        bytes.push(tag);
        bytes.extend([0xff; 600]);
        assert!(decode::<Op>(&bytes).is_err());
        assert!(decode::<Entity>(&bytes[17..]).is_err());
        assert!(decode::<Entry>(&bytes[17..]).is_err());
    }
    assert!(decode::<Genesis>(&[0xff; 600]).is_err());
}
