//! `anji witness`: an outside witness of this ledger's log, or of any log that speaks C2SP tlog-witness.

use crate::cli::init::write_new;
use crate::config::is_witness_name;
use crate::{genesis, logging, process};
use anji_adapters::config::{DEFAULT_LOG_FILTER, LogConfig, LogFormat};
use anji_adapters::keys::{PrivateKey, Purpose};
use anji_adapters::settings;
use anji_adapters::settings::{commented, resolve};
use anji_checkpoints::{TrustedLog, Witness, WitnessKey, serve_witness};
use anji_contracts::Genesis;
use anji_verify::checkpoint::{log_key, origin};
use anji_verify::note::VerifierKey;
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const LONG: &str = "\
Runs an outside witness: it is sent checkpoints of the log, checks that each continues the one before, and cosigns. It holds no
ledger and trusts no node. A log that shows two histories gets no second cosignature, and what it showed is kept in `state/evidence`.

  anji witness init --genesis net/genesis.bin --name witness.example/w1 --listen 127.0.0.1:27090 --out witness
  anji witness run --config witness/witness.toml

It speaks C2SP tlog-witness over plain HTTP (`POST /add-checkpoint`). Nodes find it in their config under [[witnesses]]; the line to put
there is shown at start. Its state folder must never be restored from a backup or deleted: a witness that forgets can cosign a fork.";

/// `anji witness`.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct WitnessArgs {
    #[command(subcommand)]
    command: WitnessCommand,
}

#[derive(Subcommand)]
enum WitnessCommand {
    /// Makes a key and a configuration that trusts the validators of a genesis document
    Init(InitArgs),
    /// Runs until it is told to stop
    Run(RunArgs),
}

#[derive(Args)]
struct InitArgs {
    /// The genesis document of the ledger
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Name of the witness's key, by custom a URL without its scheme
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The folder to make
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Args)]
struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

settings! {
    /// Everything a witness is told.
    struct WitnessFile {
        values {
            /// Name of its key, by custom a URL without its scheme.
            name: String,
            /// Address to listen on.
            listen: SocketAddr,
            /// Its private key.
            key: PathBuf = PathBuf::from("keys/witness.key"),
            /// What it has cosigned. Never restore it from a backup, never delete it: a witness that forgets can cosign a fork.
            state: PathBuf = PathBuf::from("state"),
        }
        sections {
            /// Logs go to standard error.
            log: LogConfig,
        }
        lists {
            /// The logs that it cosigns.
            logs: LogSpec,
        }
    }
}

settings! {
    /// One log.
    struct LogSpec { values {
        /// Its name: the first line of its checkpoints.
        origin: String,
        /// Its keys, `name+id+base64`; of a ledger, those of its validators.
        keys: Vec<String>,
        /// How many different keys of these must have signed a checkpoint; for a ledger, more than two thirds.
        required: u32 = 1,
    } }
}

/// Runs the subcommand.
pub(crate) fn run(args: &WitnessArgs) -> Result<()> {
    match &args.command {
        WitnessCommand::Init(args) => {
            let key = make(&genesis::read(&args.genesis)?, &args.name, args.listen, &args.out)?;
            println!("made {}", args.out.join("witness.toml").display());
            println!(
                "for the nodes that submit to it:\n\n[[witnesses]]\nurl = \"http://{}\"\nkey = \"{key}\"",
                args.listen
            );
            Ok(())
        }
        WitnessCommand::Run(args) => {
            let config: WitnessFile = settings::read(&args.config)?;
            logging::start(config.log.format, &config.log.filter)?;
            logging::abort_on_panic();
            process::block_on(serve(args.config.clone(), config))
        }
    }
}

/// Makes a witness's folder; returns what others verify its cosignatures with.
pub(crate) fn make(genesis: &Genesis, name: &str, listen: SocketAddr, out: &Path) -> Result<VerifierKey> {
    ensure!(
        is_witness_name(name),
        "`--name {name}`: not a name for a key\n  way out: 1 to 100 printable characters without spaces and `+`, such as witness.example/w1"
    );
    ensure!(
        !out.join("witness.toml").exists(),
        "{}: exists already\n  way out: nothing is overwritten; choose another --out",
        out.display()
    );
    let keys = out.join("keys");
    std::fs::create_dir_all(&keys).with_context(|| format!("{}: cannot make the folder", keys.display()))?;
    let key = PrivateKey::generate(Purpose::Witness)?;
    key.write_new(&keys.join("witness.key"))?;
    let validators = crate::app::validator_set(genesis)?;
    let chain_id = genesis.chain_id();
    let all = validators.validators();
    // More than two thirds of the power, whoever they are: so many that the least powerful of them have it.
    let mut powers: Vec<u64> = all.iter().map(|it| it.power).collect();
    powers.sort_unstable();
    let total = validators.total_power();
    let enough = |n: usize| anji_verify::is_more_than_two_thirds(powers.iter().take(n).sum(), total);
    let required = (1..=all.len()).find(|n| enough(*n)).unwrap_or(all.len());
    let log = LogSpec {
        origin: origin(&chain_id),
        keys: all.iter().map(|it| log_key(&chain_id, it).to_string()).collect(),
        required: u32::try_from(required)?,
    };
    let config = WitnessFile {
        name: name.to_owned(),
        listen,
        key: PathBuf::from("keys/witness.key"),
        state: PathBuf::from("state"),
        log: LogConfig { format: LogFormat::Text, filter: String::from(DEFAULT_LOG_FILTER) },
        logs: vec![log],
    };
    let head = "Configuration of a witness. Start it with `anji witness run --config` and this file.";
    write_new(&out.join("witness.toml"), 0o644, commented(&config, head).as_bytes())?;
    Ok(WitnessKey::new(name, key.seed())?.verifier())
}

async fn serve(file: PathBuf, config: WitnessFile) -> Result<()> {
    let stop = CancellationToken::new();
    process::stop_on_signal(stop.clone())?;
    let seed = PrivateKey::read(&resolve(&file, &config.key), Purpose::Witness)?;
    let key = WitnessKey::new(&config.name, seed.seed())?;
    let mut logs = Vec::new();
    for log in &config.logs {
        let keys: Result<Vec<VerifierKey>, _> = log.keys.iter().map(|key| VerifierKey::parse(key)).collect();
        let keys = keys.map_err(|error| anyhow::anyhow!("{}: log `{}`: {error}", file.display(), log.origin))?;
        logs.push(TrustedLog { origin: log.origin.clone(), keys, required: log.required as usize });
    }
    let witness = Arc::new(Witness::open(key, logs, &resolve(&file, &config.state))?);
    let listener = anji_checkpoints::bind_log_http(config.listen).await;
    let listener = listener.with_context(|| format!("`listen = {}` cannot be opened", config.listen))?;
    tracing::info!(listen = %config.listen, key = %witness.verifier(), "anji witness");
    serve_witness(witness, listener, stop).await;
    Ok(())
}
