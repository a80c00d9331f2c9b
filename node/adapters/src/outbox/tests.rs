//! The outbox after a crash at any byte, a flipped byte, a full stop: what was synced is there, what was not is not, damage is named.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use super::OutboxError;
use super::file::OutboxFile;
use super::index::{Full, Index, IndexLimits, Lookup};
use super::record::{Answer, Intent, Record};
use super::writer::Writer;
use crate::request_id::{derived_op_id, random_op_id};
use anji_contracts::entity::EntityKey;
use anji_contracts::entry::OpResult;
use anji_contracts::ops::{Op, OpBody, WindowClose};
use anji_contracts::types::{ChainId, Hash32, OpId, ParticipantId, WindowId};
use anji_contracts::{Receipt, Reject};
use std::path::Path;
use std::sync::Arc;

const NOW: u64 = 1_795_000_000_000;
const CHAIN: ChainId = ChainId(Hash32([7; 32]));
const WHO: ParticipantId = ParticipantId(3);

fn op(tail: u128) -> Op {
    let body = OpBody::WindowClose(WindowClose { window: WindowId(tail as u64) });
    Op { op_id: OpId::new(NOW, tail), linked: false, body }
}

fn intent(tail: u128) -> Record {
    Record::Intent(Intent { request_id: format!("request {tail}"), content: [tail as u8; 16], op: op(tail) })
}

fn receipt(tail: u128) -> Receipt {
    let result = if tail.is_multiple_of(2) {
        OpResult::Done(EntityKey::Window(WindowId(1)))
    } else {
        OpResult::Refused(Reject::WindowNotOpen)
    };
    Receipt { op_id: OpId::new(NOW, tail), result, time_ms: NOW + 1, height: 9 }
}

fn answer(tail: u128) -> Record {
    let request_id = format!("request {tail}");
    Record::Answer(Answer {
        request_id,
        content: [tail as u8; 16],
        op_id: OpId::new(NOW, tail),
        receipt: receipt(tail),
    })
}

fn records() -> Vec<Record> {
    vec![intent(1), intent(2), answer(1), Record::Position(5), intent(3), answer(3), Record::Position(u64::MAX)]
}

fn encode(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|it| it.encode(&mut bytes));
    bytes
}

fn open(dir: &Path) -> Result<(OutboxFile, Vec<Record>), OutboxError> {
    let mut found = Vec::new();
    OutboxFile::open(dir, CHAIN, WHO, |it| found.push(it)).map(|file| (file, found))
}

fn limits() -> IndexLimits {
    IndexLimits { pending: 10, remembered: 10, remember_ms: 1000 }
}

/// A folder with all records, and the path of its file.
fn filled() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("temp");
    let (mut file, found) = open(dir.path()).expect("made");
    assert!(found.is_empty());
    for record in records() {
        file.append(&encode(&[record])).expect("appended");
    }
    let path = dir.path().join("outbox-00000001.log");
    (dir, path)
}

#[test]
fn cut_at_every_byte_it_holds_what_was_whole_and_goes_on() {
    let (dir, path) = filled();
    let bytes = std::fs::read(&path).expect("read");
    let all = records();
    let head = bytes.len() - encode(&all).len();
    let ends: Vec<usize> = (0..=all.len()).map(|count| head + encode(&all[..count]).len()).collect();
    for cut in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).expect("written");
        let (mut file, found) = open(dir.path()).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        assert_eq!(found, all[..whole], "cut at {cut}");
        file.append(&encode(&[intent(77)])).expect("appended");
        drop(file);
        let (_, found) = open(dir.path()).unwrap_or_else(|error| panic!("cut at {cut}, again: {error}"));
        assert_eq!(found.len(), whole + 1, "cut at {cut}");
        assert_eq!(found.last(), Some(&intent(77)));
    }
}

#[test]
fn a_tail_of_zeros_is_cut_off() {
    let (dir, path) = filled();
    let mut bytes = std::fs::read(&path).expect("read");
    for zeros in [1, 11, 12, 500, 4096] {
        bytes.extend(vec![0; zeros]);
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(open(dir.path()).expect("opens").1, records(), "{zeros}");
        bytes.truncate(bytes.len() - zeros);
    }
}

#[test]
fn a_flipped_byte_anywhere_is_named_and_never_served() {
    let (dir, path) = filled();
    let bytes = std::fs::read(&path).expect("read");
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x41;
        std::fs::write(&path, &damaged).expect("written");
        let shown = open(dir.path()).map(|(_, found)| found).expect_err("refused").to_string();
        assert!(shown.contains("outbox-00000001.log") && shown.contains("way out"), "byte {place}: {shown}");
    }
}

#[test]
fn one_adapter_one_chain_one_participant() {
    let (dir, _) = filled();
    let held = open(dir.path()).expect("opens");
    assert!(matches!(open(dir.path()), Err(OutboxError::Locked(_))));
    drop(held);
    let other_chain = OutboxFile::open(dir.path(), ChainId(Hash32([8; 32])), WHO, |_| {});
    assert!(matches!(other_chain, Err(OutboxError::Foreign { .. })));
    let other_participant = OutboxFile::open(dir.path(), CHAIN, ParticipantId(4), |_| {});
    assert!(matches!(other_participant, Err(OutboxError::Foreign { .. })));
    assert!(open(dir.path()).is_ok());
}

