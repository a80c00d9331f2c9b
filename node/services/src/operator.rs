//! The operator service: how the node is doing. Contract: `proto/anji/v1/operator.proto`.

use crate::deadline::Deadline;
use crate::ledger;
use crate::server::Core;
use crate::view::NodeRole;
use anji_contracts::codec;
use anji_proto::v1;
use anji_proto::v1::operator_service_server::OperatorService;
use anji_verify::equivocation::Equivocation;
use anji_wire::Reason;
use std::sync::Arc;
use std::time::Instant;
use tonic::{Request, Response, Status};

/// Equivocations in one answer.
const MAX_EQUIVOCATIONS: usize = 100;

/// The operator service.
pub(crate) struct Operator(pub(crate) Arc<Core>);

impl Operator {
    fn answer<T>(
        &self,
        method: &'static str,
        since: Instant,
        answer: Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        self.0.metrics.on_answer(method, since, &answer);
        answer.map(Response::new)
    }

    async fn status(&self) -> Result<v1::GetStatusResponse, Status> {
        let core = &self.0;
        let disk = ledger::read(&core.reader, |reader| Ok(reader.disk_usage())).await?;
        let (node, peers, pool) = (core.view.status(), core.view.peers(), core.mempool.status());
        let head = *core.feed.head().borrow();
        let (role, role_reason) = match node.role {
            NodeRole::Validator => (v1::NodeRole::Validator, String::new()),
            NodeRole::Follower { reason } => (v1::NodeRole::Follower, reason),
        };
        let connected = || peers.iter().filter(|peer| peer.connected);
        Ok(v1::GetStatusResponse {
            version: core.version.clone(),
            node: core.node.clone(),
            chain_id: core.chain.0.0.to_vec(),
            participant: core.participant.0,
            role: role.into(),
            role_reason,
            decided_height: node.decided_height,
            executed_height: head.height,
            executed_time_ms: head.time_ms,
            header_hash: head.header_hash.0.to_vec(),
            log_size: head.log.size,
            log_root: head.log.root.0.to_vec(),
            n_batches_total: head.n_batches_total,
            n_ops_total: head.n_ops_total,
            consensus_height: node.consensus_height,
            consensus_round: node.consensus_round,
            peers_height: connected().map(|peer| peer.height).max().unwrap_or(0),
            n_peers_connected: u32::try_from(connected().count()).unwrap_or(u32::MAX),
            mempool: Some(v1::MempoolStatus {
                n_batches: pool.n_batches,
                n_ops: pool.n_ops,
                size_bytes: pool.memory_bytes,
                limit_bytes: pool.limit_bytes,
            }),
            disk: Some(v1::DiskStatus {
                used_bytes: disk.blocks_bytes.saturating_add(disk.state_bytes),
                free_bytes: disk.free_bytes.unwrap_or(0),
            }),
            uptime_ms: u64::try_from(core.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            n_alarms: node.n_alarms,
            final_height: *core.final_height.borrow(),
        })
    }

    async fn roots(&self, wanted: u64) -> Result<v1::GetRootsResponse, Status> {
        let height = if wanted == 0 { self.0.feed.head().borrow().height } else { wanted };
        let record = ledger::read(&self.0.reader, move |reader| Ok(reader.block_record(height)?)).await?;
        let not_found = || Reason::NotFound.status(format!("height {height} is not executed here (yet)"));
        let record = record.ok_or_else(not_found)?;
        Ok(v1::GetRootsResponse {
            height: record.height,
            header_hash: record.header_hash.0.to_vec(),
            log_size: record.log.size,
            log_root: record.log.root.0.to_vec(),
            time_ms: record.time_ms,
            n_batches_total: record.n_batches_total,
            n_ops_total: record.n_ops_total,
        })
    }
}

#[tonic::async_trait]
impl OperatorService for Operator {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let since = Instant::now();
        let answer = Deadline::of(request.metadata()).within(self.status()).await;
        self.answer("GetStatus", since, answer)
    }

    async fn list_peers(
        &self,
        _request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        let since = Instant::now();
        let peer = |peer: crate::PeerView| v1::Peer {
            name: peer.name,
            peer_id: peer.peer_id,
            connected: peer.connected,
            address: peer.address,
            height: peer.height,
            n_faults: peer.n_faults,
            muted_until_ms: peer.muted_until_ms,
        };
        let peers = self.0.view.peers().into_iter().map(peer).collect();
        self.answer("ListPeers", since, Ok(v1::ListPeersResponse { peers }))
    }

    async fn list_validators(
        &self,
        _request: Request<v1::ListValidatorsRequest>,
    ) -> Result<Response<v1::ListValidatorsResponse>, Status> {
        let since = Instant::now();
        let all = self.0.view.validators();
        let total_power = all.iter().fold(0u64, |sum, validator| sum.saturating_add(validator.power));
        let validator = |validator: crate::ValidatorView| v1::Validator {
            address: validator.address.to_vec(),
            participant: validator.participant.0,
            public_key: validator.public_key.to_vec(),
            power: validator.power,
        };
        let validators = all.into_iter().map(validator).collect();
        self.answer("ListValidators", since, Ok(v1::ListValidatorsResponse { validators, total_power }))
    }

    async fn list_equivocations(
        &self,
        request: Request<v1::ListEquivocationsRequest>,
    ) -> Result<Response<v1::ListEquivocationsResponse>, Status> {
        let since = Instant::now();
        let all = self.0.view.equivocations();
        let n_total = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let skip = usize::try_from(request.get_ref().skip).unwrap_or(usize::MAX);
        let equivocation = |it: &Equivocation| v1::Equivocation {
            validator: it.validator().0.to_vec(),
            subject: it.subject(),
            proof: codec::encode(it),
        };
        let equivocations = all.iter().skip(skip).take(MAX_EQUIVOCATIONS).map(equivocation).collect();
        self.answer("ListEquivocations", since, Ok(v1::ListEquivocationsResponse { equivocations, n_total }))
    }

    async fn get_roots(&self, request: Request<v1::GetRootsRequest>) -> Result<Response<v1::GetRootsResponse>, Status> {
        let since = Instant::now();
        let answer = Deadline::of(request.metadata()).within(self.roots(request.get_ref().height)).await;
        self.answer("GetRoots", since, answer)
    }
}
