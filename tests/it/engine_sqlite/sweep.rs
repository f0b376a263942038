use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine};
use retention_operator::policy::encoding::Encoding;
use retention_operator::policy::predicate::Predicate;
use rstest::rstest;

use super::{Database, filled, finish, open};

#[rstest]
#[case::rollback_journal("DELETE")]
#[case::write_ahead_log("WAL")]
#[tokio::test]
async fn a_table_is_walked_once_in_ranges_and_loses_its_expired_rows(#[case] journal: &str) {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = {journal}; {} CREATE INDEX logs_at ON logs (at);",
        filled("logs", 25_000)
    ))
    .await;
    let plan = database.plan("logs").await;

    let swept = database.sweep(&plan).await.unwrap();

    assert_eq!(swept, (12_500, 3));
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 12_500);
    assert_eq!(
        database
            .scalar("SELECT count(*) FROM logs WHERE at < 1704067200")
            .await,
        0
    );
    assert_eq!(
        database
            .engine()
            .count_left(&plan, 12_500)
            .await
            .unwrap()
            .expired,
        0
    );
    database.assert_sound().await;
}

#[tokio::test]
async fn an_empty_table_is_done_at_once() {
    let database = Database::new("CREATE TABLE logs (at)").await;

    let swept = database.sweep(&database.plan("logs").await).await;

    assert_eq!(swept.unwrap(), (0, 0));
}

#[tokio::test]
async fn what_is_open_comes_back_and_is_taken_again() {
    let database = Database::new(&filled("logs", 100)).await;
    let mut sweep = open(&database.engine(), &database.plan("logs").await, None)
        .await
        .unwrap();

    let first = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    sweep.rollback().await.unwrap();
    assert_eq!(first.unwrap().rows, 50);
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 100);
    // A chunk that nobody commits is rolled back by the next one.
    sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();

    assert_eq!(finish(&mut *sweep).await.unwrap(), (50, 1));
    sweep.close().await;
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 50);
}

#[tokio::test]
async fn a_sweep_that_is_dropped_leaves_no_trace() {
    let database = Database::new(&filled("logs", 100)).await;
    let mut sweep = open(&database.engine(), &database.plan("logs").await, None)
        .await
        .unwrap();
    sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();

    drop(sweep);

    crate::support::wait::eventually(
        std::time::Duration::from_secs(5),
        "the lock to be free",
        async || {
            let mut own = database.connect().await;
            sqlx::query("DELETE FROM logs WHERE id = 1")
                .execute(&mut own)
                .await
                .map(drop)
        },
    )
    .await;
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 99);
}

#[tokio::test]
async fn a_new_connection_goes_on_where_the_cursor_stood() {
    let database = Database::new(&filled("logs", 30_000)).await;
    let plan = database.plan("logs").await;
    let engine = database.engine();
    let mut sweep = open(&engine, &plan, None).await.unwrap();
    sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    assert_eq!(sweep.commit().await.unwrap(), CommitOutcome::Committed);
    assert_eq!(sweep.progress().0, 1);
    let cursor = sweep.cursor();
    sweep.close().await;
    // Would be found by a walk from the beginning.
    database
        .execute("INSERT INTO logs VALUES (2, 1, 'x')")
        .await;

    let mut sweep = open(&engine, &plan, cursor).await.unwrap();

    assert_eq!(finish(&mut *sweep).await.unwrap(), (10_000, 2));
    sweep.close().await;
    let left = engine.count_left(&plan, 15_000).await.unwrap();
    assert_eq!(
        left.expired, 1,
        "the count tells what the walk could not see"
    );
}

#[tokio::test]
async fn rows_that_appear_behind_the_walk_are_walked_once_more_and_not_for_ever() {
    let database = Database::new(&filled("logs", 15_000)).await;
    let plan = database.plan("logs").await;
    let mut sweep = open(&database.engine(), &plan, None).await.unwrap();
    let mut chunks = 0;
    while let Some(_chunk) = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap() {
        sweep.commit().await.unwrap();
        chunks += 1;
        assert!(chunks < 10);
        database
            .execute("INSERT INTO logs (at) VALUES (1), (1750000000)")
            .await;
    }
    sweep.close().await;

    // 10,000 and 5,000 rows, then the four that had appeared; those that appeared after them were not there for the walk.
    assert_eq!(chunks, 3);
    assert_eq!(
        database
            .scalar("SELECT count(*) FROM logs WHERE at < 1704067200")
            .await,
        1
    );
}

