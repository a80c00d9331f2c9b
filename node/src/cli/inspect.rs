//! `anji inspect`: looks into a node's data folder and changes nothing. The ledger's own check of itself, and what an operator wants to
//! know of a payment, a mandate, a window or a participant without a running node.

use crate::config;
use anji_contracts::EntityKey;
use anji_contracts::entity::{Entity, Net, Payment, Position, Window};
use anji_contracts::entry::Cause;
use anji_contracts::types::{Amount, MandateId, OpId, ParticipantId, PaymentId, RefundId, ScopedId, WindowId};
use anji_execution::scan_invariants;
use anji_storage::open::{ReadOnly, StoreOptions};

use anji_storage::{Known, Reader, Store};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LONG: &str = "\
Looks into a node's data folder and changes nothing. It may run beside a running node; it then sees the state as of the node's last
flush, and says how far the block file is ahead. Stop the node first to see everything.

  anji inspect --config net/acquirer/config.toml              heights, roots, participants
  anji inspect --data net/acquirer/data invariants            the full check: every sum, index and root, recomputed from the entries
  anji inspect --data net/acquirer/data payment 1-0192f0c4…   one payment's history
  anji inspect --data net/acquirer/data window 3              nets of a window

`invariants` ends with exit code 0 only if everything holds, 70 otherwise.";

/// Versions shown of one entity.
const HISTORY: usize = 1000;
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// `anji inspect`.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct InspectArgs {
    /// The node's data folder.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data: Option<PathBuf>,
    /// The node's configuration file, which names the data folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Heights, roots and every participant's position (the default)
    Summary,
    /// Recomputes every sum, index and root from the entries
    Invariants,
    /// A payment's history; the id is PARTICIPANT-OPID as in the logs, the op id in hex
    Payment {
        /// Such as 1-0192f0c4a5b60000000000000000002a.
        id: String,
    },
    /// A mandate's history, and the use of its line
    Mandate {
        /// Such as 1-0192f0c4a5b60000000000000000002a.
        id: String,
    },
    /// A refund's history
    Refund {
        /// Such as 1-0192f0c4a5b60000000000000000002a.
        id: String,
    },
    /// A settlement window: times, nets and what each participant owes and is owed
    Window {
        /// Its number, from 1.
        number: u64,
    },
}

/// What was found: text for people, a value for programs, and whether all is well.
struct Finding {
    text: String,
    value: Value,
    holds: bool,
}

impl Finding {
    fn new(lines: &[String], value: Value) -> Self {
        Self { text: lines.join("\n"), value, holds: true }
    }
}

/// Prints what was asked for. `Ok(false)`: the full check found something that does not hold.
pub(crate) fn run(args: &InspectArgs) -> Result<bool> {
    let dir = match (&args.data, &args.config) {
        (Some(dir), _) => dir.clone(),
        (None, Some(file)) => config::load(file)?.data_dir,
        (None, None) => {
            bail!("which node?\n  way out: name its data folder (--data DIR) or its configuration (--config FILE)")
        }
    };
    let opened = Store::open_read_only(&dir, &StoreOptions::default())
        .with_context(|| format!("{}: cannot be opened for looking", dir.display()))?;
    let finding = match args.what.as_ref().unwrap_or(&What::Summary) {
        What::Summary => summary(&opened)?,
        What::Invariants => invariants(&opened, args.json)?,
        What::Payment { id } => history(&opened.reader, EntityKey::Payment(PaymentId(parse_id(id)?)))?,
        What::Refund { id } => history(&opened.reader, EntityKey::Refund(RefundId(parse_id(id)?)))?,
        What::Mandate { id } => mandate(&opened.reader, MandateId(parse_id(id)?))?,
        What::Window { number } => window(&opened.reader, WindowId(*number))?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&finding.value)?);
    } else {
        println!("{}", finding.text);
    }
    Ok(finding.holds)
}

/// Reads an id as it is printed.
pub(crate) fn parse_id(text: &str) -> Result<ScopedId> {
    let parse = || {
        let (participant, op_id) = text.split_once('-')?;
        let op_id = (op_id.len() == 32 && op_id.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(op_id, 16).ok())??;
        Some(ScopedId { participant: ParticipantId(participant.parse().ok()?), op_id: OpId(op_id) })
    };
    parse().with_context(|| {
        format!(
            "{text:?} is no id\n  way out: PARTICIPANT-OPID, such as 1-0192f0c4a5b60000000000000000002a (32 hex digits)"
        )
    })
}

fn money(amount: Amount) -> String {
    amount.to_string()
}

/// A sum in minor units as a decimal with two digits; sums may exceed an [`Amount`].
fn wide(amount: u128) -> String {
    format!("{}.{:02}", amount / 100, amount % 100)
}

