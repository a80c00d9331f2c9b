//! Opening a data folder: what is checked before a node may start on it.
//!
//! In this order: no other process holds it (`LOCK`); format and chain (`STORE`); every record of the block file; the digests of
//! RocksDB's files; that the state is of this chain, not ahead of the block file, of the same blocks, and that its log and its bitmap of
//! latest versions have the roots it says. Without a `state` folder an empty one is made and execution fills it from the block file.

use crate::FORMAT_VERSION;
use crate::active::load_active;
use crate::blocks::BlockFile;
use crate::blocks::disk::{Disk, SystemDisk};
use crate::blocks::open::BlockOptions;
use crate::checkpoints::CheckpointStore;
use crate::columns::{self, BlockRecord, META, META_CHAIN, META_EXECUTED, RECEIPTS, ROOTS};
use crate::commit::Store;
use crate::entries::OpenRow;
use crate::error::{OpenError, ReadError};
use crate::folder::{self, FolderLock, REBUILD, RESTORE, io_error, sync_dir};
use crate::reader::Reader;
use crate::state::{State, open_error};
use crate::sums::{Checked, SumsKeeper, check_files, live_tables};
use crate::tiles::{check_entries, load_tree};
use anji_contracts::types::ChainId;
use anji_contracts::{Genesis, codec};
use anji_verify::LogTree;
use rocksdb::IteratorMode;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A log up to this size is hashed again as a whole at start.
const REHASH_WHOLE: u64 = 5_000_000;
/// Of a larger one, so many of the newest entries are.
const REHASH_NEWEST: u64 = 1_000_000;

/// How much is read back and checked at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// Every byte of every file; entries are hashed again (of a large log, the newest million).
    #[default]
    Full,
    /// Structure, and the newest segments. What is older is checked when it is read.
    Recent,
}

/// Sizes. The defaults keep RocksDB under 200 MiB.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// RocksDB's block cache.
    pub cache_bytes: usize,
    /// Written state that is held in memory before it is flushed; up to twice that while a flush runs.
    pub write_buffer_bytes: usize,
    /// State that stayed in memory for so long is flushed however little it is, so that a start after a crash replays minutes of
    /// blocks and not weeks.
    pub flush_every: Duration,
    /// A segment of the block file ends past this size.
    pub segment_bytes: u64,
    /// What is checked at start.
    pub verify: Verify,
    /// How the block file is written; tests put a failing one here.
    pub disk: Arc<dyn Disk>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 80 << 20,
            write_buffer_bytes: 48 << 20,
            flush_every: Duration::from_secs(60),
            segment_bytes: 256 << 20,
            verify: Verify::Full,
            disk: Arc::new(SystemDisk),
        }
    }
}

/// An open data folder. The folder stays locked until everything taken from it is dropped.
#[derive(Debug)]
pub struct Opened {
    /// The only writer of the state; execution owns it.
    pub store: Store,
    /// Reads of the state; clone it freely.
    pub reader: Reader,
    /// The block file; clone it freely.
    pub blocks: BlockFile,
    /// Final checkpoints; clone it freely.
    pub checkpoints: CheckpointStore,
}

/// A data folder opened for looking only: works beside a running node and changes nothing.
#[derive(Debug)]
pub struct ReadOnly {
    /// The chain in the folder.
    pub chain: ChainId,
    /// The state as of its last flush; its height may be below the block file's.
    pub reader: Reader,
    /// The block file; appends are refused.
    pub blocks: BlockFile,
}

impl Store {
    /// Opens the data folder of `genesis`' chain, or makes it.
    ///
    /// # Errors
    /// [`OpenError`], which names the file and the way out. Nothing was changed then, but that a torn tail may have been cut off.
    pub fn open(dir: &Path, genesis: &Genesis, options: &StoreOptions) -> Result<Opened, OpenError> {
        let chain = genesis.chain_id();
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        let lock = Arc::new(folder::lock(dir)?);
        let (blocks_dir, state_dir) = (dir.join("blocks"), dir.join("state"));
        match folder::load_store_file(dir)? {
            Some(found) => expect_chain(dir, found, chain)?,
            None if folder::is_empty_dir(&blocks_dir) && folder::is_empty_dir(&state_dir) => {
                folder::write_store_file(dir, &chain)?;
                tracing::info!(folder = %dir.display(), %chain, format = FORMAT_VERSION, "new data folder");
            }
            None => {
                let what = "the file is missing, though the folder holds data".into();
                return Err(OpenError::Corrupted { path: dir.join("STORE"), offset: None, what, way_out: RESTORE });
            }
        }
        if !blocks_dir.is_dir() || !state_dir.is_dir() {
            fs::create_dir_all(&blocks_dir).map_err(io_error(&blocks_dir))?;
            fs::create_dir_all(&state_dir).map_err(io_error(&state_dir))?;
            sync_dir(dir).map_err(io_error(dir))?;
        }
        let blocks = BlockFile::open(&blocks_dir, &block_options(chain, options, Some(Arc::clone(&lock))))?;
        let (state, checked) = open_state(&state_dir, options, &lock)?;
        let Checkpoint { tree, row, unsaved } = check_state(&state, &blocks, chain, options.verify)?;
        let state = Arc::new(state);
        let sums = SumsKeeper::start(Arc::clone(&state), checked)?;
        let reader = Reader::new(Arc::clone(&state), blocks.clone());
        let checkpoints = CheckpointStore::new(Arc::clone(&state));
        let store = Store::new(state, chain, (tree, row), unsaved, sums, options.flush_every);
        Ok(Opened { store, reader, blocks, checkpoints })
    }