#[tokio::test]
async fn a_trigger_that_vetoes_keeps_its_rows_and_they_are_not_reported() {
    let database = Database::new(&format!(
        "{} CREATE TRIGGER keep BEFORE DELETE ON logs WHEN old.id % 10 = 0 BEGIN SELECT RAISE(IGNORE); END;",
        filled("logs", 100)
    ))
    .await;
    let plan = database.plan("logs").await;
    assert_eq!(plan.table.delete_triggers, ["keep"]);

    let swept = database.sweep(&plan).await.unwrap();

    assert_eq!(swept, (40, 1));
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 60);
    let left = database.engine().count_left(&plan, 40).await.unwrap();
    assert_eq!(left.expired, 10);
}

#[tokio::test]
async fn a_chunk_of_vetoed_rows_changes_nothing_at_all() {
    let database = Database::new(&format!(
        "{} CREATE TABLE audit (id); CREATE TRIGGER keep BEFORE DELETE ON logs BEGIN INSERT INTO audit VALUES (old.id); SELECT RAISE(IGNORE); END;",
        filled("logs", 100)
    ))
    .await;

    let swept = database.sweep(&database.plan("logs").await).await.unwrap();

    assert_eq!(swept, (0, 1));
    assert_eq!(database.scalar("SELECT count(*) FROM audit").await, 0);
}

#[tokio::test]
async fn a_trigger_that_refuses_stops_the_sweep_with_its_words() {
    let database = Database::new(&format!(
        "{} CREATE TRIGGER keep BEFORE DELETE ON logs WHEN old.id = 50 BEGIN SELECT RAISE(ABORT, 'order 50 is disputed'); END;",
        filled("logs", 100)
    ))
    .await;

    let error = database
        .sweep(&database.plan("logs").await)
        .await
        .unwrap_err();

    assert_eq!(error.category(), "database");
    assert!(
        error.to_string().contains("order 50 is disputed"),
        "{error}"
    );
    assert!(error.to_string().contains("main.logs"), "{error}");
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 100);
}

#[tokio::test]
async fn triggers_of_the_service_fire_as_always() {
    let database = Database::new(&format!(
        "{} CREATE TABLE gone (id); CREATE TRIGGER note AFTER DELETE ON logs BEGIN INSERT INTO gone VALUES (old.id); END;
         CREATE TRIGGER other AFTER INSERT ON logs BEGIN DELETE FROM gone; END;",
        filled("logs", 100)
    ))
    .await;
    let plan = database.plan("logs").await;

    let swept = database.sweep(&plan).await.unwrap();

    assert_eq!(swept, (50, 1));
    assert_eq!(plan.table.delete_triggers, ["note"]);
    assert_eq!(database.scalar("SELECT count(*) FROM gone").await, 50);
}

#[tokio::test]
async fn a_full_text_index_follows() {
    let database = Database::new(&format!(
        "{} CREATE VIRTUAL TABLE words USING fts5 (pad, content = 'logs', content_rowid = 'id');
         INSERT INTO words (words) VALUES ('rebuild');
         CREATE TRIGGER words_delete AFTER DELETE ON logs BEGIN
           INSERT INTO words (words, rowid, pad) VALUES ('delete', old.id, old.pad); END;",
        filled("logs", 100)
    ))
    .await;

    database.sweep(&database.plan("logs").await).await.unwrap();

    assert_eq!(
        database
            .scalar("SELECT count(*) FROM words WHERE words MATCH 'x'")
            .await,
        50
    );
    database
        .execute("INSERT INTO words (words) VALUES ('integrity-check')")
        .await;
}

