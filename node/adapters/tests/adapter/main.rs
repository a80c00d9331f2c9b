//! The generic adapter against a node that loses, delays, repeats and vanishes: every request acts once, and every answer is the ledger's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation, reason = "tests")]

mod fake;

use anji_adapters::Adapter;
use anji_adapters::callers::token_hash;
use anji_adapters::config::AdapterConfig;
use anji_adapters::keys::{KeySuite, PrivateKey, Purpose};
use anji_contracts::Reject;
use anji_contracts::ops::OpBody;
use anji_proto::v1;
use anji_proto::v1::adapter_service_client::AdapterServiceClient;
use anji_wire::status::status_reject;
use fake::{CHAIN, Fake, PARTICIPANT, Trouble};
use prometheus_client::registry::Registry;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const KEY: PrivateKey = PrivateKey::from_seed(Purpose::Signing, [9; 32]);

type Client = AdapterServiceClient<Channel>;

struct Bench {
    dir: tempfile::TempDir,
    node: Fake,
}

struct Running {
    adapter: Adapter,
    stop: CancellationToken,
}

impl Running {
    async fn client(&self) -> Client {
        AdapterServiceClient::connect(format!("http://{}", self.adapter.address())).await.expect("connects")
    }

    async fn stop(self) {
        self.stop.cancel();
        self.adapter.stopped().await.expect("stops well");
    }
}

impl Bench {
    async fn new() -> Self {
        Self::with_key(&KEY).await
    }

    async fn with_key(key: &PrivateKey) -> Self {
        let dir = tempfile::tempdir().expect("temp");
        key.write_new(&dir.path().join("signing.key")).expect("written");
        std::fs::write(dir.path().join("node.token"), "node-token\n").expect("written");
        let caller = |name: &str, read_only: bool| {
            format!("[[callers]]\nname = '{name}'\ntoken_blake3 = '{}'\nread_only = {read_only}\n", token_hash(name))
        };
        let callers = caller("wallet", false) + &caller("looker", true);
        std::fs::write(dir.path().join("callers.toml"), callers).expect("written");
        Self { dir, node: Fake::start(key.public()).await }
    }

    async fn adapter(&self) -> Running {
        self.adapter_with("", &[&self.node], self.dir.path()).await
    }

    async fn adapter_with(&self, more: &str, nodes: &[&Fake], home: &Path) -> Running {
        let mut text = format!(
            "participant = {PARTICIPANT}\nchain_id = '{}'\nsigning_key = 'signing.key'\ndata_dir = 'outbox'\n\
             [batch]\nlinger_ms = 2\nask_after_ms = 300\n{more}\n\
             [grpc]\nlisten = '127.0.0.1:0'\ncallers = 'callers.toml'\n[metrics]\nlisten = '127.0.0.1:0'\n",
            hex::encode(CHAIN)
        );
        for node in nodes {
            text += &format!("[[nodes]]\naddress = 'http://{}'\ntoken = 'node.token'\n", node.address);
        }
        let file = home.join("adapter.toml");
        std::fs::write(&file, text).expect("written");
        let mut config: AdapterConfig = anji_adapters::config::load(&file).expect("good");
        if more.contains("life") {
            config.batch.life_s = 1;
        }
        let stop = CancellationToken::new();
        let adapter = Adapter::start(config, &mut Registry::default(), stop.clone()).await.expect("starts");
        Running { adapter, stop }
    }
}

fn call<T>(message: T, token: &str, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("printable"));
    request.set_timeout(timeout);
    request
}

fn pay(request_id: &str, amount: u64) -> v1::PayRequest {
    v1::PayRequest {
        request_id: request_id.to_owned(),
        mandate: Some(v1::Id { participant: PARTICIPANT, op_id: vec![1; 16] }),
        amount,
        currency: 0,
        scene: v1::Scene::Online.into(),
        order: Some(v1::Order {
            merchant: vec![2; 16],
            category: 5411,
            order_hash: vec![3; 32],
            trace_id: vec![4; 16],
            envelope_hash: vec![],
        }),
        assertion: Some(v1::RiskAssertion {
            model_kind: 1,
            score: 1,
            as_of_ms: 1,
            valid_until_ms: 2,
            evidence_hash: vec![5; 32],
        }),
        ..Default::default()
    }
}

