//! Foreign keys as conditions: which rows cannot go, because a row that refers to them has to stay.
//!
//! The rule's own table is `t`, a table that refers to it `k1`, and so on down the keys that cascade. Columns are compared with the
//! referred one at the left, whose collation counts: so does SQLite compare them when the referred row is deleted.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row;

use super::{
    archive_table::Archive,
    catalog::{self, Key},
    keys::Pairs,
    predicate,
    session::Session,
    sql::{self, Fixed, Sql, identifier},
};
use crate::{
    engine::EngineError,
    policy::{
        dependents::{Dependents, HeldTable, goes_too_far, reached},
        plan::RulePlan,
        table::{ColumnFacts, IncomingKey, OnDelete},
    },
};

/// The columns of tables on which holds are, by the table's name.
pub(super) type HeldColumns = HashMap<String, Vec<ColumnFacts>>;

/// Reads the columns of the tables on which holds are that deletes might reach.
pub(super) async fn held_columns(
    session: &mut Session,
    plan: &RulePlan,
) -> Result<HeldColumns, sqlx::Error> {
    let mut columns = HashMap::new();
    for hold in &plan.held_tables {
        columns.insert(
            hold.name.clone(),
            catalog::columns(session, &hold.name).await?,
        );
    }
    Ok(columns)
}

/// Everything that refers to a plan's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Obstacles<'a> {
    pub(super) plan: &'a RulePlan,
    /// As the schema says now.
    pub(super) keys: &'a [IncomingKey],
    pub(super) pairs: &'a Pairs,
    /// How rows of the rule's table are told apart.
    pub(super) rows: &'a Key,
    pub(super) held: &'a HeldColumns,
}

/// When something is true of a row.
enum When {
    Never,
    Always,
    If(String),
}

impl When {
    fn any(all: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = Vec::new();
        for one in all {
            match one {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::If(condition) => parts.push(condition),
            }
        }
        if parts.is_empty() {
            Self::Never
        } else {
            Self::If(parts.join(" OR "))
        }
    }
}

