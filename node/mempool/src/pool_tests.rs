//! The pool against a naive model: any order of arrivals, candidates, decided blocks and clock steps; the bounds, the fairness and
//! the counts after every step.

use crate::Limits;
use crate::candidate::{CandidateLimits, Size, choose};
use crate::pool::{Fate, Pool, PoolBatch};
use anji_contracts::batch::MAX_BATCH_LIFE_MS;
use anji_contracts::ops::{MandateStop, Op, OpBody};
use anji_contracts::types::{ChainId, Hash32, KeyId, MandateId, OpId, ParticipantId};
use anji_contracts::{decode_batch, encode_batch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const CHAIN: ChainId = ChainId(Hash32([1; 32]));

/// A batch of `n_ops` small operations; `salt` tells equal ones apart. The pool never looks at signatures.
fn batch(participant: u32, n_ops: u32, expires_at_ms: u64, salt: u64) -> PoolBatch {
    let body = OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason: 1 });
    let op = |number: u32| Op { op_id: OpId::new(salt, number.into()), linked: false, body: body.clone() };
    let ops: Vec<Op> = (0..n_ops).map(op).collect();
    let bytes = encode_batch(&CHAIN, ParticipantId(participant), KeyId(1), expires_at_ms, &ops, |_| [0; 64]);
    let bytes = bytes.expect("the operations are well formed");
    let checked = decode_batch(&bytes, &CHAIN).expect("encoded just now").assume_verified();
    PoolBatch { bytes: bytes.into(), checked: Arc::new(checked) }
}

fn limits_for(n: usize, per_participant: usize) -> Limits {
    let one = batch(1, 1, 0, 0).memory_bytes();
    Limits {
        total_bytes: n * one,
        participant_bytes: usize::MAX / 4,
        participant_batches: per_participant,
        ..Limits::default()
    }
}

fn wide_open(time_ms: u64) -> CandidateLimits {
    CandidateLimits { batches: 4096, ops: 10_000, bytes: 2 << 20, time_ms }
}

fn hashes(batches: &[PoolBatch]) -> Vec<Hash32> {
    batches.iter().map(|batch| batch.checked.hash).collect()
}

#[test]
fn a_batch_waits_until_it_is_included_and_is_kept_until_executed() {
    let mut pool = Pool::new(Limits { executed_age: Duration::from_millis(100), ..Limits::default() });
    let one = batch(1, 3, 1_000, 1);
    let hash = one.checked.hash;
    assert_eq!(pool.insert(one.clone(), true, false, 0), Ok(Fate::Unknown));
    assert_eq!(pool.insert(one.clone(), true, false, 0), Ok(Fate::Kept));
    assert_eq!((pool.n_waiting(), pool.n_waiting_ops()), (1, 3));
    // A candidate takes nothing away: the proposal may fail.
    assert_eq!(hashes(&pool.candidate(&wide_open(10))), [hash]);
    assert_eq!(hashes(&pool.candidate(&wide_open(10))), [hash]);

    pool.mark_included(7, 500, &[hash]);
    assert_eq!((pool.n_waiting(), pool.n_waiting_ops()), (0, 0));
    assert!(pool.candidate(&wide_open(10)).is_empty());
    assert_eq!(pool.insert(one, true, false, 0), Ok(Fate::OnChain { height: 7 }));
    // Not executed yet: kept however old it gets.
    pool.sweep_executed(u64::MAX);
    assert!(pool.get(&hash).is_some());
    pool.mark_executed(7, 1_000);
    pool.sweep_executed(1_099);
    assert!(pool.get(&hash).is_some());
    pool.sweep_executed(1_100);
    assert!(pool.get(&hash).is_none());
    assert_eq!((pool.memory_bytes(), pool.n_kept()), (0, 0));
    assert_eq!(pool.fate(&hash), Fate::OnChain { height: 7 });
}

#[test]
fn expired_batches_leave_and_those_too_far_ahead_wait() {
    let mut pool = Pool::new(Limits::default());
    let (soon, far) = (batch(1, 1, 100, 1), batch(1, 1, 200 + MAX_BATCH_LIFE_MS, 2));
    for it in [&soon, &far] {
        assert_eq!(pool.insert(it.clone(), true, false, 0), Ok(Fate::Unknown));
    }
    // Expiry is exclusive: a block at 99 may hold it, one at 100 may not.
    assert_eq!(hashes(&pool.candidate(&wide_open(99))), hashes(&[soon]));
    assert!(pool.candidate(&wide_open(199)).is_empty());
    assert_eq!(hashes(&pool.candidate(&wide_open(200))), hashes(&[far]));
    assert_eq!(pool.n_waiting(), 1);
}