async fn pay_once(client: &mut Client, request_id: &str, amount: u64) -> Result<v1::OperationResult, Status> {
    pay_within(client, request_id, amount, Duration::from_secs(20)).await
}

async fn pay_within(
    client: &mut Client,
    request_id: &str,
    amount: u64,
    timeout: Duration,
) -> Result<v1::OperationResult, Status> {
    client.pay(call(pay(request_id, amount), "wallet", timeout)).await.map(tonic::Response::into_inner)
}

/// Pays `count` times at once; every call must end well, and every request must have acted once.
async fn pay_many(bench: &Bench, running: &Running, name: &str, count: usize) {
    let before = bench.node.ledger().answers.len();
    let client = running.client().await;
    let mut calls = JoinSet::new();
    for index in 0..count {
        let (mut client, request_id) = (client.clone(), format!("{name}-{index}"));
        calls.spawn(async move { pay_once(&mut client, &request_id, 100).await });
    }
    let mut ids = std::collections::BTreeSet::new();
    while let Some(result) = calls.join_next().await {
        let result = result.expect("no panic").expect("paid");
        assert!(ids.insert(result.operation.expect("an id").op_id), "two requests share an operation");
    }
    assert_eq!(ids.len(), count);
    assert_eq!(bench.node.ledger().answers.len() - before, count, "every request acted once");
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("details").reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_batches_and_each_acts_once() {
    let bench = Bench::new().await;
    let running = bench.adapter().await;
    pay_many(&bench, &running, "a", 500).await;
    let submitted = bench.node.ledger().submitted;
    assert!(submitted < 250, "{submitted} batches for 500 requests");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_whose_key_file_says_sm2_signs_its_batches_with_sm2() {
    let key = PrivateKey::generate_of(Purpose::Signing, KeySuite::Sm2).expect("randomness");
    let bench = Bench::with_key(&key).await;
    let running = bench.adapter().await;
    pay_many(&bench, &running, "a", 50).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_node_does_to_batches_every_request_acts_once() {
    let rows = [
        Trouble::Lost,
        Trouble::AnswerLost,
        Trouble::Unavailable,
        Trouble::Full,
        Trouble::Rejected(Reject::BatchExpired),
        Trouble::Rejected(Reject::BatchRepeated),
        Trouble::Rejected(Reject::KeyNotValid),
        Trouble::Slow(Duration::from_millis(700)),
        Trouble::Twice,
    ];
    for trouble in rows {
        let bench = Bench::new().await;
        let running = bench.adapter().await;
        bench.node.ledger().troubles.extend([trouble; 3]);
        pay_many(&bench, &running, "b", 40).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_arrive_though_the_stream_breaks_or_tells_nothing() {
    let bench = Bench::new().await;
    let running = bench.adapter().await;
    bench.node.ledger().break_stream_after = Some(1);
    pay_many(&bench, &running, "broken", 60).await;
    bench.node.ledger().mute = true;
    pay_many(&bench, &running, "mute", 60).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_is_taken_when_one_is_gone() {
    let bench = Bench::new().await;
    let twin = bench.node.twin().await;
    let running = bench.adapter_with("", &[&bench.node, &twin], bench.dir.path()).await;
    pay_many(&bench, &running, "first", 5).await;
    bench.node.crash();
    pay_many(&bench, &running, "second", 20).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_is_answered_once_and_another_content_is_a_conflict() {
    let bench = Bench::new().await;
    let running = bench.adapter().await;
    let client = running.client().await;
    bench.node.ledger().troubles.push_back(Trouble::Slow(Duration::from_millis(200)));
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let mut client = client.clone();
        calls.spawn(async move { pay_once(&mut client, "same", 100).await.expect("paid") });
    }
    let results = calls.join_all().await;
    assert!(results.iter().all(|it| it.operation == results[0].operation));
    assert_eq!(results.iter().filter(|it| !it.replayed).count(), 1);
    assert_eq!(bench.node.ledger().answers.len(), 1);

    let mut client = client;
    let conflict = pay_once(&mut client, "same", 101).await.expect_err("another amount");
    assert_eq!((conflict.code(), reason(&conflict).as_str()), (Code::AlreadyExists, "REQUEST_ID_CONFLICT"));
    let void =
        v1::VoidPaymentRequest { request_id: String::from("same"), payment: results[0].operation.clone(), reason: 0 };
    let conflict = client.void_payment(call(void, "wallet", Duration::from_secs(5))).await.expect_err("another method");
    assert_eq!(conflict.code(), Code::AlreadyExists);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_deadline_and_a_crash_the_same_request_is_the_same_operation() {
    let bench = Bench::new().await;
    // A node that takes batches, executes them and never tells.
    bench.node.ledger().always = Some(Trouble::Lost);
    let running = bench.adapter().await;
    let mut client = running.client().await;
    let open = pay_within(&mut client, "r", 100, Duration::from_millis(600)).await.expect_err("no answer");
    assert_eq!((open.code(), reason(&open).as_str()), (Code::DeadlineExceeded, "STILL_PENDING"));
    assert!(open.message().contains("same request_id `r`"), "{}", open.message());
    let pending = client.get_request(call(
        v1::GetRequestRequest { request_id: String::from("r") },
        "wallet",
        Duration::from_secs(5),
    ));
    let pending = pending.await.expect("known").into_inner();
    assert!(pending.receipt.is_none());

    // What `kill -9` leaves: the files as they are now.
    let copy = tempfile::tempdir().expect("temp");
    std::fs::create_dir(copy.path().join("outbox")).expect("made");
    for entry in std::fs::read_dir(bench.dir.path().join("outbox")).expect("listed") {
        let path = entry.expect("entry").path();
        std::fs::copy(&path, copy.path().join("outbox").join(path.file_name().expect("named"))).expect("copied");
    }
    for file in ["signing.key", "node.token", "callers.toml"] {
        std::fs::copy(bench.dir.path().join(file), copy.path().join(file)).expect("copied");
    }
    running.stop().await;
    bench.node.ledger().always = None;
    let running = bench.adapter_with("", &[&bench.node], copy.path()).await;
    let mut client = running.client().await;
    let result = pay_once(&mut client, "r", 100).await.expect("paid");
    assert_eq!(result.operation, pending.operation, "the same operation as before the crash");
    assert!(result.replayed);
    assert_eq!(bench.node.ledger().seen.len(), 1, "no other operation was ever sent");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_in_the_middle_of_everything_lose_and_repeat_nothing() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..60).map(|index| format!("r{index}")).collect();
    let rows = [Trouble::Lost, Trouble::AnswerLost, Trouble::Slow(Duration::from_millis(300)), Trouble::Unavailable];
    for round in 0..6 {
        bench.node.ledger().troubles.extend(rows);
        let running = bench.adapter().await;
        let client = running.client().await;
        let mut calls = JoinSet::new();
        for name in &names {
            let (mut client, name) = (client.clone(), name.clone());
            calls.spawn(
                async move { pay_within(&mut client, &name, 100, Duration::from_millis(60 + round * 120)).await },
            );
        }
        calls.join_all().await;
        running.stop().await;
    }
    let running = bench.adapter().await;
    let mut client = running.client().await;
    for name in &names {
        pay_once(&mut client, name, 100).await.expect("paid in the end");
    }
    {
        let ledger = bench.node.ledger();
        assert_eq!((ledger.answers.len(), ledger.seen.len()), (names.len(), names.len()), "one operation a request");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_batch_is_signed_again_with_the_same_operations_once_it_has_expired() {
    let bench = Bench::new().await;
    bench.node.ledger().troubles.extend([Trouble::Lost; 40]);
    bench.node.ledger().always = None;
    let running = bench.adapter_with("life_s = 5", &[&bench.node], bench.dir.path()).await;
    let mut client = running.client().await;
    let result = pay_once(&mut client, "r", 100).await.expect("paid");
    {
        let ledger = bench.node.ledger();
        assert_eq!(ledger.seen.len(), 1);
        let answered = ledger.answers.keys().next().map(|it| it.0.to_be_bytes().to_vec());
        assert_eq!(answered, result.operation.map(|it| it.op_id));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_impossible_operation_costs_its_neighbours_nothing() {
    let bench = Bench::new().await;
    bench.node.ledger().poison_amount = Some(666);
    let running = bench.adapter().await;
    let client = running.client().await;
    let mut calls = JoinSet::new();
    for index in 0..50u64 {
        let mut client = client.clone();
        let amount = if index == 17 { 666 } else { index + 1 };
        calls.spawn(async move { (amount, pay_once(&mut client, &format!("r{index}"), amount).await) });
    }
    while let Some(call) = calls.join_next().await {
        let (amount, result) = call.expect("no panic");
        match result {
            Ok(_) => assert_ne!(amount, 666),
            Err(status) => {
                assert_eq!(amount, 666);
                assert_eq!(status_reject(&status), Some(Reject::FieldTooLong));
            }
        }
    }
    assert_eq!(bench.node.ledger().answers.len(), 49);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_with_its_code_and_stays() {
    let bench = Bench::new().await;
    bench.node.ledger().refusals.push_back(Reject::AboveCeiling);
    let running = bench.adapter().await;
    let mut client = running.client().await;
    for _ in 0..2 {
        let refused = pay_once(&mut client, "r", 100).await.expect_err("refused");
        assert_eq!((refused.code(), status_reject(&refused)), (Code::FailedPrecondition, Some(Reject::AboveCeiling)));
    }
    running.stop().await;
    let running = bench.adapter().await;
    let mut client = running.client().await;
    let refused = pay_once(&mut client, "r", 100).await.expect_err("refused after a restart too");
    assert_eq!(status_reject(&refused), Some(Reject::AboveCeiling));
    pay_once(&mut client, "r2", 100).await.expect("a new request may succeed");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_leaves_the_id_free_is_no_answer() {
    let bench = Bench::new().await;
    bench.node.ledger().refusals.extend([Reject::IdTooNew, Reject::KeyNotValid]);
    let running = bench.adapter().await;
    let mut client = running.client().await;
    pay_once(&mut client, "r", 100).await.expect("paid once clock and key are good");
    assert_eq!(bench.node.ledger().seen.len(), 1);
    // Too old can never become good: that is an answer.
    bench.node.ledger().refusals.push_back(Reject::IdTooOld);
    let refused = pay_once(&mut client, "old", 100).await.expect_err("refused");
    assert_eq!((refused.code(), status_reject(&refused)), (Code::OutOfRange, Some(Reject::IdTooOld)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_signed_for_another_chain_or_with_another_key() {
    let bench = Bench::new().await;
    bench.node.ledger().chain = vec![6; 32];
    let running = bench.adapter().await;
    let mut client = running.client().await;
    let open = pay_within(&mut client, "r", 100, Duration::from_millis(1500)).await.expect_err("not served");
    assert!(matches!(open.code(), Code::Unavailable | Code::DeadlineExceeded), "{open}");
    let troubles = running.adapter.status().troubles().join("; ");
    assert!(troubles.contains("another chain"), "{troubles}");
    assert_eq!(bench.node.ledger().submitted, 0);
    bench.node.ledger().chain = CHAIN.to_vec();
    let good = bench.node.ledger().public_key.clone();
    bench.node.ledger().public_key = vec![1; 32];
    tokio::time::sleep(Duration::from_secs(1)).await;
    let troubles = running.adapter.status().troubles().join("; ");
    assert!(troubles.contains("signing key is not key 1"), "{troubles}");
    assert_eq!(bench.node.ledger().submitted, 0);
    bench.node.ledger().public_key = good;
    pay_once(&mut client, "r", 100).await.expect("served once it is mended");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_prove_themselves_and_bad_fields_are_named() {
    let bench = Bench::new().await;
    let running = bench.adapter().await;
    let mut client = running.client().await;
    pay_once(&mut client, "warm", 1).await.expect("paid");
    let wait = Duration::from_secs(5);
    let rows = [
        (client.pay(Request::new(pay("a", 1))).await, Code::Unauthenticated, "TOKEN_MISSING"),
        (client.pay(call(pay("a", 1), "nobody", wait)).await, Code::Unauthenticated, "TOKEN_UNKNOWN"),
        (client.pay(call(pay("a", 1), "looker", wait)).await, Code::PermissionDenied, "ROLE_MISSING"),
        (client.pay(call(pay("", 1), "wallet", wait)).await, Code::InvalidArgument, "FIELD_INVALID"),
        (client.pay(call(pay(&"x".repeat(65), 1), "wallet", wait)).await, Code::InvalidArgument, "FIELD_INVALID"),
        (
            client.pay(call(v1::PayRequest { order: None, ..pay("a", 1) }, "wallet", wait)).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            client.pay(call(v1::PayRequest { scene: 99, ..pay("a", 1) }, "wallet", wait)).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            client.pay(call(v1::PayRequest { currency: 70_000, ..pay("a", 1) }, "wallet", wait)).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
    ];
    for (result, code, name) in rows {
        let status = result.expect_err(name);
        assert_eq!((status.code(), reason(&status).as_str()), (code, name), "{}", status.message());
    }
    // A request id that failed for its fields is not used up.
    pay_once(&mut client, "a", 1).await.expect("paid");
    let unknown = v1::GetRequestRequest { request_id: String::from("never") };
    assert_eq!(client.get_request(call(unknown, "looker", wait)).await.expect_err("unknown").code(), Code::NotFound);
    let huge = v1::PayRequest { request_id: "x".repeat(1 << 20), ..pay("a", 1) };
    assert_eq!(client.pay(call(huge, "wallet", wait)).await.expect_err("too large").code(), Code::OutOfRange);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_caller_leaves_open_is_filled_in_from_the_ledger() {
    let bench = Bench::new().await;
    let running = bench.adapter().await;
    let mut client = running.client().await;
    // A ULID: its operation id follows from it, here and in every other adapter.
    let ulid = ulid_now();
    let result = pay_once(&mut client, &ulid, 100).await.expect("paid");
    running.stop().await;
    std::fs::remove_dir_all(bench.dir.path().join("outbox")).expect("lost");
    let running = bench.adapter().await;
    let mut client = running.client().await;
    let again = pay_once(&mut client, &ulid, 100).await.expect("the first answer again");
    assert_eq!(again.operation, result.operation);
    assert_eq!(bench.node.ledger().answers.len(), 1);
    let known = client.get_request(call(v1::GetRequestRequest { request_id: ulid }, "wallet", Duration::from_secs(5)));
    assert!(known.await.expect("known").into_inner().receipt.is_some());
    running.stop().await;
    // The versions of the mandate and the schedule in force were signed.
    let body = anji_contracts::codec::hash(anji_contracts::codec::Domain::OpBody, &expected_body());
    assert_eq!(bench.node.ledger().answers.values().next().map(|it| it.1), Some(body));
}

fn expected_body() -> Vec<u8> {
    use anji_contracts::types::*;
    let id = ScopedId { participant: ParticipantId(PARTICIPANT), op_id: OpId(u128::from_be_bytes([1; 16])) };
    let body = OpBody::Pay(anji_contracts::ops::Pay {
        mandate: MandateId(id),
        amount: Amount(100),
        currency: Currency(156),
        scene: Scene::Online,
        order: anji_contracts::ops::Order {
            merchant: Pseudonym([2; 16]),
            category: MerchantCategory(5411),
            order_hash: Hash32([3; 32]),
            trace_id: TraceId([4; 16]),
            envelope_hash: Hash32::ZERO,
        },
        schedule_version: ScheduleVersion(3),
        guarantee_version: 7,
        assertion_version: 8,
        consent_version: 9,
        assertion: RiskAssertion {
            model_kind: 1,
            score: 1,
            as_of_ms: 1,
            valid_until_ms: 2,
            evidence_hash: Hash32([5; 32]),
        },
    });
    anji_contracts::codec::encode(&body)
}

fn ulid_now() -> String {
    let letters = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let mut text: Vec<u8> = (0..10).rev().map(|place| letters[(now >> (5 * place)) as usize & 31]).collect();
    text.extend_from_slice(b"0123456789ABCDEF");
    String::from_utf8(text).expect("ASCII")
}

fn payment(id: u8, status: v1::PaymentStatus) -> v1::Payment {
    let id = Some(v1::Id { participant: 77, op_id: vec![id; 16] });
    v1::Payment { id, issuer: PARTICIPANT, status: status.into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_sees_what_waits_for_it_until_it_is_answered() {
    use v1::PaymentStatus::{Declined, Requested};
    use v1::change::State;
    let bench = Bench::new().await;
    bench.node.ledger().role = v1::Role::Issuer;
    for (id, status) in [(1, Requested), (2, Requested), (1, Declined)] {
        bench.node.add_change(State::Payment(payment(id, status)), None);
    }
    let running = bench.adapter().await;
    let mut client = running.client().await;
    let wait = Duration::from_secs(20);
    let mut stream =
        client.stream_work(call(v1::StreamWorkRequest {}, "wallet", wait)).await.expect("opens").into_inner();
    let id_of = |item: v1::WorkItem| match item.work {
        Some(v1::work_item::Work::Payment(it)) => it.id.expect("an id").op_id[0],
        other => panic!("{other:?}"),
    };
    let first = stream.message().await.expect("goes on").expect("an item");
    assert_eq!((first.seq, id_of(first)), (1, 2));
    bench.node.add_change(State::Payment(payment(3, Requested)), None);
    assert_eq!(id_of(stream.message().await.expect("goes on").expect("an item")), 3);
    drop(stream);
    bench.node.add_change(State::Payment(payment(2, Declined)), None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    running.stop().await;

    let running = bench.adapter().await;
    let mut client = running.client().await;
    let mut stream =
        client.stream_work(call(v1::StreamWorkRequest {}, "wallet", wait)).await.expect("opens").into_inner();
    assert_eq!(id_of(stream.message().await.expect("goes on").expect("an item")), 3, "only what still waits");
    let mut more = Vec::new();
    for _ in 0..16 {
        more.push(client.stream_work(call(v1::StreamWorkRequest {}, "wallet", wait)).await);
    }
    let refused = more.pop().expect("16 streams").expect_err("one too many");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_streamed_with_their_request_and_resume() {
    let bench = Bench::new().await;
    let running = bench.adapter().await;
    let mut client = running.client().await;
    let cause = pay_once(&mut client, "mine", 100).await.expect("paid").operation;
    let other = Some(v1::Id { participant: 77, op_id: vec![8; 16] });
    for (id, cause) in [(1, cause.clone()), (2, other), (3, None)] {
        let state = v1::change::State::Payment(payment(id, v1::PaymentStatus::Captured));
        bench.node.add_change(state, cause);
    }
    let wait = Duration::from_secs(20);
    let from = |from_seq| call(v1::StreamResultsRequest { from_seq }, "looker", wait);
    let mut stream = client.stream_results(from(0)).await.expect("opens").into_inner();
    let mut items = Vec::new();
    for _ in 0..3 {
        items.push(stream.message().await.expect("goes on").expect("an item"));
    }
    let told: Vec<_> = items.iter().map(|it| (it.seq, it.request_id.as_str())).collect();
    assert_eq!(told, [(0, "mine"), (1, ""), (2, "")]);
    let mut resumed = client.stream_results(from(2)).await.expect("opens").into_inner();
    assert_eq!(resumed.message().await.expect("goes on").expect("an item").seq, 2);
    running.stop().await;
    let ended = resumed.message().await.expect_err("told why");
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_adapter_says_so_and_loses_nothing() {
    let bench = Bench::new().await;
    bench.node.ledger().always = Some(Trouble::Unavailable);
    let running = bench.adapter_with("[requests]\nmax_pending = 5", &[&bench.node], bench.dir.path()).await;
    let client = running.client().await;
    let mut calls = JoinSet::new();
    for index in 0..12 {
        let mut client = client.clone();
        calls
            .spawn(async move { pay_within(&mut client, &format!("r{index}"), 100, Duration::from_millis(800)).await });
    }
    let results = calls.join_all().await;
    let codes = |code| results.iter().filter(|it| it.as_ref().err().map(Status::code) == Some(code)).count();
    assert_eq!((codes(Code::ResourceExhausted), codes(Code::DeadlineExceeded)), (7, 5));
    bench.node.ledger().always = None;
    let mut client = client;
    for index in 0..12 {
        // Refused for want of room: nothing was taken, so asking again is all there is to do.
        while let Err(status) = pay_once(&mut client, &format!("r{index}"), 100).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            let wait = status.get_details_retry_info().and_then(|it| it.retry_delay).expect("says when");
            tokio::time::sleep(wait).await;
        }
    }
    assert_eq!(bench.node.ledger().seen.len(), 12);
    running.stop().await;
}
