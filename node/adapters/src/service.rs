//! `AdapterService`: authenticates, turns plain requests into operations, waits for the ledger. All that acts goes through
//! [`Service::act`]; all that looks goes to the node.

use crate::callers::{Caller, Callers};
use crate::engine::{NewRequest, SharedIndex, lock};
use crate::metrics::Metrics;
use crate::node::{Nodes, to_caller};
use crate::outbox::index::{Full, Lookup, Waited};
use crate::request_id::{derived_op_id, is_valid, random_op_id};
use crate::requests::{self, InForce};
use crate::state::{Shared, now_ms};
use crate::streams;
use crate::work::Work;
use anji_contracts::Receipt;
use anji_contracts::entry::OpResult;
use anji_contracts::ops::{Op, OpBody};
use anji_contracts::types::OpId;
use anji_proto::v1;
use anji_proto::v1::adapter_service_server::AdapterService;
use anji_wire::field::FieldError;
use anji_wire::{Reason, ledger, reject_status};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Longest wait for the ledger, whatever deadline the caller sets.
const MAX_DEADLINE: Duration = Duration::from_secs(600);
/// Wait for the first sight of the chain.
const CHAIN_WAIT: Duration = Duration::from_secs(3);
/// Kept back from the caller's deadline, so that our answer arrives before it.
const DEADLINE_MARGIN: Duration = Duration::from_millis(20);

/// The service. Clones share everything.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) callers: Arc<Callers>,
    pub(crate) index: SharedIndex,
    pub(crate) intake: mpsc::Sender<NewRequest>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) work: Arc<Work>,
    pub(crate) metrics: Metrics,
    pub(crate) default_deadline: Duration,
    pub(crate) stop: CancellationToken,
}

/// Metadata with which a caller says what it waits for: `decided`, as without it, or `final`.
const WAIT_METADATA: &str = "anji-wait";

fn until_final<T>(request: &Request<T>) -> Result<bool, Status> {
    match request.metadata().get(WAIT_METADATA).map(|it| it.to_str()) {
        None | Some(Ok("decided")) => Ok(false),
        Some(Ok("final")) => Ok(true),
        Some(_) => Err(FieldError::new(WAIT_METADATA, "must be `decided` or `final`").into()),
    }
}

/// What a mutating call is about.
struct Asked<'a> {
    method: &'static str,
    request_id: &'a str,
    content: [u8; 16],
    wait: Duration,
    /// Answer when the operation is final, not when it is decided.
    until_final: bool,
}

impl Service {
    /// Who calls, within its rate.
    fn admit<T>(&self, request: &Request<T>, acts: bool) -> Result<Arc<Caller>, Status> {
        if self.shared.is_stopping() {
            return Err(
                Reason::ShuttingDown.status("the adapter is stopping; repeat the call with the same request_id")
            );
        }
        let header = request.metadata().get("authorization").and_then(|it| it.to_str().ok());
        let Some(token) = header.and_then(|it| it.strip_prefix("Bearer ")) else {
            return Err(Reason::TokenMissing.status("send `authorization: Bearer <token>`"));
        };
        let Some(caller) = self.callers.find(token) else {
            return Err(Reason::TokenUnknown.status("the adapter does not know this token"));
        };
        if acts && caller.is_read_only() {
            return Err(Reason::RoleMissing.status("this token may only look"));
        }
        self.callers.admit(&caller).map_err(|wait_ms| {
            let message = format!("`{}` sends more requests than it may; ask again later", caller.name());
            Reason::RateLimited.status_retry(message, Duration::from_millis(wait_ms))
        })?;
        Ok(caller)
    }

    /// Everything that acts. `body` is built only for a request that is not known yet.
    async fn act<T: Message>(
        &self,
        method: &'static str,
        request: Request<T>,
        request_id: impl Fn(&T) -> &str,
        body: impl AsyncFnOnce(&Self, &T) -> Result<OpBody, Status>,
    ) -> Result<Response<v1::OperationResult>, Status> {
        let admitted = self.admit(&request, true).map(drop);
        let wait = deadline(&request, self.default_deadline);
        let until_final = until_final(&request);
        let message = request.into_inner();
        let result = match admitted {
            Ok(()) => {
                let until_final = until_final?;
                let content = content_hash(method, &message);
                let asked = Asked { method, request_id: request_id(&message), content, wait, until_final };
                self.act_once(&asked, body(self, &message)).await
            }
            Err(status) => Err(status),
        };
        let code = result.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        self.metrics.calls.get_or_create(&[("method", method.to_owned()), ("code", format!("{code:?}"))]).inc();
        result.map(Response::new)
    }

