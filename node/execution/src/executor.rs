//! One decided block from bytes to root: decode, read ahead, run the rules, encode the entries, commit.

use crate::error::ExecutionError;
use crate::metrics::ExecutionMetrics;
use crate::registry::RegistrySnapshot;
use crate::view::View;
use crate::writing::Writing;
use anji_contracts::block::{BlockContext, BlockEffects, BlockExecutor, genesis_writes};
use anji_contracts::types::{ChainId, Hash32, ScopedId};
use anji_contracts::{CheckedBatch, Genesis, Reject, decode_batch};
use anji_meter::{Lap, Stage};
use anji_storage::{BatchReceipts, Block, BlockCommit, BlockFile, BlockRecord, Opened, ReadError, Reader, Store};
use anji_verify::{Header, LogRoot};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A decided block on its way into execution.
#[derive(Clone, Debug)]
pub struct DecidedBlock {
    /// The block as archived; it must be durable.
    pub block: Block,
    /// Batches that were decoded and verified before, by place; what is missing is decoded again.
    pub checked: Vec<Option<Arc<CheckedBatch>>>,
}

impl From<Block> for DecidedBlock {
    fn from(block: Block) -> Self {
        Self { block, checked: Vec::new() }
    }
}

/// An operation that would have broken an invariant: refused with a 9xxx code, an operator must look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// Which operation.
    pub op: ScopedId,
    /// Which code.
    pub reject: Reject,
}

/// What a block did, once it is durable and executed here: its receipts are `decided`.
#[derive(Clone, Debug)]
pub struct Executed {
    /// Its height; 0 is genesis.
    pub height: u64,
    /// Hash of its header.
    pub header_hash: Hash32,
    /// Its ledger time.
    pub time_ms: u64,
    /// The log after it.
    pub log: LogRoot,
    /// Receipts, batch by batch. Empty for the block that was the last one at start: read older receipts from storage.
    pub batches: Vec<Arc<BatchReceipts>>,
    /// Operations refused with a 9xxx code.
    pub alarms: Vec<Alarm>,
    /// Participants, keys and rules after it.
    pub registry: Arc<RegistrySnapshot>,
    /// Whether the blocks after it have work even without a batch: the tree of a closed window is not complete.
    pub has_backlog: bool,
}

/// Bounds of memory.
#[derive(Clone, Debug)]
pub struct ExecutionOptions {
    /// Entities (mandates, lines, open payments) kept decoded in memory, at most twice this many, about 700 bytes each.
    pub cached_entities: usize,
    /// Operation ids kept in memory, about 100 bytes each.
    pub cached_ops: usize,
    /// For benchmarks: decided blocks are counted and answered, and not executed; the log stays that of genesis.
    pub bare: bool,
}

impl Default for ExecutionOptions {
    fn default() -> Self {
        Self { cached_entities: 100_000, cached_ops: 500_000, bare: false }
    }
}

/// Runs blocks in order on one thread. Owns the state's only writer.
#[derive(Debug)]
pub struct Executor {
    chain: ChainId,
    genesis: Genesis,
    store: Store,
    reader: Reader,
    blocks: BlockFile,
    view: View,
    last: BlockRecord,
    registry: Arc<RegistrySnapshot>,
    metrics: ExecutionMetrics,
    commit: BlockCommit,
    has_backlog: bool,
    bare: bool,
}

impl Executor {
    /// Writes genesis where the state is empty, then replays the decided blocks that the state does not have yet.
    ///
    /// # Errors
    /// [`ExecutionError`]; where it is broken, the node must not start.
    pub fn open(
        opened: Opened,
        genesis: &Genesis,
        options: &ExecutionOptions,
        metrics: ExecutionMetrics,
    ) -> Result<Self, ExecutionError> {
        let Opened { mut store, reader, blocks, .. } = opened;
        let last = match reader.last_block()? {
            Some(last) => last,
            None => write_genesis(&mut store, &reader, genesis)?,
        };
        let view = View::new(reader.clone(), options.cached_entities, options.cached_ops)?;
        let registry = Arc::new(RegistrySnapshot::load(&reader, genesis, last.height)?);
        let has_backlog = !options.bare && view.has_open_trees()?;
        let mut executor = Self {
            chain: genesis.chain_id(),
            genesis: genesis.clone(),
            store,
            reader,
            blocks,
            view,
            last,
            registry,
            metrics,
            commit: BlockCommit::default(),
            has_backlog,
            bare: options.bare,
        };
        executor.metrics.height.set(i64::try_from(last.height).unwrap_or(i64::MAX));
        executor.replay()?;
        Ok(executor)
    }

