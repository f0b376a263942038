//! For random tables, rows and rules: what a sweep leaves is what one `DELETE` with the same predicate leaves.
//!
//! The reference is not the engine's own text: the conditions are the generator's, as a person would write them, read by
//! PostgreSQL's own parser. Rows are also put exactly at the cutoff that the sweep took, and a microsecond beside it.

mod generate;

use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use retention_operator::api::RetentionPolicy;
use retention_operator::engine::Chunk;
use retention_operator::policy::check::check;
use retention_operator::sweep::{
    Control, ControlError, RuleEnd, RuleProgress, StopReason, SweepState,
};
use rstest::rstest;
use serde_json::json;
use tokio::sync::Mutex;

use self::generate::World;
use super::run::{Service, sweep};
use super::target::Target;

/// Worlds for each target and run; `CONFORMANCE_WORLDS` states another number.
const WORLDS: u64 = 16;

#[rstest]
#[case(Target::Postgres)]
#[case(Target::PgBouncer)]
#[case(Target::Newest)]
#[tokio::test]
async fn a_sweep_leaves_what_one_delete_leaves(#[case] target: Target) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("CONFORMANCE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let worlds = number("CONFORMANCE_WORLDS").unwrap_or(WORLDS);
    let mut swept = 0;
    for seed in (0..worlds).map(|n| first.wrapping_add(n)) {
        println!("CONFORMANCE_SEED={seed} CONFORMANCE_WORLDS=1 is this world:");
        let Some(rows) = try_world(target, seed).await else {
            return;
        };
        swept += rows;
    }
    assert!(swept > 0 || worlds < 8, "no world had an expired row");
}

/// The rows that were deleted; `None` where the target is not to be had.
async fn try_world(target: Target, seed: u64) -> Option<u64> {
    let world = World::random(&mut Rng::with_seed(seed));
    let place = target.place(false, false, 0).await?;
    println!("{}", world.describe());
    let mut service = Service::begin(&place).await;
    for statement in &world.setup {
        service.run(statement).await;
    }

    let table = format!("\"{}\".t", place.schema.as_deref().unwrap_or_default());
    let mut rule = json!({
        "name": "r", "table": table, "column": "at", "expireAfter": world.age, "action": "Delete",
        "limits": {"maxPercent": 100},
    });
    if let Some(condition) = &world.condition {
        rule["where"] = json!(condition);
    }
    let holds = world.holds.iter().enumerate();
    let holds: Vec<_> = holds
        .map(|(n, hold)| json!({"name": format!("h{n}"), "table": table, "where": hold}))
        .collect();
    let policy: RetentionPolicy = serde_json::from_value(json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "property", "namespace": "conformance"},
        "spec": {
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}},
            "rules": [rule], "holds": holds,
            "pace": {"maxRowsPerSecond": world.chunk_rows},
        },
    }))
    .unwrap();
    let reference = Reference {
        service: Mutex::new(service),
        world: &world,
    };
    let swept = sweep(&place.url, &check(&policy.spec), &reference).await;

    let refused = swept.audited.rules[0].result.as_ref().err();
    assert_eq!(refused, None, "refused");
    let report = &swept.report.unwrap().rules[0];
    let ended = matches!(report.end, RuleEnd::Complete { remaining: 0 });
    assert!(ended, "{report:#?}");
    let mut service = reference.service.into_inner();
    let left = service.rows(&world.rows_of("t")).await;
    let expected = service.rows(&world.rows_of("reference")).await;
    let first_difference = left
        .iter()
        .zip(&expected)
        .find(|(left, expected)| left != expected);
    assert_eq!(left.len(), expected.len(), "first: {first_difference:?}");
    assert_eq!(first_difference, None);
    Some(report.rows_deleted)
}

/// Does on a copy by one statement what the sweep does, as soon as the sweep's cutoff is known.
struct Reference<'a> {
    service: Mutex<Service>,
    world: &'a World,
}

#[async_trait]
impl Control for Reference<'_> {
    fn stop(&self) -> Option<StopReason> {
        None
    }

    async fn rest(&self, _: Duration) {}

    async fn begun(&self, state: &SweepState) -> Result<(), ControlError> {
        // A rule that is refused takes no part.
        let Some(rule) = state.rules.first() else {
            return Ok(());
        };
        let cutoff = rule.cutoff.to_string();
        let mut service = self.service.lock().await;
        for statement in self.world.at_the_cutoff(&cutoff) {
            service.run(&statement).await;
        }
        Ok(())
    }

    async fn record(&self, _: &RuleProgress) -> Result<(), ControlError> {
        Ok(())
    }

    fn advanced(&self, _: &RuleProgress, _: Chunk, _: Duration) {}

    fn waits(&self, _: &RuleProgress, _: &str) {}
}
