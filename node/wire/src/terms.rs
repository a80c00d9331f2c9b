//! The terms of mandates and payments, both ways: scenes, tiers, orders, risk assertions, guarantees, disclosures, consents.

use crate::field::{self, FieldError};
use anji_contracts::ops::Order;
use anji_contracts::types::{
    Amount, Consent, Disclosure, Guarantee, MerchantCategory, ParticipantId, RiskAssertion, Scene, SceneSet,
    ScheduleVersion, Tier,
};
use anji_proto::v1;

const SCENES: [Scene; 5] =
    [Scene::Online, Scene::MerchantPresented, Scene::PayerPresented, Scene::InApp, Scene::SocialTransfer];

/// A scene.
#[must_use]
pub const fn scene(it: Scene) -> v1::Scene {
    match it {
        Scene::Online => v1::Scene::Online,
        Scene::MerchantPresented => v1::Scene::MerchantPresented,
        Scene::PayerPresented => v1::Scene::PayerPresented,
        Scene::InApp => v1::Scene::InApp,
        Scene::SocialTransfer => v1::Scene::SocialTransfer,
    }
}

/// A scene, read.
///
/// # Errors
/// The number is not known.
pub fn read_scene(field: &str, number: i32) -> Result<Scene, FieldError> {
    match v1::Scene::try_from(number) {
        Ok(v1::Scene::Online) => Ok(Scene::Online),
        Ok(v1::Scene::MerchantPresented) => Ok(Scene::MerchantPresented),
        Ok(v1::Scene::PayerPresented) => Ok(Scene::PayerPresented),
        Ok(v1::Scene::InApp) => Ok(Scene::InApp),
        Ok(v1::Scene::SocialTransfer) => Ok(Scene::SocialTransfer),
        Ok(v1::Scene::Unspecified) => Err(FieldError::new(field, "is required")),
        Err(_) => Err(FieldError::new(field, "is not a known scene")),
    }
}

/// A set of scenes.
#[must_use]
pub fn scenes(it: SceneSet) -> Vec<i32> {
    SCENES.into_iter().filter(|one| it.contains(*one)).map(|one| scene(one).into()).collect()
}

/// A set of scenes, read. A scene named twice counts once.
///
/// # Errors
/// A number is not known.
pub fn read_scenes(field: &str, numbers: &[i32]) -> Result<SceneSet, FieldError> {
    let scenes = numbers.iter().map(|number| read_scene(field, *number)).collect::<Result<Vec<_>, _>>()?;
    Ok(SceneSet::of(&scenes))
}

/// A tier.
#[must_use]
pub const fn tier(it: Tier) -> v1::Tier {
    match it {
        Tier::A => v1::Tier::A,
        Tier::B => v1::Tier::B,
        Tier::C => v1::Tier::C,
        Tier::D => v1::Tier::D,
    }
}

/// A tier, read.
///
/// # Errors
/// The number is not known.
pub fn read_tier(field: &str, number: i32) -> Result<Tier, FieldError> {
    match v1::Tier::try_from(number) {
        Ok(v1::Tier::A) => Ok(Tier::A),
        Ok(v1::Tier::B) => Ok(Tier::B),
        Ok(v1::Tier::C) => Ok(Tier::C),
        Ok(v1::Tier::D) => Ok(Tier::D),
        Ok(v1::Tier::Unspecified) => Err(FieldError::new(field, "is required")),
        Err(_) => Err(FieldError::new(field, "is not a known tier")),
    }
}

/// An order.
#[must_use]
pub fn order(it: &Order) -> v1::Order {
    v1::Order {
        merchant: it.merchant.0.to_vec(),
        category: u32::from(it.category.0),
        order_hash: it.order_hash.0.to_vec(),
        trace_id: it.trace_id.0.to_vec(),
        envelope_hash: it.envelope_hash.0.to_vec(),
    }
}

