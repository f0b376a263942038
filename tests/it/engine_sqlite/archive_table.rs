//! Rows that are moved into a table of the same file.

use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine, EngineError};
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::plan::{ArchivePlan, ArchiveState, RulePlan};
use rstest::rstest;

use super::{Database, filled, open};

const PAGE: ChunkTarget = ChunkTarget::pages(1);
const EXPIRED: &str = "SELECT count(*) FROM logs WHERE typeof(at) = 'integer' AND at < 1704067200";

async fn plan(database: &Database, table: &str) -> RulePlan {
    RulePlan {
        archive: Some(ArchivePlan {
            table: table.parse().unwrap(),
            sweep: "20261122T030000Z-it's".to_owned(),
            state: ArchiveState::Unknown,
        }),
        ..database.plan("logs").await
    }
}

/// Rows deleted, archived and passed over.
async fn sweep(database: &Database, plan: &RulePlan) -> Result<(u64, u64, u64), EngineError> {
    let mut sweep = open(&database.engine(), plan, None).await?;
    let mut sum = (0, 0, 0);
    let ended = async {
        while let Some(chunk) = sweep.delete_next(PAGE).await? {
            assert_eq!(sweep.commit().await?, CommitOutcome::Committed);
            sum.0 += chunk.rows;
            sum.1 += chunk.archived_rows;
            sum.2 += chunk.blocked_rows;
        }
        Ok(())
    }
    .await;
    sweep.close().await;
    ended.map(|()| sum)
}

#[tokio::test]
async fn a_missing_table_is_created_and_takes_exactly_the_expired_rows() {
    let database = Database::new(&filled("logs", 30_000)).await;
    database
        .execute("CREATE TABLE before AS SELECT * FROM logs")
        .await;
    let plan = plan(&database, "attic").await;
    let engine = database.engine();

    let creates = engine.check_archive(&plan).await.unwrap().unwrap();
    let looked = database
        .scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'attic'")
        .await;
    let swept = sweep(&database, &plan).await.unwrap();

    assert_eq!(
        creates,
        r#"CREATE TABLE main."attic" ("id" "INTEGER", "at" "INTEGER", "pad" "TEXT", retention_sweep_id TEXT NOT NULL, retention_archived_at TEXT NOT NULL)"#
    );
    assert_eq!(looked, 0, "a look creates nothing");
    assert_eq!(engine.check_archive(&plan).await.unwrap(), None);
    assert_eq!(swept, (15_000, 15_000, 0));
    let differing = "WITH now AS (SELECT * FROM logs UNION ALL SELECT id, at, pad FROM attic)
        SELECT (SELECT count(*) FROM (SELECT * FROM now EXCEPT SELECT * FROM before))
             + (SELECT count(*) FROM (SELECT * FROM before EXCEPT SELECT * FROM now)) + abs((SELECT count(*) FROM now) - 30000)";
    assert_eq!(database.scalar(differing).await, 0);
    let marked = "SELECT count(*) FROM attic WHERE retention_sweep_id = '20261122T030000Z-it''s'
        AND unixepoch(retention_archived_at) BETWEEN unixepoch() - 60 AND unixepoch()";
    assert_eq!(database.scalar(marked).await, 15_000);
    assert_eq!(database.scalar(EXPIRED).await, 0);
    assert_eq!(sweep(&database, &plan).await.unwrap(), (0, 0, 0));
    let counted =
        "SELECT rows_deleted = 15000 AND rows_archived = 15000 FROM retention_operator_sweep_rule";
    assert_eq!(database.scalar(counted).await, 1);
    database.assert_sound().await;
}

