//! The block file: what was acknowledged is found again, what was not is cut off, what is damaged is named.

use crate::support::*;
use anji_storage::{AppendError, Block, Store, StoreOptions, Verify};
use std::fs;
use std::path::Path;

fn lengths(dir: &Path) -> u64 {
    fs::metadata(segment(dir, 1)).unwrap().len()
}

#[test]
fn blocks_read_back_across_segments_and_restarts() {
    let dir = folder();
    let small = StoreOptions { segment_bytes: 3000, ..options() };
    let open = |verify| Store::open(dir.path(), &genesis(1), &StoreOptions { verify, ..small.clone() }).unwrap();
    let body = |height: u64| vec![height as u8; 100 + (height as usize * 37) % 900];
    let blocks: Vec<Block> = (1..=60).map(|height| block(height, &[&body(height), b"", b"x"])).collect();
    let mut done = 0;
    for verify in [Verify::Full, Verify::Recent, Verify::Full, Verify::Recent] {
        let opened = open(verify);
        assert_eq!(opened.blocks.decided_height(), done);
        for block in blocks.iter().skip(done as usize).take(15) {
            // Other rounds' proposals of the same height come first and stay undecided.
            let loser = header(block.header.height, 1, 0);
            opened.blocks.append_proposal(&loser, &[]).unwrap();
            if block.header.height % 2 == 0 {
                decide(&opened.blocks, block);
            } else {
                opened.blocks.append_decided(&block.header, &block.batches, &block.certificate).unwrap();
            }
            done += 1;
        }
        for height in 1..=done {
            let read = opened.blocks.load_block(height).unwrap().unwrap();
            assert_eq!(read, blocks[height as usize - 1]);
            let (header, certificate) = opened.blocks.load_decision(height).unwrap().unwrap();
            assert_eq!((header, certificate), (read.header, read.certificate));
            for (place, batch) in read.batches.iter().enumerate() {
                assert_eq!(opened.blocks.load_batch(height, place).unwrap().as_ref(), Some(batch));
            }
            assert_eq!(opened.blocks.load_batch(height, read.batches.len()).unwrap(), None);
        }
        assert_eq!(opened.blocks.load_batch(done + 1, 0).unwrap(), None);
        assert_eq!(opened.blocks.load_block(done + 1).unwrap(), None);
        assert_eq!(opened.blocks.load_block(0).unwrap(), None);
        assert_eq!(opened.blocks.undecided(), []);
    }
    assert!(segment(dir.path(), 12).exists(), "the file has many segments");
    // An index is derived: damaged or gone, it is made again.
    fs::remove_file(dir.path().join("blocks/000003.idx")).unwrap();
    let index = dir.path().join("blocks/000005.idx");
    let mut bytes = fs::read(&index).unwrap();
    bytes[40] ^= 1;
    fs::write(&index, &bytes).unwrap();
    for verify in [Verify::Recent, Verify::Full] {
        let opened = open(verify);
        let read: Vec<Block> = (1..=60).map(|height| opened.blocks.load_block(height).unwrap().unwrap()).collect();
        assert_eq!(read, blocks);
    }
    // A missing segment is named.
    fs::remove_file(segment(dir.path(), 4)).unwrap();
    assert!(refused(dir.path()).contains("000004.blk"));
}

#[test]
fn undecided_proposals_outlive_a_restart_and_end_with_the_decision() {
    let dir = folder();
    let opened = open(dir.path());
    let (first, second) = (block(1, &[b"a"]), header(1, 3, 1));
    let value = opened.blocks.append_proposal(&first.header, &first.batches).unwrap();
    let other = opened.blocks.append_proposal(&second, &first.batches).unwrap();
    let length = lengths(dir.path());
    assert_eq!(opened.blocks.append_proposal(&second, &first.batches).unwrap(), other);
    assert_eq!(lengths(dir.path()), length, "the same proposal is written once");
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(opened.blocks.undecided(), [(1, 0, value), (1, 3, other)]);
    let read = opened.blocks.load_proposal(&other).unwrap().unwrap();
    assert_eq!((read.header, read.batches), (second, first.batches.clone()));
    opened.blocks.append_decision(&first.certificate).unwrap();
    assert_eq!(opened.blocks.undecided(), []);
    assert_eq!(opened.blocks.load_proposal(&other).unwrap(), None);
    assert!(opened.blocks.load_proposal(&value).unwrap().is_some(), "the last decided one is still served");
}

