//! One operator's folder: keys, genesis, configuration, tokens. Nothing that exists is ever overwritten.

use anji_adapters::callers::{CallerSpec, CallersFile, new_token};
use anji_adapters::config::{
    AdapterConfig, AdapterGrpcConfig, DEFAULT_LOG_FILTER, LogConfig, LogFormat, MetricsConfig, NodeAddress,
};
use anji_adapters::keys::{KeySuite, PrivateKey, Purpose};
use anji_adapters::settings::{Settings, commented};
use anji_consensus::Identity;
use anji_contracts::Genesis;
use anji_verify::Address;
use anyhow::{Context, Result, bail, ensure};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::genesis::{PublicKeys, Publics, of_node, readable};
use super::network_file::{NetworkFile, NodeSpec};
use crate::app::CONSENSUS_FOLDER;
use crate::config::{
    GrpcConfig, KeysConfig, LogHttpConfig, NetworkConfig, NodeConfig, PeerConfig, WitnessConfig, parse_hex32,
    split_address,
};
use crate::node_callers::{NodeCallerSpec, NodeCallersFile};

/// Writes a new file; refuses to touch one that exists.
pub(crate) fn write_new(file: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let context = || format!("{}: cannot be written (nothing is ever overwritten)", file.display());
    let mut out =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file).with_context(context)?;
    out.write_all(bytes).with_context(context)?;
    out.sync_all().with_context(context)
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("{}: cannot make the folder", dir.display()))
}

/// Makes a node's private keys and `public.toml`; the participant's own keys are of `suite`.
pub(crate) fn make_keys(node: &NodeSpec, suite: KeySuite, dir: &Path) -> Result<PublicKeys> {
    let keys = dir.join("keys");
    ensure!(
        !keys.exists(),
        "{}: keys exist already\n  way out: they are never overwritten; choose another --out, or move them away if they were never used",
        keys.display()
    );
    make_dir(&keys)?;
    let make = |purpose: Purpose| -> Result<String> {
        let key = match purpose {
            Purpose::Signing | Purpose::Encryption => PrivateKey::generate_of(purpose, suite)?,
            Purpose::Consensus | Purpose::Network | Purpose::Witness => PrivateKey::generate(purpose)?,
        };
        key.write_new(&keys.join(format!("{}.key", purpose.name())))?;
        Ok(hex::encode(key.public()))
    };
    let public = PublicKeys {
        node: node.name.clone(),
        network: make(Purpose::Network)?,
        consensus: if node.power > 0 { Some(make(Purpose::Consensus)?) } else { None },
        signing: if node.adapter_grpc.is_some() { Some(make(Purpose::Signing)?) } else { None },
        encryption: make(Purpose::Encryption)?,
    };
    let head =
        "Public keys of one node and its participant: send this file to the other operators. It holds no secret.";
    write_new(&dir.join("public.toml"), 0o644, commented(&public, head).as_bytes())?;
    Ok(public)
}

/// Completes the folder of a node whose keys exist.
pub(crate) fn make_node(
    network: &NetworkFile,
    publics: &Publics,
    genesis: &Genesis,
    name: &str,
    dir: &Path,
    witnesses: &[WitnessConfig],
) -> Result<()> {
    let Some(node) = network.node(name) else {
        let names: Vec<&str> = network.nodes.iter().map(|it| it.name.as_str()).collect();
        bail!("`--node {name}`: the network file has no such node\n  way out: its nodes are {}", names.join(", "));
    };
    let own = of_node(publics, node).map_err(|error| anyhow::anyhow!("{}: {}", error.value, error.problem))?;
    check_own_keys(own, dir)?;
    for file in ["config.toml", "genesis.bin", "adapter.toml", "tokens", "data"] {
        let path = dir.join(file);
        ensure!(
            !path.exists(),
            "{}: exists already\n  way out: nothing is overwritten; choose another --out",
            path.display()
        );
    }
    make_dir(&dir.join("tokens"))?;
    write_genesis(genesis, dir)?;
    let participant = network.participant_id(&node.participant).context("the network file was checked")?.0;

    let token = |file: &str| -> Result<String> {
        let (token, hash) = new_token()?;
        write_new(&dir.join("tokens").join(file), 0o600, format!("{token}\n").as_bytes())?;
        Ok(hash)
    };
    let caller = |name: &str, hash: String, role: &str| NodeCallerSpec {
        name: name.to_owned(),
        token_blake3: hash,
        participant,
        roles: vec![role.to_owned()],
    };
    let mut callers = vec![
        caller("wallet", token("wallet.token")?, "wallet"),
        caller("operator", token("operator.token")?, "operator"),
    ];
    if let (Some(listen), Some(metrics)) = (node.adapter_grpc, node.adapter_metrics) {
        callers.push(caller("adapter", token("adapter.token")?, "wallet"));
        let wallet =
            CallerSpec { name: String::from("wallet"), token_blake3: token("adapter-wallet.token")?, read_only: false };
        let head = "Who may call this adapter. Tokens are known here by their BLAKE3 only; give each caller its own.";
        let text = commented(&CallersFile { callers: vec![wallet] }, head);
        write_new(&dir.join("tokens/adapter-callers.toml"), 0o600, text.as_bytes())?;
        let text = adapter_config(genesis, participant, node, listen, metrics)?;
        write_new(&dir.join("adapter.toml"), 0o644, text.as_bytes())?;
    }
    let head = "Who may call this node. Tokens are known here by their BLAKE3 only; give each caller its own.";
    write_new(&dir.join("tokens/callers.toml"), 0o600, commented(&NodeCallersFile { callers }, head).as_bytes())?;
    write_new(&dir.join("config.toml"), 0o644, node_config(network, publics, node, witnesses)?.as_bytes())?;
    make_dir(&dir.join("data"))?;
    if let Some(key) = own.consensus.as_deref().and_then(parse_hex32) {
        // What entitles a validator to vote from the first height on; a wiped folder does not have it.
        let identity = Identity { chain_id: genesis.chain_id(), validator: Address::of(&key) };
        anji_consensus::init_folder(&dir.join("data").join(CONSENSUS_FOLDER), identity)?;
    }
    Ok(())
}

