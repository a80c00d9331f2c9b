//! `anji init`: keys, genesis and configuration. On one machine in one step; between real operators in three, so that no
//! private key ever leaves the machine it was made on.

mod folder;
mod genesis;
mod network_file;

use crate::config::WitnessConfig;
use anji_contracts::Genesis;
use anji_contracts::genesis::genesis_writes;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use folder::write_new;
use genesis::Publics;
use network_file::NetworkFile;

const LONG: &str = "\
Makes what a node needs before its first start: private keys, the genesis document, a configuration in which a comment explains
every field, tokens for callers. Nothing that exists is ever overwritten.

On one machine, everything at once:

  anji init --network devnet/networks/four.toml --out net

makes net/<node>/{config.toml, adapter.toml, genesis.bin, genesis.json, public.toml, keys/, tokens/, data/} for every node of the
network file, and net/network.json with all addresses.

Between operators, each on a machine of its own; private keys never travel:

  1. each:          anji init keys    --network four.toml --node issuer --out .
                    and send issuer/public.toml to all others
  2. one of them:   anji init genesis --network four.toml --participants public/ --out .
                    and send genesis.bin to all others; everybody compares the chain id by telephone
  3. each:          anji init node    --network four.toml --participants public/ --genesis genesis.bin --node issuer --out .

public/ holds the public.toml of every node, under any name ending in .toml. Step 3 rebuilds the genesis document from the network
file and the public keys and refuses one that differs.";

/// `anji init`.
#[derive(Args)]
#[command(long_about = LONG, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct InitArgs {
    #[command(subcommand)]
    step: Option<Step>,
    /// The network file: participants, roles, fees, caps, nodes.
    #[arg(long, value_name = "FILE", required = true)]
    network: Option<PathBuf>,
    /// The folder that gets one folder per node; made if it does not exist.
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    /// Added to every port of the network file.
    #[arg(long, value_name = "N", default_value_t = 0)]
    port_offset: u16,
}

#[derive(Subcommand)]
enum Step {
    /// Makes one node's private keys and the public.toml to send to the others.
    Keys {
        /// The network file.
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The node's name in the network file.
        #[arg(long, value_name = "NAME")]
        node: String,
        /// The folder in which the node's folder is made.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Makes the genesis document from the network file and everybody's public keys.
    Genesis {
        /// The network file.
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The folder with every node's public.toml.
        #[arg(long, value_name = "DIR")]
        participants: PathBuf,
        /// Where genesis.bin and genesis.json go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Completes one node's folder from its keys, the public keys and the genesis document.
    Node {
        /// The network file.
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The folder with every node's public.toml.
        #[arg(long, value_name = "DIR")]
        participants: PathBuf,
        /// The genesis document.
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        /// The node's name in the network file.
        #[arg(long, value_name = "NAME")]
        node: String,
        /// The folder in which the node's folder is.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(args: InitArgs) -> Result<()> {
    match args.step {
        None => {
            let (Some(network), Some(out)) = (args.network, args.out) else { bail!("--network and --out are needed") };
            init_all(&network, &out, args.port_offset)
        }
        Some(Step::Keys { network, node, out }) => {
            let network = network_file::load(&network, 0)?;
            let Some(spec) = network.node(&node) else {
                bail!("`--node {node}`: the network file has no such node");
            };
            let dir = out.join(&node);
            folder::make_keys(spec, network.suite(spec), &dir)?;
            println!(
                "keys made in {}; send {} to the other operators",
                dir.join("keys").display(),
                dir.join("public.toml").display()
            );
            Ok(())
        }
        Some(Step::Genesis { network, participants, out }) => {
            let network = network_file::load(&network, 0)?;
            let publics = read_publics(&participants)?;
            let genesis = found(&network, &publics)?;
            std::fs::create_dir_all(&out).with_context(|| format!("{}: cannot make the folder", out.display()))?;
            folder::write_genesis(&genesis, &out)?;
            println!(
                "chain id {}\nsend {} to the other operators",
                genesis.chain_id(),
                out.join("genesis.bin").display()
            );
            Ok(())
        }
        Some(Step::Node { network, participants, genesis: file, node, out }) => {
            let network = network_file::load(&network, 0)?;
            let publics = read_publics(&participants)?;
            let given = crate::genesis::read(&file)?;
            let own = genesis::build(&network, &publics, given.salt, given.time_ms)
                .map_err(|error| error.in_file(Path::new("network file")))?;
            ensure!(
                own == given,
                "{}: differs from what the network file and the public keys give\n  way out: get network file, public keys and genesis from the same round; compare the genesis.json of both sides",
                file.display()
            );
            let dir = out.join(&node);
            folder::make_node(&network, &publics, &given, &node, &dir, &[])?;
            println!(
                "chain id {}\nstart it: anji node --config {}",
                given.chain_id(),
                dir.join("config.toml").display()
            );
            Ok(())
        }
    }
}

fn init_all(file: &Path, out: &Path, port_offset: u16) -> Result<()> {
    let network = network_file::load(file, port_offset)?;
    let taken = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !taken,
        "{}: the folder is not empty\n  way out: nothing is ever overwritten; choose another --out, or remove the old network yourself",
        out.display()
    );
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot make the folder", out.display()))?;
    let mut publics = Publics::new();
    for node in &network.nodes {
        let keys = folder::make_keys(node, network.suite(node), &out.join(&node.name))?;
        publics.insert(node.name.clone(), keys);
    }
    let genesis = found(&network, &publics)?;
    let mut witnesses = Vec::new();
    for witness in &network.witnesses {
        let name = format!("{}/{}", network.name, witness.name);
        let key = crate::cli::witness::make(&genesis, &name, witness.listen, &out.join(&witness.name))?;
        witnesses.push(WitnessConfig { url: format!("http://{}", witness.listen), key: key.to_string() });
    }
    for node in &network.nodes {
        folder::make_node(&network, &publics, &genesis, &node.name, &out.join(&node.name), &witnesses)?;
    }
    let summary = serde_json::to_string_pretty(&summary(&network, &genesis))? + "\n";
    folder::write_new(&out.join("network.json"), 0o644, summary.as_bytes())?;
    println!("network `{}`, chain id {}", genesis.name, genesis.chain_id());
    for node in &network.nodes {
        let role = if node.power > 0 { "validator" } else { "observer" };
        let log = node.log_http.map(|it| format!("  log http://{it}/checkpoint")).unwrap_or_default();
        println!("  {:<12} {role:<9} gRPC {}  metrics {}{log}", node.name, node.grpc, node.metrics);
    }
    println!("made in {}", out.display());
    Ok(())
}

/// A genesis document with fresh salt and the time of now, checked by the ledger's own rules.
fn found(network: &NetworkFile, publics: &Publics) -> Result<Genesis> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).context("the system gives no randomness")?;
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970\n  way out: set the clock")?;
    let time_ms = u64::try_from(now.as_millis()).context("the clock is beyond all reason\n  way out: set the clock")?;
    let genesis =
        genesis::build(network, publics, salt, time_ms).map_err(|error| error.in_file(Path::new("network file")))?;
    if let Err(problem) = genesis_writes(&genesis) {
        bail!("the network file gives no valid genesis: {problem}\n  way out: correct that field of the network file");
    }
    Ok(genesis)
}

