//! What an audit found.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Measured, MeasuredInstant, measure};
use crate::{
    engine::{
        DatabaseFacts, TableStatistics,
        ledger::{DayPoint, LedgerTotals, SweepRecord, TrendPoint},
    },
    policy::{
        check::Refusal,
        cutoff::Cutoff,
        hygiene::Finding,
        plan::{RulePlan, check_deletable},
        plausible::doubt_of_known,
        usage::{self, Counters, Observation},
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
    /// Since when findings are there, by their ids, as far as a ledger knows.
    pub first_seen: HashMap<String, Timestamp>,
    /// The database today, as the trend has it.
    pub today: DayPoint,
    /// Days that a ledger remembers, in order.
    pub trend: Vec<TrendPoint>,
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
    pub usage: Observation,
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
        usage: glance(statistics),
        size_bytes: plan.table.known_bytes(),
        dead_rows: statistics.dead_rows,
        doubt: doubt_of_known(plan, measure::newest(statistics), |from, until| {
            measure::knows_between(statistics, from, until)
        }),
        obstacle: check_deletable(plan).err(),
        plan: plan.clone(),
        as_of: now,
        statistics: statistics.clone(),
    }
}

/// For tables that the look at the whole database leaves out.
fn glance(statistics: &TableStatistics) -> Observation {
    let counters = Counters {
        reads: statistics.scans,
        writes: statistics.writes,
        last_read: statistics.last_read,
    };
    usage::glance(Some(&counters), statistics.counting_since)
}
