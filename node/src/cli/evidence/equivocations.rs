//! Proofs that validators signed two things that exclude each other: read from a data folder, checked, and written out.

use crate::{app, genesis};
use anji_checkpoints::read_equivocations;
use anji_contracts::codec;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

const LONG: &str = "\
Shows what validators signed that excludes each other, as a node found it, with a check of every proof. Reads the data folder of a running
or stopped node and changes nothing.

  anji evidence equivocations --data net/issuer/data --genesis net/issuer/genesis.bin --out equivocations.json

A proof verifies with the validator's public key alone; proto/FORMAT.md section 9 describes its bytes.";

/// The command's arguments.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct EquivocationsArgs {
    /// The node's data folder
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// The genesis document: it names the validators
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Writes all of them into this new file, as JSON with the proofs in hex
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command. `Ok(false)`: a proof does not hold.
pub(crate) fn run(args: &EquivocationsArgs) -> Result<bool> {
    let genesis = genesis::read(&args.genesis)?;
    let (chain_id, validators) = (genesis.chain_id(), app::validator_set(&genesis)?);
    let all = read_equivocations(&args.data).with_context(|| format!("{}: cannot be read", args.data.display()))?;
    let mut rows = Vec::new();
    let mut all_hold = true;
    for it in &all {
        let checked = it.check(&chain_id, &validators);
        all_hold &= checked.is_ok();
        let verdict = checked.map_or_else(|error| format!("DOES NOT HOLD: {error}"), |()| String::from("proven"));
        let participant = validators.get(&it.validator()).map(|it| it.participant.0);
        println!("validator {} signed {}: {verdict}", it.validator(), it.subject());
        rows.push(json!({
            "validator": it.validator().to_string(),
            "participant": participant,
            "subject": it.subject(),
            "verdict": verdict,
            "proof": hex::encode(codec::encode(it)),
        }));
    }
    if all.is_empty() {
        println!("this node has found none");
    }
    if let Some(out) = &args.out {
        let page = json!({ "chain_id": chain_id.to_string(), "equivocations": rows });
        let text = serde_json::to_string_pretty(&page)? + "\n";
        crate::cli::init::write_new(out, 0o644, text.as_bytes())?;
    }
    Ok(all_hold)
}
