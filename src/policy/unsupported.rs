//! Fields that the schema knows and this version cannot carry out yet. Using one refuses the rule: nothing that somebody
//! wrote is silently ignored. A field's default is not a use.

use crate::api::{PartitionHandling, ReindexMode, RetentionPolicySpec, RetentionRule, VacuumMode};

/// Policy-wide fields in use that this version cannot carry out, as paths below `spec`.
#[must_use]
pub fn in_policy(spec: &RetentionPolicySpec) -> Vec<&'static str> {
    let database = &spec.database;
    let pace = spec.pace.as_ref();
    let optimize = spec.optimize.as_ref();
    used(&[
        (
            "database.maintenanceUrlFrom",
            database.maintenance_url_from.is_some(),
        ),
        (
            "pace.workers",
            pace.is_some_and(|pace| pace.workers.is_some_and(|workers| workers > 1)),
        ),
        (
            "optimize.vacuum: Full",
            optimize.is_some_and(|optimize| optimize.vacuum == Some(VacuumMode::Full)),
        ),
        (
            "optimize.reindex: Auto",
            optimize.is_some_and(|optimize| optimize.reindex == Some(ReindexMode::Auto)),
        ),
    ])
}

/// A rule's fields in use that this version cannot carry out, as paths below the rule.
#[must_use]
pub fn in_rule(rule: &RetentionRule) -> Vec<&'static str> {
    used(&[
        (
            "archive.objectStore",
            rule.archive
                .as_ref()
                .is_some_and(|archive| archive.object_store.is_some()),
        ),
        (
            "partitions: Drop",
            rule.partitions == Some(PartitionHandling::Drop),
        ),
        (
            "partitions: Detach",
            rule.partitions == Some(PartitionHandling::Detach),
        ),
    ])
}

fn used(fields: &[(&'static str, bool)]) -> Vec<&'static str> {
    fields
        .iter()
        .filter(|(_, used)| *used)
        .map(|(field, _)| *field)
        .collect()
}