#[tokio::test]
async fn where_and_holds_bind_the_sweep() {
    let database = Database::new(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at, status TEXT, customer);
         INSERT INTO logs VALUES (1, 1, 'closed', 7), (2, 1, 'open', 7), (3, 1, 'closed', 99), (4, 1, NULL, 7),
                                 (5, 1750000000, 'closed', 7), (6, NULL, 'closed', 7), (7, 1, 'closed', NULL);",
    )
    .await;
    let mut plan = database.plan("logs").await;
    plan.filter = Some(Predicate::parse("status <> 'open'").unwrap());
    plan.holds = vec![Predicate::parse("customer = 99").unwrap()];
    let counted = database.engine().count_expired(&plan).await.unwrap();

    let swept = database.sweep(&plan).await.unwrap();

    assert_eq!((counted.expired, counted.unreadable), (2, Some(0)));
    assert_eq!(swept.0, 2);
    assert_eq!(database.ids("SELECT id FROM logs").await, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn unreadable_values_are_counted_and_stay() {
    let database = Database::new(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at, status TEXT);
         INSERT INTO logs VALUES (1, 1, 'a'), (2, 'soon', 'a'), (3, NULL, 'a'), (4, 0, 'a'), (5, 'soon', 'b'), (6, 1750000000, 'a');",
    )
    .await;
    let mut plan = database.plan("logs").await;
    plan.filter = Some(Predicate::parse("status = 'a'").unwrap());
    // A hold says nothing of what can be read.
    plan.holds = vec![Predicate::parse("id = 4").unwrap()];

    database.sweep(&plan).await.unwrap();
    let counted = database.engine().count_left(&plan, 1).await.unwrap();

    assert_eq!((counted.expired, counted.unreadable), (0, Some(2)));
    assert_eq!(database.ids("SELECT id FROM logs").await, [2, 3, 4, 5, 6]);
}

#[rstest]
#[case::generated("a, at AS (CAST(a AS INTEGER)) STORED", "(a)", "('1'), ('1750000000')")]
#[case::generated_anew("a, at AS (a + 0) VIRTUAL", "(a)", "(1), (1750000000)")]
#[case::not_null_and_checked("at INTEGER NOT NULL CHECK (at > 0)", "(at)", "(1), (1750000000)")]
#[tokio::test]
async fn columns_of_every_make_hold_times(
    #[case] columns: &str,
    #[case] names: &str,
    #[case] values: &str,
) {
    let database = Database::new(&format!(
        "CREATE TABLE logs ({columns}); INSERT INTO logs {names} VALUES {values};"
    ))
    .await;

    let swept = database.sweep(&database.plan("logs").await).await.unwrap();

    assert_eq!(swept.0, 1);
    assert_eq!(database.ids("SELECT at FROM logs").await, [1_750_000_000]);
}

#[tokio::test]
async fn a_strict_table_is_swept() {
    let database = Database::new(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at TEXT) STRICT;
         INSERT INTO logs VALUES (1, '2023-06-01'), (2, '2023-12-31T23:59:59Z'), (3, '2024-01-01'), (4, 'never'), (5, '2023-02-30');",
    )
    .await;
    let mut plan = database.plan("logs").await;
    plan.encoding = Some(Encoding::Iso8601);

    database.sweep(&plan).await.unwrap();

    assert_eq!(database.ids("SELECT id FROM logs").await, [3, 4, 5]);
}

#[tokio::test]
async fn partial_and_expression_indexes_stay_sound() {
    let database = Database::new(&format!(
        "{} CREATE INDEX a ON logs (id) WHERE pad LIKE 'X%'; CREATE INDEX b ON logs (at + 1, lower(pad));
         CREATE UNIQUE INDEX c ON logs (at, id DESC) WHERE at > 500;",
        filled("logs", 1_000)
    ))
    .await;

    database.sweep(&database.plan("logs").await).await.unwrap();

    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 500);
    database.assert_sound().await;
}

/// A chunk locks the whole file.
#[tokio::test]
async fn where_rows_are_dear_chunks_have_fewer_of_them() {
    let database = Database::new(&format!(
        "{} CREATE TRIGGER dear BEFORE DELETE ON logs BEGIN SELECT length(hex(zeroblob(150000))); END",
        filled("logs", 20_000)
    ))
    .await;
    let plan = database.plan("logs").await;

    let (rows, chunks) = database.sweep(&plan).await.unwrap();

    assert_eq!(rows, 10_000);
    // Two pages of the walk.
    assert!(chunks > 8, "{chunks}");
}
