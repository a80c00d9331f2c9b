//! The wallet service: fields, whose data it is, then the answer. Contract: `proto/anji/v1/wallet.proto`.

use crate::access::{Sight, mandate_parties, parties_of, payment_parties};
use crate::deadline::Deadline;
use crate::door::caller;
use crate::ledger::{self, Failure, control, entity, state_as};
use crate::outlet::{self, Inlet};
use crate::server::Core;
use crate::submit::{batch_hash, still_pending};
use crate::{changes, receipts, submit};
use anji_contracts::EntityKey;
use anji_contracts::batch::FORMAT;
use anji_contracts::types::{MandateId, ParticipantId, PaymentId, RefundId, WindowId};
use anji_proto::v1;
use anji_proto::v1::wallet_service_server::WalletService;
use anji_storage::Reader;
use anji_wire::field::scoped_id;
use anji_wire::{FieldError, Reason, ledger as to};
use std::sync::Arc;
use std::time::Instant;
use tonic::{Request, Response, Status, Streaming};

/// The wallet service.
pub(crate) struct Wallet(pub(crate) Arc<Core>);

impl Wallet {
    /// A call that reads: fields were checked, `load` answers on a blocking thread with what the caller may see.
    async fn read<T: Send + 'static>(
        &self,
        method: &'static str,
        deadline: Deadline,
        own: ParticipantId,
        load: impl FnOnce(&Reader, Sight) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let since = Instant::now();
        let load = ledger::read(&self.0.reader, move |reader| load(reader, Sight::of(reader, own)?));
        let answer = deadline.within(load).await;
        self.0.metrics.on_answer(method, since, &answer);
        answer.map(Response::new)
    }

    fn open_stream<T, R>(
        &self,
        request: &Request<R>,
        method: &'static str,
    ) -> Result<(outlet::Outlet<T>, Inlet<T>), Status> {
        let core = &self.0;
        let deadline = Deadline::of(request.metadata());
        let caller = caller(request)?;
        outlet::open(&caller, method, deadline, core.limits.slow_receiver, &core.stopping, &core.metrics)
    }
}

