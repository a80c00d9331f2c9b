//! A wallet service that behaves badly on purpose: it loses batches, loses answers, delays, repeats, cuts streams, is not there.
//! Behind it a tiny ledger that does what the real one promises: the first answer to an id is the answer for ever.

use anji_contracts::codec;
use anji_contracts::entity::{EntityKey, Suite};
use anji_contracts::entry::OpResult;
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::{ChainId, Hash32, OpId, ParticipantId, PaymentId, ScopedId};
use anji_contracts::{Receipt, Reject, decode_batch};
use anji_proto::v1;
use anji_proto::v1::wallet_service_server::{WalletService, WalletServiceServer};
use anji_wire::{Reason, ledger, reject_status};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(crate) const CHAIN: [u8; 32] = [5; 32];
pub(crate) const PARTICIPANT: u32 = 1;

/// What happens to one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Taken and forgotten.
    Lost,
    /// Executed, but the caller is told that the node is not there.
    AnswerLost,
    /// Not taken; the node is not there.
    Unavailable,
    /// Not taken: the pool is full.
    Full,
    /// Not taken: this reject.
    Rejected(Reject),
    /// Executed after a while.
    Slow(Duration),
    /// Executed and told twice by the stream.
    Twice,
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// The first answer to every id, and the body it was for.
    pub(crate) answers: HashMap<OpId, (Receipt, Hash32)>,
    /// How often each operation came, executed or not.
    pub(crate) seen: BTreeMap<OpId, u32>,
    /// Batches handed in.
    pub(crate) submitted: usize,
    /// Receipts by sequence.
    batches: Vec<Vec<Receipt>>,
    /// What becomes of the next batches; then nothing bad.
    pub(crate) troubles: VecDeque<Trouble>,
    /// What becomes of every batch while set.
    pub(crate) always: Option<Trouble>,
    /// Refusals to give to the next operations, in order.
    pub(crate) refusals: VecDeque<Reject>,
    /// An operation with this amount makes its whole batch unacceptable.
    pub(crate) poison_amount: Option<u64>,
    /// The stream of receipts breaks after so many items.
    pub(crate) break_stream_after: Option<usize>,
    /// The stream of receipts tells nothing.
    pub(crate) mute: bool,
    /// Changes by index.
    pub(crate) changes: Vec<v1::Change>,
    pub(crate) role: v1::Role,
    pub(crate) public_key: Vec<u8>,
    pub(crate) chain: Vec<u8>,
}

impl Ledger {
    fn execute(&mut self, ops: &[Op]) {
        let mut receipts = Vec::new();
        for op in ops {
            let body = codec::hash(codec::Domain::OpBody, &codec::encode(&op.body));
            let receipt = match self.answers.get(&op.op_id) {
                Some((receipt, first)) if *first == body => receipt.clone(),
                Some(_) => Receipt { result: OpResult::Refused(Reject::IdConflict), ..blank(op.op_id) },
                None => {
                    let refusal = self.refusals.pop_front().filter(|_| true);
                    let receipt = Receipt {
                        result: refusal.map_or_else(|| done(op.op_id), OpResult::Refused),
                        ..blank(op.op_id)
                    };
                    let is_final = match receipt.result {
                        OpResult::Refused(reject) => reject.consumes_id(),
                        OpResult::Done(_) => true,
                    };
                    if is_final {
                        self.answers.insert(op.op_id, (receipt.clone(), body));
                    }
                    receipt
                }
            };
            receipts.push(receipt);
        }
        self.batches.push(receipts);
    }
}

fn done(op_id: OpId) -> OpResult {
    OpResult::Done(EntityKey::Payment(PaymentId(ScopedId { participant: ParticipantId(PARTICIPANT), op_id })))
}

fn blank(op_id: OpId) -> Receipt {
    Receipt { op_id, result: done(op_id), time_ms: op_id.time_ms() + 1, height: 1 }
}

/// The node; clones share it.
#[derive(Clone)]
pub(crate) struct Fake {
    ledger: Arc<Mutex<Ledger>>,
    news: watch::Sender<u64>,
    stop: CancellationToken,
    pub(crate) address: SocketAddr,
}

impl Fake {
    pub(crate) async fn start(public_key: Vec<u8>) -> Self {
        let ledger = Ledger { role: v1::Role::Acquirer, public_key, chain: CHAIN.to_vec(), ..Ledger::default() };
        Self::serve(Arc::new(Mutex::new(ledger))).await
    }

    /// Another node of the same ledger.
    pub(crate) async fn twin(&self) -> Self {
        Self::serve(self.ledger.clone()).await
    }

