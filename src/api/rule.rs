//! Rules: one table's retention each. And holds: the rows that stay whatever the rules say.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::cel;
use super::spec::Mode;

/// The retention of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.action != 'Archive' || has(self.archive)")
        .message("action Archive needs a place to archive to: add archive.objectStore or archive.table, or write action: Delete"),
    validation = Rule::new("self.action != 'Delete' || !has(self.archive)")
        .message("action Delete archives nothing: write action: Archive, or remove archive"),
    validation = Rule::new("!has(self.archive) || !has(self.archive.table) || self.archive.table.name != self.table")
        .message("archive.table is the rule's own table: write the name of another table"),
    validation = Rule::new("!has(self.columnTimeZone) || !has(self.encoding) || self.encoding in ['Iso8601', 'Compact14']")
        .message(Message::Expression(r#""columnTimeZone does not fit encoding " + self.encoding + ", whose values are instants in themselves: remove columnTimeZone""#.into())),
)]
pub struct RetentionRule {
    /// Name of the rule, a DNS label that is unique in the policy. Example: activity-logs.
    #[schemars(length(max = 63))]
    #[x_kube(validation = cel::label("rule name"))]
    pub name: String,
    /// Audit: this rule only reports although the policy enforces. Enforce: follow the policy's mode. Default: Enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mode")]
    pub mode: Option<Mode>,
    /// The table, [schema.]table, exactly as the database spells it. A part that holds a dot or a quote is quoted as in
    /// SQL. Example: activity_logs, or "odd.schema"."Odd ""Table".
    #[schemars(length(max = 256))]
    #[x_kube(validation = cel::not_blank("table", "write [schema.]table as the database spells it, for example public.activity_logs"))]
    pub table: String,
    /// The column whose time says how old a row is, exactly as the database spells it. Example: access_date.
    #[schemars(length(max = 128))]
    #[x_kube(validation = cel::not_blank("column", "write the name of the column that says how old a row is, for example created_at"))]
    pub column: String,
    /// How a number or a text holds the time. Compact14 reads as 20261122093000. Default: the column's own type; on
    /// SQLite always stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Encoding")]
    pub encoding: Option<Encoding>,
    /// IANA time zone of values that carry none. Example: America/Los_Angeles. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = cel::time_zone("columnTimeZone"))]
    pub column_time_zone: Option<String>,
    /// Age at which a row has expired: numbers with y, mo, w, d or h, separated by spaces; calendar units count in the
    /// policy's timeZone. 0s: the column holds the instant of expiry itself. Example: 365d, 1y 6mo, 12h.
    #[schemars(length(max = 32))]
    #[x_kube(validation = cel::age("expireAfter"))]
    pub expire_after: String,
    /// Only rows for which this boolean SQL expression over the table's own columns is true. Default: all rows. Example:
    /// status <> 'open'.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    #[x_kube(validation = cel::not_blank("where", "write a condition such as status <> 'open', or remove it"))]
    pub filter: Option<String>,
    /// What happens to an expired row. Delete: it is gone; Archive: it is stored in archive first.
    pub action: RuleAction,
    /// Where expired rows go before they are deleted. Required by action Archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// What happens to partitions that are wholly expired. Rows: their rows are deleted; Drop: the partition is dropped;
    /// Detach: it is detached and kept. Default: Rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PartitionHandling")]
    pub partitions: Option<PartitionHandling>,
    /// What happens when rows of other tables refer to the table. Refuse: the rule is refused; Skip: such rows stay;
    /// Cascade: the referring rows are taken along. Default: Refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DependentHandling")]
    pub dependents: Option<DependentHandling>,
    /// The most that one sweep may take without an approval. Default: maxPercent 50 for tables of more than 10,000 rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// A table in which the service logs its use of objects, as evidence of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageLog>,
}

/// What happens to an expired row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RuleAction {
    /// It is deleted.
    Delete,
    /// It is archived, then deleted.
    Archive,
}

/// How a number or a text holds a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    /// Seconds since 1970-01-01T00:00:00Z.
    EpochSeconds,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    EpochMillis,
    /// Microseconds since 1970-01-01T00:00:00Z.
    EpochMicros,
    /// A UUID of version 7 (RFC 9562).
    UuidV7,
    /// A ULID.
    Ulid,
    /// A text as ISO 8601 writes it.
    Iso8601,
    /// Fourteen digits: `20261122093000`.
    Compact14,
}

/// What happens to partitions that are wholly expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PartitionHandling {
    /// Their rows are deleted like any others.
    #[default]
    Rows,
    /// The partition is dropped.
    Drop,
    /// The partition is detached and kept.
    Detach,
}

/// What happens when rows of other tables refer to the rule's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DependentHandling {
    /// The rule is refused.
    #[default]
    Refuse,
    /// Rows that are referred to stay.
    Skip,
    /// The referring rows are taken along.
    Cascade,
}

/// The most that one sweep of a rule may take without an approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.maxRows) || has(self.maxPercent)")
        .message("limits is empty: write maxRows, maxPercent or both, or remove limits for the default of maxPercent: 50"),
)]
pub struct Limits {
    /// Most rows of one sweep, cascaded ones too. Default: no limit by number. Example: 5000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_rows: Option<i64>,
    /// Most percent of the rows that the table holds when the sweep starts, 1 to 100. Default: 50 for tables of more than
    /// 10,000 rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_percent: Option<i32>,
}

/// A table in which the service logs its use of objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageLog {
    /// The log, [schema.]table. Example: access_log.
    #[schemars(length(max = 256))]
    #[x_kube(validation = cel::not_blank("usage.table", "write [schema.]table as the database spells it, for example access_log"))]
    pub table: String,
    /// The log's column that holds the time of use. Example: at.
    #[schemars(length(max = 128))]
    #[x_kube(validation = cel::not_blank("usage.column", "write the name of the column that holds the time of use, for example at"))]
    pub column: String,
    /// The log's column that names the used object. Example: table_name.
    #[schemars(length(max = 128))]
    #[x_kube(validation = cel::not_blank("usage.object", "write the name of the column that names the used object, for example table_name"))]
    pub object: String,
}

/// Rows that no rule of any policy on this database may touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Name of the hold, a DNS label that is unique in the policy. Example: case-4711.
    #[schemars(length(max = 63))]
    #[x_kube(validation = cel::label("hold name"))]
    pub name: String,
    /// The table, [schema.]table, exactly as the database spells it.
    #[schemars(length(max = 256))]
    #[x_kube(validation = cel::not_blank("table", "write [schema.]table as the database spells it, for example public.activity_logs"))]
    pub table: String,
    /// The rows that are held: a boolean SQL expression over the table's own columns. Default: the whole table. Example:
    /// customer_id = 99.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    #[x_kube(validation = cel::not_blank("where", "write a condition such as customer_id = 99, or remove it to hold the whole table"))]
    pub filter: Option<String>,
    /// Why the rows must stay, for the people who read the policy. Example: litigation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}
