//! SIGKILL of a sweep at random moments while the service writes; a second process beside it; one that is stopped in the middle.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

use super::Database;
use super::offline::{file, with};
use crate::support::operator::{Operator, offline};
use crate::support::process::kills;
use crate::support::wait::eventually;

const ROWS: i64 = 100_000;
/// Four of five rows.
const EXPIRED: i64 = ROWS / 5 * 4;
/// What a rule of ten years takes.
const OLD: &str = "at < unixepoch() - 315576000";

/// `before` is the table as it was; `journal` has each row that the service changed, in the transaction of the change. Rows are slow
/// to delete, the more the larger `slow`: a chunk takes some tenths of a second.
async fn database(journal: &str, slow: u32) -> Database {
    Database::new(&format!(
        "PRAGMA journal_mode = {journal};
         CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER, note TEXT);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {ROWS})
         INSERT INTO logs SELECT n, CASE n % 5 WHEN 0 THEN unixepoch() ELSE 1000 + n END, 'row ' || n FROM n;
         CREATE INDEX logs_at ON logs (at);
         CREATE TABLE before AS SELECT * FROM logs;
         CREATE TABLE journal (seq INTEGER PRIMARY KEY, id INTEGER, at INTEGER, note TEXT);
         CREATE TRIGGER slow BEFORE DELETE ON logs BEGIN SELECT length(hex(zeroblob({slow}))); END"
    ))
    .await
}

/// A rule that deletes, or archives into `attic`.
fn rule(archives: bool) -> Value {
    let mut spec = with(json!({"limits": {"maxPercent": 100}}));
    if archives {
        spec["rules"][0]["action"] = json!("Archive");
        spec["rules"][0]["archive"] = json!({"table": {"name": "attic"}});
    }
    spec["pace"] = json!({"maxDuty": 100});
    spec
}

fn start(database: &Database, policy: &Path) -> Operator {
    let arguments = ["sweep", "-f", policy.to_str().unwrap()];
    Operator::start(&arguments, &[("DATABASE_URL", &database.url())])
}

/// As a service has it that waits for its turn.
async fn service(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(20));
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// Renews old rows and adds new ones until it is told to stop: how many.
async fn work(path: std::path::PathBuf, stop: Arc<AtomicBool>) -> u64 {
    let mut own = service(&path).await;
    let mut changed = 0;
    let mut next = ROWS;
    while !stop.load(Ordering::Relaxed) {
        let id = if fastrand::bool() {
            next += 1;
            next
        } else {
            fastrand::i64(1..=ROWS)
        };
        let change = if id > ROWS {
            "INSERT INTO logs VALUES (?1, 5, 'late') RETURNING *"
        } else {
            "UPDATE logs SET at = unixepoch(), note = 'renewed' WHERE id = ?1 RETURNING *"
        };
        let mut transaction = own.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let rows = sqlx::query(change)
            .bind(id)
            .fetch_all(&mut *transaction)
            .await
            .unwrap();
        for row in &rows {
            sqlx::query("INSERT INTO journal (id, at, note) VALUES (?1, ?2, ?3)")
                .bind(row.get::<i64, _>(0))
                .bind(row.get::<i64, _>(1))
                .bind(row.get::<&str, _>(2))
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        changed += rows.len() as u64;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    own.close().await.unwrap();
    changed
}

/// Rows that are lost, that are in two places or twice in one, and that went although they had not expired: all of them 0.
async fn assert_every_row_once(database: &Database, archives: bool) {
    let mut own = service(&database.path).await;
    let archives = archives && has_attic(&mut own).await;
    let kept = if archives {
        "SELECT id, at, note FROM logs UNION ALL SELECT id, at, note FROM attic".to_owned()
    } else {
        // What was deleted cannot be seen any more: it must have been old.
        format!(
            "SELECT id, at, note FROM logs UNION ALL SELECT id, at, note FROM expected WHERE {OLD} AND id NOT IN (SELECT id FROM logs)"
        )
    };
    let archived = if archives {
        format!(
            "(SELECT count(*) FROM attic WHERE NOT ({OLD})), (SELECT count(*) - count(DISTINCT id) FROM attic)"
        )
    } else {
        "0, 0".to_owned()
    };
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "WITH latest AS (SELECT id, at, note, max(seq) FROM journal GROUP BY id),
         expected AS (
           SELECT id, at, note FROM before WHERE id NOT IN (SELECT id FROM latest) UNION ALL SELECT id, at, note FROM latest),
         now AS ({kept})
         SELECT (SELECT count(*) FROM (SELECT * FROM expected EXCEPT SELECT * FROM now)),
                (SELECT count(*) FROM (SELECT * FROM now EXCEPT SELECT * FROM expected)),
                (SELECT count(*) FROM now) - (SELECT count(*) FROM expected), {archived}"
    )))
    .fetch_one(&mut own)
    .await
    .unwrap();
    let counts: [i64; 5] = std::array::from_fn(|n| row.get(n));
    assert_eq!(
        counts, [0; 5],
        "lost, unknown, too many, archived and not expired, archived twice"
    );
    let sound = sqlx::query("PRAGMA integrity_check")
        .fetch_one(&mut own)
        .await
        .unwrap();
    assert_eq!(sound.get::<&str, _>(0), "ok");
    own.close().await.unwrap();
}