    async fn serve(ledger: Arc<Mutex<Ledger>>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let fake = Self { ledger, news: watch::Sender::new(0), stop: CancellationToken::new(), address };
        let server = tonic::transport::Server::builder().add_service(WalletServiceServer::new(fake.clone()));
        let stop = fake.stop.clone();
        // Dropping the server cuts every connection, as a crash would.
        tokio::spawn(async move {
            tokio::select! {
                served = server.serve_with_incoming(TcpListenerStream::new(listener)) => served.expect("serves"),
                () = stop.cancelled() => {}
            }
        });
        fake
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("not poisoned")
    }

    /// The suite of the participant's key, as its length tells.
    fn suite(&self) -> Suite {
        if self.ledger().public_key.len() == 33 { Suite::Sm2Sm3 } else { Suite::Ed25519 }
    }

    pub(crate) fn crash(&self) {
        self.stop.cancel();
    }

    pub(crate) fn add_change(&self, state: v1::change::State, cause: Option<v1::Id>) {
        let mut ledger = self.ledger();
        let index = ledger.changes.len() as u64;
        ledger.changes.push(v1::Change { index, version: 1, cause, state: Some(state) });
        drop(ledger);
        self.news.send_modify(|it| *it += 1);
    }

    fn execute(&self, ops: &[Op]) {
        self.ledger().execute(ops);
        self.news.send_modify(|it| *it += 1);
    }
}

fn id_of(id: Option<&v1::Id>) -> OpId {
    OpId(u128::from_be_bytes(id.expect("an id").op_id.as_slice().try_into().expect("16 bytes")))
}