/// An order, read.
///
/// # Errors
/// It is missing or one of its fields cannot be used.
pub fn read_order(field: &str, it: Option<&v1::Order>) -> Result<Order, FieldError> {
    let it = field::required(field, it)?;
    Ok(Order {
        merchant: field::pseudonym(&format!("{field}.merchant"), &it.merchant)?,
        category: MerchantCategory(field::number_u16(&format!("{field}.category"), it.category)?),
        order_hash: field::hash32(&format!("{field}.order_hash"), &it.order_hash)?,
        trace_id: field::trace_id(&format!("{field}.trace_id"), &it.trace_id)?,
        envelope_hash: field::hash32_or_zero(&format!("{field}.envelope_hash"), &it.envelope_hash)?,
    })
}

/// A risk assertion.
#[must_use]
pub fn assertion(it: &RiskAssertion) -> v1::RiskAssertion {
    v1::RiskAssertion {
        model_kind: u32::from(it.model_kind),
        score: u32::from(it.score),
        as_of_ms: it.as_of_ms,
        valid_until_ms: it.valid_until_ms,
        evidence_hash: it.evidence_hash.0.to_vec(),
    }
}

/// A risk assertion, read.
///
/// # Errors
/// It is missing or one of its fields cannot be used.
pub fn read_assertion(field: &str, it: Option<&v1::RiskAssertion>) -> Result<RiskAssertion, FieldError> {
    let it = field::required(field, it)?;
    Ok(RiskAssertion {
        model_kind: field::number_u8(&format!("{field}.model_kind"), it.model_kind)?,
        score: field::number_u16(&format!("{field}.score"), it.score)?,
        as_of_ms: it.as_of_ms,
        valid_until_ms: it.valid_until_ms,
        evidence_hash: field::hash32(&format!("{field}.evidence_hash"), &it.evidence_hash)?,
    })
}

/// A guarantee.
#[must_use]
pub const fn guarantee(it: &Guarantee) -> v1::Guarantee {
    v1::Guarantee { amount: it.amount.0, until_ms: it.until_ms }
}

/// A guarantee, read.
#[must_use]
pub const fn read_guarantee(it: &v1::Guarantee) -> Guarantee {
    Guarantee { amount: Amount(it.amount), until_ms: it.until_ms }
}

/// A disclosure.
#[must_use]
pub fn disclosure(it: &Disclosure) -> v1::Disclosure {
    v1::Disclosure {
        lender: it.lender.clone(),
        service_provider: it.service_provider.0,
        annual_cost_bps: it.annual_cost_bps,
        schedule_version: it.schedule_version.0,
        page_hash: it.page_hash.0.to_vec(),
        shown_ms: it.shown_ms,
    }
}

/// A disclosure, read.
///
/// # Errors
/// It is missing or one of its fields cannot be used.
pub fn read_disclosure(field: &str, it: Option<&v1::Disclosure>) -> Result<Disclosure, FieldError> {
    let it = field::required(field, it)?;
    if it.lender.is_empty() || it.lender.len() > 128 {
        return Err(FieldError::new(&format!("{field}.lender"), "must be 1 to 128 bytes"));
    }
    Ok(Disclosure {
        lender: it.lender.clone(),
        service_provider: ParticipantId(it.service_provider),
        annual_cost_bps: it.annual_cost_bps,
        schedule_version: ScheduleVersion(it.schedule_version),
        page_hash: field::hash32(&format!("{field}.page_hash"), &it.page_hash)?,
        shown_ms: it.shown_ms,
    })
}

/// A consent.
#[must_use]
pub fn consent(it: &Consent) -> v1::Consent {
    v1::Consent { given_at_ms: it.given_at_ms, until_ms: it.until_ms, record_hash: it.record_hash.0.to_vec() }
}