    async fn act_once(
        &self,
        asked: &Asked<'_>,
        body: impl Future<Output = Result<OpBody, Status>>,
    ) -> Result<v1::OperationResult, Status> {
        if !is_valid(asked.request_id) {
            return Err(FieldError::new("request_id", "must be 1 to 64 printable ASCII characters").into());
        }
        let deadline = tokio::time::Instant::now() + asked.wait;
        let known = lock(&self.index).find(asked.request_id, &asked.content);
        let (op_id, receiver, replayed) = match known {
            Lookup::Unknown => {
                let body = tokio::time::timeout_at(deadline, body).await;
                let body = body.map_err(|_| {
                    Reason::DeadlinePassed.status("nothing was done: the node did not answer in time")
                })??;
                self.take_in(asked, body)?
            }
            other => found(other)?,
        };
        let receipt = match receiver {
            Waiting::Answered(receipt) => receipt,
            Waiting::For(receiver) => tokio::select! {
                waited = tokio::time::timeout_at(deadline, receiver) => match waited {
                    Ok(Ok(Ok(receipt))) => receipt,
                    Ok(Ok(Err(error))) => {
                        let message = format!("the request was not taken, nothing was sent: {error}");
                        return Err(Reason::StorageFailed.status(message));
                    }
                    Ok(Err(_)) => return Err(self.still_open(asked.request_id, op_id, Reason::ShuttingDown)),
                    Err(_) => return Err(self.still_open(asked.request_id, op_id, Reason::StillPending)),
                },
                () = self.stop.cancelled() => return Err(self.still_open(asked.request_id, op_id, Reason::ShuttingDown)),
            },
        };
        tracing::debug!(method = asked.method, op = %op_id, height = receipt.height, "decided");
        if asked.until_final {
            let mut final_height = self.shared.final_height();
            tokio::select! {
                // The sender is in `shared`, so only the time-out can fail.
                reached = tokio::time::timeout_at(deadline, final_height.wait_for(|it| *it >= receipt.height)) => {
                    if reached.is_err() {
                        return Err(self.not_final(asked.request_id, op_id, Reason::StillPending));
                    }
                }
                () = self.stop.cancelled() => return Err(self.not_final(asked.request_id, op_id, Reason::ShuttingDown)),
            }
        }
        self.answer(&receipt, replayed)
    }

