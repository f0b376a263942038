//! What the operator answers: the status of a `RetentionPolicy`.
//!
//! Enumerations are plain strings here, so that an older reader survives a newer writer. Times have whole seconds (see
//! [`whole_seconds`]), because that is how they are stored: finer ones would never compare equal to what was read back.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// `instant` without its fraction of a second, as the API server stores it.
#[must_use]
pub fn whole_seconds(instant: Timestamp) -> Time {
    // Cutting towards minus infinity cannot leave the range, whose ends are whole seconds.
    Time(
        Timestamp::from_second(
            instant
                .as_nanosecond()
                .div_euclid(1_000_000_000)
                .try_into()
                .unwrap_or(i64::MIN),
        )
        .unwrap_or(instant),
    )
}

/// What the operator found in the database and did there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicyStatus {
    /// The generation of the spec that this status answers; -1 before the operator has seen the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Compliant and DatabaseReachable; Reconciling, Stalled, Sweeping, ApprovalRequired and CrdOutdated only while
    /// they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Rows past their age that are still there, summed over the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_rows: Option<i64>,
    /// Sums over all sweeps, from the ledger: re-creating the policy does not reset them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// The database that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// When the last audit ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_audit_time: Option<Time>,
    /// The next tick of schedule.cron.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_sweep_time: Option<Time>,
    /// One entry for each rule of the spec, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<RuleStatus>,
    /// The last sweep that ended, or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<SweepStatus>,
    /// The sweep that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_sweep: Option<CurrentSweep>,
    /// What a stopped or interrupted sweep goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished_sweep: Option<UnfinishedSweep>,
    /// What the last sweep gave back. Four numbers that are never summed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaimed: Option<Reclaimed>,
    /// What the audit found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
    /// One point a day, the oldest first, at most 12.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub trend: Vec<TrendPoint>,
    /// What a blocked sweep asks to be approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_approval: Option<PendingApproval>,
    /// The value of retention-operator.io/sweep-requested-at that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_sweep_request: Option<String>,
    /// The value of retention-operator.io/audit-requested-at that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_audit_request: Option<String>,
    /// The approval that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_approval: Option<Approval>,
}

/// Sums over all sweeps of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Rows deleted, archived ones and those that went along through foreign keys included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_deleted: Option<i64>,
    /// Rows archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_archived: Option<i64>,
}

/// The database that was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// PostgreSQL, MySQL, MariaDB or SQLite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Version of the server. Example: 15.18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Name of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What tells this database from a copy of it: system identifier and oid, or device and inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Number of user tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<i64>,
    /// What keeps an audit from changing anything: ReadOnlyRole (the role has no right to), ReadOnlyTransaction or ReadOnlyConnection (SQLite).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_promise: Option<String>,
}

/// A number of rows, and how it was got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredRows {
    /// The number of rows.
    pub value: i64,
    /// How it was got, for example Catalog, Histogram, UpperBound, Count or CountAndHistogram.
    pub method: String,
    /// Whether it is exact; else it is an estimate.
    pub exact: bool,
    /// When it was true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Time>,
}

/// Rows that a sweep counted when its walk was over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountedRows {
    /// The number of rows.
    pub value: i64,
    /// The sweep's cutoff: rows whose time was before it were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<String>,
    /// When they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Time>,
}

/// A value of a time column, and how it was got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredTime {
    /// The value, as RFC 3339 where it is an instant.
    pub value: String,
    /// How it was got, for example Histogram or Index.
    pub method: String,
    /// When it was true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Time>,
}

/// Whether a table is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastUsed {
    /// Used, Unused or Unknown.
    pub state: String,
    /// Used: when the last use was seen. Unused: since when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// From when on the use was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage_since: Option<Time>,
    /// Percent of the time since then in which the use was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage_percent: Option<i32>,
    /// Why the use is unknown, or known of one node only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is known of one rule and its table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleStatus {
    /// Name of the rule.
    pub name: String,
    /// The table that was resolved, with its schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The database's own number of that table: one that is made anew under the same name has another, and an approval does not
    /// hold for it. On SQLite, which has no such numbers, it follows from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_id: Option<i64>,
    /// Why the rule is refused, for example TableNotFound, ColumnNotFound, TableClaimed or NotSupported. Absent when it is
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about the refusal; without a reason: what is doubtful about the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Rows of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<MeasuredRows>,
    /// Rows past their age that are still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_rows: Option<MeasuredRows>,
    /// Rows past their age that are kept: referred to, held, vetoed by a trigger, locked, slower to delete than a
    /// statement may take, or referred to by a row that cannot be set to NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_rows: Option<MeasuredRows>,
    /// What the last complete sweep counted: rows past its cutoff that it left. expiredRows adds what has expired since, until
    /// the table's statistics are newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_count: Option<CountedRows>,
    /// Rows of which a value cannot be read, and which stay for that: their time is not of the stated encoding or, as a sweep of a
    /// SQLite file counts, they are past their age and hold a value on which the rule's where or a hold cannot be decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable_rows: Option<MeasuredRows>,
    /// The oldest time in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<MeasuredTime>,
    /// The newest time in the table: its freshness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<MeasuredTime>,
    /// Whether the table is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<LastUsed>,
    /// Size of the table with its indexes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// The cutoff of the last audit or sweep: rows whose time is before it have expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<String>,
    /// Database time at the start of the last complete sweep: what had expired before it is gone, or counted as blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// Rows deleted by all sweeps of this rule, archived ones and those that went along through foreign keys included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_deleted: Option<i64>,
    /// Rows archived by all sweeps of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_archived: Option<i64>,
}

