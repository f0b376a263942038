//! A policy's spec, read: every text in it parsed, every default filled in, every rule either good or refused.
//!
//! A good rule is never stopped by a bad one. What concerns the whole policy (its time zone, a field that this version
//! cannot carry out, a hold that cannot be read) refuses every rule.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{
    age::Age,
    claims::LedgerMode,
    defaults::defaults,
    dependents::Dependents,
    encoding::Encoding,
    limits::Limits,
    pace::Pace,
    predicate::Predicate,
    schedule::{Schedule, duration, time_zone},
    table::TableName,
    unsupported,
    usage::LogSource,
};
use crate::api::{DependentHandling, Mode, RetentionPolicySpec, RetentionRule, RuleAction};

/// Why a rule, or a whole policy, is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The word for `status.rules[].reason`.
    pub reason: &'static str,
    /// Names the field and says what to write instead.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(reason::INVALID_SPEC, message)
    }
}

/// Words for `status.rules[].reason`.
pub mod reason {
    pub use crate::api::conditions::reason::{
        CLOCK_SKEW, HOLD_UNRESOLVED, INVALID_SPEC, NOT_ALLOWED, NOT_SUPPORTED, PERMISSION_DENIED,
    };

    /// No table of that name.
    pub const TABLE_NOT_FOUND: &str = "TableNotFound";
    /// No column of that name.
    pub const COLUMN_NOT_FOUND: &str = "ColumnNotFound";
    /// The column's type holds no time.
    pub const COLUMN_TYPE: &str = "ColumnType";
    /// `where` cannot be used.
    pub const INVALID_WHERE: &str = "InvalidWhere";
    /// Another policy owns the table.
    pub const TABLE_CLAIMED: &str = "TableClaimed";
    /// What the rule does needs a ledger that can be used.
    pub const LEDGER_REQUIRED: &str = "LedgerRequired";
    /// Sweeps of the database are paused in its ledger.
    pub const PAUSED: &str = "Paused";
    /// The server is a standby.
    pub const NOT_PRIMARY: &str = "NotPrimary";
    /// The address leads to another database than the one that the sweep began on.
    pub const ANOTHER_DATABASE: &str = "AnotherDatabase";
    /// Rows of other tables refer to the table.
    pub const DEPENDENTS: &str = "Dependents";
    /// Row-level security hides rows from the role.
    pub const ROW_SECURITY: &str = "RowSecurity";
    /// The archive table does not fit the rule's table.
    pub const ARCHIVE_MISMATCH: &str = "ArchiveMismatch";
    /// A published table without a replica identity refuses every DELETE.
    pub const REPLICA_IDENTITY: &str = "ReplicaIdentity";
}

/// A rule whose texts are all readable.
#[derive(Clone, Debug)]
pub struct CheckedRule {
    /// Enforced, by its own and the policy's mode.
    pub enforced: bool,
    /// The table as the policy spells it.
    pub table: TableName,
    /// The time column.
    pub column: String,
    /// How old a row may become.
    pub age: Age,
    /// How a number or a text holds the time; `None`: the column is of a time type.
    pub encoding: Option<Encoding>,
    /// Zone of values that carry none; `None`: not stated, UTC.
    pub column_zone: Option<TimeZone>,
    /// The rule's `where`.
    pub filter: Option<Predicate>,
    /// The blast-radius cap.
    pub limits: Limits,
    /// What is done about rows that refer to expired ones.
    pub dependents: Dependents,
    /// The table into which expired rows are moved, as the policy spells it; `None`: they are deleted.
    pub archive: Option<TableName>,
    /// A table in which the service logs what it uses.
    pub usage: Option<LogSource>,
}

/// A hold whose texts are all readable.
#[derive(Clone, Debug)]
pub struct CheckedHold {
    /// Its name.
    pub name: String,
    /// The table as the policy spells it.
    pub table: TableName,
    /// Which rows; `None`: the whole table.
    pub filter: Option<Predicate>,
    /// The same, as the policy spells it.
    pub source: Option<String>,
    /// Why the rows must stay.
    pub reason: Option<String>,
}

