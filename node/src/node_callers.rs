//! The file of those who may call the node's gRPC door, `tokens/callers.toml`, as `anji init` writes it.

use anji_adapters::settings;

settings! {
    /// The callers file.
    pub(crate) struct NodeCallersFile { lists {
        /// Who may call.
        callers: NodeCallerSpec,
    } }
}

settings! {
    /// One caller.
    pub(crate) struct NodeCallerSpec { values {
        /// Its name, for logs and metrics.
        name: String,
        /// BLAKE3 of its token's text, 64 hex digits.
        token_blake3: String,
        /// Number of the participant it speaks for.
        participant: u32,
        /// What it may call: `wallet`, `operator` or both.
        roles: Vec<String>,
    } }
}
