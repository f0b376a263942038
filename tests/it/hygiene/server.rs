//! `integer-exhaustion`, `freeze-age`, `old-snapshot` and `slot-holding-wal`: what the server says, and what is made of it.

use std::time::Duration;

use retention_operator::{
    engine::{Engine, postgres::PostgresEngine},
    policy::hygiene::{
        Check, Context, Facts, Finding, Severity,
        facts::{Feed, HolderKind, SnapshotHolder},
        find,
    },
};
use sqlx::{Connection, Executor};

use super::{findings, target};
use crate::support::{
    postgres::{Postgres, TestDatabase},
    wait::eventually,
};

async fn facts(url: &str) -> Facts {
    let engine = PostgresEngine::new(target(url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    engine.close().await;
    facts
}

/// The ids of one check's findings.
fn of(findings: &[Finding], check: Check) -> Vec<&str> {
    findings
        .iter()
        .filter(|finding| finding.check == check)
        .map(|finding| finding.id.as_str())
        .collect()
}

/// One sequence of each kind far along, and of each kind one that is no finding.
const SEQUENCES: &str = "
    CREATE TABLE t (identity int GENERATED ALWAYS AS IDENTITY, serial serial, small smallserial, wide bigserial, code int, fine int GENERATED ALWAYS AS IDENTITY);
    SELECT setval('t_identity_seq', 1600000000), setval('t_serial_seq', 2000000000), setval('t_small_seq', 30000), setval('t_wide_seq', 2000000000);
    -- The application calls nextval: no default mentions it.
    CREATE SEQUENCE code_seq OWNED BY t.code;
    SELECT setval('code_seq', 1700000000);
    CREATE SEQUENCE down_seq INCREMENT -1;
    CREATE TABLE down (id int DEFAULT nextval('down_seq'));
    SELECT setval('down_seq', -1700000000);
    CREATE SEQUENCE cyclic MAXVALUE 1000 CYCLE;
    SELECT setval('cyclic', 999);
    CREATE SEQUENCE lone AS smallint;
    SELECT setval('lone', 32767);
    CREATE SEQUENCE fresh MAXVALUE 2;
    CREATE DOMAIN number AS int;
    CREATE TABLE parent (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text DEFAULT nextval('lone'));
    SELECT setval('parent_id_seq', 2100000000);
    CREATE TABLE child (id bigint PRIMARY KEY, parent_id int REFERENCES parent, far bigint REFERENCES parent);
    CREATE TABLE domained (id number DEFAULT nextval('t_wide_seq'));
    CREATE TABLE measured (id serial, day date) PARTITION BY RANGE (day);
    CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE measured_2 PARTITION OF measured FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    SELECT setval('measured_id_seq', 1900000000);
";

const EXHAUSTED: [&str; 9] = [
    "integer-exhaustion:public.child.parent_id",
    "integer-exhaustion:public.domained.id",
    "integer-exhaustion:public.down.id",
    "integer-exhaustion:public.measured.id",
    "integer-exhaustion:public.parent.label",
    "integer-exhaustion:public.t.code",
    "integer-exhaustion:public.t.identity",
    "integer-exhaustion:public.t.serial",
    "integer-exhaustion:public.t.small",
];

async fn exhausted(database: &TestDatabase) -> Vec<String> {
    database.execute(SEQUENCES).await;
    let findings = findings(&database.url).await;
    let mut ids: Vec<String> = of(&findings, Check::IntegerExhaustion)
        .into_iter()
        .map(ToOwned::to_owned)
        .collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn every_way_to_feed_a_column_is_measured_by_what_ends_first() {
    let database = Postgres::shared().database("sequences").await;

    assert_eq!(exhausted(&database).await, EXHAUSTED);
}

#[tokio::test]
async fn the_newest_major_says_the_same_of_sequences() {
    let Some(newest) = Postgres::newest() else {
        return;
    };
    let database = newest.database("sequences").await;

    assert_eq!(exhausted(&database).await, EXHAUSTED);
}

#[tokio::test]
async fn a_thousand_sequences_are_read_in_batches_that_leave_no_lock_behind() {
    let database = Postgres::shared().database("many_sequences").await;
    database
        .execute("DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE SEQUENCE s%s; SELECT nextval(%L)', i, 's' || i); END LOOP; END $$")
        .await;
    let engine = PostgresEngine::new(target(&database.url)).unwrap();

    let facts = engine.hygiene().await.unwrap();

    let read = facts
        .sequences
        .iter()
        .filter(|sequence| sequence.last == Some(1))
        .count();
    assert_eq!(read, 1_000);
    assert_eq!(facts.unseen, Vec::<String>::new());
    // The engine's session is still there.
    let locks: i64 = database
        .scalar("SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relkind = 'S'")
        .await;
    assert_eq!(locks, 0);
    engine.close().await;
}

#[tokio::test]
async fn a_sequence_that_somebody_alters_is_left_out_and_the_others_are_read() {
    let database = Postgres::shared().database("locked_sequence").await;
    database
        .execute("DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('CREATE SEQUENCE s%s', i); END LOOP; END $$; SELECT setval('s7', 8), setval('s8', 8)")
        .await;
    let mut other = database.connect().await;
    other
        .execute("BEGIN; ALTER SEQUENCE s7 MAXVALUE 10")
        .await
        .unwrap();

    let facts = facts(&database.url).await;

    let last = |name: &str| {
        facts
            .sequences
            .iter()
            .find(|sequence| sequence.name == name)
            .unwrap()
            .last
    };
    assert_eq!((last("s7"), last("s8")), (None, Some(8)));
    assert_eq!(
        facts.unseen,
        ["how far 1 sequences are: somebody had locked them"]
    );
    other.execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_role_that_sees_little_gets_an_answer_that_says_what_it_lacks() {
    let database = Postgres::shared().database("little").await;
    database
        .execute("CREATE TABLE t (id serial); SELECT setval('t_id_seq', 2000000000)")
        .await;
    let nobody = database.role("nobody", "secret", "").await;
    let monitor = database
        .role("monitor", "secret", "GRANT pg_monitor TO {role}")
        .await;
    let reader = database
        .role(
            "reader",
            "secret",
            "GRANT SELECT ON SEQUENCE t_id_seq TO {role}",
        )
        .await;

    let by_nobody = facts(&nobody.url).await;
    let by_monitor = facts(&monitor.url).await;
    let by_reader = find(&facts(&reader.url).await, &Context::default());

    let sequences = "how far 1 sequences are: grant SELECT on them, or pg_read_all_data";
    let sessions = "since when sessions of other roles keep their transactions open: grant pg_monitor or pg_read_all_stats";
    let unseen =
        |facts: &Facts, sentence: &str| facts.unseen.iter().any(|unseen| unseen == sentence);
    assert!(
        unseen(&by_nobody, sequences) && unseen(&by_nobody, sessions),
        "{:?}",
        by_nobody.unseen
    );
    assert!(
        unseen(&by_monitor, sequences) && !unseen(&by_monitor, sessions),
        "{:?}",
        by_monitor.unseen
    );
    assert_eq!(
        of(&by_reader, Check::IntegerExhaustion),
        ["integer-exhaustion:public.t.id"]
    );
    assert!(
        by_nobody
            .freeze
            .is_some_and(|freeze| !freeze.tables.is_empty())
    );
}

#[tokio::test]
async fn a_server_function_that_was_taken_away_leaves_the_rest_of_the_audit() {
    let server = Postgres::start_own(&[("autovacuum", "off")]);
    let database = server.database("revoked").await;
    database
        .execute("CREATE TABLE t (id serial); REVOKE EXECUTE ON FUNCTION pg_get_replication_slots() FROM PUBLIC; REVOKE SELECT ON pg_prepared_xacts FROM PUBLIC")
        .await;
    let role = database
        .role(
            "nobody",
            "secret",
            "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        )
        .await;

    let facts = facts(&role.url).await;

    assert_eq!(facts.tables.len(), 1);
    assert!(
        facts
            .unseen
            .iter()
            .any(|unseen| unseen.starts_with("who holds old snapshots: permission denied")),
        "{:?}",
        facts.unseen
    );
}

#[tokio::test]
async fn ages_are_read_with_toast_counted_as_its_owner() {
    let database = Postgres::shared().database("ages").await;
    database.execute("CREATE TABLE t (id int, body text)").await;

    let facts = facts(&database.url).await;

    let freeze = facts.freeze.as_ref().unwrap();
    assert_eq!(
        (freeze.max_age, freeze.multixact_max_age),
        (200_000_000, 400_000_000)
    );
    assert_eq!(
        freeze
            .databases
            .iter()
            .filter(|database| database.own)
            .count(),
        1
    );
    assert!(
        freeze.tables.len() == 21 && freeze.tables.iter().all(|table| table.schema != "pg_toast")
    );
    assert_eq!(
        of(&find(&facts, &Context::default()), Check::FreezeAge),
        Vec::<&str>::new()
    );
}

#[tokio::test]
async fn a_table_that_was_not_frozen_for_long_is_found() {
    // The ids go on by so much at once, as after months of writes.
    let server = Postgres::start_own(&[
        ("autovacuum", "off"),
        ("autovacuum_freeze_max_age", "100000"),
        ("autovacuum_multixact_freeze_max_age", "10000"),
    ]);
    let database = server.database("frozen").await;
    database
        .execute("CREATE TABLE old (id int, body text); CREATE TABLE fresh (id int)")
        .await;
    // Past its limit autovacuum starts also where it is switched off: it waits for this lock.
    let mut holder = database.connect().await;
    holder
        .execute("BEGIN; LOCK TABLE old IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut connection = database.connect().await;
    // One transaction id for each block with an exception handler that writes.
    for _ in 0..13 {
        connection
            .execute("DO $$ BEGIN FOR i IN 1..10000 LOOP BEGIN PERFORM txid_current(); INSERT INTO fresh VALUES (i); EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; END $$")
            .await
            .unwrap();
    }
    connection.execute("VACUUM (FREEZE) fresh").await.unwrap();

    let findings = findings(&database.url).await;

    let ids = of(&findings, Check::FreezeAge);
    assert_eq!(ids, ["freeze-age:public.old"], "{findings:?}");
}

fn sessions(facts: &Facts) -> Vec<&SnapshotHolder> {
    facts
        .snapshots
        .iter()
        .filter(|holder| matches!(&holder.kind, HolderKind::Session { .. }))
        .collect()
}

#[tokio::test]
async fn whoever_holds_a_snapshot_is_seen_and_whoever_is_merely_idle_is_not() {
    let database = Postgres::shared().database("snapshots").await;
    database.execute("CREATE TABLE t (id int)").await;
    let mut connection = database.connect().await;
    connection
        .execute("SET application_name = 'report'")
        .await
        .unwrap();
    connection.execute("BEGIN; SELECT FROM t").await.unwrap();
    assert!(
        sessions(&facts(&database.url).await).is_empty(),
        "an idle READ COMMITTED transaction keeps nothing"
    );
    connection
        .execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM t")
        .await
        .unwrap();

    let seen = facts(&database.url).await;

    let [holder] = *sessions(&seen) else {
        panic!("{:?}", seen.snapshots);
    };
    assert!(
        matches!(
            holder.kind,
            HolderKind::Session {
                idle: true,
                began: Some(_),
                ..
            }
        ),
        "{holder:?}"
    );
    // A young one is no finding; a day later it is.
    assert_eq!(
        of(&find(&seen, &Context::default()), Check::OldSnapshot),
        Vec::<&str>::new()
    );
    let mut later = seen.clone();
    later.now = later
        .now
        .map(|now| now + jiff::SignedDuration::from_hours(24));
    let findings = find(&later, &Context::default());
    assert_eq!(
        of(&findings, Check::OldSnapshot),
        ["old-snapshot:session.postgres"]
    );
    // What it says to run ends that session, and no other.
    let apply = findings
        .iter()
        .find(|finding| finding.check == Check::OldSnapshot)
        .unwrap()
        .advice
        .apply
        .clone()
        .unwrap();
    database.execute(&apply).await;
    eventually(Duration::from_secs(10), "the session is gone", async || {
        connection
            .ping()
            .await
            .is_err()
            .then_some(())
            .ok_or("it answers")
    })
    .await;
}

#[tokio::test]
async fn a_prepared_transaction_is_seen_by_its_owner_and_age() {
    let server = Postgres::start_own(&[("autovacuum", "off"), ("max_prepared_transactions", "2")]);
    let database = server.database("prepared").await;
    database.execute("CREATE TABLE t (id int)").await;
    database
        .execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'order-17'")
        .await;

    let mut seen = facts(&database.url).await;

    seen.now = seen
        .now
        .map(|now| now + jiff::SignedDuration::from_hours(2));
    let findings = find(&seen, &Context::default());
    assert_eq!(
        of(&findings, Check::OldSnapshot),
        ["old-snapshot:prepared.postgres"]
    );
    let elsewhere = facts(&server.database("other").await.url).await;
    assert!(elsewhere.snapshots.is_empty(), "{:?}", elsewhere.snapshots);
}

#[tokio::test]
async fn a_slot_that_nobody_reads_is_found_once_it_keeps_more_than_the_server_would() {
    let server = Postgres::start_own(&[
        ("autovacuum", "off"),
        ("wal_level", "logical"),
        ("max_wal_size", "32MB"),
        ("min_wal_size", "32MB"),
    ]);
    let database = server.database("slots").await;
    database
        .execute("CREATE TABLE t (id int, pad text); SELECT pg_create_physical_replication_slot('replica', true)")
        .await;
    // In a transaction of its own: one that has written makes none.
    database
        .execute("SELECT pg_create_logical_replication_slot('feed', 'test_decoding')")
        .await;
    let before = facts(&database.url).await;
    assert_eq!(
        of(&find(&before, &Context::default()), Check::SlotHoldingWal),
        Vec::<&str>::new()
    );
    assert!(before.snapshots.iter().any(|holder| matches!(&holder.kind, HolderKind::Slot { name, catalog_only: true, active: false, foreign: false } if name == "feed")));

    for _ in 0..6 {
        database.execute("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 12000) n; SELECT pg_switch_wal()").await;
    }
    database.execute("CHECKPOINT").await;

    let after = facts(&database.url).await;
    let findings = find(&after, &Context::default());
    assert_eq!(
        of(&findings, Check::SlotHoldingWal),
        [
            "slot-holding-wal:slot.feed",
            "slot-holding-wal:slot.replica"
        ],
        "{:?}",
        after.slots
    );
    assert!(
        findings[0].evidence.contains("nobody reads from it"),
        "{}",
        findings[0].evidence
    );
    assert_eq!(after.wal.max_wal_bytes, 32 << 20);
    assert_eq!(findings[0].severity, Severity::Warning);
    // In another database the logical one is its owner's business.
    let elsewhere = find(
        &facts(&server.database("other").await.url).await,
        &Context::default(),
    );
    assert_eq!(
        of(&elsewhere, Check::SlotHoldingWal),
        ["slot-holding-wal:slot.replica"]
    );
}

#[tokio::test]
async fn numbers_that_an_application_gives_out_itself_are_known_by_the_statistics() {
    let database = Postgres::shared().database("own_numbers").await;
    database
        .execute(
            "CREATE TABLE orders (number smallint PRIMARY KEY, code smallint, at timestamptz);
             INSERT INTO orders SELECT n, n, now() FROM generate_series(1, 30000) n;
             CREATE TABLE fed (id smallserial PRIMARY KEY); INSERT INTO fed SELECT n FROM generate_series(1, 30000) n;
             CREATE TABLE wide (id bigint PRIMARY KEY); INSERT INTO wide SELECT n FROM generate_series(1, 30000) n;
             CREATE TABLE sparse (id int PRIMARY KEY); INSERT INTO sparse SELECT n * 500000 FROM generate_series(1, 4000) n;
             CREATE TABLE words (name text PRIMARY KEY); INSERT INTO words SELECT n::text FROM generate_series(1, 30000) n;
             CREATE TABLE profile (order_number smallint PRIMARY KEY REFERENCES orders, at timestamptz);
             INSERT INTO profile SELECT n, now() FROM generate_series(1, 30000) n;
             CREATE TABLE parted (number smallint NOT NULL) PARTITION BY RANGE (number);
             CREATE TABLE part PARTITION OF parted (PRIMARY KEY (number)) FOR VALUES FROM (0) TO (32000);
             INSERT INTO parted SELECT n FROM generate_series(1, 30000) n;
             CREATE TABLE kept (number smallint NOT NULL); CREATE TABLE heir (PRIMARY KEY (number)) INHERITS (kept);
             INSERT INTO heir SELECT n FROM generate_series(1, 30000) n;
             CREATE TABLE fresh (number smallint PRIMARY KEY);",
        )
        .await;
    database.execute("ANALYZE").await;
    database
        .execute("INSERT INTO fresh SELECT n FROM generate_series(1, 30000) n")
        .await;

    let facts = facts(&database.url).await;

    let findings = find(&facts, &Context::default());
    assert_eq!(
        of(&findings, Check::IntegerExhaustion),
        ["integer-exhaustion:public.orders.number"]
    );
    let finding = findings
        .iter()
        .find(|finding| finding.check == Check::IntegerExhaustion)
        .unwrap();
    assert_eq!(finding.severity, Severity::Critical);
    assert!(
        finding
            .evidence
            .contains("by the histogram of its statistics of 20"),
        "{}",
        finding.evidence
    );
    database
        .execute(finding.advice.apply.as_ref().unwrap())
        .await;
}

#[tokio::test]
async fn a_slot_beyond_what_it_may_keep_is_about_to_be_lost_and_then_is() {
    let server = Postgres::start_own(&[
        ("autovacuum", "off"),
        ("max_slot_wal_keep_size", "16MB"),
        ("max_wal_size", "1GB"),
        ("checkpoint_timeout", "1h"),
    ]);
    let database = server.database("lost").await;
    database
        .execute("CREATE TABLE t (id int, pad text); SELECT pg_create_physical_replication_slot('replica', true)")
        .await;
    for _ in 0..6 {
        database.execute("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 12000) n; SELECT pg_switch_wal()").await;
    }

    let before = facts(&database.url).await;

    assert_eq!(before.slots[0].wal_status.as_deref(), Some("unreserved"));
    let findings = find(&before, &Context::default());
    let found: Vec<&Finding> = slots_of(&findings);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, "slot-holding-wal:slot.replica");
    assert_eq!(found[0].severity, Severity::Critical);
    assert!(
        found[0].evidence.contains("it may keep 16 MiB"),
        "{}",
        found[0].evidence
    );

    database.execute("CHECKPOINT").await;

    let after = facts(&database.url).await;
    assert_eq!(after.slots[0].wal_status.as_deref(), Some("lost"));
    let findings = find(&after, &Context::default());
    let found = slots_of(&findings);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, Severity::Warning);
    assert!(
        found[0].evidence.contains("what it needs is gone"),
        "{}",
        found[0].evidence
    );
    let apply = found[0].advice.apply.clone().expect("a statement");
    database.execute(&apply).await;
    let dropped = find(&facts(&database.url).await, &Context::default());
    assert!(slots_of(&dropped).is_empty());
}

fn slots_of(findings: &[Finding]) -> Vec<&Finding> {
    findings
        .iter()
        .filter(|finding| finding.check == Check::SlotHoldingWal)
        .collect()
}

#[tokio::test]
async fn a_database_with_nothing_wrong_has_no_finding_of_these() {
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database("clean").await;
        database
            .execute("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO t (at) SELECT now() FROM generate_series(1, 100)")
            .await;

        let facts = facts(&database.url).await;

        assert_eq!(facts.sequences[0].columns[0].by, Feed::Identity);
        let findings = find(&facts, &Context::default());
        for check in [
            Check::IntegerExhaustion,
            Check::FreezeAge,
            Check::OldSnapshot,
            Check::SlotHoldingWal,
        ] {
            assert_eq!(of(&findings, check), Vec::<&str>::new());
        }
        assert_eq!(facts.unseen, Vec::<String>::new());
    }
}
