//! How often a table is walked whose rows refer to each other.

use crate::{
    policy::{dependents::Dependents, plan::RulePlan},
    sweep::RuleReport,
};

/// A row goes once all that refer to it are gone, and those may lie in ranges that come later in the walk. So many times more the
/// table is walked at most: what deletes bring back, a trigger say, must not keep a sweep for ever.
const MOST_AGAIN: u32 = 10;

/// The walks over a table.
pub(super) struct Passes {
    /// Walks that may still be added.
    left: u32,
    /// Rows that were gone when the present walk began.
    deleted: u64,
}

impl Passes {
    pub(super) fn new(plan: &RulePlan, report: &RuleReport) -> Self {
        let refers_to_itself =
            plan.dependents != Dependents::Refuse && plan.table.incoming.iter().any(|key| key.own);
        Self {
            left: if refers_to_itself { MOST_AGAIN } else { 0 },
            deleted: report.rows_deleted,
        }
    }

    /// At a walk's end: what it took may have freed some of what it had to leave. Blocked rows are counted anew then.
    pub(super) fn another(&mut self, report: &mut RuleReport) -> bool {
        let took = report.rows_deleted > self.deleted;
        let again = self.left > 0 && took && report.blocked_rows > 0;
        if again {
            self.left -= 1;
            self.deleted = report.rows_deleted;
            report.blocked_rows = 0;
            report.slow = None;
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        policy::cutoff::Cutoff,
        sweep::{RuleEnd, RuleProgress},
    };

    fn passes(left: u32) -> (Passes, RuleReport) {
        let progress = RuleProgress::new("logs", Cutoff::Instant(Timestamp::UNIX_EPOCH));
        let report = RuleReport::not_begun(progress, RuleEnd::Complete { remaining: 0 });
        (Passes { left, deleted: 0 }, report)
    }

    #[test]
    fn a_walk_that_took_rows_and_had_to_leave_some_is_followed_by_another() {
        let (mut passes, mut report) = passes(10);
        (report.rows_deleted, report.blocked_rows) = (5, 3);

        assert!(passes.another(&mut report));
        assert_eq!(report.blocked_rows, 0);
        report.blocked_rows = 3;
        assert!(!passes.another(&mut report), "it took nothing more");
        assert_eq!(report.blocked_rows, 3);
    }

    #[test]
    fn what_comes_back_again_and_again_ends_the_sweep_all_the_same() {
        let (mut passes, mut report) = passes(10);
        let mut walks = 1;
        loop {
            report.rows_deleted += 5;
            report.blocked_rows = 5;
            if !passes.another(&mut report) {
                break;
            }
            walks += 1;
        }

        assert_eq!(walks, 11);
    }
}