#[tonic::async_trait]
impl WalletService for Wallet {
    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let since = Instant::now();
        let (core, caller, deadline) = (&self.0, caller(&request)?, Deadline::of(request.metadata()));
        let v1::SubmitBatchRequest { signed_batch, wait } = request.into_inner();
        let bytes = signed_batch.clone();
        let answer = tokio::select! {
            biased;
            answer = async {
                let submitted = submit::admit(core, &caller, signed_batch, wait).await?;
                submit::answer(core, submitted, deadline).await
            } => answer,
            // Under judgement at the deadline: it may still be admitted.
            () = deadline.passed() => Err(still_pending(&batch_hash(&bytes))),
        };
        core.metrics.on_answer("SubmitBatch", since, &answer);
        answer.map(Response::new)
    }

    type SubmitBatchesStream = Inlet<v1::SubmitBatchesResponse>;

    async fn submit_batches(
        &self,
        request: Request<Streaming<v1::SubmitBatchesRequest>>,
    ) -> Result<Response<Self::SubmitBatchesStream>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(request.metadata()));
        let (outlet, inlet) = self.open_stream(&request, "SubmitBatches")?;
        tokio::spawn(submit::run_stream(self.0.clone(), caller, request.into_inner(), deadline, outlet));
        Ok(Response::new(inlet))
    }

    type StreamReceiptsStream = Inlet<v1::StreamReceiptsResponse>;

    async fn stream_receipts(
        &self,
        request: Request<v1::StreamReceiptsRequest>,
    ) -> Result<Response<Self::StreamReceiptsStream>, Status> {
        let own = caller(&request)?.participant;
        let sight = ledger::read(&self.0.reader, move |reader| Sight::of(reader, own)).await?;
        let filter = receipts::filter(sight, request.get_ref().participant)?;
        let wait = v1::Wait::try_from(request.get_ref().wait);
        let final_only = wait.map_err(|_| FieldError::new("wait", "is not a known number"))? == v1::Wait::Final;
        let (outlet, inlet) = self.open_stream(&request, "StreamReceipts")?;
        let &v1::StreamReceiptsRequest { from_seq, tell_final, .. } = request.get_ref();
        let wanted = receipts::Wanted { from_seq, participant: filter, final_only, tell_final };
        tokio::spawn(receipts::run(self.0.clone(), wanted, outlet));
        Ok(Response::new(inlet))
    }

    type StreamChangesStream = Inlet<v1::StreamChangesResponse>;

    async fn stream_changes(
        &self,
        request: Request<v1::StreamChangesRequest>,
    ) -> Result<Response<Self::StreamChangesStream>, Status> {
        let own = caller(&request)?.participant;
        let kinds = changes::read_kinds(&request.get_ref().kinds)?;
        let (outlet, inlet) = self.open_stream(&request, "StreamChanges")?;
        tokio::spawn(changes::run(self.0.clone(), request.get_ref().from_index, kinds, own, outlet));
        Ok(Response::new(inlet))
    }

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::GetOperationResponse>, Status> {
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let id = scoped_id("operation", request.get_ref().operation.as_ref(), Some(own))?;
        self.read("GetOperation", deadline, own, move |reader, sight| {
            sight.check(&[id.participant])?;
            let row = reader.op(&id)?;
            let row = row.ok_or_else(|| Reason::NotFound.status("no such operation was executed here (yet)"))?;
            let batch = reader.receipts(row.batch_seq)?;
            let batch_hash = batch.map(|batch| batch.batch_hash.0.to_vec()).unwrap_or_default();
            let receipt = Some(to::receipt(&row.record.receipt));
            Ok(v1::GetOperationResponse { receipt, batch_seq: row.batch_seq, batch_hash })
        })
        .await
    }

    async fn get_payment(
        &self,
        request: Request<v1::GetPaymentRequest>,
    ) -> Result<Response<v1::GetPaymentResponse>, Status> {
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let id = scoped_id("payment", request.get_ref().payment.as_ref(), None)?;
        self.read("GetPayment", deadline, own, move |reader, sight| {
            let known = entity(reader, &EntityKey::Payment(PaymentId(id)), "payment")?;
            let (payment, index, version) = state_as!(known, Payment)?;
            sight.check(&payment_parties(&payment))?;
            Ok(v1::GetPaymentResponse { payment: Some(to::payment(&payment)), index, version })
        })
        .await
    }

    async fn get_refund(
        &self,
        request: Request<v1::GetRefundRequest>,
    ) -> Result<Response<v1::GetRefundResponse>, Status> {
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let id = scoped_id("refund", request.get_ref().refund.as_ref(), None)?;
        self.read("GetRefund", deadline, own, move |reader, sight| {
            let known = entity(reader, &EntityKey::Refund(RefundId(id)), "refund")?;
            let (refund, index, version) = state_as!(known, Refund)?;
            sight.check(&parties_of(reader, refund.payment)?)?;
            Ok(v1::GetRefundResponse { refund: Some(to::refund(&refund)), index, version })
        })
        .await
    }

    async fn get_mandate(
        &self,
        request: Request<v1::GetMandateRequest>,
    ) -> Result<Response<v1::GetMandateResponse>, Status> {
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let id = MandateId(scoped_id("mandate", request.get_ref().mandate.as_ref(), None)?);
        self.read("GetMandate", deadline, own, move |reader, sight| {
            let (mandate, index, version) = state_as!(entity(reader, &EntityKey::Mandate(id), "mandate")?, Mandate)?;
            sight.check(&mandate_parties(&mandate))?;
            let line = match reader.entity(&EntityKey::Line(id))? {
                Some(known) => Some(to::line(&state_as!(known, Line)?.0)),
                None => None,
            };
            Ok(v1::GetMandateResponse { mandate: Some(to::mandate(&mandate)), line, index, version })
        })
        .await
    }

    async fn get_window(
        &self,
        request: Request<v1::GetWindowRequest>,
    ) -> Result<Response<v1::GetWindowResponse>, Status> {
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let wanted = request.get_ref().window;
        self.read("GetWindow", deadline, own, move |reader, sight| {
            let id = if wanted == 0 { control(reader)?.open_window } else { WindowId(wanted) };
            let (window, ..) = state_as!(entity(reader, &EntityKey::Window(id), "settlement window")?, Window)?;
            let obligations = if sight.all {
                reader.obligations(id)?
            } else {
                match reader.entity(&EntityKey::Obligation(sight.own, id))? {
                    Some(known) => vec![state_as!(known, Obligation)?.0],
                    None => Vec::new(),
                }
            };
            let obligations = obligations.iter().map(to::obligation).collect();
            Ok(v1::GetWindowResponse { window: Some(to::window(&window)), obligations })
        })
        .await
    }

    async fn get_position(
        &self,
        request: Request<v1::GetPositionRequest>,
    ) -> Result<Response<v1::GetPositionResponse>, Status> {
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let wanted = match request.get_ref().participant {
            0 => own,
            wanted => ParticipantId(wanted),
        };
        self.read("GetPosition", deadline, own, move |reader, sight| {
            sight.check(&[wanted])?;
            let (position, ..) = state_as!(entity(reader, &EntityKey::Position(wanted), "position")?, Position)?;
            Ok(v1::GetPositionResponse { position: Some(to::position(&position)) })
        })
        .await
    }

    async fn get_chain_info(
        &self,
        request: Request<v1::GetChainInfoRequest>,
    ) -> Result<Response<v1::GetChainInfoResponse>, Status> {
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let (params, genesis, chain) = (self.0.view.params(), self.0.genesis.clone(), self.0.chain);
        let head = *self.0.feed.head().borrow();
        let final_height = *self.0.final_height.borrow();
        self.read("GetChainInfo", deadline, own, move |reader, _| {
            let control = control(reader)?;
            let key = EntityKey::Schedule(control.schedule_version);
            let (schedule, ..) = state_as!(entity(reader, &key, "fee schedule")?, Schedule)?;
            Ok(v1::GetChainInfoResponse {
                chain_id: chain.0.0.to_vec(),
                name: genesis.name.clone(),
                format: u32::from(FORMAT),
                rules: params.rules,
                currency: u32::from(genesis.currency.0),
                height: head.height,
                time_ms: head.time_ms,
                log_size: head.log.size,
                log_root: head.log.root.0.to_vec(),
                open_window: control.open_window.0,
                schedule: Some(to::schedule(&schedule)),
                participants: reader.participants()?.iter().map(to::participant).collect(),
                params: Some(to::params(&params)),
                next_batch_seq: head.n_batches_total,
                caller: own.0,
                final_height,
            })
        })
        .await
    }
}
