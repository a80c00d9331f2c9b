//! The store after crashes, damage and erasure.

use super::*;
use crate::cipher::Cipher;
use crate::envelope::{Purpose, Subject};
use crate::seal::{Draft, Sealed, seal};
use anji_contracts::entity::SealSuite;
use anji_contracts::types::WindowId;
use std::path::PathBuf;

const CHAIN: ChainId = ChainId(Hash32([1; 32]));
const ME: ParticipantId = ParticipantId(1);
const ABOUT: About = About { chain: CHAIN, subject: Subject::Window(WindowId(1)), purpose: Purpose::Report };
const REASON: Hash32 = Hash32([3; 32]);

fn key() -> OpeningKey {
    OpeningKey::from_bytes(SealSuite::X25519, &[9; 32]).expect("a key")
}

fn sealed(text: &str) -> Sealed {
    let key = key();
    let draft = Draft { about: ABOUT, sender: ME, cipher: Cipher::ChaCha20Poly1305, recipients: &[(ME, key.public())] };
    seal(&draft, text.as_bytes(), &mut rand::rng()).expect("sealed")
}

fn many(count: usize) -> Vec<Sealed> {
    (0..count).map(|it| sealed(&format!("text {it}"))).collect()
}

fn put(store: &mut EnvelopeStore, all: &[Sealed]) -> Result<Vec<Hash32>, StoreError> {
    store.put(&all.iter().map(|it| (it.envelope.as_slice(), it.wraps.as_slice())).collect::<Vec<_>>())
}

fn start(dir: &Path) -> (EnvelopeStore, Recovery) {
    EnvelopeStore::open(dir, CHAIN, Limits::default()).expect("opens")
}

fn refused(dir: &Path) -> String {
    EnvelopeStore::open(dir, CHAIN, Limits::default()).expect_err("refused").to_string()
}

fn text(store: &EnvelopeStore, hash: &Hash32) -> Result<String, OpenStored> {
    let text = store.open_envelope(hash, &ABOUT, ME, &key())?;
    Ok(String::from_utf8(text.to_vec()).expect("text"))
}

fn file(dir: &Path, stem: &str, number: u32) -> PathBuf {
    dir.join(format!("{stem}-{number:08}.log"))
}

#[test]
fn envelopes_survive_a_restart_and_are_taken_once() {
    let dir = tempfile::tempdir().expect("temp");
    let all = many(5);
    let (mut store, recovery) = start(dir.path());
    assert!(store.is_empty() && recovery == Recovery::default());
    let hashes = put(&mut store, &all[..3]).expect("kept");
    assert_eq!(hashes, all[..3].iter().map(|it| it.hash).collect::<Vec<_>>());
    let length = |stem| std::fs::metadata(file(dir.path(), stem, 1)).expect("there").len();
    let before = (length("text"), length("keys"));
    put(&mut store, &[all[0].clone(), all[0].clone(), all[2].clone()]).expect("kept before");
    assert_eq!((length("text"), length("keys")), before, "nothing is written twice");
    put(&mut store, &all[3..]).expect("kept");
    assert!(
        EnvelopeStore::open(dir.path(), CHAIN, Limits::default())
            .expect_err("locked")
            .to_string()
            .contains("another process")
    );
    drop(store);
    let (store, recovery) = start(dir.path());
    assert_eq!((store.len(), recovery), (5, Recovery::default()));
    for (place, it) in all.iter().enumerate() {
        assert_eq!(text(&store, &it.hash).expect("opens"), format!("text {place}"));
        let held = Found::Held { envelope: it.envelope.clone(), wraps: it.wraps.clone() };
        assert_eq!(store.get(&it.hash).expect("read"), Some(held));
    }
    assert!(matches!(text(&store, &REASON), Err(OpenStored::Unknown(_))));
    drop(store);
    let other = EnvelopeStore::open(dir.path(), ChainId(Hash32([2; 32])), Limits::default());
    assert!(matches!(other, Err(StoreError::Foreign { .. })));
}

