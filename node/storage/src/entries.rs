//! The log's entries, sixteen to a row. A row an entry would cost a key, a place in the memory table and an index step each; a payment
//! changes two entities and a block thousands, so rows of many are a third of the work and of the index.
//!
//! The last row holds fewer until the log has grown past it. It is written again with every block that adds to it.

use crate::columns::{ENTRIES, push_varint, take_varint};
use crate::error::ReadError;
use crate::state::{State, damaged, place};
use rocksdb::{Direction, IteratorMode};

/// Entries of a full row.
pub(crate) const ROW_ENTRIES: u64 = 16;

/// The row that is not full yet.
#[derive(Debug, Default)]
pub(crate) struct OpenRow {
    bytes: Vec<u8>,
    size: u64,
}

impl OpenRow {
    /// Adds the entry at `index`, the log's next; a row that is full is handed to `put` with its key.
    pub(crate) fn push(&mut self, index: u64, entry: &[u8], put: impl FnOnce([u8; 8], &[u8])) {
        push_varint(&mut self.bytes, entry.len() as u64);
        self.bytes.extend_from_slice(entry);
        self.size = index + 1;
        if self.size.is_multiple_of(ROW_ENTRIES) {
            put(row_key(index), &self.bytes);
            self.bytes.clear();
        }
    }

    /// Hands what has begun to `put`, if anything has.
    pub(crate) fn put_begun(&self, put: impl FnOnce([u8; 8], &[u8])) {
        if !self.bytes.is_empty() {
            put(row_key(self.size), &self.bytes);
        }
    }

    /// The row that the entry at `size` will be added to.
    pub(crate) fn load(state: &State, size: u64) -> Result<Self, ReadError> {
        let n_begun = size % ROW_ENTRIES;
        if n_begun == 0 {
            return Ok(Self { bytes: Vec::new(), size });
        }
        let key = row_key(size);
        let row = state.get(ENTRIES, &key)?.ok_or_else(|| damaged(ENTRIES, &key, "it is missing"))?;
        if count_of(&row) != Some(n_begun) {
            return Err(damaged(
                ENTRIES,
                &key,
                &format!("it does not hold the {n_begun} entries that the log ends with"),
            ));
        }
        Ok(Self { bytes: row.to_vec(), size })
    }
}

/// Key of the row with the entry at `index`.
pub(crate) fn row_key(index: u64) -> [u8; 8] {
    (index / ROW_ENTRIES).to_be_bytes()
}

/// The entries of a row in order; `None` where the row is damaged, and then the end.
fn split_row(mut row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if row.is_empty() {
            return None;
        }
        let length = take_varint(&mut row).and_then(|length| usize::try_from(length).ok());
        let Some((entry, rest)) = length.and_then(|length| row.split_at_checked(length)) else {
            row = &[];
            return Some(None);
        };
        row = rest;
        Some(Some(entry))
    })
}

/// Entries of a row; `None` where the row is damaged.
fn count_of(row: &[u8]) -> Option<u64> {
    split_row(row).try_fold(0u64, |n, entry| entry.map(|_| n + 1))
}

