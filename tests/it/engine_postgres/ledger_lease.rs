//! The lease on a table: whom it keeps out, and what a chunk writes into the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use retention_operator::engine::ledger::{
    Ledger, OwnHold, RuleRecord, SweepBegin, SweepEntry, SweepRecord,
};
use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine, EngineError, TableSweep};
use retention_operator::policy::plan::RulePlan;
use rstest::rstest;

use super::ledger::{party, table, usable};
use super::ledger_book::enter;
use super::{engine, finish, plan};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase};

fn entry(plan: &RulePlan, sweep: &str, sweeper: &str) -> SweepEntry {
    SweepEntry {
        sweep_id: sweep.to_owned(),
        policy: "shop/orders".to_owned(),
        sweeper: sweeper.to_owned(),
        revision: 0,
        rule: RuleRecord {
            rule: plan.rule.clone(),
            table_id: plan.table.id,
            table: plan.table.qualified(),
            cutoff: plan.cutoff.to_string(),
            rows_at_start: Some(10),
            rows_total: None,
            rows_approved: None,
            rows_deleted: 0,
            rows_archived: 0,
            done: false,
        },
    }
}

pub(super) async fn begin(ledger: &dyn Ledger, id: &str) -> Vec<RuleRecord> {
    let sweep = SweepRecord {
        id: id.to_owned(),
        trigger: "Request".to_owned(),
        spec: "mark".to_owned(),
        started: "2026-11-22T03:00:00Z".parse().unwrap(),
        database_time: None,
        rules: Vec::new(),
    };
    let begin = SweepBegin {
        party: &party("shop/orders", "one"),
        sweep: &sweep,
        approved: None,
    };
    ledger.begin_sweep(&begin).await.unwrap()
}

pub(super) async fn opened(
    ledger: &Arc<dyn Ledger>,
    plan: &RulePlan,
    sweeper: &str,
) -> Result<Box<dyn TableSweep>, EngineError> {
    ledger
        .open_sweep(plan, None, &entry(plan, "s1", sweeper))
        .await
}

async fn recorded(database: &TestDatabase) -> i64 {
    database
        .scalar("SELECT sum(rows_deleted)::int8 FROM retention_operator.sweep_rule")
        .await
}

async fn age_the_lease(database: &TestDatabase) {
    database
        .execute("UPDATE retention_operator.lease SET beat = beat - interval '1 hour'")
        .await;
}

#[rstest]
#[case::direct(false)]
#[case::pooled(true)]
#[tokio::test]
async fn each_chunk_counts_itself_and_a_resumed_rule_goes_on_from_there(#[case] pooled: bool) {
    let (database, _) = table(1_000).await;
    let pooler = PgBouncer::start(Postgres::shared(), &[(SUPERUSER, SUPERUSER)]);
    let engine = if pooled {
        engine(&pooler.url(&database.name, SUPERUSER, SUPERUSER))
    } else {
        engine(&database.url)
    };
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    begin(&*ledger, "s1").await;

    let mut sweep = opened(&ledger, &plan, "one").await.unwrap();
    let first = sweep
        .delete_next(ChunkTarget::pages(3))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    // Deleted, never committed: the process ends here.
    sweep
        .delete_next(ChunkTarget::pages(3))
        .await
        .unwrap()
        .unwrap();
    drop(sweep);
    let known = begin(&*ledger, "s1").await;
    let mut resumed = opened(&ledger, &plan, "one").await.unwrap();
    let so_far = resumed.recorded();
    let rest = finish(&mut *resumed, 3).await.unwrap();
    resumed.close().await;

    assert_eq!(known[0].rows_deleted, first.rows);
    assert_eq!(so_far, Some(first.rows));
    assert_eq!(first.rows + rest.rows, 500);
    assert_eq!(recorded(&database).await, 500);
    assert_eq!(
        ledger
            .view("shop/orders")
            .await
            .unwrap()
            .totals
            .rows_deleted,
        500
    );
    let leases: i64 = database
        .scalar("SELECT count(*) FROM retention_operator.lease")
        .await;
    assert_eq!(leases, 0, "it was given back");
}

#[tokio::test]
async fn a_chunk_that_is_rolled_back_is_not_counted() {
    let (database, engine) = table(1_000).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    begin(&*ledger, "s1").await;
    let mut sweep = opened(&ledger, &plan, "one").await.unwrap();

    sweep
        .delete_next(ChunkTarget::pages(5))
        .await
        .unwrap()
        .unwrap();
    sweep.rollback().await.unwrap();
    sweep.close().await;

    assert_eq!(recorded(&database).await, 0);
    assert_eq!(engine.count_expired(&plan).await.unwrap().expired, 500);
}