impl Obstacles<'_> {
    /// ` AND NOT EXISTS …` for everything that keeps a row of the rule's table. `sets`: a key with SET NULL or SET DEFAULT keeps the
    /// row that it refers to; it turned out that SQLite cannot set it.
    pub(super) fn condition(&self, sets: bool) -> Result<String, EngineError> {
        let mut out = String::new();
        if self.plan.dependents == Dependents::Refuse {
            return Ok(out);
        }
        for key in self.keys {
            if let When::If(condition) = self.key(key, 0, sets)? {
                out.push_str(" AND NOT ");
                out.push_str(&condition);
            }
        }
        Ok(out)
    }

    /// Rows of the table may refer to each other: when some are gone, others may go.
    pub(super) fn refers_to_itself(&self) -> bool {
        self.plan.dependents != Dependents::Refuse && self.keys.iter().any(|key| key.own)
    }

    /// A key that keeps rows only once SQLite has failed to change theirs.
    pub(super) fn may_be_set(&self) -> bool {
        self.plan.dependents == Dependents::Cascade
            && reached(self.keys, self.plan.dependents)
                .iter()
                .any(|key| key.on_delete == OnDelete::Set)
    }

    /// See [`goes_too_far`].
    pub(super) fn goes_too_far(&self) -> bool {
        goes_too_far(self.keys, self.plan.dependents)
    }

    /// A hold may keep a row that the deletes would reach.
    pub(super) fn is_held(&self) -> bool {
        reached(self.keys, self.plan.dependents)
            .iter()
            .any(|key| self.holds(key).next().is_some())
    }

    /// The tables that deletes may reach, each once.
    pub(super) fn tables(&self) -> Vec<&str> {
        let mut names: Vec<&str> = reached(self.keys, self.plan.dependents)
            .iter()
            .map(|key| key.relation.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A row of the table at `level` has to stay because of a row that refers to it by `key`.
    fn key(&self, key: &IncomingKey, level: usize, sets: bool) -> Result<When, EngineError> {
        let stays = match (self.plan.dependents, key.on_delete) {
            (Dependents::Cascade, OnDelete::Cascade) if key.followed => {
                let mut all = vec![self.held(key, level + 1)?];
                for below in &key.below {
                    all.push(self.key(below, level + 1, sets)?);
                }
                When::any(all)
            }
            (Dependents::Cascade, OnDelete::Set) if !sets && !key.too_far => {
                self.held(key, level + 1)?
            }
            _ => When::Always,
        };
        let mut condition = match stays {
            When::Never => return Ok(When::Never),
            When::Always => String::new(),
            When::If(condition) => format!(" AND ({condition})"),
        };
        if key.own && level == 0 {
            // A row that refers to itself is no obstacle to itself.
            condition.insert_str(0, &format!(" AND NOT ({})", self.rows.same("k1", "t")));
        }
        Ok(When::If(format!(
            "EXISTS (SELECT 1 FROM {} WHERE {}{condition})",
            from(key, level + 1),
            self.join(key, &alias(level), &alias(level + 1))?
        )))
    }

    fn holds(&self, key: &IncomingKey) -> impl Iterator<Item = &HeldTable> {
        self.plan
            .held_tables
            .iter()
            .filter(move |hold| key.is_held_by(hold))
    }

    /// A hold protects a row of the table at `level`, which was reached by `key`.
    fn held(&self, key: &IncomingKey, level: usize) -> Result<When, EngineError> {
        let mut all = Vec::new();
        for hold in self.holds(key) {
            let Some(filter) = &hold.filter else {
                return Ok(When::Always);
            };
            let columns = self.held.get(&hold.name).ok_or_else(|| unreadable(key))?;
            let printed = predicate::print_for(filter, columns, &alias(level));
            let printed = printed.map_err(|error| match error {
                EngineError::Predicate(message) => EngineError::Predicate(format!(
                    "the where of hold {} on {}: {message}",
                    hold.hold, hold.name
                )),
                other => other,
            })?;
            all.push(When::If(printed.perhaps()));
        }
        Ok(When::any(all))
    }

    /// A row of `from` refers to one of `to` by `key`.
    fn join(&self, key: &IncomingKey, to: &str, from: &str) -> Result<String, EngineError> {
        let pairs = self
            .pairs
            .get(&key.id)
            .filter(|pairs| !pairs.is_empty())
            .ok_or_else(|| unreadable(key))?;
        let parts: Vec<String> = pairs
            .iter()
            .map(|pair| {
                format!(
                    "{}.{} = {}.{}",
                    identifier(to),
                    identifier(&pair.referred),
                    identifier(from),
                    identifier(&pair.referring)
                )
            })
            .collect();
        Ok(parts.join(" AND "))
    }

    /// Counts the rows of each table that would go along with expired rows of the plan's table.
    pub(super) fn counts(&self) -> Result<Vec<(String, Fixed)>, EngineError> {
        let mut ways: BTreeMap<&str, (&IncomingKey, Vec<String>)> = BTreeMap::new();
        let (expired, values) = sql::expired(self.plan, 1)?;
        let root = format!("main.{} AS \"t\"", identifier(&self.plan.table.name));
        if self.plan.dependents == Dependents::Cascade {
            for key in self.keys {
                self.ways(key, 0, (&root, &expired), &mut ways)?;
            }
        }
        ways.into_values()
            .map(|(key, ways)| {
                let besides = if key.own {
                    let same = self.rows.same("t", "c");
                    format!(" AND NOT EXISTS (SELECT 1 FROM {root} WHERE {same} AND {expired})")
                } else {
                    String::new()
                };
                let count = Sql::made(format!(
                    "SELECT count(*) AS n FROM main.{} AS \"c\" WHERE ({}){besides}",
                    identifier(&key.relation),
                    ways.join(" OR ")
                ));
                let values = values.clone();
                Ok((key.table.clone(), Fixed { sql: count, values }))
            })
            .collect()
    }

    /// Every way by which a delete cascades from `above` through `key` and on, as a condition on a row `c` at its end.
    fn ways<'k>(
        &self,
        key: &'k IncomingKey,
        level: usize,
        (above, expired): (&str, &str),
        into: &mut BTreeMap<&'k str, (&'k IncomingKey, Vec<String>)>,
    ) -> Result<(), EngineError> {
        // Rows that would take along nobody knows what keep the row that they refer to.
        if key.on_delete != OnDelete::Cascade || key.too_far {
            return Ok(());
        }
        let way = format!(
            "EXISTS (SELECT 1 FROM {above} WHERE {} AND {expired})",
            self.join(key, &alias(level), "c")?
        );
        into.entry(&key.relation)
            .or_insert_with(|| (key, Vec::new()))
            .1
            .push(way);
        let joined = format!(
            "{above} JOIN {} ON {}",
            from(key, level + 1),
            self.join(key, &alias(level), &alias(level + 1))?
        );
        for next in &key.below {
            self.ways(next, level + 1, (&joined, expired), into)?;
        }
        Ok(())
    }
}

