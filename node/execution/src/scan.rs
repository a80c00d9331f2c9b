//! The full check of a data folder: every sum, index and root recomputed from the entries, by other code than what wrote them.

use crate::scan_windows::WindowScan;
use anji_contracts::entity::{Entity, FeeSchedule};
use anji_contracts::entry::{BatchEntry, BlockEntry, EntityEntry, Entry, NO_PREVIOUS};
use anji_contracts::invariants::Scan;
use anji_contracts::types::Hash32;
use anji_contracts::{EntityKey, codec};
use anji_storage::columns::{DUE, OPS, RECEIPTS, ROOTS};
use anji_storage::{BatchReceipts, ReadError, Reader};
use anji_verify::active_tree::{ActiveTree, BlockLinks, CHUNK_BITS, Chunk, n_chunks, put_bit};
use anji_verify::log_tree::leaf_hash;
use anji_verify::{LogRoot, LogTree};
use std::collections::BTreeSet;

/// Entities read at a time.
const PAGE: usize = 4096;

/// One thing that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What should hold.
    pub name: &'static str,
    /// Whether it does.
    pub holds: bool,
    /// The figures, or the first thing that does not fit.
    pub detail: String,
}

/// What the full check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Height the state is at.
    pub height: u64,
    /// Its log.
    pub log: LogRoot,
    /// Number of entities.
    pub n_entities: u64,
    /// Number of payments.
    pub n_payments: u64,
    /// All checks, in a fixed order.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether every check held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

/// Finds the first thing that does not fit; counts the others.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    first: Option<String>,
    n_more: u64,
}

impl Findings {
    pub(crate) fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        match (holds, &self.first) {
            (true, _) => {}
            (false, None) => self.first = Some(what()),
            (false, Some(_)) => self.n_more += 1,
        }
    }

    pub(crate) fn into_check(self, name: &'static str, figures: String) -> Check {
        let holds = self.first.is_none();
        let more = if self.n_more > 0 { format!(" (and {} more)", self.n_more) } else { String::new() };
        Check { name, holds, detail: self.first.map_or(figures, |first| first + &more) }
    }
}

/// What the walk over the log counts and compares.
#[derive(Debug, Default)]
struct LogWalk {
    tree: LogTree,
    tiles: Findings,
    blocks: Findings,
    receipts: Findings,
    versions: Findings,
    active: ActiveTree,
    active_roots: Findings,
    /// Of the block under way.
    links: BlockLinks,
    n_entity_entries: u64,
    n_first_versions: u64,
    n_batches: u64,
    n_ops: u64,
    n_blocks: u64,
}

