//! `anji evidence`: pins the validators, asks a node for bundles, checks them and says what they prove. Checking needs no node.

mod ask;
mod equivocations;
pub(super) mod get;
mod trust;

use anji_verify::bundle::{self, Proven, Statement, Trust};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Exit code of evidence that does not hold.
pub(crate) const DOES_NOT_HOLD: u8 = 65;

const LONG: &str = "\
Evidence that stands alone: one file that proves facts of the ledger to anybody who knows its validators, offline and at any age.

  anji evidence trust --genesis net/regulator/genesis.bin --out trust.json
      once: pins the ledger and its validators. Compare the chain id with other operators; everything is judged by this file

  anji evidence get --node http://127.0.0.1:27003 --token net/acquirer/tokens/wallet.token \\
      --out payment.evidence payment 1-0192f0c4a5b60000000000000000002a
      asks a node, any node, for a bundle: the payment's operation with its signature, and the payment as it stands

  anji evidence verify payment.evidence --trust trust.json      exit code 0, or 65 and what failed
  anji evidence explain payment.evidence --trust trust.json     the same, then in sentences what is proven and by whom

Who signs what: the participant its operation, the validators (more than two thirds of the power) the log that holds the answer, twice:
as a checkpoint, and as votes for a header that carries the same root. The node that made the bundle signs nothing and is not trusted.

Exit codes: 0 it holds; 65 it does not, the message names the part; 1 a file or a node cannot be read; 2 the command line.";

/// `anji evidence`.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct EvidenceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a trust file out of the genesis document
    Trust(trust::TrustArgs),
    /// Asks a node for a bundle
    Get(get::GetArgs),
    /// Checks a bundle with nothing but a trust file
    Verify(CheckArgs),
    /// Checks a bundle and says in words what it proves and by whom
    Explain(CheckArgs),
    /// Shows and writes out what validators signed that excludes each other
    Equivocations(equivocations::EquivocationsArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// The bundle; `-` reads standard input.
    file: PathBuf,
    /// The trust file that `anji evidence trust` made.
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// Prints one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs a command. `Ok(false)`: the evidence does not hold.
pub(crate) fn run(args: &EvidenceArgs) -> Result<bool> {
    match &args.command {
        Command::Trust(args) => trust::run(args).map(|()| true),
        Command::Get(args) => get::run(args),
        Command::Verify(args) => check(args, false),
        Command::Explain(args) => check(args, true),
        Command::Equivocations(args) => equivocations::run(args),
    }
}

fn check(args: &CheckArgs, in_words: bool) -> Result<bool> {
    let trust = trust::read(&args.trust)?;
    let bytes = read_bundle(&args.file)?;
    Ok(judge(&bytes, &trust, in_words, args.json))
}

/// Reads at most what a bundle may have and a byte, so that a wrong file does not fill the memory.
fn read_bundle(file: &Path) -> Result<Vec<u8>> {
    let limit = bundle::MAX_BUNDLE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("{}: cannot be read", file.display()))?;
    ensure!(!bytes.is_empty(), "{}: empty\n  way out: name the file that `anji evidence get` wrote", file.display());
    Ok(bytes)
}

/// Checks a bundle and prints the outcome.
fn judge(bytes: &[u8], trust: &Trust, in_words: bool, as_json: bool) -> bool {
    match bundle::verify(bytes, trust) {
        Ok(proven) if as_json => println!("{:#}", as_value(&proven, trust)),
        Ok(proven) if in_words => println!("{}", proven.words(trust).join("\n\n")),
        Ok(proven) => println!("{}", summary(&proven)),
        Err(error) if as_json => {
            println!("{:#}", json!({ "holds": false, "failed": error.to_string() }));
            return false;
        }
        Err(error) => {
            println!("DOES NOT HOLD: {error}");
            return false;
        }
    }
    true
}

fn summary(proven: &Proven) -> String {
    let mut lines = vec![format!(
        "holds: {} {} proven after block {} of {} ({} of {} validators cosigned)",
        proven.statements.len(),
        if proven.statements.len() == 1 { "statement" } else { "statements" },
        proven.height,
        proven.chain_id,
        proven.signers.len(),
        proven.n_validators
    )];
    lines.extend(proven.statements.iter().map(|statement| format!("  {}", subject(statement))));
    lines.join("\n")
}

/// What a statement is about, in one line.
fn subject(statement: &Statement) -> String {
    match statement {
        Statement::Operation { signer, op, receipt, .. } => {
            format!("operation {}-{} {}: {}", signer.id, op.op_id, op.body.name(), answer(&receipt.result))
        }
        Statement::State { entry, at, .. } => {
            let when = at.map_or_else(|| String::from("then"), |at| format!("after block {}", at.height));
            format!("state of {}: version {} {when}", bundle::subject(&entry.key), entry.version)
        }
        Statement::Absence { window, payment, .. } => format!("payment {payment} is not in window {window}"),
    }
}

fn answer(result: &anji_contracts::OpResult) -> String {
    match result {
        anji_contracts::OpResult::Done(key) => format!("done, {}", bundle::subject(key)),
        anji_contracts::OpResult::Refused(reject) => format!("refused, {reject}"),
    }
}

fn as_value(proven: &Proven, trust: &Trust) -> Value {
    let signers: Vec<Value> = proven
        .signers
        .iter()
        .map(|it| json!({ "participant": it.participant.0, "address": it.address.to_string(), "time_s": it.time_s }))
        .collect();
    let statements: Vec<Value> = proven.statements.iter().map(statement_value).collect();
    json!({
        "holds": true, "chain_id": proven.chain_id.to_string(), "height": proven.height, "time_ms": proven.time_ms,
        "log": { "size": proven.log.size, "root": proven.log.root.to_string() },
        "validators": proven.n_validators, "precommits": proven.n_precommits, "set_changes": proven.n_set_changes,
        "cosigners": signers, "statements": statements, "words": proven.words(trust),
    })
}

fn statement_value(statement: &Statement) -> Value {
    match statement {
        Statement::Operation { signer, key, op, receipt, batch_index, made } => json!({
            "kind": "operation", "participant": signer.id.0, "key": key.0, "operation": op.op_id.to_string(),
            "name": op.body.name(), "result": result_value(&receipt.result), "height": receipt.height,
            "time_ms": receipt.time_ms, "batch_index": batch_index, "made_index": made.as_ref().map(|(index, _)| index),
        }),
        Statement::State { index, entry, at, replaced } => json!({
            "kind": "state", "entity": bundle::subject(&entry.key), "version": entry.version, "index": index,
            "height": at.map(|at| at.height), "replaced_by_index": replaced, "state": format!("{:?}", entry.state),
        }),
        Statement::Absence { window, payment, n_payments, index } => json!({
            "kind": "absence", "window": window.0, "payment": payment.to_string(), "payments_in_window": n_payments,
            "index": index,
        }),
    }
}

fn result_value(result: &anji_contracts::OpResult) -> Value {
    match result {
        anji_contracts::OpResult::Done(key) => json!({ "done": bundle::subject(key) }),
        anji_contracts::OpResult::Refused(reject) => json!({ "refused": reject.code(), "name": reject.name() }),
    }
}