    /// Opens a data folder for looking only.
    ///
    /// # Errors
    /// [`OpenError`], which names the file.
    pub fn open_read_only(dir: &Path, options: &StoreOptions) -> Result<ReadOnly, OpenError> {
        let missing = || OpenError::Inconsistent {
            path: dir.to_path_buf(),
            what: "this is no data folder: it has no STORE file".into(),
            way_out: "name the folder that `data_dir` in the node's config names",
        };
        let chain = folder::load_store_file(dir)?.ok_or_else(missing)?;
        let (blocks_dir, state_dir) = (dir.join("blocks"), dir.join("state"));
        let blocks = BlockFile::open(&blocks_dir, &block_options(chain, options, None))?;
        // A running node may replace RocksDB's files while they are being opened.
        let mut state = State::open(&state_dir, options, false, None);
        for _ in 0..5 {
            if state.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            state = State::open(&state_dir, options, false, None);
        }
        let state = state?;
        check_state(&state, &blocks, chain, Verify::Recent)?;
        let reader = Reader::new(Arc::new(state), blocks.clone());
        Ok(ReadOnly { chain, reader, blocks })
    }
}

fn block_options(chain: ChainId, options: &StoreOptions, lock: Option<Arc<FolderLock>>) -> BlockOptions {
    BlockOptions {
        chain,
        segment_bytes: options.segment_bytes,
        verify: options.verify,
        disk: Arc::clone(&options.disk),
        lock,
    }
}

fn expect_chain(path: &Path, found: ChainId, expected: ChainId) -> Result<(), OpenError> {
    if found == expected {
        return Ok(());
    }
    Err(OpenError::WrongChain { path: path.to_path_buf(), found, expected })
}

fn open_state(dir: &Path, options: &StoreOptions, lock: &Arc<FolderLock>) -> Result<(State, Checked), OpenError> {
    let create = !dir.join("CURRENT").exists();
    let checked = if create {
        clear_unborn(dir)?;
        Checked::default()
    } else {
        check_files(dir, options.verify == Verify::Full)?
    };
    let state = State::open(dir, options, create, Some(Arc::clone(lock)));
    let state = state.map_err(|error| name_tables(error, &checked.not_covered(dir)))?;
    if options.verify == Verify::Full && !checked.covers(&live_tables(&state).map_err(io_error(dir))?) {
        // Tables newer than the digests: every block of every table is read and its checksum compared.
        for family in columns::ALL {
            let walk = state.walk(family, IteratorMode::Start, false, |_, _| Ok(true));
            walk.map_err(|error| name_tables(as_open(dir, &error), &checked.not_covered(dir)))?;
        }
    }
    Ok((state, checked))
}

/// A crash while RocksDB made its first files leaves a folder without `CURRENT`, and never with a table.
fn clear_unborn(dir: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let path = entry.map_err(io_error(dir))?.path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let what = "the file is missing, though there are tables".into();
            return Err(OpenError::Corrupted { path: dir.join("CURRENT"), offset: None, what, way_out: REBUILD });
        }
        if path.is_file() {
            fs::remove_file(&path).map_err(io_error(&path))?;
        }
    }
    Ok(())
}

/// RocksDB does not always say which table it was, or blames the manifest. Those with a digest were found intact before.
fn name_tables(error: OpenError, suspects: &[String]) -> OpenError {
    match error {
        OpenError::Corrupted { path, offset, what, way_out }
            if !suspects.is_empty() && path.extension().is_none_or(|it| it != "sst") =>
        {
            let what = format!("{what} (if it is a table, then one of {})", suspects.join(", "));
            OpenError::Corrupted { path, offset, what, way_out }
        }
        other => other,
    }
}

fn as_open(dir: &Path, error: &ReadError) -> OpenError {
    open_error(dir, error.to_string())
}