#[test]
fn batches_of_synced_blocks_are_remembered_for_their_longest_life() {
    let mut pool = Pool::new(Limits::default());
    let unseen = batch(1, 1, 5_000, 1);
    pool.mark_included(3, 1_000, &hashes(std::slice::from_ref(&unseen)));
    assert_eq!(pool.insert(unseen.clone(), true, false, 0), Ok(Fate::OnChain { height: 3 }));
    pool.mark_included(4, 1_000 + MAX_BATCH_LIFE_MS - 1, &[]);
    assert_eq!(pool.n_remembered(), 1);
    pool.mark_included(5, 1_000 + MAX_BATCH_LIFE_MS, &[]);
    assert_eq!(pool.n_remembered(), 0);
}

#[test]
fn too_many_remembered_batches_are_forgotten_once_expired_never_before() {
    let mut pool = Pool::new(Limits { remembered_batches: 2, ..Limits::default() });
    let all: Vec<PoolBatch> = (0..4).map(|salt| batch(1, 1, 2_000 + salt, salt)).collect();
    for (height, it) in (1..).zip(&all) {
        pool.insert(it.clone(), true, false, 0).expect("there is room");
        pool.mark_included(height, 1_000 + height, &hashes(std::slice::from_ref(it)));
    }
    assert_eq!(pool.n_remembered(), 4, "none has expired, so all are needed");
    pool.mark_included(9, 2_000, &[]);
    assert_eq!(pool.n_remembered(), 3);
    pool.mark_included(10, 3_000, &[]);
    assert_eq!(pool.n_remembered(), 2, "down to the bound, no further");
}

#[test]
fn a_full_pool_still_takes_what_a_proposal_needs() {
    let one = batch(1, 1, 1_000, 0).memory_bytes();
    let mut pool = Pool::new(Limits { total_bytes: 8 * one, participant_batches: 8, ..Limits::default() });
    for salt in 0..8 {
        assert_eq!(pool.insert(batch(1, 1, 1_000, salt), true, false, 0), Ok(Fate::Unknown));
    }
    assert!(pool.insert(batch(2, 1, 1_000, 9), true, false, 0).is_err());
    assert_eq!(pool.insert(batch(2, 1, 1_000, 9), false, true, 0), Ok(Fate::Unknown), "an eighth is in reserve");
    assert!(pool.insert(batch(2, 1, 1_000, 10), false, true, 0).is_err(), "and not more");
}

#[test]
fn one_participant_cannot_crowd_out_another() {
    let mut pool = Pool::new(limits_for(1_000, 100));
    for salt in 0..100 {
        pool.insert(batch(1, 1, 1_000, salt), true, false, 0).expect("within the share");
    }
    assert!(pool.insert(batch(1, 1, 1_000, 100), true, false, 0).is_err());
    for salt in 0..3 {
        pool.insert(batch(2, 1, 1_000, salt), true, false, 0).expect("another's share is free");
    }
    let chosen = pool.candidate(&CandidateLimits { batches: 10, ..wide_open(0) });
    let second = chosen.iter().filter(|it| it.checked.header.participant == ParticipantId(2)).count();
    assert_eq!((chosen.len(), second), (10, 3));
}

#[test]
fn own_batches_that_wait_are_pushed_again_and_others_are_not() {
    let mut pool = Pool::new(Limits::default());
    pool.insert(batch(1, 1, 1_000, 1), true, false, 10).expect("there is room");
    pool.insert(batch(1, 1, 1_000, 2), false, false, 10).expect("there is room");
    assert!(pool.take_unspread(9, 50, 10).is_empty());
    assert_eq!(pool.take_unspread(10, 50, 10).len(), 1);
    assert!(pool.take_unspread(49, 60, 10).is_empty(), "pushed at 50");
    assert_eq!(pool.take_unspread(50, 60, 10).len(), 1);
}

/// The rule of `candidate.rs` told again, slowly.
fn naive_choose(
    limits: &CandidateLimits,
    queues: &BTreeMap<ParticipantId, Vec<Size>>,
    first: ParticipantId,
) -> Vec<(ParticipantId, usize)> {
    let mut turns: Vec<ParticipantId> = queues.keys().copied().filter(|who| *who >= first).collect();
    turns.extend(queues.keys().copied().filter(|who| *who < first));
    let mut taken: BTreeMap<ParticipantId, (usize, u64)> = BTreeMap::new();
    let mut done: Vec<ParticipantId> = Vec::new();
    let (mut chosen, mut ops, mut bytes) = (Vec::new(), 0, 0);
    while chosen.len() < limits.batches {
        let open = turns.iter().copied().filter(|who| !done.contains(who));
        let Some(who) = open.min_by_key(|who| taken.get(who).map_or(0, |it| it.1)) else { break };
        let (place, share) = taken.get(&who).copied().unwrap_or_default();
        let Some(size) = queues[&who].get(place) else {
            done.push(who);
            continue;
        };
        if ops + size.ops > limits.ops || bytes + size.bytes > limits.bytes {
            done.push(who);
            continue;
        }
        (ops, bytes) = (ops + size.ops, bytes + size.bytes);
        chosen.push((who, place));
        let by_ops = (u64::from(size.ops) << 32) / u64::from(limits.ops);
        let by_bytes = ((size.bytes as u64) << 32) / limits.bytes as u64;
        taken.insert(who, (place + 1, share + by_ops.max(by_bytes)));
    }
    chosen
}