/// A sweep that ended, or was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepStatus {
    /// Id of the sweep, as in the ledger and in the names of archive objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Schedule, Request or Approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Succeeded, Partial, Failed, Blocked, Cancelled or Skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Rows deleted, archived ones and those that went along through foreign keys included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_deleted: Option<i64>,
    /// Rows archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_archived: Option<i64>,
    /// Archive objects written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<i64>,
    /// Transactions that were committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<i64>,
    /// The longest of them, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_chunk_millis: Option<i64>,
    /// How long the sweep waited for the service's sake, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_seconds: Option<i64>,
    /// The outcome in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The sweep that is running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentSweep {
    /// Id of the sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it began, or was resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// The rule that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Rows of this rule that are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_done: Option<i64>,
    /// Rows of this rule that were expected when the sweep began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_expected: Option<i64>,
    /// Why the sweep is waiting, for example ReplicaLag. Absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_by: Option<String>,
}

/// What a stopped or interrupted sweep goes on with: its id, its cutoffs, and what is left of its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnfinishedSweep {
    /// Id of the sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Schedule, Request or Approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// The database's clock when the cutoffs were fixed: the watermark once the sweep is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_time: Option<String>,
    /// The generation of the spec under which it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Identity of the database that it sweeps; on another one it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The rules of the sweep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<UnfinishedRule>,
    /// The same for many rules with long names, a line each, where there is no room for rules: for the operator alone to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub packed: Vec<String>,
}

/// One rule of an unfinished sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnfinishedRule {
    /// Name of the rule.
    pub name: String,
    /// The sweep's cutoff for this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<String>,
    /// The database's own number of the table, once the rule has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_id: Option<i64>,
    /// Rows that the table held when the sweep began, once they were counted: what maxPercent is a percentage of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_at_start: Option<i64>,
    /// Rows that are known to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_done: Option<i64>,
    /// Rows of rowsDone that were archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_archived: Option<i64>,
    /// Rows that a killed operator may have deleted without recording it: they count against the limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_unknown: Option<i64>,
    /// What rowsDone and rowsUnknown may come to before they are recorded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_reserved: Option<i64>,
    /// Rows that the sweep takes in all, if they were ever counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_total: Option<i64>,
    /// Rows of rowsDone that totals have in them already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_counted: Option<i64>,
    /// Rows of rowsArchived that totals have in them already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_counted: Option<i64>,
    /// Rows that an approval allows, in place of the rule's limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_approved: Option<i64>,
    /// Whether the rule is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<bool>,
}

/// What a sweep gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reclaimed {
    /// Bytes of the rows that were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_deleted: Option<i64>,
    /// Bytes that the tables can use again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_reusable: Option<i64>,
    /// Bytes that went back to the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_returned: Option<i64>,
    /// Bytes of write-ahead log that it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_bytes: Option<i64>,
}

/// What the audit found: counts, and the findings that matter most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Findings of severity critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<i64>,
    /// Findings of severity warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<i64>,
    /// Findings of severity info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<i64>,
    /// Findings that audit.suppress accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<i64>,
    /// Findings that are counted but do not fit into top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<i64>,
    /// The findings that matter most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub top: Vec<Finding>,
}

/// One result of the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable id: check, colon, object. audit.suppress takes it.
    pub id: String,
    /// critical, warning or info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// The table, index or setting that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The figures that it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Bytes that could be won, estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_bytes: Option<i64>,
    /// When it was found first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Time>,
}

/// The database on one day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrendPoint {
    /// When the point was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Size of the database in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Rows past their age, summed over the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_rows: Option<i64>,
    /// Dead row versions, summed over the rules' tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_rows: Option<i64>,
}

/// What a blocked sweep asks to be approved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingApproval {
    /// The value that the annotation retention-operator.io/approved-plan must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// When the approval was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Time>,
    /// When the question lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Identity of the database that the question is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Id of the unfinished sweep that asks, and would go on; none: the next sweep is the one that may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<String>,
    /// The rules that are blocked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<PendingRule>,
}

/// One rule that needs an approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRule {
    /// Name of the rule.
    pub name: String,
    /// Rows that it would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Percent of the table's rows that these are, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
    /// The cutoff of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<String>,
    /// The database's own number of the table that the question is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_id: Option<i64>,
    /// Why the rule is blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The removed holds whose rows it would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_holds: Option<String>,
}

/// An approval that was handled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The plan that was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// When the operator saw the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

#[cfg(test)]
mod tests;
