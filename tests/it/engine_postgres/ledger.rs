//! The ledger itself: when it is made, whom it keeps out, and what a chunk writes into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use retention_operator::engine::ledger::{
    Entry, Ledger, LedgerAccess, OwnHold, Party, RuleRecord, SweepBegin, SweepEnd, SweepEntry,
    SweepRecord,
};
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine, EngineError, TableSweep};
use retention_operator::policy::claims::{LedgerMode, Wanted};
use retention_operator::policy::plan::RulePlan;
use rstest::rstest;
use sqlx::Executor;

use super::{engine, filled, finish, plan};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase};

/// Every object of the database, and what was written to it: what an audit may not change.
const OBJECTS: &str = "\
SELECT string_agg(o, E'\\n' ORDER BY o) FROM (
  SELECT 'class ' || oid || ' ' || relname || ' ' || coalesce(relacl::text, '') FROM pg_class
  UNION ALL SELECT 'schema ' || oid || ' ' || nspname || ' ' || coalesce(nspacl::text, '') FROM pg_namespace
  UNION ALL SELECT 'function ' || oid FROM pg_proc
  UNION ALL SELECT 'role ' || oid FROM pg_authid
  UNION ALL SELECT 'xid ' || pg_snapshot_xmax(pg_current_snapshot())::text) AS objects(o)";

pub(super) async fn usable(engine: &PostgresEngine) -> Arc<dyn Ledger> {
    match engine.ledger(LedgerMode::Auto, true).await.unwrap() {
        LedgerAccess::Usable(ledger) => ledger,
        LedgerAccess::Unusable(why) => panic!("{why}"),
        LedgerAccess::Absent { note } => panic!("{note:?}"),
    }
}

fn party(policy: &str, sweeper: &str) -> Party {
    Party {
        policy: policy.to_owned(),
        cluster: Some("test".to_owned()),
        sweeper: sweeper.to_owned(),
        living: None,
    }
}

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

async fn begin(ledger: &dyn Ledger, id: &str) -> Vec<RuleRecord> {
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

async fn table(rows: u32) -> (TestDatabase, PostgresEngine) {
    let database = Postgres::shared().database("ledger").await;
    database.execute(&filled("t", rows)).await;
    let engine = engine(&database.url);
    (database, engine)
}

async fn opened(
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
#[case::existing(LedgerMode::Existing, true)]
#[case::off(LedgerMode::Off, true)]
#[case::auto_but_reading(LedgerMode::Auto, false)]
#[tokio::test]
async fn nothing_is_made_that_was_not_asked_for(#[case] mode: LedgerMode, #[case] create: bool) {
    let postgres = Postgres::start_own(&[("autovacuum", "off")]);
    let database = postgres.database("untouched").await;
    let engine = engine(&database.url);
    let before: String = database.scalar(OBJECTS).await;

    let access = engine.ledger(mode, create).await.unwrap();

    let after: String = database.scalar(OBJECTS).await;
    assert!(matches!(access, LedgerAccess::Absent { note: None }));
    assert_eq!(before, after, "not even a transaction number was used");
}

#[tokio::test]
async fn what_exists_is_used_unless_it_is_off() {
    let (_database, engine) = table(1).await;
    usable(&engine).await;

    let existing = engine.ledger(LedgerMode::Existing, false).await.unwrap();
    let off = engine.ledger(LedgerMode::Off, true).await.unwrap();

    assert!(matches!(existing, LedgerAccess::Usable(_)));
    assert!(matches!(off, LedgerAccess::Absent { note: None }));
}

#[tokio::test]
async fn many_that_make_the_ledger_at_once_make_one() {
    let (database, _) = table(1).await;

    let makers: Vec<_> = (0..8)
        .map(|_| {
            let engine = engine(&database.url);
            tokio::spawn(async move { usable(&engine).await.view("a/a").await })
        })
        .collect();
    for maker in makers {
        maker.await.unwrap().unwrap();
    }

    let rows: i64 = database
        .scalar("SELECT (SELECT count(*) FROM retention_operator.meta) + (SELECT count(*) FROM retention_operator.control)")
        .await;
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn a_role_that_may_not_make_it_is_told_what_to_run() {
    let (database, _) = table(1).await;
    let role = database.role("plain", "secret", "").await;
    let refused = engine(&role.url)
        .ledger(LedgerMode::Auto, true)
        .await
        .unwrap();
    let LedgerAccess::Absent { note: Some(note) } = refused else {
        panic!("made without the right to");
    };
    assert!(note.contains("GRANT CREATE ON DATABASE"), "{note}");

    // A schema that somebody made for the role is enough.
    database
        .execute(&format!(
            r#"CREATE SCHEMA retention_operator AUTHORIZATION "{}""#,
            role.name
        ))
        .await;
    usable(&engine(&role.url)).await;
}

#[rstest]
#[case::no_right(
    "GRANT CREATE ON DATABASE {database} TO {role}",
    "run: GRANT USAGE ON SCHEMA"
)]
#[case::reading_only(
    "GRANT USAGE ON SCHEMA retention_operator TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA retention_operator TO {role}",
    "can only be read"
)]
#[tokio::test]
async fn a_ledger_of_others_is_not_passed_over(#[case] grants: &str, #[case] says: &str) {
    let (database, owner) = table(1).await;
    usable(&owner).await;
    let grants = grants.replace("{database}", &format!("\"{}\"", database.name));
    let role = database.role("other", "secret", &grants).await;
    let other = engine(&role.url);

    let why = match other.ledger(LedgerMode::Auto, true).await.unwrap() {
        LedgerAccess::Unusable(why) => why,
        LedgerAccess::Usable(ledger) => ledger.writable().unwrap_err(),
        LedgerAccess::Absent { .. } => panic!("passed over"),
    };

    assert!(why.contains(says), "{why}");
}