fn unreadable(key: &IncomingKey) -> EngineError {
    EngineError::NotSupported(format!(
        "foreign key ({}) of {} does not fit the table that it refers to: SQLite refuses every delete there",
        key.name, key.table
    ))
}

/// The referring table as it stands in FROM.
fn from(key: &IncomingKey, level: usize) -> String {
    format!(
        "main.{} AS {}",
        identifier(&key.relation),
        identifier(&alias(level))
    )
}

fn alias(level: usize) -> String {
    if level == 0 {
        "t".to_owned()
    } else {
        format!("k{level}")
    }
}

/// What a session does by itself whenever rows go: it counts what is deleted from some tables, whoever caused it, as SQLite's own
/// counters tell nothing of single tables, and count what triggers and `SET NULL` change, too; and it archives. Temporary triggers
/// fire for this session only.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(Vec<String>);

impl Counters {
    pub(super) fn of(tables: &[&str], archive: Option<&Archive>) -> Self {
        let mut statements = Vec::new();
        if !tables.is_empty() || archive.is_some() {
            statements.push("PRAGMA temp_store = 2".to_owned());
            statements.push(
                "CREATE TEMP TABLE retention_gone (n INTEGER NOT NULL, kept INTEGER NOT NULL, lost INTEGER NOT NULL)"
                    .to_owned(),
            );
            statements.push("INSERT INTO temp.retention_gone VALUES (0, 0, 0)".to_owned());
        }
        for (n, table) in tables.iter().enumerate() {
            statements.push(format!(
                "CREATE TEMP TRIGGER retention_gone_{n} AFTER DELETE ON main.{} \
                 BEGIN UPDATE retention_gone SET n = n + 1; END",
                identifier(table)
            ));
        }
        statements.extend(archive.iter().flat_map(|archive| archive.triggers()));
        Self(statements)
    }

    pub(super) fn is_used(&self) -> bool {
        !self.0.is_empty()
    }

    /// Makes them in a new session, which is in no transaction.
    pub(super) async fn install(&self, session: &mut Session) -> Result<(), sqlx::Error> {
        for statement in &self.0 {
            session.rows(Sql::made(statement.clone()).query([])).await?;
        }
        Ok(())
    }

    /// Begins at 0, in the transaction that the session is in.
    pub(super) async fn reset(&self, session: &mut Session) -> Result<(), sqlx::Error> {
        if self.is_used() {
            let reset = sql::constant("UPDATE temp.retention_gone SET n = 0, kept = 0, lost = 0");
            session.execute(reset).await?;
        }
        Ok(())
    }

    /// What is gone since then.
    pub(super) async fn gone(&self, session: &mut Session) -> Result<Gone, sqlx::Error> {
        if !self.is_used() {
            return Ok(Gone::default());
        }
        let read = sql::constant("SELECT n, kept, lost FROM temp.retention_gone");
        let row = session.row(read).await?;
        let number = |name: &str| -> Result<u64, sqlx::Error> {
            Ok(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or(0))
        };
        Ok(Gone {
            reached: number("n")?,
            kept: number("kept")?,
            lost: number("lost")?,
        })
    }
}

/// Rows that are gone in one transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gone {
    /// Of the reached tables.
    pub(super) reached: u64,
    /// Rows that the archive kept.
    pub(super) kept: u64,
    /// Rows of the rule's table, whoever deleted them, where there is an archive.
    pub(super) lost: u64,
}
