//! A wallet of the test's own: holds every participant's signing key, makes batches byte by byte, submits them to any node,
//! and reads back what became of them.

use anji_contracts::batch::encode_batch;
use anji_contracts::ops::{MandateActivate, MandatePropose, Op, OpBody, Order, Pay, PaymentRequest};
use anji_contracts::types::{
    Amount, ChainId, Consent, Currency, Disclosure, Guarantee, Hash32, KeyId, MandateId, MerchantCategory, OpId,
    ParticipantId, Pseudonym, RiskAssertion, Scene, SceneSet, ScheduleVersion, ScopedId, Tier, TraceId,
};
use anji_proto::v1 as pb;
use anji_proto::v1::operator_service_client::OperatorServiceClient;
use anji_proto::v1::wallet_service_client::WalletServiceClient;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

/// Adds the token.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Wallet = WalletServiceClient<InterceptedService<Channel, Bearer>>;
type Operator = OperatorServiceClient<InterceptedService<Channel, Bearer>>;

struct Door {
    channel: Channel,
    operator: Bearer,
}

struct Inner {
    chain: ChainId,
    /// By participant.
    keys: BTreeMap<u32, SigningKey>,
    /// By node.
    doors: BTreeMap<String, Door>,
    /// By participant: a token that every node knows.
    tokens: BTreeMap<u32, Bearer>,
    counter: AtomicU64,
}

/// Who may sign and submit. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

/// A batch whose receipts were given.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The node that gave them.
    pub node: String,
    /// The receipts.
    pub receipts: pb::ReceiptBatch,
}

/// The reject code in an error, if the ledger's rules caused it.
#[must_use]
pub fn reject_code(status: &Status) -> Option<u16> {
    status.get_details_error_info()?.metadata.get("code")?.parse().ok()
}

fn bearer(token: &str) -> Bearer {
    Bearer(format!("Bearer {token}").parse().expect("a printable token"))
}

/// The second line of a key file.
fn read_key(file: &Path) -> SigningKey {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut seed = [0; 32];
    hex::decode_to_slice(text.lines().nth(1).expect("two lines"), &mut seed).expect("64 hex digits");
    SigningKey::from_bytes(&seed)
}

impl Ledger {
    /// Reads what `anji init` made, and lets every acting participant call every node: a test's wallet goes where it likes.
    pub(crate) fn load(dir: &Path) -> Self {
        let text = std::fs::read_to_string(dir.join("network.json")).expect("network.json");
        let network: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let field = |node: &serde_json::Value, name: &str| node[name].as_str().expect(name).to_owned();
        let nodes = network["nodes"].as_array().expect("nodes");
        let (mut keys, mut doors, mut tokens) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut callers = String::new();
        for node in nodes {
            let folder = dir.join(field(node, "name"));
            let participant = u32::try_from(node["participant_id"].as_u64().expect("a number")).expect("small");
            if node["adapter_grpc"].is_string() {
                keys.insert(participant, read_key(&folder.join("keys/signing.key")));
            }
            let token = format!("test-token-of-participant-{participant}");
            let hash = blake3::hash(token.as_bytes()).to_hex();
            writeln!(
                callers,
                "[[callers]]\nname = \"test-{participant}\"\ntoken_blake3 = \"{hash}\"\nparticipant = {participant}\nroles = [\"wallet\", \"operator\"]"
            )
            .expect("a String takes it");
            tokens.insert(participant, bearer(&token));
        }
        for node in nodes {
            let name = field(node, "name");
            let file = dir.join(&name).join("tokens/callers.toml");
            let own = std::fs::read_to_string(&file).expect("callers.toml");
            std::fs::write(&file, format!("{own}\n{callers}")).expect("written");
            let channel = Endpoint::from_shared(format!("http://{}", field(node, "grpc")))
                .expect("an address")
                .connect_timeout(Duration::from_millis(500))
                .connect_lazy();
            let operator = tokens.values().next_back().expect("tokens").clone();
            doors.insert(name, Door { channel, operator });
        }
        let mut chain = [0; 32];
        hex::decode_to_slice(network["chain_id"].as_str().expect("chain_id"), &mut chain).expect("hex");
        let counter = AtomicU64::new(1);
        Self(Arc::new(Inner { chain: ChainId(Hash32(chain)), keys, doors, tokens, counter }))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms() -> u64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        u64::try_from(elapsed.as_millis()).expect("before the end of time")
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        self.0.chain
    }

    /// A participant's signing key.
    #[must_use]
    pub fn key(&self, participant: u32) -> &SigningKey {
        self.0.keys.get(&participant).expect("a participant with a key")
    }

    /// A fresh id of now.
    #[must_use]
    pub fn op_id(&self) -> OpId {
        self.op_id_at(Self::now_ms())
    }

