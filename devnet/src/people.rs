//! The cast: the front desk (shopper and merchant, at the acquirer's adapter), the issuer's desk and the clearing desk. Each
//! talks gRPC to its own adapter and to nothing else, repeats what is left open, and never gives up before its patience ends.

use crate::connect::{Adapter, Door, explain, is_open, reject_code};
use crate::orders::{MandateState, Scene, Shopper};
use anji_proto::v1 as pb;
use anyhow::{Result, anyhow, bail};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore};
use tonic::{Response, Status};

/// How long one operation may stay open before the player calls the network dead.
const PATIENCE: Duration = Duration::from_secs(90);
/// The front desk's refund reason for "the shopper's account is closed": the issuer's desk cannot give the money back.
pub(crate) const REASON_ACCOUNT_CLOSED: u32 = 901;
const HOUR_MS: u64 = 3_600_000;

/// Milliseconds since 1970 on this machine's clock.
pub(crate) fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// 32 bytes that stand for a document nobody else sees.
pub(crate) fn digest(parts: &[&str]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key("anji devnet document");
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().as_bytes().to_vec()
}

/// A person or shop as one institution sees them: 16 bytes keyed by the institution's secret.
pub(crate) fn pseudonym(institution: &str, name: &str) -> Vec<u8> {
    digest(&["pseudonym", institution, name]).split_off(16)
}

/// Scenes as they travel.
pub(crate) const fn scene(scene: Scene) -> pb::Scene {
    match scene {
        Scene::Online => pb::Scene::Online,
        Scene::MerchantPresented => pb::Scene::MerchantPresented,
        Scene::PayerPresented => pb::Scene::PayerPresented,
        Scene::InApp => pb::Scene::InApp,
        Scene::SocialTransfer => pb::Scene::SocialTransfer,
    }
}

/// A fresh view of the risk; `stale` makes one that ran out a minute ago.
pub(crate) fn assertion(of: &str, stale: bool) -> pb::RiskAssertion {
    let now = now_ms();
    let (as_of_ms, valid_until_ms) = if stale { (now - HOUR_MS, now - 60_000) } else { (now - 1_000, now + HOUR_MS) };
    pb::RiskAssertion { model_kind: 2, score: 120, as_of_ms, valid_until_ms, evidence_hash: digest(&["risk", of]) }
}

/// How a call ended, and how long its answer took.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) result: Result<pb::OperationResult, (u16, String)>,
    pub(crate) took: Duration,
    /// How often it had to be asked again.
    pub(crate) n_repeats: u32,
}

impl Answered {
    /// The result of a call that must not be refused.
    pub(crate) fn done(self) -> Result<pb::OperationResult> {
        self.result.map_err(|(code, text)| anyhow!("refused with {code}: {text}"))
    }
}

