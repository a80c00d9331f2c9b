//! The commands.

pub(crate) mod adapter;
pub(crate) mod init;