/// As an operator before the first version would have left it: without one of today's tables.
const AGED: &str =
    "UPDATE retention_operator.meta SET version = 0; DROP TABLE retention_operator.approval";

#[tokio::test]
async fn an_older_ledger_is_brought_up_to_date_for_all_who_use_it() {
    let (database, owner) = table(1).await;
    usable(&owner).await;
    let other = database
        .role(
            "other",
            "secret",
            "GRANT USAGE ON SCHEMA retention_operator TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA retention_operator TO {role}",
        )
        .await;
    let reader = database
        .role(
            "reader",
            "secret",
            "GRANT USAGE ON SCHEMA retention_operator TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA retention_operator TO {role}",
        )
        .await;
    database
        .execute(&format!(
            "{AGED}; INSERT INTO retention_operator.hold (policy, name, table_name, since) VALUES ('a/a', 'case-1', 'public.t', now())"
        ))
        .await;

    let looked = owner.ledger(LedgerMode::Existing, false).await.unwrap();
    let without_rights = engine(&other.url)
        .ledger(LedgerMode::Existing, true)
        .await
        .unwrap();
    let untouched: i32 = database
        .scalar("SELECT version FROM retention_operator.meta")
        .await;
    let brought = owner.ledger(LedgerMode::Existing, true).await.unwrap();

    let why = |access| match access {
        LedgerAccess::Unusable(why) => why,
        _ => panic!("used"),
    };
    let looked = why(looked);
    assert!(looked.contains("of version 0"), "{looked}");
    assert!(looked.contains("brings it up to date"), "{looked}");
    let without_rights = why(without_rights);
    let grant = format!(
        "run: GRANT USAGE, CREATE ON SCHEMA retention_operator TO \"{}\"",
        other.name
    );
    assert!(without_rights.contains(&grant), "{without_rights}");
    assert!(without_rights.len() <= 256, "{without_rights}");
    assert_eq!(untouched, 0);
    let LedgerAccess::Usable(ledger) = brought else {
        panic!("not brought up to date");
    };
    assert_eq!(ledger.view("a/b").await.unwrap().holds.len(), 1);
    let version: i32 = database
        .scalar("SELECT version FROM retention_operator.meta")
        .await;
    assert_eq!(version, 2);
    let used = engine(&other.url)
        .ledger(LedgerMode::Existing, true)
        .await
        .unwrap();
    assert!(matches!(used, LedgerAccess::Usable(ledger) if ledger.writable().is_ok()));
    let read = engine(&reader.url)
        .ledger(LedgerMode::Existing, true)
        .await
        .unwrap();
    assert!(matches!(read, LedgerAccess::Usable(ledger) if ledger.writable().is_err()));
}

#[tokio::test]
async fn a_role_that_may_make_tables_in_the_schema_brings_a_ledger_of_others_up_to_date() {
    let (database, owner) = table(1).await;
    usable(&owner).await;
    let other = database
        .role(
            "other",
            "secret",
            "GRANT USAGE, CREATE ON SCHEMA retention_operator TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA retention_operator TO {role}",
        )
        .await;
    database.execute(AGED).await;

    let many: Vec<_> = (0..4)
        .map(|_| {
            let engine = engine(&other.url);
            tokio::spawn(async move { engine.ledger(LedgerMode::Auto, true).await })
        })
        .collect();
    for one in many {
        let access = one.await.unwrap().unwrap();
        assert!(matches!(access, LedgerAccess::Usable(_)));
    }

    // What it made is its own, and the first owner's to use.
    let owners = owner.ledger(LedgerMode::Existing, true).await.unwrap();
    assert!(matches!(owners, LedgerAccess::Usable(ledger) if ledger.writable().is_ok()));
}

