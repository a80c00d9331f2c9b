//! The engine is ready: it starts at the height after the last decided one, once there are peers to talk to (engine trap 5), what they
//! have decided meanwhile is taken over, and execution is near enough.

use crate::app::{App, Next};
use crate::catch_up;
use crate::chain::log_height;
use crate::context::{Anji, Height};
use crate::engine_types::core::HeightParams;
use crate::error::Fatal;
use anji_verify::is_more_than_two_thirds;
use arc_malachitebft_app_channel::Reply;
use std::time::Duration;

/// Every peer tells how far it is as soon as it is connected.
const TIPS_WAIT: Duration = Duration::from_millis(500);

pub(crate) async fn on_ready(app: &mut App, reply: Reply<(Height, HeightParams<Anji>)>) -> Next {
    let shared = &app.shared;
    let total = shared.config.validators.total_power();
    let own = shared.config.own_address();
    let mut changes = shared.peers.changes();
    let enough = || is_more_than_two_thirds(shared.peers.connected_power(&shared.config.validators, own), total);
    if tokio::time::timeout(shared.config.timing.peer_wait, changes.wait_for(|_| enough())).await.is_err() {
        tracing::warn!("two thirds of the validators are not connected yet; consensus starts all the same");
    }
    let _ = tokio::time::timeout(TIPS_WAIT, changes.wait_for(|_| shared.peers.told_tips())).await;
    if let Err(fatal) = catch_up::at_start(app).await {
        app.shared.fail(fatal);
        return Next::Stop;
    }
    let shared = &app.shared;
    let height = shared.decided_height() + 1;
    if let Err(error) = shared.execution.wait_executed(log_height(height)).await {
        shared.fail(Fatal::Execution(error));
        return Next::Stop;
    }
    let params = shared.next_height_params();
    tracing::info!(height, voter = app.voter.is_some(), "consensus starts");
    let _ = reply.send((Height(height), params));
    Next::Go
}
