//! One file a check (or a pair that shares its comparison): thresholds, evidence, advice. Pure.

pub(super) mod bloated_index;
mod bloated_table;
mod constant_column;
mod constraint_not_validated;
mod duplicate_index;
mod empty_table;
mod foreign_key_without_index;
mod freeze_age;
pub(super) mod integer_exhaustion;
mod integer_keys;
mod invalid_index;
#[cfg(test)]
mod made_up;
mod never_analyzed;
mod no_primary_key;
mod old_snapshot;
mod partitions_expired;
mod redundant_index;
mod replica_identity;
mod row_security;
mod rule_column_without_index;
#[cfg(test)]
mod samples;
mod slot_holding_wal;
mod table_without_retention;
mod unused_index;
mod unused_table;

use std::{cmp::Reverse, collections::HashSet};

use super::{Context, Facts, Finding, facts::Index, indexes::Indexes};

/// A check: adds what it finds.
pub type Run = fn(&Facts, &Context, &mut Vec<Finding>);

/// Every check.
pub const ALL: &[Run] = &[
    unused_index::check,
    duplicate_index::check,
    redundant_index::check,
    invalid_index::check,
    bloated_index::check,
    foreign_key_without_index::check,
    integer_exhaustion::check,
    freeze_age::check,
    old_snapshot::check,
    slot_holding_wal::check,
    no_primary_key::check,
    constraint_not_validated::check,
    unused_table::check,
    empty_table::check,
    never_analyzed::check,
    bloated_table::check,
    constant_column::check,
    table_without_retention::check,
    partitions_expired::check,
    rule_column_without_index::check,
    row_security::check,
    replica_identity::check,
];

/// So many definitions are read at once: 40,000 took the server more than a second.
const DEFINED: usize = 1000;

/// The indexes whose definitions are wanted and not there yet: those that advice would drop, or complete. The largest first.
pub(super) fn to_define(facts: &Facts) -> Vec<u32> {
    let indexes = Indexes::new(facts);
    let mut wanted: HashSet<u32> = duplicate_index::pairs(&indexes)
        .into_iter()
        .chain(redundant_index::pairs(&indexes))
        .map(|(index, _)| index.id)
        .chain(invalid_index::incomplete(facts, &indexes))
        .chain(
            unused_index::candidates(facts, &indexes)
                .into_iter()
                .map(|(index, _)| index.id),
        )
        .chain(no_primary_key::converted(facts))
        .collect();
    let parts: Vec<u32> = facts
        .indexes
        .iter()
        .filter(|index| wanted.contains(&index.id))
        .filter_map(|index| indexes.parts_to_define(index))
        .flatten()
        .collect();
    wanted.extend(parts);
    let mut wanted: Vec<&Index> = facts
        .indexes
        .iter()
        .filter(|index| index.definition.is_none() && wanted.contains(&index.id))
        .collect();
    wanted.sort_by_key(|index| (Reverse(indexes.pages(index)), &index.schema, &index.name));
    wanted
        .into_iter()
        .take(DEFINED)
        .map(|index| index.id)
        .collect()
}
