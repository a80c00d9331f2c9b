//! `anji node`: runs a node until it is told to stop or must stop.

use crate::{app, config, logging, process};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

const LONG: &str = "\
Runs a node: it agrees with its peers on blocks, keeps the ledger, and serves wallets and operators over gRPC.

  anji node --config net/acquirer/config.toml

It starts from any crash by itself: what was decided is on its disk, the state is rebuilt from there. A validator whose data folder was
wiped or restored follows without voting until it is past every height it could have signed, and says so.

SIGTERM or Ctrl-C stops it in order and flushes the state; a second one ends it at once, which is safe too. Look at it with
`curl ADDRESS/health` and `curl ADDRESS/metrics` (`metrics.listen` in the config).";

/// `anji node`.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct NodeArgs {
    /// The configuration file; `anji init` writes one with every field explained.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs until it is told to stop.
pub(crate) fn run(args: &NodeArgs) -> Result<()> {
    let config = config::load(&args.config)?;
    logging::start(config.log.format, &config.log.filter)?;
    logging::abort_on_panic();
    let result = process::block_on(app::run(config));
    if let Err(error) = &result {
        tracing::error!("the node stops: {error:#}");
    }
    result
}
