//! Networks of a few nodes in one process, over real TCP on loopback.

mod faults;
mod flow;
mod harness;
mod links;
mod outsiders;
mod requests;
