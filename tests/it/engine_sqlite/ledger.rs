//! The ledger itself: when it is made, whom it keeps out, and what a chunk writes into it.

use std::fs;
use std::time::Duration;

use retention_operator::engine::ledger::{
    Entry, Ledger, LedgerAccess, LedgerView, OwnHold, Party, SweepBegin, SweepEnd, SweepRecord,
};
use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine};
use retention_operator::policy::claims::{LedgerMode, Wanted};
use retention_operator::policy::plan::RulePlan;
use rstest::rstest;

use super::{Database, filled, finish, open_as, usable};
use crate::support::wait::eventually;

const PAGE: ChunkTarget = ChunkTarget::pages(1);

fn party(policy: &str, sweeper: &str) -> Party {
    Party {
        policy: policy.to_owned(),
        cluster: Some("test".to_owned()),
        sweeper: sweeper.to_owned(),
        living: None,
    }
}

async fn recorded(database: &Database) -> i64 {
    database
        .scalar("SELECT sum(rows_deleted) FROM retention_operator_sweep_rule")
        .await
}

async fn enter(
    ledger: &dyn Ledger,
    policy: &str,
    wanted: &[Wanted],
    holds: &[OwnHold],
) -> LedgerView {
    let rules: Vec<String> = wanted.iter().map(|wanted| wanted.rule.clone()).collect();
    let entry = Entry {
        party: &party(policy, "one"),
        rules: &rules,
        wanted,
        holds: Some(holds),
    };
    ledger.enter(&entry).await.unwrap()
}

fn wants(plan: &RulePlan) -> Wanted {
    Wanted {
        rule: "logs".to_owned(),
        table: plan.table.qualified(),
        parts: plan.table.parts(),
    }
}

fn hold(filter: &str) -> OwnHold {
    OwnHold {
        name: "case".to_owned(),
        table: "logs".to_owned(),
        predicate: Some(filter.to_owned()),
        reason: None,
    }
}

#[rstest]
#[case::existing(LedgerMode::Existing, true)]
#[case::off(LedgerMode::Off, true)]
#[case::auto_but_reading(LedgerMode::Auto, false)]
#[tokio::test]
async fn nothing_is_made_that_was_not_asked_for(#[case] mode: LedgerMode, #[case] create: bool) {
    let database = Database::new(&filled("logs", 10)).await;
    let before = fs::read(&database.path).unwrap();

    let access = database.engine().ledger(mode, create).await.unwrap();

    assert!(matches!(access, LedgerAccess::Absent { note: None }));
    assert_eq!(fs::read(&database.path).unwrap(), before);
}

#[tokio::test]
async fn what_exists_is_used_unless_it_is_off() {
    let database = Database::new(&filled("logs", 10)).await;
    let engine = database.engine();
    usable(&engine).await;

    let existing = engine.ledger(LedgerMode::Existing, false).await.unwrap();
    let off = engine.ledger(LedgerMode::Off, true).await.unwrap();

    assert!(matches!(existing, LedgerAccess::Usable(_)));
    assert!(matches!(off, LedgerAccess::Absent { note: None }));
}

#[tokio::test]
async fn many_that_make_the_ledger_at_once_make_one() {
    let database = Database::new(&filled("logs", 10)).await;
    let makers: Vec<_> = (0..8).map(|_| database.engine()).collect();

    let made = futures::future::join_all(makers.iter().map(usable)).await;

    assert_eq!(made.len(), 8);
    let rows = "SELECT count(*) FROM retention_operator_control";
    assert_eq!(database.scalar(rows).await, 1);
}

