//! A height is over. A node that is far behind takes over what the others have decided. The next height begins when the block two before it
//! is executed here, so that its header can be made and judged, and when there is something to do (engine trap 12).

use crate::app::{App, Next};
use crate::catch_up;
use crate::context::{Anji, Height, Proposal, Vote};
use crate::engine_types::MisbehaviorEvidence;
use crate::engine_types::core::{CommitCertificate, SignedMessage};
use crate::error::Fatal;
use crate::idle;
use crate::metrics::Evidence;
use crate::shared::Shared;
use anji_verify::equivocation::{Equivocation, Signed};
use arc_malachitebft_app_channel::Reply;
use arc_malachitebft_app_channel::app::engine::host::Next as EngineNext;
use std::sync::Arc;

pub(crate) async fn on_finalized(
    app: &mut App,
    certificate: &CommitCertificate<Anji>,
    evidence: &MisbehaviorEvidence<Anji>,
    reply: Reply<EngineNext<Anji>>,
) -> Next {
    tell_evidence(&app.shared, certificate.height.0, evidence);
    if let Err(fatal) = catch_up::between_heights(app).await {
        app.shared.fail(fatal);
        return Next::Stop;
    }
    let shared = &app.shared;
    let decided = shared.decided_height();
    if app.may_promote(decided) {
        return Next::Promote { decided };
    }
    // In the background: the engine may ask other things meanwhile, and a late proposal must not wait for an idle chain.
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if let Err(error) = shared.execution.wait_executed(decided.saturating_sub(1)).await {
            return shared.fail(Fatal::Execution(error));
        }
        shared.pool.mark_executed(decided.saturating_sub(1));
        idle::wait_for_work(&shared, decided + 1).await;
        let params = shared.next_height_params();
        let _ = reply.send(EngineNext::Start(Height(decided + 1), params));
    });
    Next::Go
}

/// Counts, logs and hands on what the engine saw validators sign twice.
fn tell_evidence(shared: &Shared, height: u64, evidence: &MisbehaviorEvidence<Anji>) {
    let chain_id = shared.config.chain_id;
    let vote =
        |it: &SignedMessage<Anji, Vote>| Some(Signed { body: it.message.body(chain_id)?, signature: it.signature.0 });
    let proposal = |it: &SignedMessage<Anji, Proposal>| {
        Some(Signed { body: it.message.body(chain_id)?, signature: it.signature.0 })
    };
    for (validator, pairs) in evidence.votes.iter() {
        shared.metrics.equivocated(Evidence::Vote, pairs.len());
        for (first, second) in pairs {
            tracing::error!(height, %validator, ?first, ?second, "a validator signed two votes for one step");
            if let Some((first, second)) = vote(first).zip(vote(second)) {
                shared.equivocated(Equivocation::Votes(first, second));
            }
        }
    }
    for (validator, pairs) in evidence.proposals.iter() {
        shared.metrics.equivocated(Evidence::Proposal, pairs.len());
        for (first, second) in pairs {
            tracing::error!(height, %validator, ?first, ?second, "a validator signed two proposals for one round");
            if let Some((first, second)) = proposal(first).zip(proposal(second)) {
                shared.equivocated(Equivocation::Proposals(first, second));
            }
        }
    }
}
