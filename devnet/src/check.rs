//! What must hold after the demo, and whether it does. Everything the network says is compared with the book.

use crate::book::{Expected, Leg, Schedule, expected, fee_totals, nets};
use crate::network::Network;
use crate::orders::{Status, yuan};
use crate::people::now_ms;
use crate::play::Play;
use anji_proto::v1 as pb;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One statement and whether it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) holds: bool,
    pub(crate) detail: String,
}

impl Check {
    /// A check from a list of what contradicts it.
    fn from_problems(name: impl Into<String>, problems: &[String], good: String) -> Self {
        let shown = problems.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
        let more = problems.len().saturating_sub(5);
        let bad = if more > 0 { format!("{shown}; and {more} more") } else { shown };
        Self { name: name.into(), holds: problems.is_empty(), detail: if problems.is_empty() { good } else { bad } }
    }

    pub(crate) fn from_result(name: impl Into<String>, result: Result<String>) -> Self {
        match result {
            Ok(detail) => Self { name: name.into(), holds: true, detail },
            Err(error) => Self { name: name.into(), holds: false, detail: format!("{error:#}") },
        }
    }
}

/// What `devnet/.run/summary.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) payments: Value,
    pub(crate) nets: Value,
    pub(crate) finality_ms: Finality,
    pub(crate) checks: Vec<Check>,
}

/// From a call of the front desk to its final answer.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Finality {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Finality {
    pub(crate) fn of(latencies_ms: &[f64]) -> Self {
        let mut sorted = latencies_ms.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(place).map_or(0.0, |ms| (ms * 10.0).round() / 10.0)
        };
        Self { p50: at(50), p99: at(99) }
    }
}

impl From<&pb::FeeSchedule> for Schedule {
    fn from(schedule: &pb::FeeSchedule) -> Self {
        let legs = schedule.legs.iter().map(|leg| Leg {
            payee: leg.payee,
            rate_bps: leg.rate_bps,
            borne_by: leg.borne_by_leg.and_then(|place| usize::try_from(place).ok()),
            returned: leg.returned_on_refund,
        });
        Self { legs: legs.collect(), remainder_leg: usize::try_from(schedule.remainder_leg).unwrap_or(usize::MAX) }
    }
}

/// The windows that each act was played in, as closed. One each, unless ledger time closed one on the way.
pub(crate) type Windows = [Vec<pb::Window>; 2];

/// Judges the run. `run_dir` holds the pid files of the network's processes.
pub(crate) async fn judge(play: &Arc<Play>, network: &Network, windows: &Windows) -> Result<Summary> {
    let mut checks = vec![stories(play), refusals(play)];
    let (payments, ends, fees) = payments(play, windows).await;
    checks.extend([ends, fees, lines(play).await, founding(&play.schedule)]);
    for (act, of_act) in windows.iter().enumerate() {
        checks.push(act_nets(play, of_act, act));
        for window in of_act {
            checks
                .push(Check::from_result(format!("the nets of window {} add up to zero", window.id), adds_up(window)));
        }
    }
    let problems = play.issuer.problems();
    checks.push(Check::from_problems("the issuer's desk had no trouble", &problems, "no trouble".to_owned()));
    checks.push(Check::from_result("equal roots on all nodes", network.equal_roots(Duration::from_secs(30)).await));
    checks.push(Check::from_result("all of it final on all nodes", network.all_final(Duration::from_secs(30)).await));
    checks.push(Check::from_result("no alarm on any node", network.no_alarms().await));
    checks.push(Check::from_result("no node used more than 1 GiB of memory", network.memory()));
    let finality_ms = Finality::of(&play.tally().latencies_ms);
    let names = network.chain_info().await?.participants.into_iter().map(|it| (it.id, it.name)).collect();
    Ok(Summary { payments, nets: show_nets(windows, &names), finality_ms, checks })
}

fn stories(play: &Play) -> Check {
    let tally = play.tally();
    let n_orders = play.orders.len();
    Check::from_problems("every order's story went as the file says", &tally.wrong, format!("{n_orders} of {n_orders}"))
}

fn refusals(play: &Play) -> Check {
    let tally = play.tally();
    let mut wanted: BTreeMap<u16, usize> = BTreeMap::new();
    for code in play.orders.iter().flat_map(|order| &order.story).filter_map(|step| step.refused) {
        *wanted.entry(code).or_default() += 1;
    }
    let show = |codes: &BTreeMap<u16, usize>| {
        codes.iter().map(|(code, n)| format!("{code}\u{d7}{n}")).collect::<Vec<_>>().join(" ")
    };
    let holds = tally.refused == wanted;
    let got = show(&tally.refused);
    let detail = if holds { got } else { format!("got {got}; wanted {}", show(&wanted)) };
    Check { name: "every refusal carried its code".to_owned(), holds, detail }
}

