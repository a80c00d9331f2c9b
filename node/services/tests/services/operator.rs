//! The operator service.

use crate::chain::{Chain, none, reason};
use crate::contracts::ACQUIRER;
use anji_contracts::ops::{MandateStop, OpBody};
use anji_contracts::types::MandateId;
use anji_proto::v1;
use tonic::Code;

#[tokio::test]
async fn status_shows_the_node_as_it_stands() {
    let mut chain = Chain::start().await;
    chain.mandate().await;
    let op = chain.op(OpBody::MandateSuspend(MandateStop { mandate: MandateId::default(), reason: 1 }));
    let batch = chain.sign(ACQUIRER, &[op]);
    chain.wallet("wallet").await.submit_batch(none(batch)).await.unwrap();
    let mut operator = chain.operator().await;
    let it = operator.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((it.version.as_str(), it.node.as_str(), it.participant), ("0.0.1", "node-1", 1));
    assert_eq!((it.role, it.role_reason.as_str()), (v1::NodeRole::Follower as i32, "the tests make the blocks"));
    assert_eq!((it.decided_height, it.executed_height, it.executed_time_ms), (77, 2, chain.now()));
    assert_eq!((it.consensus_height, it.consensus_round, it.n_alarms), (78, 2, 3));
    assert_eq!((it.n_peers_connected, it.peers_height), (2, 76), "a peer that is gone does not count");
    assert_eq!((it.n_batches_total, it.n_ops_total), (2, 2));
    let pool = it.mempool.unwrap();
    assert_eq!((pool.n_batches, pool.n_ops), (1, 1));
    assert!(pool.size_bytes > 0 && pool.limit_bytes > pool.size_bytes);
    assert!(it.disk.unwrap().used_bytes > 0);

    chain.final_height.send_replace(2);
    assert_eq!(operator.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().final_height, 2);
    let found = operator.list_equivocations(v1::ListEquivocationsRequest { skip: 0 }).await.unwrap().into_inner();
    assert_eq!((found.n_total, found.equivocations.len()), (1, 1));
    assert_eq!(found.equivocations[0].subject, "two precommits at height 3, round 1");
    assert_eq!(found.equivocations[0].proof.first(), Some(&0), "the first kind");
    let rest = operator.list_equivocations(v1::ListEquivocationsRequest { skip: 1 }).await.unwrap().into_inner();
    assert_eq!((rest.n_total, rest.equivocations.len()), (1, 0));

    let roots = operator.get_roots(v1::GetRootsRequest { height: 0 }).await.unwrap().into_inner();
    assert_eq!((roots.height, &roots.log_root, roots.log_size), (2, &it.log_root, it.log_size));
    assert_eq!(roots.header_hash, it.header_hash);
    let first = operator.get_roots(v1::GetRootsRequest { height: 1 }).await.unwrap().into_inner();
    assert!(first.log_size < roots.log_size && first.log_root != roots.log_root);
    let status = operator.get_roots(v1::GetRootsRequest { height: 3 }).await.expect_err("not executed yet");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
}

#[tokio::test]
async fn peers_and_validators_are_listed() {
    let chain = Chain::start().await;
    let mut operator = chain.operator().await;
    let peers = operator.list_peers(v1::ListPeersRequest {}).await.unwrap().into_inner().peers;
    let names: Vec<_> = peers.iter().map(|peer| (peer.name.as_str(), peer.connected)).collect();
    assert_eq!(names, [("a", true), ("b", true), ("c", false)]);
    let all = operator.list_validators(v1::ListValidatorsRequest {}).await.unwrap().into_inner();
    assert_eq!((all.total_power, all.validators.len()), (4, 2));
    assert_eq!((all.validators[1].participant, all.validators[1].address.len()), (2, 20));
}