    /// A new request: fixes its operation, once.
    fn take_in(&self, asked: &Asked<'_>, body: OpBody) -> Result<(OpId, Waiting, bool), Status> {
        let now = now_ms();
        let op_id = match derived_op_id(asked.request_id, now) {
            Some(op_id) => op_id,
            None => random_op_id(now).map_err(|_| Reason::StorageFailed.status("the system gives no randomness"))?,
        };
        let op = Arc::new(Op { op_id, linked: false, body });
        let mut index = lock(&self.index);
        // Somebody else may have sent the same request meanwhile.
        match index.find(asked.request_id, &asked.content) {
            Lookup::Unknown => {}
            other => return found(other),
        }
        let full = |message: &str| Reason::RateLimited.status_retry(message, Duration::from_millis(500));
        // The place in the queue first: what is in the index must reach the engine.
        let permit = self.intake.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => full("too many requests wait for the outbox; ask again later"),
            mpsc::error::TrySendError::Closed(()) => Reason::ShuttingDown.status("the adapter is stopping"),
        })?;
        index.insert(asked.request_id, asked.content, op.clone()).map_err(|why| match why {
            Full::Pending => full("`requests.max_pending` requests are under way; ask again later"),
            Full::Remembered => full(
                "`requests.max_remembered` answered requests must still be remembered; use ULIDs or UUIDs of version 7 as request ids, or raise the limit",
            ),
        })?;
        let found = found(index.find(asked.request_id, &asked.content))?;
        drop(index);
        permit.send(NewRequest { request_id: asked.request_id.to_owned(), content: asked.content, op });
        Ok((found.0, found.1, false))
    }

    fn still_open(&self, request_id: &str, op_id: OpId, reason: Reason) -> Status {
        let message = format!(
            "accepted and under way, not decided yet: repeat the call with the same request_id `{request_id}`, or ask GetRequest; it never acts twice"
        );
        self.about(request_id, op_id, reason, message)
    }

    fn not_final(&self, request_id: &str, op_id: OpId, reason: Reason) -> Status {
        let message = format!(
            "decided, not final yet: repeat the call with the same request_id `{request_id}`, or ask GetRequest for the decision; it never acts twice"
        );
        self.about(request_id, op_id, reason, message)
    }

    fn about(&self, request_id: &str, op_id: OpId, reason: Reason, message: String) -> Status {
        let id = op_id.to_string();
        let participant = self.shared.participant.to_string();
        reason.status_with(
            message,
            [("op_id", id.as_str()), ("participant", participant.as_str()), ("request_id", request_id)],
        )
    }

    fn answer(&self, receipt: &Receipt, replayed: bool) -> Result<v1::OperationResult, Status> {
        match &receipt.result {
            OpResult::Refused(reject) => Err(reject_status(*reject)),
            OpResult::Done(key) => Ok(v1::OperationResult {
                operation: Some(self.id_of(receipt.op_id)),
                entity: Some(ledger::entity_ref(key)),
                time_ms: receipt.time_ms,
                height: receipt.height,
                replayed,
            }),
        }
    }

    pub(crate) fn id_of(&self, op_id: OpId) -> v1::Id {
        v1::Id { participant: self.shared.participant.0, op_id: ledger::op_id(op_id) }
    }

    /// What the caller left open; the mandate is asked for only if something of it is needed.
    async fn in_force(&self, mandate: Option<&v1::Id>, given: &[u32]) -> Result<InForce, Status> {
        // Right after a start the node may take a moment.
        let seen = tokio::time::timeout(CHAIN_WAIT, self.shared.wait_chain()).await;
        let chain = seen.map_err(|_| {
            let message = "the adapter has not reached its node yet; ask again";
            Reason::NodeUnreachable.status_retry(message, Duration::from_millis(500))
        })?;
        let mut in_force =
            InForce { currency: chain.currency, schedule: chain.schedule, guarantee: 0, assertion: 0, consent: 0 };
        if given.contains(&0) {
            let message = v1::GetMandateRequest { mandate: mandate.cloned() };
            let asked =
                self.nodes.call(message, |mut client, request| async move { client.get_mandate(request).await });
            match asked.await {
                Ok(answer) => {
                    let mandate = answer.mandate.unwrap_or_default();
                    in_force.guarantee = mandate.guarantee_version;
                    in_force.assertion = mandate.assertion_version;
                    in_force.consent = mandate.consent_version;
                }
                // The ledger itself refuses an unknown mandate, with a code and a receipt.
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(to_caller(status)),
            }
        }
        Ok(in_force)
    }

    /// A call that only looks.
    async fn look<T, R>(
        &self,
        method: &'static str,
        request: Request<T>,
        ask: impl AsyncFnOnce(&Self, T) -> Result<R, Status>,
    ) -> Result<Response<R>, Status> {
        let result = match self.admit(&request, false) {
            Ok(_) => ask(self, request.into_inner()).await,
            Err(status) => Err(status),
        };
        let code = result.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        self.metrics.calls.get_or_create(&[("method", method.to_owned()), ("code", format!("{code:?}"))]).inc();
        result.map(Response::new)
    }
}

/// What is known already, or on its way.
enum Waiting {
    Answered(Receipt),
    For(oneshot::Receiver<Waited>),
}

fn found(known: Lookup) -> Result<(OpId, Waiting, bool), Status> {
    match known {
        Lookup::Done(op_id, receipt) => Ok((op_id, Waiting::Answered(receipt), true)),
        Lookup::Pending(op_id, receiver) => Ok((op_id, Waiting::For(receiver), true)),
        Lookup::Conflict => {
            Err(Reason::RequestIdConflict
                .status("this request_id was used before for something else; choose a new one"))
        }
        Lookup::Crowded => {
            let message = "too many calls wait for this request already; ask GetRequest";
            Err(Reason::RateLimited.status_retry(message, Duration::from_secs(1)))
        }
        Lookup::Unknown => Err(Status::internal("a request that was just taken in is not known")),
    }
}