async fn has_attic(own: &mut SqliteConnection) -> bool {
    let there = sqlx::query("SELECT count(*) FROM sqlite_schema WHERE name = 'attic'")
        .fetch_one(own)
        .await
        .unwrap();
    there.get::<i64, _>(0) == 1
}

async fn expired(database: &Database) -> i64 {
    let mut own = service(&database.path).await;
    let sql = format!("SELECT count(*) FROM logs WHERE {OLD} AND note <> 'late'");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut own)
        .await
        .unwrap();
    own.close().await.unwrap();
    row.get(0)
}

/// More old rows, so that there is something left to sweep.
async fn refill(database: &Database, times: i64) {
    let mut own = service(&database.path).await;
    let first = (times + 10) * ROWS;
    let more = format!(
        "BEGIN IMMEDIATE;
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {EXPIRED} / 2)
         INSERT INTO journal (id, at, note) SELECT {first} + n, 1000 + n, 'row ' || n FROM n;
         INSERT INTO logs SELECT id, at, note FROM journal WHERE id > {first}; COMMIT"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(more))
        .execute(&mut own)
        .await
        .unwrap();
    own.close().await.unwrap();
}

/// That of the sweep that works on the table, if there is a ledger.
async fn token(database: &Database) -> Option<String> {
    let mut own = service(&database.path).await;
    let row = sqlx::query("SELECT token FROM retention_operator_lease")
        .fetch_one(&mut own)
        .await;
    own.close().await.unwrap();
    row.ok().map(|row| row.get(0))
}

