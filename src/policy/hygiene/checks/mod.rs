//! One file a check (or a pair that shares its comparison): thresholds, evidence, advice. Pure.

mod bloated_table;
mod constant_column;
mod constraint_not_validated;
mod empty_table;
mod invalid_index;
#[cfg(test)]
mod made_up;
mod never_analyzed;
mod no_primary_key;
mod partitions_expired;
mod replica_identity;
mod row_security;
mod rule_column_without_index;
mod table_without_retention;
mod unused_table;

use super::{Context, Facts, Finding};

/// A check: adds what it finds.
pub type Run = fn(&Facts, &Context, &mut Vec<Finding>);

/// Every check.
pub const ALL: &[Run] = &[
    invalid_index::check,
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
