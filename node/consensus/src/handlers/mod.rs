//! One file per message of the engine. A reply that nobody takes any more means that the engine is ending; that is noticed elsewhere.

pub(crate) mod decided;
pub(crate) mod finalized;
pub(crate) mod get_value;
pub(crate) mod history;
pub(crate) mod ready;
pub(crate) mod received_part;
pub(crate) mod restream;
pub(crate) mod started_round;
pub(crate) mod synced;
