//! Ledgers that an earlier operator made.

use retention_operator::engine::Engine;
use retention_operator::engine::ledger::{LedgerAccess, OwnHold};
use retention_operator::policy::claims::LedgerMode;
use rstest::rstest;

use super::ledger::{table, usable};
use super::resumed::hold;
use super::{engine, filled};
use crate::support::postgres::{Postgres, TestDatabase};

/// What made the first version's ledger, with a policy's removed hold in it.
const FIRST: &str = "
CREATE SCHEMA retention_operator;
CREATE TABLE retention_operator.meta (one boolean PRIMARY KEY, version integer NOT NULL,
  system_identifier text, database_oid bigint NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE retention_operator.control (one boolean PRIMARY KEY, paused boolean NOT NULL, reason text, revision bigint NOT NULL);
CREATE TABLE retention_operator.lease (table_id bigint PRIMARY KEY, table_name text NOT NULL, token text NOT NULL, owner text NOT NULL,
  policy text NOT NULL, life text, beat timestamptz NOT NULL, lapse_seconds integer NOT NULL) WITH (fillfactor = 20);
CREATE TABLE retention_operator.claim (table_id bigint PRIMARY KEY, table_name text NOT NULL, policy text NOT NULL, rule text NOT NULL,
  cluster text, since timestamptz NOT NULL);
CREATE TABLE retention_operator.hold (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, policy text NOT NULL, name text NOT NULL,
  table_name text NOT NULL, predicate text, reason text, cluster text, since timestamptz NOT NULL, removed_at timestamptz, asked_at timestamptz);
CREATE TABLE retention_operator.sweep (id text PRIMARY KEY, policy text NOT NULL, cluster text, trigger text NOT NULL, spec text NOT NULL,
  started_at timestamptz NOT NULL, database_time timestamptz, begun_at timestamptz NOT NULL, ended_at timestamptz, outcome text, message text);
CREATE TABLE retention_operator.sweep_rule (sweep_id text NOT NULL, rule text NOT NULL, table_id bigint NOT NULL, table_name text NOT NULL,
  cutoff text NOT NULL, rows_at_start bigint, rows_total bigint, rows_approved bigint, rows_deleted bigint NOT NULL,
  rows_archived bigint NOT NULL, done boolean NOT NULL, PRIMARY KEY (sweep_id, rule, table_id)) WITH (fillfactor = 50);
CREATE TABLE retention_operator.total (policy text PRIMARY KEY, rows_deleted bigint NOT NULL, rows_archived bigint NOT NULL);
CREATE TABLE retention_operator.approval (plan_hash text NOT NULL, policy text NOT NULL, sweep_id text NOT NULL, at timestamptz NOT NULL,
  rules jsonb NOT NULL, PRIMARY KEY (plan_hash, policy, sweep_id));
CREATE INDEX sweep_policy ON retention_operator.sweep (policy, begun_at);
INSERT INTO retention_operator.meta SELECT true, 1, system_identifier::text, d.oid::int8, clock_timestamp()
  FROM pg_control_system(), pg_database d WHERE d.datname = current_database();
INSERT INTO retention_operator.control VALUES (true, false, NULL, 0);
INSERT INTO retention_operator.hold (policy, name, table_name, since, removed_at, asked_at) VALUES ('shop/holder', 'case', 't', now(), now(), now());";

const USES: &str = "GRANT USAGE ON SCHEMA retention_operator TO {role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA retention_operator TO {role};";

async fn of_the_first_version() -> TestDatabase {
    let database = Postgres::shared().database("aged").await;
    database.execute(&filled("t", 10)).await;
    database.execute(FIRST).await;
    database
}

async fn version(database: &TestDatabase) -> i32 {
    database
        .scalar("SELECT version FROM retention_operator.meta")
        .await
}

/// What it says where it is not used.
fn why(access: LedgerAccess) -> String {
    match access {
        LedgerAccess::Unusable(why) => why,
        LedgerAccess::Usable(_) => panic!("used"),
        LedgerAccess::Absent { .. } => panic!("passed over"),
    }
}

/// The statements after `run: `.
fn to_run(why: &str) -> String {
    let (_, run) = why.split_once("run: ").unwrap_or_else(|| panic!("{why}"));
    run.to_owned()
}

#[tokio::test]
async fn its_owner_brings_it_up_to_date_and_what_it_knew_stays() {
    let database = of_the_first_version().await;
    let user = database.role("user", "secret", USES).await;
    let owner = engine(&database.url);

    let looked = owner.ledger(LedgerMode::Existing, false).await.unwrap();
    let untouched = version(&database).await;
    let brought = owner.ledger(LedgerMode::Existing, true).await.unwrap();

    let looked = why(looked);
    assert!(looked.contains("of version 1"), "{looked}");
    assert!(looked.contains("brings it up to date"), "{looked}");
    assert_eq!((untouched, version(&database).await), (1, 2));
    let LedgerAccess::Usable(ledger) = brought else {
        panic!("not brought up to date");
    };
    let holds = ledger.view("shop/orders").await.unwrap().holds;
    assert!(holds[0].removed && !holds[0].asked, "{holds:?}");
    hold(
        &*ledger,
        &[OwnHold {
            name: "new".to_owned(),
            table: "t".to_owned(),
            predicate: None,
            reason: None,
        }],
    )
    .await;
    let remembered = ledger.remembered("shop/orders", true).await.unwrap();
    assert!(remembered.writable, "{:?}", remembered.note);
    // Whoever used it goes on to, the tables that came later among them.
    let used = engine(&user.url)
        .ledger(LedgerMode::Existing, true)
        .await
        .unwrap();
    let LedgerAccess::Usable(used) = used else {
        panic!("taken away");
    };
    let remembered = used.remembered("shop/orders", false).await.unwrap();
    assert!(remembered.writable, "{:?}", remembered.note);
}

/// A column can be added by the table's owner alone.
#[rstest]
#[case::uses_it("")]
#[case::makes_tables("GRANT CREATE ON SCHEMA retention_operator TO {role};")]
#[tokio::test]
async fn a_role_that_may_not_is_told_the_very_statement(#[case] more: &str) {
    let database = of_the_first_version().await;
    let grants = USES.to_owned() + more;
    let role = database.role("user", "secret", &grants).await;
    let user = engine(&role.url);

    let refused = why(user.ledger(LedgerMode::Auto, true).await.unwrap());
    let untouched = version(&database).await;
    database.execute(&to_run(&refused)).await;
    let used = user.ledger(LedgerMode::Auto, true).await.unwrap();

    assert_eq!(
        to_run(&refused),
        "ALTER TABLE retention_operator.hold ADD COLUMN IF NOT EXISTS asked_by text[]"
    );
    assert!(refused.len() <= 256, "{refused}");
    assert!(matches!(used, LedgerAccess::Usable(ledger) if ledger.writable().is_ok()));
    assert_eq!((untouched, version(&database).await), (1, 2));
}

#[tokio::test]
async fn a_role_that_only_reads_it_is_told_all_that_there_is_to_do() {
    let database = of_the_first_version().await;
    let grants = "GRANT USAGE ON SCHEMA retention_operator TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA retention_operator TO {role}";
    let role = database.role("reader", "secret", grants).await;
    let reader = engine(&role.url);

    let refused = why(reader.ledger(LedgerMode::Existing, true).await.unwrap());
    database.execute(&to_run(&refused)).await;
    let read = reader.ledger(LedgerMode::Existing, true).await.unwrap();

    assert!(
        refused.contains("UPDATE retention_operator.meta"),
        "{refused}"
    );
    assert!(matches!(read, LedgerAccess::Usable(ledger) if ledger.writable().is_err()));
    assert_eq!(version(&database).await, 2);
}

/// Builds in between made the column and did not count it.
#[tokio::test]
async fn one_that_has_the_column_already_needs_nobody_elses_hand() {
    let database = of_the_first_version().await;
    database
        .execute("ALTER TABLE retention_operator.hold ADD asked_by text[]")
        .await;
    let role = database.role("user", "secret", USES).await;

    let used = engine(&role.url)
        .ledger(LedgerMode::Existing, true)
        .await
        .unwrap();

    assert!(matches!(used, LedgerAccess::Usable(_)));
    assert_eq!(version(&database).await, 2);
}

/// Without rights to make the tables for what is kept over time everything else goes on.
#[tokio::test]
async fn a_role_that_cannot_make_the_later_tables_is_told_what_to_run_and_sweeps() {
    let database = of_the_first_version().await;
    engine(&database.url)
        .ledger(LedgerMode::Existing, true)
        .await
        .unwrap();
    let role = database.role("user", "secret", USES).await;
    let user = engine(&role.url);

    let LedgerAccess::Usable(ledger) = user.ledger(LedgerMode::Existing, true).await.unwrap()
    else {
        panic!("not used");
    };
    let remembered = ledger.remembered("shop/orders", true).await.unwrap();
    let note = remembered.note.unwrap();
    database.execute(&to_run(&note)).await;
    let later = ledger.remembered("shop/orders", true).await.unwrap();

    assert!(!remembered.writable);
    assert!(later.writable, "{:?}", later.note);
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
