//! Fuzzing with a seed, bounded in cases so that it runs with every test: bytes of all kinds never panic, never pass, and never
//! make the verifier take memory for what is not there. `ANJI_FUZZ_CASES` runs more of them.

use crate::bytes::{is_another_absence, sealed_again};
use crate::claims::Sample;
use anji_verify::bundle::{Bundle, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

fn cases(default: u32) -> u32 {
    std::env::var("ANJI_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn runner(default: u32) -> TestRunner {
    let seed = std::env::var("ANJI_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    TestRunner::new(Config {
        cases: cases(default),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    })
}

/// One change of a file.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Overwrite(prop::sample::Index, Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// Copies a piece to another place: whole fields with their lengths move like this.
    Copy(prop::sample::Index, prop::sample::Index, usize),
    Truncate(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    let interesting = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        prop::sample::select(vec![vec![0xff; 4], vec![0; 4], vec![0, 0, 0, 0x80], vec![0xff; 8], vec![1, 0, 0, 0]]),
    ];
    prop_oneof![
        (at(), 1_u8..).prop_map(|(place, mask)| Mutation::Flip(place, mask)),
        (at(), interesting.clone()).prop_map(|(place, bytes)| Mutation::Overwrite(place, bytes)),
        (at(), interesting).prop_map(|(place, bytes)| Mutation::Insert(place, bytes)),
        (at(), 1_usize..64).prop_map(|(place, count)| Mutation::Remove(place, count)),
        (at(), at(), 1_usize..300).prop_map(|(from, to, count)| Mutation::Copy(from, to, count)),
        at().prop_map(Mutation::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match mutation {
        Mutation::Flip(place, mask) => bytes[place.index(length)] ^= mask,
        Mutation::Overwrite(place, new) => {
            let start = place.index(length);
            for (to, from) in bytes[start..].iter_mut().zip(new) {
                *to = *from;
            }
        }
        Mutation::Insert(place, new) => {
            let start = place.index(length);
            bytes.splice(start..start, new.iter().copied());
        }
        Mutation::Remove(place, count) => {
            let start = place.index(length);
            bytes.drain(start..(start + count).min(length));
        }
        Mutation::Copy(from, to, count) => {
            let start = from.index(length);
            let piece = bytes[start..(start + count).min(length)].to_vec();
            let target = to.index(length);
            let end = (target + piece.len()).min(length);
            bytes.splice(target..end, piece);
        }
        Mutation::Truncate(place) => bytes.truncate(place.index(length)),
    }
}

#[test]
fn a_changed_bundle_never_passes() {
    let sample = Sample::quick();
    let trust = &sample.ledger.trust;
    let bundles: Vec<_> = sample.bundles().iter().map(|(_, bundle)| bundle.encode()).collect();
    let bundles: Vec<_> = bundles.into_iter().map(|bytes| (verify(&bytes, trust).unwrap(), bytes)).collect();
    let input = (any::<prop::sample::Index>(), prop::collection::vec(mutation(), 1..6));
    let tested = runner(5_000).run(&input, |(which, mutations)| {
        let (honest, good) = which.get(&bundles);
        let mut bytes = good.clone();
        mutations.iter().for_each(|mutation| apply(&mut bytes, mutation));
        let judged = verify(&bytes, trust);
        prop_assert_eq!(judged.is_ok(), bytes == *good, "{:?}", judged);
        // Sealed again by whoever changed it, it may name another payment that is absent too, and nothing else.
        let bytes = sealed_again(&bytes);
        if let Ok(told) = verify(&bytes, trust) {
            prop_assert!(told == *honest || is_another_absence(&told, honest), "{:?}", told);
        }
        if let Err(error) = judged {
            prop_assert!(!error.to_string().is_empty());
        }
        Ok(())
    });
    tested.unwrap();
}

#[test]
fn noise_is_refused_and_what_decodes_has_one_form() {
    let sample = Sample::quick();
    let noise = prop::collection::vec(prop_oneof![4 => Just(0_u8), 1 => any::<u8>()], 0..2_000);
    let tested = runner(3_000).run(&noise, |noise| {
        let bytes = sealed_again(&[b"ANJIEVD1".as_slice(), &noise, &[0; 32]].concat());
        prop_assert!(verify(&bytes, &sample.ledger.trust).is_err());
        if let Ok(bundle) = Bundle::decode(&bytes) {
            prop_assert_eq!(bundle.encode(), bytes);
        }
        Ok(())
    });
    tested.unwrap();
}
