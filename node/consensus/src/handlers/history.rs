//! What this node can serve. Blocks themselves are served by `serve.rs`, past the engine.

use crate::app::{App, Next};
use crate::context::{Anji, Height};
use crate::engine_types::sync::RawDecidedValue;
use arc_malachitebft_app_channel::Reply;
use std::ops::RangeInclusive;

pub(crate) fn on_min_height(app: &App, reply: Reply<Height>) -> Next {
    let _ = reply.send(Height(app.shared.blocks.first_height()));
    Next::Go
}

pub(crate) fn on_get_decided(range: &RangeInclusive<Height>, reply: Reply<Vec<RawDecidedValue<Anji>>>) -> Next {
    // The network actor never hands a peer's request to the engine, so the engine never asks.
    tracing::debug!(first = %range.start(), last = %range.end(), "the engine asked for blocks to serve");
    let _ = reply.send(Vec::new());
    Next::Go
}
