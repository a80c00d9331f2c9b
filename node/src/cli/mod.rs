//! The commands.

pub(crate) mod adapter;
pub(crate) mod bench;
pub(crate) mod evidence;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod node;
pub(crate) mod witness;
