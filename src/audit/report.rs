//! What an audit found.

use jiff::Timestamp;

use super::{Measured, MeasuredInstant, measure};
use crate::{
    engine::{
        DatabaseFacts, TableStatistics,
        ledger::{LedgerTotals, SweepRecord},
    },
    policy::{
        check::Refusal,
        cutoff::Cutoff,
        hygiene::Finding,
        plan::{RulePlan, check_deletable},
        plausible::doubt_of_newest,
    },
};

/// What one audit found.
#[derive(Clone, Debug)]
pub struct AuditReport {
    /// The database.
    pub facts: DatabaseFacts,
    /// One entry a rule, in the policy's order.
    pub rules: Vec<RuleAudit>,
    /// What the checks of the whole database found, the gravest first; `None`: they were not run.
    pub findings: Option<Vec<Finding>>,
    /// Ids of findings that the policy accepts.
    pub suppress: Vec<String>,
    /// What the role was not allowed to see, in sentences.
    pub unseen: Vec<String>,
    /// What all sweeps of the policy took, where a ledger knows it.
    pub totals: Option<LedgerTotals>,
    /// The policy's sweep that the ledger knows to be unfinished.
    pub unfinished: Option<SweepRecord>,
    /// What people should know of the ledger.
    pub note: Option<String>,
    /// Somebody paused the sweeps of the database, and why.
    pub paused: Option<String>,
}

impl AuditReport {
    /// See [`RuleFindings::forget_statistics`].
    pub fn forget_statistics(&mut self) {
        let rules = self.rules.iter_mut();
        rules
            .filter_map(|rule| rule.result.as_mut().ok())
            .for_each(RuleFindings::forget_statistics);
    }
}

/// One rule of an audit.
#[derive(Clone, Debug)]
pub struct RuleAudit {
    /// The rule's name.
    pub name: String,
    /// It deletes when its policy sweeps.
    pub enforced: bool,
    /// What was found, or why the rule is refused.
    pub result: Result<RuleFindings, Refusal>,
}

/// What an audit found of one rule's table.
#[derive(Clone, Debug)]
pub struct RuleFindings {
    /// The resolved plan.
    pub plan: RulePlan,
    /// Rows of the table.
    pub rows: Option<Measured>,
    /// Rows past their age.
    pub expired: Option<Measured>,
    /// Rows whose value is not of the column's encoding; `None`: the column is of a time type, or nothing is known.
    pub unreadable: Option<Measured>,
    /// Rows that the last due tick should have taken.
    pub overdue: Option<Measured>,
    /// The oldest value of the time column.
    pub oldest: Option<MeasuredInstant>,
    /// The newest value of the time column: the table's freshness.
    pub newest: Option<MeasuredInstant>,
    /// Whether anybody uses the table.
    pub usage: Usage,
    /// Bytes with indexes and TOAST; `None`: not known.
    pub size_bytes: Option<i64>,
    /// Dead rows, estimated.
    pub dead_rows: i64,
    /// The stated unit is hardly the column's, by the statistics.
    pub doubt: Option<String>,
    /// What would stop a sweep of a rule that only audits today.
    pub obstacle: Option<Refusal>,
    /// The database's clock at the audit.
    pub as_of: Timestamp,
    statistics: TableStatistics,
}

impl RuleFindings {
    /// What was `counted` before the cutoff `from`, and what has expired since, as the statistics know it; `None`: nothing has,
    /// or they know nothing of it.
    #[must_use]
    pub fn counted_since(&self, counted: i64, from: Cutoff) -> Option<Measured> {
        measure::counted_since(counted, from, &self.plan, &self.statistics)
    }

    /// Of many rules and parts they take much room, and the next audit brings its own.
    pub fn forget_statistics(&mut self) {
        self.statistics.leaves = Vec::new();
    }
}

/// Whether a table is used: three-valued, and honest about what the counters cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The server recorded a read at that time.
    Used(Timestamp),
    /// The counters are above zero: used at some time since they count.
    UsedSince(Timestamp),
    /// Nothing can be said, and why.
    Unknown(&'static str),
}

pub(crate) fn findings(
    plan: &RulePlan,
    statistics: &TableStatistics,
    now: Timestamp,
) -> RuleFindings {
    let (oldest, newest) = measure::ends(plan, statistics);
    RuleFindings {
        rows: measure::rows(plan, statistics),
        expired: measure::before(plan.cutoff, plan, statistics),
        unreadable: measure::unreadable(plan, statistics),
        overdue: measure::before(plan.overdue, plan, statistics),
        oldest,
        newest,
        usage: usage(statistics),
        size_bytes: plan.table.known_bytes(),
        dead_rows: statistics.dead_rows,
        doubt: doubt_of_newest(plan, measure::newest(statistics)),
        obstacle: check_deletable(plan).err(),
        plan: plan.clone(),
        as_of: now,
        statistics: statistics.clone(),
    }
}

/// One look at counters proves use, never disuse: that takes snapshots over time.
fn usage(statistics: &TableStatistics) -> Usage {
    match (statistics.last_read, statistics.counting_since) {
        (Some(read), _) => Usage::Used(read),
        (None, Some(since)) if statistics.scans > 0 || statistics.writes > 0 => {
            Usage::UsedSince(since)
        }
        (None, None) if statistics.scans > 0 || statistics.writes > 0 => {
            Usage::Unknown("used, but since when the counters count is not known")
        }
        _ => {
            Usage::Unknown("the counters saw no use; without samples over time that proves nothing")
        }
    }
}
