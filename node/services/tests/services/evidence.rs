//! The evidence service: who gets what, and what is answered where there is nothing to prove. That bundles hold is tested in
//! `node/evidence` and, with a whole network, in `tests/outsiders`.

use crate::chain::{Chain, Token, reason};
use anji_contracts::types::{MandateId, PaymentId, ScopedId};
use anji_proto::v1;
use anji_proto::v1::evidence_claim::About;
use anji_proto::v1::evidence_entity::Key;
use anji_proto::v1::evidence_service_client::EvidenceServiceClient;
use anji_verify::bundle::Bundle;
use tonic::Status;

fn id(id: ScopedId) -> v1::Id {
    v1::Id { participant: id.participant.0, op_id: id.op_id.0.to_be_bytes().to_vec() }
}

fn claim(about: About) -> v1::EvidenceClaim {
    v1::EvidenceClaim { about: Some(about), height: 0 }
}

fn state(key: Key) -> v1::EvidenceClaim {
    claim(About::Entity(v1::EvidenceEntity { key: Some(key) }))
}

async fn ask(chain: &Chain, name: &str, claims: Vec<v1::EvidenceClaim>) -> Result<v1::GetEvidenceResponse, Status> {
    let token = Token(format!("Bearer {name}-token"));
    let mut client = EvidenceServiceClient::with_interceptor(chain.channel().await, token);
    Ok(client.get_evidence(v1::GetEvidenceRequest { claims }).await?.into_inner())
}

async fn outcome(chain: &Chain, name: &str, claim: v1::EvidenceClaim) -> String {
    match ask(chain, name, vec![claim]).await {
        Ok(answer) => {
            assert_eq!(Bundle::decode(&answer.bundle).unwrap().claims.len(), 1);
            "OK".into()
        }
        Err(status) => reason(&status),
    }
}

async fn story() -> (Chain, MandateId, PaymentId) {
    let mut chain = Chain::start().await;
    let mandate = chain.mandate().await;
    let (payment, _) = chain.requested(mandate).await;
    for _ in 0..3 {
        chain.block().await;
    }
    (chain, mandate, payment)
}

#[tokio::test]
async fn everybody_gets_evidence_of_what_is_theirs() {
    let (chain, mandate, payment) = story().await;
    let not_yet = outcome(&chain, "wallet", state(Key::Payment(id(payment.0)))).await;
    assert_eq!(not_yet, "EVIDENCE_NOT_YET", "nothing is final");
    chain.finish(chain.height - 2);
    let operation = || claim(About::Operation(id(payment.0)));
    let absence = || claim(About::Absence(v1::EvidenceAbsence { payment: Some(id(payment.0)), window: 1 }));
    let obligation = |participant| state(Key::Obligation(v1::EvidenceObligation { participant, window: 1 }));
    let (no, ok, none) = ("NOT_YOUR_DATA", "OK", "NOT_FOUND");
    // wallet: the acquirer; credit: the issuer; wallet2: a stranger; clearing and regulator see all.
    let rows: [(&str, v1::EvidenceClaim, [&str; 5]); 12] = [
        ("operation", operation(), [ok, no, no, ok, ok]),
        ("payment", state(Key::Payment(id(payment.0))), [ok, ok, no, ok, ok]),
        ("mandate", state(Key::Mandate(id(mandate.0))), [ok, ok, no, ok, ok]),
        // Nothing was held on it yet, so the line is not there.
        ("line", state(Key::Line(id(mandate.0))), [none, none, no, none, none]),
        ("position", state(Key::Position(1)), [ok, no, no, ok, ok]),
        ("the issuer's position", state(Key::Position(2)), [no, ok, no, ok, ok]),
        ("obligation", obligation(1), [none, no, no, none, none]),
        ("window", state(Key::Window(1)), [ok; 5]),
        ("participant", state(Key::Participant(2)), [ok; 5]),
        ("schedule", state(Key::Schedule(1)), [ok; 5]),
        ("absence while open", absence(), ["EVIDENCE_NOT_YET", no, no, "EVIDENCE_NOT_YET", "EVIDENCE_NOT_YET"]),
        ("no such payment", state(Key::Payment(id(mandate.0))), [none; 5]),
    ];
    for (what, claim, expected) in rows {
        for (name, expected) in ["wallet", "credit", "wallet2", "clearing", "regulator"].into_iter().zip(expected) {
            assert_eq!(outcome(&chain, name, claim.clone()).await, expected, "{what} for {name}");
        }
    }
    // One claim that is not the caller's spoils the whole bundle.
    let mixed = vec![operation(), state(Key::Position(2))];
    assert_eq!(reason(&ask(&chain, "wallet", mixed).await.unwrap_err()), no);
}

#[tokio::test]
async fn fields_and_tokens_are_judged_first() {
    let (chain, _, payment) = story().await;
    let good = || claim(About::Operation(id(payment.0)));
    let field = |claims: Vec<v1::EvidenceClaim>| {
        let chain = &chain;
        async move {
            let status = ask(chain, "wallet", claims).await.unwrap_err();
            assert_eq!(reason(&status), "FIELD_INVALID");
            crate::chain::metadata(&status, "field").unwrap()
        }
    };
    assert_eq!(field(Vec::new()).await, "claims");
    assert_eq!(field(vec![good(); 17]).await, "claims");
    assert_eq!(field(vec![v1::EvidenceClaim { about: None, height: 0 }]).await, "claims.about");
    assert_eq!(field(vec![v1::EvidenceClaim { height: 3, ..good() }]).await, "claims.height");
    let nothing = claim(About::Entity(v1::EvidenceEntity { key: None }));
    assert_eq!(field(vec![nothing]).await, "claims.entity.key");
    let short = claim(About::Operation(v1::Id { participant: 1, op_id: vec![1; 15] }));
    assert!(field(vec![short]).await.starts_with("claims.operation"));
    assert_eq!(reason(&ask(&chain, "operator", vec![good()]).await.unwrap_err()), "ROLE_MISSING");
    assert_eq!(reason(&ask(&chain, "nobody", vec![good()]).await.unwrap_err()), "TOKEN_UNKNOWN");
}