#[rstest]
#[case::a_trigger(
    "CREATE TRIGGER t AFTER UPDATE ON retention_operator_lease BEGIN DELETE FROM logs; END",
    "trigger"
)]
#[case::another_table(
    "DROP TABLE retention_operator_control; CREATE TABLE retention_operator_control (one, paused DEFAULT 0, reason, revision)",
    "not the table that the operator makes"
)]
#[case::a_column_more(
    "ALTER TABLE retention_operator_lease ADD COLUMN more DEFAULT 1",
    "not the table that the operator makes"
)]
#[case::a_view(
    "DROP TABLE retention_operator_hold; CREATE VIEW retention_operator_hold AS SELECT 1 AS id",
    "is a view"
)]
#[case::a_part("DROP TABLE retention_operator_hold", "missing")]
#[case::another_version("UPDATE retention_operator_meta SET version = 7", "version 7")]
#[tokio::test]
async fn a_ledger_that_is_not_what_the_operator_makes_is_not_used(
    #[case] change: &str,
    #[case] says: &str,
) {
    let database = Database::new(&filled("logs", 10)).await;
    usable(&database.engine()).await;
    database.execute(change).await;

    for create in [true, false] {
        let access = database
            .engine()
            .ledger(LedgerMode::Auto, create)
            .await
            .unwrap();

        let LedgerAccess::Unusable(why) = access else {
            panic!("{change}");
        };
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test]
async fn without_a_ledger_nothing_is_swept() {
    let database = Database::new(&filled("logs", 10)).await;
    let plan = database.plan("logs").await;

    let error = database.engine().open_sweep(&plan, None).await.map(drop);

    assert!(error.unwrap_err().to_string().contains("ledger: Auto"));
}

#[tokio::test]
async fn each_chunk_counts_itself_and_a_resumed_rule_goes_on_from_there() {
    let database = Database::new(&filled("logs", 40_000)).await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let mut sweep = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    assert_eq!(sweep.recorded(), Some(0));
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    let after_one = recorded(&database).await;
    sweep.delete_next(PAGE).await.unwrap();
    sweep.rollback().await.unwrap();
    let after_rollback = recorded(&database).await;
    drop(sweep);

    let mut sweep = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    let resumed = sweep.recorded();
    finish(&mut *sweep).await.unwrap();
    sweep.close().await;

    assert_eq!((after_one, after_rollback), (5_000, 5_000));
    assert_eq!(resumed, Some(5_000));
    assert_eq!(recorded(&database).await, 20_000);
    let leases = "SELECT count(*) FROM retention_operator_lease";
    assert_eq!(database.scalar(leases).await, 0, "it was given back");
}

#[tokio::test]
async fn a_live_lease_keeps_others_out_and_its_own_sweeper_may_come_back() {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let sweep = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();

    let other = open_as(ledger.as_ref(), &plan, None, "other").await;
    let again = open_as(ledger.as_ref(), &plan, None, "one").await;
    database
        .execute("UPDATE retention_operator_lease SET beat = '2024-01-01T00:00:00.000Z'")
        .await;
    let lapsed = open_as(ledger.as_ref(), &plan, None, "other").await;

    assert_eq!(other.map(drop).unwrap_err().category(), "swept_elsewhere");
    assert!(again.is_ok());
    assert!(lapsed.is_ok());
    drop(sweep);
}

#[rstest]
#[case::before_its_next_chunk(false)]
#[case::after_a_chunk_that_was_rolled_back(true)]
#[tokio::test]
async fn after_a_takeover_the_old_sweepers_next_chunk_deletes_nothing(#[case] began: bool) {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let mut old = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    if began {
        old.delete_next(PAGE).await.unwrap();
        old.rollback().await.unwrap();
    }
    let mut new = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();

    let error = old.delete_next(PAGE).await.unwrap_err();
    old.close().await;

    assert_eq!(error.category(), "swept_elsewhere", "{error}");
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 20_000);
    assert_eq!(finish(&mut *new).await.unwrap().0, 10_000);
    new.close().await;
}