    /// A fresh id of another time.
    #[must_use]
    pub fn op_id_at(&self, time_ms: u64) -> OpId {
        let number = self.0.counter.fetch_add(1, Ordering::Relaxed);
        OpId::new(time_ms, (u128::from(std::process::id()) << 48) | u128::from(number))
    }

    /// An operation with a fresh id.
    #[must_use]
    pub fn op(&self, body: OpBody) -> Op {
        Op { op_id: self.op_id(), linked: false, body }
    }

    /// A signed batch that expires in five minutes.
    #[must_use]
    pub fn batch(&self, participant: u32, ops: &[Op]) -> Bytes {
        self.batch_with(self.chain(), participant, self.key(participant), Self::now_ms() + 300_000, ops)
    }

    /// A batch with everything chosen by the test.
    #[must_use]
    pub fn batch_with(&self, chain: ChainId, participant: u32, key: &SigningKey, expires_ms: u64, ops: &[Op]) -> Bytes {
        let sign = |digest: &[u8; 32]| key.sign(digest).to_bytes();
        let bytes = encode_batch(&chain, ParticipantId(participant), KeyId(1), expires_ms, ops, sign);
        bytes.expect("a batch within the limits").into()
    }

    fn wallet(&self, node: &str, participant: u32) -> Wallet {
        let door = self.0.doors.get(node).expect("a known node");
        let token = self.0.tokens.get(&participant).expect("a known participant").clone();
        WalletServiceClient::new(InterceptedService::new(door.channel.clone(), token))
            .max_encoding_message_size(4 << 20)
            .max_decoding_message_size(64 << 20)
    }

    fn operator(&self, node: &str) -> Operator {
        let door = self.0.doors.get(node).expect("a known node");
        OperatorServiceClient::new(InterceptedService::new(door.channel.clone(), door.operator.clone()))
    }

    /// The wallet service of a node, as seen by a participant.
    #[must_use]
    pub fn wallet_of(&self, node: &str, participant: u32) -> Wallet {
        self.wallet(node, participant)
    }

    pub(crate) async fn status(&self, node: &str) -> Option<pb::GetStatusResponse> {
        let mut operator = self.operator(node);
        let asked = operator.get_status(pb::GetStatusRequest {});
        Some(tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?.ok()?.into_inner())
    }

    /// Roots of a node after a height.
    pub async fn roots(&self, node: &str, height: u64) -> Option<pb::GetRootsResponse> {
        Some(self.operator(node).get_roots(pb::GetRootsRequest { height }).await.ok()?.into_inner())
    }

    /// Hands a batch in at one node and waits for its receipts.
    ///
    /// # Errors
    /// What the node answered.
    pub async fn submit(&self, node: &str, participant: u32, batch: &Bytes) -> Result<pb::ReceiptBatch, Status> {
        let request = pb::SubmitBatchRequest { signed_batch: batch.clone(), wait: pb::Wait::Decided.into() };
        let mut wallet = self.wallet(node, participant);
        let answer = tokio::time::timeout(Duration::from_secs(10), wallet.submit_batch(request)).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no answer within 10 s"))??.into_inner();
        answer.receipts.ok_or_else(|| Status::internal("an answer without receipts"))
    }