/// A consent, read.
///
/// # Errors
/// It is missing or one of its fields cannot be used.
pub fn read_consent(field: &str, it: Option<&v1::Consent>) -> Result<Consent, FieldError> {
    let it = field::required(field, it)?;
    Ok(Consent {
        given_at_ms: it.given_at_ms,
        until_ms: it.until_ms,
        record_hash: field::hash32(&format!("{field}.record_hash"), &it.record_hash)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anji_contracts::types::{Hash32, Pseudonym, TraceId};

    fn sample_order() -> Order {
        Order {
            merchant: Pseudonym([1; 16]),
            category: MerchantCategory(5411),
            order_hash: Hash32([2; 32]),
            trace_id: TraceId([3; 16]),
            envelope_hash: Hash32([4; 32]),
        }
    }

    #[test]
    fn scenes_and_tiers_keep_their_numbers_both_ways() {
        for it in SCENES {
            assert_eq!(scene(it) as i32, i32::from(it as u8));
            assert_eq!(read_scene("scene", scene(it).into()), Ok(it));
        }
        for it in [Tier::A, Tier::B, Tier::C, Tier::D] {
            assert_eq!(tier(it) as i32, i32::from(it as u8));
            assert_eq!(read_tier("tier", tier(it).into()), Ok(it));
        }
        for bad in [0, 6, -1, i32::MAX] {
            assert!(read_scene("scene", bad).is_err(), "{bad}");
            assert!(read_tier("tier", bad).is_err(), "{bad}");
        }
        assert_eq!(read_scenes("scenes", &scenes(SceneSet::ALL)), Ok(SceneSet::ALL));
        assert_eq!(read_scenes("scenes", &[1, 1]), Ok(SceneSet::of(&[Scene::Online])));
        assert!(read_scenes("scenes", &[1, 77]).is_err());
    }

    #[test]
    fn terms_come_back_as_they_went() {
        let it = sample_order();
        assert_eq!(read_order("order", Some(&order(&it))), Ok(it));
        let it = RiskAssertion {
            model_kind: 2,
            score: 10_000,
            as_of_ms: 1,
            valid_until_ms: u64::MAX,
            evidence_hash: Hash32([9; 32]),
        };
        assert_eq!(read_assertion("assertion", Some(&assertion(&it))), Ok(it));
        let it = Guarantee { amount: Amount(u64::MAX), until_ms: 5 };
        assert_eq!(read_guarantee(&guarantee(&it)), it);
        let it = Disclosure {
            lender: "贷款人".to_owned(),
            service_provider: ParticipantId(3),
            annual_cost_bps: 1825,
            schedule_version: ScheduleVersion(1),
            page_hash: Hash32([7; 32]),
            shown_ms: 5000,
        };
        assert_eq!(read_disclosure("disclosure", Some(&disclosure(&it))), Ok(it));
        let it = Consent { given_at_ms: 1, until_ms: 2, record_hash: Hash32([8; 32]) };
        assert_eq!(read_consent("consent", Some(&consent(&it))), Ok(it));
    }

    #[test]
    fn wrong_lengths_name_their_field() {
        let good = order(&sample_order());
        let field_of = |it: v1::Order| read_order("order", Some(&it)).map_err(|error| error.field);
        let long = vec![0; 33];
        assert_eq!(field_of(v1::Order { merchant: vec![], ..good.clone() }), Err("order.merchant".into()));
        assert_eq!(field_of(v1::Order { category: 65_536, ..good.clone() }), Err("order.category".into()));
        assert_eq!(field_of(v1::Order { order_hash: long.clone(), ..good.clone() }), Err("order.order_hash".into()));
        assert_eq!(field_of(v1::Order { trace_id: vec![1], ..good.clone() }), Err("order.trace_id".into()));
        assert_eq!(field_of(v1::Order { envelope_hash: long, ..good.clone() }), Err("order.envelope_hash".into()));
        assert_eq!(field_of(v1::Order { envelope_hash: vec![], ..good }).map(|it| it.envelope_hash), Ok(Hash32::ZERO));
        assert!(read_order("order", None).is_err() && read_consent("consent", None).is_err());
        let lender = v1::Disclosure { lender: "x".repeat(129), page_hash: vec![0; 32], ..Default::default() };
        let field = read_disclosure("disclosure", Some(&lender)).map_err(|error| error.field);
        assert_eq!(field, Err("disclosure.lender".into()));
    }
}
