use std::fs;
use std::path::Path;
use std::time::SystemTime;

use retention_operator::engine::ledger::LedgerAccess;
use retention_operator::engine::sqlite::SqliteEngine;
use retention_operator::engine::{Engine, EngineError};
use retention_operator::policy::claims::LedgerMode;
use retention_operator::policy::encoding::{Encoding, Storage};
use retention_operator::policy::plan::check_deletable;
use retention_operator::policy::table::{OnDelete, TableKind, TableName};
use rstest::rstest;
use sqlx::Connection;

use super::{CUTOFF, Database, execute, facts, filled, open, plan_of, target, usable};

/// Every file of a folder with its content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>, SystemTime)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // The index of a write-ahead log is memory that readers share, and no part of the database.
            let content = if name.ends_with("-shm") {
                Vec::new()
            } else {
                fs::read(entry.path()).unwrap()
            };
            let modified = if name.ends_with("-shm") {
                SystemTime::UNIX_EPOCH
            } else {
                entry.metadata().unwrap().modified().unwrap()
            };
            (name, content, modified)
        })
        .collect();
    files.sort();
    files
}

async fn look_at_everything(engine: &SqliteEngine) -> Result<(), EngineError> {
    engine.facts().await?;
    let plan = plan_of(facts(engine, "logs").await);
    engine.statistics(&plan).await?;
    engine.check_plan(&plan).await?;
    engine.count_rows(&plan.table).await?;
    engine.count_expired(&plan).await?;
    engine.close().await;
    Ok(())
}

#[rstest]
#[case::rollback_journal("DELETE", "", 1)]
#[case::truncated_journal("TRUNCATE", "", 1)]
#[case::write_ahead_log("WAL", "", 1)]
#[case::read_only_by_the_url("DELETE", "?mode=ro", 1)]
#[case::immutable("WAL", "?immutable=1", 1)]
#[tokio::test]
async fn what_is_only_read_stays_as_it_is_to_the_byte_and_leaves_no_file(
    #[case] journal: &str,
    #[case] parameters: &str,
    #[case] count: usize,
) {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = {journal}; {}",
        filled("logs", 2_000)
    ))
    .await;
    let before = files(database.folder());
    assert_eq!(
        before.iter().filter(|file| file.0 == "shop.db").count(),
        count
    );
    let url = format!("{}{parameters}", database.url());
    let engine = SqliteEngine::new(target(&url)).unwrap();

    look_at_everything(&engine).await.unwrap();

    assert_eq!(files(database.folder()), before);
}

#[tokio::test]
async fn a_database_in_use_is_read_beside_its_write_ahead_log() {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = WAL; {}",
        filled("logs", 100)
    ))
    .await;
    let mut service = database.connect().await;
    execute(&mut service, "INSERT INTO logs VALUES (1000, 1, 'x')").await;
    let before = files(database.folder());
    assert_eq!(before.len(), 3);

    look_at_everything(&database.engine()).await.unwrap();
    let rows = database
        .engine()
        .count_rows(&facts(&database.engine(), "logs").await)
        .await;

    assert_eq!(rows.unwrap(), 101, "what is in the log counts");
    assert_eq!(files(database.folder()), before);
    service.close().await.unwrap();
}

#[tokio::test]
async fn a_log_is_not_passed_over_by_calling_the_file_immutable() {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = WAL; {}",
        filled("logs", 100)
    ))
    .await;
    let mut service = database.connect().await;
    execute(&mut service, "DELETE FROM logs").await;
    let engine = SqliteEngine::new(target(&format!("{}?immutable=1", database.url()))).unwrap();

    let error = engine.facts().await.unwrap_err();

    assert!(
        error.to_string().contains("leave immutable=1 out"),
        "{error}"
    );
    service.close().await.unwrap();
}

