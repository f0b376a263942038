//! What a platform team writes: the spec of a `RetentionPolicy` and its small parts.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel;
use super::database::Database;
use super::pace::{Optimize, Pace};
use super::rule::{Hold, RetentionRule};
use super::status::RetentionPolicyStatus;

/// What a service's database may keep, for how long, and how fast the rest is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "retention-operator.io",
    version = "v1alpha1",
    kind = "RetentionPolicy",
    namespaced,
    shortname = "rp",
    category = "all",
    status = "RetentionPolicyStatus",
    derive = "PartialEq",
    doc = "The retention of one service's database: what the operator audits in it, which rows have expired, and whether they are deleted or archived.",
    validation = Rule::new("self.metadata.name.size() <= 52")
        .message("metadata.name is longer than 52 characters: write a shorter name"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Compliant", type_ = "string", json_path = r#".status.conditions[?(@.type=="Compliant")].status"#),
    printcolumn(name = "Expired", type_ = "integer", format = "int64", json_path = ".status.expiredRows"),
    printcolumn(name = "Last Sweep", type_ = "date", json_path = ".status.lastSweep.completionTime"),
    // A column of type date shows a time to come as <invalid>.
    printcolumn(name = "Next Sweep", type_ = "string", json_path = ".status.nextSweepTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Engine", type_ = "string", json_path = ".status.database.engine", priority = 1),
    printcolumn(name = "Deleted", type_ = "integer", format = "int64", json_path = ".status.totals.rowsDeleted", priority = 1),
    printcolumn(name = "Archived", type_ = "integer", format = "int64", json_path = ".status.totals.rowsArchived", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1)
)]
#[x_kube(
    validation = Rule::new("self.mode != 'Enforce' || (has(self.rules) && self.rules.size() > 0)")
        .message("mode Enforce has nothing to enforce: add an entry to rules, or write mode: Audit"),
    validation = Rule::new("!has(self.optimize) || !has(self.optimize.vacuum) || self.optimize.vacuum != 'Full' || (has(self.schedule) && has(self.schedule.window))")
        .message("optimize.vacuum Full locks the table and runs only inside a window: add schedule.window, or write vacuum: Auto"),
    validation = Rule::new("!has(self.database.ledger) || self.database.ledger != 'Off' || !has(self.rules) || !self.rules.exists(r, has(r.archive) && has(r.archive.objectStore))")
        .message("an archive in an object store needs the ledger: write database.ledger: Auto or Existing, or archive into a table"),
)]
pub struct RetentionPolicySpec {
    /// Audit: report only, change nothing; Enforce: sweep too.
    #[serde(default)]
    pub mode: Mode,
    /// true: no audit and no sweep; a running sweep stops at its next chunk.
    #[serde(default)]
    pub suspend: bool,
    /// IANA time zone of schedule.cron and of the calendar units of expireAfter. Default: UTC. Example: Europe/Berlin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = cel::time_zone("timeZone"))]
    pub time_zone: Option<String>,
    /// The service's database.
    pub database: Database,
    /// When sweeps run. Default: an enforcing policy sweeps only on request or approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How the database is audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditSettings>,
    /// The retention of single tables, at most 32. May be empty in mode Audit: then the database's hygiene alone is
    /// audited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = cel::unique_names("rules"))]
    pub rules: Vec<RetentionRule>,
    /// Rows that no rule of any policy on this database may touch, at most 32 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = cel::unique_names("holds"))]
    pub holds: Vec<Hold>,
    /// How fast a sweep may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// What a sweep does with the space that it frees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimize: Option<Optimize>,
}

/// Whether the operator only reports, or sweeps too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Report only, change nothing.
    #[default]
    Audit,
    /// Sweep too.
    Enforce,
}

/// When sweeps run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cron)")
        .message("schedule has no cron: write for example cron: 0 3 * * *, or remove schedule to sweep only on request"),
)]
pub struct Schedule {
    /// When a sweep starts: minute, hour, day, month and weekday, in timeZone. Example: 0 3 * * *.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = cel::cron())]
    pub cron: Option<String>,
    /// How long after a tick a sweep may work, 10s to 168h; unfinished work stops then and goes on at the next tick.
    /// Default: until it is done. Example: 4h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = cel::duration("window", "10s", "168h", "4h"))]
    pub window: Option<String>,
}

/// How the database is audited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditSettings {
    /// Time between two audits, 10s to 24h. Default: 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = cel::duration("interval", "10s", "24h", "15m"))]
    pub interval: Option<String>,
    /// How long an index or a table must have been without use to be called unused: numbers with y, mo, w, d or h.
    /// Default: 90d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = cel::positive_age("unusedAfter"))]
    pub unused_after: Option<String>,
    /// Ids of findings that are accepted as they are, at most 256. Example: unused-index:public.orders.orders_note_idx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    #[x_kube(validation = cel::finding_ids("suppress"))]
    pub suppress: Vec<String>,
}