#[rstest]
#[case::ordinary("id INTEGER PRIMARY KEY", "")]
#[case::without_rowid("id TEXT PRIMARY KEY", "WITHOUT ROWID")]
#[tokio::test]
async fn every_storage_class_and_value_survives(#[case] key: &str, #[case] options: &str) {
    let database = Database::new(&format!(
        "CREATE TABLE logs ({key}, at, i INTEGER, r REAL, t TEXT COLLATE NOCASE, n NUMERIC, b BLOB, \"odd; type\" \"DECIMAL(10,5) x\",
           \"Odd \"\"Name'\" VARCHAR(5) NOT NULL DEFAULT '', twice AS (i * 2), kept AS (i * 3) STORED) {options};
         INSERT INTO logs (id, at, i, r, t, n, b, \"odd; type\") VALUES
           (1, 1000, 9223372036854775807, 0.1, 'é', '007', x'00ff', '1e3'), (2, 1000, 'no number', 1e999, '', 1e20, '', NULL),
           (3, 1000, NULL, -0.0, CAST(x'ff00' AS TEXT), 'x', 7, 2.50), (4, 1000, 2.5, 'x', 5, NULL, 1.0, x''), (5, 1750000000, 1, 1, 1, 1, 1, 1);
         CREATE TABLE before AS SELECT * FROM logs"
    ))
    .await;
    let plan = plan(&database, "main.attic").await;
    let all = "hex(concat_ws('|', quote(id), quote(i), quote(r), quote(t), quote(n), quote(b), quote(\"odd; type\"), quote(\"Odd \"\"Name'\"), quote(twice), quote(kept)))";
    let of = |table: &str| format!("SELECT {all} FROM {table} WHERE at = 1000 ORDER BY 1");
    let before = database.texts(&of("logs")).await;

    let swept = sweep(&database, &plan).await.unwrap();

    assert_eq!(swept, (4, 4, 0));
    assert_eq!(database.texts(&of("attic")).await, before);
    let types = |table: &str| {
        format!(
            "SELECT name || ' ' || type FROM pragma_table_xinfo('{table}') WHERE name NOT LIKE 'retention%' ORDER BY cid"
        )
    };
    assert_eq!(
        database.texts(&types("attic")).await,
        database.texts(&types("logs")).await
    );
}

#[tokio::test]
async fn a_strict_table_keeps_its_values() {
    let database = Database::new(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER, v ANY) STRICT;
         INSERT INTO logs VALUES (1, 1000, '007'), (2, 1000, 7), (3, 1000, x'07')",
    )
    .await;
    let plan = plan(&database, "attic").await;

    sweep(&database, &plan).await.unwrap();

    let values = database
        .texts("SELECT quote(v) FROM attic ORDER BY id")
        .await;
    assert_eq!(values, ["'007'", "7", "X'07'"]);
}

#[tokio::test]
async fn an_existing_table_needs_the_sources_columns_only_in_any_order() {
    let database = Database::new(&format!(
        "{} CREATE TABLE Attic (pad TEXT, mine INTEGER PRIMARY KEY, extra NOT NULL DEFAULT 7, ID BLOB, more, at NUMERIC, later AS (extra + 1));",
        filled("logs", 100)
    ))
    .await;

    let swept = sweep(&database, &plan(&database, "attic").await)
        .await
        .unwrap();

    let same = "SELECT count(*) FROM attic WHERE id % 2 = 0 AND at = 1000 + id AND pad = 'x' AND extra = 7 AND later = 8";
    assert_eq!((swept.1, database.scalar(same).await), (50, 50));
}

#[rstest]
#[case::column_missing(
    "CREATE TABLE attic (id INTEGER, at INTEGER)",
    r#"run: ALTER TABLE main."attic" ADD COLUMN "pad" "TEXT""#
)]
#[case::two_missing(
    "CREATE TABLE attic (at INTEGER)",
    r#"ADD COLUMN "id" "INTEGER"; ALTER TABLE main."attic" ADD COLUMN "pad" "TEXT""#
)]
#[case::would_change_values(
    "CREATE TABLE attic (id TEXT, at INTEGER, pad TEXT)",
    r#"RENAME COLUMN "id" TO "id_before"; ALTER TABLE main."attic" ADD COLUMN "id" "INTEGER""#
)]
#[case::would_make_fractions(
    "CREATE TABLE attic (id REAL, at INTEGER, pad TEXT)",
    r#"RENAME COLUMN "id""#
)]
#[case::strict(
    "CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT) STRICT",
    r#"RENAME COLUMN "id""#
)]
#[case::generated(
    "CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT AS ('x'))",
    r#"RENAME COLUMN "pad""#
)]
#[case::filled_by_nobody(
    "CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT, who NOT NULL)",
    r#"DROP COLUMN "who""#
)]
#[case::a_view("CREATE VIEW attic AS SELECT * FROM logs", "is a view")]
#[case::virtual_table("CREATE VIRTUAL TABLE attic USING fts5(id, at, pad)", "is a virtual")]
#[case::name_taken("ALTER TABLE logs ADD retention_sweep_id", "retention_sweep_id")]
#[tokio::test]
async fn a_table_that_would_lose_something_is_refused_before_any_row_moves(
    #[case] setup: &str,
    #[case] words: &str,
) {
    let database = Database::new(&format!("{} {setup};", filled("logs", 100))).await;
    let plan = plan(&database, "attic").await;

    let looked = database.engine().check_archive(&plan).await.unwrap_err();
    let swept = sweep(&database, &plan).await.unwrap_err();

    assert_eq!(looked.category(), "archive", "{looked}");
    assert!(looked.to_string().contains(words), "{looked}");
    assert_eq!(swept.to_string(), looked.to_string());
    assert_eq!(database.scalar(EXPIRED).await, 50);
}

