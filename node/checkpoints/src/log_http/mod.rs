//! The log for everyone, as C2SP tlog-tiles over HTTP: `/checkpoint`, `/tile/<L>/<N>[.p/<W>]`, `/tile/entries/<N>[.p/<W>]`. Read-only.
//! Nothing is served beyond the newest final checkpoint. Connections, their age and the time for a request's head are bounded.

mod pages;
mod paths;
mod serve;

pub(crate) use pages::consistency;
pub(crate) use serve::serve_connections;
pub use serve::{LogHttp, bind};
