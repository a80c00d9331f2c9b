//! The adapter's configuration file, `adapter.toml`. Each doc comment below is also the comment of the field in the file that
//! `anji init` writes. Paths are relative to the folder of the file. Nothing secret stands in it.

use crate::settings;
use crate::settings::{FieldError, SettingsError, resolve};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

settings! {
    /// Everything an adapter is told.
    pub struct AdapterConfig {
        values {
            /// Number of the participant this adapter signs for.
            participant: u32,
            /// The chain it signs for, 64 hex digits. A node of another chain is refused.
            chain_id: String,
            /// The participant's signing key. Nobody else's machine should ever see it.
            signing_key: PathBuf = PathBuf::from("keys/signing.key"),
            /// Number of that key within the participant.
            key_id: u32 = 1,
            /// The outbox: every request with its operation id, synced before anything is sent. One adapter each. Losing it while
            /// requests are open means that a caller who repeats one may pay twice: keep it on the disk you would keep money on.
            data_dir: PathBuf = PathBuf::from("adapter-data"),
        }
        sections {
            /// How operations are put into batches.
            batch: BatchConfig,
            /// Bounds on requests.
            requests: RequestsConfig,
            /// The outbox's files.
            outbox: OutboxConfig,
            /// The gRPC door for the wallet's own systems.
            grpc: AdapterGrpcConfig,
            /// The HTTP door for monitoring: `/metrics` (OpenMetrics), `/health/live`, `/health/ready`.
            metrics: MetricsConfig,
            /// Logs go to standard error. Keys, tokens and personal data never appear in them.
            log: LogConfig,
        }
        lists {
            /// The participant's nodes, in order of preference: the next one is tried when one does not answer.
            nodes: NodeAddress,
        }
    }
}

settings! {
    /// One node to submit to.
    pub struct NodeAddress { values {
        /// Its gRPC address, `http://host:port`.
        address: String,
        /// File with the token that this node knows the adapter by.
        token: PathBuf = PathBuf::from("tokens/adapter.token"),
    } }
}

settings! {
    /// Making batches.
    pub struct BatchConfig { values {
        /// Longest time the first operation of a batch waits for company, in milliseconds.
        linger_ms: u64 = 5,
        /// Most operations of a batch.
        max_ops: u32 = 1000,
        /// Largest batch, in KiB; the ledger's own limit is 1024.
        max_kib: u32 = 900,
        /// A batch that is in no block after this time is signed again, in seconds; the ledger allows at most 600.
        life_s: u64 = 120,
        /// Batches sent and not answered yet.
        in_flight: u32 = 8,
        /// An operation without an answer for this long is looked up at the node, in milliseconds.
        ask_after_ms: u64 = 3000,
    } }
}

settings! {
    /// Bounds on requests.
    pub struct RequestsConfig { values {
        /// Requests under way; more are refused with RESOURCE_EXHAUSTED.
        max_pending: u32 = 100_000,
        /// Answered requests remembered whose request id carries no time of its own, for 24 hours each. When that many are
        /// remembered, new ones are refused with RESOURCE_EXHAUSTED, for forgetting one could let it act twice. Request ids that
        /// are ULIDs or UUIDs of version 7 do not count: their operation id follows from them.
        max_remembered: u32 = 1_000_000,
        /// How long a call without a deadline waits for the ledger, in milliseconds.
        default_deadline_ms: u64 = 30_000,
        /// Items that may wait for this participant's answer (StreamWork) at a time.
        max_open_work: u32 = 500_000,
    } }
}

settings! {
    /// The outbox's files.
    pub struct OutboxConfig { values {
        /// A file ends past this size, in MiB.
        /// Files of answered requests are kept until they exceed this size together, in MiB.
        keep_mib: u32 = 256,
    } }
}

settings! {
    /// The adapter's door.
    pub struct AdapterGrpcConfig { values {
        /// Address to listen on. Callers prove themselves by token over plain text: keep it on loopback or behind a TLS proxy.
        listen: SocketAddr,
        /// Who may call: names and hashes of tokens. Read at start.
        callers: PathBuf = PathBuf::from("tokens/adapter-callers.toml"),
        /// Requests per second of one caller; short bursts up to twice that.
        max_rate: u32 = 20_000,
        /// Open streams of one caller.
        max_streams: u32 = 16,
    } }
}