#[tokio::test]
async fn the_alter_that_a_refusal_names_makes_the_table_fit() {
    let database = Database::new(&format!(
        "{} CREATE TABLE attic (id TEXT, pad INTEGER);",
        filled("logs", 100)
    ))
    .await;
    let plan = plan(&database, "attic").await;

    let refusal = database
        .engine()
        .check_archive(&plan)
        .await
        .unwrap_err()
        .to_string();
    let (_, alter) = refusal.split_once("run: ").unwrap();
    database.execute(alter).await;

    assert_eq!(sweep(&database, &plan).await.unwrap(), (50, 50, 0));
}

#[tokio::test]
async fn a_null_never_becomes_a_number_of_the_archives_own() {
    let database = Database::new(&format!(
        "{} ALTER TABLE logs ADD n INTEGER; CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT, n INTEGER PRIMARY KEY);",
        filled("logs", 100)
    ))
    .await;
    let plan = plan(&database, "attic").await;

    let refusal = sweep(&database, &plan).await.unwrap_err().to_string();
    let (_, alter) = refusal.split_once("run: ").unwrap();
    database.execute(alter).await;

    assert_eq!(sweep(&database, &plan).await.unwrap(), (50, 50, 0));
    let nulls = "SELECT count(*) FROM attic WHERE n IS NULL";
    assert_eq!(database.scalar(nulls).await, 50);
}

#[rstest]
#[case::itself("Logs", "is the table itself")]
#[case::of_sqlite("sqlite_attic", "name another")]
#[case::of_the_ledger("Retention_Operator_attic", "name another")]
#[case::another_schema("attic.logs", "write logs")]
#[tokio::test]
async fn some_names_take_no_archive(#[case] table: &str, #[case] words: &str) {
    let database = Database::new(&filled("logs", 100)).await;
    let plan = plan(&database, table).await;

    let error = sweep(&database, &plan).await.unwrap_err();

    assert_eq!(error.category(), "archive");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(database.scalar(EXPIRED).await, 50);
}

#[rstest]
#[case::ignored(
    "CREATE TRIGGER lossy BEFORE INSERT ON attic WHEN new.id = 60 BEGIN SELECT RAISE(IGNORE); END",
    "FORM"
)]
#[case::unique("CREATE UNIQUE INDEX one ON attic (id % 50)", "UNIQUE constraint")]
#[case::check(
    "DROP TABLE attic; CREATE TABLE attic (id INTEGER CHECK (id <> 60), at INTEGER, pad TEXT)",
    "CHECK constraint"
)]
#[case::a_trigger_that_fails(
    "CREATE TRIGGER no BEFORE INSERT ON attic WHEN new.id = 60 BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    "not this one"
)]
#[case::would_replace(
    "DROP TABLE attic; CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT UNIQUE ON CONFLICT REPLACE)",
    "UNIQUE constraint"
)]
#[case::would_ignore(
    "DROP TABLE attic; CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT UNIQUE ON CONFLICT IGNORE)",
    "UNIQUE constraint"
)]
#[case::deletes_from_the_source(
    "CREATE TRIGGER eager AFTER INSERT ON attic BEGIN DELETE FROM logs WHERE id = new.id - 1; END",
    "FORM"
)]
#[tokio::test]
async fn an_archive_that_does_not_keep_every_row_stops_the_rule_and_nothing_is_lost(
    #[case] setup: &str,
    #[case] words: &str,
) {
    for dependents in [Dependents::Refuse, Dependents::Skip] {
        let database = Database::new(&format!(
            "{} CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT); {setup};
             CREATE TABLE item (log REFERENCES logs ON DELETE CASCADE);",
            filled("logs", 100)
        ))
        .await;
        let plan = RulePlan {
            dependents,
            ..plan(&database, "attic").await
        };

        let error = sweep(&database, &plan).await.unwrap_err();

        assert_eq!(error.category(), "archive", "{error}");
        let said = error.to_string();
        assert!(words == "FORM" || said.contains(words), "{error}");
        assert!(said.contains("main.attic"), "{error}");
        assert_eq!(database.scalar(EXPIRED).await, 50);
        assert_eq!(database.scalar("SELECT count(*) FROM attic").await, 0);
    }
}

