//! Do two controls on one payment multiply false declines, and does the joint policy undo it?
//!
//! `population` makes the payments, `calibrate` makes a policy from some of them, `measure` counts what each way of deciding does to
//! the others, `report` runs all cases and prints. Model, results and limits: `node/docs/JOINT_RISK.md`.

pub mod calibrate;
pub mod measure;
pub mod normal;
pub mod population;
pub mod report;

pub use report::{Effort, Report, run};