settings! {
    /// The monitoring door.
    pub struct MetricsConfig { values {
        /// Address to listen on. It shows no money and no personal data, but keep it inside your network.
        listen: SocketAddr,
    } }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

/// Our own words at `info`; the engine and the network library only when something is wrong.
pub const DEFAULT_LOG_FILTER: &str = "info,arc_malachitebft=warn,libp2p=warn,ractor=warn,h2=warn";

settings! {
    /// Logging.
    pub struct LogConfig { values {
        /// `text` for people, `json` for machines (one object a line).
        format: LogFormat = LogFormat::Text,
        /// What is logged: a level, or `target=level` pairs separated by commas. The environment variable ANJI_LOG overrides it.
        filter: String = String::from(DEFAULT_LOG_FILTER),
    } }
}

/// Reads and checks an adapter's configuration; paths become relative to the working directory.
///
/// # Errors
/// What is wrong, naming file, field, value and the way out.
pub fn load(file: &Path) -> Result<AdapterConfig, SettingsError> {
    let mut config: AdapterConfig = settings::read(file)?;
    check(&config).map_err(|error| error.in_file(file))?;
    config.signing_key = resolve(file, &config.signing_key);
    config.data_dir = resolve(file, &config.data_dir);
    config.grpc.callers = resolve(file, &config.grpc.callers);
    for node in &mut config.nodes {
        node.token = resolve(file, &node.token);
    }
    Ok(config)
}

fn check(config: &AdapterConfig) -> Result<(), FieldError> {
    if hex::decode_to_slice(&config.chain_id, &mut [0; 32]).is_err() {
        let way_out = "copy `chain_id` from genesis.json";
        return Err(FieldError::new("chain_id", &config.chain_id, "not 64 hex digits", way_out));
    }
    if config.nodes.is_empty() {
        return Err(FieldError::new(
            "nodes",
            "[]",
            "no node to submit to",
            "add a [[nodes]] section with the node's address",
        ));
    }
    for node in &config.nodes {
        let rest = node.address.strip_prefix("http://").unwrap_or_default();
        if rest.is_empty() || node.address.parse::<tonic::codegen::http::Uri>().is_err() {
            return Err(FieldError::new(
                "nodes.address",
                &node.address,
                "not an address",
                "write it as http://host:port",
            ));
        }
    }
    let ranges = [
        ("participant", u64::from(config.participant), 1, u64::from(u32::MAX) - 1),
        ("key_id", config.key_id.into(), 1, u32::MAX.into()),
        ("batch.linger_ms", config.batch.linger_ms, 0, 1000),
        ("batch.max_ops", config.batch.max_ops.into(), 1, 4096),
        ("batch.max_kib", config.batch.max_kib.into(), 64, 1000),
        ("batch.life_s", config.batch.life_s, 5, 590),
        ("batch.in_flight", config.batch.in_flight.into(), 1, 256),
        ("batch.ask_after_ms", config.batch.ask_after_ms, 200, 600_000),
        ("requests.max_pending", config.requests.max_pending.into(), 1, 10_000_000),
        ("requests.max_remembered", config.requests.max_remembered.into(), 1000, 100_000_000),
        ("requests.default_deadline_ms", config.requests.default_deadline_ms, 100, 600_000),
        ("requests.max_open_work", config.requests.max_open_work.into(), 100, 50_000_000),
        ("outbox.keep_mib", config.outbox.keep_mib.into(), 1, 10_000_000),
        ("grpc.max_rate", config.grpc.max_rate.into(), 1, 10_000_000),
        ("grpc.max_streams", config.grpc.max_streams.into(), 1, 10_000),
    ];
    for (field, value, low, high) in ranges {
        if !(low..=high).contains(&value) {
            return Err(FieldError::new(field, value, "out of range", format!("use a value from {low} to {high}")));
        }
    }
    if config.grpc.listen == config.metrics.listen && config.grpc.listen.port() != 0 {
        let way_out = "give each its own port";
        return Err(FieldError::new(
            "metrics.listen",
            config.metrics.listen,
            "the same address as grpc.listen",
            way_out,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_are_named_with_value_and_way_out() {
        let good = format!(
            "participant = 1\nchain_id = '{}'\n[grpc]\nlisten = '127.0.0.1:1'\n[metrics]\nlisten = '127.0.0.1:2'\n[[nodes]]\naddress = 'http://127.0.0.1:3'\n",
            "ab".repeat(32)
        );
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("adapter.toml");
        let load_text = |text: &str| {
            std::fs::write(&file, text).expect("written");
            load(&file).map_err(|error| error.to_string())
        };
        let config = load_text(&good).expect("good");
        assert_eq!(config.data_dir, dir.path().join("adapter-data"));
        let rows = [
            (good.replace("participant = 1", "participant = 0"), "`participant = 0`: out of range"),
            (good.replace("participant = 1\n", ""), "`participant` is missing"),
            (good.replace(&"ab".repeat(32), "abc"), "`chain_id = abc`: not 64 hex digits"),
            (good.replace("http://", "tcp://"), "`nodes.address = tcp://127.0.0.1:3`: not an address"),
            (good.replace("127.0.0.1:2", "127.0.0.1:1"), "the same address as grpc.listen"),
            (format!("{good}colour = 'red'\n"), "unknown field `colour`"),
            (format!("{good}[batch]\nlinger_ms = 5000\n"), "`batch.linger_ms = 5000`: out of range"),
        ];
        for (text, expected) in rows {
            let shown = load_text(&text).expect_err(expected);
            assert!(shown.contains(expected) && shown.contains("way out") && shown.contains("adapter.toml"), "{shown}");
        }
    }
}
