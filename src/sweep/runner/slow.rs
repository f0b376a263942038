//! Single rows that take longer to delete than a statement may: a trigger that takes its time, a long way down a cascade.
//!
//! Such a row is left like one that somebody locks. A server that is slow for everything must not make a sweep crawl from row to row
//! for hours: there are bounds, behind which the rule fails.

use std::time::Duration;

use super::Tally;
use crate::{
    engine::{CommitOutcome, EngineError, TableSweep},
    sweep::SlowRows,
};

/// A row is tried so often: what kept it the first time, a checkpoint say, may be over.
const TRIES: u32 = 2;
/// So many rows are left with none between them that went.
const MOST_IN_A_ROW: u32 = 16;
/// Tries of single rows may take so long in all, within one rule.
const MOST_TIME: Duration = Duration::from_secs(15 * 60);

/// What the single rows of a walk took that ran into the timeout.
#[derive(Debug, Default)]
pub(super) struct Slow {
    /// Tries of the row at hand.
    tries: u32,
    in_a_row: u32,
    lost: Duration,
}

impl Slow {
    /// One row alone ran into the timeout after so long. Whether it is left now.
    pub(super) fn is_left_after(&mut self, took: Duration) -> bool {
        self.tries += 1;
        self.lost += took;
        self.tries >= TRIES && self.in_a_row < MOST_IN_A_ROW && self.lost <= MOST_TIME
    }

    /// It was left, and the next one is another.
    fn left(&mut self) {
        self.tries = 0;
        self.in_a_row += 1;
    }

    /// A chunk came to its end with so many rows, or is tried anew with less.
    pub(super) fn goes_on(&mut self, rows: u64) {
        self.tries = 0;
        if rows > 0 {
            self.in_a_row = 0;
        }
    }
}

/// Walks past the row that ran into the timeout, and counts it.
///
/// # Errors
/// The one at hand where the walk cannot do without the row, or the row cannot even be looked at in time.
pub(super) async fn leave(
    sweep: &mut dyn TableSweep,
    tally: &mut Tally,
    timeout: EngineError,
) -> Result<(), EngineError> {
    let Some(chunk) = sweep.leave_next().await? else {
        return Err(timeout);
    };
    if sweep.commit().await? != CommitOutcome::Committed {
        return Err(timeout);
    }
    tally.slow.left();
    let report = &mut tally.report;
    tracing::warn!(rule = report.progress.name, %timeout, "one row is left");
    report.blocked_rows += chunk.blocked_rows;
    if let EngineError::StatementTimeout { limit, .. } = timeout {
        let before = report.slow.take().map_or(0, |slow| slow.rows);
        let rows = before + chunk.blocked_rows;
        report.slow = (rows > 0).then_some(SlowRows { rows, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_row_is_left_at_its_second_try() {
        let mut slow = Slow::default();

        assert!(!slow.is_left_after(SECOND));
        assert!(slow.is_left_after(SECOND));
        slow.left();
        assert!(
            !slow.is_left_after(SECOND),
            "the next row has its own tries"
        );
        slow.goes_on(0);
        assert!(!slow.is_left_after(SECOND));
    }

    #[test]
    fn not_more_than_so_many_rows_are_left_in_a_row() {
        let mut slow = Slow::default();
        let leaves = |slow: &mut Slow| {
            let left = slow.is_left_after(SECOND) || slow.is_left_after(SECOND);
            if left {
                slow.left();
            }
            left
        };

        for _ in 0..MOST_IN_A_ROW {
            assert!(leaves(&mut slow));
        }
        assert!(!leaves(&mut slow));
        slow.goes_on(0);
        assert!(!leaves(&mut slow), "a chunk without rows shows nothing");
        slow.goes_on(1);
        assert!(leaves(&mut slow));
    }

    #[test]
    fn single_rows_take_only_so_long_in_all() {
        let mut slow = Slow::default();
        let try_of = MOST_TIME / 5;

        for _ in 0..2 {
            assert!(!slow.is_left_after(try_of));
            assert!(slow.is_left_after(try_of));
            slow.left();
            slow.goes_on(1);
        }
        assert!(!slow.is_left_after(try_of));
        assert!(!slow.is_left_after(try_of), "six fifths");
    }
}