type Out<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl WalletService for Fake {
    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        assert_eq!(request.metadata().get("authorization").expect("a token"), "Bearer node-token");
        let bytes = request.into_inner().signed_batch;
        let batch = decode_batch(&bytes, &ChainId(Hash32(CHAIN))).map_err(reject_status)?;
        let (trouble, poisoned) = {
            let mut ledger = self.ledger();
            ledger.submitted += 1;
            for op in &batch.ops {
                *ledger.seen.entry(op.op_id).or_default() += 1;
            }
            let is_poison = |op: &Op| match &op.body {
                OpBody::Pay(pay) => Some(pay.amount.0) == ledger.poison_amount,
                _ => false,
            };
            let poisoned = batch.ops.iter().any(is_poison);
            (ledger.troubles.pop_front().or(ledger.always), poisoned)
        };
        if poisoned {
            return Err(reject_status(Reject::FieldTooLong));
        }
        let suite = self.suite();
        let checked = batch.clone().verify(suite, &self.ledger().public_key).map_err(reject_status)?;
        match trouble {
            None => self.execute(&checked.ops),
            Some(Trouble::Lost) => {}
            Some(Trouble::AnswerLost) => {
                self.execute(&checked.ops);
                return Err(Status::unavailable("the answer is lost"));
            }
            Some(Trouble::Unavailable) => return Err(Status::unavailable("not there")),
            Some(Trouble::Full) => return Err(Reason::MempoolFull.status_retry("full", Duration::from_millis(30))),
            Some(Trouble::Rejected(reject)) => return Err(reject_status(reject)),
            Some(Trouble::Slow(wait)) => {
                let (this, ops) = (self.clone(), checked.ops.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    this.execute(&ops);
                });
            }
            Some(Trouble::Twice) => {
                self.execute(&checked.ops);
                self.execute(&checked.ops);
            }
        }
        Ok(Response::new(v1::SubmitBatchResponse { batch_hash: batch.hash.0.to_vec(), known: false, receipts: None }))
    }

    type SubmitBatchesStream = Out<v1::SubmitBatchesResponse>;

    async fn submit_batches(
        &self,
        _: Request<tonic::Streaming<v1::SubmitBatchesRequest>>,
    ) -> Result<Response<Self::SubmitBatchesStream>, Status> {
        Err(Status::unimplemented("not used"))
    }

    type StreamReceiptsStream = Out<v1::StreamReceiptsResponse>;

    async fn stream_receipts(
        &self,
        request: Request<v1::StreamReceiptsRequest>,
    ) -> Result<Response<Self::StreamReceiptsStream>, Status> {
        let mut seq = request.into_inner().from_seq;
        let (out, stream) = mpsc::channel(16);
        let (this, mut news) = (self.clone(), self.news.subscribe());
        tokio::spawn(async move {
            let mut told = 0;
            loop {
                let (receipts, broken) = {
                    let ledger = this.ledger();
                    let receipts = ledger.batches.get(seq as usize).filter(|_| !ledger.mute).cloned();
                    (receipts, ledger.break_stream_after.is_some_and(|limit| told >= limit))
                };
                if broken {
                    let _ = out.send(Err(Status::unavailable("the stream breaks"))).await;
                    return;
                }
                let Some(receipts) = receipts else {
                    tokio::select! {
                        changed = news.changed() => if changed.is_err() { return },
                        () = out.closed() => return,
                        () = tokio::time::sleep(Duration::from_millis(50)) => {}
                    }
                    continue;
                };
                let receipts = receipts.iter().map(ledger::receipt).collect();
                let batch =
                    v1::ReceiptBatch { seq, height: 1, participant: PARTICIPANT, batch_hash: vec![0; 32], receipts };
                let item = Some(v1::stream_receipts_response::Item::Batch(batch));
                if out.send(Ok(v1::StreamReceiptsResponse { item })).await.is_err() {
                    return;
                }
                seq += 1;
                told += 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type StreamChangesStream = Out<v1::StreamChangesResponse>;

    async fn stream_changes(
        &self,
        request: Request<v1::StreamChangesRequest>,
    ) -> Result<Response<Self::StreamChangesStream>, Status> {
        let mut index = request.into_inner().from_index;
        let (out, stream) = mpsc::channel(16);
        let (this, mut news) = (self.clone(), self.news.subscribe());
        tokio::spawn(async move {
            loop {
                let change = this.ledger().changes.get(index as usize).cloned();
                let Some(change) = change else {
                    tokio::select! {
                        changed = news.changed() => if changed.is_err() { return },
                        () = out.closed() => return,
                    }
                    continue;
                };
                let item = Some(v1::stream_changes_response::Item::Change(change));
                if out.send(Ok(v1::StreamChangesResponse { item })).await.is_err() {
                    return;
                }
                index += 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::GetOperationResponse>, Status> {
        let id = request.into_inner().operation;
        assert_eq!(id.as_ref().map(|it| it.participant), Some(PARTICIPANT));
        let receipt = self.ledger().answers.get(&id_of(id.as_ref())).map(|(receipt, _)| ledger::receipt(receipt));
        let receipt = Some(receipt.ok_or_else(|| Reason::NotFound.status("not executed here"))?);
        Ok(Response::new(v1::GetOperationResponse { receipt, batch_seq: 0, batch_hash: vec![0; 32] }))
    }

    async fn get_payment(
        &self,
        request: Request<v1::GetPaymentRequest>,
    ) -> Result<Response<v1::GetPaymentResponse>, Status> {
        let wanted = request.into_inner().payment;
        let found = self.ledger().changes.iter().rev().find_map(|change| match &change.state {
            Some(v1::change::State::Payment(it)) if it.id == wanted => Some((it.clone(), change.index)),
            _ => None,
        });
        let (payment, index) = found.ok_or_else(|| Reason::NotFound.status("no such payment"))?;
        Ok(Response::new(v1::GetPaymentResponse { payment: Some(payment), index, version: 1 }))
    }

    async fn get_refund(&self, _: Request<v1::GetRefundRequest>) -> Result<Response<v1::GetRefundResponse>, Status> {
        Err(Reason::NotFound.status("no such refund"))
    }

    async fn get_mandate(
        &self,
        request: Request<v1::GetMandateRequest>,
    ) -> Result<Response<v1::GetMandateResponse>, Status> {
        let mandate = v1::Mandate {
            id: request.into_inner().mandate,
            guarantee_version: 7,
            assertion_version: 8,
            consent_version: 9,
            ..Default::default()
        };
        Ok(Response::new(v1::GetMandateResponse { mandate: Some(mandate), line: None, index: 0, version: 1 }))
    }

    async fn get_window(&self, _: Request<v1::GetWindowRequest>) -> Result<Response<v1::GetWindowResponse>, Status> {
        Err(Reason::NotFound.status("no such window"))
    }

    async fn get_position(
        &self,
        _: Request<v1::GetPositionRequest>,
    ) -> Result<Response<v1::GetPositionResponse>, Status> {
        Err(Reason::NotYourData.status("somebody else's"))
    }

    async fn get_chain_info(
        &self,
        _: Request<v1::GetChainInfoRequest>,
    ) -> Result<Response<v1::GetChainInfoResponse>, Status> {
        let ledger = self.ledger();
        let key =
            v1::ParticipantKey { key_id: 1, suite: 1, public_key: ledger.public_key.clone(), ..Default::default() };
        let own = v1::Participant { id: PARTICIPANT, role: ledger.role.into(), keys: vec![key], ..Default::default() };
        Ok(Response::new(v1::GetChainInfoResponse {
            chain_id: ledger.chain.clone(),
            currency: 156,
            height: 1,
            schedule: Some(v1::FeeSchedule { version: 3, ..Default::default() }),
            participants: vec![own],
            next_batch_seq: ledger.batches.len() as u64,
            caller: PARTICIPANT,
            ..Default::default()
        }))
    }
}