fn arbitrary_queues() -> impl Strategy<Value = BTreeMap<ParticipantId, Vec<Size>>> {
    let size = (1u32..40, 1usize..400).prop_map(|(ops, bytes)| Size { ops, bytes });
    let queue = (0u32..8, proptest::collection::vec(size, 0..20));
    proptest::collection::vec(queue, 0..6)
        .prop_map(|queues| queues.into_iter().map(|(who, queue)| (ParticipantId(who), queue)).collect())
}

proptest! {
    #[test]
    fn the_choice_is_the_naive_one(
        queues in arbitrary_queues(), batches in 1usize..30, ops in 1u32..300, bytes in 1usize..3000, first in 0u32..9,
    ) {
        let limits = CandidateLimits { batches, ops, bytes, time_ms: 0 };
        let lines = queues.iter().map(|(who, queue)| {
            (*who, queue.clone().into_iter().enumerate().map(|(place, size)| (size, (*who, place))))
        });
        let mut turn = ParticipantId(first);
        let chosen = choose(&limits, lines.collect(), &mut turn);
        prop_assert_eq!(&chosen, &naive_choose(&limits, &queues, ParticipantId(first)));
        // Within the limits, each participant in order, and nothing left out that was next and would fit.
        let size_of = |(who, place): &(ParticipantId, usize)| queues[who][*place];
        let (all_ops, all_bytes) =
            chosen.iter().map(size_of).fold((0, 0), |sum, size| (sum.0 + size.ops, sum.1 + size.bytes));
        prop_assert!(chosen.len() <= batches && all_ops <= ops && all_bytes <= bytes);
        for (who, queue) in &queues {
            let places: Vec<usize> = chosen.iter().filter(|it| it.0 == *who).map(|it| it.1).collect();
            prop_assert_eq!(&places, &(0..places.len()).collect::<Vec<_>>());
            if let (Some(next), true) = (queue.get(places.len()), chosen.len() < batches) {
                prop_assert!(all_ops + next.ops > ops || all_bytes + next.bytes > bytes);
            }
        }
        if let Some((served, _)) = chosen.first() {
            prop_assert_eq!(turn, ParticipantId(served.0 + 1), "the turn moves on");
        }
    }

    #[test]
    fn equal_batches_are_shared_equally(counts in proptest::collection::vec(0usize..30, 1..6), batches in 1usize..60) {
        let limits = CandidateLimits { batches, ops: 1_000, bytes: 1 << 20, time_ms: 0 };
        let lines = (1u32..).zip(&counts).map(|(who, count)| {
            (ParticipantId(who), (0..*count).map(move |_| (Size { ops: 1, bytes: 100 }, who)))
        });
        let chosen = choose(&limits, lines.collect(), &mut ParticipantId(3));
        prop_assert_eq!(chosen.len(), batches.min(counts.iter().sum()));
        let got = |who: u32| chosen.iter().filter(|it| **it == who).count();
        for (one, n_one) in (1u32..).zip(&counts) {
            for (other, _) in (1u32..).zip(&counts) {
                // Whoever has something left got at most one less than anybody.
                prop_assert!(got(one) == *n_one || got(other) <= got(one) + 1);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { participant: u32, n_ops: u32, life_ms: u64, salt: u64, offered: bool },
    Candidate { batches: usize },
    Decide { batches: usize },
    Execute,
    Pass { ms: u64 },
}

fn arbitrary_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u32..5, 1u32..4, 0u64..2_000, 0u64..6, prop::bool::weighted(0.2)).prop_map(
            |(participant, n_ops, life_ms, salt, offered)| Step::Insert { participant, n_ops, life_ms, salt, offered }
        ),
        2 => (1usize..10).prop_map(|batches| Step::Candidate { batches }),
        2 => (1usize..10).prop_map(|batches| Step::Decide { batches }),
        2 => Just(Step::Execute),
        2 => (1u64..1_000).prop_map(|ms| Step::Pass { ms }),
    ]
}