/// A policy whose texts have been read.
#[derive(Clone, Debug)]
pub struct CheckedPolicy {
    /// `mode: Enforce`.
    pub enforced: bool,
    /// `suspend: true`.
    pub suspended: bool,
    /// For the calendar units of `expireAfter`, and for cron.
    pub zone: TimeZone,
    /// When sweeps run; `None`: on request only.
    pub schedule: Option<Schedule>,
    /// Time between audits.
    pub audit_interval: Duration,
    /// From how many days without use on a thing is called unused.
    pub unused_after_days: u32,
    /// Ids of findings that are accepted as they are.
    pub suppress: Vec<String>,
    /// How fast sweeps go.
    pub pace: Pace,
    /// Whether a ledger is used, and made.
    pub ledger: LedgerMode,
    /// Sessions on the database at most.
    pub max_connections: u32,
    /// For a chunk's row locks.
    pub lock_timeout: Duration,
    /// For every statement.
    pub statement_timeout: Duration,
    /// The policy's rules in their order, by name.
    pub rules: Vec<(String, Result<CheckedRule, Refusal>)>,
    /// The policy's holds.
    pub holds: Vec<CheckedHold>,
    /// What refuses the policy as a whole, in addition to what stands at its rules.
    pub refusals: Vec<Refusal>,
}

/// In days; the schema lets nothing else through than ages above zero.
fn unused_after(spec: &RetentionPolicySpec) -> u32 {
    let written = spec
        .audit
        .as_ref()
        .and_then(|audit| audit.unused_after.as_deref())
        .and_then(|text| text.parse::<Age>().ok());
    written.map_or(defaults().unused_after_days, |age| age.whole_days().max(1))
}

/// Reads a policy's spec.
#[must_use]
pub fn check(spec: &RetentionPolicySpec) -> CheckedPolicy {
    let mut refusals = Vec::new();
    let mut keep = |result: Result<(), Refusal>| refusals.extend(result.err());

    let mut zone = TimeZone::UTC;
    keep(
        read_zone("timeZone", spec.time_zone.as_deref())
            .map(|read| zone = read.unwrap_or(TimeZone::UTC)),
    );
    let mut schedule = None;
    keep(read_schedule(spec, &zone).map(|read| schedule = read));
    let mut times = Times::default();
    keep(times.read(spec));
    let mut holds = Vec::new();
    keep(read_holds(spec).map(|read| holds = read));
    let unsupported = unsupported::in_policy(spec);
    if !unsupported.is_empty() {
        keep(Err(not_supported(&unsupported)));
    }

    // A schedule that cannot be read says nothing about which rows have expired: the rules are still audited.
    let stops_rules = refusals
        .iter()
        .find(|refusal| !refusal.message.starts_with("schedule."))
        .cloned();
    let rules = spec
        .rules
        .iter()
        .map(|rule| {
            let checked = match &stops_rules {
                Some(refusal) => check_rule(rule, spec.mode).and(Err(refusal.clone())),
                None => check_rule(rule, spec.mode),
            };
            (rule.name.clone(), checked)
        })
        .collect();

    CheckedPolicy {
        enforced: spec.mode == Mode::Enforce,
        suspended: spec.suspend,
        zone,
        schedule,
        audit_interval: times.audit_interval,
        unused_after_days: unused_after(spec),
        suppress: spec
            .audit
            .as_ref()
            .map(|audit| audit.suppress.clone())
            .unwrap_or_default(),
        pace: times.pace,
        ledger: spec.database.ledger.unwrap_or(defaults().ledger),
        max_connections: spec
            .database
            .max_connections
            .and_then(|connections| u32::try_from(connections).ok())
            .unwrap_or(defaults().max_connections),
        lock_timeout: times.lock_timeout,
        statement_timeout: times.statement_timeout,
        rules,
        holds,
        refusals,
    }
}

struct Times {
    audit_interval: Duration,
    lock_timeout: Duration,
    statement_timeout: Duration,
    pace: Pace,
}

impl Default for Times {
    fn default() -> Self {
        let defaults = defaults();
        Self {
            audit_interval: defaults.audit_interval,
            lock_timeout: defaults.lock_timeout,
            statement_timeout: defaults.statement_timeout,
            pace: defaults.pace,
        }
    }
}

