//! Exact counts: in one statement a table, or where that takes too long in ranges of its blocks, in one snapshot either way.

use std::time::{Duration, Instant};

use sqlx::{Row, postgres::PgRow};

use super::{
    OWN_COUNTS, PostgresEngine, catalog,
    error::{self, Doing},
    obstacles::{self, Obstacles},
    own_use::Watch,
    refuse_unsupported,
    session::Session,
    sql::{self, Begin, Sql, constant},
    value::BoundCutoff,
    walk::Range,
};
use crate::{
    engine::{Counted, EngineError},
    policy::{
        dependents::reached,
        plan::RulePlan,
        table::{LeafFacts, TableFacts, TableName},
    },
};

/// Blocks of the first range.
const FIRST_BLOCKS: u64 = 16;
/// How long the statement for a range should take.
const PART: Duration = Duration::from_secs(5);
/// Ranges grow and shrink by so much.
const STEP: u64 = 2;

/// Exact blocks of a table: `$1`.
const BLOCKS: &str = "SELECT pg_relation_size($1::oid) / current_setting('block_size')::int8 AS n";

/// How a count is made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counting {
    /// Reads from end to end.
    pub(super) sequential: bool,
    /// Nothing may be overlooked: neither rows that are hidden from the role nor parts that are newer than the plan.
    pub(super) proves: bool,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    /// All rows.
    Rows,
    /// What a plan would take.
    Expired(&'a RulePlan),
}

impl What<'_> {
    fn sql(&self, leaf: &LeafFacts, in_parts: bool) -> Result<Sql, EngineError> {
        match self {
            Self::Rows => Ok(sql::count_rows(&leaf.schema, &leaf.name, in_parts)),
            Self::Expired(plan) => sql::count_expired(plan, &leaf.schema, &leaf.name, in_parts),
        }
    }

    /// Counts the rows of a leaf, or those in a range of it.
    async fn count(
        &self,
        session: &mut Session,
        sql: &Sql,
        range: Option<Range>,
    ) -> Result<Counted, sqlx::Error> {
        let mut query = sql.query();
        if let Some(range) = range {
            query = query.bind(range.first()).bind(range.beyond());
        }
        if let Self::Expired(plan) = self {
            query = query.bind(BoundCutoff::of(plan));
        }
        counted(&session.row(query).await?)
    }
}

/// One leaf's counts; only the statements for encoded columns count unreadable values.
fn counted(row: &PgRow) -> Result<Counted, sqlx::Error> {
    let number = |name: &str| {
        row.try_get::<i64, _>(name)
            .map(|number| u64::try_from(number).unwrap_or(0))
    };
    Ok(Counted {
        expired: number("n")?,
        unreadable: match number("unreadable") {
            Ok(number) => Some(number),
            Err(sqlx::Error::ColumnNotFound(_)) => None,
            Err(error) => return Err(error),
        },
        undecided: 0,
        attached: 0,
    })
}

/// The ranges of a table, sized so that each takes about as long.
#[derive(Debug)]
struct Parts {
    next: u64,
    blocks: u64,
    size: u64,
    target: Duration,
}

impl Parts {
    fn new(blocks: u64, target: Duration) -> Self {
        Self {
            next: 0,
            blocks,
            size: FIRST_BLOCKS,
            target,
        }
    }

    /// The next range; the last one has no end, and there always is one.
    fn range(&self) -> Range {
        let end = self.next.saturating_add(self.size);
        Range {
            start: self.next,
            start_line: 0,
            end: if end < self.blocks {
                end
            } else {
                u64::from(u32::MAX)
            },
            end_line: 0,
        }
    }

    /// The range is counted. `false`: it was the last one.
    fn advance(&mut self, took: Duration) -> bool {
        self.next = self.next.saturating_add(self.size);
        if took < self.target / 2 {
            self.size = self.size.saturating_mul(STEP);
        } else if took > self.target {
            self.size = (self.size / STEP).max(1);
        }
        self.next < self.blocks
    }
}

