//! Plays the shipped orders: signs the shoppers up, lets every shopper place their orders one after the other and all shoppers
//! side by side, closes the window after each act, and notes what happened. What it all must add up to is judged in `check.rs`.

use crate::book::{Parties, Schedule};
use crate::network::Network;
use crate::orders::{Action, MandateState, Order, Shopper, Step, Twist, yuan};
use crate::people::{
    Answered, ClearingDesk, FrontDesk, IssuerDesk, REASON_ACCOUNT_CLOSED, Verdict, assertion, digest, entity, now_ms,
    pseudonym, scene, settle,
};
use anji_proto::v1 as pb;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Orders under way at any time.
const SIDE_BY_SIDE: usize = 48;
const MINUTE_MS: u64 = 60_000;

/// What happened so far.
#[derive(Default)]
pub(crate) struct Tally {
    /// By place in the orders file.
    pub(crate) payments: HashMap<usize, pb::Id>,
    pub(crate) latencies_ms: Vec<f64>,
    pub(crate) refused: BTreeMap<u16, usize>,
    pub(crate) wrong: Vec<String>,
    pub(crate) n_orders_done: usize,
    pub(crate) captured_fen: u64,
    pub(crate) n_repeats: u32,
}

/// One run of the player against one network.
pub(crate) struct Play {
    /// Part of every request id, so that two runs on one network never meet.
    pub(crate) run: String,
    pub(crate) orders: Vec<Order>,
    pub(crate) shoppers: Vec<Shopper>,
    pub(crate) parties: Parties,
    pub(crate) schedule: Schedule,
    pub(crate) front: FrontDesk,
    pub(crate) issuer: Arc<IssuerDesk>,
    pub(crate) clearing: ClearingDesk,
    /// By the shopper's name.
    mandates: Mutex<HashMap<String, pb::Id>>,
    tally: Mutex<Tally>,
}