#[tokio::test]
async fn a_takeover_waits_for_the_chunk_that_is_open() {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = WAL; {}",
        filled("logs", 20_000)
    ))
    .await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let mut old = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    old.delete_next(PAGE).await.unwrap();

    let path = fs::canonicalize(&database.path).unwrap();
    let opened = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        files
            .filter(|file| fs::read_link(file.path()).is_ok_and(|it| it == path))
            .count()
    };
    let before = opened();
    let commit = async {
        let what = "the other sweeper to open the file";
        eventually(Duration::from_secs(10), what, async || match opened() {
            now if now > before => Ok(()),
            now => Err(now),
        })
        .await;
        old.commit().await
    };
    let taken = open_as(ledger.as_ref(), &plan, None, "one");
    let (committed, taken) = tokio::join!(commit, taken);

    assert_eq!(committed.unwrap(), CommitOutcome::Committed);
    assert_eq!(taken.unwrap().recorded(), Some(5_000));
}

#[tokio::test]
async fn a_pause_in_the_database_stops_the_next_chunk_and_says_why() {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let mut sweep = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    database
        .execute("UPDATE retention_operator_control SET paused = true, reason = 'month end'")
        .await;

    let error = sweep.delete_next(PAGE).await.unwrap_err();
    let view = ledger.view("shop/logs").await.unwrap();
    database
        .execute("UPDATE retention_operator_control SET paused = 0")
        .await;

    assert_eq!(error.category(), "paused");
    assert!(error.is_transient());
    assert!(error.to_string().contains("month end"), "{error}");
    assert_eq!(view.paused.as_deref(), Some("month end"));
    assert_eq!(finish(&mut *sweep).await.unwrap().0, 5_000);
    sweep.close().await;
}

#[tokio::test]
async fn a_hold_that_is_placed_under_way_ends_the_walk_before_its_next_chunk() {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let mut sweep = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    enter(ledger.as_ref(), "shop/other", &[], &[hold("id > 15000")]).await;

    let error = sweep.delete_next(PAGE).await.unwrap_err();
    sweep.close().await;

    assert_eq!(error.category(), "holds_changed");
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 15_000);
}

#[tokio::test]
async fn a_ledger_that_is_dropped_under_way_ends_the_walk() {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let mut sweep = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    database
        .execute("DROP TABLE retention_operator_control")
        .await;

    let error = sweep.delete_next(PAGE).await.unwrap_err();
    sweep.close().await;

    assert_eq!(error.category(), "ledger", "{error}");
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 20_000);
}

#[tokio::test]
async fn of_two_policies_that_want_a_table_at_once_one_gets_it() {
    let database = Database::new(&filled("logs", 10)).await;
    let wanted = [wants(&database.plan("logs").await)];
    let ledger = usable(&database.engine()).await;

    let (one, other) = tokio::join!(
        enter(ledger.as_ref(), "shop/one", &wanted, &[]),
        enter(ledger.as_ref(), "shop/other", &wanted, &[])
    );

    assert_eq!(one.claims.len().max(other.claims.len()), 1);
    let owners = "SELECT count(*) FROM retention_operator_claim";
    assert_eq!(database.scalar(owners).await, 1);
}

#[tokio::test]
async fn a_claim_and_a_count_outlive_a_rebuild_of_the_file() {
    let database = Database::new(&format!(
        "CREATE TABLE a (x); {} {}",
        filled("logs", 20_000),
        filled("more", 10)
    ))
    .await;
    let before = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    enter(ledger.as_ref(), "shop/one", &[wants(&before)], &[]).await;
    database.execute("DROP TABLE a; VACUUM").await;

    let after = database.plan("logs").await;
    let view = enter(ledger.as_ref(), "shop/other", &[wants(&after)], &[]).await;
    let more = database.plan("more").await;

    assert_eq!(after.table.id, before.table.id);
    assert_ne!(after.table.id, more.table.id);
    assert_eq!(view.claims.len(), 1);
    assert_eq!(view.claims[0].policy, "shop/one");
}

