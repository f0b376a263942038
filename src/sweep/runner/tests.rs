//! The runner against an engine that plays a table: pages with so many expired rows each.

mod limits;
mod pressure;
mod slow;
mod walk;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;
use crate::{
    engine::{ChunkTarget, Counted, DatabaseFacts, TableStatistics, cursor::BlockCursor},
    policy::{
        cutoff::Cutoff,
        defaults::defaults,
        limits::Limits,
        pace::Pressure,
        table::{LeafFacts, TableFacts, TableKind, TableName},
    },
    sweep::{ControlError, Outcome, SweepReport, SweepState},
};

/// What the fake database holds and remembers.
#[derive(Default)]
struct Table {
    /// Expired rows by page.
    pages: Vec<u64>,
    /// Pages that a chunk has looked at, in order.
    walked: Vec<usize>,
    counts: u32,
    commits: u32,
    /// Answers to `commit` before the good ones begin.
    commit_answers: Vec<Result<CommitOutcome, EngineError>>,
    /// Answers to `pressure` before the quiet ones begin.
    pressures: Vec<Pressure>,
    waiters: u32,
    /// A chunk of so many whole pages takes too long; 0: none does.
    slow_from: u32,
    /// And of so many rows of a page; 0: none does.
    slow_rows: u32,
    /// Rows by page, before its others, each of which takes too long alone; and those that were left of them.
    stuck: Vec<u64>,
    left: u64,
    /// Chunks that took too long.
    slow: Vec<ChunkTarget>,
    /// Rows that the statistics are sure of, and those that are there beside the expired ones.
    rows_at_least: u64,
    others: u64,
    row_counts: u32,
    /// Rows in a part that came under way.
    attached: u64,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Table>>);

impl Fake {
    fn new(pages: Vec<u64>) -> Self {
        let fake = Self::default();
        fake.with(|table| table.pages = pages);
        fake
    }

    fn with<T>(&self, look: impl FnOnce(&mut Table) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn counted(&self) -> Counted {
        let attached = self.with(|table| table.attached);
        Counted {
            expired: self.left() + attached,
            attached,
            ..Counted::default()
        }
    }

    fn left(&self) -> u64 {
        self.with(|table| table.pages.iter().chain(&table.stuck).sum::<u64>() + table.left)
    }
}

struct FakeSweep {
    fake: Fake,
    next: usize,
    /// The first page, the one behind the last, and the rows that it takes of the first alone.
    open: Option<(usize, usize, Option<u64>)>,
}

#[async_trait]
impl Engine for Fake {
    async fn facts(&self) -> Result<DatabaseFacts, EngineError> {
        unimplemented("facts")
    }

    async fn tables(&self, _: &[TableName]) -> Result<Vec<Option<TableFacts>>, EngineError> {
        unimplemented("tables")
    }

    async fn statistics(&self, _: &RulePlan) -> Result<TableStatistics, EngineError> {
        unimplemented("statistics")
    }

    async fn count_rows(&self, _: &TableFacts) -> Result<u64, EngineError> {
        self.with(|table| table.row_counts += 1);
        let others = self.with(|table| table.others);
        Ok(self.left() + others)
    }

    async fn count_expired(&self, _: &RulePlan) -> Result<Counted, EngineError> {
        Ok(self.counted())
    }

    async fn count_left(&self, _: &RulePlan, _: u64) -> Result<Counted, EngineError> {
        self.with(|table| table.counts += 1);
        Ok(self.counted())
    }

    async fn has_times_from(&self, _: &RulePlan, _: Timestamp) -> Result<bool, EngineError> {
        Ok(true)
    }

    async fn check_plan(&self, _: &RulePlan) -> Result<(), EngineError> {
        Ok(())
    }

    async fn open_sweep(
        &self,
        _: &RulePlan,
        from: Option<Cursor>,
    ) -> Result<Box<dyn TableSweep>, EngineError> {
        Ok(Box::new(FakeSweep {
            fake: self.clone(),
            next: match from {
                Some(Cursor::Blocks(cursor)) => usize::try_from(cursor.next_block).unwrap(),
                _ => 0,
            },
            open: None,
        }))
    }

