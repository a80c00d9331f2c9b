//! One payment on an otherwise idle network, again and again, at random moments: from the call to the receipt.

use super::Common;
use super::client;
use super::load::latency_rows;
use super::rows::quantile;
use super::setup::Session;
use anyhow::Result;
use clap::Args;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct AloneArgs {
    #[command(flatten)]
    common: Common,
    /// What the rows are called.
    #[arg(long, default_value = "one_alone")]
    name: String,
    /// Payments of a window.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Windows.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    windows: u32,
    /// Milliseconds between an answer and the next payment, on average; evenly from none to twice that.
    #[arg(long, default_value_t = 150)]
    pause_ms: u32,
    /// The network executes nothing (`[benchmark] bare`).
    #[arg(long)]
    bare: bool,
}

pub(super) async fn run(args: &AloneArgs) -> Result<()> {
    let mut session = Session::open(&args.common.network_dir, args.bare).await?;
    let mut windows = Vec::new();
    super::scrape::quiet().await;
    for number in 1..=args.windows {
        let mut taken = Vec::new();
        let mut told = Instant::now();
        for index in 0..args.count {
            let pause = f64::from(args.pause_ms) * 2.0 * rand::random::<f64>();
            tokio::time::sleep(Duration::from_secs_f64(pause / 1000.0)).await;
            let batch = session.signer.sign(&session.plan.pay(&session.mandates, u64::from(index), 1))?;
            let started = Instant::now();
            let receipts = session.client.submit(batch).await?;
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            taken.push(ms);
            if !args.bare {
                client::all_done(&receipts)?;
            }
            if ms > 200.0 {
                eprintln!("{}: {ms:.0} ms for the one in height {}", args.name, receipts.height);
            }
            if told.elapsed() > Duration::from_secs(3) {
                told = Instant::now();
                eprintln!(
                    "{}: window {number}, {} of {}, p50 {:.1} ms",
                    args.name,
                    index + 1,
                    args.count,
                    quantile(&taken, 0.5)
                );
            }
        }
        windows.push(taken);
    }
    let note = format!("one at a time, {} ms apart on average", args.pause_ms);
    args.common.rows().add(&latency_rows(&args.name, &windows, &note))
}
