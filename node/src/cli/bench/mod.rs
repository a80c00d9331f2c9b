//! `anji bench`: load on a running network, through gRPC as any wallet would send it, and what the nodes say they spent on it.
//!
//! Each subcommand measures one thing and appends rows to a file; `devnet/bench` runs networks around them, in the order that makes the
//! figures comparable, and `report` sets the rows against the bars. Nothing here decides whether a change is good: it prints.

mod alone;
mod catch_up;
mod client;
mod evidence;
mod grow;
mod load;
mod open_loop;
mod plot;
mod report;
mod rows;
mod scrape;
mod setup;
mod signatures;
mod work;

use anyhow::Result;
use clap::{Args, Subcommand};
use std::path::PathBuf;

const LONG: &str = "\
Puts load on a running network and measures it. It speaks gRPC to the acquirer's and the issuer's node with the keys and tokens of the
network folder, so it is for networks made by `anji init` on one machine, not for one in earnest. `devnet/bench` runs all of it.

  anji bench setup --network-dir NET
  anji bench load --network-dir NET --name pay --batch 1000 --windows 3 --seconds 10
  anji bench open --network-dir NET --name half_load --rate 8000

Every payment is a real one: a mandate with guarantee, assertion, consent and disclosure behind it, all checks on, the answer given
after the block is durable and executed on the node that answers.";

/// `anji bench`.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Opens the mandates that the other commands pay on
    Setup(setup::SetupArgs),
    /// Closed loop: as many payments a second as the network takes
    Load(load::LoadArgs),
    /// Open loop: payments arrive when they arrive (Poisson), and how long each takes
    Open(open_loop::OpenArgs),
    /// One payment at a time on an idle network
    Alone(alone::AloneArgs),
    /// How fast a node that was away catches up
    CatchUp(catch_up::CatchUpArgs),
    /// How long it takes to make and to check a bundle of evidence
    Evidence(evidence::EvidenceArgs),
    /// How fast this machine verifies signatures, alone and in batches
    Signatures(signatures::SignaturesArgs),
    /// Writes a large ledger through the real execution path
    Grow(grow::GrowArgs),
    /// A figure of the rows, for scripts
    Value(report::ValueArgs),
    /// The table and the JSON, with the bars
    Report(report::ReportArgs),
    /// Growth as an SVG
    Plot(plot::PlotArgs),
}

/// Which network, and where the figures go.
#[derive(Args)]
struct Common {
    /// The folder that `anji init` made.
    #[arg(long, value_name = "DIR")]
    network_dir: PathBuf,
    /// Appends the figures to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
}

impl Common {
    fn rows(&self) -> rows::Rows {
        rows::Rows(self.rows.clone())
    }
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match &args.command {
        Command::Setup(args) => crate::process::block_on(setup::run(args)),
        Command::Load(args) => crate::process::block_on(load::run(args)),
        Command::Open(args) => crate::process::block_on(open_loop::run(args)),
        Command::Alone(args) => crate::process::block_on(alone::run(args)),
        Command::CatchUp(args) => catch_up::run(args),
        Command::Evidence(args) => crate::process::block_on(evidence::run(args)),
        Command::Signatures(args) => signatures::run(args),
        Command::Grow(args) => grow::run(args),
        Command::Value(args) => report::value(args),
        Command::Report(args) => report::run(args),
        Command::Plot(args) => plot::run(args),
    }
}
