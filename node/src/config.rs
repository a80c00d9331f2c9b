//! The node's configuration file, `config.toml`. Each doc comment below is also the comment of the field in the file that
//! `anji init` writes. Paths are relative to the folder of the file. Nothing secret stands in it.

use anji_adapters::config::{LogConfig, MetricsConfig};
use anji_adapters::settings;
use anji_adapters::settings::{FieldError, SettingsError, resolve};
use anji_checkpoints::WitnessTarget;
use anji_verify::note::{SignatureKind, VerifierKey};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

settings! {
    /// Everything a node is told.
    pub(crate) struct NodeConfig {
        values {
            /// The node's name: in its logs and in its peers' metrics. At most 32 of a-z, 0-9, `-`.
            name: String,
            /// Number of the participant whose node it is, as genesis.json shows it.
            participant: u32,
            /// The genesis document. All nodes of a network have the same one; its hash is the chain id.
            genesis: PathBuf = PathBuf::from("genesis.bin"),
            /// The data folder: block file, state, consensus log. One node each; never shared, never copied while the node runs.
            data_dir: PathBuf = PathBuf::from("data"),
        }
        sections {
            /// Private keys, each in a file of its own with mode 0600. `anji init` makes them.
            keys: KeysConfig,
            /// The port other nodes connect to. Only the peers listed below get past the handshake.
            network: NetworkConfig,
            /// How fast blocks are agreed on. All validators of a network should use the same values.
            consensus: ConsensusConfig,
            /// Batches waiting for a block. When a bound is reached callers are told to come back later; nothing is dropped silently.
            mempool: MempoolConfig,
            /// The gRPC door: wallet and operator services, health, reflection.
            grpc: GrpcConfig,
            /// The HTTP door for monitoring: `/metrics` (OpenMetrics), `/health/live`, `/health/ready`.
            metrics: MetricsConfig,
            /// The log for everyone, over HTTP: checkpoints, tiles and entries in the layout of C2SP tlog-tiles.
            log_http: LogHttpConfig,
            /// Logs go to standard error. Keys, tokens and personal data never appear in them.
            log: LogConfig,
            /// The data folder's files.
            storage: StorageConfig,
            /// Running decided blocks.
            execution: ExecutionConfig,
            /// Only for measuring; never in a network that anybody relies on.
            benchmark: BenchmarkConfig,
        }
        lists {
            /// The other nodes of the network, one `[[peers]]` each. A node that is not listed here is refused at the handshake.
            peers: PeerConfig,
            /// Outside witnesses, one `[[witnesses]]` each: final checkpoints are taken to them, and `/checkpoint` carries their cosignatures.
            witnesses: WitnessConfig,
        }
    }
}

settings! {
    /// Where the private keys are.
    pub(crate) struct KeysConfig { values {
        /// Signs consensus votes. Leave it out on an observer, which follows without voting.
        consensus: Option<PathBuf> = None,
        /// Proves to peers who this node is.
        network: PathBuf = PathBuf::from("keys/network.key"),
    } }
}

settings! {
    /// The peers' port.
    pub(crate) struct NetworkConfig { values {
        /// Address to listen on for peers.
        listen: SocketAddr,
    } }
}

settings! {
    /// One admitted peer.
    pub(crate) struct PeerConfig { values {
        /// Its name, for logs and metrics.
        name: String,
        /// Where to dial it, `host:port`. Leave it out for a peer that only dials us.
        address: Option<String> = None,
        /// The public half of its network key, 64 hex digits; it must prove that it holds the private half.
        public_key: String,
        /// The public half of its consensus key, if it is a validator: only its own votes are taken from it.
        consensus_key: Option<String> = None,
    } }
}

settings! {
    /// Timing of agreement.
    pub(crate) struct ConsensusConfig { values {
        /// How long to wait for a proposal in round 0, in milliseconds; each further round waits `timeout_step_ms` longer.
        propose_timeout_ms: u64 = 800,
        /// How long to wait for votes after two thirds disagree, in milliseconds.
        vote_timeout_ms: u64 = 200,
        /// Added to every time-out per round, in milliseconds.
        timeout_step_ms: u64 = 200,
        /// How often votes are sent again while nothing moves, in milliseconds.
        rebroadcast_ms: u64 = 1000,
        /// Shortest time from one block to the next, in milliseconds; 0 goes as fast as it can. A block costs every node some five milliseconds of
        /// CPU however little is in it, so a chain without a pause spends itself on votes. After a pause that long a batch gets its block at once.
        block_time_ms: u64 = 40,
        /// An idle chain makes an empty block this often, in milliseconds, so that ledger time moves on.
        heartbeat_ms: u64 = 10_000,
    } }
}

