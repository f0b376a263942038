//! The API of the operator: the custom resource `RetentionPolicy`, its schema, and its checks. No I/O.

mod archive;
mod cel;
pub mod conditions;
pub mod crd;
mod database;
mod pace;
#[cfg(test)]
mod reference;
mod rule;
mod secret;
mod spec;
mod status;
pub mod validate;

pub use archive::{
    Archive, ArchiveFormat, ArchiveTable, EncryptionAlgorithm, ObjectStore, ServerSideEncryption,
};
pub use cel::{AGE_PATTERN, CRON_PATTERN, DURATION_PATTERN, LABEL_PATTERN, TIME_ZONE_PATTERN};
pub use database::{Database, DatabaseTls, LedgerMode, TlsMode};
pub use pace::{Optimize, Pace, Quantity, ReindexMode, VacuumMode};
pub use rule::{
    DependentHandling, Encoding, Hold, Limits, PartitionHandling, RetentionRule, RuleAction,
    UsageLog,
};
pub use secret::{SecretKeySelector, SecretReference, SecretSource};
pub use spec::{AuditSettings, Mode, RetentionPolicy, RetentionPolicySpec, Schedule};
pub use status::{
    Approval, CountedRows, CurrentSweep, DatabaseStatus, Finding, Findings, LastUsed, MeasuredRows,
    MeasuredTime, PendingApproval, PendingRule, Reclaimed, RetentionPolicyStatus, RuleStatus,
    SweepStatus, Totals, TrendPoint, UnfinishedRule, UnfinishedSweep, whole_seconds,
};

/// API group of the custom resource, and prefix of its annotations.
pub const GROUP: &str = "retention-operator.io";
/// Version of the API.
pub const VERSION: &str = "v1alpha1";
/// Kind of the custom resource.
pub const KIND: &str = "RetentionPolicy";
/// `apiVersion` of the custom resource.
pub const API_VERSION: &str = "retention-operator.io/v1alpha1";

/// Annotations by which people ask for something, once.
pub mod annotation {
    /// Asks for a sweep; an RFC 3339 instant.
    pub const SWEEP_REQUESTED_AT: &str = "retention-operator.io/sweep-requested-at";
    /// Asks for an audit; an RFC 3339 instant.
    pub const AUDIT_REQUESTED_AT: &str = "retention-operator.io/audit-requested-at";
    /// Approves a blocked sweep; the hash in `status.pendingApproval.planHash`.
    pub const APPROVED_PLAN: &str = "retention-operator.io/approved-plan";
}
