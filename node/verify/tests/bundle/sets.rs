//! From the trusted validators to those that signed: quorums, chains of headers, and every way to cheat on them.

use crate::claims::{Sample, id, payment};
use crate::world::{Ledger, Voters};
use anji_contracts::Entity;
use anji_contracts::entry::Cause;
use anji_contracts::types::{ChainId, Hash32};
use anji_verify::bundle::{Bundle, Claim, Fault, List, Part, Trust, verify};
use anji_verify::{Address, CertificateError, CheckpointError};

fn ledger() -> (Ledger, u64) {
    let mut ledger = Ledger::new();
    let index = ledger.put(Entity::Payment(payment(1, 5)), Cause::Op(id(1)));
    ledger.block();
    (ledger, index)
}

fn bundle(ledger: &Ledger, index: u64) -> Bundle {
    ledger.bundle(vec![Claim::State(ledger.current(index))])
}

#[track_caller]
fn wrong(bundle: &Bundle, trust: &Trust, part: Part, is_it: impl Fn(&Fault) -> bool) {
    let error = verify(&bundle.encode(), trust).unwrap_err();
    assert!(error.part == part && is_it(&error.fault), "{error:?}");
}

#[test]
fn another_chain_or_other_validators_are_not_trusted() {
    let Sample { ledger, paid, .. } = Sample::new();
    let good = bundle(&ledger, paid);
    let other = Trust { chain_id: ChainId(Hash32([1; 32])), ..ledger.trust.clone() };
    wrong(&good, &other, Part::Header, |fault| *fault == Fault::OtherChain(ledger.chain));
    let strangers = Trust { validators: Voters::new(&[1, 2, 3, 5]).set(), ..ledger.trust.clone() };
    wrong(&good, &strangers, Part::Header, |fault| matches!(fault, Fault::OtherValidators { .. }));
    let heavier = Voters::weighted(&[(1, 2), (2, 1), (3, 1), (4, 1)]).set();
    let heavier = Trust { validators: heavier, ..ledger.trust.clone() };
    wrong(&good, &heavier, Part::Header, |fault| matches!(fault, Fault::OtherValidators { .. }));
    let later = Trust { height: 6, ..ledger.trust.clone() };
    wrong(&good, &later, Part::Header, |fault| *fault == Fault::Order { height: 5, lowest: 6 });
    assert!(verify(&good.encode(), &Trust { height: 5, ..ledger.trust }).is_ok());
}

#[test]
fn both_quorums_are_needed_and_nobody_counts_twice() {
    let (ledger, index) = ledger();
    let good = bundle(&ledger, index);
    let certificate = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle
    };
    let few =
        |fault: &Fault| matches!(fault, Fault::Certificate(CertificateError::NotEnoughPower { signed: 2, total: 4 }));
    let bad = certificate(&|it| it.anchor.certificate = ledger.voters.certify(&it.anchor.header, 2));
    wrong(&bad, &ledger.trust, Part::Certificate, few);
    let bad = certificate(&|it| it.anchor.certificate.signatures[2] = it.anchor.certificate.signatures[0].clone());
    let twice = |fault: &Fault| matches!(fault, Fault::Certificate(CertificateError::Duplicate(_)));
    wrong(&bad, &ledger.trust, Part::Certificate, twice);
    let bad = certificate(&|it| it.anchor.certificate.signatures[1].validator = Address([3; 20]));
    let unknown = |fault: &Fault| matches!(fault, Fault::Certificate(CertificateError::Unknown(_)));
    wrong(&bad, &ledger.trust, Part::Certificate, unknown);
    let bad = certificate(&|it| {
        it.anchor.certificate.signatures.extend(ledger.voters.certify(&it.anchor.header, 4).signatures)
    });
    let many = |fault: &Fault| matches!(fault, Fault::Certificate(CertificateError::TooMany));
    wrong(&bad, &ledger.trust, Part::Certificate, many);
    let bad = certificate(&|it| it.anchor.certificate.height += 1);
    wrong(&bad, &ledger.trust, Part::Certificate, |fault| *fault == Fault::OtherHeader);
    // A header that nobody decided.
    let bad = certificate(&|it| it.anchor.header.time_ms += 1);
    wrong(&bad, &ledger.trust, Part::Certificate, |fault| *fault == Fault::OtherHeader);

    let log = good.anchor.header.log;
    let cosigned = |cosignatures| {
        let mut bundle = good.clone();
        bundle.anchor.cosignatures = List::new(cosignatures).unwrap();
        bundle
    };
    let bad = cosigned(ledger.voters.cosign(&ledger.chain, &log, 2));
    wrong(&bad, &ledger.trust, Part::Cosignatures, |fault| {
        *fault == Fault::Checkpoint(CheckpointError::NotEnoughPower { signed: 2, total: 4 })
    });
    wrong(&cosigned(Vec::new()), &ledger.trust, Part::Cosignatures, |fault| matches!(fault, Fault::Checkpoint(_)));
    let mut twice = ledger.voters.cosign(&ledger.chain, &log, 3);
    twice[1] = twice[0].clone();
    wrong(&cosigned(twice), &ledger.trust, Part::Cosignatures, |fault| {
        matches!(fault, Fault::Checkpoint(CheckpointError::Duplicate(_)))
    });
    let strangers = Voters::new(&[1, 2, 9]).cosign(&ledger.chain, &log, 3);
    wrong(&cosigned(strangers), &ledger.trust, Part::Cosignatures, |fault| {
        matches!(fault, Fault::Checkpoint(CheckpointError::Unknown(_)))
    });
    // Another root of the same size, cosigned by nobody that counts.
    let mut other = log;
    other.root.0[0] ^= 1;
    let elsewhere = ledger.voters.cosign(&ledger.chain, &other, 3);
    wrong(&cosigned(elsewhere), &ledger.trust, Part::Cosignatures, |fault| {
        matches!(fault, Fault::Checkpoint(CheckpointError::BadSignature(_)))
    });
    // More than needed is fine.
    assert!(verify(&cosigned(ledger.voters.cosign(&ledger.chain, &log, 4)).encode(), &ledger.trust).is_ok());
}