/// Asks until the ledger has answered: with a result or with a reject. The same request every time, so nothing happens twice.
pub(crate) async fn settle<F, Fut>(mut ask: F) -> Result<Answered>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Response<pb::OperationResult>, Status>>,
{
    let begin = Instant::now();
    let mut pause = Duration::from_millis(50);
    let mut n_repeats = 0;
    loop {
        let status = match tokio::time::timeout(Duration::from_secs(15), ask()).await {
            Ok(Ok(response)) => {
                let result = Ok(response.into_inner());
                return Ok(Answered { result, took: begin.elapsed(), n_repeats });
            }
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer within 15 s"),
        };
        if let Some(code) = reject_code(&status) {
            return Ok(Answered { result: Err((code, status.message().to_owned())), took: begin.elapsed(), n_repeats });
        }
        if !is_open(&status) {
            bail!("{}", explain(&status));
        }
        if begin.elapsed() > PATIENCE {
            bail!("still open after {} s: {}", PATIENCE.as_secs(), explain(&status));
        }
        n_repeats += 1;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// What the acquirer's adapter has reported of payments, refunds and mandates: the latest state of each.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    changed: Notify,
}

#[derive(Default)]
struct InboxState {
    payments: HashMap<Vec<u8>, pb::Payment>,
    refunds: HashMap<Vec<u8>, pb::Refund>,
    mandates: HashMap<Vec<u8>, pb::Mandate>,
    next_seq: u64,
}

impl Inbox {
    fn note(&self, item: pb::ResultItem) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.next_seq = state.next_seq.max(item.seq + 1);
        let key = |id: &Option<pb::Id>| id.as_ref().map(|id| id.op_id.clone()).unwrap_or_default();
        match item.state {
            Some(pb::result_item::State::Payment(it)) => drop(state.payments.insert(key(&it.id), it)),
            Some(pb::result_item::State::Refund(it)) => drop(state.refunds.insert(key(&it.id), it)),
            Some(pb::result_item::State::Mandate(it)) => drop(state.mandates.insert(key(&it.id), it)),
            Some(pb::result_item::State::Window(_)) | None => {}
        }
        drop(state);
        self.changed.notify_waiters();
    }

    async fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&InboxState) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(&self.state.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, changed).await.is_err() {
                bail!("{what} was not reported within {} s", patience.as_secs());
            }
        }
    }

    /// Waits until the payment is in a state that `is_it` accepts.
    pub(crate) async fn payment(&self, id: &pb::Id, is_it: impl Fn(&pb::Payment) -> bool) -> Result<pb::Payment> {
        self.wait("the payment's next state", PATIENCE, |state| {
            state.payments.get(&id.op_id).filter(|it| is_it(it)).cloned()
        })
        .await
    }

    /// Waits until the refund is posted or failed.
    pub(crate) async fn refund(&self, id: &pb::Id) -> Result<pb::Refund> {
        let is_it = |it: &&pb::Refund| it.status() != pb::RefundStatus::Accepted;
        self.wait("the refund's end", PATIENCE, |state| state.refunds.get(&id.op_id).filter(is_it).cloned()).await
    }

    /// Waits until the mandate is in `status`.
    pub(crate) async fn mandate(&self, id: &pb::Id, status: pb::MandateStatus) -> Result<()> {
        let is_it = |it: &&pb::Mandate| it.status() == status;
        self.wait("the mandate's next state", PATIENCE, |state| state.mandates.get(&id.op_id).filter(is_it).map(|_| ()))
            .await
    }

    /// Reads the stream of results for ever; resumes where it broke.
    async fn follow(self: Arc<Self>, mut adapter: Adapter) {
        loop {
            let from_seq = self.state.lock().unwrap_or_else(PoisonError::into_inner).next_seq;
            if let Ok(stream) = adapter.stream_results(pb::StreamResultsRequest { from_seq }).await {
                let mut stream = stream.into_inner();
                while let Ok(Some(item)) = stream.message().await {
                    self.note(item);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Shopper and merchant at the acquirer's adapter.
#[derive(Clone)]
pub(crate) struct FrontDesk {
    pub(crate) adapter: Adapter,
    pub(crate) inbox: Arc<Inbox>,
}

impl FrontDesk {
    /// Opens the desk and starts to follow its results.
    pub(crate) fn open(door: &Door) -> Result<Self> {
        let inbox = Arc::new(Inbox::default());
        tokio::spawn(Arc::clone(&inbox).follow(door.adapter()?));
        Ok(Self { adapter: door.adapter()?, inbox })
    }

    /// Asks for a link to the issuer.
    pub(crate) async fn propose(&self, run: &str, issuer: u32, shopper: &Shopper) -> Result<pb::Id> {
        let request = pb::CreateMandateRequest {
            request_id: format!("{run}-{}-propose", shopper.name),
            issuer,
            payer: pseudonym(run, &shopper.name),
            ceiling: shopper.ceiling,
            payment_cap: shopper.payment_cap,
            scenes: shopper.scenes.iter().map(|it| scene(*it).into()).collect(),
            tier: i32::from(shopper.tier),
            expires_at_ms: now_ms() + 365 * 24 * HOUR_MS,
            request_commitment: digest(&["mandate", run, &shopper.name]),
        };
        let answer = settle(|| {
            let (mut adapter, request) = (self.adapter.clone(), request.clone());
            async move { adapter.create_mandate(request).await }
        });
        entity(&answer.await?.done()?)
    }
}

/// The id of what an operation made.
pub(crate) fn entity(result: &pb::OperationResult) -> Result<pb::Id> {
    let id = result.entity.as_ref().and_then(|it| it.id.clone());
    id.ok_or_else(|| anyhow!("the adapter's answer names no entity: {result:?}"))
}

/// What the issuer's desk is told to do with a payment that asks for a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Hold,
    Decline,
    Silent,
}

/// The issuer's desk: answers everything that waits for the issuer.
pub(crate) struct IssuerDesk {
    adapter: Adapter,
    service_provider: u32,
    schedule_version: u32,
    run: String,
    state: Mutex<DeskState>,
    /// Answers on their way at any time.
    side_by_side: Semaphore,
}

#[derive(Default)]
struct DeskState {
    /// By pseudonym at the acquirer.
    shoppers: HashMap<Vec<u8>, Shopper>,
    /// By trace id.
    verdicts: HashMap<Vec<u8>, Verdict>,
    answered: HashSet<Vec<u8>>,
    problems: Vec<String>,
}

impl IssuerDesk {
    /// Opens the desk and starts to work.
    pub(crate) fn open(door: &Door, service_provider: u32, schedule_version: u32, run: &str) -> Result<Arc<Self>> {
        let desk = Arc::new(Self {
            adapter: door.adapter()?,
            service_provider,
            schedule_version,
            run: run.to_owned(),
            state: Mutex::default(),
            side_by_side: Semaphore::new(64),
        });
        tokio::spawn(Arc::clone(&desk).work());
        Ok(desk)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the desk about a shopper before the acquirer proposes.
    pub(crate) fn expect_shopper(&self, shopper: &Shopper) {
        self.state().shoppers.insert(pseudonym(&self.run, &shopper.name), shopper.clone());
    }

    /// Tells the desk what to answer to the order with this trace.
    pub(crate) fn expect_order(&self, trace_id: &[u8], verdict: Verdict) {
        self.state().verdicts.insert(trace_id.to_vec(), verdict);
    }

    /// What went wrong at the desk.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.state().problems.clone()
    }

    async fn work(self: Arc<Self>) {
        let mut adapter = self.adapter.clone();
        loop {
            if let Ok(stream) = adapter.stream_work(pb::StreamWorkRequest {}).await {
                let mut stream = stream.into_inner();
                while let Ok(Some(item)) = stream.message().await {
                    let Ok(permit) = self.side_by_side.acquire().await else { return };
                    permit.forget();
                    let desk = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(problem) = desk.answer(item).await {
                            desk.state().problems.push(format!("{problem:#}"));
                        }
                        desk.side_by_side.add_permits(1);
                    });
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Work comes at least once: true the first time.
    fn is_new(&self, id: &pb::Id) -> bool {
        self.state().answered.insert(id.op_id.clone())
    }

    async fn answer(&self, item: pb::WorkItem) -> Result<()> {
        match item.work {
            Some(pb::work_item::Work::Mandate(mandate)) => self.activate(mandate).await,
            Some(pb::work_item::Work::Payment(payment)) => self.judge(payment).await,
            Some(pb::work_item::Work::Refund(refund)) => self.give_back(refund).await,
            None => bail!("a work item without work"),
        }
    }

    async fn activate(&self, mandate: pb::Mandate) -> Result<()> {
        let id = mandate.id.clone().ok_or_else(|| anyhow!("a mandate without id"))?;
        let Some(shopper) = self.state().shoppers.get(&mandate.payer).cloned() else { return Ok(()) };
        if shopper.state == MandateState::Proposed || !self.is_new(&id) {
            return Ok(());
        }
        let now = now_ms();
        let request = pb::ActivateMandateRequest {
            request_id: format!("activate-{}", hex::encode(&id.op_id)),
            mandate: Some(id),
            payer_at_issuer: pseudonym("issuer", &shopper.name),
            ceiling: mandate.ceiling,
            payment_cap: mandate.payment_cap,
            scenes: mandate.scenes,
            guarantee: (shopper.guarantee > 0)
                .then(|| pb::Guarantee { amount: shopper.guarantee, until_ms: now + 24 * HOUR_MS }),
            assertion: Some(pb::RiskAssertion {
                valid_until_ms: now + 24 * HOUR_MS,
                ..assertion(&shopper.name, false)
            }),
            disclosure: Some(pb::Disclosure {
                lender: "Anji Devnet Consumer Finance Co., Ltd.".to_owned(),
                service_provider: self.service_provider,
                annual_cost_bps: 1_460,
                schedule_version: self.schedule_version,
                page_hash: digest(&["page", "v1"]),
                shown_ms: 6_000,
            }),
            consent: Some(pb::Consent {
                given_at_ms: now - 1_000,
                until_ms: now + 30 * 24 * HOUR_MS,
                record_hash: digest(&["consent", &shopper.name]),
            }),
        };
        self.settle("activate", || {
            let (mut adapter, request) = (self.adapter.clone(), request.clone());
            async move { adapter.activate_mandate(request).await }
        })
        .await
    }

    async fn judge(&self, payment: pb::Payment) -> Result<()> {
        let id = payment.id.clone().ok_or_else(|| anyhow!("a payment without id"))?;
        let trace = payment.order.as_ref().map(|order| order.trace_id.clone()).unwrap_or_default();
        // An order of an earlier run of the player: nobody waits for it any more.
        let Some(verdict) = self.state().verdicts.get(&trace).copied() else { return Ok(()) };
        if verdict == Verdict::Silent || !self.is_new(&id) {
            return Ok(());
        }
        let request_id = format!("judge-{}", hex::encode(&id.op_id));
        if verdict == Verdict::Hold {
            let request = pb::HoldPaymentRequest {
                request_id,
                payment: Some(id),
                assertion: Some(assertion("payment", false)),
                disclosure: None,
            };
            self.settle("hold", || {
                let (mut adapter, request) = (self.adapter.clone(), request.clone());
                async move { adapter.hold_payment(request).await }
            })
            .await
        } else {
            let request = pb::DeclinePaymentRequest { request_id, payment: Some(id), reason: 51 };
            self.settle("decline", || {
                let (mut adapter, request) = (self.adapter.clone(), request.clone());
                async move { adapter.decline_payment(request).await }
            })
            .await
        }
    }

    async fn give_back(&self, refund: pb::Refund) -> Result<()> {
        let id = refund.id.clone().ok_or_else(|| anyhow!("a refund without id"))?;
        if !self.is_new(&id) {
            return Ok(());
        }
        let request_id = format!("refund-{}", hex::encode(&id.op_id));
        if refund.reason == REASON_ACCOUNT_CLOSED {
            let request = pb::FailRefundRequest { request_id, refund: Some(id), reason: 14 };
            self.settle("fail the refund", || {
                let (mut adapter, request) = (self.adapter.clone(), request.clone());
                async move { adapter.fail_refund(request).await }
            })
            .await
        } else {
            let request = pb::PostRefundRequest { request_id, refund: Some(id) };
            self.settle("post the refund", || {
                let (mut adapter, request) = (self.adapter.clone(), request.clone());
                async move { adapter.post_refund(request).await }
            })
            .await
        }
    }

    async fn settle<F, Fut>(&self, what: &str, ask: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Response<pb::OperationResult>, Status>>,
    {
        let answered = settle(ask).await.map_err(|error| error.context(format!("issuer's desk, to {what}")))?;
        answered.done().map(drop).map_err(|error| error.context(format!("issuer's desk, to {what}")))
    }

    /// Stops a mandate for now or for good.
    pub(crate) async fn stop_mandate(&self, id: &pb::Id, for_good: bool) -> Result<()> {
        let word = if for_good { "revoke" } else { "suspend" };
        let request = pb::StopMandateRequest {
            request_id: format!("{word}-{}", hex::encode(&id.op_id)),
            mandate: Some(id.clone()),
            reason: 3,
        };
        self.settle(word, || {
            let (mut adapter, request) = (self.adapter.clone(), request.clone());
            async move {
                if for_good { adapter.revoke_mandate(request).await } else { adapter.suspend_mandate(request).await }
            }
        })
        .await
    }
}

/// The clearing desk: closes windows and reads them.
pub(crate) struct ClearingDesk {
    adapter: Adapter,
}

impl ClearingDesk {
    pub(crate) fn open(door: &Door) -> Result<Self> {
        Ok(Self { adapter: door.adapter()? })
    }

    /// A window as it stands; 0 is the open one.
    async fn window(&self, window: u64) -> Result<pb::Window> {
        let begin = Instant::now();
        loop {
            match self.adapter.clone().get_window(pb::AdapterGetWindowRequest { window }).await {
                Ok(response) => {
                    return response.into_inner().window.ok_or_else(|| anyhow!("an answer without a window"));
                }
                Err(status) if is_open(&status) && begin.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(status) => bail!("the window cannot be read: {}", explain(&status)),
            }
        }
    }

    /// Several windows, in order.
    pub(crate) async fn windows(&self, ids: std::ops::RangeInclusive<u64>) -> Result<Vec<pb::Window>> {
        let mut windows = Vec::new();
        for id in ids {
            windows.push(self.window(id).await?);
        }
        Ok(windows)
    }

    /// Closes the open window and gives it as closed. Ledger time may be faster: then the next one is closed.
    pub(crate) async fn close_open(&self, run: &str) -> Result<pb::Window> {
        const WINDOW_NOT_OPEN: u16 = 5012;
        loop {
            let window = self.window(0).await?.id;
            let request = pb::CloseWindowRequest { request_id: format!("{run}-close-{window}"), window };
            let answer = settle(|| {
                let (mut adapter, request) = (self.adapter.clone(), request.clone());
                async move { adapter.close_window(request).await }
            });
            match answer.await?.result {
                Ok(_) => return self.window(window).await,
                Err((WINDOW_NOT_OPEN, _)) => {}
                Err((code, text)) => bail!("window {window} cannot be closed: {code}, {text}"),
            }
        }
    }
}
