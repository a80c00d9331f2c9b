//! Envelopes on disk. Fixed parts and wrapped secrets lie in logs of their own, appended to and synced before anything is acknowledged;
//! erasures in a third. Erasing an envelope writes its tombstone, syncs it, then overwrites the wrapped secrets with zeros where they lie and
//! syncs that; what a crash interrupts is finished at the next start. The fixed part stays: its hash is on the ledger, and proofs need it.
//!
//! What no program can promise: that the disk kept no copy. Flash remaps sectors, and snapshots and backups keep what they saw. Put the
//! folder on an encrypted volume without snapshots, and keep backups of `keys-*` no longer than the text itself may be kept.
//!
//! One process owns a folder. Calls block; put the store behind one owning thread. An index of about 100 bytes an envelope is held in memory.

mod error;
mod log;
#[cfg(test)]
mod tests;

pub use error::{OpenStored, StoreError};

use crate::envelope::{About, Envelope, Wraps, envelope_hash};
use crate::keys::OpeningKey;
use crate::seal::open;
use anji_contracts::codec;
use anji_contracts::types::{ChainId, Hash32, ParticipantId};
use borsh::{BorshDeserialize, BorshSerialize};
use error::io;
use log::{Log, Place};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::path::Path;
use zeroize::Zeroizing;

/// Most bytes of one [`EnvelopeStore::put`]: 16 MiB.
pub(crate) const MAX_PUT_BYTES: usize = 16 << 20;

/// How much a store takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most envelopes, erased ones included.
    pub envelopes: usize,
    /// Most bytes of all files together.
    pub bytes: u64,
    /// A file that has reached this size is followed by the next; 1 MiB to 1 GiB.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { envelopes: 2_000_000, bytes: 64 << 30, file_bytes: 256 << 20 }
    }
}

/// What opening a store had to mend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Bytes of unfinished, never acknowledged appends that were cut off.
    pub cut_bytes: u64,
    /// Erasures that were acknowledged or begun and had not reached the wrapped secrets.
    pub erasures_finished: usize,
}

/// What the store has of an envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Fixed part and wrapped secrets.
    Held {
        /// The fixed part.
        envelope: Vec<u8>,
        /// The wrapped secrets.
        wraps: Vec<u8>,
    },
    /// The fixed part; nobody here can open it any more.
    Erased {
        /// The fixed part.
        envelope: Vec<u8>,
        /// When, as the caller said, in milliseconds since 1970.
        at_ms: u64,
        /// Hash of the reason on file.
        reference: Hash32,
    },
}

/// That an envelope was erased.
#[derive(Clone, Copy, BorshSerialize, BorshDeserialize)]
struct Tombstone {
    at_ms: u64,
    reference: Hash32,
}

/// Where an envelope's parts are.
struct Entry {
    text: Place,
    /// `None` if they were never written, or their file is gone after erasure.
    keys: Option<Place>,
}

/// Envelopes on disk.
pub struct EnvelopeStore {
    chain: ChainId,
    limits: Limits,
    text: Log,
    keys: Log,
    erased: Log,
    index: HashMap<Hash32, Entry>,
    tombstones: HashMap<Hash32, Tombstone>,
    /// Wrapped secrets that are not erased, by file.
    live: BTreeMap<u32, u64>,
    _lock: File,
}

impl std::fmt::Debug for EnvelopeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvelopeStore").field("envelopes", &self.index.len()).finish_non_exhaustive()
    }
}