/// Reads every payment back and compares it with the book.
async fn payments(play: &Arc<Play>, windows: &Windows) -> (Value, Check, Check) {
    let (mut ends, mut fees) = (Vec::new(), Vec::new());
    let mut counts: BTreeMap<Status, (usize, u64)> = BTreeMap::new();
    let created = play.tally().payments.clone();
    for (index, order) in play.orders.iter().enumerate() {
        let count = counts.entry(order.status).or_default();
        count.0 += 1;
        count.1 += order.amount;
        match (created.get(&index), order.status) {
            (None, Status::Refused) => {}
            (None, _) => ends.push(format!("{}: no payment came into being", order.id)),
            (Some(_), Status::Refused) => ends.push(format!("{}: a payment came into being", order.id)),
            (Some(id), _) => match read_payment(play, id).await {
                Ok(payment) => {
                    if let Err(error) = same_end(order, &payment, windows) {
                        ends.push(format!("{}: {error:#}", order.id));
                    }
                    if let Err(error) = same_fees(play, &payment, expected(order, 1)) {
                        fees.push(format!("{}: {error:#}", order.id));
                    }
                }
                Err(error) => ends.push(format!("{}: {error:#}", order.id)),
            },
        }
    }
    let captured: u64 = play.orders.iter().map(|order| order.captured).sum();
    let refunded: u64 = play.orders.iter().map(|order| order.refunded).sum();
    let totals = fee_totals(&play.orders, &play.schedule);
    let legs = play.schedule.legs.iter().zip(totals);
    let legs: Vec<Value> = legs
        .map(|(leg, (posted, returned))| {
            json!({"payee": play.parties.payee(leg.payee), "rate_bps": leg.rate_bps,
                   "posted_fen": posted, "returned_fen": returned})
        })
        .collect();
    let by_outcome: serde_json::Map<String, Value> = Status::NAMES
        .iter()
        .map(|(status, name)| {
            let (n, amount) = counts.get(status).copied().unwrap_or_default();
            ((*name).to_owned(), json!({"count": n, "asked_fen": amount}))
        })
        .collect();
    let n_created = created.len();
    let value = json!({"orders": play.orders.len(), "by_outcome": by_outcome, "captured_fen": captured,
                       "refunded_fen": refunded, "fee_legs": legs});
    let ends = Check::from_problems(
        "every payment stands where the file says",
        &ends,
        format!(
            "{n_created} payments read back; captured {}, refunded {}",
            yuan(captured.into()),
            yuan(refunded.into())
        ),
    );
    let fees =
        Check::from_problems("every fee leg equals the quote to the fen", &fees, format!("{n_created} payments"));
    (value, ends, fees)
}

async fn read_payment(play: &Play, id: &pb::Id) -> Result<pb::Payment> {
    let request = pb::AdapterGetPaymentRequest { payment: Some(id.clone()) };
    let response = play.front.adapter.clone().get_payment(request).await;
    let response = response.map_err(|status| anyhow::anyhow!("{}", crate::connect::explain(&status)))?;
    response.into_inner().payment.context("an answer without a payment")
}

fn same_end(order: &crate::orders::Order, payment: &pb::Payment, windows: &Windows) -> Result<()> {
    let wanted = match order.status {
        Status::Captured => pb::PaymentStatus::Captured,
        Status::Declined => pb::PaymentStatus::Declined,
        Status::Voided => pb::PaymentStatus::Voided,
        Status::Expired => pb::PaymentStatus::Expired,
        Status::Refused => bail!("a refused order has no payment"),
    };
    ensure!(payment.status() == wanted, "it is {}", payment.status().as_str_name());
    ensure!(payment.amount == order.amount, "asked {} instead of {}", payment.amount, order.amount);
    let end = expected(order, 1);
    ensure!(order.captured == end.captured && order.refunded == end.refunded, "the file contradicts itself");
    ensure!(payment.captured == end.captured, "captured {} instead of {}", payment.captured, end.captured);
    ensure!(payment.refunded == end.refunded, "refunded {} instead of {}", payment.refunded, end.refunded);
    ensure!(payment.refund_reserved == end.refunded, "{} is still reserved for refunds", payment.refund_reserved);
    ensure!(payment.n_refunds == end.n_refunds, "{} refunds instead of {}", payment.n_refunds, end.n_refunds);
    ensure!(payment.held == payment.captured + payment.released, "money is still held");
    for (act, of_act) in windows.iter().enumerate() {
        let before = if act == 0 { 0 } else { expected(order, act - 1).captured };
        let here = payment.captures.iter().filter(|leg| of_act.iter().any(|window| window.id == leg.window));
        let here: u64 = here.map(|leg| leg.amount).sum();
        ensure!(here == expected(order, act).captured - before, "{here} captured in the windows of act {}", act + 1);
    }
    Ok(())
}

