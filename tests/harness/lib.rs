//! Networks of real processes for the suites, driven in sentences: `Net::four("name").start()`, `net.kill("issuer")`,
//! `net.wait_for("…", || …)`. One network at a time per suite, on ports of its own; a failing test keeps its folder and says
//! where. Nothing here is used outside tests, so a broken assumption panics with a message.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test helper: failing loudly is its job")]

mod dice;
mod ledger;
mod net;

pub use dice::Dice;
pub use ledger::{Decided, Ledger, reject_code};
pub use net::{ALL, Net, VALIDATORS, anji, repository};
