//! The bounds of the gRPC door.

use std::time::Duration;

/// Bounds of the gRPC door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open connections; one more is closed at once.
    pub connections: usize,
    /// HTTP/2 streams of one connection.
    pub streams_per_connection: u32,
    /// Calls of one caller that are being read or looked up; those that wait for a decision do not count.
    pub calls_under_way: usize,
    /// Streaming calls that one caller may keep open.
    pub streams_per_caller: usize,
    /// Calls of one caller in a second, items of streams included; twice that in a burst.
    pub calls_per_second: u32,
    /// Batches of one stream that may be undecided; reading pauses beyond.
    pub undecided_per_stream: usize,
    /// The longest wait for a decision, whatever the caller's deadline.
    pub longest_wait: Duration,
    /// A receiver that takes nothing for this long is cut off.
    pub slow_receiver: Duration,
    /// How often a stream without news tells where it stands.
    pub heartbeat: Duration,
    /// How long calls under way may take to finish when the node stops.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            streams_per_connection: 256,
            calls_under_way: 256,
            streams_per_caller: 32,
            calls_per_second: 10_000,
            undecided_per_stream: 64,
            longest_wait: Duration::from_secs(60),
            slow_receiver: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
