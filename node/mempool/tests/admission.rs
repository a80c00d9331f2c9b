//! Admission from outside: every kind of bad batch gets its code, good ones are kept and pushed once, peers lose their standing.

use anji_contracts::batch::{MAX_BATCH_BYTES, MAX_BATCH_LIFE_MS};
use anji_contracts::ops::{MandateStop, Op, OpBody, SealedReport};
use anji_contracts::types::{ChainId, Hash32, KeyId, MandateId, OpId, ParticipantId, WindowId};
use anji_contracts::{DecodedBatch, Reject, codec, encode_batch};
use anji_mempool::{
    Admitted, CandidateLimits, Full, Known, Limits, MAX_FRAME_BATCHES, Mempool, MempoolError, Origin, Registry, Spread,
    decode_frame, encode_frames,
};
use anji_network::{Message, PeerId, peer_id_of_seed};
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

const CHAIN: ChainId = ChainId(Hash32([1; 32]));
const NOW_MS: u64 = 1_800_000_000_000;

fn signing_key(participant: u32) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(participant).unwrap_or(255); 32])
}

/// Participants 1 to 3 have key 1; participant 3's is not valid.
struct Keys;

impl Registry for Keys {
    fn check_signatures(&self, batches: &[&DecodedBatch], _time_ms: u64) -> Vec<Result<(), Reject>> {
        let check = |batch: &&DecodedBatch| match (batch.header.participant.0, batch.header.key_id.0) {
            (participant @ (1 | 2), 1) => {
                let key = signing_key(participant).verifying_key();
                codec::verify_ed25519(key.as_bytes(), &batch.signing_digest, &batch.signature)
            }
            (3, 1) => Err(Reject::KeyNotValid),
            _ => Err(Reject::UnknownKey),
        };
        batches.iter().map(check).collect()
    }
}

#[derive(Default)]
struct Pushed(Mutex<Vec<Bytes>>);

impl Spread for Pushed {
    fn push(&self, bytes: Bytes) -> usize {
        self.0.lock().expect("no test panics while pushing").push(bytes);
        3
    }
}

struct Fixture {
    pool: Mempool,
    pushed: Arc<Pushed>,
    now_ms: Arc<AtomicU64>,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        let (pushed, now_ms) = (Arc::new(Pushed::default()), Arc::new(AtomicU64::new(NOW_MS)));
        let clock = now_ms.clone();
        let pool = Mempool::new(
            CHAIN,
            limits,
            Arc::new(Keys),
            pushed.clone(),
            Arc::new(move || clock.load(Ordering::SeqCst)),
            &mut prometheus_client::registry::Registry::default(),
        );
        Self { pool, pushed, now_ms }
    }

    fn n_pushed(&self) -> usize {
        self.pushed.0.lock().expect("no test panics while pushing").len()
    }

    async fn submit(&self, bytes: impl Into<Bytes>) -> Result<Admitted, MempoolError> {
        self.pool.submit(bytes.into(), Origin::Client).await
    }
}

fn op(salt: u64) -> Op {
    let body = OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason: 1 });
    Op { op_id: OpId::new(NOW_MS, salt.into()), linked: false, body }
}

fn sealed(n: usize) -> Vec<Op> {
    let body = OpBody::SealedReport(SealedReport { window: WindowId(1), blob: vec![7; 1024] });
    (0..n).map(|salt| Op { op_id: OpId::new(NOW_MS, salt as u128), linked: false, body: body.clone() }).collect()
}

struct Draft {
    chain: ChainId,
    participant: u32,
    key_id: u32,
    signer: u32,
    expires_at_ms: u64,
    ops: Vec<Op>,
}

fn draft() -> Draft {
    Draft {
        chain: CHAIN,
        participant: 1,
        key_id: 1,
        signer: 1,
        expires_at_ms: NOW_MS + 60_000,
        ops: vec![op(1), op(2)],
    }
}

impl Draft {
    fn bytes(&self) -> Vec<u8> {
        let sign = |digest: &[u8; 32]| signing_key(self.signer).sign(digest).to_bytes();
        let (participant, key_id) = (ParticipantId(self.participant), KeyId(self.key_id));
        encode_batch(&self.chain, participant, key_id, self.expires_at_ms, &self.ops, sign).expect("well formed")
    }
}

