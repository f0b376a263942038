//! What a sweep did, as it is published.

use std::time::Duration;

use super::{RuleProgress, StopReason};
use crate::{
    engine::{EngineError, ledger::LedgerTotals},
    policy::check::Refusal,
};

/// How one rule of a sweep ended.
#[derive(Debug)]
pub enum RuleEnd {
    /// The walk went to its end; then `remaining` expired rows were counted: blocked ones, and ones that changed meanwhile.
    Complete {
        /// Expired rows that are still there, counted exactly; the ones that a hold protects are not among them.
        remaining: u64,
    },
    /// It stopped at a chunk's border and can go on.
    Stopped(StopReason),
    /// A limit forbids it, or forbids more of it.
    Blocked {
        /// Which limit, and by how much.
        reason: String,
        /// Rows that the sweep would have to be allowed to take, those that it has taken included.
        expected: u64,
        /// The removed holds whose rows would go, in words; `None`: it is a limit alone.
        removed_holds: Option<String>,
    },
    /// The database refused.
    Failed(EngineError),
    /// The progress could not be recorded.
    Unrecorded(String),
}

/// Rows that were left because deleting one of them alone takes longer than a statement may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowRows {
    /// How many.
    pub rows: u64,
    /// The limit, and who set it.
    pub limit: String,
}

/// What a sweep did to one rule's table.
#[derive(Debug)]
pub struct RuleReport {
    /// Where it came to.
    pub progress: RuleProgress,
    /// How it ended.
    pub end: RuleEnd,
    /// Rows that this run deleted, those that went along through foreign keys too; with those before a resume:
    /// `progress.rows_done`.
    pub rows_deleted: u64,
    /// Rows of these that were stored in an archive.
    pub rows_archived: u64,
    /// Expired rows passed over because somebody held their lock, because a row that stays refers to them, or because they are among `slow`.
    pub blocked_rows: u64,
    /// Rows of these whose delete took too long; `None`: there are none.
    pub slow: Option<SlowRows>,
    /// Rows whose value is not of the column's encoding, counted at the end of the walk; `None`: not counted, or the column
    /// is of a time type.
    /// With them those of `undecided_rows`.
    pub unreadable_rows: Option<u64>,
    /// Expired rows of which nobody knows whether they are of the rule's `where`, or held; counted with the unreadable ones.
    pub undecided_rows: u64,
    /// Chunks committed.
    pub chunks: u64,
    /// The longest chunk, from BEGIN to the answer to COMMIT.
    pub longest_chunk: Duration,
    /// Time spent resting.
    pub rested: Duration,
    /// Time spent in all.
    pub took: Duration,
}

impl RuleReport {
    /// What somebody is asked to approve: rows, and removed holds. `None`: it is not blocked.
    ///
    /// Of a sweep that is over the next one takes what is left; one that goes on has its rows counted with those that it took.
    #[must_use]
    pub fn asks_for(&self, sweep_goes_on: bool) -> Option<(u64, Option<&str>)> {
        let RuleEnd::Blocked {
            expected,
            removed_holds,
            ..
        } = &self.end
        else {
            return None;
        };
        let taken = if sweep_goes_on {
            0
        } else {
            self.progress.spent()
        };
        Some((expected.saturating_sub(taken), removed_holds.as_deref()))
    }

    /// Takes in what an earlier run of the same sweep did, which was planned anew.
    fn go_on_from(&mut self, before: &Self) {
        self.rows_deleted += before.rows_deleted;
        self.rows_archived += before.rows_archived;
        self.chunks += before.chunks;
        self.longest_chunk = self.longest_chunk.max(before.longest_chunk);
        self.rested += before.rested;
        self.took += before.took;
    }

    /// A rule on which nothing was done.
    #[must_use]
    pub fn not_begun(progress: RuleProgress, end: RuleEnd) -> Self {
        Self {
            progress,
            end,
            rows_deleted: 0,
            rows_archived: 0,
            blocked_rows: 0,
            slow: None,
            unreadable_rows: None,
            undecided_rows: 0,
            chunks: 0,
            longest_chunk: Duration::ZERO,
            rested: Duration::ZERO,
            took: Duration::ZERO,
        }
    }
}

/// What a whole sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every rule's walk is complete, and none was refused.
    Succeeded,
    /// Some rules are complete, some are not.
    Partial,
    /// No rule is complete, at least one failed.
    Failed,
    /// A limit blocks at least one rule; the others are complete.
    Blocked,
    /// Stopped before its end.
    Cancelled,
    /// No rule could be swept.
    Skipped,
}

