//! How fast a node that was away catches up: payments it executes a second from its first executed block until it is level with the others.

use super::Common;
use super::client;
use super::rows::Row;
use super::scrape;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct CatchUpArgs {
    #[command(flatten)]
    common: Common,
    /// What the row is called.
    #[arg(long, default_value = "catch_up")]
    name: String,
    /// The node that was just started again.
    #[arg(long)]
    node: String,
    /// Seconds until giving up.
    #[arg(long, default_value_t = 120)]
    timeout_s: u64,
}

const HEIGHT: &str = "anji_execution_height";
const OPS: &str = "anji_execution_ops_total";
/// Level is not more than so many blocks behind.
const LEVEL_BLOCKS: f64 = 2.0;

pub(super) fn run(args: &CatchUpArgs) -> Result<()> {
    let nodes = client::nodes(&args.common.network_dir)?;
    let late =
        nodes.iter().find(|it| it.name == args.node).with_context(|| format!("no node is named {}", args.node))?;
    let other =
        nodes.iter().find(|it| it.is_validator() && it.name != args.node).context("there is no other validator")?;
    let begun = Instant::now();
    let mut first: Option<(Instant, f64, f64)> = None;
    let mut told = begun;
    loop {
        ensure!(begun.elapsed() < Duration::from_secs(args.timeout_s), "{} did not catch up in time", args.node);
        std::thread::sleep(Duration::from_millis(50));
        // While it opens its data it does not answer yet.
        let Ok(counters) = scrape::counters(late.metrics) else { continue };
        let of = |name: &str| counters.get(name).copied().unwrap_or(0.0);
        let target = scrape::counters(other.metrics)?.get(HEIGHT).copied().unwrap_or(0.0);
        let (height, ops, now) = (of(HEIGHT), of(OPS), Instant::now());
        let (since, height_before, ops_before) = *first.get_or_insert((now, height, ops));
        if told.elapsed() > Duration::from_secs(3) {
            told = now;
            eprintln!("{}: {} is at height {height} of {target}", args.name, args.node);
        }
        if height + LEVEL_BLOCKS < target {
            // The clock starts with the first block: finding the peers is not replay.
            if height <= height_before {
                first = Some((now, height, ops));
            }
            continue;
        }
        let seconds = (now - since).as_secs_f64();
        let rate = (ops - ops_before) / seconds.max(0.05);
        let note = format!(
            "{:.0} payments in {:.0} blocks, {seconds:.1} s from the first, {:.1} s from its start",
            ops - ops_before,
            height - height_before,
            begun.elapsed().as_secs_f64()
        );
        return args.common.rows().add(&[Row::one(format!("{}_per_s", args.name), rate, "payments/s").with_note(note)]);
    }
}