#[test]
fn a_batch_is_read_whatever_the_others_hold_and_no_length_leads_out_of_its_record() {
    let dir = folder();
    let opened = open(dir.path());
    // Longer than what is read at a time, on both sides of what is asked for.
    let block = block(1, &[&[1; 40_000], &[2; 70_000], b"here", &[3; 40_000]]);
    decide(&opened.blocks, &block);
    assert_eq!(opened.blocks.load_batch(1, 2).unwrap().as_deref(), Some(b"here".as_slice()));
    let path = segment(dir.path(), 1);
    let sound = fs::read(&path).unwrap();
    let find = |what: &[u8]| sound.windows(what.len()).position(|it| it == what).unwrap();
    let first = find(&[[64, 156, 0, 0], [1; 4]].concat());
    for (at, byte) in [(first + 3, 0x7f), (first + 2, 5), (first - 4, 2)] {
        let mut damaged = sound.clone();
        damaged[at] = byte;
        fs::write(&path, &damaged).unwrap();
        match opened.blocks.load_batch(1, 2) {
            Ok(None) => assert_eq!(at, first - 4, "fewer batches"),
            Err(error) => assert!(error.to_string().contains("a length leads past its end"), "{error}"),
            Ok(Some(_)) => panic!("byte {at}"),
        }
    }
    // What the certificate does not name is not read any further.
    let mut damaged = sound.clone();
    damaged[64 + 32 + 10] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = opened.blocks.load_batch(1, 2).unwrap_err().to_string();
    assert!(error.contains("not the one that was decided"), "{error}");
}

#[test]
fn records_that_do_not_fit_are_refused_and_change_nothing() {
    let dir = folder();
    let opened = open(dir.path());
    let blocks = &opened.blocks;
    let good = block(1, &[b"a"]);
    let refused = |result: Result<(), AppendError>| matches!(result, Err(AppendError::Refused { .. }));
    assert!(refused(blocks.append_decision(&good.certificate)), "no body");
    assert!(refused(blocks.append_proposal(&header(1, 0, 2), &good.batches).map(|_| ())), "number of batches");
    let mut foreign = good.header.clone();
    foreign.chain_id = genesis(2).chain_id();
    assert!(refused(blocks.append_proposal(&foreign, &good.batches).map(|_| ())), "another chain");
    decide(blocks, &good);
    let length = lengths(dir.path());
    blocks.append_decision(&good.certificate).unwrap();
    blocks.append_decided(&good.header, &good.batches, &good.certificate).unwrap();
    blocks.append_proposal(&good.header, &good.batches).unwrap();
    assert!(refused(blocks.append_proposal(&header(1, 5, 0), &[]).map(|_| ())), "below the decided height");
    assert!(refused(blocks.append_decision(&block(3, &[]).certificate)), "a gap");
    assert!(refused(blocks.append_decision(&block(0, &[]).certificate)), "height 0");
    let next = block(2, &[]);
    assert!(refused(blocks.append_decided(&next.header, &[], &good.certificate)), "another certificate");
    let mut conflict = good.certificate.clone();
    conflict.value.0[0] ^= 1;
    assert!(matches!(blocks.append_decision(&conflict), Err(AppendError::Conflict { height: 1, .. })));
    assert_eq!(lengths(dir.path()), length);
    decide(blocks, &next);
    assert_eq!(blocks.decided_height(), 2);
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_ends() {
    let dir = folder();
    let opened = open(dir.path());
    decide(&opened.blocks, &block(1, &[b"first"]));
    let proposal_at = lengths(dir.path());
    let second = block(2, &[b"second", &[0; 40]]);
    opened.blocks.append_proposal(&second.header, &second.batches).unwrap();
    let decision_at = lengths(dir.path());
    opened.blocks.append_decision(&second.certificate).unwrap();
    drop(opened);
    let whole = fs::read(segment(dir.path(), 1)).unwrap();
    // Every byte of the last record, and some of the one before.
    let cuts = (proposal_at..decision_at).step_by(17).chain(decision_at..whole.len() as u64);
    for length in cuts {
        fs::write(segment(dir.path(), 1), &whole[..length as usize]).unwrap();
        let opened = open(dir.path());
        assert_eq!(opened.blocks.decided_height(), 1, "cut at {length}");
        let proposal_is_whole = length >= decision_at;
        assert_eq!(opened.blocks.undecided().len(), usize::from(proposal_is_whole), "cut at {length}");
        assert_eq!(lengths(dir.path()), if proposal_is_whole { decision_at } else { proposal_at });
        // It goes on as if nothing had been.
        decide(&opened.blocks, &second);
        drop(opened);
        assert_eq!(fs::read(segment(dir.path(), 1)).unwrap(), whole);
    }
}

#[test]
fn a_flipped_byte_anywhere_is_named() {
    let dir = folder();
    let opened = open(dir.path());
    decide(&opened.blocks, &block(1, &[b"first"]));
    decide(&opened.blocks, &block(2, &[b"second"]));
    drop(opened);
    let whole = fs::read(segment(dir.path(), 1)).unwrap();
    for place in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            fs::write(segment(dir.path(), 1), &bytes).unwrap();
            let error = refused(dir.path());
            assert!(error.contains("000001.blk is corrupted at byte"), "byte {place}: {error}");
        }
    }
    fs::write(segment(dir.path(), 1), &whole).unwrap();
    assert_eq!(open(dir.path()).blocks.decided_height(), 2);
}