fn same_fees(play: &Play, payment: &pb::Payment, end: Expected) -> Result<()> {
    ensure!(payment.fees.len() == play.schedule.legs.len(), "{} fee legs", payment.fees.len());
    let (posted, returned) = (play.schedule.legs_at(end.captured), play.schedule.legs_at(end.refunded));
    for (((leg, fee), posted), returned) in play.schedule.legs.iter().zip(&payment.fees).zip(posted).zip(returned) {
        let payee = play.parties.payee(leg.payee);
        ensure!(fee.payee == payee, "a leg is paid to participant {} instead of {payee}", fee.payee);
        ensure!(fee.posted == posted, "participant {payee}: posted {} instead of {posted}", fee.posted);
        let returned = if leg.returned { returned } else { 0 };
        ensure!(fee.returned == returned, "participant {payee}: returned {} instead of {returned}", fee.returned);
    }
    Ok(())
}

/// Every shopper owes what they bought less what came back, and nothing is held any more.
async fn lines(play: &Arc<Play>) -> Check {
    let mut problems = Vec::new();
    let mandates = play.mandates();
    for (shopper, mandate) in &mandates {
        let mine = play.orders.iter().filter(|order| &order.shopper == shopper);
        let owed: u64 = mine.map(|order| order.captured - order.refunded).sum();
        let request = pb::AdapterGetMandateRequest { mandate: Some(mandate.clone()) };
        match play.front.adapter.clone().get_mandate(request).await {
            Ok(response) => {
                let line = response.into_inner().line.unwrap_or_default();
                let zero = |text: &str| text.is_empty() || text == "0";
                if !(line.owed == owed.to_string() || owed == 0 && zero(&line.owed)) || !zero(&line.held) {
                    problems.push(format!("{shopper} owes {} (held {}) instead of {owed}", line.owed, line.held));
                }
            }
            Err(status) => problems.push(format!("{shopper}: {}", crate::connect::explain(&status))),
        }
    }
    Check::from_problems("every shopper's line equals the book", &problems, format!("{} lines", mandates.len()))
}

/// The published example: 10,000.00 gives 60 + 50 + 10 to the three, 5 + 10 to channel and technical provider.
fn founding(schedule: &Schedule) -> Check {
    let legs = schedule.legs_at(1_000_000);
    let shown = legs.iter().map(|leg| yuan(i128::from(*leg))).collect::<Vec<_>>().join(" + ");
    Check {
        name: "10,000.00 gives the founding schedule's legs".to_owned(),
        holds: legs == [6_000, 5_000, 1_000, 500, 1_000],
        detail: shown,
    }
}

fn parse_nets(window: &pb::Window) -> Result<BTreeMap<u32, i128>> {
    window.nets.iter().map(|it| Ok((it.participant, it.net.parse().context("a net that is no number")?))).collect()
}

fn adds_up(window: &pb::Window) -> Result<String> {
    let nets = parse_nets(window)?;
    let sum: i128 = nets.values().sum();
    ensure!(window.status() == pb::WindowStatus::Closed, "the window is {}", window.status().as_str_name());
    ensure!(!nets.is_empty() && sum == 0, "{} nets add up to {sum}", nets.len());
    Ok(format!("{} nets", nets.len()))
}

fn act_nets(play: &Play, windows: &[pb::Window], act: usize) -> Check {
    let compare = || {
        let mut got: BTreeMap<u32, i128> = BTreeMap::new();
        for window in windows {
            for (who, net) in parse_nets(window)? {
                *got.entry(who).or_default() += net;
            }
        }
        let mut wanted = nets(&play.orders, &play.schedule, play.parties, act);
        got.retain(|_, net| *net != 0);
        wanted.retain(|_, net| *net != 0);
        ensure!(got == wanted, "the ledger has {got:?}, the book {wanted:?}");
        Ok(got.iter().map(|(who, net)| format!("{who}: {}", yuan(*net))).collect::<Vec<_>>().join(", "))
    };
    let ids = windows.iter().map(|window| window.id.to_string()).collect::<Vec<_>>().join(", ");
    Check::from_result(format!("the nets of act {} (window {ids}) equal the book", act + 1), compare())
}