impl Times {
    fn read(&mut self, spec: &RetentionPolicySpec) -> Result<(), Refusal> {
        let pace = spec.pace.as_ref();
        let texts = [
            (
                "audit.interval",
                spec.audit
                    .as_ref()
                    .and_then(|audit| audit.interval.as_deref()),
                &mut self.audit_interval,
            ),
            (
                "database.lockTimeout",
                spec.database.lock_timeout.as_deref(),
                &mut self.lock_timeout,
            ),
            (
                "database.statementTimeout",
                spec.database.statement_timeout.as_deref(),
                &mut self.statement_timeout,
            ),
            (
                "pace.chunkDuration",
                pace.and_then(|pace| pace.chunk_duration.as_deref()),
                &mut self.pace.chunk_duration,
            ),
        ];
        for (field, text, value) in texts {
            if let Some(text) = text {
                *value =
                    duration(field, text).map_err(|error| Refusal::invalid(error.to_string()))?;
            }
        }
        // Whoever states a pace gets it.
        self.pace.eases =
            pace.is_none_or(|pace| pace.chunk_duration.is_none() && pace.max_duty.is_none());
        if let Some(duty) = pace.and_then(|pace| pace.max_duty) {
            self.pace.max_duty = u8::try_from(duty)
                .ok()
                .filter(|duty| (1..=100).contains(duty))
                .ok_or_else(|| {
                    Refusal::invalid(format!(
                        "pace.maxDuty {duty} is no percentage: write 1 to 100"
                    ))
                })?;
        }
        if let Some(lag) = pace.and_then(|pace| pace.max_replica_lag.as_deref()) {
            let lag = duration("pace.maxReplicaLag", lag)
                .map_err(|error| Refusal::invalid(error.to_string()))?;
            self.pace.max_replica_lag = Some(lag);
        }
        if let Some(rate) = pace.and_then(|pace| pace.max_wal_bytes_per_second.as_ref()) {
            let bytes = rate.whole().filter(|bytes| *bytes > 0).ok_or_else(|| {
                Refusal::invalid(format!(
                    "pace.maxWalBytesPerSecond {} is no number of bytes: write for example 16Mi",
                    rate.as_str()
                ))
            })?;
            self.pace.max_wal_bytes_per_second = Some(bytes);
        }
        if let Some(rows) = pace.and_then(|pace| pace.max_rows_per_second) {
            self.pace.max_rows_per_second = Some(
                u64::try_from(rows)
                    .ok()
                    .filter(|rows| *rows > 0)
                    .ok_or_else(|| {
                        Refusal::invalid(format!(
                            "pace.maxRowsPerSecond {rows} is too small: write 1 or more"
                        ))
                    })?,
            );
        }
        Ok(())
    }
}

fn read_zone(field: &str, name: Option<&str>) -> Result<Option<TimeZone>, Refusal> {
    name.map(|name| time_zone(field, name).map_err(|error| Refusal::invalid(error.to_string())))
        .transpose()
}

fn read_schedule(spec: &RetentionPolicySpec, zone: &TimeZone) -> Result<Option<Schedule>, Refusal> {
    let Some(schedule) = &spec.schedule else {
        return Ok(None);
    };
    let Some(cron) = &schedule.cron else {
        return Ok(None);
    };
    let window = schedule
        .window
        .as_deref()
        .map(|window| duration("schedule.window", window))
        .transpose()
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    Schedule::new(cron, zone.clone(), window)
        .map(Some)
        .map_err(|error| Refusal::invalid(error.to_string()))
}

/// Reads a policy's holds.
///
/// # Errors
/// When one of them cannot be read: then none of them is worth anything.
pub fn read_holds(spec: &RetentionPolicySpec) -> Result<Vec<CheckedHold>, Refusal> {
    spec.holds
        .iter()
        .map(|hold| {
            let refuse = |what: String| {
                Refusal::new(
                    reason::HOLD_UNRESOLVED,
                    format!(
                        "hold {}: {what}; until it can be read no rule is swept",
                        hold.name
                    ),
                )
            };
            Ok(CheckedHold {
                name: hold.name.clone(),
                table: hold
                    .table
                    .parse::<TableName>()
                    .map_err(|error| refuse(format!("table: {error}")))?,
                filter: hold
                    .filter
                    .as_deref()
                    .map(Predicate::parse)
                    .transpose()
                    .map_err(|error| refuse(format!("where: {error}")))?,
                source: hold.filter.clone(),
                reason: hold.reason.clone(),
            })
        })
        .collect()
}