impl Outcome {
    /// As status spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Partial => "Partial",
            Self::Failed => "Failed",
            Self::Blocked => "Blocked",
            Self::Cancelled => "Cancelled",
            Self::Skipped => "Skipped",
        }
    }
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// One entry a rule that was tried.
    pub rules: Vec<RuleReport>,
    /// Rules that should have been swept and could not be tried, with why.
    pub refused: Vec<(String, Refusal)>,
    /// What all sweeps of the policy took, where a ledger knows it.
    pub totals: Option<LedgerTotals>,
    /// Why no rule could be tried, whatever the rules say: the ledger cannot be used.
    pub barred: Option<Refusal>,
}

impl SweepReport {
    /// Sums up how the rules ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let count =
            |test: fn(&RuleEnd) -> bool| self.rules.iter().filter(|rule| test(&rule.end)).count();
        let complete = count(|end| matches!(end, RuleEnd::Complete { .. }));
        let stopped = self.stopped().is_some();
        let blocked = count(|end| matches!(end, RuleEnd::Blocked { .. }));
        let failed = count(|end| matches!(end, RuleEnd::Failed(_) | RuleEnd::Unrecorded(_)));
        match () {
            () if self.rules.is_empty() => Outcome::Skipped,
            () if stopped && self.rows_deleted() == 0 && complete == 0 => Outcome::Cancelled,
            () if stopped => Outcome::Partial,
            () if blocked > 0 => Outcome::Blocked,
            () if failed == 0 && self.refused.is_empty() => Outcome::Succeeded,
            () if complete > 0 || self.rows_deleted() > 0 => Outcome::Partial,
            () => Outcome::Failed,
        }
    }

    /// What this run and an earlier one of the same sweep, which was planned anew, did together. A rule that this one had no plan for
    /// stands there as the earlier one left it.
    #[must_use]
    pub fn after(mut self, before: Self) -> Self {
        let mut rules = Vec::new();
        for old in before.rules {
            let name = &old.progress.name;
            match self
                .rules
                .iter_mut()
                .find(|rule| rule.progress.name == *name)
            {
                Some(rule) => rule.go_on_from(&old),
                None => rules.push(old),
            }
        }
        rules.append(&mut self.rules);
        Self { rules, ..self }
    }

    /// Nothing was taken before partitions came or went: to plan anew at once may be in vain, too.
    #[must_use]
    pub fn was_in_vain(&self) -> bool {
        self.stopped() == Some(StopReason::PartsChanged)
            && self.rules.iter().all(|rule| rule.rows_deleted == 0)
    }

    /// Why it stopped, if it can go on.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        self.rules.iter().find_map(|rule| match &rule.end {
            RuleEnd::Stopped(reason) => Some(*reason),
            _ => None,
        })
    }

    /// A sweep that a window, a change, a restart or a lost connection ended is gone on with; one that came to its end is not.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.rules.iter().any(|rule| match &rule.end {
            RuleEnd::Stopped(StopReason::PolicyDeleted)
            | RuleEnd::Complete { .. }
            | RuleEnd::Blocked { .. } => false,
            RuleEnd::Stopped(_) | RuleEnd::Unrecorded(_) => true,
            RuleEnd::Failed(error) => matches!(
                error,
                EngineError::Unreachable { .. } | EngineError::ConnectionLost { .. }
            ),
        })
    }

    /// Rows deleted by this sweep, resumed parts included.
    #[must_use]
    pub fn rows_deleted(&self) -> u64 {
        self.rules.iter().map(|rule| rule.progress.rows_done).sum()
    }

    /// One sentence a rule that did not come to its end.
    #[must_use]
    pub fn message(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for rule in &self.rules {
            let name = &rule.progress.name;
            match &rule.end {
                RuleEnd::Complete { remaining: 0 } => {}
                RuleEnd::Complete { remaining } => {
                    let slow = rule.slow.as_ref().map_or_else(String::new, |slow| {
                        format!(
                            ", {} of them because deleting one takes longer than {}",
                            slow.rows, slow.limit
                        )
                    });
                    parts.push(format!(
                        "{name}: {remaining} expired rows are still there{slow}"
                    ));
                }
                RuleEnd::Stopped(reason) => parts.push(format!("{name}: stopped, {reason}")),
                RuleEnd::Blocked { reason, .. } => parts.push(format!("{name}: {reason}")),
                RuleEnd::Failed(error) => parts.push(format!("{name}: {error}")),
                RuleEnd::Unrecorded(reason) => parts.push(format!("{name}: {reason}")),
            }
        }
        if let (true, Some(refusal)) = (self.rules.is_empty(), &self.barred) {
            return format!("no rule was swept: {}", refusal.message);
        }
        if parts.is_empty() {
            parts.push(self.sum());
        }
        let refused = self.refused.iter();
        parts.extend(refused.map(|(name, refusal)| format!("{name}: {}", refusal.message)));
        parts.join("; ")
    }

    /// How many rows went.
    fn sum(&self) -> String {
        if self.rules.is_empty() {
            return "no rule was swept".to_owned();
        }
        let of = |count: fn(&RuleProgress) -> u64| -> u64 {
            self.rules.iter().map(|rule| count(&rule.progress)).sum()
        };
        let archived = match of(|progress| progress.rows_archived) {
            0 => String::new(),
            archived => format!(", {archived} of them archived"),
        };
        let unknown = match of(|progress| progress.rows_unknown) {
            0 => String::new(),
            unknown => format!(
                ", and up to {unknown} more that nobody counted (the operator was killed, or a commit was not answered)"
            ),
        };
        format!("{} rows deleted{archived}{unknown}", self.rows_deleted())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::policy::cutoff::Cutoff;

    fn ended(name: &str, rows: u64, end: RuleEnd) -> RuleReport {
        let progress = RuleProgress::new(name, Cutoff::Instant(Timestamp::UNIX_EPOCH));
        RuleReport {
            rows_deleted: rows,
            chunks: 1,
            ..RuleReport::not_begun(progress, end)
        }
    }

    fn all(rules: Vec<RuleReport>) -> SweepReport {
        SweepReport {
            rules,
            ..SweepReport::default()
        }
    }

    #[test]
    fn what_was_done_before_a_sweep_was_planned_anew_counts() {
        let stopped = || RuleEnd::Stopped(StopReason::PartsChanged);
        let before = all(vec![
            ended("a", 1, RuleEnd::Complete { remaining: 0 }),
            ended("b", 2, stopped()),
            ended("held since", 4, stopped()),
        ]);
        let report = all(vec![ended("b", 5, RuleEnd::Complete { remaining: 0 })]).after(before);

        let rules: Vec<_> = report
            .rules
            .iter()
            .map(|rule| (rule.progress.name.as_str(), rule.rows_deleted, rule.chunks))
            .collect();
        assert_eq!(rules, [("a", 1, 1), ("held since", 4, 1), ("b", 7, 2)]);
        assert_eq!(report.stopped(), Some(StopReason::PartsChanged));
        assert_eq!(report.outcome(), Outcome::Partial);
    }

    #[rstest::rstest]
    #[case(StopReason::PartsChanged, 0, true)]
    #[case(StopReason::PartsChanged, 1, false)]
    #[case(StopReason::HoldsChanged, 0, false)]
    fn partitions_that_come_before_the_first_row_is_taken_make_a_run_vain(
        #[case] reason: StopReason,
        #[case] rows: u64,
        #[case] vain: bool,
    ) {
        let report = all(vec![ended("a", rows, RuleEnd::Stopped(reason))]);
        assert_eq!(report.was_in_vain(), vain);
    }

    #[test]
    fn rules_that_were_refused_are_named_and_keep_a_sweep_from_having_succeeded() {
        let refused = vec![(
            "gone".to_owned(),
            Refusal::new("TableNotFound", "table nosuch does not exist"),
        )];
        let done = || ended("logs", 5, RuleEnd::Complete { remaining: 0 });

        let some = SweepReport {
            refused: refused.clone(),
            ..all(vec![done()])
        };
        let none = SweepReport {
            refused,
            ..SweepReport::default()
        };

        assert_eq!(all(vec![done()]).outcome(), Outcome::Succeeded);
        assert_eq!(some.outcome(), Outcome::Partial);
        assert_eq!(
            some.message(),
            "0 rows deleted; gone: table nosuch does not exist"
        );
        assert_eq!(none.outcome(), Outcome::Skipped);
        assert_eq!(
            none.message(),
            "no rule was swept; gone: table nosuch does not exist"
        );
    }

    #[test]
    fn rows_that_nobody_counted_are_spoken_of() {
        let mut rule = ended("logs", 0, RuleEnd::Complete { remaining: 0 });
        (rule.progress.rows_done, rule.progress.rows_unknown) = (7, 3);

        let message = all(vec![rule]).message();

        assert!(
            message.starts_with("7 rows deleted, and up to 3 more that nobody counted"),
            "{message}"
        );
    }

    #[test]
    fn a_sweep_that_is_over_asks_for_what_is_left_and_one_that_goes_on_for_all() {
        let progress = RuleProgress {
            rows_done: 500,
            ..RuleProgress::new("logs", Cutoff::Instant(Timestamp::UNIX_EPOCH))
        };
        let blocked = RuleEnd::Blocked {
            reason: String::new(),
            expected: 1200,
            removed_holds: None,
        };
        let report = RuleReport::not_begun(progress, blocked);

        assert_eq!(report.asks_for(false), Some((700, None)));
        assert_eq!(report.asks_for(true), Some((1200, None)));
    }
}