settings! {
    /// Bounds of the waiting room.
    pub(crate) struct MempoolConfig { values {
        /// Bytes of all waiting batches, in MiB.
        max_mib: u32 = 256,
        /// Bytes of one participant's waiting batches, in MiB.
        max_participant_mib: u32 = 64,
        /// Number of one participant's waiting batches.
        max_participant_batches: u32 = 10_000,
    } }
}

settings! {
    /// The gRPC door.
    pub(crate) struct GrpcConfig { values {
        /// Address to listen on. Callers prove themselves by token over plain text: keep it on loopback or behind a TLS proxy.
        listen: SocketAddr,
        /// Who may call: names, roles and hashes of tokens. Read at start.
        callers: PathBuf = PathBuf::from("tokens/callers.toml"),
        /// Calls per second of one caller, items of streams included; short bursts up to twice that.
        max_rate: u32 = 10_000,
    } }
}

settings! {
    /// The log over HTTP.
    pub(crate) struct LogHttpConfig { values {
        /// Address to listen on; leave it out to serve nothing. Anybody who reaches it can read every entry of the log, which holds
        /// pseudonyms and amounts and no personal data.
        listen: Option<SocketAddr> = None,
    } }
}

settings! {
    /// One outside witness.
    pub(crate) struct WitnessConfig { values {
        /// Where it takes checkpoints: `http://host:port`, and a path if it has one. Across networks, put a TLS proxy in between.
        url: String,
        /// The key its cosignatures verify with, as it shows it: `name+id+base64`.
        key: String,
    } }
}

impl WitnessConfig {
    /// What is submitted to.
    pub(crate) fn target(&self) -> Result<WitnessTarget, FieldError> {
        let Some((address, prefix)) = self.url.strip_prefix("http://").map(|rest| match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
            None => (rest, ""),
        }) else {
            return Err(FieldError::new(
                "witnesses.url",
                &self.url,
                "not an http:// address",
                "write it as http://host:port",
            ));
        };
        if split_address(address).is_none() || !prefix.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(FieldError::new("witnesses.url", &self.url, "not an address", "write it as http://host:port"));
        }
        let key = VerifierKey::parse(&self.key).ok().filter(|key| key.kind == SignatureKind::CosignatureV1);
        let Some(key) = key else {
            let way_out = "ask the witness's operator for the line that `anji witness` shows at start";
            return Err(FieldError::new("witnesses.key", &self.key, "not the key of a witness", way_out));
        };
        Ok(WitnessTarget { address: address.to_owned(), prefix: prefix.to_owned(), key })
    }
}

/// How much of the data folder is read back at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VerifyMode {
    Full,
    Recent,
}

settings! {
    /// Files of the data folder.
    pub(crate) struct StorageConfig { values {
        /// What is checked at start: `full` reads every byte and names whatever is damaged; `recent` checks structure and the newest
        /// part and leaves the rest to the moment it is read.
        verify: VerifyMode = VerifyMode::Full,
        /// RocksDB's cache, in MiB.
        cache_mib: u32 = 80,
        /// Written state held in memory before it is flushed, in MiB; up to twice that while a flush runs.
        write_buffer_mib: u32 = 48,
        /// A file of the block archive ends past this size, in MiB.
        segment_mib: u32 = 256,
    } }
}

settings! {
    /// Memory of execution.
    pub(crate) struct ExecutionConfig { values {
        /// Mandates, lines and open payments kept decoded, at most twice this many; others are read from disk.
        cached_entities: u32 = 100_000,
        /// Operation ids of the newest blocks kept in memory, at most twice this many.
        cached_ops: u32 = 500_000,
    } }
}

settings! {
    /// What a benchmark compares with.
    pub(crate) struct BenchmarkConfig { values {
        /// Blocks are ordered, spread and synced as ever, and not executed: receipts are empty, the log stays that of genesis. All nodes of the
        /// network must agree on it: a node that executes stops at the first block of one that does not.
        bare: bool = false,
    } }
}

/// A configuration that was read and checked, with all paths made absolute or relative to the working directory.
pub(crate) fn load(file: &Path) -> Result<NodeConfig, SettingsError> {
    let mut config: NodeConfig = settings::read(file)?;
    check(&config).map_err(|error| error.in_file(file))?;
    config.genesis = resolve(file, &config.genesis);
    config.data_dir = resolve(file, &config.data_dir);
    config.keys.consensus = config.keys.consensus.map(|path| resolve(file, &path));
    config.keys.network = resolve(file, &config.keys.network);
    config.grpc.callers = resolve(file, &config.grpc.callers);
    Ok(config)
}

