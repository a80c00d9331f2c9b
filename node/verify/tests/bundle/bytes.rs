//! Every byte counts: flipped, cut, added.

use crate::claims::Sample;
use anji_contracts::codec::{self, Domain};
use anji_verify::bundle::{
    Bundle, BundleError, Fault, MAGIC, MAX_BUNDLE_BYTES, Part, Proven, SEAL_BYTES, Statement, verify,
};

/// The file with a seal that fits, as somebody would write it who changes things on purpose.
pub(crate) fn sealed_again(bytes: &[u8]) -> Vec<u8> {
    let body = &bytes[..bytes.len().saturating_sub(SEAL_BYTES)];
    [body, &codec::hash(Domain::Evidence, body).0].concat()
}

/// What a changed file may still say: that another payment is absent, which is as true.
pub(crate) fn is_another_absence(proven: &Proven, honest: &Proven) -> bool {
    let subjects = |it: &Proven| it.statements.iter().map(Statement::subject).collect::<Vec<_>>();
    let is_absence = |it: &Proven| it.statements.iter().any(|it| matches!(it, Statement::Absence { .. }));
    is_absence(proven) && is_absence(honest) && subjects(proven) != subjects(honest)
}

#[test]
fn any_flipped_byte_fails() {
    let (all, quick) = (Sample::new(), Sample::quick());
    let last = all.bundles().pop().map(|bundle| (&all, bundle));
    for (Sample { ledger, .. }, (name, bundle)) in quick.bundles().into_iter().map(|it| (&quick, it)).chain(last) {
        let good = bundle.encode();
        let honest = verify(&good, &ledger.trust).unwrap_or_else(|error| panic!("{name}: {error}"));
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 1 << (place % 8);
            let error = verify(&bytes, &ledger.trust);
            assert!(error.is_err(), "{name}: byte {place} went unnoticed");
            let is_body = (MAGIC.len()..good.len() - SEAL_BYTES).contains(&place);
            let Err(BundleError { fault: Fault::Damaged, .. }) = error else { continue };
            // Only the seal noticed. That is enough for nothing but the name of what is absent.
            let told = verify(&sealed_again(&bytes), &ledger.trust);
            let harmless = told.is_ok_and(|told| is_another_absence(&told, &honest));
            assert!(!is_body || harmless, "{name}: byte {place} was noticed by nothing but the seal");
        }
    }
}

#[test]
fn a_seal_is_that_of_its_file() {
    let Sample { ledger, .. } = &Sample::new();
    let bundles = Sample::new().bundles();
    let (one, other) = (bundles[0].1.encode(), bundles[2].1.encode());
    let seal = &other[other.len() - SEAL_BYTES..];
    let error = verify(&[&one[..one.len() - SEAL_BYTES], seal].concat(), &ledger.trust).unwrap_err();
    assert_eq!((error.part, error.fault), (Part::File, Fault::Damaged));
    assert_eq!(sealed_again(&one), one);
}

#[test]
fn anything_cut_off_or_added_fails() {
    let sample = Sample::new();
    for (name, bundle) in sample.bundles() {
        let good = bundle.encode();
        assert_eq!(Bundle::decode(&good).unwrap(), bundle, "{name}");
        for end in 0..good.len() {
            assert!(verify(&good[..end], &sample.ledger.trust).is_err(), "{name}: cut at {end}");
        }
        let longer = sealed_again(&[&good[..good.len() - SEAL_BYTES], &[0; 1 + SEAL_BYTES]].concat());
        let error = verify(&longer, &sample.ledger.trust).unwrap_err();
        assert_eq!((error.part, error.fault), (Part::File, Fault::TrailingBytes));
        assert!(verify(&good[1..], &sample.ledger.trust).is_err());
    }
}

#[test]
fn what_is_no_bundle_is_called_so() {
    let trust = Sample::new().ledger.trust;
    for bytes in [&b""[..], b"ANJIEVD", b"ANJIEVD2rest", b"PK\x03\x04", &[0; 1000]] {
        assert_eq!(verify(bytes, &trust).unwrap_err().fault, Fault::NoBundle);
    }
    let large = vec![b'A'; MAX_BUNDLE_BYTES + 1];
    assert_eq!(verify(&large, &trust).unwrap_err().fault, Fault::TooLarge { limit: MAX_BUNDLE_BYTES });
    // A count far above what follows.
    let bytes = [b"ANJIEVD1".as_slice(), &[0xff; 64]].concat();
    let error = verify(&bytes, &trust).unwrap_err();
    assert_eq!(error.to_string(), "change 1 of the validator set: its bytes cannot be decoded");
}
