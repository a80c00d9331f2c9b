//! The operations: their bytes in [`body`], their meaning in one file per machine.

mod body;

pub use body::*;
