//! The careful form of a chunk's delete: lock what is free, then delete of that what nothing stands against.
//!
//! Two statements, because the second has a new snapshot: it sees every row that came to refer to the locked ones before they
//! were locked, and none can come afterwards, as each needs a lock on the row that it refers to.

use std::time::{Duration, Instant};

use sqlx::{Row, postgres::PgRow};

use super::{
    archive_table::{ArchiveTable, Failure, take},
    obstacles::Obstacles,
    session::Session,
    sql::{self, RANGE, Sql, table},
    value::BoundCutoff,
    walk::Range,
};
use crate::{engine::EngineError, policy::table::LeafFacts};

/// Rows of a table that refer to each other go from the last to the first, one round each, in at most so many rounds a chunk.
const MAX_ROUNDS: u32 = 50;
/// So many deletes of more than a page may fail while the rows are looked for that make them fail, and fewer once it took so long, as rows
/// are locked meanwhile: then less is tried.
const MAX_FAILURES: u32 = 64;
const FEWER_FAILURES: u32 = 24;
const MAX_SEARCH: Duration = Duration::from_millis(50);
/// There is nothing less than a page: what was not tried of it after this long stays.
const MAX_SEARCH_OF_PAGE: Duration = Duration::from_millis(500);
/// The savepoint that a failed delete goes back to.
const POINT: &str = "retention_operator_half";

/// The statements of the careful form on one leaf.
#[derive(Clone, Debug)]
pub(super) struct Careful {
    /// Locks what nobody else holds in a range and returns its tids as text: `$1`, `$2` the range, `$3` the cutoff.
    lock: Sql,
    /// Lock the rows that would go along with the tids in `$1` (text[]).
    locks: Vec<Sql>,
    /// Deletes those of the tids in `$1` (text[]) that may go; `$2` the cutoff.
    delete: Sql,
    /// Rows that are gone may free others of the same table.
    repeats: bool,
}

impl Careful {
    pub(super) fn new(
        obstacles: &Obstacles<'_>,
        facts: &LeafFacts,
        archive: Option<&ArchiveTable>,
    ) -> Result<Self, EngineError> {
        let plan = obstacles.plan;
        let leaf = table(&facts.schema, &facts.name);
        let expired = sql::expired(plan, "$3", &leaf, facts.id)?;
        let expired_of_two = sql::expired(plan, "$2", &leaf, facts.id)?;
        // What another row of the same table keeps now may be free once that is gone; everything else need not be locked at all.
        let from_others = obstacles.of(facts.id, false)?;
        let from_all = obstacles.of(facts.id, true)?;
        Ok(Self {
            lock: Sql::made(format!(
                "SELECT k0.ctid::text AS tid FROM ONLY {leaf} AS k0 WHERE {RANGE} AND {expired}{from_others} \
                 FOR UPDATE OF k0 SKIP LOCKED"
            )),
            locks: obstacles.locks(facts)?,
            delete: sql::taking(
                format!(
                    "DELETE FROM ONLY {leaf} AS k0 WHERE k0.ctid = ANY ($1::text[]::tid[]) AND {expired_of_two}{from_all}"
                ),
                facts.id,
                archive,
            ),
            repeats: obstacles.refers_to_itself(facts.id),
        })
    }

    /// Locks what may go of a range, and what has to stay as it is beside it. The rows' tids.
    async fn lock(
        &self,
        session: &mut Session,
        range: Range,
        cutoff: BoundCutoff,
    ) -> Result<Vec<String>, sqlx::Error> {
        let lock = self.lock.query();
        let lock = lock.bind(range.first()).bind(range.beyond()).bind(cutoff);
        let free: Vec<String> = session
            .rows(lock)
            .await?
            .iter()
            .map(|row| row.try_get("tid"))
            .collect::<Result<_, sqlx::Error>>()?;
        if !free.is_empty() {
            for lock in &self.locks {
                session.row(lock.query().bind(free.clone())).await?;
            }
        }
        Ok(free)
    }

    /// Deletes what may go of a range, in a chunk that has begun. `places` are those in the archive that the chunk has filled.
    pub(super) async fn delete(
        &self,
        session: &mut Session,
        range: Range,
        cutoff: BoundCutoff,
        (archive, places): (Option<&ArchiveTable>, &mut Vec<String>),
    ) -> Result<u64, Failure> {
        let free = self.lock(session, range, cutoff).await?;
        if free.is_empty() {
            return Ok(0);
        }
        let all = u64::try_from(free.len()).unwrap_or(u64::MAX);
        let mut rows = 0;
        for _ in 0..MAX_ROUNDS {
            let delete = self.delete.query().bind(free.clone()).bind(cutoff);
            let gone = take(session, delete, archive, places).await?;
            rows += gone;
            if gone == 0 || rows >= all || !self.repeats {
                break;
            }
        }
        Ok(rows)
    }

    /// The same, where some rows cannot go for reasons that only the server knows: these are found by halves. `gone` counts rows
    /// deleted from other tables; `keeps` says of an error that a row has to stay because of it. `None`: there are too many of them
    /// for so large a range.
    pub(super) async fn delete_by_halves(
        &self,
        session: &mut Session,
        (range, cutoff): (Range, BoundCutoff),
        (archive, places): (Option<&ArchiveTable>, &mut Vec<String>),
        gone: &str,
        keeps: impl Fn(&Failure) -> bool,
    ) -> Result<Option<ByHalves>, Failure> {
        let free = self.lock(session, range, cutoff).await?;
        let begin = Sql::made(format!("SAVEPOINT {POINT}; SELECT {gone} AS gone"));
        let end = Sql::made(format!(
            "SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT {POINT}"
        ));
        let undo = Sql::made(format!(
            "ROLLBACK TO SAVEPOINT {POINT}; RELEASE SAVEPOINT {POINT}; SELECT {gone} AS gone"
        ));
        let mut done = ByHalves::default();
        let (mut failures, began) = (0, Instant::now());
        let mut parts = vec![free.as_slice()];
        while let Some(part) = parts.pop() {
            let took = began.elapsed();
            let is_late = failures >= FEWER_FAILURES && took > MAX_SEARCH;
            if range.pages() > 1 && (failures >= MAX_FAILURES || is_late) {
                return Ok(None);
            }
            if part.is_empty() || is_late && took > MAX_SEARCH_OF_PAGE {
                break;
            }
            let before = count(&session.raw(&begin).await?)?;
            let delete = self.delete.query().bind(part.to_vec()).bind(cutoff);
            let filled = places.len();
            let outcome = async {
                let rows = take(session, delete, archive, places).await?;
                session.raw(&end).await?;
                Ok::<_, Failure>(rows)
            }
            .await;
            match outcome {
                Ok(rows) => done.rows += rows,
                Err(reason) if keeps(&reason) => {
                    failures += 1;
                    places.truncate(filled);
                    session.sessions().own.blur();
                    done.undone += count(&session.raw(&undo).await?)? - before;
                    if part.len() > 1 {
                        let (first, last) = part.split_at(part.len() / 2);
                        parts.extend([last, first]);
                    }
                }
                Err(reason) => return Err(reason),
            }
        }
        Ok(Some(done))
    }
}

/// What came of [`Careful::delete_by_halves`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByHalves {
    /// Rows deleted.
    pub(super) rows: u64,
    /// Rows of other tables that the server counts as deleted although that was undone: its counts of a transaction know of no way back.
    pub(super) undone: i64,
}

fn count(rows: &[PgRow]) -> Result<i64, sqlx::Error> {
    rows.first()
        .ok_or(sqlx::Error::RowNotFound)?
        .try_get("gone")
}
