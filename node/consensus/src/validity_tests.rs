//! One row per rule, in the order of the checks.

use super::*;

const A: Address = Address([1; 20]);
const B: Address = Address([2; 20]);

fn expected() -> Expected {
    Expected {
        chain_id: ChainId(Hash32([9; 32])),
        height: 7,
        parent_hash: Hash32([8; 32]),
        parent_time_ms: 1_000_000,
        validators_hash: Hash32([3; 32]),
        next_validators_hash: Hash32([4; 32]),
        rules: 1,
        log: LogRoot { size: 50, root: Hash32([5; 32]) },
    }
}

fn header(batch_hashes: &[Hash32]) -> Header {
    let expected = expected();
    Header {
        format: FORMAT,
        chain_id: expected.chain_id,
        height: 7,
        round: 1,
        time_ms: 1_000_001,
        parent_hash: expected.parent_hash,
        proposer: B,
        n_batches: u32::try_from(batch_hashes.len()).expect("few"),
        batches_root: Header::batches_root_of(batch_hashes),
        log: expected.log,
        validators_hash: expected.validators_hash,
        next_validators_hash: expected.next_validators_hash,
        rules: 1,
    }
}

fn schedule(round: u32) -> Address {
    if round == 1 { B } else { A }
}

fn batch(i: u8) -> BatchFacts {
    BatchFacts {
        hash: Hash32([i; 32]),
        size_bytes: 1000,
        n_ops: 10,
        participant: ParticipantId(1),
        key_id: KeyId(1),
        expires_at_ms: 1_000_002,
    }
}

fn any_key(_: ParticipantId, _: KeyId, _: u64) -> Result<(), Reject> {
    Ok(())
}

#[test]
fn a_good_header_passes_and_each_wrong_field_has_its_own_fault() {
    assert_eq!(check_header(&header(&[]), &expected(), schedule), Ok(()));
    type Change = fn(&mut Header);
    let rows: &[(Change, &str)] = &[
        (|h| h.format = 2, "format"),
        (|h| h.chain_id = ChainId(Hash32::ZERO), "chain"),
        (|h| h.height = 8, "height"),
        (|h| h.height = 6, "height"),
        (|h| h.parent_hash = Hash32::ZERO, "parent"),
        (|h| h.time_ms = 1_000_000, "time"),
        (|h| h.proposer = A, "proposer"),
        (|h| h.round = 0, "proposer"),
        (|h| h.validators_hash = Hash32::ZERO, "validators"),
        (|h| h.next_validators_hash = Hash32::ZERO, "next_validators"),
        (|h| h.rules = 2, "rules"),
        (|h| h.log.size = 51, "log"),
        (|h| h.log.root = Hash32::ZERO, "log"),
    ];
    for (change, name) in rows {
        let mut wrong = header(&[]);
        change(&mut wrong);
        let fault = check_header(&wrong, &expected(), schedule).expect_err(name);
        assert_eq!(fault.name(), *name);
    }
}

#[test]
fn no_rule_knows_the_wall_clock() {
    let mut far = header(&[]);
    far.time_ms = u64::MAX;
    assert_eq!(check_header(&far, &expected(), schedule), Ok(()), "how far ahead is judged by the clock rule alone");
}

#[test]
fn the_batch_list_is_the_one_of_the_header() {
    let hashes = [Hash32([1; 32]), Hash32([2; 32])];
    assert_eq!(check_batch_list(&header(&hashes), &hashes), Ok(()));
    assert_eq!(check_batch_list(&header(&hashes), &hashes[..1]).expect_err("short").name(), "batch_count");
    let swapped = [hashes[1], hashes[0]];
    assert_eq!(check_batch_list(&header(&hashes), &swapped).expect_err("order").name(), "batches_root");
    let many = vec![Hash32::ZERO; MAX_BLOCK_BATCHES + 1];
    assert_eq!(check_batch_list(&header(&many), &many).expect_err("many").name(), "batch_count");
}

#[test]
fn each_rule_about_batches_has_its_own_fault() {
    let body = |batches: &[BatchFacts]| check_body(&header(&[]), batches, any_key, |hash| *hash == Hash32([99; 32]));
    assert_eq!(body(&[batch(1), batch(2)]), Ok(()));
    assert_eq!(body(&[]), Ok(()), "an empty block is valid");

    let big = BatchFacts { size_bytes: MAX_BLOCK_BYTES, ..batch(1) };
    assert_eq!(body(&[big]), Ok(()));
    assert_eq!(body(&[big, batch(2)]).expect_err("bytes").name(), "bytes");
    let busy = BatchFacts { n_ops: MAX_BLOCK_OPS, ..batch(1) };
    assert_eq!(body(&[busy]), Ok(()));
    assert_eq!(body(&[busy, batch(2)]).expect_err("ops").name(), "ops");

    let reject = |batches: &[BatchFacts]| match body(batches) {
        Err(Fault::Batch { reject, .. }) => Some(reject),
        _ => None,
    };
    let at = |expires_at_ms| [BatchFacts { expires_at_ms, ..batch(1) }];
    assert_eq!(reject(&at(1_000_001)), Some(Reject::BatchExpired), "no block at or after the expiry");
    assert_eq!(reject(&at(1_000_001 + MAX_BATCH_LIFE_MS)), None);
    assert_eq!(reject(&at(1_000_002 + MAX_BATCH_LIFE_MS)), Some(Reject::ExpiryTooFar));
    assert_eq!(reject(&[batch(99)]), Some(Reject::BatchRepeated), "in an ancestor");
    assert_eq!(reject(&[batch(1), batch(1)]), Some(Reject::BatchRepeated), "in the block itself");

    let unknown = |_, _, _| Err(Reject::UnknownKey);
    let fault = check_body(&header(&[]), &[batch(1)], unknown, |_| false).expect_err("key");
    assert_eq!(fault, Fault::Batch { batch: batch(1).hash, reject: Reject::UnknownKey });
}

#[test]
fn keys_are_asked_for_at_block_time() {
    let at_block_time = |_, _, time_ms| if time_ms == 1_000_001 { Ok(()) } else { Err(Reject::KeyNotValid) };
    assert_eq!(check_body(&header(&[]), &[batch(1)], at_block_time, |_| false), Ok(()));
}