#[rstest]
#[case::newer(
    "UPDATE retention_operator.meta SET version = 99",
    "version 99, newer than this operator"
)]
#[case::of_no_version("DELETE FROM retention_operator.meta", "lacks tables")]
#[case::half("DROP TABLE retention_operator.hold", "lacks tables")]
#[case::default(
    "ALTER TABLE retention_operator.lease ALTER owner SET DEFAULT public.evil()",
    "lease"
)]
#[case::trigger(
    "CREATE TRIGGER t BEFORE INSERT ON retention_operator.claim FOR EACH ROW EXECUTE FUNCTION public.evil_trigger()",
    "claim"
)]
#[case::check(
    "ALTER TABLE retention_operator.sweep ADD CHECK (public.evil() <> '')",
    "sweep"
)]
#[case::view(
    "ALTER TABLE retention_operator.total RENAME TO t; CREATE VIEW retention_operator.total AS SELECT * FROM retention_operator.t",
    "total"
)]
#[case::index("CREATE INDEX ON retention_operator.hold ((lower(name)))", "hold")]
#[case::security(
    "ALTER TABLE retention_operator.hold ENABLE ROW LEVEL SECURITY",
    "hold"
)]
#[tokio::test]
async fn a_ledger_that_is_not_what_the_operator_makes_is_not_used(
    #[case] change: &str,
    #[case] says: &str,
) {
    let (database, engine) = table(1).await;
    usable(&engine).await;
    database
        .execute(
            "CREATE FUNCTION public.evil() RETURNS text LANGUAGE sql AS 'SELECT ''x''';
             CREATE FUNCTION public.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        )
        .await;
    database.execute(change).await;

    let access = engine.ledger(LedgerMode::Existing, true).await.unwrap();

    let LedgerAccess::Unusable(why) = access else {
        panic!("used");
    };
    assert!(why.contains(says), "{why}");
}

#[tokio::test]
async fn the_operators_own_tables_are_no_tables_of_the_service() {
    let (_database, engine) = table(1).await;
    usable(&engine).await;

    let lease = super::facts(&engine, "retention_operator", "lease").await;

    assert!(lease.system);
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
        .delete_next(ChunkTarget { pages: 3 })
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    // Deleted, never committed: the process ends here.
    sweep
        .delete_next(ChunkTarget { pages: 3 })
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
        .delete_next(ChunkTarget { pages: 5 })
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
        .delete_next(ChunkTarget { pages: 3 })
        .await
        .unwrap()
        .unwrap();
    stale.commit().await.unwrap();
    age_the_lease(&database).await;

    let fresh = opened(&usable(&two).await, &plan, "two").await.unwrap();
    let refused = stale
        .delete_next(ChunkTarget { pages: 3 })
        .await
        .unwrap_err();

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
        .delete_next(ChunkTarget { pages: 3 })
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
    let paused = sweep
        .delete_next(ChunkTarget { pages: 3 })
        .await
        .unwrap_err();
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
    let changed = sweep
        .delete_next(ChunkTarget { pages: 3 })
        .await
        .unwrap_err();

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
    let gone = sweep
        .delete_next(ChunkTarget { pages: 3 })
        .await
        .unwrap_err();

    assert_eq!(gone.category(), "ledger", "{gone}");
    assert!(!gone.is_transient());
}