/// Recomputes everything from the entries. Reads the whole state once; memory grows with the number of open items and mandates only.
/// `progress` is told (entries read, entries in all) now and then.
///
/// # Errors
/// The state cannot be read. What does not add up is in the report.
pub fn scan_invariants(reader: &Reader, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, ReadError> {
    let empty = || ReadError::Failed { place: "state".into(), what: "it is empty: there is no genesis".into() };
    let last = reader.last_block()?.ok_or_else(empty)?;
    let mut walk = LogWalk::default();
    reader.visit_entries(0, |index, bytes| {
        // A node may go on writing while we read; what it adds is not ours to judge.
        if index >= last.log.size {
            return Ok(false);
        }
        walk.visit(reader, index, bytes)?;
        if index.is_multiple_of(65_536) {
            progress(index, last.log.size);
        }
        Ok(true)
    })?;
    let LogWalk { tree, tiles, mut blocks, receipts, versions, active, active_roots, .. } = walk;
    let mut root = Findings::default();
    root.expect(tree.root() == last.log, || {
        format!("the entries give {} entries with root {}", tree.size(), tree.root().root)
    });
    let (n_blocks, n_batches, n_ops) = (walk.n_blocks, walk.n_batches, walk.n_ops);
    blocks.expect(n_blocks == last.height + 1, || format!("{n_blocks} block entries up to height {}", last.height));
    blocks.expect((n_batches, n_ops) == (last.n_batches_total, last.n_ops_total), || {
        format!("{n_batches} batches and {n_ops} operations, the last block says {last:?}")
    });
    let mut checks = vec![
        root.into_check("log root", format!("{} entries, root {}", last.log.size, last.log.root)),
        tiles.into_check("tiles", "every full tile is what its entries hash to".into()),
        blocks.into_check("blocks", format!("{n_blocks} blocks, {n_batches} batches, {n_ops} operations")),
        receipts.into_check("receipts", format!("{n_batches} receipt roots")),
        versions.into_check("versions", format!("{} versions", walk.n_entity_entries)),
    ];
    let n_active = active.chunks().iter().flatten().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
    checks.push(active_roots.into_check("active roots", format!("{n_blocks} roots, {n_active} active entries now")));
    let entities = check_entities(reader, &active, walk.n_entity_entries, walk.n_first_versions, &mut checks)?;
    check_ops(reader, &mut checks)?;
    progress(last.log.size, last.log.size);
    Ok(Report { height: last.height, log: last.log, n_entities: entities.0, n_payments: entities.1, checks })
}

impl LogWalk {
    fn visit(&mut self, reader: &Reader, index: u64, bytes: &[u8]) -> Result<(), ReadError> {
        let mut full = Vec::new();
        self.tiles.expect(index == self.tree.size(), || format!("entry {} is missing", index));
        self.tree.append(leaf_hash(bytes), &mut |tile| full.push(tile));
        for tile in full {
            let stored = reader.tile(tile.level, tile.index)?;
            self.tiles.expect(stored.as_ref() == Some(&tile.hashes), || {
                format!("tile {} of level {} is not what the entries hash to", tile.index, tile.level)
            });
        }
        match codec::decode::<Entry>(bytes) {
            Ok(Entry::Entity(entry)) => self.visit_entity(index, &entry),
            Ok(Entry::Batch(entry)) => self.visit_batch(reader, &entry)?,
            Ok(Entry::Block(entry)) => self.visit_block(reader, index, &entry)?,
            Err(reject) => self.versions.expect(false, || format!("entry {index} cannot be decoded: {reject}")),
        }
        Ok(())
    }

    fn visit_entity(&mut self, index: u64, entry: &EntityEntry) {
        self.n_entity_entries += 1;
        self.links.add(index, entry.prev_index);
        let is_first = entry.version == 1;
        self.n_first_versions += u64::from(is_first);
        let link = if is_first { entry.prev_index == NO_PREVIOUS } else { entry.prev_index < index };
        self.versions.expect(link && entry.version > 0 && entry.state.key() == entry.key, || {
            format!("entry {index}: version {} of {:?} has a wrong link or key", entry.version, entry.key)
        });
    }

    fn visit_batch(&mut self, reader: &Reader, entry: &BatchEntry) -> Result<(), ReadError> {
        let seq = entry.batch_seq;
        self.receipts.expect(seq == self.n_batches, || format!("batch {seq} stands where {} is next", self.n_batches));
        self.n_batches += 1;
        self.n_ops += u64::from(entry.n_ops);
        let stored = reader.receipts(seq)?;
        let same = stored.is_some_and(|stored| {
            let leaves: Vec<Hash32> =
                stored.receipts.iter().map(|receipt| codec::merkle_leaf(&codec::encode(receipt))).collect();
            stored.batch_hash == entry.batch_hash
                && stored.participant == entry.participant
                && u32::try_from(leaves.len()) == Ok(entry.n_ops)
                && codec::merkle_root(&leaves) == entry.receipts_root
        });
        self.receipts.expect(same, || format!("the receipts of batch {seq} are not those its entry commits to"));
        Ok(())
    }

    fn visit_block(&mut self, reader: &Reader, index: u64, entry: &BlockEntry) -> Result<(), ReadError> {
        let height = entry.height;
        let (set, cleared) = std::mem::replace(&mut self.links, BlockLinks::new(index + 1)).finish();
        let applied = self.active.apply(index, set, cleared, &mut |_, _, _| {});
        self.active_roots.expect(applied.is_ok() && self.active.root() == entry.active_root, || {
            format!("the active root of block {height} is not that of the entries before it")
        });
        self.blocks
            .expect(height == self.n_blocks, || format!("block {height} stands where {} is next", self.n_blocks));
        self.n_blocks += 1;
        let record = reader.block_record(height)?;
        let same = record.is_some_and(|record| {
            record.header_hash == entry.header_hash
                && record.time_ms == entry.time_ms
                && record.n_batches_total == entry.n_batches_total
                && record.n_ops_total == entry.n_ops_total
                && record.log == self.tree.root()
        });
        self.blocks.expect(same, || format!("the record of height {height} is not what the log says"));
        Ok(())
    }
}

/// Walks the active entities: indexes and sums. Returns (entities, payments).
fn check_entities(
    reader: &Reader,
    active: &ActiveTree,
    n_versions: u64,
    n_first_versions: u64,
    checks: &mut Vec<Check>,
) -> Result<(u64, u64), ReadError> {
    let mut latest = Findings::default();
    let (mut n_entities, mut n_payments, mut version_sum) = (0u64, 0u64, 0u64);
    let mut due = BTreeSet::new();
    let mut windows = WindowScan::default();
    let mut bitmap = Bitmap::new(active.size());
    let mut scan = Scan::new(load_schedules(reader)?);
    let mut after: Option<EntityKey> = None;
    loop {
        let page = reader.keys_after(after.as_ref(), PAGE)?;
        let keys: Vec<EntityKey> = page.iter().map(|(key, _)| *key).collect();
        let Some(end) = keys.last() else { break };
        after = Some(*end);
        for ((key, row), known) in page.iter().zip(reader.entities(&keys)?) {
            n_entities += 1;
            version_sum += row.version;
            bitmap.put(row.index);
            let Some(known) = known else {
                latest.expect(false, || format!("{key:?} is in the index, but not in the log"));
                continue;
            };
            match &known.entry.state {
                Entity::Payment(payment) => {
                    n_payments += 1;
                    windows.add_payment(payment);
                }
                Entity::WindowPayments(root) => windows.add_root(*root),
                Entity::Control(control) => windows.set_open(control.open_window),
                _ => {}
            }
            due.extend(known.entry.state.due_at_ms().map(|due_at_ms| (due_at_ms, *key)));
            scan.add(&known.entry.state);
        }
    }
    // Each version of each entity is one entry, so the newest ones are all in the index exactly if the sums agree.
    latest.expect(n_entities == n_first_versions && version_sum == n_versions, || {
        format!("{n_entities} entities with {version_sum} versions, the log has {n_first_versions} with {n_versions}")
    });
    latest.expect(bitmap.0 == active.chunks(), || "the bitmap of latest versions is not what the index says".into());
    checks.push(latest.into_check("latest", format!("{n_entities} entities, {n_payments} payments")));

    let mut index = Findings::default();
    let mut n_due = 0usize;
    let expected = due.len();
    let (mut from, mut seen) = (0, BTreeSet::new());
    loop {
        let page = reader.due(from, u64::MAX, PAGE + seen.len())?;
        let fresh: Vec<_> = page.into_iter().filter(|item| !seen.contains(item)).collect();
        let Some((until, _)) = fresh.last().copied() else { break };
        n_due += fresh.len();
        for item in &fresh {
            index.expect(due.contains(item), || format!("{:?} is listed as due at {}, but is not", item.1, item.0));
        }
        if until != from {
            seen.clear();
        }
        seen.extend(fresh.into_iter().filter(|(due_at_ms, _)| *due_at_ms == until));
        from = until;
    }
    index.expect(n_due == expected, || format!("{DUE} lists {n_due} items, {expected} are due some time"));
    checks.push(index.into_check("due", format!("{expected} open items")));

    checks.push(windows.check(reader)?);
    let mut sums = Findings::default();
    for broken in scan.finish() {
        sums.expect(false, || broken.to_string());
    }
    checks.push(sums.into_check("sums", "lines, holds, windows, nets, refunds, fee legs and totals add up".into()));
    Ok((n_entities, n_payments))
}

/// The bitmap as the index of latest versions gives it.
struct Bitmap(Vec<Chunk>);

impl Bitmap {
    fn new(size: u64) -> Self {
        Self(vec![[0; 256]; usize::try_from(n_chunks(size)).unwrap_or(0)])
    }

    fn put(&mut self, index: u64) {
        let chunk = usize::try_from(index / CHUNK_BITS).ok().and_then(|place| self.0.get_mut(place));
        chunk.into_iter().for_each(|chunk| put_bit(chunk, index, true));
    }
}

fn load_schedules(reader: &Reader) -> Result<Vec<FeeSchedule>, ReadError> {
    let mut schedules = Vec::new();
    for version in 1.. {
        let key = EntityKey::Schedule(anji_contracts::types::ScheduleVersion(version));
        match reader.entity(&key)?.map(|known| known.entry.state) {
            Some(Entity::Schedule(schedule)) => schedules.push(schedule),
            _ => break,
        }
    }
    Ok(schedules)
}

/// Every remembered operation points at a receipt that says the same.
fn check_ops(reader: &Reader, checks: &mut Vec<Check>) -> Result<(), ReadError> {
    let mut ops = Findings::default();
    let mut n_ops = 0u64;
    // Ids and batches both follow time, so a few batches are enough.
    let mut batches: Vec<BatchReceipts> = Vec::new();
    reader.visit_ops(|id, row| {
        n_ops += 1;
        if !batches.iter().any(|batch| batch.seq == row.batch_seq) {
            batches.truncate(15);
            if let Some(batch) = reader.receipts(row.batch_seq)? {
                batches.insert(0, batch);
            }
        }
        let batch = batches.iter().find(|batch| batch.seq == row.batch_seq);
        let receipt = batch
            .filter(|batch| batch.participant == id.participant)
            .and_then(|batch| batch.receipts.get(usize::try_from(row.position).unwrap_or(usize::MAX)));
        ops.expect(receipt == Some(&row.record.receipt), || {
            format!("operation {id} has another receipt than its batch")
        });
        Ok(true)
    })?;
    checks.push(ops.into_check("operations", format!("{n_ops} ids in {OPS}, {RECEIPTS} and {ROOTS} agree")));
    Ok(())
}