impl Play {
    /// Opens the desks.
    pub(crate) async fn open(network: &Network, orders: Vec<Order>, shoppers: Vec<Shopper>) -> Result<Arc<Self>> {
        let info = network.chain_info().await?;
        let of_role = |role: pb::Role| {
            let found = info.participants.iter().find(|it| it.role() == role);
            found.map(|it| it.id).with_context(|| format!("the network has no {}", role.as_str_name()))
        };
        let parties = Parties { acquirer: of_role(pb::Role::Acquirer)?, issuer: of_role(pb::Role::Issuer)? };
        let run = format!("{:x}", now_ms());
        let schedule = info.schedule.as_ref().context("the network has no fee schedule in force")?;
        let issuer = IssuerDesk::open(
            network.adapter_of(parties.issuer)?,
            of_role(pb::Role::ServiceProvider)?,
            schedule.version,
            &run,
        )?;
        Ok(Arc::new(Self {
            front: FrontDesk::open(network.adapter_of(parties.acquirer)?)?,
            issuer,
            clearing: ClearingDesk::open(network.adapter_of(of_role(pb::Role::Clearing)?)?)?,
            run,
            orders,
            shoppers,
            parties,
            schedule: Schedule::from(schedule),
            mandates: Mutex::default(),
            tally: Mutex::default(),
        }))
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shoppers' mandates by the shopper's name.
    pub(crate) fn mandates(&self) -> HashMap<String, pb::Id> {
        self.mandates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mandate_of(&self, shopper: &str) -> Result<pb::Id> {
        let mandates = self.mandates.lock().unwrap_or_else(PoisonError::into_inner);
        mandates.get(shopper).cloned().with_context(|| format!("{shopper} has no mandate"))
    }

    /// Links every shopper to the issuer and brings each mandate to the state the file wants.
    pub(crate) async fn sign_up(self: &Arc<Self>) -> Result<()> {
        let permits = Arc::new(Semaphore::new(SIDE_BY_SIDE));
        let mut tasks = Vec::new();
        for shopper in self.shoppers.clone() {
            self.issuer.expect_shopper(&shopper);
            let (play, permits) = (Arc::clone(self), Arc::clone(&permits));
            tasks.push(tokio::spawn(async move {
                let _permit = permits.acquire().await?;
                play.link(&shopper).await.with_context(|| format!("shopper {}", shopper.name))
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    }

    async fn link(&self, shopper: &Shopper) -> Result<()> {
        let id = self.front.propose(&self.run, self.parties.issuer, shopper).await?;
        let inbox = &self.front.inbox;
        if shopper.state != MandateState::Proposed {
            inbox.mandate(&id, pb::MandateStatus::Active).await?;
        }
        match shopper.state {
            MandateState::Suspended => {
                self.issuer.stop_mandate(&id, false).await?;
                inbox.mandate(&id, pb::MandateStatus::Suspended).await?;
            }
            MandateState::Revoked => {
                self.issuer.stop_mandate(&id, true).await?;
                inbox.mandate(&id, pb::MandateStatus::Revoked).await?;
            }
            MandateState::Active | MandateState::Proposed => {}
        }
        self.mandates.lock().unwrap_or_else(PoisonError::into_inner).insert(shopper.name.clone(), id);
        Ok(())
    }

    /// Plays act 0 or 1 of every order and returns when all of it has ended.
    pub(crate) async fn act(self: &Arc<Self>, act: usize) -> Result<()> {
        let mut lanes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, order) in self.orders.iter().enumerate().filter(|(_, order)| !order.act(act).is_empty()) {
            lanes.entry(&order.shopper).or_default().push(index);
        }
        let n_orders: usize = lanes.values().map(Vec::len).sum();
        self.tally().n_orders_done = 0;
        let ticker = tokio::spawn(Arc::clone(self).tick(act, n_orders));
        let permits = Arc::new(Semaphore::new(SIDE_BY_SIDE));
        let mut tasks: Vec<JoinHandle<Result<Vec<JoinHandle<()>>>>> = Vec::new();
        for lane in lanes.into_values() {
            let (play, permits) = (Arc::clone(self), Arc::clone(&permits));
            tasks.push(tokio::spawn(async move {
                let mut waiting = Vec::new();
                for index in lane {
                    let _permit = permits.acquire().await?;
                    waiting.extend(play.clone().play_order(index, act).await);
                }
                Ok(waiting)
            }));
        }
        for task in tasks {
            for lapse in task.await?? {
                lapse.await?;
            }
        }
        ticker.abort();
        self.progress(act, n_orders);
        Ok(())
    }

    async fn tick(self: Arc<Self>, act: usize, n_orders: usize) {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            self.progress(act, n_orders);
        }
    }

    fn progress(&self, act: usize, n_orders: usize) {
        let tally = self.tally();
        let n_refused: usize = tally.refused.values().sum();
        let bar = "#".repeat(tally.n_orders_done * 24 / n_orders.max(1));
        println!(
            "  act {} [{bar:<24}] {:>5} of {n_orders} orders   captured {:>14}   refused as they must be {n_refused:>3}   wrong {}",
            act + 1,
            tally.n_orders_done,
            yuan(i128::from(tally.captured_fen)),
            tally.wrong.len(),
        );
    }

    /// Plays one order's act. Waiting for ledger time goes on in the background, so that it does not hold up the shopper.
    async fn play_order(self: Arc<Self>, index: usize, act: usize) -> Option<JoinHandle<()>> {
        let order = self.orders.get(index)?;
        let steps = order.act(act);
        let lapse_at = steps.iter().position(|step| step.action == Action::Lapse);
        let (now, later) = steps.split_at(lapse_at.unwrap_or(steps.len()));
        let (id, first, n_now) = (order.id.clone(), act * 1000, now.len());
        let played = self.steps(index, now, first).await;
        if played.is_err() || later.is_empty() {
            self.close_order(&id, played);
            return None;
        }
        let later = later.to_vec();
        Some(tokio::spawn(async move {
            let played = self.steps(index, &later, first + n_now).await;
            self.close_order(&id, played);
        }))
    }

    fn close_order(&self, id: &str, played: Result<()>) {
        let mut tally = self.tally();
        tally.n_orders_done += 1;
        if let Err(error) = played {
            tally.wrong.push(format!("{id}: {error:#}"));
        }
    }

    async fn steps(&self, index: usize, steps: &[Step], first: usize) -> Result<()> {
        let order = self.orders.get(index).context("an order that is not in the file")?;
        for (offset, step) in steps.iter().enumerate() {
            self.step(index, order, *step, first + offset).await.with_context(|| format!("step `{step}`"))?;
        }
        Ok(())
    }

    fn payment_of(&self, index: usize) -> Result<pb::Id> {
        self.tally().payments.get(&index).cloned().context("no payment came into being")
    }

    /// An id of the right shape that nobody ever used.
    fn unknown_id(&self, number: usize) -> pb::Id {
        let mut op_id = digest(&["nobody", &self.run, &number.to_string()]);
        op_id.truncate(16);
        op_id.splice(0..6, now_ms().to_be_bytes()[2..].iter().copied());
        pb::Id { participant: self.parties.acquirer, op_id }
    }

    async fn step(&self, index: usize, order: &Order, step: Step, number: usize) -> Result<()> {
        let request_id = format!("{}-{}-{number}", self.run, order.id);
        match step.action {
            Action::Pay => {
                let answered = self.pay(order, step, number, request_id).await?;
                self.created(index, step, answered, order.amount)
            }
            Action::Again => self.again(index, order, step).await,
            Action::Request => {
                let answered = self.request(order, step, number, request_id).await?;
                self.created(index, step, answered, 0)
            }
            Action::Hold | Action::Decline => {
                let wanted =
                    if step.action == Action::Hold { pb::PaymentStatus::Held } else { pb::PaymentStatus::Declined };
                let id = self.payment_of(index)?;
                let payment = self.front.inbox.payment(&id, |it| it.status() != pb::PaymentStatus::Requested).await?;
                ensure!(payment.status() == wanted, "the issuer made it {}", payment.status().as_str_name());
                Ok(())
            }
            Action::Silent => Ok(()),
            Action::Capture(amount) | Action::Last(amount) => {
                let last = matches!(step.action, Action::Last(_));
                let answered = self.capture(index, order, step, (amount, last), request_id).await?;
                self.judge(step, answered, amount).map(drop)
            }
            Action::Void => {
                let request = pb::VoidPaymentRequest { request_id, payment: Some(self.payment_of(index)?), reason: 1 };
                let answered = settle(|| {
                    let (mut adapter, request) = (self.front.adapter.clone(), request.clone());
                    async move { adapter.void_payment(request).await }
                });
                self.judge(step, answered.await?, 0).map(drop)
            }
            Action::Lapse => {
                let id = self.payment_of(index)?;
                let ended =
                    |it: &pb::Payment| matches!(it.status(), pb::PaymentStatus::Expired | pb::PaymentStatus::Captured);
                self.front.inbox.payment(&id, ended).await.map(drop)
            }
            Action::Refund(amount) => self.refund(index, order, step, amount, request_id).await,
            Action::NextWindow => Ok(()),
        }
    }

    fn order_of(&self, order: &Order, twist: Option<Twist>) -> pb::Order {
        let merchant = if twist == Some(Twist::OtherMerchant) { "another" } else { &order.merchant };
        let salt = if twist == Some(Twist::OtherOrder) { "another" } else { &self.run };
        pb::Order {
            merchant: pseudonym("acquirer", merchant),
            category: u32::from(order.category),
            order_hash: digest(&["order", salt, &order.id]),
            trace_id: self.trace_of(order),
            envelope_hash: Vec::new(),
        }
    }

    fn trace_of(&self, order: &Order) -> Vec<u8> {
        digest(&["trace", &self.run, &order.id]).split_off(16)
    }

    fn mandate_for(&self, order: &Order, step: Step, number: usize) -> Result<pb::Id> {
        if step.twist == Some(Twist::Unknown) { Ok(self.unknown_id(number)) } else { self.mandate_of(&order.shopper) }
    }

    async fn pay(&self, order: &Order, step: Step, number: usize, request_id: String) -> Result<Answered> {
        let other = u64::from(step.twist == Some(Twist::OtherBody));
        let request = pb::PayRequest {
            request_id,
            mandate: Some(self.mandate_for(order, step, number)?),
            amount: order.amount + other,
            currency: 0,
            scene: scene(order.scene).into(),
            order: Some(self.order_of(order, step.twist)),
            // Made from the order alone, so that asking again is the same request.
            assertion: Some(self.assertion_of(order, step.twist == Some(Twist::Stale))),
            ..pb::PayRequest::default()
        };
        settle(|| {
            let (mut adapter, request) = (self.front.adapter.clone(), request.clone());
            async move { adapter.pay(request).await }
        })
        .await
    }

    /// The acquirer's view of the risk of an order: the same every time it is asked for within a run.
    fn assertion_of(&self, order: &Order, stale: bool) -> pb::RiskAssertion {
        let begin = u64::from_str_radix(&self.run, 16).unwrap_or_default();
        let fresh = assertion(&order.id, false);
        if stale {
            pb::RiskAssertion { as_of_ms: begin - 60 * MINUTE_MS, valid_until_ms: begin - MINUTE_MS, ..fresh }
        } else {
            pb::RiskAssertion { as_of_ms: begin - 1_000, valid_until_ms: begin + 120 * MINUTE_MS, ..fresh }
        }
    }

    async fn again(&self, index: usize, order: &Order, step: Step) -> Result<()> {
        // The first step of the story is the one that is repeated.
        let request_id = format!("{}-{}-0", self.run, order.id);
        let answered = self.pay(order, step, 0, request_id).await?;
        let first = self.payment_of(index)?;
        if let Some(result) = self.judge(step, answered, 0)? {
            ensure!(entity(&result)? == first, "asking again made another payment");
            ensure!(result.replayed, "the answer does not say that it is a repeated one");
        }
        Ok(())
    }

    async fn request(&self, order: &Order, step: Step, number: usize, request_id: String) -> Result<Answered> {
        let steps = order.act(0);
        let does = |action| steps.iter().any(|it| it.action == action);
        let verdict = match (does(Action::Hold), does(Action::Decline)) {
            (true, _) => Verdict::Hold,
            (_, true) => Verdict::Decline,
            _ => Verdict::Silent,
        };
        self.issuer.expect_order(&self.trace_of(order), verdict);
        let now = now_ms();
        let (answer_by_ms, capture_by_ms) = match (step.twist, verdict) {
            (Some(Twist::Late), _) => (now - 1_000, now + 60 * MINUTE_MS),
            (Some(Twist::Short), Verdict::Silent) => (now + 5_000, now + 6_000),
            (Some(Twist::Short), _) => (now + 10_000, now + 12_000),
            _ => (now + 10 * MINUTE_MS, now + 24 * 60 * MINUTE_MS),
        };
        let request = pb::RequestPaymentRequest {
            request_id,
            mandate: Some(self.mandate_for(order, step, number)?),
            amount: order.amount,
            currency: 0,
            scene: scene(order.scene).into(),
            order: Some(self.order_of(order, step.twist)),
            assertion: Some(self.assertion_of(order, step.twist == Some(Twist::Stale))),
            schedule_version: 0,
            instalments: 1,
            answer_by_ms,
            capture_by_ms,
        };
        settle(|| {
            let (mut adapter, request) = (self.front.adapter.clone(), request.clone());
            async move { adapter.request_payment(request).await }
        })
        .await
    }

    async fn capture(
        &self,
        index: usize,
        order: &Order,
        step: Step,
        (amount, last): (u64, bool),
        request_id: String,
    ) -> Result<Answered> {
        let request = pb::CapturePaymentRequest {
            request_id,
            payment: Some(self.payment_of(index)?),
            amount,
            last,
            order: Some(self.order_of(order, step.twist)),
        };
        settle(|| {
            let (mut adapter, request) = (self.front.adapter.clone(), request.clone());
            async move { adapter.capture_payment(request).await }
        })
        .await
    }

    async fn refund(&self, index: usize, order: &Order, step: Step, amount: u64, request_id: String) -> Result<()> {
        let fails = step.twist == Some(Twist::Fails);
        let payment = if step.twist == Some(Twist::Unknown) { self.unknown_id(index) } else { self.payment_of(index)? };
        let request = pb::RefundPaymentRequest {
            request_id,
            payment: Some(payment),
            amount,
            reason: if fails { REASON_ACCOUNT_CLOSED } else { 1 },
            order_hash: self.order_of(order, step.twist).order_hash,
        };
        let answered = settle(|| {
            let (mut adapter, request) = (self.front.adapter.clone(), request.clone());
            async move { adapter.refund_payment(request).await }
        });
        if let Some(result) = self.judge(step, answered.await?, 0)? {
            let refund = self.front.inbox.refund(&entity(&result)?).await?;
            let wanted = if fails { pb::RefundStatus::Failed } else { pb::RefundStatus::Posted };
            ensure!(refund.status() == wanted, "the refund ended as {}", refund.status().as_str_name());
        }
        Ok(())
    }

    /// Notes a payment that came into being.
    fn created(&self, index: usize, step: Step, answered: Answered, captured: u64) -> Result<()> {
        if let Some(result) = self.judge(step, answered, captured)? {
            self.tally().payments.insert(index, entity(&result)?);
        }
        Ok(())
    }

    /// Compares an answer with what the story wants; gives the result of a step that had to succeed and did.
    fn judge(&self, step: Step, answered: Answered, captured: u64) -> Result<Option<pb::OperationResult>> {
        let mut tally = self.tally();
        tally.n_repeats += answered.n_repeats;
        // What had to be asked again says more about what was broken than about the ledger's speed.
        if answered.n_repeats == 0 {
            tally.latencies_ms.push(answered.took.as_secs_f64() * 1_000.0);
        }
        match (answered.result, step.refused) {
            (Ok(result), None) => {
                tally.captured_fen += captured;
                Ok(Some(result))
            }
            (Err((code, _)), Some(wanted)) if code == wanted => {
                *tally.refused.entry(code).or_default() += 1;
                Ok(None)
            }
            (Ok(_), Some(wanted)) => bail!("it was done, where {wanted} must refuse it"),
            (Err((code, text)), None) => bail!("refused with {code}: {text}"),
            (Err((code, text)), Some(wanted)) => bail!("refused with {code} instead of {wanted}: {text}"),
        }
    }
}

/// Signs one shopper up, lets them pay once, and says how long that took.
pub(crate) async fn first_payment(network: &Network) -> Result<()> {
    let begin = Instant::now();
    let shopper: Shopper = "S001,500000,100000,400000,1,online,active".parse()?;
    let order: Order = "O0001,S001,M01,5815,online,1234,pay,captured,1234,0".parse()?;
    let play = Play::open(network, vec![order], vec![shopper]).await?;
    play.sign_up().await?;
    play.act(0).await?;
    let tally = play.tally();
    if let Some(wrong) = tally.wrong.first() {
        bail!("the first payment did not settle: {wrong}");
    }
    let took = tally.latencies_ms.first().copied().unwrap_or_default();
    println!(
        "a shopper was linked to the issuer and paid 12.34: final {took:.0} ms after the request ({:.1} s in all)",
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