#[tokio::test]
async fn every_bad_batch_gets_its_code_and_nothing_is_kept() {
    let good = draft().bytes();
    let last = good.len() - 1;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let rows: Vec<(&str, Vec<u8>, Reject)> = vec![
        ("oversized", vec![0; MAX_BATCH_BYTES + 1], Reject::TooLarge),
        ("empty", vec![], Reject::Malformed),
        ("truncated by one byte", with(&|it| it.truncate(last)), Reject::Malformed),
        ("truncated to the header", with(&|it| it.truncate(90)), Reject::Malformed),
        ("garbage", vec![0xa5; 500], Reject::UnsupportedFormat),
        ("another format", with(&|it| it[0] = 2), Reject::UnsupportedFormat),
        ("a byte too many", with(&|it| it.push(0)), Reject::TrailingBytes),
        ("another chain", Draft { chain: ChainId(Hash32([2; 32])), ..draft() }.bytes(), Reject::WrongChain),
        ("a changed operation", with(&|it| it[110] ^= 1), Reject::OpsRootMismatch),
        ("a changed signature", with(&|it| it[last] ^= 1), Reject::BadSignature),
        ("a zero signature", with(&|it| it[last - 63..].fill(0)), Reject::BadSignature),
        ("another's signature", Draft { signer: 2, ..draft() }.bytes(), Reject::BadSignature),
        ("an unknown participant", Draft { participant: 9, ..draft() }.bytes(), Reject::UnknownKey),
        ("an unknown key", Draft { key_id: 2, ..draft() }.bytes(), Reject::UnknownKey),
        ("a key that is not valid", Draft { participant: 3, signer: 3, ..draft() }.bytes(), Reject::KeyNotValid),
        ("expired just now", Draft { expires_at_ms: NOW_MS, ..draft() }.bytes(), Reject::BatchExpired),
        (
            "expires too far ahead",
            Draft { expires_at_ms: NOW_MS + MAX_BATCH_LIFE_MS + 1, ..draft() }.bytes(),
            Reject::ExpiryTooFar,
        ),
    ];
    let it = Fixture::new(Limits::default());
    for (what, bytes, reject) in rows {
        assert_eq!(it.submit(bytes).await, Err(MempoolError::Reject(reject)), "{what}");
    }
    assert_eq!((it.pool.status().n_batches, it.pool.status().memory_bytes, it.n_pushed()), (0, 0, 0));
    let admitted = it.submit(good).await.expect("the batch the rows were made from is good");
    assert_eq!((admitted.known, admitted.n_ops, it.n_pushed()), (Known::New, 2, 1));
}

#[tokio::test]
async fn every_flipped_bit_is_refused() {
    let it = Fixture::new(Limits::default());
    let good = draft().bytes();
    for position in 0..good.len() {
        let mut bytes = good.clone();
        bytes[position] ^= 1 << (position % 8);
        assert!(it.submit(bytes).await.is_err(), "byte {position}");
    }
    assert!(it.pool.is_empty());
}

#[tokio::test]
async fn a_repeated_batch_is_known_and_not_pushed_again() {
    let it = Fixture::new(Limits::default());
    let bytes = draft().bytes();
    let hash = it.submit(bytes.clone()).await.expect("good").batch_hash;
    assert_eq!(it.submit(bytes.clone()).await.map(|it| it.known), Ok(Known::Waiting));
    it.pool.mark_included(5, NOW_MS + 1, &[hash]);
    assert_eq!(it.submit(bytes.clone()).await.map(|it| it.known), Ok(Known::OnChain { height: 5 }));
    // Still known, and so the same answer, when it has expired meanwhile.
    it.now_ms.fetch_add(120_000, Ordering::SeqCst);
    assert_eq!(it.submit(bytes).await.map(|it| it.known), Ok(Known::OnChain { height: 5 }));
    assert_eq!(it.n_pushed(), 1);
    assert!(it.pool.is_empty());
}

