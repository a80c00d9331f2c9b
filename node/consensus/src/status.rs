//! Who is how far. Every node tells its decided height when a peer connects and every half second where it changed; the engine's sync is
//! told of a higher tip only when it has stood for a while, so that a block on its way through consensus is not fetched as well.

use crate::context::Height;
use crate::network_actor::engine_peer;
use crate::shared::Shared;
use crate::wire::{self, ControlFrame};
use anji_network::{Channel, PeerId};
use arc_malachitebft_app_channel::app::engine::network::{NetworkEvent, Status};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TELL_EVERY: Duration = Duration::from_millis(500);
/// Also without change: a frame may have been lost.
const REPEAT_EVERY: u32 = 4;

fn frame(shared: &Shared) -> Bytes {
    let decided_height = shared.decided_height();
    wire::encode(&ControlFrame::Status { decided_height, first_height: shared.blocks.first_height() })
}

/// Tells one peer.
pub(crate) fn send_to(shared: &Shared, peer: PeerId) {
    shared.network.send(peer, Channel::Control, frame(shared));
}

/// Tells all peers, for ever.
pub(crate) async fn tell(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(TELL_EVERY);
    let mut told = u64::MAX;
    let mut quiet = 0;
    loop {
        ticks.tick().await;
        let decided = shared.decided_height();
        quiet += 1;
        if decided != told || quiet >= REPEAT_EVERY {
            shared.network.broadcast(Channel::Control, frame(&shared));
            (told, quiet) = (decided, 0);
        }
    }
}

/// Tells the engine's sync of tips that stand above ours for a while, for ever.
pub(crate) async fn pace_sync(shared: Arc<Shared>) {
    let patience = shared.config.timing.sync_patience;
    let mut ticks = tokio::time::interval((patience / 3).max(Duration::from_millis(20)));
    let mut standing: HashMap<PeerId, (u64, Instant)> = HashMap::new();
    loop {
        ticks.tick().await;
        let decided = shared.decided_height();
        let now = Instant::now();
        for (peer, view) in shared.peers.all() {
            let (Some(tip), Some(first)) = (view.tip, view.first_height) else { continue };
            if !view.connected || tip <= decided {
                standing.remove(&peer);
                continue;
            }
            // Since when has this peer been ahead of a tip that we still have not reached?
            let (mark, since) = standing.entry(peer).or_insert((tip, now));
            if *mark <= decided {
                (*mark, *since) = (tip, now);
            }
            if now.duration_since(*since) >= patience {
                let Some(peer) = engine_peer(&peer) else { continue };
                shared.link.emit(&NetworkEvent::Status(peer, Status::new(Height(tip), Height(first))));
            }
        }
    }
}