#[tokio::test]
async fn a_live_lease_keeps_others_out_and_its_own_sweeper_may_come_back() {
    let (_database, engine) = table(100).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    begin(&*ledger, "s1").await;
    let first = opened(&ledger, &plan, "one").await.unwrap();

    let other = opened(&ledger, &plan, "two").await.err().unwrap();
    drop(first);
    let again = opened(&ledger, &plan, "one").await.unwrap();
    again.close().await;
    let after = opened(&ledger, &plan, "two").await;

    assert_eq!(other.category(), "swept_elsewhere");
    assert!(other.is_transient());
    assert!(after.is_ok());
}

#[tokio::test]
async fn after_a_takeover_the_old_sweepers_next_chunk_deletes_nothing() {
    let (database, one) = table(1_000).await;
    let two = engine(&database.url);
    let ledger = usable(&one).await;
    let plan = plan(&one, "t", "at").await;
    begin(&*ledger, "s1").await;
    let mut stale = opened(&ledger, &plan, "one").await.unwrap();
    let before = stale
        .delete_next(ChunkTarget::pages(3))
        .await
        .unwrap()
        .unwrap();
    stale.commit().await.unwrap();
    age_the_lease(&database).await;

    let fresh = opened(&usable(&two).await, &plan, "two").await.unwrap();
    let refused = stale.delete_next(ChunkTarget::pages(3)).await.unwrap_err();

    assert_eq!(refused.category(), "swept_elsewhere");
    assert_eq!(
        one.count_expired(&plan).await.unwrap().expired,
        500 - before.rows
    );
    assert_eq!(
        recorded(&database).await,
        i64::try_from(before.rows).unwrap()
    );
    fresh.close().await;
}

#[rstest]
#[case::direct(false)]
#[case::pooled(true)]
#[tokio::test]
async fn a_takeover_ends_a_chunk_that_nobody_commits(#[case] pooled: bool) {
    let (database, _) = table(1_000).await;
    let pooler = PgBouncer::start(Postgres::shared(), &[(SUPERUSER, SUPERUSER)]);
    let url = if pooled {
        pooler.url(&database.name, SUPERUSER, SUPERUSER)
    } else {
        database.url.clone()
    };
    let (one, two) = (engine(&url), engine(&url));
    let ledger = usable(&one).await;
    let plan = plan(&one, "t", "at").await;
    begin(&*ledger, "s1").await;
    let mut stuck = opened(&ledger, &plan, "one").await.unwrap();
    stuck
        .delete_next(ChunkTarget::pages(3))
        .await
        .unwrap()
        .unwrap();

    // The chunk has renewed its lease and holds the row, so that nobody can feign its age. Whoever has the same name may take
    // over at once, and has to wait for the row like everybody else.
    let started = Instant::now();
    let taken = opened(&usable(&two).await, &plan, "one").await.unwrap();
    let took = started.elapsed();

    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(stuck.commit().await.unwrap(), CommitOutcome::RolledBack);
    assert_eq!(one.count_expired(&plan).await.unwrap().expired, 500);
    taken.close().await;
}

#[tokio::test]
async fn a_pause_in_the_database_stops_the_next_chunk_and_says_why() {
    let (database, engine) = table(1_000).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    begin(&*ledger, "s1").await;
    let mut sweep = opened(&ledger, &plan, "one").await.unwrap();

    database
        .execute("UPDATE retention_operator.control SET paused = true, reason = 'black friday'")
        .await;
    let paused = sweep.delete_next(ChunkTarget::pages(3)).await.unwrap_err();
    let view = ledger.view("shop/orders").await.unwrap();
    database
        .execute("UPDATE retention_operator.control SET paused = false")
        .await;
    let rest = finish(&mut *sweep, 9).await.unwrap();

    assert_eq!(paused.category(), "paused");
    assert!(paused.to_string().contains("black friday"), "{paused}");
    assert_eq!(view.paused.as_deref(), Some("black friday"));
    assert_eq!(rest.rows, 500);
}

#[tokio::test]
async fn a_hold_that_is_placed_under_way_ends_the_walk_before_its_next_chunk() {
    let (_database, engine) = table(1_000).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    begin(&*ledger, "s1").await;
    let mut sweep = opened(&ledger, &plan, "one").await.unwrap();
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: Some("id = 10".to_owned()),
        reason: None,
    };

    enter(&*ledger, "a/a", &[], Some(&[hold])).await;
    let changed = sweep.delete_next(ChunkTarget::pages(3)).await.unwrap_err();

    assert_eq!(changed.category(), "holds_changed");
}

#[tokio::test]
async fn a_ledger_that_is_dropped_under_way_ends_the_walk() {
    let (database, engine) = table(1_000).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    begin(&*ledger, "s1").await;
    let mut sweep = opened(&ledger, &plan, "one").await.unwrap();

    database
        .execute("DROP SCHEMA retention_operator CASCADE")
        .await;
    let gone = sweep.delete_next(ChunkTarget::pages(3)).await.unwrap_err();

    assert_eq!(gone.category(), "ledger", "{gone}");
    assert!(!gone.is_transient());
}