#[test]
fn what_is_erased_is_gone_from_the_disk_and_says_when() {
    let dir = tempfile::tempdir().expect("temp");
    let all = many(3);
    let (mut store, _) = start(dir.path());
    put(&mut store, &all).expect("kept");
    let secret = crate::Wraps::decode(&all[1].wraps).expect("wraps").wraps[0].bytes.clone();
    let on_disk = |wanted: &[u8]| {
        let files = std::fs::read_dir(dir.path()).expect("listed").map(|it| it.expect("entry").path());
        files.into_iter().any(|it| std::fs::read(it).expect("read").windows(wanted.len()).any(|part| part == wanted))
    };
    assert!(on_disk(&secret));
    assert!(matches!(store.erase(&[all[1].hash, REASON], 7, REASON), Err(StoreError::Unknown(REASON))));
    assert!(text(&store, &all[1].hash).is_ok(), "one unknown, none erased");
    store.erase(&[all[1].hash, all[1].hash], 7, REASON).expect("erased");
    store.erase(&[all[1].hash], 8, Hash32([4; 32])).expect("already");
    assert!(
        !on_disk(&secret) && !on_disk(&secret[..32]) && !on_disk(&secret[48..]),
        "the wrapped secret is on the disk"
    );
    for _ in 0..2 {
        let error = text(&store, &all[1].hash).expect_err("erased");
        assert!(matches!(error, OpenStored::Erased { at_ms: 7, reference: REASON, .. }), "{error}");
        assert!(error.to_string().ends_with("was erased at 7"), "{error}");
        // The fixed part, which proofs need, is there.
        let found = store.get(&all[1].hash).expect("read");
        assert_eq!(found, Some(Found::Erased { envelope: all[1].envelope.clone(), at_ms: 7, reference: REASON }));
        assert_eq!(text(&store, &all[2].hash).expect("opens"), "text 2");
        drop(store);
        let recovery;
        (store, recovery) = start(dir.path());
        assert_eq!(recovery, Recovery::default());
    }
    assert!(matches!(put(&mut store, &all), Err(StoreError::Erased { at_ms: 7, .. })), "it does not come back");
}

#[test]
fn an_erasure_that_a_crash_interrupted_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().expect("temp");
    let all = many(3);
    let (mut store, _) = start(dir.path());
    put(&mut store, &all).expect("kept");
    let keys = std::fs::read(file(dir.path(), "keys", 1)).expect("read");
    store.erase(&[all[0].hash, all[2].hash], 7, REASON).expect("erased");
    drop(store);
    let after = std::fs::read(file(dir.path(), "keys", 1)).expect("read");
    // Any part of the overwriting may have reached the disk.
    let mut half = keys.clone();
    half[100..200].copy_from_slice(&after[100..200]);
    for crashed in [&keys, &half] {
        std::fs::write(file(dir.path(), "keys", 1), crashed).expect("written");
        let (store, recovery) = start(dir.path());
        assert_eq!(recovery, Recovery { cut_bytes: 0, erasures_finished: 2 });
        assert!(matches!(text(&store, &all[0].hash), Err(OpenStored::Erased { at_ms: 7, .. })));
        assert_eq!(text(&store, &all[1].hash).expect("opens"), "text 1");
        drop(store);
        assert_eq!(std::fs::read(file(dir.path(), "keys", 1)).expect("read"), after);
    }
}