    async fn close(&self) {}
}

fn unimplemented<T>(what: &str) -> Result<T, EngineError> {
    Err(EngineError::NotSupported(format!("{what} of a fake")))
}

#[async_trait]
impl TableSweep for FakeSweep {
    async fn delete_next(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError> {
        let is_slow = self.fake.with(|table| {
            let slow = match target.rows {
                None => table.slow_from > 0 && target.pages >= table.slow_from,
                Some(rows) => table.slow_rows > 0 && rows >= table.slow_rows,
            };
            let mut range = table.stuck.iter().skip(self.next);
            let stuck = range
                .by_ref()
                .take(target.pages as usize)
                .any(|rows| *rows > 0);
            let slow = slow || stuck;
            if slow {
                table.slow.push(target);
            }
            slow
        });
        if is_slow {
            return Err(EngineError::StatementTimeout {
                what: "public.logs".to_owned(),
                limit: "30s".to_owned(),
            });
        }
        let (start, waiters, rows, end) = self.fake.with(|table| {
            let end = (self.next + target.pages as usize).min(table.pages.len());
            let rows = table.pages[self.next..end].iter().sum();
            table.walked.extend(self.next..end);
            (self.next, table.waiters, rows, end)
        });
        if start == end {
            return Ok(None);
        }
        let part = target.rows.map(u64::from).filter(|most| *most < rows);
        let end = if part.is_some() { start } else { end };
        self.open = Some((start, end, part));
        Ok(Some(Chunk {
            rows: part.unwrap_or(rows),
            pages: u32::try_from(end - start).unwrap(),
            waiters,
            ..Chunk::default()
        }))
    }

    async fn leave_next(&mut self) -> Result<Option<Chunk>, EngineError> {
        let left = self.fake.with(|table| {
            let stuck = table.stuck.get_mut(self.next).filter(|rows| **rows > 0)?;
            *stuck -= 1;
            table.left += 1;
            Some(Chunk {
                blocked_rows: 1,
                ..Chunk::default()
            })
        });
        self.open = left.map(|_| (self.next, self.next, None));
        Ok(left)
    }

    async fn commit(&mut self) -> Result<CommitOutcome, EngineError> {
        let (start, end, part) = self.open.take().unwrap();
        self.fake.with(|table| {
            table.commits += 1;
            let answer = match table.commit_answers.is_empty() {
                true => Ok(CommitOutcome::Committed),
                false => table.commit_answers.remove(0),
            };
            if answer
                .as_ref()
                .is_ok_and(|outcome| *outcome == CommitOutcome::Committed)
            {
                table.pages[start..end].fill(0);
                if let Some(part) = part {
                    table.pages[start] -= part;
                }
                self.next = end;
            }
            answer
        })
    }

    async fn rollback(&mut self) -> Result<(), EngineError> {
        self.open = None;
        Ok(())
    }

    fn cursor(&self) -> Option<Cursor> {
        Some(Cursor::Blocks(BlockCursor {
            leaf: 1,
            filenode: 1,
            next_block: self.next as u64,
            next_line: 0,
            end_block: 0,
            last_pass: false,
        }))
    }

    async fn pressure(&mut self) -> Result<Pressure, EngineError> {
        Ok(self.fake.with(|table| match table.pressures.is_empty() {
            true => Pressure::default(),
            false => table.pressures.remove(0),
        }))
    }

    fn progress(&self) -> (u64, u64) {
        let pages = self.fake.with(|table| table.pages.len());
        (self.next as u64, pages as u64)
    }

    async fn close(self: Box<Self>) {}
}

/// Lets a sweep run until it was asked `stop_after` times; rests take no time.
struct Watcher {
    stop_after: u32,
    asked: AtomicU32,
    records: Mutex<Vec<RuleProgress>>,
    waited: Mutex<Vec<String>>,
    rests: Mutex<Vec<Duration>>,
    refuses_records: bool,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            stop_after: u32::MAX,
            asked: AtomicU32::new(0),
            records: Mutex::default(),
            waited: Mutex::default(),
            rests: Mutex::default(),
            refuses_records: false,
        }
    }
}

#[async_trait]
impl Control for Watcher {
    fn stop(&self) -> Option<StopReason> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        (asked >= self.stop_after).then_some(StopReason::Suspended)
    }

    async fn rest(&self, rest: Duration) {
        self.rests.lock().unwrap().push(rest);
    }

    async fn begun(&self, _: &SweepState) -> Result<(), ControlError> {
        Ok(())
    }

    async fn record(&self, progress: &RuleProgress) -> Result<(), ControlError> {
        if self.refuses_records {
            return Err(ControlError("the API server is away".to_owned()));
        }
        self.records.lock().unwrap().push(progress.clone());
        Ok(())
    }

    fn advanced(&self, progress: &RuleProgress, _: Chunk, _: Duration) {
        assert!(
            progress.spent() <= progress.rows_reserved,
            "more was taken than was written down: {progress:?}"
        );
    }

    fn waits(&self, _: &RuleProgress, reason: &str) {
        self.waited.lock().unwrap().push(reason.to_owned());
    }
}