#[tokio::test]
async fn a_full_share_says_when_to_ask_again_and_leaves_others_alone() {
    let it = Fixture::new(Limits { participant_batches: 1, ..Limits::default() });
    it.submit(draft().bytes()).await.expect("the first fits");
    let second = Draft { ops: vec![op(3)], ..draft() }.bytes();
    match it.submit(second.clone()).await {
        Err(MempoolError::Full { what: Full::Participant, retry_after }) => assert!(retry_after > Duration::ZERO),
        other => panic!("{other:?}"),
    }
    it.submit(Draft { participant: 2, signer: 2, ..draft() }.bytes()).await.expect("another participant's share");
    // Room comes back with the block.
    let limits = CandidateLimits { batches: 10, ops: 100, bytes: 1 << 20, time_ms: NOW_MS };
    let hashes: Vec<Hash32> = it.pool.candidate(&limits).iter().map(|it| it.checked.hash).collect();
    assert_eq!(hashes.len(), 2);
    it.pool.mark_included(1, NOW_MS, &hashes);
    it.submit(second).await.expect("the first is in a block");
}

#[tokio::test]
async fn a_full_pool_refuses_and_bytes_are_counted() {
    let it = Fixture::new(Limits { total_bytes: 4 << 20, ..Limits::default() });
    let mut admitted = 0;
    let error = loop {
        let ops: Vec<Op> =
            sealed(500).into_iter().map(|it| Op { op_id: OpId(it.op_id.0 + (admitted << 20)), ..it }).collect();
        match it.submit(Draft { ops, ..draft() }.bytes()).await {
            Ok(_) => admitted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MempoolError::Full { what: Full::Pool, .. }), "{error:?}");
    let status = it.pool.status();
    assert!(
        admitted >= 3 && status.memory_bytes > 1_500_000 && status.memory_bytes <= status.limit_bytes,
        "{status:?}"
    );
}

#[tokio::test]
async fn the_order_of_one_participant_is_kept() {
    let it = Fixture::new(Limits::default());
    let mut expected = Vec::new();
    for salt in 0..20 {
        let bytes = Draft { ops: vec![op(salt)], ..draft() }.bytes();
        expected.push(it.submit(bytes).await.expect("good").batch_hash);
    }
    let limits = CandidateLimits { batches: 15, ops: 100, bytes: 1 << 20, time_ms: NOW_MS };
    let hashes: Vec<Hash32> = it.pool.candidate(&limits).iter().map(|it| it.checked.hash).collect();
    assert_eq!(hashes, expected[..15]);
    assert_eq!(it.pool.serve(&expected, usize::MAX).len(), 20);
    let one = it.pool.get(&expected[0]).expect("kept").bytes.len();
    assert_eq!(it.pool.serve(&expected, one * 2).len(), 2, "an answer is bounded in bytes");
    assert!(it.pool.serve(&[Hash32([9; 32])], usize::MAX).is_empty());
}

async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn running(it: &Fixture) -> mpsc::Sender<Message> {
    let (sender, receiver) = mpsc::channel(16);
    let pool = it.pool.clone();
    tokio::spawn(async move { pool.run(receiver).await });
    sender
}

fn peer(number: u8) -> PeerId {
    peer_id_of_seed(&[number; 32])
}