#[test]
fn sectors_that_never_reached_the_disk_are_a_torn_tail() {
    let dir = folder();
    let opened = open(dir.path());
    decide(&opened.blocks, &block(1, &[b"first"]));
    let start = lengths(dir.path()) as usize;
    // The body has zeros of its own, which must not pass for lost sectors.
    let mut body = vec![7; 3000];
    body[600..2200].fill(0);
    let second = block(2, &[&body]);
    opened.blocks.append_proposal(&second.header, &second.batches).unwrap();
    drop(opened);
    let whole = fs::read(segment(dir.path(), 1)).unwrap();
    let height_with = |bytes: &[u8]| {
        fs::write(segment(dir.path(), 1), bytes).unwrap();
        Store::open(dir.path(), &genesis(1), &options()).map(|opened| opened.blocks.undecided().len())
    };
    let sectors = (start.next_multiple_of(512)..whole.len()).step_by(512);
    for sector in sectors {
        let end = (sector + 512).min(whole.len());
        if end - sector < 512 || whole[sector..end].iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[sector..end].fill(0);
        assert_eq!(height_with(&bytes).unwrap(), 0, "sector at {sector}");
    }
    // The file grew, but nothing of the record was written.
    let mut bytes = whole.clone();
    bytes[start..].fill(0);
    assert_eq!(height_with(&bytes).unwrap(), 0);
    bytes.truncate(start + 10);
    assert_eq!(height_with(&bytes).unwrap(), 0);
    // A flipped byte beside the body's own zeros is no torn tail.
    let mut bytes = whole.clone();
    bytes[whole.len() - 20] ^= 1;
    assert!(height_with(&bytes).unwrap_err().to_string().contains("000001.blk is corrupted"));
    // Nor are zeros in the middle, before a record that was synced later.
    fs::write(segment(dir.path(), 1), &whole).unwrap();
    let opened = open(dir.path());
    opened.blocks.append_decision(&second.certificate).unwrap();
    drop(opened);
    let mut bytes = fs::read(segment(dir.path(), 1)).unwrap();
    bytes[start..start + 1600].fill(0);
    assert!(height_with(&bytes).unwrap_err().to_string().contains("000001.blk is corrupted"));
    let mut bytes = fs::read(segment(dir.path(), 1)).unwrap();
    let sector = (start + 64).next_multiple_of(512);
    bytes[sector..sector + 512].fill(0);
    assert!(height_with(&bytes).unwrap_err().to_string().contains("000001.blk is corrupted"));
}

#[test]
fn a_segment_that_was_never_begun_is_no_harm() {
    let dir = folder();
    decide(&open(dir.path()).blocks, &block(1, &[]));
    for length in [0, 1, 63, 64] {
        fs::write(segment(dir.path(), 2), vec![0; length]).unwrap();
        let opened = open(dir.path());
        assert_eq!(opened.blocks.decided_height(), 1);
        assert!(!segment(dir.path(), 2).exists());
    }
    // One of another chain is.
    let other = folder();
    drop(Store::open(other.path(), &genesis(2), &options()).unwrap());
    fs::copy(segment(other.path(), 1), segment(dir.path(), 2)).unwrap();
    assert!(refused(dir.path()).contains("another chain, number or format"));
}

#[test]
fn readers_see_whole_blocks_while_the_writer_goes_on() {
    let dir = folder();
    let small = StoreOptions { segment_bytes: 20_000, ..options() };
    let opened = Store::open(dir.path(), &genesis(1), &small).unwrap();
    let body = vec![9; 500];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let blocks = opened.blocks.clone();
            let body = &body;
            scope.spawn(move || {
                let mut seen = 0;
                while seen < 300 {
                    let height = blocks.decided_height();
                    for height in [height, height / 2, 1].into_iter().filter(|it| (1..=height).contains(it)) {
                        assert_eq!(blocks.load_block(height).unwrap().unwrap(), block(height, &[body]));
                    }
                    seen = height;
                }
            });
        }
        for height in 1..=300 {
            decide(&opened.blocks, &block(height, &[&body]));
        }
    });
    // Another process may look too.
    let looking = Store::open_read_only(dir.path(), &small);
    assert!(looking.is_err() || looking.unwrap().blocks.decided_height() == 300);
}
