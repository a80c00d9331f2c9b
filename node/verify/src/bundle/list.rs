//! Vectors whose length is judged before anything is allocated for it.

use alloc::vec::Vec;
use borsh::io::{Error, ErrorKind, Read, Result, Write};
use borsh::{BorshDeserialize, BorshSerialize};
use core::ops::Deref;

/// Room made in advance at most; the rest grows only as items really come.
const RESERVED: usize = 64;

/// At most `MAX` items; on the wire a `u32` count and the items.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List<T, const MAX: usize>(Vec<T>);

/// At most `MAX` bytes.
pub type Bytes<const MAX: usize> = List<u8, MAX>;

impl<T, const MAX: usize> List<T, MAX> {
    /// The list; `None` if there are more than `MAX` items.
    #[must_use]
    pub fn new(items: Vec<T>) -> Option<Self> {
        (items.len() <= MAX).then_some(Self(items))
    }

    /// The items.
    #[must_use]
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: BorshSerialize, const MAX: usize> BorshSerialize for List<T, MAX> {
    fn serialize<W: Write>(&self, writer: &mut W) -> Result<()> {
        self.0.serialize(writer)
    }
}

impl<T: BorshDeserialize, const MAX: usize> BorshDeserialize for List<T, MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self> {
        let count = u32::deserialize_reader(reader)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MAX {
            return Err(Error::new(ErrorKind::InvalidData, "longer than its bound"));
        }
        let mut items = Vec::with_capacity(count.min(RESERVED));
        for _ in 0..count {
            items.push(T::deserialize_reader(reader)?);
        }
        Ok(Self(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_above_the_bound_is_refused_whatever_follows() {
        let good: List<u16, 3> = List::new([1, 2, 3].to_vec()).expect("three");
        let bytes = borsh::to_vec(&good).expect("memory");
        assert_eq!(borsh::from_slice::<List<u16, 3>>(&bytes).expect("it was written so"), good);
        assert!(borsh::from_slice::<List<u16, 2>>(&bytes).is_err());
        assert!(borsh::from_slice::<List<u16, 3>>(&u32::MAX.to_le_bytes()).is_err());
        assert!(borsh::from_slice::<Bytes<4>>(&[4, 0, 0, 0, 1, 2, 3]).is_err(), "cut");
        assert!(List::<u8, 1>::new([1, 2].to_vec()).is_none());
    }
}