/// One frame of these batches.
fn framed(batches: &[Bytes]) -> Bytes {
    let mut frames = encode_frames(batches);
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

#[tokio::test]
async fn batches_that_come_together_get_the_answers_they_would_get_alone() {
    let small = |salt: u64| Bytes::from(Draft { ops: vec![op(salt)], ..draft() }.bytes());
    let mut forged = small(100).to_vec();
    *forged.last_mut().expect("not empty") ^= 1;
    let large = Bytes::from(Draft { ops: sealed(20), ..draft() }.bytes());
    let mut batches: Vec<Bytes> = (0..40).map(small).collect();
    batches.extend([
        forged.into(),
        large,
        Bytes::new(),
        small(3),
        Draft { expires_at_ms: NOW_MS, ..draft() }.bytes().into(),
        vec![0; MAX_BATCH_BYTES + 1].into(),
        Draft { participant: 9, ops: vec![op(200)], ..draft() }.bytes().into(),
        Draft { participant: 2, signer: 2, ops: vec![op(201)], ..draft() }.bytes().into(),
        small(41),
        small(41),
    ]);
    let (alone, together) = (Fixture::new(Limits::default()), Fixture::new(Limits::default()));
    let mut expected = Vec::new();
    for bytes in &batches {
        expected.push(alone.submit(bytes.clone()).await);
    }
    assert_eq!(together.pool.submit_all(batches, Origin::Client).await, expected);
    assert_eq!(together.pool.status(), alone.pool.status());
    // In their order, in fewer frames, each batch once.
    let limits = CandidateLimits { batches: 100, ops: 1_000, bytes: 1 << 20, time_ms: NOW_MS };
    let hashes = |it: &Fixture| it.pool.candidate(&limits).iter().map(|it| it.checked.hash).collect::<Vec<_>>();
    assert_eq!(hashes(&together), hashes(&alone));
    let pushed = |it: &Fixture| {
        let frames = it.pushed.0.lock().expect("no test panics while pushing").clone();
        (frames.len(), frames.into_iter().flat_map(|it| decode_frame(it).expect("our own")).collect::<Vec<_>>())
    };
    let ((n_alone, alone), (n_together, together)) = (pushed(&alone), pushed(&together));
    assert_eq!((n_alone, together.len()), (43, 43));
    assert!(n_together <= 4, "{n_together} frames");
    assert_eq!(together, alone);
}

#[tokio::test]
async fn the_bad_batches_of_a_frame_cost_their_sender_and_the_good_are_kept() {
    let it = Fixture::new(Limits { peer_faults: 3, ..Limits::default() });
    let pushes = running(&it);
    let good = |salt: u64| Bytes::from(Draft { ops: vec![op(salt)], ..draft() }.bytes());
    let forged = |salt: u64| Bytes::from(Draft { signer: 2, ops: vec![op(salt)], ..draft() }.bytes());
    let frame = framed(&[good(1), forged(2), good(3), forged(4), good(5)]);
    pushes.send(Message { from: peer(1), bytes: frame }).await.expect("the pool runs");
    wait_for("three admitted", || it.pool.status().n_batches == 3).await;
    wait_for("two faults", || it.pool.peer_standing(&peer(1)).n_faults == 2).await;
    assert_eq!((it.pool.peer_standing(&peer(1)).muted_until_ms, it.n_pushed()), (0, 0));
    // A frame that breaks off is one fault more, and nothing of it is taken.
    let frame = framed(&[good(6), good(7)]);
    let broken = frame.slice(..frame.len() - 1);
    pushes.send(Message { from: peer(1), bytes: broken }).await.expect("the pool runs");
    wait_for("muted", || it.pool.peer_standing(&peer(1)).muted_until_ms > NOW_MS).await;
    assert_eq!(it.pool.status().n_batches, 3);
}

#[tokio::test]
async fn the_batches_of_a_frame_count_towards_its_senders_rate() {
    let it = Fixture::new(Limits { peer_batches_per_second: 300, ..Limits::default() });
    let pushes = running(&it);
    let frame = |first: u64, n: u64| {
        let batches: Vec<Bytes> =
            (first..first + n).map(|salt| Draft { ops: vec![op(salt)], ..draft() }.bytes().into()).collect();
        framed(&batches)
    };
    let full = u64::try_from(MAX_FRAME_BATCHES).expect("small");
    assert!(frame(0, 200).len() < 64 * 1024 && full >= 200);
    for first in [0, 1_000] {
        pushes.send(Message { from: peer(1), bytes: frame(first, 200) }).await.expect("the pool runs");
    }
    wait_for("the second dropped", || it.pool.peer_standing(&peer(1)).n_dropped == 1).await;
    wait_for("the first admitted", || it.pool.status().n_batches == 200).await;
}

#[tokio::test]
async fn a_peer_that_pushes_garbage_is_muted_and_the_others_are_not() {
    let it = Fixture::new(Limits { peer_faults: 3, ..Limits::default() });
    let pushes = running(&it);
    for salt in 1..=3u8 {
        let bytes = Bytes::from(vec![salt; 300]);
        pushes.send(Message { from: peer(1), bytes }).await.expect("the pool runs");
    }
    wait_for("muted", || it.pool.peer_standing(&peer(1)).muted_until_ms > NOW_MS).await;
    assert_eq!(it.pool.peer_standing(&peer(1)).n_faults, 3);
    // Even a good batch is dropped now; the same from another peer is taken, and not pushed on.
    let good = Bytes::from(draft().bytes());
    pushes.send(Message { from: peer(1), bytes: framed(std::slice::from_ref(&good)) }).await.expect("the pool runs");
    wait_for("dropped", || it.pool.peer_standing(&peer(1)).n_dropped == 1).await;
    assert!(it.pool.is_empty());
    pushes.send(Message { from: peer(2), bytes: framed(std::slice::from_ref(&good)) }).await.expect("the pool runs");
    tokio::time::timeout(Duration::from_secs(10), it.pool.wait_nonempty()).await.expect("admitted");
    assert_eq!((it.n_pushed(), it.pool.peer_standing(&peer(2)).n_faults), (0, 0));
    // The mute ends.
    it.now_ms.fetch_add(61_000, Ordering::SeqCst);
    let later = Draft { expires_at_ms: NOW_MS + 200_000, ops: vec![op(7)], ..draft() }.bytes();
    pushes.send(Message { from: peer(1), bytes: framed(&[later.into()]) }).await.expect("the pool runs");
    // The first batch expires meanwhile (60 s), the second comes.
    wait_for("heard again", || it.pool.status().n_batches == 1 && it.pool.status().n_ops == 1).await;
}

#[tokio::test]
async fn another_clock_or_another_height_costs_no_standing() {
    let it = Fixture::new(Limits { peer_faults: 1, ..Limits::default() });
    let pushes = running(&it);
    for bytes in [
        Draft { expires_at_ms: NOW_MS, ..draft() }.bytes(),
        Draft { expires_at_ms: NOW_MS + MAX_BATCH_LIFE_MS + 1, ..draft() }.bytes(),
        Draft { key_id: 2, ..draft() }.bytes(),
        draft().bytes(),
    ] {
        pushes.send(Message { from: peer(1), bytes: framed(&[bytes.into()]) }).await.expect("the pool runs");
    }
    tokio::time::timeout(Duration::from_secs(10), it.pool.wait_nonempty()).await.expect("the last one is good");
    assert_eq!(it.pool.peer_standing(&peer(1)).n_faults, 0);
}

#[tokio::test]
async fn a_peer_beyond_its_rate_is_dropped_not_punished() {
    let it = Fixture::new(Limits { peer_batches_per_second: 2, ..Limits::default() });
    let pushes = running(&it);
    for salt in 0..5 {
        let bytes = Draft { ops: vec![op(salt)], ..draft() }.bytes();
        pushes.send(Message { from: peer(1), bytes: framed(&[bytes.into()]) }).await.expect("the pool runs");
    }
    wait_for("three dropped", || it.pool.peer_standing(&peer(1)).n_dropped == 3).await;
    wait_for("two admitted", || it.pool.status().n_batches == 2).await;
    assert_eq!(it.pool.peer_standing(&peer(1)).n_faults, 0);
}

#[tokio::test]
async fn what_waits_too_long_is_pushed_again_until_it_is_included() {
    let it = Fixture::new(Limits { respread_after: Duration::from_millis(100), ..Limits::default() });
    let _pushes = running(&it);
    let hash = it.submit(draft().bytes()).await.expect("good").batch_hash;
    assert_eq!(it.n_pushed(), 1);
    it.now_ms.fetch_add(101, Ordering::SeqCst);
    wait_for("pushed again", || it.n_pushed() == 2).await;
    it.pool.mark_included(1, NOW_MS, &[hash]);
    it.now_ms.fetch_add(10_000, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(it.n_pushed(), 2);
}

#[tokio::test]
async fn too_many_batches_under_judgement_send_clients_away() {
    // Room for one batch of the largest size at a time; a second large one cannot enter while the first is judged.
    let it = Fixture::new(Limits { judging_bytes: 1, judging_threads: 1, ..Limits::default() });
    let large: Vec<Bytes> = (0..8u128)
        .map(|number| {
            let ops = sealed(900).into_iter().map(|it| Op { op_id: OpId(it.op_id.0 + (number << 40)), ..it }).collect();
            Draft { ops, ..draft() }.bytes().into()
        })
        .collect();
    let calls: Vec<_> = large
        .into_iter()
        .map(|bytes| {
            let pool = it.pool.clone();
            tokio::spawn(async move { pool.submit(bytes, Origin::Client).await })
        })
        .collect();
    let mut sent_away = 0;
    for call in calls {
        match call.await.expect("no panic") {
            Ok(_) => {}
            Err(MempoolError::Full { what: Full::Judging, .. }) => sent_away += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(sent_away >= 1);
    assert!(!it.pool.is_empty());
    it.submit(draft().bytes()).await.expect("afterwards there is room again");
}
