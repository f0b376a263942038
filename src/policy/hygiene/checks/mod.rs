//! One file a check (or a pair that shares its comparison): thresholds, evidence, advice. Pure.

mod duplicate_index;
mod foreign_key_without_index;
mod invalid_index;
mod redundant_index;
#[cfg(test)]
mod samples;
mod unused_index;

use super::{Context, Facts, Finding, indexes::Indexes};

/// A check: adds what it finds.
pub type Run = fn(&Facts, &Context, &mut Vec<Finding>);

/// Every check.
pub const ALL: &[Run] = &[
    unused_index::check,
    duplicate_index::check,
    redundant_index::check,
    invalid_index::check,
    foreign_key_without_index::check,
];

/// The indexes whose definitions are wanted: those that advice would drop, or complete.
pub(super) fn to_define(facts: &Facts) -> Vec<u32> {
    let indexes = Indexes::new(facts);
    let mut ids: Vec<u32> = duplicate_index::pairs(&indexes)
        .into_iter()
        .chain(redundant_index::pairs(&indexes))
        .map(|(index, _)| index.id)
        .chain(invalid_index::incomplete(facts, &indexes))
        .chain(
            unused_index::candidates(facts, &indexes)
                .into_iter()
                .map(|(index, _)| index.id),
        )
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
