//! The consensus log: what the engine must remember to never sign twice (engine trap 11). One file, written ahead of every message.
//!
//! Our own format instead of the engine's, for two reasons. The engine's has no checksum over lengths and heights, so one flipped byte can
//! cut off or reset the log without a word, and a node that starts on that may sign twice. And it syncs the file several times a round
//! even where nothing was written. `file.rs` is the format, `actor.rs` serves the engine, `guard.rs` decides at start who may vote.

mod actor;
mod file;
mod guard;

pub(crate) use actor::{OpenWal, WalActor};
pub(crate) use file::{Recovered, WalFile};
pub use guard::{Identity, VOTE_AGAIN_FILE, WAL_FILE, init_folder};
pub(crate) use guard::{MayVote, check, end_catch_up, note_catch_up};
