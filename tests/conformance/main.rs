//! What is written must be so: the import table, the documents' commands, the shipped files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

mod documents;
mod imports;
mod scripts;
