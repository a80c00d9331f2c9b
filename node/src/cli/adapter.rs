//! `anji adapter`: serves one participant's systems until it is told to stop.

use crate::metrics::{Health, HealthSource, Page};
use crate::{logging, metrics, process};
use anji_adapters::{Adapter, config};
use anyhow::Result;
use clap::Args;
use prometheus_client::registry::Registry;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const LONG: &str = "\
Serves one participant's systems: plain requests in, the ledger's answers out, over gRPC (proto/anji/v1/adapter.proto).

The adapter holds the participant's signing key. Each request is fixed to one operation in a durable outbox before anything is sent,
so that repeating a request, a crash or a restart never makes it act twice. It may be started before its node and outlive it.

  anji adapter --config net/acquirer/adapter.toml

SIGTERM or Ctrl-C stops it; callers are told that their requests are open, and the next start sees them through.";

/// `anji adapter`.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct AdapterArgs {
    /// The configuration file; `anji init` writes one with every field explained.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs until it is told to stop.
pub(crate) fn run(args: &AdapterArgs) -> Result<()> {
    let config = config::load(&args.config)?;
    logging::start(config.log.format, &config.log.filter)?;
    logging::abort_on_panic();
    process::block_on(serve(config))
}

async fn serve(config: config::AdapterConfig) -> Result<()> {
    let stop = CancellationToken::new();
    process::stop_on_signal(stop.clone())?;
    let mut registry = Registry::default();
    let page = Page::default();
    let monitoring = metrics::bind(config.metrics.listen).await?;
    let monitored = tokio::spawn(metrics::serve(monitoring, page.clone(), stop.clone()));
    let adapter = Adapter::start(config, &mut registry, stop.clone()).await?;
    let status = adapter.status();
    let health: HealthSource = Arc::new(move || {
        let reasons = status.troubles();
        let details = serde_json::Map::from_iter([(String::from("height"), status.height().into())]);
        Health { reasons, details }
    });
    page.fill(Arc::new(registry), health, metrics::no_more);
    let result = adapter.stopped().await;
    stop.cancel();
    process::finish("monitoring", monitored).await;
    Ok(result?)
}