    fn replay(&mut self) -> Result<(), ExecutionError> {
        let decided = self.blocks.decided_height();
        let first = self.last.height + 1;
        if first > decided {
            return Ok(());
        }
        tracing::info!(from = first, to = decided, "replaying decided blocks");
        let started = Instant::now();
        let mut told = started;
        for height in first..=decided {
            let block = self.load_block(height)?;
            self.execute(&block.into())?;
            if told.elapsed() > Duration::from_secs(3) {
                told = Instant::now();
                tracing::info!(height, of = decided, ops = self.last.n_ops_total, "replaying decided blocks");
            }
        }
        tracing::info!(height = decided, seconds = started.elapsed().as_secs_f64(), "replayed");
        Ok(())
    }

    fn load_block(&self, height: u64) -> Result<Block, ExecutionError> {
        let missing = || ReadError::Corrupted {
            place: format!("block file, height {height}"),
            what: "the block is missing, though it is decided".into(),
        };
        Ok(self.blocks.load_block(height)?.ok_or_else(missing)?)
    }

    /// Runs the block above the executed height and commits its effects.
    ///
    /// # Errors
    /// [`ExecutionError`]; the executor must not be used any more, and where it is broken the node must stop for good.
    pub fn execute(&mut self, decided: &DecidedBlock) -> Result<Executed, ExecutionError> {
        let Block { header, certificate, .. } = &decided.block;
        let height = header.height;
        let header_hash = certificate.value;
        let (started, lap) = (Instant::now(), Lap::start());
        let batches = self.decode(decided)?;
        self.check_header(&decided.block, &batches)?;
        if self.bare {
            return Ok(self.count(header, header_hash, &batches));
        }
        let decoded = Instant::now();
        self.view.prefetch(&batches)?;
        let prefetched = Instant::now();
        let effects = self.run_rules(header, &batches)?;
        self.check_effects(header, &effects, &batches)?;
        let ran = Instant::now();
        let alarms = self.note_alarms(height, &effects);

        let record = BlockRecord { height, header_hash, time_ms: header.time_ms, ..self.last };
        let mut writing = Writing::new(&self.view, std::mem::take(&mut self.commit), &self.last, &record);
        let receipts = writing.put_block(effects, &batches)?;
        let (commit, changed) = writing.finish();
        let encoded = Instant::now();
        // The store counts its own time.
        lap.end(Stage::Execute);
        let record = self.store.commit(&commit)?;
        let lap = Lap::start();
        let consumed = commit.ops.iter().map(|(id, _)| *id);
        self.view.take_in(changed, consumed, &commit.due_added, commit.window_tree.as_ref());
        lap.end(Stage::Execute);
        let committed = Instant::now();

        let seconds = |from: Instant, to: Instant| (to - from).as_secs_f64();
        let metrics = &self.metrics;
        metrics.decode_seconds.inc_by(seconds(started, decoded));
        metrics.prefetch_seconds.inc_by(seconds(decoded, prefetched));
        metrics.rules_seconds.inc_by(seconds(prefetched, ran));
        metrics.encode_seconds.inc_by(seconds(ran, encoded));
        metrics.commit_seconds.inc_by(seconds(encoded, committed));
        metrics.blocks.inc();
        metrics.ops.inc_by(commit.n_ops);
        metrics.entries.inc_by(commit.entries.len() as u64);
        metrics.height.set(i64::try_from(height).unwrap_or(i64::MAX));

        let has_new_participant = commit.latest.iter().any(|(key, _)| RegistrySnapshot::is_made_of(key));
        self.registry = Arc::new(if has_new_participant {
            RegistrySnapshot::load(&self.reader, &self.genesis, height)?
        } else {
            self.registry.at_next_block(height, header.time_ms)
        });
        self.commit = commit;
        self.last = record;
        self.has_backlog = self.view.has_open_trees()?;
        Ok(Executed {
            height,
            header_hash,
            time_ms: header.time_ms,
            log: record.log,
            batches: receipts,
            alarms,
            registry: Arc::clone(&self.registry),
            has_backlog: self.has_backlog,
        })
    }

