//! The hygiene of a whole database: pure checks over what its catalogs and statistics say.
//!
//! [`Facts`] go in, [`Finding`]s come out. Each check is a file of its own in [`checks`], with its thresholds and the reasons
//! for them; `docs/findings/` explains each to the people who act on it.

pub mod bloat;
pub mod btree;
pub mod checks;
pub mod facts;
pub(in crate::policy) mod figures;
mod finding;
pub mod indexes;
mod sqlite;
mod statements;
mod table_facts;
mod tree;
mod words;

use facts::Dialect;
pub use facts::Facts;
pub use finding::{Advice, Check, Finding, Severity, order};

use super::table::{quoted, spelled};

/// What the checks may know beside the database: the policy's own side.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The tables of the policy's rules, with the column of each.
    pub ruled: Vec<RuledColumn>,
    /// The tables into which its rules archive, by their numbers: what only sweeps write to is kept on purpose.
    pub archives: Vec<u32>,
    /// Indexes by which audits read usage logs, by their numbers.
    pub log_indexes: Vec<u32>,
    /// From how many days without use on a thing is called unused.
    pub unused_after_days: u32,
}

/// One rule's table and column, as far as they were found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuledColumn {
    /// The rule.
    pub rule: String,
    /// The database's own number of the table.
    pub table: u32,
    /// The time column.
    pub column: String,
    /// Rows before it have expired: seconds since 1970, local times and dates as if they were UTC. `None`: the rule is refused,
    /// or its column is not of a time type.
    pub cutoff: Option<f64>,
    /// Not all that is before the cutoff is the rule's to take: it has a `where`, or there are holds.
    pub narrowed: bool,
    /// Fraction of the rows that have expired, 0 to 1, estimated (at most).
    pub expired: Option<f64>,
    /// Indexes of the table and its parts that begin with the column, by their numbers.
    pub indexes: Vec<u32>,
}

/// Leaves out what no check will speak of, once everything is read: sequences with numbers enough, of which there may be tens of
/// thousands.
pub fn lighten(facts: &mut Facts) {
    let mut sequences = std::mem::take(&mut facts.sequences);
    sequences.retain(|sequence| checks::integer_exhaustion::is_near_an_end(facts, sequence));
    sequences.shrink_to_fit();
    facts.sequences = sequences;
}

/// Runs every check; the findings are in [`order`].
#[must_use]
pub fn find(facts: &Facts, context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in checks::ALL {
        check(facts, context, &mut findings);
    }
    if facts.dialect == Dialect::Sqlite {
        findings = findings
            .into_iter()
            .filter_map(|finding| sqlite::reworded(facts, finding))
            .collect();
    }
    findings.sort_by(order);
    findings.dedup_by(|one, other| one.id == other.id);
    findings
}

/// `schema.table`, quoted where SQL would: the spelling of finding ids.
#[must_use]
pub fn object(schema: &str, name: &str) -> String {
    format!("{}.{}", spelled(schema), spelled(name))
}

/// `schema.table.part`, for an index, a column or a constraint of a table.
#[must_use]
pub fn part(schema: &str, table: &str, part: &str) -> String {
    format!("{}.{}", object(schema, table), spelled(part))
}

/// A name as SQL takes it, quoted: what advice is made of.
#[must_use]
pub fn sql_name(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}
