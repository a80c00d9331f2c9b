//! `anji`: the node, its adapter and their tools in one binary. Arguments, exit codes and nothing else; see [`cli`] for the commands.

mod app;
mod cli;
mod config;
mod genesis;
mod logging;
mod metrics;
mod node_callers;
mod ports;
mod process;
mod view;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const ABOUT: &str = "A permissioned ledger node for cross-platform credit payments";

const LONG: &str = "\
A permissioned ledger node for cross-platform credit payments: platforms, credit issuers, service providers and a clearing party each
run one; together they keep one ledger.

First steps, on one machine:

  anji init --network devnet/networks/four.toml --out net
  anji node --config net/acquirer/config.toml        (one per node, each in its own terminal)
  anji adapter --config net/acquirer/adapter.toml
  anji inspect net/acquirer/data

`devnet/up` does all of that by itself.";

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   an error; the message names the cause and the way out
  2   the command line was not understood
  65  evidence does not hold; the message names the part
  70  the ledger does not add up: a broken invariant or a root that differs. The node stopped on purpose; do not start it again
      before the cause is known
  71  going on could sign twice: the consensus log cannot be trusted or written
  74  the disk: the data folder cannot be written or read; free space or repair it, then start again
  134 a panic; the data folder is safe to start again";

/// The ledger does not add up.
const BROKEN: u8 = 70;

#[derive(Parser)]
#[command(name = "anji", version, about = ABOUT, long_about = LONG, after_help = EXIT_CODES, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes keys, genesis and configuration
    Init(cli::init::InitArgs),
    /// Runs a node
    Node(cli::node::NodeArgs),
    /// Serves one participant's systems over gRPC, with its signing key
    Adapter(cli::adapter::AdapterArgs),
    /// Looks into a data folder and checks everything in it
    Inspect(cli::inspect::InspectArgs),
    /// Proves facts of the ledger with files that stand alone, and checks such files
    Evidence(cli::evidence::EvidenceArgs),
    /// Runs an outside witness that cosigns the log
    Witness(cli::witness::WitnessArgs),
    /// Puts load on a running network and measures it
    Bench(cli::bench::BenchArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Init(args) => cli::init::run(args),
        Command::Node(args) => cli::node::run(&args),
        Command::Adapter(args) => cli::adapter::run(&args),
        Command::Inspect(args) => match cli::inspect::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(BROKEN),
            Err(error) => Err(error),
        },
        Command::Evidence(args) => match cli::evidence::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(cli::evidence::DOES_NOT_HOLD),
            Err(error) => Err(error),
        },
        Command::Witness(args) => cli::witness::run(&args),
        Command::Bench(args) => cli::bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            error.downcast_ref::<app::Stopped>().map_or(ExitCode::FAILURE, |stopped| ExitCode::from(stopped.code))
        }
    }
}