impl EnvelopeStore {
    /// Opens the store in `dir`, or makes it.
    ///
    /// # Errors
    /// Another process has it, it belongs to another ledger, or it is damaged beyond an unfinished last append.
    pub fn open(dir: &Path, chain: ChainId, limits: Limits) -> Result<(Self, Recovery), StoreError> {
        std::fs::create_dir_all(dir).map_err(io(dir, "cannot make the folder"))?;
        let lock = lock(dir)?;
        let file_bytes = limits.file_bytes.clamp(1 << 20, 1 << 30);
        let mut recovery = Recovery::default();
        let mut frames = Vec::new();
        // Few and small, so in one file.
        let erased =
            Log::open(dir, "erased", chain, 1 << 30, &|_| true, &mut |hash, place| frames.push((hash, place)))?;
        let mut tombstones = HashMap::new();
        for (hash, place) in frames.drain(..) {
            let bytes = erased.read(&hash, place)?;
            let tombstone: Tombstone =
                codec::decode(&bytes).map_err(|_| erased.damaged(place, "not the record of an erasure"))?;
            tombstones.entry(hash).or_insert(tombstone);
        }
        let mut index = HashMap::new();
        let text = Log::open(dir, "text", chain, file_bytes, &|_| true, &mut |hash, place| {
            index.entry(hash).or_insert(Entry { text: place, keys: None });
        })?;
        let is_whole = |hash: &Hash32| !tombstones.contains_key(hash);
        let keys = Log::open(dir, "keys", chain, file_bytes, &is_whole, &mut |hash, place| frames.push((hash, place)))?;
        recovery.cut_bytes = erased.cut_bytes + text.cut_bytes + keys.cut_bytes;
        let mut store =
            Self { chain, limits, text, keys, erased, index, tombstones, live: BTreeMap::new(), _lock: lock };
        let mut unfinished = Vec::new();
        for (hash, place) in frames {
            *store.live.entry(place.file).or_default() += 1;
            if let Some(entry) = store.index.get_mut(&hash) {
                entry.keys = Some(place);
            }
            if store.tombstones.contains_key(&hash) {
                if store.keys.is_zero(place)? {
                    store.count_out(place);
                } else {
                    unfinished.push(place);
                }
            }
        }
        recovery.erasures_finished = unfinished.len();
        store.destroy(&unfinished)?;
        store.remove_dead_files()?;
        if recovery != Recovery::default() {
            tracing::warn!(
                cut_bytes = recovery.cut_bytes,
                erasures = recovery.erasures_finished,
                "envelopes: what a crash left was mended"
            );
        }
        Ok((store, recovery))
    }