    /// Hands a batch in at one node after the other until one gives its receipts; the same bytes every time.
    ///
    /// # Panics
    /// No node gave them within `patience`, or one refused the bytes.
    pub async fn settle(&self, nodes: &[&str], participant: u32, batch: &Bytes, patience: Duration) -> Decided {
        let deadline = Instant::now() + patience;
        let mut place = 0;
        loop {
            let node = nodes[place % nodes.len()];
            place += 1;
            let status = match self.submit(node, participant, batch).await {
                Ok(receipts) => return Decided { node: node.to_owned(), receipts },
                Err(status) => status,
            };
            assert!(reject_code(&status).is_none(), "{node} refused a good batch: {status:?}");
            assert!(Instant::now() < deadline, "no receipts within {} s; last: {status:?}", patience.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Settles operations of a participant in one batch and asserts that all are done.
    pub async fn done(&self, nodes: &[&str], participant: u32, ops: &[Op]) -> Decided {
        let batch = self.batch(participant, ops);
        let decided = self.settle(nodes, participant, &batch, Duration::from_secs(60)).await;
        for receipt in &decided.receipts.receipts {
            assert!(matches!(receipt.result, Some(pb::receipt::Result::Done(_))), "refused: {receipt:?}");
        }
        decided
    }

    /// The code of a single operation's refusal; `None` if it is done.
    pub async fn code(&self, node: &str, participant: u32, op: Op) -> Option<u16> {
        let batch = self.batch(participant, &[op]);
        let decided = self.settle(&[node], participant, &batch, Duration::from_secs(30)).await;
        refusal(&decided.receipts)
    }

    /// What a node answers about an operation.
    ///
    /// # Errors
    /// What the node answered instead.
    pub async fn operation(&self, node: &str, participant: u32, op_id: &[u8]) -> Result<pb::Receipt, Status> {
        let operation = Some(pb::Id { participant, op_id: op_id.to_vec() });
        let answer = self.wallet(node, participant).get_operation(pb::GetOperationRequest { operation }).await?;
        answer.into_inner().receipt.ok_or_else(|| Status::internal("an answer without a receipt"))
    }

    /// `n` active mandates between participants 1 and 2 with room for everything.
    pub async fn mandates(&self, nodes: &[&str], n: usize) -> Vec<MandateId> {
        let proposals: Vec<Op> = (0..n).map(|number| self.op(propose(number))).collect();
        self.done(nodes, 1, &proposals).await;
        let id = |op: &Op| MandateId(ScopedId { participant: ParticipantId(1), op_id: op.op_id });
        let mandates: Vec<MandateId> = proposals.iter().map(id).collect();
        let answers: Vec<Op> = mandates.iter().map(|mandate| self.op(activate(*mandate))).collect();
        self.done(nodes, 2, &answers).await;
        mandates
    }

    /// A `Pay` on a mandate made by [`Self::mandates`].
    #[must_use]
    pub fn pay(&self, mandate: MandateId, amount: u64) -> Op {
        self.op(OpBody::Pay(pay_body(mandate, amount)))
    }

    /// A payment request on such a mandate.
    #[must_use]
    pub fn request(&self, mandate: MandateId, amount: u64) -> Op {
        let pay = pay_body(mandate, amount);
        let now = Self::now_ms();
        self.op(OpBody::PaymentRequest(PaymentRequest {
            mandate,
            amount: pay.amount,
            currency: pay.currency,
            scene: pay.scene,
            order: pay.order,
            schedule_version: pay.schedule_version,
            instalments: 1,
            assertion: pay.assertion,
            answer_by_ms: now + 60_000,
            capture_by_ms: now + 120_000,
        }))
    }
}

/// The code of a batch's only operation; `None` if it is done.
fn refusal(receipts: &pb::ReceiptBatch) -> Option<u16> {
    match receipts.receipts.first().and_then(|receipt| receipt.result.as_ref()).expect("one receipt") {
        pb::receipt::Result::Done(_) => None,
        pb::receipt::Result::Refused(reject) => Some(u16::try_from(reject.code).expect("four digits")),
    }
}

fn assertion() -> RiskAssertion {
    let now = Ledger::now_ms();
    RiskAssertion {
        model_kind: 1,
        score: 100,
        as_of_ms: now - 1_000,
        valid_until_ms: now + 3_600_000,
        evidence_hash: Hash32([7; 32]),
    }
}

fn propose(number: usize) -> OpBody {
    OpBody::MandatePropose(MandatePropose {
        issuer: ParticipantId(2),
        payer: Pseudonym(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().expect("32 bytes")),
        ceiling: Amount(1 << 40),
        payment_cap: Amount(1 << 39),
        scenes: SceneSet::of(&[Scene::Online, Scene::PayerPresented]),
        tier: Tier::A,
        expires_at_ms: Ledger::now_ms() + 86_400_000,
        request_commitment: Hash32([1; 32]),
    })
}

fn activate(mandate: MandateId) -> OpBody {
    let now = Ledger::now_ms();
    OpBody::MandateActivate(MandateActivate {
        mandate,
        payer_at_issuer: Pseudonym([2; 16]),
        ceiling: Amount(1 << 40),
        payment_cap: Amount(1 << 39),
        scenes: SceneSet::of(&[Scene::Online, Scene::PayerPresented]),
        guarantee: Some(Guarantee { amount: Amount(1 << 40), until_ms: now + 86_400_000 }),
        assertion: Some(RiskAssertion { valid_until_ms: now + 86_400_000, ..assertion() }),
        disclosure: Disclosure {
            lender: "Lender".to_owned(),
            service_provider: ParticipantId(3),
            annual_cost_bps: 1_460,
            schedule_version: ScheduleVersion(1),
            page_hash: Hash32([3; 32]),
            shown_ms: 5_000,
        },
        consent: Consent { given_at_ms: now - 1_000, until_ms: now + 86_400_000, record_hash: Hash32([4; 32]) },
    })
}

fn pay_body(mandate: MandateId, amount: u64) -> Pay {
    Pay {
        mandate,
        amount: Amount(amount),
        currency: Currency::CNY,
        scene: Scene::Online,
        order: Order {
            merchant: Pseudonym([5; 16]),
            category: MerchantCategory(5411),
            order_hash: Hash32([6; 32]),
            trace_id: TraceId([8; 16]),
            envelope_hash: Hash32::ZERO,
        },
        schedule_version: ScheduleVersion(1),
        guarantee_version: 1,
        assertion_version: 1,
        consent_version: 1,
        assertion: assertion(),
    }
}
