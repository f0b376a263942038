//! The sweep: drives a plan's chunks through the engine, under pace, limits and the will of whoever controls it.
//!
//! The runner decides nothing about rows (the engine repeats the whole predicate in every statement) and nothing about
//! time (the cutoff comes with the plan). It asks before each chunk whether it may go on, makes its progress durable
//! before it goes beyond what was recorded, and reports what was committed.

mod control;
mod pacer;
mod policy;
mod progress;
mod report;
mod runner;
mod under;
mod unit;

pub use control::{Control, ControlError, StopReason};
pub use policy::{Order, SweepError, sweep_plan, sweep_policy};
pub use progress::{RuleProgress, SweepState, Trigger};
pub use report::{Outcome, RuleEnd, RuleReport, SlowRows, SweepReport};
pub use runner::{Books, Turn, Under, sweep_rule};
pub use unit::{doubts, free};
