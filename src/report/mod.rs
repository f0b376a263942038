//! From what was found and done to what is published: the status, in the API's own types. Pure; used by the controller and
//! by the offline verbs alike.

mod conditions;
mod findings;
mod packed;
mod rules;
mod size;
mod sweep;
mod trend;
mod unchanged;

pub use conditions::{Known, Trouble, conditions, violated};
pub use rules::{apply_audit, forget_count, rule_statuses};
pub use size::fit;
pub use sweep::{apply_sweep, current_sweep, read_unfinished, write_unfinished};
pub use trend::{Change, changes};
pub use unchanged::only_times_differ;
