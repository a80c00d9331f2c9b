//! The evidence service: whose data it is, then a bundle. Contract: `proto/anji/v1/evidence.proto`.

use crate::access::{Sight, mandate_parties, parties_of};
use crate::deadline::Deadline;
use crate::door::caller;
use crate::ledger::{self, Failure, entity, state_as};
use crate::server::Core;
use anji_contracts::EntityKey;
use anji_contracts::types::{MandateId, ParticipantId, PaymentId, RefundId, ScheduleVersion, WindowId};
use anji_evidence::{Ask, Evidence, EvidenceError};
use anji_proto::v1;
use anji_proto::v1::evidence_claim::About;
use anji_proto::v1::evidence_entity::Key;
use anji_proto::v1::evidence_service_server::EvidenceService;
use anji_storage::Reader;
use anji_verify::bundle::MAX_CLAIMS;
use anji_wire::Reason;
use anji_wire::field::{FieldError, required, scoped_id};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

/// Bundles made at one time: each may read a block.
const AT_ONCE: usize = 4;
/// When asking again for what is not final yet makes sense.
const RETRY: Duration = Duration::from_millis(500);

/// The evidence service.
pub(crate) struct EvidenceDesk {
    core: Arc<Core>,
    places: Semaphore,
}

impl EvidenceDesk {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, places: Semaphore::new(AT_ONCE) }
    }

    /// Every piece of evidence that leaves the node passes here, whoever asked: the place to note who read what.
    async fn make(&self, own: ParticipantId, asks: Vec<Ask>) -> Result<v1::GetEvidenceResponse, Status> {
        let _place = self.places.acquire().await.map_err(|_| Reason::ShuttingDown.status("the node is stopping"))?;
        ledger::read(&self.core.reader, move |reader| {
            let sight = Sight::of(reader, own)?;
            asks.iter().try_for_each(|ask| check_sight(reader, sight, ask))?;
            let made = Evidence::new(reader.clone()).bundle(&asks).map_err(answer)?;
            Ok(v1::GetEvidenceResponse { bundle: made.bundle.encode(), height: made.height })
        })
        .await
    }
}

#[tonic::async_trait]
impl EvidenceService for EvidenceDesk {
    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        let since = Instant::now();
        let (own, deadline) = (caller(&request)?.participant, Deadline::of(request.metadata()));
        let asks = read_asks(&request.get_ref().claims, own)?;
        let answer = deadline.within(self.make(own, asks)).await;
        self.core.metrics.on_answer("GetEvidence", since, &answer);
        answer.map(Response::new)
    }
}

fn read_asks(claims: &[v1::EvidenceClaim], own: ParticipantId) -> Result<Vec<Ask>, FieldError> {
    if !(1..=MAX_CLAIMS).contains(&claims.len()) {
        return Err(FieldError::new("claims", "must be 1 to 16"));
    }
    claims.iter().map(|claim| read_ask(claim, own)).collect()
}

fn read_ask(claim: &v1::EvidenceClaim, own: ParticipantId) -> Result<Ask, FieldError> {
    let height = (claim.height > 0).then_some(claim.height);
    match required("claims.about", claim.about.as_ref())? {
        _ if height.is_some() && !matches!(claim.about, Some(About::Entity(_))) => {
            Err(FieldError::new("claims.height", "goes with `entity` only"))
        }
        About::Operation(id) => Ok(Ask::Operation(scoped_id("claims.operation", Some(id), Some(own))?)),
        About::Entity(entity) => Ok(Ask::State(read_key(entity)?, height)),
        About::Absence(absence) => {
            let id = scoped_id("claims.absence.payment", absence.payment.as_ref(), Some(own))?;
            Ok(Ask::Absence(PaymentId(id), WindowId(absence.window)))
        }
    }
}

fn read_key(entity: &v1::EvidenceEntity) -> Result<EntityKey, FieldError> {
    Ok(match required("claims.entity.key", entity.key.as_ref())? {
        Key::Payment(id) => EntityKey::Payment(PaymentId(scoped_id("claims.entity.payment", Some(id), None)?)),
        Key::Refund(id) => EntityKey::Refund(RefundId(scoped_id("claims.entity.refund", Some(id), None)?)),
        Key::Mandate(id) => EntityKey::Mandate(MandateId(scoped_id("claims.entity.mandate", Some(id), None)?)),
        Key::Line(id) => EntityKey::Line(MandateId(scoped_id("claims.entity.line", Some(id), None)?)),
        Key::Position(id) => EntityKey::Position(ParticipantId(*id)),
        Key::Obligation(it) => EntityKey::Obligation(ParticipantId(it.participant), WindowId(it.window)),
        Key::Window(id) => EntityKey::Window(WindowId(*id)),
        Key::Participant(id) => EntityKey::Participant(ParticipantId(*id)),
        Key::Schedule(version) => EntityKey::Schedule(ScheduleVersion(*version)),
    })
}

/// Whether the caller may have evidence of this.
fn check_sight(reader: &Reader, sight: Sight, ask: &Ask) -> Result<(), Failure> {
    let parties = match ask {
        Ask::Operation(id) => vec![id.participant],
        Ask::Absence(payment, _) => vec![payment.0.participant],
        Ask::State(key, _) => match key {
            EntityKey::Participant(_) | EntityKey::Window(_) | EntityKey::Schedule(_) => return Ok(()),
            EntityKey::Payment(id) => parties_of(reader, *id)?.to_vec(),
            EntityKey::Refund(_) => {
                let (refund, ..) = state_as!(entity(reader, key, "refund")?, Refund)?;
                parties_of(reader, refund.payment)?.to_vec()
            }
            EntityKey::Mandate(id) | EntityKey::Line(id) => {
                let (mandate, ..) = state_as!(entity(reader, &EntityKey::Mandate(*id), "mandate")?, Mandate)?;
                mandate_parties(&mandate).to_vec()
            }
            EntityKey::Position(id) | EntityKey::Obligation(id, _) => vec![*id],
            EntityKey::Dispute(_) | EntityKey::Control | EntityKey::WindowPayments(_) => Vec::new(),
        },
    };
    Ok(sight.check(&parties)?)
}

fn answer(error: EvidenceError) -> Failure {
    let text = error.to_string();
    match error {
        EvidenceError::Storage(error) => Failure::Storage(error),
        EvidenceError::Inconsistent(what) => {
            tracing::error!(what, "evidence could not be made");
            Reason::StorageFailed.status("the node's data contradicts itself; its log says more").into()
        }
        EvidenceError::NotFound { .. } | EvidenceError::NotThen { .. } => Reason::NotFound.status(text).into(),
        EvidenceError::Captured | EvidenceError::TooMany { .. } | EvidenceError::TooFar { .. } => {
            Reason::NotProvable.status(text).into()
        }
        EvidenceError::NotYet(_) | EvidenceError::WindowOpen | EvidenceError::Overtaken => {
            Reason::EvidenceNotYet.status_retry(text, RETRY).into()
        }
    }
}