#[test]
fn power_counts_not_heads() {
    let (mut ledger, index) = ledger();
    ledger.voters = Voters::weighted(&[(1, 1), (2, 1), (3, 5)]);
    ledger.trust.validators = ledger.voters.set();
    // Two of three heads, two of seven in power.
    let error = verify(&bundle(&ledger, index).encode(), &ledger.trust).unwrap_err();
    assert_eq!(error.fault, Fault::Certificate(CertificateError::NotEnoughPower { signed: 2, total: 7 }));
    ledger.voters = Voters::weighted(&[(3, 5), (1, 1), (2, 1)]);
    assert!(verify(&bundle(&ledger, index).encode(), &ledger.trust).is_ok());
}

#[test]
fn changes_of_the_set_are_followed_and_none_can_be_left_out() {
    let (mut ledger, index) = ledger();
    let trust = ledger.trust.clone();
    for _ in 0..30 {
        ledger.block();
    }
    ledger.change_set(4, &Voters::new(&[1, 2, 3, 5]));
    ledger.change_set(9, &Voters::new(&[1, 2, 5, 6, 7]));
    ledger.change_set(20, &Voters::new(&[8, 9, 10, 11]));
    let good = bundle(&ledger, index);
    let proven = verify(&good.encode(), &trust).unwrap();
    assert_eq!((proven.n_set_changes, proven.n_validators), (3, 4));
    assert!(proven.words(&trust).join("\n").contains("by 3 changes"));
    // Trusting the set of a later height needs only the later changes.
    let later = Trust { height: 10, validators: Voters::new(&[1, 2, 5, 6, 7]).set(), ..trust.clone() };
    let with = |changes: &[usize]| {
        let mut bundle = good.clone();
        let picked = changes.iter().map(|&at| good.anchor.set_changes[at].clone()).collect();
        bundle.anchor.set_changes = List::new(picked).unwrap();
        bundle
    };
    assert!(verify(&with(&[2]).encode(), &later).is_ok());
    wrong(&good, &later, Part::SetChange(1), |fault| *fault == Fault::Order { height: 4, lowest: 10 });
    let others = |fault: &Fault| matches!(fault, Fault::OtherValidators { .. });
    wrong(&with(&[]), &trust, Part::Header, others);
    wrong(&with(&[1, 2]), &trust, Part::SetChange(1), others);
    wrong(&with(&[0, 2]), &trust, Part::SetChange(2), others);
    wrong(&with(&[0, 1]), &trust, Part::Header, others);
    wrong(&with(&[1, 0, 2]), &trust, Part::SetChange(1), others);
    wrong(&with(&[0, 0, 1, 2]), &trust, Part::SetChange(2), |fault| *fault == Fault::Order { height: 4, lowest: 5 });
    // Every byte of such a chain counts as well.
    let bytes = good.encode();
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        assert!(verify(&flipped, &trust).is_err(), "byte {place}");
    }
}