/// Every `*.toml` in the folder, and `*/public.toml` below it.
fn read_publics(dir: &Path) -> Result<Publics> {
    let mut publics = Publics::new();
    let entries = std::fs::read_dir(dir).with_context(|| format!("{}: cannot be read", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|it| it.path()))
        .map(|path| if path.is_dir() { path.join("public.toml") } else { path })
        .filter(|path| path.extension().is_some_and(|it| it == "toml") && path.is_file())
        .collect();
    files.sort();
    for file in files {
        let keys = genesis::read_public(&file)?;
        if let Some(other) = publics.insert(keys.node.clone(), keys) {
            bail!(
                "{}: a second file for node `{}`\n  way out: keep the one its operator vouches for",
                file.display(),
                other.node
            );
        }
    }
    Ok(publics)
}

/// Where everything is, for scripts.
fn summary(network: &NetworkFile, genesis: &Genesis) -> serde_json::Value {
    let nodes: Vec<_> = network
        .nodes
        .iter()
        .map(|node| {
            let spec = network.participants.iter().find(|it| it.name == node.participant);
            json!({
                "name": node.name,
                "participant": node.participant,
                "participant_id": network.participant_id(&node.participant).map(|id| id.0),
                "role": spec.map(|it| it.role.clone()),
                "power": node.power,
                "p2p": node.p2p,
                "grpc": node.grpc.to_string(),
                "metrics": node.metrics.to_string(),
                "adapter_grpc": node.adapter_grpc.map(|it| it.to_string()),
                "adapter_metrics": node.adapter_metrics.map(|it| it.to_string()),
                "log_http": node.log_http.map(|it| it.to_string()),
            })
        })
        .collect();
    let participants: Vec<_> = network
        .participants
        .iter()
        .map(|it| json!({ "id": network.participant_id(&it.name).map(|id| id.0), "name": it.name, "role": it.role }))
        .collect();
    let witnesses: Vec<_> =
        network.witnesses.iter().map(|it| json!({ "name": it.name, "listen": it.listen.to_string() })).collect();
    json!({
        "name": network.name,
        "chain_id": genesis.chain_id().to_string(),
        "currency": network.currency,
        "window_length_ms": network.rules.window_length_ms,
        "participants": participants,
        "nodes": nodes,
        "witnesses": witnesses,
    })
}

#[cfg(test)]
mod tests;