impl PostgresEngine {
    /// Sums one count over the leaves of a table, in one snapshot.
    pub(super) async fn count(
        &self,
        table: &TableFacts,
        what: What<'_>,
        counting: Counting,
    ) -> Result<Counted, EngineError> {
        match self.count_by(table, what, counting, false).await {
            Err(EngineError::StatementTimeout { limit, .. }) => {
                tracing::info!(
                    table = table.qualified(),
                    limit,
                    "a count takes long: it is made in parts"
                );
                // By blocks alone: an index would be walked for each part.
                let counting = Counting {
                    sequential: true,
                    ..counting
                };
                self.count_by(table, what, counting, true).await
            }
            counted => counted,
        }
    }

    async fn count_by(
        &self,
        table: &TableFacts,
        what: What<'_>,
        counting: Counting,
        in_parts: bool,
    ) -> Result<Counted, EngineError> {
        let Counting { sequential, proves } = counting;
        let limit = self.settings.count_timeout;
        let begin = Begin {
            one_snapshot: true,
            sequential,
            sees_all: proves,
            statement_timeout: limit,
            ..self.settings.read()
        };
        let mut session = self.sessions.begin(&begin).await?;
        let now = if proves {
            Some(self.table_now(&mut session, table).await?)
        } else {
            None
        };
        let counted_table = now.as_ref().unwrap_or(table);
        refuse_unsupported(counted_table)?;
        let watch = self.watch(&mut session, &counted_table.leaves).await?;
        let mut total = Counted::default();
        for leaf in &counted_table.leaves {
            let sql = what.sql(leaf, in_parts)?;
            let counted = if in_parts {
                count_parts(&mut session, what, leaf, &sql, PART.min(limit / 8)).await
            } else {
                what.count(&mut session, &sql, None).await
            };
            let counted = counted.map_err(|reason| {
                let name = format!("{}.{}", leaf.schema, leaf.name);
                let doing = Doing {
                    what: "counting rows of",
                    table: Some(&name),
                    grant: Some(&sql::grant(&leaf.schema, &leaf.name, self.user())),
                    statement_timeout: limit,
                };
                left_or(
                    error::running(self.sessions.server(), doing, &reason),
                    leaf,
                    table,
                )
            })?;
            let is_known = table.leaves.iter().any(|known| known.id == leaf.id);
            total.add(Counted {
                attached: if is_known { 0 } else { counted.expired },
                ..counted
            });
        }
        self.watched(&mut session, watch).await?;
        session.release().await;
        Ok(total)
    }

    /// The planned table as the session's snapshot has it, if it is that table and all its rows can be seen.
    async fn table_now(
        &self,
        session: &mut Session,
        planned: &TableFacts,
    ) -> Result<TableFacts, EngineError> {
        let table = planned.qualified();
        let name = TableName {
            schema: Some(planned.schema.clone()),
            name: planned.name.clone(),
        };
        let found = catalog::tables(session, &[name])
            .await
            .map_err(|reason| self.error("reading the catalog", Some(&table), &reason))?;
        let changed = |reason: &str| EngineError::TableChanged {
            table: table.clone(),
            reason: reason.to_owned(),
        };
        match found.into_iter().next().flatten() {
            None => Err(changed("there is no such table any more")),
            Some(now) if now.id != planned.id => Err(changed("another table has its name now")),
            Some(now) if now.row_security_active => Err(changed(
                "row-level security hides rows of it from the role now",
            )),
            Some(now) => Ok(now),
        }
    }