#[test]
fn compaction_survives_a_crash_before_and_after_its_rename() {
    let (dir, path) = filled();
    let before = std::fs::read(&path).expect("read");
    let (mut file, _) = open(dir.path()).expect("opens");
    let kept = [answer(1), intent(2), Record::Position(6)];
    file.compact(&encode(&kept)).expect("compacted");
    file.append(&encode(&[intent(9)])).expect("appended");
    drop(file);
    assert!(!path.exists());
    assert_eq!(open(dir.path()).expect("opens").1, [&kept[..], &[intent(9)]].concat());
    // The older file was not removed yet.
    std::fs::write(&path, &before).expect("written");
    let found = open(dir.path()).expect("opens").1;
    assert_eq!(found, [records(), kept.to_vec(), vec![intent(9)]].concat());
    assert!(!path.exists(), "the older file is gone now");
    // The newer one was never finished.
    std::fs::write(dir.path().join("outbox-00000003.tmp"), b"half").expect("written");
    assert_eq!(open(dir.path()).expect("opens").1.len(), 4);
    assert!(!dir.path().join("outbox-00000003.tmp").exists());
    // An older file that ends in the middle of a record is no crash of ours.
    std::fs::write(&path, &before[..before.len() - 3]).expect("written");
    assert!(matches!(open(dir.path()), Err(OutboxError::Damaged { .. })));
}

#[tokio::test]
async fn the_writer_syncs_in_order_and_compacts_between() {
    let dir = tempfile::tempdir().expect("temp");
    let (file, _) = open(dir.path()).expect("made");
    let writer = Writer::spawn(file, |_| {}).expect("thread");
    let mut acks = Vec::new();
    for tail in 0..40 {
        acks.push(writer.append(encode(&[intent(tail)])).await);
    }
    let compacted = writer.compact(encode(&[intent(39)])).await;
    acks.push(writer.append(encode(&[answer(39)])).await);
    acks.push(compacted);
    for ack in acks {
        ack.await.expect("answered").expect("written");
    }
    drop(writer);
    assert_eq!(open(dir.path()).expect("opens").1, [intent(39), answer(39)]);
}

#[test]
fn a_request_keeps_its_operation_over_restarts_and_a_second_content_is_a_conflict() {
    let mut index = Index::new(limits());
    for record in records() {
        index.restore(record, NOW);
    }
    assert_eq!(index.pending_ops().iter().map(|it| it.op_id).collect::<Vec<_>>(), [OpId::new(NOW, 2)]);
    assert!(
        matches!(index.find("request 1", &[1; 16]), Lookup::Done(op_id, it) if op_id == OpId::new(NOW, 1) && it == receipt(1))
    );
    assert!(matches!(index.find("request 1", &[2; 16]), Lookup::Conflict));
    assert!(matches!(index.find("request 2", &[2; 16]), Lookup::Pending(op_id, _) if op_id == OpId::new(NOW, 2)));
    assert!(matches!(index.find("request 4", &[4; 16]), Lookup::Unknown));
    // What a compacted file holds gives the same index.
    let dir = tempfile::tempdir().expect("temp");
    let (mut file, _) = open(dir.path()).expect("made");
    file.append(&index.snapshot()).expect("appended");
    drop(file);
    let mut again = Index::new(limits());
    OutboxFile::open(dir.path(), CHAIN, WHO, |it| again.restore(it, NOW)).expect("opens");
    for tail in 1..=4u128 {
        let request_id = format!("request {tail}");
        assert_eq!(index.status(&request_id), again.status(&request_id), "{request_id}");
    }
}

#[test]
fn nothing_is_forgotten_that_could_act_twice() {
    let mut index = Index::new(IndexLimits { pending: 3, remembered: 2, remember_ms: 1000 });
    let put = |index: &mut Index, tail: u128| index.insert(&format!("request {tail}"), [0; 16], Arc::new(op(tail)));
    for tail in 1..=3 {
        put(&mut index, tail).expect("room");
    }
    assert_eq!(put(&mut index, 4), Err(Full::Pending));
    for tail in 1..=2 {
        assert!(index.answer(&receipt(tail), NOW).is_some());
        assert!(index.answer(&receipt(tail), NOW).is_none(), "answered once");
    }
    assert_eq!(put(&mut index, 4), Err(Full::Remembered), "forgetting one would let it act again");
    index.expire(NOW + 1000);
    assert_eq!(put(&mut index, 4), Err(Full::Remembered));
    index.expire(NOW + 1001);
    put(&mut index, 4).expect("the ledger itself refuses the old ids now");
    assert!(matches!(index.find("request 1", &[0; 16]), Lookup::Unknown));
}

#[test]
fn request_ids_with_a_time_of_their_own_need_not_be_remembered() {
    let mut index = Index::new(IndexLimits { pending: 1000, remembered: 0, remember_ms: 1000 });
    assert_eq!(
        index.insert("plain", [0; 16], Arc::new(Op { op_id: random_op_id(NOW).expect("random"), ..op(1) })),
        Err(Full::Remembered)
    );
    let ulid = "01M8ZK2Q400123456789ABCDEF";
    let op_id = derived_op_id(ulid, NOW * 2).expect("dated");
    index.insert(ulid, [0; 16], Arc::new(Op { op_id, ..op(1) })).expect("room");
    index.answer(&Receipt { op_id, ..receipt(2) }, NOW).expect("ours");
    assert_eq!(index.counts(), (0, 0));
    assert!(matches!(index.find(ulid, &[0; 16]), Lookup::Done(..)));
}