    /// A block of a bare node: it is the last one from here on, every batch is answered without receipts, and nothing else happens.
    fn count(&mut self, header: &Header, header_hash: Hash32, batches: &[Arc<CheckedBatch>]) -> Executed {
        let (height, time_ms) = (header.height, header.time_ms);
        let answer = |(seq, batch): (u64, &Arc<CheckedBatch>)| {
            Arc::new(BatchReceipts {
                seq,
                height,
                time_ms,
                participant: batch.header.participant,
                batch_hash: batch.hash,
                receipts: Vec::new(),
            })
        };
        let answers: Vec<_> = (self.last.n_batches_total..).zip(batches).map(answer).collect();
        let n_ops: u64 = batches.iter().map(|batch| batch.ops.len() as u64).sum();
        self.last = BlockRecord {
            height,
            header_hash,
            time_ms,
            log: self.last.log,
            n_batches_total: self.last.n_batches_total + answers.len() as u64,
            n_ops_total: self.last.n_ops_total + n_ops,
        };
        self.store.note_bare(self.last);
        self.registry = Arc::new(self.registry.at_next_block(height, time_ms));
        self.metrics.blocks.inc();
        self.metrics.ops.inc_by(n_ops);
        self.metrics.height.set(i64::try_from(height).unwrap_or(i64::MAX));
        let (log, registry) = (self.last.log, Arc::clone(&self.registry));
        Executed {
            height,
            header_hash,
            time_ms,
            log,
            batches: answers,
            alarms: Vec::new(),
            registry,
            has_backlog: false,
        }
    }

    fn decode(&self, decided: &DecidedBlock) -> Result<Vec<Arc<CheckedBatch>>, ExecutionError> {
        let Block { header, batches, .. } = &decided.block;
        let mut decoded = Vec::with_capacity(batches.len());
        for (position, bytes) in batches.iter().enumerate() {
            if let Some(Some(checked)) = decided.checked.get(position) {
                decoded.push(Arc::clone(checked));
                continue;
            }
            // The block is decided and its certificate was verified, so its signatures were too, by two thirds of the validators.
            let batch = decode_batch(bytes, &self.chain).map_err(|reject| ExecutionError::BrokenBatch {
                height: header.height,
                position,
                reject,
            })?;
            decoded.push(Arc::new(batch.assume_verified()));
        }
        Ok(decoded)
    }

    /// The block must be the successor of the last one, its body the one that the header names, and the header's root ours.
    fn check_header(&self, block: &Block, batches: &[Arc<CheckedBatch>]) -> Result<(), ExecutionError> {
        let Block { header, certificate, .. } = block;
        let (height, last) = (header.height, &self.last);
        let broken = |what: String| ExecutionError::BrokenBlock { height, header_hash: certificate.value, what };
        let parent_hash = if last.height == 0 { Hash32::ZERO } else { last.header_hash };
        let hashes: Vec<Hash32> = batches.iter().map(|batch| batch.hash).collect();
        let fits = [
            (height == last.height + 1, "it does not follow the last executed height"),
            (header.parent_hash == parent_hash, "its parent is not the last executed block"),
            (header.chain_id == self.chain, "it is of another chain"),
            (header.time_ms > last.time_ms, "its time is not after its parent's"),
            (header.hash() == certificate.value, "its certificate is of another header"),
            (u32::try_from(hashes.len()) == Ok(header.n_batches), "its body has another number of batches"),
            (header.batches_root == Header::batches_root_of(&hashes), "its body is not the one its header names"),
            (header.rules == self.genesis.params.rules, "it is of other rules"),
        ];
        if let Some((_, what)) = fits.into_iter().find(|(holds, _)| !holds) {
            return Err(broken(format!("{what} (last executed: height {}, {})", last.height, last.header_hash)));
        }
        let of_height = height.saturating_sub(2);
        let own = if of_height == last.height || self.bare { last.log } else { self.root_at(of_height)? };
        if header.log != own {
            return Err(ExecutionError::BrokenRoot { height, of_height, header: header.log, own });
        }
        Ok(())
    }

    fn root_at(&self, height: u64) -> Result<LogRoot, ReadError> {
        let missing = || ReadError::Corrupted {
            place: format!("state, column family roots, height {height}"),
            what: "the record is missing, though the height was executed".into(),
        };
        self.reader.root_at(height)?.ok_or_else(missing)
    }