    /// Envelopes in the store, erased ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Keeps envelopes (fixed part, wrapped secrets), durably on return, and gives their hashes. What is there already is left as it is, so a call
    /// can be repeated. Nothing is written if one of them is refused.
    ///
    /// # Errors
    /// Bytes that are no envelope of this ledger, one that was erased, a full store or disk.
    pub fn put(&mut self, items: &[(&[u8], &[u8])]) -> Result<Vec<Hash32>, StoreError> {
        let total: usize = items.iter().map(|(envelope, wraps)| envelope.len() + wraps.len()).sum();
        if total > MAX_PUT_BYTES {
            return Err(StoreError::TooMuch(total));
        }
        let hashes: Vec<Hash32> =
            items.iter().map(|(envelope, wraps)| self.check(envelope, wraps)).collect::<Result<_, _>>()?;
        let (mut texts, mut keys, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for (hash, (envelope, wraps)) in hashes.iter().zip(items) {
            let known = self.index.get(hash);
            if known.is_some_and(|it| it.keys.is_some()) || !seen.insert(*hash) {
                continue;
            }
            if known.is_none() {
                texts.push((*hash, *envelope));
            }
            keys.push((*hash, *wraps));
        }
        let bytes = self.text.bytes() + self.keys.bytes() + self.erased.bytes();
        // With room for the erasure of everything: that must never fail for want of space of ours.
        let room = (self.index.len() + texts.len()) as u64 * 128;
        if self.index.len() + texts.len() > self.limits.envelopes || bytes + total as u64 + room > self.limits.bytes {
            return Err(StoreError::Full { envelopes: self.index.len(), bytes });
        }
        for (hash, place) in self.text.append(&texts)? {
            self.index.insert(hash, Entry { text: place, keys: None });
        }
        for (hash, place) in self.keys.append(&keys)? {
            *self.live.entry(place.file).or_default() += 1;
            if let Some(entry) = self.index.get_mut(&hash) {
                entry.keys = Some(place);
            }
        }
        Ok(hashes)
    }

    /// The envelope with this hash.
    ///
    /// # Errors
    /// The disk fails, or what it gives is not what was written.
    pub fn get(&self, hash: &Hash32) -> Result<Option<Found>, StoreError> {
        let Some(entry) = self.index.get(hash) else { return Ok(None) };
        let envelope = |place| -> Result<Vec<u8>, StoreError> {
            let bytes = self.text.read(hash, place)?;
            let good = envelope_hash(&bytes) == *hash;
            if good { Ok(bytes) } else { Err(self.text.damaged(place, "an envelope that does not have its hash")) }
        };
        if let Some(Tombstone { at_ms, reference }) = self.tombstones.get(hash) {
            return Ok(Some(Found::Erased { envelope: envelope(entry.text)?, at_ms: *at_ms, reference: *reference }));
        }
        // A text whose secrets were never written was never acknowledged.
        let Some(keys) = entry.keys else { return Ok(None) };
        Ok(Some(Found::Held { envelope: envelope(entry.text)?, wraps: self.keys.read(hash, keys)? }))
    }

    /// Opens a stored envelope as `participant`.
    ///
    /// # Errors
    /// [`OpenStored`]; an erased envelope says when it was erased.
    pub fn open_envelope(
        &self,
        hash: &Hash32,
        about: &About,
        participant: ParticipantId,
        key: &OpeningKey,
    ) -> Result<Zeroizing<Vec<u8>>, OpenStored> {
        match self.get(hash)? {
            None => Err(OpenStored::Unknown(*hash)),
            Some(Found::Erased { at_ms, reference, .. }) => Err(OpenStored::Erased { hash: *hash, at_ms, reference }),
            Some(Found::Held { envelope, wraps }) => Ok(open(&envelope, &wraps, about, participant, key)?),
        }
    }

    /// Destroys the wrapped secrets of envelopes, durably on return. `at_ms` and `reference`, the hash of the reason on file, go into the
    /// tombstones. What was erased before keeps its first tombstone.
    ///
    /// # Errors
    /// One of them is unknown (then none is erased), or the disk fails: then ask again, or start again, until it succeeds.
    pub fn erase(&mut self, hashes: &[Hash32], at_ms: u64, reference: Hash32) -> Result<(), StoreError> {
        if let Some(unknown) = hashes.iter().find(|it| self.index.get(it).is_none_or(|entry| !self.is_known(it, entry)))
        {
            return Err(StoreError::Unknown(*unknown));
        }
        let tombstone = Tombstone { at_ms, reference };
        let bytes = codec::encode(&tombstone);
        let mut seen = HashSet::new();
        let new = hashes.iter().filter(|it| !self.tombstones.contains_key(it) && seen.insert(**it));
        let new: Vec<(Hash32, &[u8])> = new.map(|it| (*it, bytes.as_slice())).collect();
        self.erased.append(&new)?;
        // From here on they are erased, whatever happens to the rest.
        self.tombstones.extend(new.iter().map(|(hash, _)| (*hash, tombstone)));
        // Those of an earlier call that failed half-way are among them.
        let places: Vec<Place> = hashes.iter().filter_map(|it| self.index.get(it)?.keys).collect();
        let mut left = HashSet::new();
        for place in places {
            if !self.keys.is_zero(place)? {
                left.insert(place);
            }
        }
        self.destroy(&left.into_iter().collect::<Vec<_>>())?;
        self.remove_dead_files()
    }

    fn is_known(&self, hash: &Hash32, entry: &Entry) -> bool {
        entry.keys.is_some() || self.tombstones.contains_key(hash)
    }

    /// Judges what is to be kept.
    fn check(&self, envelope: &[u8], wraps: &[u8]) -> Result<Hash32, StoreError> {
        let hash = envelope_hash(envelope);
        let text = Envelope::decode(envelope).map_err(StoreError::Refused)?;
        let wraps = Wraps::decode(wraps).map_err(StoreError::Refused)?;
        if text.head.about.chain != self.chain {
            return Err(StoreError::Refused(crate::OpenError::AboutSomethingElse(Box::new(text.head.about))));
        }
        if wraps.envelope != hash {
            return Err(StoreError::Refused(crate::OpenError::OtherWraps));
        }
        if let Some(stranger) = wraps.wraps.iter().find(|it| text.recipient(it.participant).is_none()) {
            return Err(StoreError::Refused(crate::OpenError::NotARecipient(stranger.participant)));
        }
        match self.tombstones.get(&hash) {
            Some(it) => Err(StoreError::Erased { hash, at_ms: it.at_ms }),
            None => Ok(hash),
        }
    }

    /// Overwrites wrapped secrets with zeros.
    fn destroy(&mut self, places: &[Place]) -> Result<(), StoreError> {
        self.keys.overwrite(places)?;
        places.iter().for_each(|place| self.count_out(*place));
        Ok(())
    }

    fn count_out(&mut self, place: Place) {
        if let Some(live) = self.live.get_mut(&place.file) {
            *live = live.saturating_sub(1);
        }
    }

    /// Unlinks files in which every wrapped secret was overwritten.
    fn remove_dead_files(&mut self) -> Result<(), StoreError> {
        let current = self.keys.current();
        let dead: Vec<u32> =
            self.live.iter().filter(|(file, live)| **file != current && **live == 0).map(|(file, _)| *file).collect();
        for file in dead {
            self.keys.remove(file)?;
            self.live.remove(&file);
            self.index
                .values_mut()
                .filter(|it| it.keys.is_some_and(|keys| keys.file == file))
                .for_each(|it| it.keys = None);
        }
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io(&path, "cannot open"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked(dir.to_path_buf())),
        Err(std::fs::TryLockError::Error(error)) => Err(io(&path, "cannot lock")(error)),
    }
}
