//! Paths of C2SP tlog-tiles: `tile/<L>/<N>[.p/<W>]` and `tile/entries/<N>[.p/<W>]`, with `<N>` in groups of three digits. One tile has
//! one path: whatever is written otherwise is not found.

use std::fmt::Write as _;

/// Hashes or entries of a full tile.
pub(crate) const WIDTH: u64 = 256;
/// The highest tile level: the specification's bound.
const MAX_LEVEL: u8 = 63;

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TilePath {
    /// The level of a hash tile; `None` for an entry bundle.
    pub(crate) level: Option<u8>,
    /// Index within the level.
    pub(crate) index: u64,
    /// 256, or less for a partial tile.
    pub(crate) width: u64,
}

impl TilePath {
    /// Reads what follows `/tile/`.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.split_once('/')?;
        let level = match level {
            "entries" => None,
            digits => Some(number(digits, u64::from(MAX_LEVEL)).and_then(|it| u8::try_from(it).ok())?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, number(width, WIDTH - 1).filter(|it| *it > 0)?),
            None => (rest, WIDTH),
        };
        let mut value = 0u64;
        let mut groups = index.split('/').peekable();
        while let Some(group) = groups.next() {
            let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
            if digits.len() != 3 || !digits.bytes().all(|it| it.is_ascii_digit()) {
                return None;
            }
            value = value.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        // Leading groups of zeros would be a second path to the same tile.
        (index_path(value) == index).then_some(Self { level, index: value, width })
    }

    /// Entries that a log must have for this tile to exist; `None` if no log has so many.
    pub(crate) fn needs(&self) -> Option<u64> {
        let below = WIDTH.checked_pow(u32::from(self.level.unwrap_or(0)))?;
        self.index.checked_mul(WIDTH)?.checked_add(self.width)?.checked_mul(below)
    }
}

/// A decimal without leading zeros, at most `max`.
fn number(digits: &str, max: u64) -> Option<u64> {
    let value: u64 = digits.parse().ok()?;
    (value <= max && value.to_string() == digits).then_some(value)
}

/// The path elements of an index: 1234067 is `x001/x234/067`.
pub(crate) fn index_path(index: u64) -> String {
    let mut groups = vec![index % 1000];
    let mut left = index / 1000;
    while left > 0 {
        groups.push(left % 1000);
        left /= 1000;
    }
    let mut path = String::new();
    for (place, group) in groups.iter().enumerate().rev() {
        let _ = if place > 0 { write!(path, "x{group:03}/") } else { write!(path, "{group:03}") };
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(level: u8, index: u64, width: u64) -> TilePath {
        TilePath { level: Some(level), index, width }
    }

    #[test]
    fn paths_of_the_specification_are_read() {
        assert_eq!(TilePath::parse("0/x001/x234/067"), Some(tile(0, 1_234_067, 256)));
        assert_eq!(TilePath::parse("1/000.p/17"), Some(tile(1, 0, 17)));
        assert_eq!(TilePath::parse("63/999"), Some(tile(63, 999, 256)));
        assert_eq!(TilePath::parse("entries/x001/000.p/255"), Some(TilePath { level: None, index: 1000, width: 255 }));
        for index in [0, 7, 999, 1000, 1_234_067, 999_999, 1_000_000, u64::MAX] {
            assert_eq!(TilePath::parse(&format!("0/{}", index_path(index))), Some(tile(0, index, 256)), "{index}");
        }
    }

    #[test]
    fn every_other_spelling_is_not_found() {
        for path in [
            "",
            "0",
            "0/",
            "64/000",
            "00/000",
            "-1/000",
            "+1/000",
            "0/0",
            "0/00",
            "0/0000",
            "0/x000/000",
            "0/001/000",
            "0/x001/x000",
            "0/000.p/",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/1/",
            "0/000/",
            "0/000.p",
            "0/abc",
            "0/x001/+01",
            "entries",
            "Entries/000",
            "0/x018/x446/x744/x073/x709/x551/616",
            "0/ 01",
            "0/٠٠٠",
        ] {
            assert_eq!(TilePath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn the_example_of_70_000_entries_has_exactly_its_tiles() {
        let exists = |level, index, width| tile(level, index, width).needs().is_some_and(|needs| needs <= 70_000);
        assert!(exists(0, 272, 256) && exists(0, 273, 112) && !exists(0, 273, 113));
        assert!(exists(1, 0, 256) && exists(1, 1, 17) && !exists(1, 1, 18));
        assert!(exists(2, 0, 1) && !exists(2, 0, 2) && !exists(63, 0, 1));
    }
}