fn entry_of(row: &[u8], index: u64) -> Result<Option<&[u8]>, ReadError> {
    let in_row = usize::try_from(index % ROW_ENTRIES).unwrap_or(usize::MAX);
    for (at, entry) in split_row(row).enumerate() {
        let entry = entry.ok_or_else(|| damaged(ENTRIES, &row_key(index), NO_ROW))?;
        if at == in_row {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

const NO_ROW: &str = "it is no row of entries";

/// Names an entry that cannot be what was written.
pub(crate) fn entry_damaged(index: u64, what: &str) -> ReadError {
    let place = format!("{}, entry {index}", place(ENTRIES, &row_key(index)));
    ReadError::Corrupted { place, what: what.to_owned() }
}

impl State {
    /// The exact bytes of an entry.
    pub(crate) fn entry(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(row) = self.get(ENTRIES, &row_key(index))? else { return Ok(None) };
        Ok(entry_of(&row, index)?.map(<[u8]>::to_vec))
    }

    /// Shows `visit` many entries, with their places in `indexes`.
    pub(crate) fn visit_entries_at(
        &self,
        indexes: &[u64],
        mut visit: impl FnMut(usize, Option<&[u8]>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut order: Vec<(u64, usize)> = indexes.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut keys: Vec<[u8; 8]> = order.iter().map(|(index, _)| row_key(*index)).collect();
        keys.dedup();
        let rows = self.get_many(ENTRIES, &keys, true)?;
        let mut order = order.into_iter().peekable();
        for (key, row) in keys.iter().zip(&rows) {
            while let Some((index, at)) = order.next_if(|(index, _)| row_key(*index) == *key) {
                let entry = row.as_ref().map(|row| entry_of(row, index)).transpose()?.flatten();
                visit(at, entry)?;
            }
        }
        Ok(())
    }

    /// Shows `visit` every entry from `from` on, in order, until it answers false. A gap is an error.
    pub(crate) fn walk_entries(
        &self,
        from: u64,
        fill_cache: bool,
        mut visit: impl FnMut(u64, &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let start = row_key(from);
        let mut next = from - from % ROW_ENTRIES;
        let mode = if next == 0 { IteratorMode::Start } else { IteratorMode::From(&start, Direction::Forward) };
        self.walk(ENTRIES, mode, fill_cache, |key, row| {
            if key != row_key(next) || !next.is_multiple_of(ROW_ENTRIES) {
                return Err(damaged(ENTRIES, &row_key(next), "it is missing, though there are later ones"));
            }
            for entry in split_row(row) {
                let entry = entry.ok_or_else(|| damaged(ENTRIES, key, NO_ROW))?;
                if next >= from && !visit(next, entry)? {
                    return Ok(false);
                }
                next += 1;
            }
            Ok(true)
        })
    }

    /// Entries in the last row and before.
    pub(crate) fn n_entries(&self) -> Result<u64, ReadError> {
        let mut size = 0;
        self.walk(ENTRIES, IteratorMode::End, true, |key, row| {
            let number =
                key.try_into().map(u64::from_be_bytes).map_err(|_| damaged(ENTRIES, key, "the key is no number"))?;
            let in_row =
                count_of(row).filter(|n| (1..=ROW_ENTRIES).contains(n)).ok_or_else(|| damaged(ENTRIES, key, NO_ROW))?;
            size = number.saturating_mul(ROW_ENTRIES).saturating_add(in_row);
            Ok(false)
        })?;
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_damage_is_seen() {
        let entries: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; usize::from(n) * 7]).collect();
        let mut rows = Vec::new();
        let mut open = OpenRow::default();
        for (index, entry) in (0..).zip(&entries) {
            open.push(index, entry, |key, row| rows.push((key, row.to_vec())));
        }
        open.put_begun(|key, row| rows.push((key, row.to_vec())));
        assert_eq!(rows.iter().map(|(key, _)| u64::from_be_bytes(*key)).collect::<Vec<_>>(), [0, 1, 2]);
        for (index, entry) in (0..).zip(&entries) {
            let (_, row) = rows.iter().find(|(key, _)| *key == row_key(index)).expect("written");
            assert_eq!(entry_of(row, index).expect("intact"), Some(entry.as_slice()));
        }
        let (_, last) = &rows[2];
        assert_eq!(entry_of(last, 40).expect("intact"), None, "not there yet");
        assert!(entry_of(&last[..last.len() - 1], 39).is_err(), "cut short");
        assert!(entry_of(&[0xff; 3], 0).is_err());
        // A row that is full is not begun again until there is something for it.
        let mut open = OpenRow::default();
        (0..ROW_ENTRIES).for_each(|index| open.push(index, b"x", |_, _| {}));
        open.put_begun(|_, _| panic!("nothing has begun"));
    }
}