    fn run_rules(&self, header: &Header, batches: &[Arc<CheckedBatch>]) -> Result<BlockEffects, ExecutionError> {
        let context = BlockContext {
            height: header.height,
            time_ms: header.time_ms,
            params: self.genesis.params.clone(),
            currency: self.genesis.currency,
        };
        let mut rules = BlockExecutor::begin(&self.view, context)?;
        for batch in batches {
            rules.apply_batch(batch)?;
        }
        Ok(rules.finish()?)
    }

    /// What must hold whatever the operations were.
    fn check_effects(
        &self,
        header: &Header,
        effects: &BlockEffects,
        batches: &[Arc<CheckedBatch>],
    ) -> Result<(), ExecutionError> {
        let height = header.height;
        if let Some(broken) = &effects.broken {
            return Err(ExecutionError::BrokenSum { height, what: broken.to_string() });
        }
        let answered = effects.batches.len() == batches.len()
            && effects.batches.iter().zip(batches).all(|(effects, batch)| effects.receipts.len() == batch.ops.len());
        if !answered {
            let what = "the rules did not answer every operation with one receipt".into();
            return Err(ExecutionError::BrokenSum { height, what });
        }
        Ok(())
    }

    fn note_alarms(&self, height: u64, effects: &BlockEffects) -> Vec<Alarm> {
        let alarms: Vec<Alarm> = effects.alarms.iter().map(|(op, reject)| Alarm { op: *op, reject: *reject }).collect();
        for Alarm { op, reject } in &alarms {
            tracing::error!(
                height,
                op = %op,
                code = reject.code(),
                "ALARM: an operation was refused because it would break an invariant: {reject}"
            );
        }
        self.metrics.alarms.inc_by(alarms.len() as u64);
        let refused = effects
            .batches
            .iter()
            .flat_map(|batch| &batch.receipts)
            .filter(|receipt| matches!(receipt.result, anji_contracts::OpResult::Refused(_)))
            .count();
        self.metrics.ops_refused.inc_by(refused as u64);
        alarms
    }

    /// Makes the state durable: for a clean stop.
    ///
    /// # Errors
    /// Nothing is lost; the next start replays more.
    pub fn flush(&mut self) -> Result<(), ExecutionError> {
        Ok(self.store.flush()?)
    }

    /// The last executed block without its receipts: for whoever starts from here.
    #[must_use]
    pub fn last(&self) -> Executed {
        Executed {
            height: self.last.height,
            header_hash: self.last.header_hash,
            time_ms: self.last.time_ms,
            log: self.last.log,
            batches: Vec::new(),
            alarms: Vec::new(),
            registry: Arc::clone(&self.registry),
            has_backlog: self.has_backlog,
        }
    }

    /// Height of the last executed block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.last.height
    }

    /// The log after it.
    #[must_use]
    pub fn log_root(&self) -> LogRoot {
        self.last.log
    }

    /// Participants, keys and rules after it.
    #[must_use]
    pub fn registry(&self) -> Arc<RegistrySnapshot> {
        Arc::clone(&self.registry)
    }

    /// Participants, keys and rules after an earlier block, read from storage.
    pub(crate) fn registry_at(&self, height: u64) -> Result<Option<RegistrySnapshot>, ReadError> {
        if height > self.last.height {
            return Ok(None);
        }
        RegistrySnapshot::load(&self.reader, &self.genesis, height).map(Some)
    }

    /// Whether blocks are counted and not executed.
    pub(crate) const fn is_bare(&self) -> bool {
        self.bare
    }

    /// Reads of the state.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

fn write_genesis(store: &mut Store, reader: &Reader, genesis: &Genesis) -> Result<BlockRecord, ExecutionError> {
    let effects = genesis_writes(genesis).map_err(ExecutionError::Genesis)?;
    if let Some(broken) = &effects.broken {
        return Err(ExecutionError::Genesis(broken.to_string()));
    }
    let chain = genesis.chain_id();
    let record = BlockRecord {
        height: 0,
        header_hash: chain.0,
        time_ms: genesis.time_ms,
        log: store.log_root(),
        n_batches_total: 0,
        n_ops_total: 0,
    };
    let view = View::new(reader.clone(), 1024, 1024)?;
    let mut writing = Writing::new(&view, BlockCommit::default(), &record, &record);
    writing.put_block(effects, &[])?;
    let (commit, _) = writing.finish();
    let record = store.commit(&commit)?;
    // Genesis is the one state that no block leads to again.
    store.flush()?;
    tracing::info!(%chain, root = %record.log.root, entries = record.log.size, "genesis written");
    Ok(record)
}
