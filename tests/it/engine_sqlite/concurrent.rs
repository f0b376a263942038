use std::time::{Duration, Instant};

use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine};
use rstest::rstest;
use sqlx::{Connection, Row};

use super::{Database, execute, filled, finish, open};

const PAGE: ChunkTarget = ChunkTarget::pages(1);

#[rstest]
#[case::rollback_journal("DELETE")]
#[case::write_ahead_log("WAL")]
#[tokio::test]
async fn a_writer_is_waited_for_a_moment_and_not_longer(#[case] journal: &str) {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = {journal}; {}",
        filled("logs", 100)
    ))
    .await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    let mut service = database.connect().await;
    execute(
        &mut service,
        "BEGIN IMMEDIATE; UPDATE logs SET pad = 'y' WHERE id = 2",
    )
    .await;

    let began = Instant::now();
    let error = sweep.delete_next(PAGE).await.unwrap_err();
    let waited = began.elapsed();
    execute(&mut service, "COMMIT").await;

    assert_eq!(error.category(), "lock_timeout", "{error}");
    assert!(error.is_transient());
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    assert_eq!(finish(&mut *sweep).await.unwrap(), (50, 1));
    sweep.close().await;
    service.close().await.unwrap();
}

#[tokio::test]
async fn while_a_chunk_is_open_nobody_else_writes_and_afterwards_everybody() {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = WAL; {} {}",
        filled("logs", 100),
        filled("more", 100)
    ))
    .await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    let more = database.plan("more").await;
    let mut other = open(&database.engine(), &more, None).await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();

    let fenced = other.delete_next(PAGE).await.unwrap_err();
    sweep.commit().await.unwrap();

    assert_eq!(fenced.category(), "lock_timeout");
    assert_eq!(finish(&mut *other).await.unwrap(), (50, 1));
    assert_eq!(finish(&mut *sweep).await.unwrap(), (0, 0));
    sweep.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_reader_that_keeps_a_commit_waiting_gets_its_time() {
    let database = Database::new(&filled("logs", 100)).await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    let mut reader = database.connect().await;
    execute(&mut reader, "BEGIN").await;
    let seen = sqlx::query("SELECT count(*) FROM logs")
        .fetch_one(&mut reader)
        .await
        .unwrap();
    assert_eq!(seen.get::<i64, _>(0), 100);
    let chunk = sweep.delete_next(PAGE).await.unwrap().unwrap();
    assert_eq!(chunk.rows, 50);

    let outcome = sweep.commit().await.unwrap();
    let next = sweep.delete_next(PAGE).await.unwrap_err();
    let mut writer = database.connect().await;
    let written = sqlx::query("BEGIN IMMEDIATE").execute(&mut writer).await;
    writer.close().await.unwrap();
    execute(&mut reader, "COMMIT").await;

    assert_eq!(outcome, CommitOutcome::RolledBack);
    assert_eq!(
        next.category(),
        "lock_timeout",
        "it is not tried again at once"
    );
    assert!(written.is_ok(), "no lock is held meanwhile");
    assert_eq!(finish(&mut *sweep).await.unwrap(), (50, 1));
    sweep.close().await;
    reader.close().await.unwrap();
}

#[tokio::test]
async fn rows_that_are_touched_in_time_stay() {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    database
        .execute("UPDATE logs SET at = 1750000000 WHERE id > 15000")
        .await;

    let (rows, _) = finish(&mut *sweep).await.unwrap();
    sweep.close().await;

    assert_eq!(rows, 2_500);
    assert_eq!(
        database
            .scalar("SELECT count(*) FROM logs WHERE id > 15000")
            .await,
        5_000
    );
}

