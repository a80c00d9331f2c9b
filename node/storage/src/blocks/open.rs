//! Opening the block file: read it back, cut a torn tail, go on where it ends.

use super::disk::Disk;
use super::index::{check_index, encode_index};
use super::record::SEGMENT_HEADER_LEN;
use super::scan::{Scan, SegmentScan};
use super::{BlockFile, Index, Inner, Segment, Writer, create_segment, index_path, segment_path};
use crate::error::OpenError;
use crate::folder::{FolderLock, RESTORE, io_error, write_atomically};
use crate::open::Verify;
use anji_contracts::types::ChainId;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

/// How a block file is opened.
pub(crate) struct BlockOptions {
    pub(crate) chain: ChainId,
    pub(crate) segment_bytes: u64,
    pub(crate) verify: Verify,
    pub(crate) disk: Arc<dyn Disk>,
    /// Held by a writer; `None` opens for looking only.
    pub(crate) lock: Option<Arc<FolderLock>>,
}

impl BlockFile {
    /// Reads the folder `blocks`, which exists.
    pub(crate) fn open(dir: &Path, options: &BlockOptions) -> Result<Self, OpenError> {
        match Self::open_with(dir, options, options.verify) {
            // What a shortcut does not explain, the whole file does, or it names the damage.
            Err(OpenError::Corrupted { .. }) if options.verify == Verify::Recent => {
                Self::open_with(dir, options, Verify::Full)
            }
            answer => answer,
        }
    }

    fn open_with(dir: &Path, options: &BlockOptions, verify: Verify) -> Result<Self, OpenError> {
        let writable = options.lock.is_some();
        let mut numbers = segment_numbers(dir)?;
        drop_unborn_segment(dir, &mut numbers, writable)?;
        let mut scan = Scan::new(options.chain);
        let mut segments = Vec::with_capacity(numbers.len());
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut end = 0;
        let started = Instant::now();
        let mut told = started;
        for (place, number) in numbers.iter().copied().enumerate() {
            let from_end = numbers.len() - place;
            let path = segment_path(dir, number);
            let read = read_segment(&mut scan, dir, number, from_end, verify, writable)?;
            if read.end < read.length {
                if writable {
                    cut(&path, &read, options.disk.as_ref())?;
                } else {
                    tracing::warn!(file = %path.display(), offset = read.end, "the last record is incomplete and left out");
                }
            }
            bytes += read.end;
            end = read.end;
            segments.push(Segment { number, first_height: read.first_height });
            rows = read.rows;
            if told.elapsed() > Duration::from_secs(3) {
                told = Instant::now();
                tracing::info!(segment = number, of = numbers.len(), height = scan.decided, "reading the block file");
            }
        }
        let mut writer = None;
        if writable {
            let opened = match numbers.last() {
                Some(number) => {
                    let path = segment_path(dir, *number);
                    let file = File::options().read(true).write(true).open(&path).map_err(io_error(&path))?;
                    (file, *number, end)
                }
                None => {
                    let file = create_segment(dir, &options.chain, options.disk.as_ref(), 1, 1)
                        .map_err(|(path, source)| OpenError::Io { path, source })?;
                    segments.push(Segment { number: 1, first_height: 1 });
                    bytes = SEGMENT_HEADER_LEN as u64;
                    (file, 1, SEGMENT_HEADER_LEN as u64)
                }
            };
            let (file, number, end) = opened;
            writer = Some(Mutex::new(Writer { file, number, end, failed: false, buffer: Vec::new() }));
        }
        tracing::info!(height = scan.decided, segments = segments.len(), bytes, "block file open");
        let Scan { decided, last, pending, .. } = scan;
        let index = Index { segments, rows, pending, decided, last, bytes };
        let inner = Inner {
            dir: dir.to_path_buf(),
            chain: options.chain,
            segment_bytes: options.segment_bytes.max(SEGMENT_HEADER_LEN as u64 + 1),
            disk: Arc::clone(&options.disk),
            writer,
            index: RwLock::new(index),
            _lock: options.lock.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// Reads a segment, or takes it on the word of its index where that is enough; writes the index again where it is damaged.
fn read_segment(
    scan: &mut Scan,
    dir: &Path,
    number: u32,
    from_end: usize,
    verify: Verify,
    writable: bool,
) -> Result<SegmentScan, OpenError> {
    let path = segment_path(dir, number);
    let is_last = from_end == 1;
    let index_file = index_path(dir, number);
    let index = if is_last { None } else { fs::read(&index_file).ok() };
    if verify == Verify::Recent && from_end > 2 {
        let skipped = index.as_ref().and_then(|index| scan.skip_segment(&path, number, index));
        if let Some(skipped) = skipped {
            return Ok(skipped);
        }
    }
    let first_height = scan.decided + 1;
    let known = index.as_ref().and_then(|index| check_index(index, number, first_height));
    let before = (is_last && !writable).then(|| scan.clone());
    let mut read = scan.read_segment(&path, number, known.as_deref(), is_last);
    // A writer may be in the middle of a record while we only look.
    for before in before.iter().cycle().take(5) {
        if !matches!(read, Err(OpenError::Corrupted { .. })) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        scan.clone_from(before);
        read = scan.read_segment(&path, number, known.as_deref(), is_last);
    }
    let read = read?;
    if !is_last && writable && known.as_ref() != Some(&read.rows) {
        if index.is_some() {
            tracing::warn!(file = %index_file.display(), "the index is damaged and is written again from its segment");
        }
        write_atomically(&index_file, &encode_index(number, read.first_height, &read.rows))
            .map_err(io_error(&index_file))?;
    }
    Ok(read)
}

/// The numbers of the segments, without gaps.
fn segment_numbers(dir: &Path) -> Result<Vec<u32>, OpenError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let name = entry.map_err(io_error(dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".blk")).and_then(|stem| stem.parse::<u32>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    for (expected, number) in (1u32..).zip(&numbers) {
        if expected != *number {
            return Err(OpenError::Inconsistent {
                path: segment_path(dir, expected),
                what: "the segment is missing".into(),
                way_out: RESTORE,
            });
        }
    }
    Ok(numbers)
}

/// A crash while a segment was made leaves one without a header: it never held a record.
fn drop_unborn_segment(dir: &Path, numbers: &mut Vec<u32>, writable: bool) -> Result<(), OpenError> {
    let Some(number) = numbers.last().copied() else { return Ok(()) };
    let path = segment_path(dir, number);
    let length = fs::metadata(&path).map_err(io_error(&path))?.len();
    let unborn = length < SEGMENT_HEADER_LEN as u64
        || (length == SEGMENT_HEADER_LEN as u64
            && fs::read(&path).map_err(io_error(&path))?.iter().all(|byte| *byte == 0));
    if unborn {
        numbers.pop();
        if writable {
            tracing::warn!(file = %path.display(), "the segment was never begun and is removed");
            fs::remove_file(&path).map_err(io_error(&path))?;
        }
    }
    Ok(())
}

fn cut(path: &Path, read: &SegmentScan, disk: &dyn Disk) -> Result<(), OpenError> {
    tracing::warn!(
        file = %path.display(),
        offset = read.end,
        bytes = read.length - read.end,
        "the last record is incomplete: it was never acknowledged and is cut off"
    );
    let file = File::options().write(true).open(path).map_err(io_error(path))?;
    disk.truncate(&file, read.end).and_then(|()| disk.sync(&file)).map_err(io_error(path))
}
