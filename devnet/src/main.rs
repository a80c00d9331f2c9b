//! `anji-devnet`: the people of the devnet. It knows the network only as the world does: gRPC, files and processes.
//! The scripts beside it call it; `play.rs` is where a day of business happens, `check.rs` where it is judged.

mod book;
mod check;
mod connect;
mod generate;
mod network;
mod orders;
mod people;
mod play;

use anyhow::{Context, Result, bail};
use check::{Check, Summary};
use clap::{Parser, Subcommand};
use network::Network;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Shopper, merchant, issuer's desk and clearing desk of the devnet.
#[derive(Parser)]
#[command(name = "anji-devnet")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes orders.csv and shoppers.csv for a seed.
    Orders {
        /// The same seed gives the same files.
        #[arg(long, default_value_t = 20_260_101)]
        seed: u64,
        /// Folder to write into.
        #[arg(long)]
        out: PathBuf,
    },
    /// Fails if an address of the network is already in use.
    Ports(Net),
    /// Waits until nodes or adapters answer.
    Wait {
        #[command(flatten)]
        net: Net,
        /// Wait for the nodes, with all their peers connected.
        #[arg(long)]
        nodes: bool,
        /// Wait for the adapters.
        #[arg(long)]
        adapters: bool,
        /// Give up after this many seconds.
        #[arg(long, default_value_t = 30)]
        timeout_s: u64,
    },
    /// Prints where everything listens.
    Addresses(Net),
    /// Prints how every node stands; fails unless all answer with equal roots.
    Status(Net),
    /// Links one shopper and settles one payment.
    FirstPayment(Net),
    /// Plays the orders, closes two windows, checks everything that can be checked while the network runs.
    Play {
        #[command(flatten)]
        net: Net,
        /// The orders file.
        #[arg(long)]
        orders: PathBuf,
        /// The shoppers file.
        #[arg(long)]
        shoppers: PathBuf,
        /// Where the summary goes.
        #[arg(long)]
        summary: PathBuf,
    },
    /// After the network has stopped: scans every node's folder and completes the summary.
    Conclude {
        #[command(flatten)]
        net: Net,
        /// The node's program.
        #[arg(long)]
        anji: PathBuf,
        /// What `play` wrote.
        #[arg(long)]
        part: PathBuf,
        /// Where the complete summary goes.
        #[arg(long)]
        summary: PathBuf,
    },
}

#[derive(clap::Args)]
struct Net {
    /// The folder that `anji init --out` wrote.
    #[arg(long = "net")]
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write_json(file: &Path, summary: &Summary) -> Result<()> {
    let text = serde_json::to_string_pretty(summary)? + "\n";
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// True if everything asked for holds.
async fn run(command: Command) -> Result<bool> {
    match command {
        Command::Orders { seed, out } => {
            let (shoppers, orders) = generate::generate(seed);
            std::fs::write(out.join("orders.csv"), orders::to_text(orders::ORDERS_HEADER, &orders))?;
            std::fs::write(out.join("shoppers.csv"), orders::to_text(orders::SHOPPERS_HEADER, &shoppers))?;
            println!("{} orders of {} shoppers", orders.len(), shoppers.len());
        }
        Command::Ports(net) => Network::load(&net.folder)?.check_ports()?,
        Command::Wait { net, nodes, adapters, timeout_s } => {
            let network = Network::load(&net.folder)?;
            if nodes {
                network.wait_nodes(Duration::from_secs(timeout_s)).await?;
            }
            if adapters {
                network.wait_adapters(Duration::from_secs(timeout_s)).await?;
            }
        }
        Command::Addresses(net) => Network::load(&net.folder)?.print_addresses(),
        Command::Status(net) => return Ok(Network::load(&net.folder)?.print_status().await),
        Command::FirstPayment(net) => play::first_payment(&Network::load(&net.folder)?).await?,
        Command::Play { net, orders, shoppers, summary } => {
            let network = Network::load(&net.folder)?;
            let orders = orders::load(&orders, orders::ORDERS_HEADER)?;
            let shoppers = orders::load(&shoppers, orders::SHOPPERS_HEADER)?;
            let play = play::Play::open(&network, orders, shoppers).await?;
            let done = check::run(&play, &network).await?;
            write_json(&summary, &done)?;
            return Ok(check::print_checks(&done.checks));
        }
        Command::Conclude { net, anji, part, summary } => {
            let text = std::fs::read_to_string(&part);
            let Ok(text) = text else { bail!("{} does not exist: the play did not end", part.display()) };
            let mut done: Summary = serde_json::from_str(&text).context("the part of the summary is damaged")?;
            let scans = Network::load(&net.folder)?.inspect(&anji).into_iter();
            let scans: Vec<Check> = scans
                .map(|(name, it)| Check::from_result(format!("all invariants hold in the folder of {name}"), it))
                .collect();
            check::print_checks(&scans);
            done.checks.extend(scans);
            write_json(&summary, &done)?;
            std::fs::remove_file(&part)?;
            let broken = done.checks.iter().filter(|check| !check.holds).count();
            println!("\n{} checks, {broken} broken; summary in {}", done.checks.len(), summary.display());
            return Ok(broken == 0);
        }
    }
    Ok(true)
}