fn check_rule(rule: &RetentionRule, mode: Mode) -> Result<CheckedRule, Refusal> {
    let unsupported = unsupported::in_rule(rule);
    if !unsupported.is_empty() {
        return Err(not_supported(&unsupported));
    }
    Ok(CheckedRule {
        enforced: mode == Mode::Enforce && rule.mode != Some(Mode::Audit),
        table: rule
            .table
            .parse()
            .map_err(|error| Refusal::invalid(format!("table: {error}")))?,
        column: rule.column.clone(),
        age: rule
            .expire_after
            .parse()
            .map_err(|error| Refusal::invalid(format!("expireAfter: {error}")))?,
        encoding: rule.encoding,
        column_zone: read_zone("columnTimeZone", rule.column_time_zone.as_deref())?,
        filter: rule
            .filter
            .as_deref()
            .map(Predicate::parse)
            .transpose()
            .map_err(|error| Refusal::new(reason::INVALID_WHERE, format!("where: {error}")))?,
        limits: read_limits(rule)?,
        dependents: match rule.dependents.unwrap_or_default() {
            DependentHandling::Refuse => Dependents::Refuse,
            DependentHandling::Skip => Dependents::Skip,
            DependentHandling::Cascade => Dependents::Cascade,
        },
        archive: read_archive(rule)?,
        usage: read_usage(rule)?,
    })
}

fn read_usage(rule: &RetentionRule) -> Result<Option<LogSource>, Refusal> {
    let Some(log) = &rule.usage else {
        return Ok(None);
    };
    Ok(Some(LogSource {
        table: log
            .table
            .parse()
            .map_err(|error| Refusal::invalid(format!("usage.table: {error}")))?,
        column: log.column.clone(),
        object: log.object.clone(),
    }))
}

fn read_archive(rule: &RetentionRule) -> Result<Option<TableName>, Refusal> {
    if rule.action == RuleAction::Delete {
        return Ok(None);
    }
    if rule.dependents == Some(DependentHandling::Cascade) {
        return Err(Refusal::invalid(
            "action: Archive does not archive the rows of other tables that dependents: Cascade takes along: write dependents: Skip, \
             or archive those tables by rules of their own first",
        ));
    }
    let table = rule
        .archive
        .as_ref()
        .and_then(|archive| archive.table.as_ref())
        .ok_or_else(|| {
            Refusal::invalid("action: Archive needs a place to archive to: add archive.table.name")
        })?;
    table
        .name
        .parse()
        .map(Some)
        .map_err(|error| Refusal::invalid(format!("archive.table.name: {error}")))
}

fn read_limits(rule: &RetentionRule) -> Result<Limits, Refusal> {
    let Some(limits) = &rule.limits else {
        return Ok(Limits::default());
    };
    let max_rows = limits
        .max_rows
        .map(|rows| {
            u64::try_from(rows).map_err(|_| {
                Refusal::invalid(format!(
                    "limits.maxRows {rows} is negative: write 1 or more"
                ))
            })
        })
        .transpose()?;
    let max_percent = limits
        .max_percent
        .map(|percent| {
            u8::try_from(percent)
                .ok()
                .filter(|percent| (1..=100).contains(percent))
                .ok_or_else(|| {
                    Refusal::invalid(format!(
                        "limits.maxPercent {percent} is no percentage: write 1 to 100"
                    ))
                })
        })
        .transpose()?;
    Ok(Limits {
        max_rows,
        max_percent,
    })
}

fn not_supported(fields: &[&str]) -> Refusal {
    Refusal::new(
        reason::NOT_SUPPORTED,
        format!(
            "this version cannot carry out {}: remove it, nothing is done halfway",
            fields.join(", ")
        ),
    )
}