fn signed(net: i128) -> String {
    format!("{}{}", if net < 0 { "-" } else { "" }, wide(net.unsigned_abs()))
}

fn summary(opened: &ReadOnly) -> Result<Finding> {
    let ReadOnly { chain, reader, blocks } = opened;
    let last =
        reader.last_block()?.context("the state holds no genesis yet: the node never finished its first start")?;
    let (executed, decided) = (last.height, blocks.decided_height());
    let usage = reader.disk_usage();
    let mut lines = vec![
        format!("chain            {chain}"),
        format!("decided height   {decided}"),
        format!("executed height  {executed}{}", behind(decided, executed)),
        format!("log              {} entries, root {}", last.log.size, last.log.root),
        format!("ledger time      {} ms", last.time_ms),
        format!("batches          {}, operations {}", last.n_batches_total, last.n_ops_total),
        format!("on disk          blocks {} bytes, state {} bytes", usage.blocks_bytes, usage.state_bytes),
        String::new(),
        format!("{:<4} {:<14} {:<16} {:>22} {:>22} {:>22}", "no.", "name", "role", "exposure", "cap", "liquidity"),
    ];
    let mut participants = Vec::new();
    for it in reader.participants()? {
        let position = match reader.entity(&EntityKey::Position(it.id))?.map(|known| known.entry.state) {
            Some(Entity::Position(position)) => position,
            _ => Position { participant: it.id, ..Position::default() },
        };
        let exposure = position.exposure().unwrap_or(u128::MAX);
        lines.push(format!(
            "{:<4} {:<14} {:<16} {:>22} {:>22} {:>22}",
            it.id.0,
            it.name,
            format!("{:?}", it.role),
            wide(exposure),
            money(position.cap),
            wide(position.cover())
        ));
        participants.push(json!({
            "participant": it.id.0, "name": it.name, "role": format!("{:?}", it.role), "active": it.active,
            "exposure": exposure.to_string(), "cap": position.cap.0.to_string(), "liquidity": position.cover().to_string(),
            "holds": position.holds.0.to_string(),
        }));
    }
    let value = json!({
        "chain_id": chain.to_string(), "decided_height": decided, "executed_height": executed,
        "log": { "size": last.log.size, "root": last.log.root.to_string() }, "time_ms": last.time_ms,
        "batches": last.n_batches_total, "operations": last.n_ops_total,
        "blocks_bytes": usage.blocks_bytes, "state_bytes": usage.state_bytes, "participants": participants,
    });
    Ok(Finding::new(&lines, value))
}

fn behind(decided: u64, executed: u64) -> String {
    match decided.saturating_sub(executed) {
        0 => String::new(),
        blocks => format!(" ({blocks} blocks behind the block file; the node executes them when it starts)"),
    }
}

fn invariants(opened: &ReadOnly, quiet: bool) -> Result<Finding> {
    let mut told = Instant::now();
    let report = scan_invariants(&opened.reader, &mut |done, all| {
        if !quiet && told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            eprintln!("{done} of {all} entries");
        }
    })?;
    let mut lines = Vec::new();
    for check in &report.checks {
        lines.push(format!("{:<6} {:<24} {}", if check.holds { "holds" } else { "BROKEN" }, check.name, check.detail));
    }
    let broken = report.checks.iter().filter(|check| !check.holds).count();
    lines.push(format!(
        "height {}: {} of {} checks hold over {} entities and {} payments{}",
        report.height,
        report.checks.len() - broken,
        report.checks.len(),
        report.n_entities,
        report.n_payments,
        behind(opened.blocks.decided_height(), report.height)
    ));
    let checks: Vec<Value> = report
        .checks
        .iter()
        .map(|check| json!({ "name": check.name, "holds": check.holds, "detail": check.detail }))
        .collect();
    let value = json!({
        "height": report.height, "log": { "size": report.log.size, "root": report.log.root.to_string() },
        "entities": report.n_entities, "payments": report.n_payments, "checks": checks, "holds": report.holds(),
    });
    Ok(Finding { text: lines.join("\n"), value, holds: report.holds() })
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Genesis => "genesis".into(),
        Cause::Op(id) => format!("operation {id}"),
        Cause::Time => "ledger time".into(),
        Cause::Block => "operations of its block".into(),
    }
}

fn payment_line(it: &Payment) -> String {
    let fees: Vec<String> = it.fees.iter().map(|leg| format!("{}:{}", leg.payee.0, money(leg.posted))).collect();
    format!(
        "{:?} {} of {}, captured {}, refunded {}, released {}, fees [{}]",
        it.status,
        money(it.held),
        money(it.amount),
        money(it.captured),
        money(it.refunded),
        money(it.released),
        fees.join(" ")
    )
}

