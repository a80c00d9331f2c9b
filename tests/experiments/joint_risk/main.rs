//! Prints the joint-risk experiment. `ANJI_EXPERIMENT=long` takes four times as many payments, and a finer sweep.

use anji_experiments::joint_risk::{Effort, run};

fn main() {
    let effort = Effort::from_environment();
    print!("{}", run(&effort).text());
}
