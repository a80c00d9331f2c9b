//! The folder as a whole: one process, one chain, one format.

use crate::support::*;
use anji_storage::{FORMAT_VERSION, OpenError, Store};
use std::fs;

#[test]
fn a_second_process_is_kept_out() {
    let dir = folder();
    let opened = open(dir.path());
    let error = refused(dir.path());
    assert!(error.contains("in use by another process"), "{error}");
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    // Whatever is still held keeps the folder taken.
    let (reader, blocks) = (opened.reader.clone(), opened.blocks.clone());
    drop(opened);
    assert!(refused(dir.path()).contains("in use"));
    drop(reader);
    assert!(refused(dir.path()).contains("in use"));
    drop(blocks);
    open(dir.path());
}

#[test]
fn the_folder_of_another_chain_is_refused_with_both_ids() {
    let dir = folder();
    drop(open(dir.path()));
    let error = Store::open(dir.path(), &genesis(2), &options()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::WrongChain { .. }));
    assert!(text.contains(&genesis(1).chain_id().to_string()), "{text}");
    assert!(text.contains(&genesis(2).chain_id().to_string()), "{text}");
    // So is another chain's state in this chain's folder.
    let other = folder();
    let mut opened = Store::open(other.path(), &genesis(2), &options()).unwrap();
    Filler::new().commit(&mut opened, 0, genesis(2).chain_id().0, 0);
    drop(opened);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    copy_dir(&other.path().join("state"), &dir.path().join("state"));
    let text = refused(dir.path());
    assert!(text.contains(&genesis(1).chain_id().to_string()), "{text}");
    assert!(text.contains(&genesis(2).chain_id().to_string()), "{text}");
}

#[test]
fn another_format_is_refused() {
    let dir = folder();
    drop(open(dir.path()));
    let text = fs::read_to_string(dir.path().join("STORE")).unwrap();
    let body = text.split("crc32c").next().unwrap().replace(&format!("format {FORMAT_VERSION}"), "format 77");
    let sum = crc32c::crc32c(body.as_bytes());
    fs::write(dir.path().join("STORE"), format!("{body}crc32c {sum:08x}\n")).unwrap();
    let error = refused(dir.path());
    assert!(error.contains(&format!("storage format 77, this program writes format {FORMAT_VERSION}")), "{error}");
}

#[test]
fn every_flipped_bit_of_the_store_file_is_named() {
    let dir = folder();
    drop(open(dir.path()));
    let path = dir.path().join("STORE");
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        let error = refused(dir.path());
        assert!(error.contains("STORE is corrupted"), "bit {bit}: {error}");
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(refused(dir.path()).contains("STORE is corrupted"), "cut at {length}");
    }
    fs::remove_file(&path).unwrap();
    let error = refused(dir.path());
    assert!(error.contains("STORE is corrupted: the file is missing"), "{error}");
}

#[test]
fn looking_works_beside_a_writer_and_changes_nothing() {
    let dir = folder();
    let nothing = Store::open_read_only(dir.path(), &options()).unwrap_err().to_string();
    assert!(nothing.contains("no data folder"), "{nothing}");
    let mut opened = open(dir.path());
    let mut filler = Filler::new();
    filler.fill(&mut opened, 3, 5);
    opened.store.flush().unwrap();
    let next = block(4, &[b"batch"]);
    decide(&opened.blocks, &next);
    filler.commit(&mut opened, 4, next.certificate.value, 5);
    let looking = Store::open_read_only(dir.path(), &options()).unwrap();
    assert_eq!(looking.chain, genesis(1).chain_id());
    assert_eq!(looking.blocks.decided_height(), 4);
    assert_eq!(looking.reader.executed_height().unwrap(), Some(3), "as of the last flush");
    for (key, (_, state)) in &filler.latest {
        if let Some(known) = looking.reader.entity(key).unwrap() {
            assert!(known.entry.state == *state || known.entry.version > 0);
        }
    }
    let append = looking.blocks.append_proposal(&block(5, &[]).header, &[]);
    assert!(append.unwrap_err().to_string().contains("reading only"));
    // A torn tail is left alone by those who only look.
    let path = segment(dir.path(), 1);
    drop((looking, opened));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let looking = Store::open_read_only(dir.path(), &options());
    let text = looking.map(|it| it.blocks.decided_height()).unwrap_err().to_string();
    assert!(text.contains("block file ends at 3"), "the state was flushed at height 4: {text}");
    assert_eq!(fs::read(&path).unwrap().len(), whole.len() - 1);
}
