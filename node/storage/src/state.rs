//! RocksDB: options, opening, and the few calls the rest of the crate makes.
//!
//! Its own log is off: the block file is the log. `atomic_flush` makes all column families reach the disk as of one moment between two
//! blocks, so after a crash the state is that of some executed block, never a part of one. Checksums are verified on every read.

use crate::active::ActiveHistory;
use crate::columns::{self, ALL, BlockRecord};
use crate::error::{OpenError, ReadError};
use crate::folder::{FolderLock, REBUILD};
use crate::open::StoreOptions;
use crate::proofs::KeptTiles;
use crate::windows::WindowTrees;
use anji_verify::LogTree;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBPinnableSlice, Env, IteratorMode, LogLevel, Options, ReadOptions,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The open state, shared by the writer and all readers.
pub(crate) struct State {
    pub(crate) db: DB,
    pub(crate) dir: PathBuf,
    /// The last executed block with the right edge of the log after it.
    last: RwLock<(Option<BlockRecord>, Arc<LogTree>)>,
    /// The bitmap of latest versions; ahead of `last` while a commit is under way.
    active: RwLock<ActiveHistory>,
    /// Trees over closed windows that were asked for lately.
    pub(crate) window_trees: WindowTrees,
    /// Full tiles of the log that were asked for lately.
    pub(crate) tiles: KeptTiles,
    pub(crate) _lock: Option<Arc<FolderLock>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("dir", &self.dir).field("last", &self.last()).finish_non_exhaustive()
    }
}

/// How a value of a column family is found, for messages.
pub(crate) fn place(family: &str, key: &[u8]) -> String {
    let hex: String = key.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    format!("state, column family {family}, key {hex}")
}

/// A row, or a whole family where the key is empty, that cannot be what was written.
pub(crate) fn damaged(family: &str, key: &[u8], what: &str) -> ReadError {
    ReadError::Corrupted { place: place_or_family(family, key), what: what.to_owned() }
}

fn place_or_family(family: &str, key: &[u8]) -> String {
    if key.is_empty() { format!("state, column family {family}") } else { place(family, key) }
}

fn column_options(family: &str, options: &StoreOptions, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(6);
    table.set_block_size(16 << 10);
    // Index and filters live in the block cache, so that memory does not grow with the state.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut column = Options::default();
    if matches!(family, columns::LATEST | columns::OPS) {
        table.set_bloom_filter(10.0, false);
        table.set_optimize_filters_for_memory(true);
        // Filters and indexes in pieces: a lookup loads kilobytes, not the filter of a whole file.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_pin_top_level_index_and_filter(true);
        table.set_block_size(8 << 10);
    }
    column.set_block_based_table_factory(&table);
    // One shared bound decides when to flush; a single family never does by itself before that.
    column.set_write_buffer_size(options.write_buffer_bytes.max(1 << 20));
    column.set_max_write_buffer_number(3);
    column.set_level_compaction_dynamic_level_bytes(true);
    // The other families are ids, hashes and small numbers: nothing to gain, and a compaction would pay for it again and again.
    let repeats_itself = matches!(family, columns::ENTRIES | columns::CHECKPOINTS);
    column.set_compression_type(if repeats_itself { DBCompressionType::Lz4 } else { DBCompressionType::None });
    column
}

fn db_options(options: &StoreOptions, create: bool) -> Result<Options, rocksdb::Error> {
    // A flush waits for the disk piece by piece. Left to the system, tens of megabytes reach the disk when a table is synced, and the syncs of
    // votes and blocks queue behind them for hundreds of milliseconds. This one has no setter of its own.
    let mut db = Options::default().get_options_from_string("strict_bytes_per_sync=true")?;
    db.set_bytes_per_sync(512 << 10);
    // Flushes and compactions take the CPU that votes, execution and answers leave over: every node of a network flushes at the same height,
    // and on a small machine a payment would wait for all of them.
    let mut threads = Env::new()?;
    threads.lower_thread_pool_cpu_priority();
    threads.lower_high_priority_thread_pool_cpu_priority();
    db.set_env(&threads);
    db.create_if_missing(create);
    db.create_missing_column_families(create);
    db.set_paranoid_checks(true);
    db.set_atomic_flush(true);
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    // One writer, and now and then a checkpoint: no locks between writers, and sequential keys find their place at once.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    // Its own log is off, so the space it sets aside for one is wasted; so is most of what it sets aside for a manifest.
    db.set_max_total_wal_size(1 << 20);
    db.set_manifest_preallocation_size(64 << 10);
    db.set_max_open_files(512);
    db.set_max_background_jobs(2);
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(2);
    db.set_max_log_file_size(1 << 20);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    Ok(db)
}

