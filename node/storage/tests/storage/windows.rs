//! Proofs about the payments of closed windows: large ones, small ones, and those that are not closed.

use crate::support::*;
use anji_contracts::entity::{Entity, WindowPayments};
use anji_contracts::entry::{Cause, EntityEntry, Entry, NO_PREVIOUS};
use anji_contracts::types::*;
use anji_contracts::window_tree::WindowTree;
use anji_storage::{BlockCommit, Latest, Opened};
use anji_verify::{check_absent, check_captured};

fn id(n: u64) -> PaymentId {
    PaymentId(ScopedId { participant: ParticipantId(1 + (n / 1500) as u32), op_id: OpId(u128::from(n) * 2 + 1) })
}

/// One block that holds the payments of windows 1, 2, … and the roots of all of them but the last.
fn commit(opened: &mut Opened, sizes: &[u64]) -> Vec<WindowPayments> {
    let mut commit = BlockCommit { header_hash: genesis(1).chain_id().0, ..BlockCommit::default() };
    let mut roots = Vec::new();
    for (number, size) in (1..).zip(sizes) {
        let mut tree = WindowTree::start(WindowId(number));
        for payment in (0..*size).map(id) {
            commit.captured.push((WindowId(number), payment));
            tree.push(payment);
        }
        roots.push(tree.finish());
    }
    roots.pop();
    for (index, root) in (0..).zip(&roots) {
        let state = Entity::WindowPayments(*root);
        let key = state.key();
        commit.latest.push((key, Latest { index, version: 1 }));
        let entry = EntityEntry { key, version: 1, prev_index: NO_PREVIOUS, state, cause: Cause::Time };
        commit.entries.push(&Entry::Entity(entry));
    }
    opened.store.commit(&commit).unwrap();
    roots
}

#[test]
fn payments_of_closed_windows_are_proven_there_or_absent() {
    let dir = folder();
    let mut opened = open(dir.path());
    let sizes = [0, 1, 2, 1023, 1024, 1025, 2048, 5000, 9];
    let roots = commit(&mut opened, &sizes);
    let reader = &opened.reader;
    for (size, root) in sizes.iter().zip(&roots) {
        let window = root.window;
        let places = [0, 1, 2, 1022, 1023, 1024, 1025, 1499, 1500, 2047, 2048, 4095, 4096, 4998, 4999, size / 2];
        for place in places {
            let payment = id(place);
            let member = reader.window_member(window, &payment).unwrap();
            let absence = reader.window_absence(window, &payment).unwrap();
            assert_eq!((member.is_some(), absence.is_none()), (place < *size, place < *size), "{place} of {size}");
            if let Some(member) = member {
                assert_eq!((member.payment, member.index), (payment, place));
                assert_eq!(check_captured(&member, root), Ok(()), "{place} of {size}");
            }
            if let Some(absence) = absence {
                assert_eq!(check_absent(&payment, &absence, root), Ok(()), "{place} of {size}");
            }
            // Between two payments, before the first and after the last.
            let between = PaymentId(ScopedId { op_id: OpId(payment.0.op_id.0 - 1), ..payment.0 });
            assert_eq!(reader.window_member(window, &between).unwrap(), None);
            let absence = reader.window_absence(window, &between).unwrap().unwrap();
            assert_eq!(check_absent(&between, &absence, root), Ok(()), "before {place} of {size}");
        }
    }
    let open = WindowId(sizes.len() as u64);
    assert_eq!(reader.window_member(open, &id(1)).unwrap(), None, "it is not closed");
    assert_eq!(reader.window_absence(open, &id(100)).unwrap(), None, "it is not closed");
    assert_eq!(reader.window_payments(open, Some(id(3)), 4).unwrap(), (4..8).map(id).collect::<Vec<_>>());
    assert_eq!(reader.window_payments(open, Some(id(8)), 4).unwrap(), []);
    assert_eq!(reader.window_payments(open, None, 0).unwrap(), []);
}

#[test]
fn an_index_that_is_not_what_the_root_commits_to_proves_nothing() {
    let dir = folder();
    let mut opened = open(dir.path());
    let mut roots = commit(&mut opened, &[3, 0]);
    drop(opened);
    let families = anji_storage::columns::ALL;
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), dir.path().join("state"), families).unwrap();
    let mut key = 1u64.to_be_bytes().to_vec();
    key.extend(id(1).0.to_sort_bytes());
    db.delete_cf(db.cf_handle("captured").unwrap(), &key).unwrap();
    drop(db);
    std::fs::remove_file(dir.path().join("state/SUMS")).unwrap();
    let opened = open(dir.path());
    let error = opened.reader.window_absence(WindowId(1), &id(1)).unwrap_err().to_string();
    assert!(error.contains("not those that its entry commits to"), "{error}");
    assert_eq!(roots.remove(0).n_payments, 3);
}