/// Where the writer goes on.
struct Checkpoint {
    tree: Arc<LogTree>,
    /// The newest entries that do not fill a row yet.
    row: OpenRow,
    /// Chunks of the bitmap that changed since its rows were written.
    unsaved: Vec<usize>,
}

/// Whether the state is whole and belongs to the blocks; notes the last block, its log tree and its bitmap.
fn check_state(state: &State, blocks: &BlockFile, chain: ChainId, verify: Verify) -> Result<Checkpoint, OpenError> {
    let dir = &state.dir;
    let inconsistent = |what: String| OpenError::Inconsistent { path: dir.clone(), what, way_out: REBUILD };
    let read = |error: ReadError| as_open(dir, &error);
    let last_key = |family| {
        let mut last = None;
        let walk = state.walk(family, IteratorMode::End, true, |key, _| {
            last = key.try_into().map(u64::from_be_bytes).ok();
            Ok(false)
        });
        walk.map(|()| last).map_err(read)
    };
    let Some(executed) = state.get(META, META_EXECUTED).map_err(read)? else {
        if state.n_entries().map_err(read)? > 0 {
            return Err(inconsistent("there are entries, but no executed height".into()));
        }
        tracing::info!(decided = blocks.decided_height(), "the state is empty and is built from the block file");
        return Ok(Checkpoint { tree: Arc::default(), row: OpenRow::default(), unsaved: Vec::new() });
    };
    let executed = executed.as_ref().try_into().map(u64::from_be_bytes);
    let executed = executed.map_err(|_| inconsistent("the executed height cannot be decoded".into()))?;
    match state.get(META, META_CHAIN).map_err(read)?.map(|found| codec::decode::<ChainId>(&found)) {
        Some(Ok(found)) => expect_chain(dir, found, chain)?,
        _ => return Err(inconsistent("it does not say of which chain it is".into())),
    }
    let record = state.get(ROOTS, &executed.to_be_bytes()).map_err(read)?;
    let record = record.and_then(|record| codec::decode::<BlockRecord>(&record).ok());
    let Some(record) = record.filter(|record| record.height == executed) else {
        return Err(inconsistent(format!("there is no record of height {executed}, the last executed one")));
    };
    if executed > blocks.decided_height() {
        let decided = blocks.decided_height();
        let what =
            format!("the state is at height {executed}, but the block file ends at {decided} and has lost its end");
        return Err(OpenError::Inconsistent { path: dir.clone(), what, way_out: RESTORE });
    }
    check_against_blocks(&record, blocks, chain).map_err(inconsistent)?;
    let n_entries = state.n_entries().map_err(read)?;
    if n_entries != record.log.size {
        let what = format!("there are {n_entries} entries, height {executed} needs {}", record.log.size);
        return Err(inconsistent(what));
    }
    let ends = [(RECEIPTS, record.n_batches_total.checked_sub(1)), (ROOTS, Some(executed))];
    for (family, expected) in ends {
        let found = last_key(family)?;
        if found != expected {
            let what = format!("column family {family} ends at {found:?}, height {executed} needs {expected:?}");
            return Err(inconsistent(what));
        }
    }
    let tree = Arc::new(load_tree(state, &record.log).map_err(read)?);
    let row = OpenRow::load(state, record.log.size).map_err(read)?;
    let active = load_active(state, &record).map_err(read)?;
    if verify == Verify::Full {
        let n_entries = if record.log.size <= REHASH_WHOLE { record.log.size } else { REHASH_NEWEST };
        let mut told = Instant::now();
        let progress = &mut |entry| {
            if told.elapsed() > Duration::from_secs(3) {
                told = Instant::now();
                tracing::info!(entry, of = record.log.size, "hashing the log again");
            }
        };
        check_entries(state, record.log.size, n_entries, progress).map_err(read)?;
    }
    *state.active_mut() = active.history;
    state.set_last(record, Arc::clone(&tree));
    tracing::info!(height = executed, entries = record.log.size, root = %record.log.root, "state open");
    Ok(Checkpoint { tree, row, unsaved: active.unsaved })
}

/// The state must be that of the blocks in the block file.
fn check_against_blocks(record: &BlockRecord, blocks: &BlockFile, chain: ChainId) -> Result<(), String> {
    let height = record.height;
    if height == 0 {
        let same = record.header_hash == chain.0;
        return if same { Ok(()) } else { Err("its genesis is that of another chain".into()) };
    }
    let decision = blocks.load_decision(height).map_err(|error| error.to_string())?;
    match decision {
        Some((_, certificate)) if certificate.value == record.header_hash => Ok(()),
        _ => Err(format!("the state ran another block at height {height} than the block file holds")),
    }
}
