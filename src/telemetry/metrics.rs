//! Prometheus metrics. Labels are bounded; series of a policy go with the policy.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// `{outcome="…"}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `Succeeded`, `Failed`, an error's category, …
    pub outcome: &'static str,
}

/// `{namespace="…", policy="…"}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PolicyLabel {
    /// The policy's namespace.
    pub namespace: String,
    /// The policy's name.
    pub policy: String,
}

/// Everything that the operator counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciliations by outcome: `ok`, or the category of the error.
    pub reconciles: Family<OutcomeLabel, Counter>,
    /// Audits by outcome: `ok`, or the category of the error.
    pub audits: Family<OutcomeLabel, Counter>,
    /// Sweeps by outcome.
    pub sweeps: Family<OutcomeLabel, Counter>,
    /// Rows deleted by sweeps of this process.
    pub rows_deleted: Counter,
    /// Rows of these that were archived first.
    pub rows_archived: Counter,
    /// Length of a chunk's transaction.
    pub chunk_seconds: Histogram,
    /// Sweeps running now.
    pub sweeps_running: Gauge,
    /// Status writes to the API server.
    pub status_writes: Counter,
    /// Expired rows of a policy's last audit or sweep.
    pub expired_rows: Family<PolicyLabel, Gauge>,
    /// 1: compliant, 0: not; absent while unknown.
    pub compliant: Family<PolicyLabel, Gauge>,
    /// When the last audit ended.
    pub last_audit: Family<PolicyLabel, Gauge<f64, AtomicU64>>,
    /// This instance leads.
    pub leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("retention_operator");
        let metrics = Self {
            reconciles: Family::default(),
            audits: Family::default(),
            sweeps: Family::default(),
            rows_deleted: Counter::default(),
            rows_archived: Counter::default(),
            chunk_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            sweeps_running: Gauge::default(),
            status_writes: Counter::default(),
            expired_rows: Family::default(),
            compliant: Family::default(),
            last_audit: Family::default(),
            leader: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "reconciles",
            "Reconciliations by outcome",
            metrics.reconciles.clone(),
        );
        registry.register("audits", "Audits by outcome", metrics.audits.clone());
        registry.register("sweeps", "Sweeps by outcome", metrics.sweeps.clone());
        registry.register(
            "rows_deleted",
            "Rows deleted by sweeps",
            metrics.rows_deleted.clone(),
        );
        registry.register(
            "rows_archived",
            "Rows archived by sweeps before they were deleted",
            metrics.rows_archived.clone(),
        );
        registry.register_with_unit(
            "chunk",
            "Length of a chunk's transaction",
            Unit::Seconds,
            metrics.chunk_seconds.clone(),
        );
        registry.register(
            "sweeps_running",
            "Sweeps running now",
            metrics.sweeps_running.clone(),
        );
        registry.register(
            "status_writes",
            "Status writes to the API server",
            metrics.status_writes.clone(),
        );
        registry.register(
            "policy_expired_rows",
            "Expired rows of a policy",
            metrics.expired_rows.clone(),
        );
        registry.register(
            "policy_compliant",
            "1: the policy is compliant, 0: it is not",
            metrics.compliant.clone(),
        );
        registry.register(
            "policy_last_audit_timestamp_seconds",
            "When the policy's last audit ended",
            metrics.last_audit.clone(),
        );
        registry.register("leader", "1: this instance leads", metrics.leader.clone());
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// The exposition format, for `/metrics`.
    #[must_use]
    pub fn encoded(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail; an empty page would show at once.
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }

    /// Removes the series of a policy that is gone.
    pub fn forget(&self, namespace: &str, policy: &str) {
        let label = PolicyLabel {
            namespace: namespace.to_owned(),
            policy: policy.to_owned(),
        };
        self.expired_rows.remove(&label);
        self.compliant.remove(&label);
        self.last_audit.remove(&label);
    }
}
