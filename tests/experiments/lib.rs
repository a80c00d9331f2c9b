//! Experiments: what a rule of the ledger achieves, on a population made from a seed. The decisions are those of `contracts`; the
//! statistics around them are floats, since none of it is money and nothing here runs in a node.

pub mod joint_risk;
