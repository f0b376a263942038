//! What `pg_stat_statements` knows: how many of the statements that it remembers name a table. Support for what the counters say,
//! and never more: it forgets statements, it does not see all of them, and it dates none.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::policy::hygiene::figures;

/// A look at `pg_stat_statements`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    /// Statements of others in this database, without those of the operator.
    pub total: i64,
    /// Since when it remembers; `None`: not known.
    pub since: Option<Timestamp>,
    /// It forgot statements since then because there were too many.
    pub evicted: bool,
    /// Statements inside functions are recorded as well.
    pub nested: bool,
    /// Of some, only the beginning was looked at.
    pub cut: bool,
    /// By the numbers of the tables that were asked for: statements whose text holds the table's name.
    pub naming: HashMap<u32, i64>,
}

/// What became of a look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookedUp {
    /// It is not there, or records nothing.
    Absent,
    /// It could not be read: why, in a sentence.
    Hidden(String),
    /// What it says.
    Seen(Statements),
}

impl Statements {
    /// What they say of a table, in words; `None`: it was not asked for, or there are none.
    #[must_use]
    pub fn evidence(&self, table: u32) -> Option<String> {
        let naming = *self.naming.get(&table)?;
        if self.total <= 0 {
            return None;
        }
        let number = |n: i64| figures::about(u64::try_from(n).unwrap_or(0));
        let since = self.since.map_or_else(String::new, |since| {
            format!(" since {}", figures::day(since))
        });
        let mut text = format!(
            "pg_stat_statements: {} of {} statements name it{since}",
            number(naming),
            number(self.total)
        );
        if naming > 0 {
            return Some(text);
        }
        if self.evicted {
            text.push_str(", but it forgot some in that time");
        }
        if self.cut {
            text.push_str("; of long ones only the beginning was looked at");
        }
        if !self.nested {
            text.push_str("; those inside functions are not recorded");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(naming: i64) -> Statements {
        Statements {
            total: 412,
            since: Some("2026-09-01T08:00:00Z".parse().unwrap()),
            evicted: false,
            nested: true,
            cut: false,
            naming: HashMap::from([(7, naming)]),
        }
    }

    #[test]
    fn statements_that_do_not_name_a_table_are_counted_and_dated() {
        assert_eq!(
            statements(0).evidence(7).as_deref(),
            Some("pg_stat_statements: 0 of 410 statements name it since 2026-09-01")
        );
        assert_eq!(statements(0).evidence(8), None);
    }

    #[test]
    fn what_was_forgotten_or_never_seen_is_said_beside_a_nought() {
        let lossy = Statements {
            evicted: true,
            nested: false,
            cut: true,
            ..statements(0)
        };

        assert_eq!(
            lossy.evidence(7).as_deref(),
            Some(
                "pg_stat_statements: 0 of 410 statements name it since 2026-09-01, but it forgot some in that time; of long ones only the beginning was looked at; those inside functions are not recorded"
            )
        );
    }

    #[test]
    fn without_any_statement_nothing_is_said() {
        let none = Statements {
            total: 0,
            ..statements(0)
        };

        assert_eq!(none.evidence(7), None);
    }
}
