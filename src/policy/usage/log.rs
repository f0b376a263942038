//! Usage logs: a table in which a service writes down what it used. Evidence of use, and never of disuse: what is not in it may
//! have been used all the same.

use jiff::Timestamp;

use super::{Observation, Usage};
use crate::policy::table::{TableName, quoted};

/// A usage log, as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// The table.
    pub table: TableName,
    /// Its column with the time of use.
    pub column: String,
    /// Its column that names what was used.
    pub object: String,
}

/// What to look for in a usage log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The log.
    pub table: TableName,
    /// Its column with the time of use.
    pub column: String,
    /// Its column that names what was used.
    pub object: String,
    /// The names under which the thing may stand there.
    pub names: Vec<String>,
}

impl LogQuery {
    /// Looks for `schema.name`, also by its bare name and as SQL spells it.
    #[must_use]
    pub fn new(log: &LogSource, schema: &str, name: &str) -> Self {
        let spelled = TableName {
            schema: Some(schema.to_owned()),
            name: name.to_owned(),
        };
        let mut names = vec![
            name.to_owned(),
            format!("{schema}.{name}"),
            spelled.to_string(),
            quoted(name),
            format!("{}.{}", quoted(schema), quoted(name)),
        ];
        names.dedup();
        Self {
            table: log.table.clone(),
            column: log.column.clone(),
            object: log.object.clone(),
            names,
        }
    }
}

/// What a usage log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// The last use in it.
    Used(Timestamp),
    /// None among the entries that were looked at.
    NotFound,
    /// It could not be read: why, and what would help.
    Unreadable(String),
}

/// `observation` with the evidence of a log.
#[must_use]
pub fn with_log(
    observation: Observation,
    logged: &Logged,
    now: Timestamp,
    after_days: u32,
) -> Observation {
    match logged {
        Logged::Used(at) => {
            let hours = now.duration_since(*at).as_hours();
            let recent = hours / 24 < i64::from(after_days);
            match observation.usage {
                Usage::Used { last } => Observation {
                    usage: Usage::Used {
                        last: last.max(Some(*at)),
                    },
                    ..observation
                },
                _ if recent => Observation {
                    usage: Usage::Used { last: Some(*at) },
                    ..observation
                },
                _ => observation,
            }
        }
        Logged::NotFound => observation,
        Logged::Unreadable(why) => Observation {
            note: Some(format!("usage log: {why}")),
            ..observation
        },
    }
}