    /// Counts what a plan would take that no row of another table keeps: one pass over each table, as the server joins them.
    pub(super) async fn count_without_obstacles(
        &self,
        plan: &RulePlan,
    ) -> Result<u64, EngineError> {
        refuse_unsupported(&plan.table)?;
        let limit = self.settings.count_timeout;
        let begin = Begin {
            one_snapshot: true,
            statement_timeout: limit,
            ..self.settings.read()
        };
        let mut session = self.sessions.begin(&begin).await?;
        let keys = reached(&plan.table.incoming, plan.dependents);
        let pairs = obstacles::pairs(&mut session, &keys)
            .await
            .map_err(|reason| self.error("reading the catalog", None, &reason))?;
        let obstacles = Obstacles {
            plan,
            keys: &plan.table.incoming,
            pairs: &pairs,
            sets: false,
        };
        let leaves = plan.table.leaves.iter().map(|leaf| leaf.id);
        let read: Vec<u32> = leaves.chain(obstacles.tables()).collect();
        let watch = Watch::begin(&mut session, &read)
            .await
            .map_err(|reason| self.error(OWN_COUNTS, None, &reason))?;
        let expired = sql::expired_by(plan, "$1")?;
        let mut total = 0_u64;
        for leaf in &plan.table.leaves {
            // What rows of the table itself keep may be free once those are gone.
            let free = Sql::made(format!(
                "SELECT pg_catalog.count(*) AS n FROM ONLY {} AS k0 WHERE {expired}{}",
                sql::table(&leaf.schema, &leaf.name),
                obstacles.of(leaf.id, false)?
            ));
            let counted: i64 = session
                .row(free.query().bind(BoundCutoff::of(plan)))
                .await
                .and_then(|row| row.try_get("n"))
                .map_err(|reason| {
                    let name = format!("{}.{}", leaf.schema, leaf.name);
                    let doing = Doing {
                        what: "counting rows of",
                        table: Some(&name),
                        grant: None,
                        statement_timeout: limit,
                    };
                    let error = error::running(self.sessions.server(), doing, &reason);
                    left_or(error, leaf, &plan.table)
                })?;
            total = total.saturating_add(u64::try_from(counted).unwrap_or(0));
        }
        self.watched(&mut session, watch).await?;
        session.release().await;
        Ok(total)
    }

    /// Counts what a plan would take.
    pub(super) async fn count_plan(
        &self,
        plan: &RulePlan,
        counting: Counting,
    ) -> Result<Counted, EngineError> {
        let what = What::Expired(plan);
        let mut counted = self.count(&plan.table, what, counting).await?;
        if plan.encoding.is_some() {
            // A table without leaves was counted, too.
            counted.unreadable.get_or_insert(0);
        }
        Ok(counted)
    }
}

/// What an error on `leaf` means while the rows of `table` are counted, which itself was what it is a moment ago.
fn left_or(error: EngineError, leaf: &LeafFacts, table: &TableFacts) -> EngineError {
    match error {
        EngineError::TableChanged { .. } if leaf.id != table.id => EngineError::PartsChanged {
            table: table.qualified(),
        },
        error => error,
    }
}

/// Counts a leaf range by range. Rows of the snapshot lie in blocks that are there now, or in ones before.
async fn count_parts(
    session: &mut Session,
    what: What<'_>,
    leaf: &LeafFacts,
    sql: &Sql,
    target: Duration,
) -> Result<Counted, sqlx::Error> {
    let blocks = session
        .row(constant(BLOCKS).bind(catalog::oids([&leaf.id]).remove(0)))
        .await?;
    let blocks = u64::try_from(blocks.try_get::<i64, _>("n")?).unwrap_or(0);
    let mut parts = Parts::new(blocks, target);
    let mut total = Counted::default();
    loop {
        let began = Instant::now();
        total.add(what.count(session, sql, Some(parts.range())).await?);
        if !parts.advance(began.elapsed()) {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges of a table of so many blocks, each block taking so long.
    fn ranges(blocks: u64, block: Duration) -> Vec<(u64, u64)> {
        let mut parts = Parts::new(blocks, Duration::from_millis(100));
        let mut ranges = Vec::new();
        loop {
            let range = parts.range();
            ranges.push((range.start, range.end));
            let blocks = u32::try_from(range.end.min(blocks) - range.start).unwrap();
            if !parts.advance(block * blocks) {
                return ranges;
            }
        }
    }

    #[test]
    fn ranges_follow_each_other_and_the_last_one_has_no_end() {
        for blocks in [0, 1, 15, 16, 17, 100_000] {
            let ranges = ranges(blocks, Duration::from_millis(1));

            assert_eq!(ranges.first().unwrap().0, 0);
            assert!(ranges.windows(2).all(|two| two[0].1 == two[1].0));
            assert_eq!(ranges.last().unwrap().1, u64::from(u32::MAX), "{blocks}");
        }
    }

    #[test]
    fn ranges_are_as_large_as_fits_into_their_time() {
        let slow = ranges(10_000, Duration::from_millis(10));
        let quick = ranges(1_000_000, Duration::from_micros(1));

        assert!(
            slow.iter()
                .skip(5)
                .rev()
                .skip(1)
                .all(|(start, end)| end - start <= 16),
            "{slow:?}"
        );
        assert!(quick.len() < 50, "{}", quick.len());
    }
}