#[test]
fn wherever_a_crash_cuts_the_last_append_what_was_acknowledged_is_there() {
    let dir = tempfile::tempdir().expect("temp");
    let all = many(4);
    let (mut store, _) = start(dir.path());
    put(&mut store, &all[..2]).expect("kept");
    let snapshot = |stem| std::fs::read(file(dir.path(), stem, 1)).expect("read");
    let (text_before, keys_before) = (snapshot("text"), snapshot("keys"));
    put(&mut store, &all[2..]).expect("kept");
    drop(store);
    let (text_after, keys_after) = (snapshot("text"), snapshot("keys"));
    let check = |texts: &[u8], keys: &[u8], what: &str| {
        std::fs::write(file(dir.path(), "text", 1), texts).expect("written");
        std::fs::write(file(dir.path(), "keys", 1), keys).expect("written");
        let (mut store, _) = start(dir.path());
        assert_eq!(text(&store, &all[0].hash).expect(what), "text 0");
        assert_eq!(text(&store, &all[1].hash).expect(what), "text 1");
        put(&mut store, &all).expect("kept");
        assert_eq!(text(&store, &all[3].hash).expect(what), "text 3");
        drop(store);
        let (store, recovery) = start(dir.path());
        assert_eq!((recovery, store.len()), (Recovery::default(), 4), "{what}");
    };
    for cut in (text_before.len()..text_after.len()).step_by(7) {
        check(&text_after[..cut], &keys_before, &format!("text cut at {cut}"));
        // Pages reach the disk in any order: a hole, with the end of the same group behind it.
        let mut hole = text_after.clone();
        let end = hole.len().min(cut + 60);
        hole[cut..end].fill(0);
        check(&hole, &keys_before, &format!("hole in text at {cut}"));
    }
    for cut in keys_before.len()..keys_after.len() {
        check(&text_after, &keys_after[..cut], &format!("keys cut at {cut}"));
        let mut zeros = keys_after.clone();
        zeros[cut..].fill(0);
        check(&text_after, &zeros, &format!("zeros in keys from {cut}"));
    }
}

#[test]
fn a_flipped_byte_is_named_and_never_taken_for_a_crash() {
    let dir = tempfile::tempdir().expect("temp");
    let all = many(3);
    let (mut store, _) = start(dir.path());
    for it in &all {
        put(&mut store, std::slice::from_ref(it)).expect("kept");
    }
    store.erase(&[all[1].hash], 7, REASON).expect("erased");
    drop(store);
    for stem in ["text", "keys"] {
        let path = file(dir.path(), stem, 1);
        let good = std::fs::read(&path).expect("read");
        let last = good.len() / 3 * 2;
        for at in (0..last - 100).step_by(if stem == "text" { 11 } else { 3 }) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).expect("written");
            match EnvelopeStore::open(dir.path(), CHAIN, Limits::default()) {
                Err(error) => assert!(error.to_string().contains(&format!("{stem}-00000001.log")), "{error}"),
                // In what was erased there is nothing to damage: it is overwritten again.
                Ok((store, recovery)) => {
                    assert_eq!((stem, recovery.erasures_finished, recovery.cut_bytes), ("keys", 1, 0), "byte {at}");
                    assert_eq!(text(&store, &all[2].hash).expect("opens"), "text 2");
                }
            }
        }
        std::fs::write(&path, &good).expect("written");
    }
    // While it runs: the disk gives other bytes than it was given.
    let (store, _) = start(dir.path());
    for (stem, at) in [("text", 300), ("keys", 120)] {
        let path = file(dir.path(), stem, 1);
        let good = std::fs::read(&path).expect("read");
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).expect("written");
        let error = text(&store, &all[0].hash).expect_err("noticed");
        assert!(matches!(error, OpenStored::Store(StoreError::Damaged { .. })), "{error}");
        std::fs::write(&path, &good).expect("written");
    }
    assert_eq!(text(&store, &all[0].hash).expect("opens"), "text 0");
}