#[test]
fn a_change_is_written_out_as_its_header_says() {
    let (mut ledger, index) = ledger();
    let trust = ledger.trust.clone();
    for _ in 0..10 {
        ledger.block();
    }
    let before = ledger.voters.clone();
    ledger.change_set(4, &Voters::new(&[1, 2, 3, 5]));
    let good = bundle(&ledger, index);
    assert!(verify(&good.encode(), &trust).is_ok());
    let with = |change: &dyn Fn(&mut anji_verify::bundle::SetChange)| {
        let mut bundle = good.clone();
        let mut changes = bundle.anchor.set_changes.to_vec();
        change(&mut changes[0]);
        bundle.anchor.set_changes = List::new(changes).unwrap();
        bundle
    };
    let next = good.anchor.set_changes[0].next.to_vec();
    let listed = |list: Vec<_>| with(&move |it| it.next = List::new(list.clone()).unwrap());
    let bad_set = |fault: &Fault| *fault == Fault::BadNextSet;
    wrong(&listed(next[1..].to_vec()), &trust, Part::SetChange(1), bad_set);
    wrong(&listed(next.iter().rev().cloned().collect()), &trust, Part::SetChange(1), bad_set);
    wrong(&listed(Vec::new()), &trust, Part::SetChange(1), bad_set);
    let mut heavier = next.clone();
    heavier[0].power = 9;
    wrong(&listed(heavier), &trust, Part::SetChange(1), bad_set);
    // Too few of the set before: two of four.
    let header = good.anchor.set_changes[0].header.clone();
    let bad = with(&|it| it.certificate = before.certify(&header, 2));
    wrong(&bad, &trust, Part::SetChange(1), |fault| matches!(fault, Fault::Certificate(_)));
    // The new set cannot vote itself in.
    let newcomers = Voters::new(&[5, 6, 7, 8]);
    let bad = with(&|it| it.certificate = newcomers.certify(&header, 4));
    wrong(&bad, &trust, Part::SetChange(1), |fault| matches!(fault, Fault::Certificate(CertificateError::Unknown(_))));
    // A change that changes nothing only makes the file longer.
    let idle = {
        let mut same = ledger.header(4, &before.set());
        same.validators_hash = before.set().hash();
        same
    };
    let bad = with(&|it| {
        it.header = idle.clone();
        it.certificate = before.certify(&idle, 3);
        it.next = List::new(before.set().validators().to_vec()).unwrap();
    });
    wrong(&bad, &trust, Part::SetChange(1), |fault| *fault == Fault::NoChange);
    // An address that is not its key's, although the header commits to it.
    let mut forged = next;
    forged[0].public_key = before.0[3].1.public_key;
    let hash = anji_contracts::codec::hash(
        anji_contracts::codec::Domain::ValidatorSet,
        &anji_contracts::codec::encode(&forged),
    );
    let bad = with(&|it| {
        it.header.next_validators_hash = hash;
        it.certificate = before.certify(&it.header, 3);
        it.next = List::new(forged.clone()).unwrap();
    });
    wrong(&bad, &trust, Part::SetChange(1), bad_set);
}

#[test]
fn the_last_entry_is_the_block_the_header_speaks_of() {
    let (ledger, index) = ledger();
    let mut bad = bundle(&ledger, index);
    // A header of the right log, of a height that does not fit.
    bad.anchor.header.height += 1;
    bad.anchor.certificate = ledger.voters.certify(&bad.anchor.header, 3);
    wrong(&bad, &ledger.trust, Part::Block, |fault| matches!(fault, Fault::Mismatch(_)));
    let mut bad = bundle(&ledger, index);
    let other = ledger.entry(index);
    bad.anchor.block.entry = other.entry;
    wrong(&bad, &ledger.trust, Part::Block, |fault| matches!(fault, Fault::NotInLog { .. }));
    let (mut ledger, index) = ledger_without_block();
    let mut bad = bundle(&ledger, index);
    let last = ledger.entry(ledger.entries.len() as u64 - 1);
    (bad.anchor.block.entry, bad.anchor.block.path) = (last.entry, last.path);
    wrong(&bad, &ledger.trust, Part::Block, |fault| *fault == Fault::WrongKind);
    // Blocks of other formats are not read.
    ledger.block();
    let mut bad = bundle(&ledger, index);
    bad.anchor.header.format = 2;
    bad.anchor.certificate = ledger.voters.certify(&bad.anchor.header, 3);
    wrong(&bad, &ledger.trust, Part::Header, |fault| *fault == Fault::Format(2));
}

fn ledger_without_block() -> (Ledger, u64) {
    let (mut ledger, index) = ledger();
    ledger.put(Entity::Payment(payment(2, 5)), Cause::Op(id(2)));
    (ledger, index)
}