#[rstest]
#[case::dropped("DROP TABLE logs", "dropped or renamed")]
#[case::renamed("ALTER TABLE logs RENAME TO older", "dropped or renamed")]
#[case::replaced(
    "ALTER TABLE logs RENAME TO older; CREATE TABLE logs (id INTEGER PRIMARY KEY, at TEXT, pad); INSERT INTO logs VALUES (1, 1, 'x')",
    "\"at\" is not what it was"
)]
#[case::column_renamed(
    "ALTER TABLE logs RENAME COLUMN at TO then_",
    "\"at\" is not what it was"
)]
#[case::column_dropped("ALTER TABLE logs DROP COLUMN at", "\"at\" is not what it was")]
#[case::a_view_now("DROP TABLE logs; CREATE VIEW logs AS SELECT 1 AS at", "view")]
#[case::other_key(
    "ALTER TABLE logs RENAME TO older; CREATE TABLE logs (id INTEGER, at INTEGER, pad TEXT, PRIMARY KEY (id)) WITHOUT ROWID; INSERT INTO logs VALUES (1, 1, 'x')",
    "the key"
)]
#[case::referred_to("CREATE TABLE child (log REFERENCES logs)", "foreign key")]
#[case::referred_to_by_rows(
    "CREATE TABLE child (log REFERENCES logs); INSERT INTO child VALUES (4)",
    "main.child refers to main.logs"
)]
#[case::trigger(
    "CREATE TRIGGER t BEFORE DELETE ON logs BEGIN SELECT 1; END",
    "a trigger"
)]
#[tokio::test]
async fn a_table_that_changes_its_meaning_stops_the_sweep(
    #[case] change: &str,
    #[case] says: &str,
) {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = sweep.delete_next(PAGE).await.unwrap_err();
    sweep.close().await;

    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[rstest]
#[case::another_table("CREATE TABLE other (a); DROP TABLE other")]
#[case::index("CREATE INDEX logs_at ON logs (at)")]
#[case::column("ALTER TABLE logs ADD COLUMN more TEXT")]
#[case::statistics("ANALYZE")]
#[case::trigger_on_insert("CREATE TRIGGER t AFTER INSERT ON logs BEGIN SELECT 1; END")]
#[tokio::test]
async fn other_changes_do_not_stop_it(#[case] change: &str) {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let (rows, _) = finish(&mut *sweep).await.unwrap();
    sweep.close().await;

    assert_eq!(rows, 5_000);
}

#[tokio::test]
async fn a_rebuilt_file_has_new_row_numbers_and_is_walked_anew() {
    // Without a key of its own VACUUM numbers the rows anew.
    let database = Database::new(&format!(
        "{} CREATE TABLE plain (at, n); INSERT INTO plain SELECT at, id FROM logs; DELETE FROM plain WHERE n <= 9990 AND n % 2 = 1;",
        filled("logs", 20_000)
    ))
    .await;
    let plan = database.plan("plain").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute("VACUUM").await;

    finish(&mut *sweep).await.unwrap();
    sweep.close().await;

    assert_eq!(
        database
            .scalar("SELECT count(*) FROM plain WHERE at < 1704067200")
            .await,
        0
    );
    assert_eq!(database.scalar("SELECT count(*) FROM plain").await, 5_005);
}

#[tokio::test]
async fn a_child_that_gets_rows_during_the_sweep_stops_it_before_they_are_orphans() {
    let database = Database::new(&format!(
        "{} CREATE TABLE child (log REFERENCES logs ON DELETE CASCADE);",
        filled("logs", 20_000)
    ))
    .await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute("INSERT INTO child VALUES (19998)").await;

    let error = sweep.delete_next(PAGE).await.unwrap_err();
    sweep.close().await;

    assert_eq!(error.category(), "dependents", "{error}");
    assert_eq!(database.scalar("SELECT count(*) FROM child").await, 1);
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 15_000);
}

#[tokio::test]
async fn another_file_under_the_same_name_is_not_swept() {
    let database = Database::new(&filled("logs", 20_000)).await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    sweep.delete_next(PAGE).await.unwrap();
    sweep.commit().await.unwrap();
    std::fs::rename(&database.path, database.folder().join("old.db")).unwrap();
    database.execute(&filled("logs", 100)).await;

    let error = sweep.delete_next(PAGE).await.unwrap_err();
    sweep.close().await;

    assert_eq!(error.category(), "table_changed", "{error}");
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 100);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended() {
    let database = Database::new(&filled("logs", 200_000)).await;
    let plan = database.plan("logs").await;
    let mut target = super::target(&database.url());
    target.statement_timeout = Duration::from_millis(1);
    let engine = retention_operator::engine::sqlite::SqliteEngine::new(target).unwrap();
    let mut sweep = open(&engine, &plan, None).await.unwrap();
    // The first chunk is short, and may be done in time.
    let mut error = None;
    for _ in 0..20 {
        match sweep.delete_next(ChunkTarget::pages(100)).await {
            Ok(Some(_)) => drop(sweep.commit().await),
            Ok(None) => break,
            Err(reason) => {
                error = Some(reason);
                break;
            }
        }
    }
    sweep.close().await;

    assert_eq!(error.unwrap().category(), "statement_timeout");
    assert_eq!(
        database.sweep(&plan).await.unwrap().1,
        20,
        "and the walk can go on"
    );
}

#[tokio::test]
async fn a_count_that_nobody_waits_for_ends() {
    let database = Database::new(&filled("logs", 300_000)).await;
    let plan = database.plan("logs").await;
    let engine = database.engine();
    let counting =
        tokio::time::timeout(Duration::from_millis(2), engine.count_expired(&plan)).await;
    assert!(counting.is_err());

    // In this journal mode a reader would keep the commit waiting.
    let began = Instant::now();
    let (rows, _) = database.sweep(&plan).await.unwrap();

    assert_eq!(rows, 150_000);
    assert!(began.elapsed() < Duration::from_secs(30));
}