/// `genesis.bin` for the node and `genesis.json` for people.
pub(crate) fn write_genesis(genesis: &Genesis, dir: &Path) -> Result<()> {
    write_new(&dir.join("genesis.bin"), 0o644, &anji_contracts::codec::encode(genesis))?;
    let text = serde_json::to_string_pretty(&readable(genesis))? + "\n";
    write_new(&dir.join("genesis.json"), 0o644, text.as_bytes())
}

/// Reads the private keys back and compares them with what the others were told.
fn check_own_keys(public: &PublicKeys, dir: &Path) -> Result<()> {
    let pairs = [
        (Purpose::Network, Some(&public.network)),
        (Purpose::Consensus, public.consensus.as_ref()),
        (Purpose::Signing, public.signing.as_ref()),
        (Purpose::Encryption, Some(&public.encryption)),
    ];
    for (purpose, told) in pairs {
        let Some(told) = told else { continue };
        let file = dir.join("keys").join(format!("{}.key", purpose.name()));
        let own = hex::encode(PrivateKey::read(&file, purpose)?.public());
        ensure!(
            own == *told,
            "{}: its public half is {own}, but public.toml says {told}\n  way out: use the keys that belong to that public.toml, or send the others the right one",
            file.display()
        );
    }
    Ok(())
}

fn node_config(
    network: &NetworkFile,
    publics: &Publics,
    node: &NodeSpec,
    witnesses: &[WitnessConfig],
) -> Result<String> {
    let mut peers = Vec::new();
    for peer in network.nodes.iter().filter(|it| it.name != node.name) {
        let keys = of_node(publics, peer).map_err(|error| anyhow::anyhow!("{}: {}", error.value, error.problem))?;
        peers.push(PeerConfig {
            name: peer.name.clone(),
            address: Some(peer.p2p.clone()),
            public_key: keys.network.clone(),
            consensus_key: keys.consensus.clone(),
        });
    }
    let (host, port) = split_address(&node.p2p).context("the network file was checked")?;
    // On one machine only loopback is opened; elsewhere the address that peers dial may not be the machine's own.
    let listen = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => SocketAddr::new(ip, port),
        Ok(IpAddr::V6(_)) => SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port),
        Ok(IpAddr::V4(_)) | Err(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
    };
    let participant = network.participant_id(&node.participant).context("the network file was checked")?.0;
    let config = NodeConfig {
        name: node.name.clone(),
        participant,
        keys: KeysConfig {
            consensus: (node.power > 0).then(|| PathBuf::from("keys/consensus.key")),
            ..defaults::<KeysConfig>()?
        },
        network: NetworkConfig { listen },
        grpc: GrpcConfig { listen: node.grpc, ..with(&format!("listen = '{}'", node.grpc))? },
        metrics: MetricsConfig { listen: node.metrics },
        log_http: LogHttpConfig { listen: node.log_http },
        log: log_config(),
        peers,
        witnesses: if node.log_http.is_some() { witnesses.to_vec() } else { Vec::new() },
        ..with(&format!(
            "name = 'n'\nparticipant = 1\n[network]\nlisten = '{listen}'\n[grpc]\nlisten = '{}'\n[metrics]\nlisten = '{}'",
            node.grpc, node.metrics
        ))?
    };
    let head = format!(
        "Configuration of node `{}`, network `{}`. Start it with `anji node --config` and this file.\n\
         Every field is here with its meaning; a field that is left out has the value shown by a fresh `anji init`.",
        node.name, network.name
    );
    Ok(commented(&config, &head))
}

fn log_config() -> LogConfig {
    LogConfig { format: LogFormat::Text, filter: String::from(DEFAULT_LOG_FILTER) }
}

fn adapter_config(
    genesis: &Genesis,
    participant: u32,
    node: &NodeSpec,
    listen: SocketAddr,
    metrics: SocketAddr,
) -> Result<String> {
    let config = AdapterConfig {
        participant,
        chain_id: genesis.chain_id().to_string(),
        nodes: vec![NodeAddress {
            address: format!("http://{}", node.grpc),
            token: PathBuf::from("tokens/adapter.token"),
        }],
        grpc: AdapterGrpcConfig { listen, ..with(&format!("listen = '{listen}'"))? },
        metrics: MetricsConfig { listen: metrics },
        log: log_config(),
        ..with(&format!(
            "participant = 1\nchain_id = 'x'\n[grpc]\nlisten = '{listen}'\n[metrics]\nlisten = '{metrics}'"
        ))?
    };
    let head = format!(
        "Configuration of the adapter of participant {participant}. Start it with `anji adapter --config` and this file.\n\
         Every field is here with its meaning; a field that is left out has the value shown by a fresh `anji init`."
    );
    Ok(commented(&config, &head))
}

/// A section with its defaults.
fn defaults<T: Settings>() -> Result<T> {
    with("")
}

/// A section with its defaults and the fields in `text`.
fn with<T: Settings>(text: &str) -> Result<T> {
    Ok(anji_adapters::settings::parse(Path::new("(defaults)"), text)?)
}