async fn enter(
    ledger: &dyn Ledger,
    policy: &str,
    wanted: &[Wanted],
    holds: Option<&[OwnHold]>,
) -> retention_operator::engine::ledger::LedgerView {
    let rules: Vec<String> = wanted.iter().map(|it| it.rule.clone()).collect();
    let party = party(policy, "one");
    let entry = Entry {
        party: &party,
        rules: &rules,
        wanted,
        holds,
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

#[tokio::test]
async fn of_two_policies_that_want_a_table_at_once_one_gets_it() {
    let (_database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    let wanted = [wants(&plan)];

    let (a, b) = tokio::join!(
        enter(&*ledger, "a/a", &wanted, None),
        enter(&*ledger, "b/b", &wanted, None)
    );

    assert_eq!(a.claims.len().max(b.claims.len()), 1);
    let last = ledger.view("c/c").await.unwrap();
    assert_eq!(last.claims.len(), 1);
    assert_eq!(last.claims[0].parts, plan.table.parts());
}

#[tokio::test]
async fn entering_the_same_again_writes_nothing() {
    let (database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    let wanted = [wants(&plan)];
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: None,
        reason: Some("litigation".to_owned()),
    };
    enter(&*ledger, "a/a", &wanted, Some(std::slice::from_ref(&hold))).await;
    let rows = "SELECT string_agg(x, ' ' ORDER BY x) FROM (
        SELECT ctid::text || xmin::text FROM retention_operator.claim UNION ALL
        SELECT ctid::text || xmin::text FROM retention_operator.hold UNION ALL
        SELECT ctid::text || xmin::text FROM retention_operator.control) AS r(x)";
    let before: String = database.scalar(rows).await;

    enter(&*ledger, "a/a", &wanted, Some(&[hold])).await;

    let after: String = database.scalar(rows).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_hold_that_its_policy_no_longer_has_stays_until_it_is_released() {
    let (_database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: Some("id = 1".to_owned()),
        reason: None,
    };
    enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;

    let unreadable = enter(&*ledger, "a/a", &[], None).await;
    let removed = enter(&*ledger, "a/a", &[], Some(&[])).await;
    let back = enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;
    let changed = OwnHold {
        predicate: Some("id = 2".to_owned()),
        ..hold
    };
    let both = enter(&*ledger, "a/a", &[], Some(&[changed])).await;

    assert!(
        !unreadable.holds[0].removed,
        "what cannot be read is not removed"
    );
    assert!(removed.holds[0].removed);
    assert_eq!((back.holds.len(), back.holds[0].removed), (1, false));
    let states: Vec<bool> = both.holds.iter().map(|hold| hold.removed).collect();
    assert_eq!(states, [true, false], "the old condition is a removed hold");
    let end = SweepEnd {
        id: "s1",
        released: vec![both.holds[0].id, both.holds[1].id],
        ..SweepEnd::default()
    };
    ledger.end_sweep(&end).await.unwrap();
    let left = ledger.view("a/a").await.unwrap().holds;
    assert_eq!(left.len(), 1, "what is not removed cannot be released");
}

#[tokio::test]
async fn that_one_policy_was_asked_about_a_removed_hold_is_no_question_to_another() {
    let (_database, engine) = table(1).await;
    let ledger = usable(&engine).await;
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: None,
        reason: None,
    };
    enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;
    let removed = enter(&*ledger, "a/a", &[], Some(&[])).await;
    begin(&*ledger, "s1").await;
    let end = SweepEnd {
        id: "s1",
        asked: vec![removed.holds[0].id],
        ..SweepEnd::default()
    };
    ledger.end_sweep(&end).await.unwrap();
    ledger.end_sweep(&end).await.unwrap();

    let asked = |policy: &'static str| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.view(policy).await.unwrap().holds[0].asked }
    };

    assert!(asked("shop/orders").await);
    assert!(!asked("b/b").await);
    enter(&*ledger, "a/a", &[], Some(std::slice::from_ref(&hold))).await;
    enter(&*ledger, "a/a", &[], Some(&[])).await;
    assert!(
        !asked("shop/orders").await,
        "it was placed again in between"
    );
}

#[tokio::test]
async fn in_a_copy_of_the_database_holds_bind_and_claims_and_leases_are_nobodys() {
    let (database, engine) = table(100).await;
    let ledger = usable(&engine).await;
    let plan = plan(&engine, "t", "at").await;
    let hold = OwnHold {
        name: "case".to_owned(),
        table: "t".to_owned(),
        predicate: None,
        reason: None,
    };
    enter(&*ledger, "a/a", &[wants(&plan)], Some(&[hold])).await;
    begin(&*ledger, "s1").await;
    let sweep = opened(&ledger, &plan, "one").await.unwrap();
    drop(sweep);
    engine.close().await;
    let copy = format!("{}_copy", database.name);
    let mut maintenance = Postgres::shared()
        .database("maintenance")
        .await
        .connect()
        .await;
    let template = format!(r#"CREATE DATABASE "{copy}" TEMPLATE "{}""#, database.name);
    crate::support::wait::eventually(Duration::from_secs(10), "the copy", async || {
        maintenance
            .execute(sqlx::AssertSqlSafe(template.clone()))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
    let url = database.url.replace(&database.name, &copy);
    let engine = super::engine(&url);
    let copied = usable(&engine).await;

    let looked = copied.view("shop/orders").await.unwrap();
    let entered = enter(&*copied, "b/b", &[wants(&plan)], None).await;

    assert_eq!((looked.claims.len(), looked.holds.len()), (0, 1));
    assert!(looked.unfinished.is_none());
    assert_eq!(entered.claims[0].policy, "b/b");
    assert!(
        opened(&copied, &plan, "two").await.is_ok(),
        "the lease was another database's"
    );
}
