//! One file a check (or a pair that shares its comparison): thresholds, evidence, advice. Pure.

mod invalid_index;

use super::{Context, Facts, Finding};

/// A check: adds what it finds.
pub type Run = fn(&Facts, &Context, &mut Vec<Finding>);

/// Every check.
pub const ALL: &[Run] = &[invalid_index::check];