impl State {
    /// Opens the state for writing; makes it where `create` says so.
    pub(crate) fn open(
        dir: &Path,
        options: &StoreOptions,
        create: bool,
        lock: Option<Arc<FolderLock>>,
    ) -> Result<Self, OpenError> {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let families =
            || ALL.map(|family| ColumnFamilyDescriptor::new(family, column_options(family, options, &cache)));
        let is_writer = lock.is_some();
        let db = db_options(options, create && is_writer).and_then(|mut settings| {
            if is_writer {
                return DB::open_cf_descriptors(&settings, dir, families());
            }
            // All tables are opened at once: a running node may remove them later.
            settings.set_max_open_files(-1);
            DB::open_cf_descriptors_read_only(&settings, dir, families(), false)
        });
        let db = db.map_err(|error| open_error(dir, error.to_string()))?;
        Ok(Self {
            db,
            dir: dir.to_path_buf(),
            last: RwLock::default(),
            active: RwLock::new(ActiveHistory::new()),
            window_trees: WindowTrees::default(),
            tiles: KeptTiles::default(),
            _lock: lock,
        })
    }

    /// The column family of that name.
    pub(crate) fn family(&self, name: &'static str) -> Result<&ColumnFamily, ReadError> {
        self.db.cf_handle(name).ok_or_else(|| ReadError::Failed {
            place: format!("state, column family {name}"),
            what: "it is not there".into(),
        })
    }

    pub(crate) fn last(&self) -> Option<BlockRecord> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The right edge of the log after the last executed block.
    pub(crate) fn log_tree(&self) -> Arc<LogTree> {
        Arc::clone(&self.last.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    pub(crate) fn set_last(&self, record: BlockRecord, tree: Arc<LogTree>) {
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = (Some(record), tree);
    }

    pub(crate) fn active(&self) -> RwLockReadGuard<'_, ActiveHistory> {
        self.active.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn active_mut(&self) -> RwLockWriteGuard<'_, ActiveHistory> {
        self.active.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, ReadError> {
        self.db.get_pinned_cf(self.family(family)?, key).map_err(|error| read_error(family, key, &error))
    }

    /// Many values of one column family; `sorted` if the keys are.
    pub(crate) fn get_many<K: AsRef<[u8]>>(
        &self,
        family: &'static str,
        keys: &[K],
        sorted: bool,
    ) -> Result<Vec<Option<DBPinnableSlice<'_>>>, ReadError> {
        let values = self.db.batched_multi_get_cf(self.family(family)?, keys.iter(), sorted);
        let answer = |(value, key): (Result<_, rocksdb::Error>, &K)| {
            value.map_err(|error| read_error(family, key.as_ref(), &error))
        };
        values.into_iter().zip(keys).map(answer).collect()
    }

    /// Walks a column family until `visit` answers false. A walk over everything should not push out what is hot: `fill_cache`.
    pub(crate) fn walk(
        &self,
        family: &'static str,
        mode: IteratorMode<'_>,
        fill_cache: bool,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut read = ReadOptions::default();
        read.fill_cache(fill_cache);
        read.set_verify_checksums(true);
        // From the front means all of it. Elsewhere a few rows may be all that is wanted; RocksDB reads ahead by itself as a walk goes on.
        if matches!(mode, IteratorMode::Start) {
            read.set_readahead_size(2 << 20);
        }
        for item in self.db.iterator_cf_opt(self.family(family)?, read, mode) {
            let (key, value) = item.map_err(|error| read_error(family, b"", &error))?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }
}

pub(crate) fn read_error(family: &str, key: &[u8], error: &rocksdb::Error) -> ReadError {
    let place = place_or_family(family, key);
    match error.kind() {
        rocksdb::ErrorKind::Corruption => ReadError::Corrupted { place, what: error.to_string() },
        _ => ReadError::Failed { place, what: error.to_string() },
    }
}

/// RocksDB names the file in most of its messages; where it does, that file is named first.
pub(crate) fn open_error(dir: &Path, what: String) -> OpenError {
    let prefix = dir.display().to_string();
    let named = what.split_whitespace().find_map(|word| {
        let word = word.trim_end_matches([':', ',', '\'', '"', ')', ';', '.']);
        let start = word.find(&prefix)?;
        word.get(start..).map(PathBuf::from)
    });
    let path = named.unwrap_or_else(|| dir.to_path_buf());
    if what.contains("No space left") {
        return OpenError::Io { path, source: std::io::Error::new(std::io::ErrorKind::StorageFull, what) };
    }
    OpenError::Corrupted { path, offset: None, what, way_out: REBUILD }
}
