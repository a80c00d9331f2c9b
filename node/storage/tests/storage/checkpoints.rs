//! Final checkpoints: kept, found, refused.

use crate::support::*;
use anji_contracts::types::Hash32;
use anji_verify::{Address, Cosignature, LogRoot, SignedCheckpoint, ValidatorSignatures};

fn checkpoint(height: u64, log: LogRoot, n: u8) -> SignedCheckpoint {
    let signature = |n| {
        let cosignature = Cosignature { validator: Address([n; 20]), time_s: 1, signature: [n; 64] };
        ValidatorSignatures { cosignature, plain: [n; 64] }
    };
    SignedCheckpoint { height, log, signatures: (0..n).map(signature).collect() }
}

#[test]
fn checkpoints_are_found_by_height_and_survive_a_restart() {
    let dir = folder();
    let mut opened = open(dir.path());
    Filler::new().fill(&mut opened, 5, 3);
    let log = |height| opened.reader.root_at(height).unwrap().unwrap();
    let (two, four) = (checkpoint(2, log(2), 3), checkpoint(4, log(4), 3));
    assert_eq!(opened.reader.newest_checkpoint().unwrap(), None);
    opened.checkpoints.put(&two).unwrap();
    opened.checkpoints.put(&four).unwrap();
    let four = checkpoint(4, log(4), 4);
    opened.checkpoints.put(&four).unwrap();
    opened.store.flush().unwrap();
    drop(opened);
    let reader = open(dir.path()).reader;
    assert_eq!(reader.checkpoint(2).unwrap(), Some(two));
    assert_eq!(reader.checkpoint(3).unwrap(), None);
    assert_eq!(reader.checkpoint_from(3).unwrap(), Some(four.clone()));
    assert_eq!(reader.checkpoint_from(5).unwrap(), None);
    assert_eq!(reader.newest_checkpoint().unwrap(), Some(four));
}

#[test]
fn a_checkpoint_of_another_log_or_of_no_block_is_refused() {
    let dir = folder();
    let mut opened = open(dir.path());
    Filler::new().fill(&mut opened, 2, 3);
    let other = LogRoot { size: 1, root: Hash32([1; 32]) };
    assert!(opened.checkpoints.put(&checkpoint(2, other, 3)).is_err());
    assert!(opened.checkpoints.put(&checkpoint(9, other, 3)).is_err());
    assert_eq!(opened.reader.newest_checkpoint().unwrap(), None);
}
