//! The decisions of a retention policy: pure functions over what the policy says, what the catalog says and what the clock says.
//!
//! Nothing in here does I/O or reads a clock; the current time is always an argument.

pub mod age;
pub mod approval;
pub mod check;
pub mod claims;
pub mod cutoff;
pub mod defaults;
pub mod dependents;
pub mod encoding;
pub mod estimate;
pub mod hygiene;
pub mod limits;
mod near;
pub mod pace;
pub mod plan;
pub mod plausible;
pub mod predicate;
pub mod schedule;
pub mod side_effects;
pub mod table;
pub mod unsupported;
pub mod usage;