/// Hash of what was asked for: the method and every field. Used within this adapter only; nothing on the ledger depends on it.
fn content_hash(method: &str, message: &impl Message) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("anji v1 adapter request content");
    hasher.update(method.as_bytes());
    hasher.update(&[0]);
    hasher.update(&message.encode_to_vec());
    let mut content = [0; 16];
    content.copy_from_slice(hasher.finalize().as_bytes().split_at(16).0);
    content
}

/// The caller's deadline (`grpc-timeout`), within bounds.
fn deadline<T>(request: &Request<T>, default: Duration) -> Duration {
    let given = request.metadata().get("grpc-timeout").and_then(|it| it.to_str().ok()).and_then(parse_timeout);
    given.map_or(default, |it| it.saturating_sub(DEADLINE_MARGIN)).min(MAX_DEADLINE)
}

/// At most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// The service: the plain calls first (a request and its conversion), then the others as they stand.
macro_rules! adapter_service {
    ({ $($method:ident($request:ident) = $convert:expr;)* } $($others:tt)*) => {
        #[tonic::async_trait]
        impl AdapterService for Service {
            $(
                async fn $method(&self, request: Request<v1::$request>) -> Result<Response<v1::OperationResult>, Status> {
                    let convert: fn(&v1::$request) -> Result<OpBody, FieldError> = $convert;
                    self.act(stringify!($method), request, |it| &it.request_id, async |_, it| Ok(convert(it)?)).await
                }
            )*
            $($others)*
        }
    };
}

