//! One file a check (or a pair that shares its comparison): thresholds, evidence, advice. Pure.

mod freeze_age;
mod integer_exhaustion;
mod invalid_index;
mod old_snapshot;
mod slot_holding_wal;

use super::{Context, Facts, Finding};

/// A check: adds what it finds.
pub type Run = fn(&Facts, &Context, &mut Vec<Finding>);

/// Every check.
pub const ALL: &[Run] = &[
    invalid_index::check,
    integer_exhaustion::check,
    freeze_age::check,
    old_snapshot::check,
    slot_holding_wal::check,
];