#[test]
fn full_files_are_followed_by_the_next_and_unlinked_when_all_in_them_is_erased() {
    let dir = tempfile::tempdir().expect("temp");
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    let open = || EnvelopeStore::open(dir.path(), CHAIN, limits).expect("opens").0;
    let mut store = open();
    // 80 bytes of wrapped secret and 52 of frame each: some 8,000 fill a file of keys; a text takes some 500.
    let first = sealed("first");
    let mut groups = Vec::new();
    for group in 0..5 {
        let all: Vec<Sealed> = (0..2000).map(|it| resealed(&first, group * 2000 + it)).collect();
        groups.push(put(&mut store, &all).expect("kept"));
    }
    assert!(file(dir.path(), "keys", 2).exists() && file(dir.path(), "text", 3).exists());
    drop(store);
    let mut store = open();
    assert_eq!(store.len(), 10_000);
    for (group, hashes) in (0_u64..).zip(&groups) {
        store.erase(hashes, group, REASON).expect("erased");
    }
    assert!(!file(dir.path(), "keys", 1).exists(), "every secret in it is erased");
    assert!(file(dir.path(), "text", 1).exists());
    drop(store);
    let mut store = open();
    let found = store.get(&groups[0][5]).expect("read");
    assert!(matches!(found, Some(Found::Erased { at_ms: 0, .. })));
    let new = sealed("new");
    put(&mut store, std::slice::from_ref(&new)).expect("kept");
    assert_eq!(text(&store, &new.hash).expect("opens"), "new");
    drop(store);
    // A file in the middle that ends early is no crash.
    let path = file(dir.path(), "text", 2);
    let good = std::fs::read(&path).expect("read");
    std::fs::write(&path, &good[..good.len() - 1]).expect("written");
    assert!(refused(dir.path()).contains("with a newer file beside it"));
}

/// Another envelope out of one, without the arithmetic: the store looks at hashes, not into secrets.
fn resealed(of: &Sealed, number: u32) -> Sealed {
    let mut envelope = of.envelope.clone();
    let at = envelope.len() - 4;
    envelope[at..].copy_from_slice(&number.to_le_bytes());
    let mut wraps = Wraps::decode(&of.wraps).expect("wraps");
    wraps.envelope = envelope_hash(&envelope);
    Sealed { hash: wraps.envelope, envelope, wraps: codec::encode(&wraps) }
}

#[test]
fn what_is_no_envelope_of_this_ledger_or_too_much_is_refused_whole() {
    let dir = tempfile::tempdir().expect("temp");
    let all = many(3);
    let limits = Limits { envelopes: 2, ..Limits::default() };
    let (mut store, _) = EnvelopeStore::open(dir.path(), CHAIN, limits).expect("opens");
    let mut crossed = all[..2].to_vec();
    crossed[1].wraps.clone_from(&all[0].wraps);
    assert!(matches!(put(&mut store, &crossed), Err(StoreError::Refused(crate::OpenError::OtherWraps))));
    let mut cut = all[0].clone();
    cut.envelope.pop();
    assert!(matches!(put(&mut store, &[all[1].clone(), cut]), Err(StoreError::Refused(_))));
    assert!(store.is_empty(), "none of them is kept");
    assert!(matches!(put(&mut store, &all), Err(StoreError::Full { envelopes: 0, .. })));
    put(&mut store, &all[..2]).expect("kept");
    assert!(matches!(put(&mut store, &all[2..]), Err(StoreError::Full { envelopes: 2, .. })));
    store.erase(&[all[0].hash], 7, REASON).expect("a full store erases");
    drop(store);
    let tight = Limits { bytes: 1800, ..Limits::default() };
    let other = tempfile::tempdir().expect("temp");
    let (mut store, _) = EnvelopeStore::open(other.path(), CHAIN, tight).expect("opens");
    put(&mut store, &all[..2]).expect("kept");
    assert!(matches!(put(&mut store, &all[2..]), Err(StoreError::Full { .. })));
    let huge = vec![0; MAX_PUT_BYTES + 1];
    assert!(matches!(store.put(&[(&huge, &[])]), Err(StoreError::TooMuch(_))));
}
