//! The ledger itself: when it is made, and when one that is there is used.

use std::sync::Arc;

use retention_operator::engine::Engine;
use retention_operator::engine::ledger::{Ledger, LedgerAccess, Party};
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::policy::claims::LedgerMode;
use rstest::rstest;

use super::{engine, filled};
use crate::support::postgres::{Postgres, TestDatabase};

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

pub(super) fn party(policy: &str, sweeper: &str) -> Party {
    Party {
        policy: policy.to_owned(),
        cluster: Some("test".to_owned()),
        sweeper: sweeper.to_owned(),
        living: None,
    }
}

pub(super) async fn table(rows: u32) -> (TestDatabase, PostgresEngine) {
    let database = Postgres::shared().database("ledger").await;
    database.execute(&filled("t", rows)).await;
    let engine = engine(&database.url);
    (database, engine)
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