#[rstest]
#[case::of_an_archive_in_a_rollback_journal(true, "DELETE")]
#[case::of_an_archive_in_a_write_ahead_log(true, "WAL")]
#[case::of_a_delete_in_a_rollback_journal(false, "DELETE")]
#[case::of_a_delete_in_a_write_ahead_log(false, "WAL")]
#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_sweep_is_killed_every_row_is_in_one_place(
    #[case] archives: bool,
    #[case] journal: &str,
) {
    let blows = kills(20);
    // An archive is slow anyhow.
    let database = database(journal, if archives { 1_000 } else { 3_000 }).await;
    let policy = file(rule(archives));
    let stop = Arc::new(AtomicBool::new(false));
    let working = tokio::spawn(work(database.path.clone(), stop.clone()));

    let mut left = Vec::new();
    for blow in 0..blows {
        let before = token(&database).await;
        let mut sweep = start(&database, &policy);
        eventually(Duration::from_secs(60), "the sweep to begin", async || {
            let now = token(&database).await;
            let over = sweep.exited();
            if now != before || over.is_some() {
                Ok(())
            } else {
                Err(sweep.stderr())
            }
        })
        .await;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..200_000))).await;
        sweep.kill9();
        assert_every_row_once(&database, archives).await;
        left.push(expired(&database).await);
        if left.last() < Some(&(EXPIRED / 2)) {
            refill(&database, i64::from(blow)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let changed = working.await.unwrap();
    database.execute("DROP TRIGGER slow").await;
    // Nobody waits until the lease of a process has lapsed that is known to be gone.
    let began = Instant::now();
    let last = offline(
        &database.url(),
        &["sweep", "-f", policy.to_str().unwrap(), "-o", "json"],
    );

    assert_eq!(last.code, Some(0), "{last:?}");
    assert!(began.elapsed() < Duration::from_secs(50), "it waited");
    assert_every_row_once(&database, archives).await;
    assert_eq!(expired(&database).await, 0);
    if archives {
        let report: Value = serde_json::from_str(&last.stdout).unwrap();
        let archived = database.scalar("SELECT count(*) FROM attic").await;
        assert_eq!(report["status"]["totals"]["rowsArchived"], archived);
        let counted = "SELECT sum(rows_archived) FROM retention_operator_sweep_rule";
        assert_eq!(database.scalar(counted).await, archived);
    }
    let midway = left.iter().filter(|left| (1..EXPIRED).contains(*left));
    println!(
        "{blows} blows, {} of them midway; the service changed {changed} rows; left after each: {left:?}",
        midway.clone().count()
    );
    assert!(
        midway.count() > usize::try_from(blows * 3 / 4).unwrap(),
        "{left:?}"
    );
}

#[rstest]
#[case::that_archive(true)]
#[case::that_delete(false)]
#[tokio::test(flavor = "multi_thread")]
async fn of_two_sweeps_of_one_file_the_second_waits_and_each_row_is_taken_once(
    #[case] archives: bool,
) {
    let database = database("WAL", 3_000).await;
    let mut spec = rule(archives);
    // At full speed the second would hardly get to the ledger.
    spec["pace"] = json!({"maxDuty": 30});
    let policy = file(spec);
    let mut first = start(&database, &policy);
    eventually(Duration::from_secs(30), "the first to sweep", async || {
        let left = expired(&database).await;
        if left < EXPIRED {
            Ok(())
        } else {
            Err((left, first.stderr()))
        }
    })
    .await;

    let mut second = start(&database, &policy);
    let ended = first.wait(Duration::from_secs(200));
    let second_ended = second.wait(Duration::from_secs(100));

    let said = second.stderr();
    assert!(said.contains("another sweep works on main.logs"), "{said}");
    assert_eq!(ended.code(), Some(0), "{}", first.stderr());
    assert_eq!(second_ended.code(), Some(0), "{said}");
    assert_every_row_once(&database, archives).await;
    assert_eq!(expired(&database).await, 0);
    let counted = "SELECT sum(rows_deleted) FROM retention_operator_sweep_rule";
    assert_eq!(database.scalar(counted).await, EXPIRED);
}

/// Whether somebody can write at once.
async fn can_write(database: &Database) -> bool {
    let mut own = database.connect().await;
    let done = sqlx::query(
        "INSERT INTO journal (id, at, note) SELECT id, at, note FROM before WHERE id = 5",
    )
    .execute(&mut own)
    .await;
    own.close().await.unwrap();
    done.is_ok()
}

/// What docs/operations.md says about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_stopped_in_mid_chunk_keeps_writers_out_and_killing_it_lets_them_in() {
    let database = database("WAL", 10_000).await;
    // Whoever opens a file in WAL mode first, or closes it last, locks out readers, too.
    let mut reader = service(&database.path).await;
    let mut left = async || -> i64 {
        let row = sqlx::query("SELECT count(*) FROM logs").fetch_one(&mut reader);
        row.await.unwrap().get(0)
    };
    assert_eq!(left().await, ROWS);
    let policy = file(rule(true));
    let mut sweep = start(&database, &policy);
    let mut stopped = false;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..60))).await;
        assert!(
            sweep.exited().is_none(),
            "it was over too soon: {}",
            sweep.stderr()
        );
        sweep.signal("STOP");
        if !can_write(&database).await {
            stopped = true;
            break;
        }
        sweep.signal("CONT");
    }
    assert!(stopped, "it was never stopped in the middle");

    let readable = left().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written_meanwhile = can_write(&database).await;
    sweep.kill9();
    let written = can_write(&database).await;
    let again = offline(&database.url(), &["sweep", "-f", policy.to_str().unwrap()]);

    assert!(readable > 0);
    assert!(!written_meanwhile);
    assert!(written, "the lock went with the process");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_every_row_once(&database, true).await;
}