fn plan(fake: &Fake, limits: Limits) -> RulePlan {
    let (pages, rows) = fake.with(|table| (table.pages.len(), table.pages.iter().sum::<u64>()));
    let cutoff = Cutoff::Instant(Timestamp::UNIX_EPOCH);
    RulePlan {
        rule: "logs".into(),
        table: TableFacts {
            id: 1,
            schema: "public".into(),
            name: "logs".into(),
            kind: TableKind::Ordinary,
            system: false,
            columns: Vec::new(),
            leaves: vec![LeafFacts {
                id: 1,
                schema: "public".into(),
                name: "logs".into(),
                unsupported: None,
                rows: Some(rows as f64 * 2.0),
                rows_at_least: fake.with(|table| table.rows_at_least),
                pages: pages as u64,
            }],
            incoming: Vec::new(),
            row_security_active: false,
            published_without_identity: None,
            delete_rule: None,
            delete_triggers: Vec::new(),
            delete_fails: None,
            may_select: true,
            may_delete: true,
            hindered_part: None,
            leading_index_columns: Vec::new(),
            leading_indexes: Vec::new(),
            total_bytes: 0,
        },
        column: "at".into(),
        encoding: None,
        column_zone: jiff::tz::TimeZone::UTC,
        cutoff,
        overdue: cutoff,
        filter: None,
        holds: Vec::new(),
        held_by: None,
        dependents: crate::policy::dependents::Dependents::default(),
        held_tables: Vec::new(),
        limits,
        archive: None,
    }
}

/// Of a table that is empty.
pub(super) fn a_plan() -> RulePlan {
    plan(&Fake::default(), Limits::default())
}

async fn sweep(
    fake: &Fake,
    limits: Limits,
    estimate: Option<u64>,
    watcher: &Watcher,
) -> RuleReport {
    sweep_beside(fake, limits, estimate, watcher, Books::Missing).await
}

async fn sweep_beside(
    fake: &Fake,
    limits: Limits,
    estimate: Option<u64>,
    watcher: &Watcher,
    books: Books<'_>,
) -> RuleReport {
    let plan = plan(fake, limits);
    let turn = Turn {
        progress: RuleProgress::new("logs", plan.cutoff),
        estimate,
        begun: false,
    };
    sweep_rule(fake, &plan, defaults().pace, turn, watcher, books).await
}

fn unlimited() -> Limits {
    Limits {
        max_rows: None,
        max_percent: Some(100),
    }
}

/// `full` pages of ten expired rows, then `empty` ones.
fn ordered(full: usize, empty: usize) -> Vec<u64> {
    let mut pages = vec![10; full];
    pages.resize(full + empty, 0);
    pages
}

#[tokio::test]
async fn the_chunk_that_would_pass_the_limit_is_rolled_back() {
    let fake = Fake::new(ordered(100, 0));
    let limits = Limits {
        max_rows: Some(500),
        max_percent: None,
    };

    // The estimate says that all is well; the rows say otherwise.
    let report = sweep(&fake, limits, Some(100), &Watcher::default()).await;

    let RuleEnd::Blocked { expected, .. } = report.end else {
        panic!("{:?}", report.end);
    };
    assert!(report.rows_deleted <= 500);
    assert_eq!(fake.left(), 1_000 - report.rows_deleted);
    assert_eq!(
        expected, 1_000,
        "what is asked for is all that the sweep needs"
    );
}

#[tokio::test]
async fn an_estimate_over_the_limit_is_counted_before_anything_is_blocked() {
    let fake = Fake::new(ordered(10, 0));
    let limits = Limits {
        max_rows: Some(100),
        max_percent: None,
    };

    let report = sweep(&fake, limits, Some(5_000), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 0 }),
        "{:?}",
        report.end
    );
    assert_eq!(report.rows_deleted, 100);
}

#[tokio::test]
async fn rows_of_a_commit_that_nobody_could_tell_count_against_the_limit_and_are_not_reported() {
    let fake = Fake::new(ordered(40, 0));
    let lost = EngineError::ConnectionLost {
        host: "db:5432".into(),
        reason: "unknown".into(),
    };
    fake.with(|table| table.commit_answers.push(Err(lost)));
    let watcher = Watcher::default();

    let report = sweep(&fake, unlimited(), Some(400), &watcher).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { .. }),
        "{:?}",
        report.end
    );
    assert_eq!(report.rows_deleted, 400, "the table took them after all");
    assert!(report.progress.rows_unknown > 0, "{:?}", report.progress);
    assert_eq!(
        watcher.waited.lock().unwrap().as_slice(),
        ["connection_lost"]
    );
}

#[tokio::test]
async fn a_rolled_back_chunk_is_taken_again() {
    let fake = Fake::new(ordered(40, 0));
    fake.with(|table| table.commit_answers.push(Ok(CommitOutcome::RolledBack)));

    let report = sweep(&fake, unlimited(), Some(400), &Watcher::default()).await;

    assert_eq!(
        (report.rows_deleted, report.progress.rows_unknown),
        (400, 0)
    );
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_deleted() {
    let fake = Fake::new(ordered(40, 0));
    let watcher = Watcher {
        refuses_records: true,
        ..Watcher::default()
    };

    let report = sweep(&fake, unlimited(), Some(400), &watcher).await;

    assert!(
        matches!(report.end, RuleEnd::Unrecorded(_)),
        "{:?}",
        report.end
    );
    assert_eq!((report.rows_deleted, fake.left()), (0, 400));
}