adapter_service! {
    {
        create_mandate(CreateMandateRequest) = requests::create_mandate;
        activate_mandate(ActivateMandateRequest) = requests::activate_mandate;
        refresh_mandate(RefreshMandateRequest) = requests::refresh_mandate;
        suspend_mandate(StopMandateRequest) = |it| requests::stop_mandate(it).map(OpBody::MandateSuspend);
        resume_mandate(StopMandateRequest) = |it| requests::stop_mandate(it).map(OpBody::MandateResume);
        revoke_mandate(StopMandateRequest) = |it| requests::stop_mandate(it).map(OpBody::MandateRevoke);
        capture_payment(CapturePaymentRequest) = requests::capture_payment;
        void_payment(VoidPaymentRequest) = requests::void_payment;
        refund_payment(RefundPaymentRequest) = requests::refund_payment;
        hold_payment(HoldPaymentRequest) = requests::hold_payment;
        decline_payment(DeclinePaymentRequest) = requests::decline_payment;
        post_refund(PostRefundRequest) = requests::post_refund;
        fail_refund(FailRefundRequest) = requests::fail_refund;
        close_window(CloseWindowRequest) = requests::close_window;
        set_cap(SetCapRequest) = requests::set_cap;
        deposit_liquidity(MoveLiquidityRequest) = |it| requests::move_liquidity(it).map(OpBody::LiquidityDeposit);
        withdraw_liquidity(MoveLiquidityRequest) = |it| requests::move_liquidity(it).map(OpBody::LiquidityWithdraw);
    }

    async fn pay(&self, request: Request<v1::PayRequest>) -> Result<Response<v1::OperationResult>, Status> {
        self.act("pay", request, |it| &it.request_id, async |service, it| {
            let given = [it.guarantee_version, it.assertion_version, it.consent_version];
            Ok(requests::pay(it, &service.in_force(it.mandate.as_ref(), &given).await?)?)
        })
        .await
    }

    async fn request_payment(
        &self,
        request: Request<v1::RequestPaymentRequest>,
    ) -> Result<Response<v1::OperationResult>, Status> {
        self.act("request_payment", request, |it| &it.request_id, async |service, it| {
            Ok(requests::request_payment(it, &service.in_force(it.mandate.as_ref(), &[]).await?)?)
        })
        .await
    }

    type StreamWorkStream = streams::Out<v1::WorkItem>;

    async fn stream_work(
        &self,
        request: Request<v1::StreamWorkRequest>,
    ) -> Result<Response<Self::StreamWorkStream>, Status> {
        let caller = self.admit(&request, false)?;
        let place = caller.open_stream().ok_or_else(too_many_streams)?;
        Ok(Response::new(streams::work(self.clone(), place)))
    }

    type StreamResultsStream = streams::Out<v1::ResultItem>;

    async fn stream_results(
        &self,
        request: Request<v1::StreamResultsRequest>,
    ) -> Result<Response<Self::StreamResultsStream>, Status> {
        let caller = self.admit(&request, false)?;
        let place = caller.open_stream().ok_or_else(too_many_streams)?;
        Ok(Response::new(streams::results(self.clone(), place, request.into_inner().from_seq)))
    }

    async fn get_request(
        &self,
        request: Request<v1::GetRequestRequest>,
    ) -> Result<Response<v1::GetRequestResponse>, Status> {
        self.look("get_request", request, async |service, it| {
            let status = lock(&service.index).status(&it.request_id);
            if let Some((op_id, receipt)) = status {
                let receipt = receipt.as_ref().map(ledger::receipt);
                return Ok(v1::GetRequestResponse { operation: Some(service.id_of(op_id)), receipt });
            }
            // Forgotten here, but its operation id follows from it.
            if let Some(op_id) = derived_op_id(&it.request_id, now_ms())
                && let Some(receipt) = service.nodes.ask(service.shared.participant, op_id).await.map_err(to_caller)?
            {
                let receipt = Some(ledger::receipt(&receipt));
                return Ok(v1::GetRequestResponse { operation: Some(service.id_of(op_id)), receipt });
            }
            Err(Reason::NotFound.status("this adapter has never heard of that request_id, or has forgotten it"))
        })
        .await
    }

    async fn get_payment(
        &self,
        request: Request<v1::AdapterGetPaymentRequest>,
    ) -> Result<Response<v1::AdapterGetPaymentResponse>, Status> {
        self.look("get_payment", request, async |service, it| {
            let message = v1::GetPaymentRequest { payment: it.payment };
            let asked = service.nodes.call(message, |mut client, request| async move { client.get_payment(request).await });
            let answer = asked.await.map_err(to_caller)?;
            Ok(v1::AdapterGetPaymentResponse { payment: answer.payment })
        })
        .await
    }

    async fn get_mandate(
        &self,
        request: Request<v1::AdapterGetMandateRequest>,
    ) -> Result<Response<v1::AdapterGetMandateResponse>, Status> {
        self.look("get_mandate", request, async |service, it| {
            let message = v1::GetMandateRequest { mandate: it.mandate };
            let asked = service.nodes.call(message, |mut client, request| async move { client.get_mandate(request).await });
            let answer = asked.await.map_err(to_caller)?;
            Ok(v1::AdapterGetMandateResponse { mandate: answer.mandate, line: answer.line })
        })
        .await
    }

    async fn get_window(
        &self,
        request: Request<v1::AdapterGetWindowRequest>,
    ) -> Result<Response<v1::AdapterGetWindowResponse>, Status> {
        self.look("get_window", request, async |service, it| {
            let message = v1::GetWindowRequest { window: it.window };
            let asked = service.nodes.call(message, |mut client, request| async move { client.get_window(request).await });
            let answer = asked.await.map_err(to_caller)?;
            Ok(v1::AdapterGetWindowResponse { window: answer.window, obligations: answer.obligations })
        })
        .await
    }

    async fn get_position(
        &self,
        request: Request<v1::AdapterGetPositionRequest>,
    ) -> Result<Response<v1::AdapterGetPositionResponse>, Status> {
        self.look("get_position", request, async |service, it| {
            let message = v1::GetPositionRequest { participant: it.participant };
            let asked = service.nodes.call(message, |mut client, request| async move { client.get_position(request).await });
            let answer = asked.await.map_err(to_caller)?;
            Ok(v1::AdapterGetPositionResponse { position: answer.position })
        })
        .await
    }
}

fn too_many_streams() -> Status {
    Reason::TooManyStreams.status("this caller keeps as many streams open as it may; close one first")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_the_protocol_writes_them() {
        let rows =
            [("100m", Some(100)), ("5S", Some(5000)), ("2M", Some(120_000)), ("1H", Some(3_600_000)), ("9u", Some(0))];
        for (text, millis) in rows {
            assert_eq!(parse_timeout(text).map(|it| it.as_millis()), millis, "{text}");
        }
        for bad in ["", "S", "5", "-5S", "123456789S", "5x", "1.5S"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_content_is_the_method_and_every_field() {
        let request = v1::VoidPaymentRequest { request_id: String::from("a"), payment: None, reason: 1 };
        let other = v1::VoidPaymentRequest { reason: 2, ..request.clone() };
        assert_eq!(content_hash("m", &request), content_hash("m", &request.clone()));
        assert_ne!(content_hash("m", &request), content_hash("m", &other));
        assert_ne!(content_hash("m", &request), content_hash("n", &request));
    }
}