fn show_nets(windows: &Windows, names: &BTreeMap<u32, String>) -> Value {
    windows
        .iter()
        .flatten()
        .flat_map(|window| {
            window.nets.iter().map(move |it| {
                json!({"window": window.id, "participant": it.participant,
                       "name": names.get(&it.participant), "net_fen": it.net})
            })
        })
        .collect()
}

/// The account of the day, for people.
pub(crate) fn print(summary: &Summary, seconds: f64, n_repeats: u32) {
    println!("\n  outcome       orders        asked for");
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or_default();
    for (_, name) in Status::NAMES {
        let outcome = summary.payments.get("by_outcome").and_then(|it| it.get(name)).cloned().unwrap_or_default();
        println!("  {name:<12} {:>7} {:>16}", number(&outcome, "count"), yuan(number(&outcome, "asked_fen").into()));
    }
    println!(
        "\n  captured {}, given back {}",
        yuan(number(&summary.payments, "captured_fen").into()),
        yuan(number(&summary.payments, "refunded_fen").into())
    );
    println!("\n  fee legs: participant     rate         posted       returned");
    for leg in summary.payments.get("fee_legs").and_then(Value::as_array).into_iter().flatten() {
        println!(
            "            {:>11} {:>6} bp {:>14} {:>14}",
            number(leg, "payee"),
            number(leg, "rate_bps"),
            yuan(number(leg, "posted_fen").into()),
            yuan(number(leg, "returned_fen").into())
        );
    }
    println!("\n  window  participant                       net");
    for net in summary.nets.as_array().into_iter().flatten() {
        let text = |key: &str| net.get(key).and_then(Value::as_str).unwrap_or_default();
        let fen = text("net_fen").parse().unwrap_or_default();
        println!("  {:>6}  {:<20} {:>16}", number(net, "window"), text("name"), yuan(fen));
    }
    let Finality { p50, p99 } = summary.finality_ms;
    println!("\n  final after p50 {p50} ms, p99 {p99} ms; {seconds:.1} s of play; {n_repeats} calls asked again");
}

/// Lists the checks; true if all hold.
pub(crate) fn print_checks(checks: &[Check]) -> bool {
    println!();
    for check in checks {
        println!("  {} {}: {}", if check.holds { "holds " } else { "BROKEN" }, check.name, check.detail);
    }
    checks.iter().all(|check| check.holds)
}

/// Plays both acts with a window's close after each, then judges.
pub(crate) async fn run(play: &Arc<Play>, network: &Network) -> Result<Summary> {
    let begin = now_ms();
    // What others did before belongs to windows of its own.
    let first = play.clearing.close_open(&play.run).await?.id + 1;
    println!("signing up {} shoppers", play.shoppers.len());
    play.sign_up().await?;
    println!("playing {} orders, {} shoppers side by side", play.orders.len(), play.shoppers.len());
    play.act(0).await?;
    let middle = play.clearing.close_open(&play.run).await?.id;
    println!("window {middle} is closed; what follows nets in the next one");
    play.act(1).await?;
    let last = play.clearing.close_open(&play.run).await?.id;
    println!("window {last} is closed; reading everything back");
    let played = u32::try_from(now_ms() - begin).unwrap_or(u32::MAX);
    let windows = [play.clearing.windows(first..=middle).await?, play.clearing.windows(middle + 1..=last).await?];
    let summary = judge(play, network, &windows).await?;
    let n_repeats = play.tally().n_repeats;
    print(&summary, f64::from(played) / 1_000.0, n_repeats);
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_list() {
        let list: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let Finality { p50, p99 } = Finality::of(&list);
        assert!((p50 - 50.0).abs() < f64::EPSILON && (p99 - 99.0).abs() < f64::EPSILON);
        assert!(Finality::of(&[]).p99.abs() < f64::EPSILON);
    }

    #[test]
    fn a_check_lists_what_contradicts_it() {
        let problems: Vec<String> = (0..7).map(|number| format!("p{number}")).collect();
        let check = Check::from_problems("x", &problems, String::new());
        assert!(!check.holds && check.detail == "p0; p1; p2; p3; p4; and 2 more");
    }
}
