//! The reports of an audit that other programs read, and what all of them are made from.

pub(super) mod json;
pub(super) mod junit;
#[cfg(test)]
mod junit_schema;
pub(super) mod markdown;
pub(super) mod sarif;
pub(super) mod terminal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use jiff::Timestamp;

use super::gate::Judged;
use crate::{
    api::{RetentionPolicy, RetentionPolicyStatus, RuleStatus},
    engine::ledger::TrendPoint,
    policy::hygiene::Severity,
    report,
};

/// One audit, judged.
pub(super) struct Audited<'a> {
    pub(super) policy: &'a RetentionPolicy,
    /// The file that the policy was read from, as the user named it.
    pub(super) file: &'a str,
    pub(super) status: &'a RetentionPolicyStatus,
    /// The gravest first.
    pub(super) findings: &'a [Judged],
    /// When findings were seen first, by id, as far as anybody remembers.
    pub(super) first_seen: &'a HashMap<String, Timestamp>,
    /// Names of the rules whose tables hold rows that the last due tick should have taken.
    pub(super) violated: &'a [String],
    /// How the database changed over time, in lines.
    pub(super) changes: &'a [report::Change],
    /// Days that a ledger remembers.
    pub(super) trend: &'a [TrendPoint],
    /// What the audit could not see, and what people should know beside.
    pub(super) notes: &'a [String],
}

impl Audited<'_> {
    /// Findings that the policy does not accept.
    pub(super) fn open(&self) -> impl Iterator<Item = &Judged> {
        self.findings.iter().filter(|judged| !judged.suppressed)
    }

    /// A rule's table holds rows that the last due tick should have taken.
    pub(super) fn is_violated(&self, rule: &RuleStatus) -> bool {
        self.violated.contains(&rule.name)
    }

    pub(super) fn count(&self, severity: Severity) -> usize {
        self.open()
            .filter(|judged| judged.finding.severity == severity)
            .count()
    }

    pub(super) fn suppressed(&self) -> usize {
        self.findings
            .iter()
            .filter(|judged| judged.suppressed)
            .count()
    }
}