/// Whether a text may name a node, a participant or a peer.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a text may name a witness's key.
pub(crate) fn is_witness_name(text: &str) -> bool {
    text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_graphic()) && anji_verify::note::check_name(text).is_ok()
}

/// Splits `host:port`; IPv6 hosts stand in brackets.
pub(crate) fn split_address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').map_or(Some(host), |inner| inner.strip_suffix(']'))?;
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port != 0 && !host.contains(['/', ' '])).then_some((host, port))
}

/// 32 bytes written as 64 hex digits.
pub(crate) fn parse_hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

fn check(config: &NodeConfig) -> Result<(), FieldError> {
    if !is_name(&config.name) {
        return Err(FieldError::new("name", &config.name, "not a name", "use 1 to 32 of a-z, 0-9 and `-`"));
    }
    let mut seen = Vec::new();
    for peer in &config.peers {
        let field = |name: &str| format!("peers[{}].{name}", peer.name);
        let Some(key) = parse_hex32(&peer.public_key) else {
            let way_out = "ask the peer's operator for the `network` key in its public.toml";
            return Err(FieldError::new(field("public_key"), &peer.public_key, "not 64 hex digits", way_out));
        };
        if seen.contains(&key) {
            let way_out = "give every peer once, with its own key";
            return Err(FieldError::new(
                field("public_key"),
                &peer.public_key,
                "another peer has the same key",
                way_out,
            ));
        }
        seen.push(key);
        if let Some(key) = peer.consensus_key.as_ref().filter(|it| parse_hex32(it).is_none()) {
            let way_out = "ask the peer's operator for the `consensus` key in its public.toml";
            return Err(FieldError::new(field("consensus_key"), key, "not 64 hex digits", way_out));
        }
        if let Some(address) = &peer.address
            && split_address(address).is_none()
        {
            return Err(FieldError::new(field("address"), address, "not an address", "write it as host:port"));
        }
    }
    let ranges = [
        ("participant", config.participant.into(), 1, u64::from(u32::MAX) - 1),
        ("grpc.max_rate", config.grpc.max_rate.into(), 1, 10_000_000),
        ("consensus.propose_timeout_ms", config.consensus.propose_timeout_ms, 50, 60_000),
        ("consensus.vote_timeout_ms", config.consensus.vote_timeout_ms, 20, 60_000),
        ("consensus.timeout_step_ms", config.consensus.timeout_step_ms, 0, 60_000),
        ("consensus.rebroadcast_ms", config.consensus.rebroadcast_ms, 100, 60_000),
        ("consensus.block_time_ms", config.consensus.block_time_ms, 0, 10_000),
        ("consensus.heartbeat_ms", config.consensus.heartbeat_ms, 500, 3_600_000),
        ("mempool.max_mib", config.mempool.max_mib.into(), 8, 65_536),
        ("mempool.max_participant_mib", config.mempool.max_participant_mib.into(), 2, 65_536),
        ("mempool.max_participant_batches", config.mempool.max_participant_batches.into(), 16, 10_000_000),
        ("storage.cache_mib", config.storage.cache_mib.into(), 8, 65_536),
        ("storage.write_buffer_mib", config.storage.write_buffer_mib.into(), 8, 16_384),
        ("storage.segment_mib", config.storage.segment_mib.into(), 4, 16_384),
        ("execution.cached_entities", config.execution.cached_entities.into(), 1000, 100_000_000),
        ("execution.cached_ops", config.execution.cached_ops.into(), 1000, 100_000_000),
    ];
    for (field, value, low, high) in ranges {
        if !(low..=high).contains(&value) {
            return Err(FieldError::new(field, value, "out of range", format!("use a value from {low} to {high}")));
        }
    }
    if config.mempool.max_participant_mib > config.mempool.max_mib {
        let way_out = "one participant's share cannot exceed `mempool.max_mib`; lower it or raise the other";
        return Err(FieldError::new(
            "mempool.max_participant_mib",
            config.mempool.max_participant_mib,
            "too large",
            way_out,
        ));
    }
    crate::logging::parse_filter(&config.log.filter).map_err(|error| {
        FieldError::new(
            "log.filter",
            &config.log.filter,
            error.to_string(),
            "write a level such as `info`, or `target=level` pairs",
        )
    })?;
    for witness in &config.witnesses {
        witness.target()?;
    }
    let mut doors = vec![
        ("network.listen", config.network.listen),
        ("grpc.listen", config.grpc.listen),
        ("metrics.listen", config.metrics.listen),
    ];
    doors.extend(config.log_http.listen.map(|listen| ("log_http.listen", listen)));
    for (index, (field, address)) in doors.iter().enumerate() {
        if doors.iter().skip(index + 1).any(|(_, other)| other == address && address.port() != 0) {
            return Err(FieldError::new(*field, address, "two doors share one address", "give each its own port"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = 'n'\nparticipant = 1\n[network]\nlisten = '127.0.0.1:1'\n[grpc]\nlisten = '127.0.0.1:2'\n[metrics]\nlisten = '127.0.0.1:3'\n";

    fn load_text(text: &str) -> Result<NodeConfig, String> {
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).expect("written");
        load(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn every_wrong_field_is_named_with_its_value_and_a_way_out() {
        assert!(load_text(GOOD).is_ok());
        let key = "11".repeat(32);
        let rows = [
            (GOOD.replace("name = 'n'", "name = 'N!'"), "`name = N!`: not a name"),
            (GOOD.replace("name = 'n'\n", ""), "field `name` is missing"),
            (GOOD.replace("127.0.0.1:2", "localhost"), "invalid socket address syntax, in `listen = 'localhost'`"),
            (GOOD.replace("127.0.0.1:2", "127.0.0.1:1"), "`network.listen = 127.0.0.1:1`: two doors share one address"),
            (format!("{GOOD}[consensus]\nheartbeat = 5\n"), "unknown field `heartbeat`, expected one of"),
            (format!("{GOOD}[consensus]\nheartbeat_ms = 5\n"), "`consensus.heartbeat_ms = 5`: out of range"),
            (format!("{GOOD}[consensus]\nheartbeat_ms = -5\n"), "integer `-5`"),
            (format!("{GOOD}[consensus]\nheartbeat_ms = '5'\n"), "string \"5\", expected u64"),
            (format!("{GOOD}[log]\nformat = 'xml'\n"), "unknown variant `xml`, expected `text` or `json`"),
            (format!("{GOOD}[log]\nfilter = 'a=b=c'\n"), "`log.filter = a=b=c`"),
            (format!("{GOOD}[storage]\nverify = 'no'\n"), "unknown variant `no`, expected `full` or `recent`"),
            (
                format!("{GOOD}[mempool]\nmax_participant_mib = 1000\n"),
                "`mempool.max_participant_mib = 1000`: too large",
            ),
            (
                format!("{GOOD}[[peers]]\nname = 'p'\npublic_key = 'abc'\n"),
                "`peers[p].public_key = abc`: not 64 hex digits",
            ),
            (format!("{GOOD}[[peers]]\nname = 'p'\n"), "field `peers.public_key` is missing"),
            (
                format!("{GOOD}[[peers]]\nname = 'p'\npublic_key = '{key}'\naddress = 'x'\n"),
                "`peers[p].address = x`: not an address",
            ),
            (
                format!("{GOOD}{0}{0}", format_args!("[[peers]]\nname = 'p'\npublic_key = '{key}'\n")),
                "another peer has the same key",
            ),
            (format!("{GOOD}[log_http]\nlisten = '127.0.0.1:1'\n"), "two doors share one address"),
            (
                format!("{GOOD}[[witnesses]]\nurl = 'ftp://a:1'\nkey = 'k'\n"),
                "`witnesses.url = ftp://a:1`: not an http:// address",
            ),
            (
                format!("{GOOD}[[witnesses]]\nurl = 'http://a:1'\nkey = 'k'\n"),
                "`witnesses.key = k`: not the key of a witness",
            ),
            (String::from("name = "), "config.toml:1:"),
        ];
        for (text, expected) in rows {
            let shown = load_text(&text).expect_err(expected);
            assert!(shown.contains(expected), "{expected:?} not in {shown}");
            assert!(shown.contains("config.toml") && shown.contains("way out: "), "{shown}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, GOOD).expect("written");
        let config = load(&file).expect("good");
        assert_eq!(config.data_dir, dir.path().join("data"));
        assert_eq!(config.genesis, dir.path().join("genesis.bin"));
    }

    #[test]
    fn addresses_split_into_host_and_port() {
        assert_eq!(split_address("a.example:70"), Some(("a.example", 70)));
        assert_eq!(split_address("[::1]:70"), Some(("::1", 70)));
        for bad in ["", "a", "a:", ":1", "a:0", "a:70000", "[::1:5", "a b:1"] {
            assert_eq!(split_address(bad), None, "{bad}");
        }
    }
}
