//! What a sweep of one rule would do: the rule, resolved against the catalog and the database's clock.

use super::{cutoff::Cutoff, limits::Limits, predicate::Predicate, table::TableFacts};

/// One rule, ready to be swept. Everything that the engine needs, nothing that it may interpret.
#[derive(Clone, Debug)]
pub struct RulePlan {
    /// The rule's name.
    pub rule: String,
    /// The table as the catalog described it; the engine checks before each chunk that it is still that table.
    pub table: TableFacts,
    /// The time column, a column of `table`.
    pub column: String,
    /// Rows whose time is before it are expired.
    pub cutoff: Cutoff,
    /// The rule's `where`: a row is taken only if it is true.
    pub filter: Option<Predicate>,
    /// Holds on the table: a row is free only if none of them is true.
    pub holds: Vec<Predicate>,
    /// The blast-radius cap.
    pub limits: Limits,
}