/// The pool as a list: everything ever inserted and where it is now.
#[derive(Default)]
struct Model {
    batches: Vec<(PoolBatch, ModelStage)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ModelStage {
    Waiting,
    Included(u64),
    Executed(u64),
    Expired,
    Gone,
}

impl Model {
    fn kept(&self) -> impl Iterator<Item = &(PoolBatch, ModelStage)> {
        self.batches.iter().filter(|it| !matches!(it.1, ModelStage::Expired | ModelStage::Gone))
    }

    fn waiting(&self) -> impl Iterator<Item = &PoolBatch> {
        self.batches.iter().filter(|it| it.1 == ModelStage::Waiting).map(|it| &it.0)
    }

    fn of(&self, participant: u32) -> usize {
        self.waiting().filter(|it| it.checked.header.participant.0 == participant).count()
    }
}

proptest! {
    #[test]
    fn the_pool_agrees_with_a_list(steps in proptest::collection::vec(arbitrary_step(), 1..120)) {
        const AGE_MS: u64 = 500;
        let limits = Limits {
            executed_age: Duration::from_millis(AGE_MS),
            executed_bytes: usize::MAX,
            participant_batches: 6,
            ..limits_for(16, 6)
        };
        let mut pool = Pool::new(limits.clone());
        let mut model = Model::default();
        let (mut now_ms, mut height) = (10_000u64, 0u64);
        for step in steps {
            match step {
                Step::Insert { participant, n_ops, life_ms, salt, offered } => {
                    // Few different batches, so that known ones come often.
                    let it = batch(participant, n_ops, 10_000 + life_ms / 500 * 500, salt);
                    let known = model.batches.iter().rfind(|(old, stage)| {
                        old.checked.hash == it.checked.hash && *stage != ModelStage::Expired
                    });
                    let memory: usize = model.kept().map(|old| old.0.memory_bytes()).sum();
                    let room = limits.total_bytes + if offered { limits.total_bytes / 8 } else { 0 };
                    let fits = memory + it.memory_bytes() <= room && (offered || model.of(participant) < 6);
                    let result = pool.insert(it.clone(), true, offered, now_ms);
                    match known {
                        Some((_, ModelStage::Waiting)) => prop_assert_eq!(result, Ok(Fate::Kept)),
                        Some(_) => {
                            let on_chain = matches!(result, Ok(Fate::OnChain { .. }));
                            prop_assert!(on_chain);
                        }
                        None if fits => {
                            prop_assert_eq!(result, Ok(Fate::Unknown));
                            model.batches.push((it, ModelStage::Waiting));
                        }
                        None => prop_assert!(result.is_err()),
                    }
                }
                Step::Candidate { batches } | Step::Decide { batches } => {
                    for it in &mut model.batches {
                        if it.1 == ModelStage::Waiting && it.0.checked.header.expires_at_ms <= now_ms {
                            it.1 = ModelStage::Expired;
                        }
                    }
                    let chosen = pool.candidate(&CandidateLimits { batches, ..wide_open(now_ms) });
                    prop_assert_eq!(chosen.len(), batches.min(model.waiting().count()));
                    if matches!(step, Step::Decide { .. }) {
                        height += 1;
                        pool.mark_included(height, now_ms, &hashes(&chosen));
                        for it in &mut model.batches {
                            if it.1 == ModelStage::Waiting && hashes(&chosen).contains(&it.0.checked.hash) {
                                it.1 = ModelStage::Included(height);
                            }
                        }
                        now_ms += 1;
                    }
                }
                Step::Execute => {
                    pool.mark_executed(height, now_ms);
                    for it in &mut model.batches {
                        if matches!(it.1, ModelStage::Included(_)) {
                            it.1 = ModelStage::Executed(now_ms);
                        }
                    }
                }
                Step::Pass { ms } => now_ms += ms,
            }
            pool.sweep_executed(now_ms);
            for it in &mut model.batches {
                if matches!(it.1, ModelStage::Executed(at) if now_ms - at >= AGE_MS) {
                    it.1 = ModelStage::Gone;
                }
            }
            prop_assert_eq!(pool.n_waiting(), model.waiting().count());
            prop_assert_eq!(pool.n_waiting_ops(), model.waiting().map(|it| u64::from(it.checked.header.n_ops)).sum::<u64>());
            prop_assert_eq!(pool.n_kept(), model.kept().count());
            prop_assert_eq!(pool.memory_bytes(), model.kept().map(|it| it.0.memory_bytes()).sum::<usize>());
            for (it, stage) in &model.batches {
                let found = pool.get(&it.checked.hash).is_some();
                let gone = matches!(stage, ModelStage::Expired | ModelStage::Gone);
                prop_assert!(found || gone);
            }
        }
    }
}
