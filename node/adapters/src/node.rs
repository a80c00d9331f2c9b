//! The adapter's way to its nodes: the wallet service over gRPC with the node's token, the next node when one does not answer.
//! Knows nothing about requests; every call says what it learned and leaves the decision to the caller.

use anji_contracts::Receipt;
use anji_contracts::Reject;
use anji_contracts::entity::EntityKey;
use anji_contracts::entry::OpResult;
use anji_contracts::types::{
    DisputeId, MandateId, OpId, ParticipantId, PaymentId, RefundId, ScheduleVersion, ScopedId, WindowId,
};
use anji_proto::v1;
use anji_proto::v1::wallet_service_client::WalletServiceClient;
use anji_wire::{Reason, field};
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// A single call waits this long for its node.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message taken from a node: a full batch of receipts is far below.
const MAX_MESSAGE: usize = 8 << 20;

/// One node.
struct Node {
    address: String,
    channel: Channel,
    token: MetadataValue<Ascii>,
}

/// All nodes of the participant.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    current: AtomicUsize,
    switches: prometheus_client::metrics::counter::Counter,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|it| &it.address)).finish()
    }
}

/// The client of one node with its token.
pub(crate) type Client = WalletServiceClient<Channel>;

impl Nodes {
    /// Prepares connections to (address, token) in order of preference; nothing is dialled yet.
    ///
    /// # Errors
    /// An address or token that cannot be used.
    pub(crate) fn new(
        nodes: impl IntoIterator<Item = (String, String)>,
        switches: prometheus_client::metrics::counter::Counter,
    ) -> Result<Self, String> {
        let mut all = Vec::new();
        for (address, token) in nodes {
            let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| format!("{address}: {error}"))?;
            let channel = endpoint
                .connect_timeout(Duration::from_secs(2))
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(5))
                .keep_alive_while_idle(true)
                .tcp_nodelay(true)
                .connect_lazy();
            let mut token: MetadataValue<Ascii> =
                format!("Bearer {token}").parse().map_err(|_| format!("{address}: the token is not printable"))?;
            token.set_sensitive(true);
            all.push(Node { address, channel, token });
        }
        if all.is_empty() {
            return Err(String::from("there is no node to submit to"));
        }
        Ok(Self { nodes: all, current: AtomicUsize::new(0), switches })
    }

    fn current(&self) -> (usize, &Node) {
        let index = self.current.load(Ordering::Relaxed) % self.nodes.len();
        #[expect(clippy::indexing_slicing, reason = "taken modulo the length, which is not zero")]
        (index, &self.nodes[index])
    }

    /// The address now used.
    pub(crate) fn address(&self) -> &str {
        &self.current().1.address
    }

    /// Takes the next node, unless somebody already left `failed`.
    fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.nodes.len();
        if self.nodes.len() > 1
            && self.current.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.switches.inc();
            tracing::warn!(
                from = self.nodes.get(failed).map(|it| &*it.address),
                to = self.address(),
                "the node does not answer; trying the next one"
            );
        }
    }

    /// Calls the current node; on trouble with the node itself the next call goes to the next one.
    pub(crate) async fn call<T, R, F>(
        &self,
        message: T,
        call: impl FnOnce(Client, Request<T>) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let (index, node) = self.current();
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", node.token.clone());
        request.set_timeout(CALL_TIMEOUT);
        let client = WalletServiceClient::new(node.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        // The server's own time-out is no help against a server that hangs.
        let result = tokio::time::timeout(CALL_TIMEOUT + Duration::from_millis(500), call(client, request)).await;
        let result = result.unwrap_or_else(|_| Err(Status::deadline_exceeded("the node does not answer")));
        if result.as_ref().is_err_and(is_nodes_trouble) {
            self.leave(index);
        }
        Ok(result?.into_inner())
    }

    /// Opens a stream at the current node. `on_end` of the returned guard says which node it was, for [`Self::stream_failed`].
    pub(crate) async fn open<T, R, F>(
        &self,
        message: T,
        call: impl FnOnce(Client, Request<T>) -> F,
    ) -> Result<(usize, R), Status>
    where
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let (index, node) = self.current();
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", node.token.clone());
        let client = WalletServiceClient::new(node.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let result = tokio::time::timeout(CALL_TIMEOUT, call(client, request)).await;
        let result = result.unwrap_or_else(|_| Err(Status::deadline_exceeded("the node does not answer")));
        if result.as_ref().is_err_and(is_nodes_trouble) {
            self.leave(index);
        }
        Ok((index, result?.into_inner()))
    }

    /// A stream of this node broke.
    pub(crate) fn stream_failed(&self, index: usize, status: &Status) {
        if is_nodes_trouble(status) {
            self.leave(index);
        }
    }

    /// Hands in a batch without waiting for its block.
    pub(crate) async fn submit(&self, bytes: Bytes) -> Result<(), Status> {
        let message = v1::SubmitBatchRequest { signed_batch: bytes, wait: v1::Wait::None.into() };
        self.call(message, |mut client, request| async move { client.submit_batch(request).await }).await.map(drop)
    }

    /// The first answer to an operation of `participant`; `None` if the node has executed none.
    pub(crate) async fn ask(&self, participant: ParticipantId, op_id: OpId) -> Result<Option<Receipt>, Status> {
        let operation = Some(v1::Id { participant: participant.0, op_id: op_id.0.to_be_bytes().to_vec() });
        let message = v1::GetOperationRequest { operation };
        let asked = self.call(message, |mut client, request| async move { client.get_operation(request).await }).await;
        match asked {
            Ok(answer) => match answer.receipt.as_ref().map(read_receipt) {
                Some(Ok(receipt)) if receipt.op_id == op_id => Ok(Some(receipt)),
                _ => Err(Status::internal("the node's answer cannot be read")),
            },
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// What the node tells about its chain.
    pub(crate) async fn chain_info(&self) -> Result<v1::GetChainInfoResponse, Status> {
        let message = v1::GetChainInfoRequest {};
        self.call(message, |mut client, request| async move { client.get_chain_info(request).await }).await
    }
}

/// Whether the node, not the request, is the trouble: another node may do better.
fn is_nodes_trouble(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::Unimplemented
    )
}

/// The answer to a caller when the node cannot be asked; what the node itself refused goes through unchanged.
pub(crate) fn to_caller(status: Status) -> Status {
    if is_nodes_trouble(&status) && anji_wire::status::status_reject(&status).is_none() {
        let message = format!("the adapter cannot reach its node ({}); ask again", status.message());
        return Reason::NodeUnreachable.status_retry(message, Duration::from_millis(500));
    }
    match status.code() {
        // The adapter's own token is the trouble, not the caller's.
        Code::Unauthenticated => Reason::NodeUnreachable.status_retry(
            "the node does not accept the adapter's token; tell the adapter's operator",
            Duration::from_secs(5),
        ),
        _ => status,
    }
}

/// A receipt, read.
///
/// # Errors
/// The field that cannot be used.
pub(crate) fn read_receipt(it: &v1::Receipt) -> Result<Receipt, field::FieldError> {
    let op_id = OpId(u128::from_be_bytes(field::exactly("receipt.op_id", &it.op_id, "must be 16 bytes")?));
    let result = match &it.result {
        Some(v1::receipt::Result::Done(entity)) => OpResult::Done(read_entity(entity)?),
        Some(v1::receipt::Result::Refused(reject)) => {
            let code = field::number_u16("receipt.refused.code", reject.code)?;
            let reject = Reject::from_code(code);
            OpResult::Refused(reject.ok_or_else(|| field::FieldError::new("receipt.refused.code", "is not known"))?)
        }
        None => return Err(field::FieldError::new("receipt.result", "is required")),
    };
    Ok(Receipt { op_id, result, time_ms: it.time_ms, height: it.height })
}

fn read_entity(it: &v1::EntityRef) -> Result<EntityKey, field::FieldError> {
    let id = || -> Result<ScopedId, field::FieldError> { field::scoped_id("entity.id", it.id.as_ref(), None) };
    let participant = ParticipantId(it.participant);
    Ok(match v1::EntityKind::try_from(it.kind) {
        Ok(v1::EntityKind::Participant) => EntityKey::Participant(participant),
        Ok(v1::EntityKind::Mandate) => EntityKey::Mandate(MandateId(id()?)),
        Ok(v1::EntityKind::Line) => EntityKey::Line(MandateId(id()?)),
        Ok(v1::EntityKind::Payment) => EntityKey::Payment(PaymentId(id()?)),
        Ok(v1::EntityKind::Refund) => EntityKey::Refund(RefundId(id()?)),
        Ok(v1::EntityKind::Dispute) => EntityKey::Dispute(DisputeId(id()?)),
        Ok(v1::EntityKind::Window) => EntityKey::Window(WindowId(it.number)),
        Ok(v1::EntityKind::Obligation) => EntityKey::Obligation(participant, WindowId(it.number)),
        Ok(v1::EntityKind::Position) => EntityKey::Position(participant),
        Ok(v1::EntityKind::Control) => EntityKey::Control,
        Ok(v1::EntityKind::Schedule) => {
            let version =
                u32::try_from(it.number).map_err(|_| field::FieldError::new("entity.number", "is too large"))?;
            EntityKey::Schedule(ScheduleVersion(version))
        }
        Ok(v1::EntityKind::WindowPayments) => EntityKey::WindowPayments(WindowId(it.number)),
        Ok(v1::EntityKind::Unspecified) | Err(_) => {
            return Err(field::FieldError::new("entity.kind", "is not known"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_come_back_as_the_node_wrote_them() {
        let id = ScopedId { participant: ParticipantId(7), op_id: OpId(99) };
        let keys = [
            EntityKey::Participant(ParticipantId(1)),
            EntityKey::Mandate(MandateId(id)),
            EntityKey::Line(MandateId(id)),
            EntityKey::Payment(PaymentId(id)),
            EntityKey::Refund(RefundId(id)),
            EntityKey::Dispute(DisputeId(id)),
            EntityKey::Window(WindowId(5)),
            EntityKey::Obligation(ParticipantId(2), WindowId(6)),
            EntityKey::Position(ParticipantId(3)),
            EntityKey::Control,
            EntityKey::Schedule(ScheduleVersion(4)),
            EntityKey::WindowPayments(WindowId(7)),
        ];
        let results = keys.into_iter().map(OpResult::Done).chain(Reject::ALL.iter().map(|it| OpResult::Refused(*it)));
        for result in results {
            let receipt = Receipt { op_id: OpId(1 << 100), result, time_ms: 3, height: 4 };
            assert_eq!(read_receipt(&anji_wire::ledger::receipt(&receipt)), Ok(receipt));
        }
        assert!(read_receipt(&v1::Receipt::default()).is_err());
    }
}