fn state_line(state: &Entity) -> String {
    match state {
        Entity::Payment(it) => payment_line(it),
        Entity::Refund(it) => format!("{:?} {} of payment {}", it.status, money(it.amount), it.payment),
        Entity::Mandate(it) => format!(
            "{:?}, issuer {}, ceiling {}, per payment {}, guarantee v{}, assertion v{}, consent v{}",
            it.status,
            it.issuer,
            money(it.ceiling),
            money(it.payment_cap),
            it.guarantee.version,
            it.assertion.version,
            it.consent.version
        ),
        other => format!("{other:?}"),
    }
}

fn history(reader: &Reader, key: EntityKey) -> Result<Finding> {
    let mut versions: Vec<Known> = reader.history(&key, HISTORY)?;
    ensure!(!versions.is_empty(), "{key:?} does not exist in this state");
    versions.sort_by_key(|known| known.entry.version);
    let mut lines = Vec::new();
    let mut values = Vec::new();
    for known in &versions {
        let entry = &known.entry;
        let (line, why) = (state_line(&entry.state), cause(&entry.cause));
        lines.push(format!("version {:<4} entry {:<12} {line}\n{:31} by {why}", entry.version, known.index, ""));
        values.push(json!({ "version": entry.version, "index": known.index, "state": line, "cause": why }));
    }
    Ok(Finding::new(&lines, json!({ "versions": values })))
}

fn mandate(reader: &Reader, id: MandateId) -> Result<Finding> {
    let mut finding = history(reader, EntityKey::Mandate(id))?;
    if let Some(Entity::Line(line)) = reader.entity(&EntityKey::Line(id))?.map(|known| known.entry.state) {
        let balance = &line.balance;
        finding.text.push_str(&format!(
            "\nline: held {}, captured {}, repaid and refunded {}; used of guarantee v{}: {}",
            wide(balance.debits_pending),
            wide(balance.debits_posted),
            wide(balance.credits_posted),
            line.guarantee_version,
            money(line.guarantee_used)
        ));
        finding.value["line"] = json!({
            "held": balance.debits_pending.to_string(), "captured": balance.debits_posted.to_string(),
            "credited": balance.credits_posted.to_string(), "guarantee_version": line.guarantee_version,
            "guarantee_used": line.guarantee_used.0.to_string(),
        });
    }
    Ok(finding)
}

fn window(reader: &Reader, id: WindowId) -> Result<Finding> {
    let known = reader.entity(&EntityKey::Window(id))?;
    let Some(Entity::Window(it)) = known.map(|known| known.entry.state) else {
        bail!("window {id} does not exist in this state");
    };
    let Window { status, opened_at_ms, closes_at_ms, closed_at_ms, nets, .. } = it;
    let mut lines =
        vec![format!("window {id} {status:?}: opened {opened_at_ms}, closes {closes_at_ms}, closed {closed_at_ms}")];
    let mut rows = Vec::new();
    for account in reader.obligations(id)? {
        let (owes, owed) = (account.balance.debits_posted, account.balance.credits_posted);
        lines.push(format!(
            "participant {:<4} owes {:>20}  is owed {:>20}",
            account.participant.0,
            wide(owes),
            wide(owed)
        ));
        rows.push(json!({ "participant": account.participant.0, "owes": owes.to_string(), "owed": owed.to_string() }));
    }
    for Net { participant, net } in &nets {
        lines.push(format!("participant {:<4} net {:>21}", participant.0, signed(*net)));
    }
    let nets: Vec<Value> =
        nets.iter().map(|it| json!({ "participant": it.participant.0, "net": it.net.to_string() })).collect();
    let value = json!({
        "window": id.0, "status": format!("{status:?}"), "opened_at_ms": opened_at_ms, "closes_at_ms": closes_at_ms,
        "closed_at_ms": closed_at_ms, "obligations": rows, "nets": nets,
    });
    Ok(Finding::new(&lines, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_is_printed() {
        let id = ScopedId { participant: ParticipantId(7), op_id: OpId::new(1_750_000_000_000, 42) };
        assert_eq!(parse_id(&id.to_string()).expect("it was printed so"), id);
        for wrong in
            ["", "7", "7-", "x-00", "7-0192", "-0192f0c4a5b60000000000000000002a", "7-+192f0c4a5b60000000000000000002"]
        {
            let told = parse_id(wrong).map(|id| id.to_string());
            assert!(told.is_err(), "{wrong:?} gave {told:?}");
        }
    }

    #[test]
    fn sums_are_printed_to_the_fen() {
        assert_eq!(wide(5), "0.05");
        assert_eq!(signed(-1_234_567), "-12345.67");
        assert_eq!(signed(0), "0.00");
    }
}