#[rstest]
#[case::missing("missing.db", "does not exist")]
#[case::in_a_missing_folder("no/such/folder/x.db", "does not exist")]
#[case::a_folder("", "is no file")]
#[case::no_database("text.db", "is no SQLite database")]
#[tokio::test]
async fn what_is_no_database_is_refused_and_never_created(#[case] name: &str, #[case] says: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.db"), "Dear diary, ".repeat(1_000)).unwrap();
    let path = folder.path().join(name);
    let engine = SqliteEngine::new(target(&format!("sqlite://{}", path.display()))).unwrap();

    let error = engine.facts().await.unwrap_err();

    assert_eq!(error.category(), "target", "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn files_are_used_where_they_are_lent_only() {
    let mut target = target("sqlite:///etc/passwd");
    target.allow_local_files = false;

    let error = SqliteEngine::new(target).unwrap_err();

    assert_eq!(error.category(), "target");
    assert!(error.to_string().contains("does not lend"), "{error}");
}

#[tokio::test]
async fn a_database_is_known_by_its_file() {
    let database = Database::new(&filled("logs", 10)).await;
    database
        .execute("CREATE VIEW v AS SELECT 1; CREATE TABLE b (a INTEGER PRIMARY KEY AUTOINCREMENT)")
        .await;
    let link = database.folder().join("link.db");
    std::os::unix::fs::symlink(&database.path, &link).unwrap();
    let other = Database::new(&filled("logs", 10)).await;

    let facts = database.engine().facts().await.unwrap();
    let linked = SqliteEngine::new(target(&format!("sqlite://{}", link.display())))
        .unwrap()
        .facts()
        .await
        .unwrap();
    let others = other.engine().facts().await.unwrap();

    assert_eq!((facts.engine, facts.name.as_str()), ("SQLite", "shop.db"));
    assert!(facts.version.starts_with("3."), "{}", facts.version);
    assert_eq!(facts.tables, 2);
    assert_eq!(
        facts.size_bytes as u64,
        fs::metadata(&database.path).unwrap().len()
    );
    assert_eq!(facts.identity, linked.identity);
    assert_ne!(facts.identity, others.identity);
    assert!(
        facts
            .now
            .duration_since(jiff::Timestamp::now())
            .abs()
            .as_secs()
            < 5
    );
    assert!(!facts.in_recovery);
    assert_eq!(facts.read_only_by, "ReadOnlyConnection");
}

#[tokio::test]
async fn the_schema_says_what_a_name_is() {
    let database = Database::new(
        "CREATE TABLE Logs (id INTEGER PRIMARY KEY, \"At\" DATETIME, plain, gen AS (id + 1));
         CREATE INDEX a ON Logs (\"At\", id); CREATE INDEX b ON Logs (plain) WHERE id > 1; CREATE INDEX c ON Logs (id + 1);
         CREATE VIEW seen AS SELECT * FROM Logs;
         CREATE VIRTUAL TABLE words USING fts5 (x);
         CREATE TABLE retention_operator_lease (x);
         CREATE TABLE seq (a INTEGER PRIMARY KEY AUTOINCREMENT);",
    )
    .await;
    let engine = database.engine();
    let names: Vec<TableName> = [
        "Logs",
        "logs",
        "main.Logs",
        "temp.Logs",
        "seen",
        "words",
        "words_data",
        "sqlite_sequence",
        "retention_operator_lease",
        "nothing",
    ]
    .iter()
    .map(|name| name.parse().unwrap())
    .collect();

    let found = engine.tables(&names).await.unwrap();

    let kind = |n: usize| found[n].as_ref().map(|table| &table.kind);
    let unsupported = |word: &str| TableKind::Unsupported(word.to_owned());
    let logs = found[0].as_ref().unwrap();
    assert_eq!(logs.qualified(), "main.Logs");
    assert_eq!(logs.kind, TableKind::Ordinary);
    assert!(!logs.system);
    let columns: Vec<_> = logs
        .columns
        .iter()
        .map(|column| {
            (
                column.name.as_str(),
                column.type_name.as_str(),
                column.storage,
            )
        })
        .collect();
    let any = Some(Storage::Any);
    assert_eq!(
        columns,
        [
            ("id", "INTEGER", any),
            ("At", "DATETIME", any),
            ("plain", "of no declared type", any),
            ("gen", "of no declared type", any)
        ]
    );
    assert!(
        logs.columns
            .iter()
            .all(|column| column.time_domain.is_none())
    );
    assert_eq!(logs.leading_index_columns, ["id", "At"]);
    assert_eq!(logs.leaves.len(), 1);
    assert_eq!(found[1], None, "case counts");
    assert_eq!(found[2].as_ref(), Some(logs));
    assert_eq!(found[3], None);
    assert_eq!(kind(4), Some(&unsupported("view")));
    assert_eq!(kind(5), Some(&unsupported("virtual table")));
    assert_eq!(kind(6), Some(&unsupported("part of a virtual table")));
    for system in [7, 8] {
        assert!(
            found[system].as_ref().unwrap().system,
            "{:?}",
            names[system]
        );
    }
    assert_eq!(found[9], None);
}

#[tokio::test]
async fn statistics_are_those_of_the_last_analyze() {
    let database = Database::new(&filled("logs", 25_000)).await;
    let before = facts(&database.engine(), "logs").await;
    database.execute("CREATE INDEX a ON logs (at); CREATE INDEX b ON logs (id) WHERE id < 10; ANALYZE; CREATE TABLE none (at)").await;

    let engine = database.engine();
    let after = facts(&engine, "logs").await;
    let empty = facts(&engine, "none").await;

    assert_eq!((before.rows(), before.leaves[0].pages), (None, 1));
    assert_eq!((after.rows(), after.leaves[0].pages), (Some(25_000.0), 3));
    assert_eq!(empty.rows(), Some(0.0));
    assert_eq!(engine.count_rows(&after).await.unwrap(), 25_000);
    assert_eq!(after.known_bytes(), None);
}

#[rstest]
#[case::restrict("", OnDelete::Restrict)]
#[case::cascade("ON DELETE CASCADE", OnDelete::Cascade)]
#[case::set_null("ON DELETE SET NULL", OnDelete::Set)]
#[case::deferred("DEFERRABLE INITIALLY DEFERRED", OnDelete::Restrict)]
#[tokio::test]
async fn rows_that_others_refer_to_are_refused(#[case] action: &str, #[case] on_delete: OnDelete) {
    // SQLite itself enforces nothing unless a connection asks for it, and compares names without regard to case.
    let database = Database::new(&format!(
        "{} CREATE TABLE child (a, log REFERENCES LOGS {action}); INSERT INTO child VALUES (1, 4), (2, 999);",
        filled("logs", 100)
    ))
    .await;
    let plan = database.plan("logs").await;

    let refusal = check_deletable(&plan).unwrap_err();
    let error = database.sweep(&plan).await.unwrap_err();

    assert_eq!(plan.table.incoming.len(), 1);
    assert_eq!(plan.table.incoming[0].on_delete, on_delete);
    assert!(
        refusal.message.contains("main.child (log"),
        "{}",
        refusal.message
    );
    assert_eq!(error.category(), "dependents");
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 100);
    assert_eq!(database.scalar("SELECT count(log) FROM child").await, 2);
}

#[tokio::test]
async fn an_empty_referrer_and_an_outgoing_key_do_not_matter() {
    let database = Database::new(&format!(
        "{} CREATE TABLE child (a, log REFERENCES logs);
         CREATE TABLE parent (id INTEGER PRIMARY KEY); INSERT INTO parent VALUES (1);
         CREATE TABLE other (at, parent REFERENCES parent); INSERT INTO other VALUES (1, 1);",
        filled("logs", 100)
    ))
    .await;

    let logs = database.sweep(&database.plan("logs").await).await.unwrap();
    let other = database.sweep(&database.plan("other").await).await.unwrap();

    assert_eq!((logs.0, other.0), (50, 1));
}

#[rstest]
#[case::no_such_column("nothing = 1")]
#[case::no_text_in_double_quotes("\"nothing\" = 'x'")]
#[tokio::test]
async fn a_name_that_is_no_column_never_becomes_a_text(#[case] text: &str) {
    let database = Database::new(&filled("logs", 10)).await;
    let mut plan = database.plan("logs").await;
    plan.filter = Some(retention_operator::policy::predicate::Predicate::parse(text).unwrap());

    let checked = database.engine().check_plan(&plan).await.unwrap_err();
    let swept = database.sweep(&plan).await.unwrap_err();

    assert_eq!(checked.category(), "predicate", "{checked}");
    assert!(
        checked
            .to_string()
            .contains("where does not fit table main.logs"),
        "{checked}"
    );
    assert_eq!(swept.category(), "table_changed", "{swept}");
    assert_eq!(database.scalar("SELECT count(*) FROM logs").await, 10);
}

#[tokio::test]
async fn what_an_application_defines_for_itself_is_named() {
    let database = Database::new(&filled("logs", 10)).await;
    // A collation can be named in a schema only where it is known.
    let mut own = database.connect().await;
    own.lock_handle()
        .await
        .unwrap()
        .create_collation("german", |a, b| a.cmp(b))
        .unwrap();
    execute(&mut own, "CREATE TABLE names (at, n TEXT COLLATE german); CREATE INDEX i ON names (n); INSERT INTO names VALUES (1, 'a'), (2, 'b')").await;
    own.close().await.unwrap();

    let error = database
        .sweep(&database.plan("names").await)
        .await
        .unwrap_err();

    assert_eq!(error.category(), "not_supported", "{error}");
    assert!(error.to_string().contains("german"), "{error}");
    assert_eq!(
        database
            .scalar("SELECT count(*) FROM names NOT INDEXED")
            .await,
        2
    );
}

#[tokio::test]
async fn without_an_encoding_nothing_is_guessed() {
    let database = Database::new(&filled("logs", 10)).await;
    let mut plan = database.plan("logs").await;
    plan.encoding = None;

    let counted = database.engine().count_expired(&plan).await.unwrap_err();
    let swept = database.sweep(&plan).await.unwrap_err();

    for error in [counted, swept] {
        assert!(error.to_string().contains("state encoding"), "{error}");
    }
    assert_eq!(plan.cutoff.to_string(), CUTOFF);
    assert_eq!(Encoding::ALL.len(), 7);
}

#[tokio::test]
async fn a_url_that_says_read_only_is_believed() {
    let database = Database::new(&filled("logs", 10)).await;
    let plan = database.plan("logs").await;
    let engine = SqliteEngine::new(target(&format!("{}?mode=ro", database.url()))).unwrap();

    let LedgerAccess::Absent { note } = engine.ledger(LedgerMode::Auto, true).await.unwrap() else {
        panic!("made");
    };
    usable(&database.engine()).await;
    let there = usable(&engine).await;

    assert!(note.unwrap().contains("mode=ro"));
    let error = open(&engine, &plan, None).await.map(drop).unwrap_err();
    assert_eq!(error.category(), "read_only");
    assert!(there.writable().unwrap_err().contains("mode=ro"));
    assert_eq!(engine.count_expired(&plan).await.unwrap().expired, 5);
}