#[rstest]
#[case::of_the_source("ALTER TABLE logs ADD extra TEXT DEFAULT 'worth keeping'")]
#[case::of_the_archive("ALTER TABLE attic DROP pad")]
#[case::archive_swapped(
    "ALTER TABLE attic RENAME TO a; CREATE TABLE attic (id TEXT, at INTEGER, pad TEXT)"
)]
#[case::archive_dropped("DROP TABLE attic")]
#[tokio::test]
async fn a_change_in_the_middle_ends_the_walk_before_a_value_is_lost(#[case] change: &str) {
    let database = Database::new(&format!(
        "{} CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT);",
        filled("logs", 20_000)
    ))
    .await;
    let plan = plan(&database, "attic").await;
    let mut walk = open(&database.engine(), &plan, None).await.unwrap();
    walk.delete_next(PAGE).await.unwrap();
    walk.commit().await.unwrap();
    database.execute(change).await;

    let error = walk.delete_next(PAGE).await.unwrap_err();
    walk.close().await;

    assert_eq!(error.category(), "table_changed", "{error}");
    assert_eq!(database.scalar(EXPIRED).await, 5_000);
}

#[tokio::test]
async fn an_archive_that_is_made_anew_under_way_takes_the_rest() {
    let make = "CREATE TABLE attic (id INTEGER, at INTEGER, pad TEXT)";
    let database = Database::new(&format!("{} {make};", filled("logs", 20_000))).await;
    let plan = plan(&database, "attic").await;
    let mut walk = open(&database.engine(), &plan, None).await.unwrap();
    walk.delete_next(PAGE).await.unwrap();
    walk.commit().await.unwrap();
    database
        .execute(&format!("ALTER TABLE attic RENAME TO first; {make}"))
        .await;

    while walk.delete_next(PAGE).await.unwrap().is_some() {
        walk.commit().await.unwrap();
    }
    walk.close().await;

    for table in ["first", "attic"] {
        let rows = format!("SELECT count(*) FROM {table}");
        assert_eq!(database.scalar(&rows).await, 5_000, "{table}");
    }
}

#[tokio::test]
async fn rows_that_stay_are_not_archived() {
    let database = Database::new(&format!(
        "{} CREATE TABLE items (log REFERENCES logs); INSERT INTO items VALUES (10), (20);
         CREATE TRIGGER keep BEFORE DELETE ON logs WHEN old.id = 30 BEGIN SELECT RAISE(IGNORE); END;",
        filled("logs", 100)
    ))
    .await;
    let plan = RulePlan {
        dependents: Dependents::Skip,
        ..plan(&database, "attic").await
    };

    let swept = sweep(&database, &plan).await.unwrap();

    assert_eq!(swept, (47, 47, 3));
    let both = "SELECT id FROM logs INTERSECT SELECT id FROM attic";
    assert_eq!(database.ids(both).await, [0; 0]);
    assert_eq!(database.scalar("SELECT count(*) FROM attic").await, 47);
}

#[tokio::test]
async fn a_chunk_that_is_rolled_back_leaves_its_rows_where_they_were() {
    let database = Database::new(&filled("logs", 100)).await;
    let plan = plan(&database, "attic").await;
    let mut walk = open(&database.engine(), &plan, None).await.unwrap();
    let chunk = walk.delete_next(PAGE).await.unwrap().unwrap();
    walk.rollback().await.unwrap();
    let archived = database.scalar("SELECT count(*) FROM attic").await;
    let again = walk.delete_next(PAGE).await.unwrap().unwrap();
    walk.commit().await.unwrap();
    walk.close().await;

    assert_eq!(
        (chunk.archived_rows, archived, again.archived_rows),
        (50, 0, 50)
    );
    assert_eq!(database.scalar("SELECT count(*) FROM attic").await, 50);
}
