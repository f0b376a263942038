//! One file a check (or a pair that shares its comparison): thresholds, evidence, advice. Pure.

mod duplicate_index;
mod invalid_index;
mod redundant_index;
#[cfg(test)]
mod samples;

use super::{Context, Facts, Finding, indexes::Indexes};

/// A check: adds what it finds.
pub type Run = fn(&Facts, &Context, &mut Vec<Finding>);

/// Every check.
pub const ALL: &[Run] = &[
    duplicate_index::check,
    redundant_index::check,
    invalid_index::check,
];

/// The indexes whose definitions are wanted: those that advice would drop, or complete.
pub(super) fn to_define(facts: &Facts) -> Vec<u32> {
    let indexes = Indexes::new(facts);
    let mut ids: Vec<u32> = duplicate_index::pairs(&indexes)
        .into_iter()
        .chain(redundant_index::pairs(&indexes))
        .map(|(index, _)| index.id)
        .chain(invalid_index::incomplete(facts, &indexes))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