#[tokio::test]
async fn entering_the_same_again_writes_nothing() {
    let database = Database::new(&filled("logs", 10)).await;
    let wanted = [wants(&database.plan("logs").await)];
    let ledger = usable(&database.engine()).await;
    let first = enter(ledger.as_ref(), "shop/one", &wanted, &[hold("id = 1")]).await;
    let before = fs::read(&database.path).unwrap();

    let second = enter(ledger.as_ref(), "shop/one", &wanted, &[hold("id = 1")]).await;

    assert_eq!(first, second);
    assert_eq!(fs::read(&database.path).unwrap(), before);
}

#[tokio::test]
async fn a_hold_that_its_policy_no_longer_has_stays_until_it_is_released() {
    let database = Database::new(&filled("logs", 10)).await;
    let ledger = usable(&database.engine()).await;
    let placed = enter(ledger.as_ref(), "shop/one", &[], &[hold("id = 1")]).await;

    let removed = enter(ledger.as_ref(), "shop/one", &[], &[]).await;
    let id = removed.holds[0].id;
    // Who was asked is told by the sweep that asked.
    let sweep = SweepRecord {
        id: "s1".to_owned(),
        trigger: "Request".to_owned(),
        spec: "mark".to_owned(),
        started: "2026-11-22T03:00:00Z".parse().unwrap(),
        database_time: Some("2026-11-22T03:00:01Z".parse().unwrap()),
        rules: Vec::new(),
    };
    let begin = SweepBegin {
        party: &party("shop/one", "one"),
        sweep: &sweep,
        approved: None,
    };
    ledger.begin_sweep(&begin).await.unwrap();
    let ended = |asked: Vec<i64>, released: Vec<i64>| SweepEnd {
        id: "s1",
        ended: true,
        outcome: "Blocked",
        message: "",
        done: Vec::new(),
        unapproved: Vec::new(),
        released,
        asked,
    };
    ledger
        .end_sweep(&ended(vec![id], Vec::new()))
        .await
        .unwrap();
    let asked = ledger.view("shop/one").await.unwrap();
    ledger
        .end_sweep(&ended(Vec::new(), vec![id]))
        .await
        .unwrap();
    let released = ledger.view("shop/one").await.unwrap();

    assert!(!placed.holds[0].removed);
    assert!(removed.holds[0].removed && removed.revision > placed.revision);
    assert!(asked.holds[0].asked);
    assert_eq!(released.holds, []);
}

#[tokio::test]
async fn what_old_sweeps_took_stays_in_the_totals_when_they_are_forgotten() {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let ledger = usable(&database.engine()).await;
    let sweep = |id: &str| SweepRecord {
        id: id.to_owned(),
        trigger: "Request".to_owned(),
        spec: "mark".to_owned(),
        started: "2026-11-22T03:00:00.123456Z".parse().unwrap(),
        database_time: Some("2026-11-22T03:00:01Z".parse().unwrap()),
        rules: Vec::new(),
    };
    let party = party("shop/logs", "one");
    let (first, second) = (sweep("s1"), sweep("s2"));
    let begin = |sweep| SweepBegin {
        party: &party,
        sweep,
        approved: None,
    };
    ledger.begin_sweep(&begin(&first)).await.unwrap();
    let mut walk = open_as(ledger.as_ref(), &plan, None, "one").await.unwrap();
    finish(&mut *walk).await.unwrap();
    walk.close().await;
    let unfinished = ledger.view("shop/logs").await.unwrap().unfinished.unwrap();
    database
        .execute("UPDATE retention_operator_sweep SET begun_at = '2024-01-01T00:00:00.000Z'")
        .await;

    ledger.begin_sweep(&begin(&second)).await.unwrap();

    assert_eq!(
        (unfinished.id.as_str(), unfinished.started),
        ("s1", first.started)
    );
    assert_eq!(unfinished.rules[0].rows_deleted, 10_000);
    let ids = database
        .texts("SELECT id FROM retention_operator_sweep")
        .await;
    assert_eq!(ids, ["s2"]);
    let totals = ledger.view("shop/logs").await.unwrap().totals;
    assert_eq!(totals.rows_deleted, 10_000);
}
