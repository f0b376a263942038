//! The service that owns the table, and what must be true of its rows at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Row};

use crate::support::postgres::TestDatabase;

/// Rows at the start; four of ten have expired.
pub const ROWS: i64 = 30_000;

/// `before` is the table as it was; `journal` has the row's state after each change of the service, in the transaction of the
/// change: whatever a crash takes, it takes from both.
pub fn tables() -> String {
    format!(
        "CREATE TABLE logs (id bigint PRIMARY KEY, at timestamptz, note text);
         INSERT INTO logs SELECT n, now() - CASE WHEN n % 10 < 4 THEN interval '31 days' ELSE interval '1 day' END, repeat('row ' || n, 20)
           FROM generate_series(1, {ROWS}) n;
         ANALYZE logs; CREATE TABLE before AS TABLE logs;
         CREATE TABLE journal (seq bigserial PRIMARY KEY, id bigint, at timestamptz, note text, gone boolean, what text)"
    )
}

/// A change of one row, and its entry. `$1`: the row.
const CHANGES: [(&str, &str, bool); 5] = [
    (
        "inserted",
        "INSERT INTO logs VALUES ($1, now(), 'inserted') RETURNING *",
        true,
    ),
    (
        "inserted late",
        "INSERT INTO logs VALUES ($1, now() - interval '40 days', 'late') RETURNING *",
        true,
    ),
    (
        "renewed",
        "UPDATE logs SET at = now(), note = 'renewed' WHERE id = $1 AND at < now() - interval '30 days' RETURNING *",
        false,
    ),
    (
        "changed",
        "UPDATE logs SET note = note || '+' WHERE id = $1 RETURNING *",
        false,
    ),
    (
        "deleted",
        "DELETE FROM logs WHERE id = $1 / 20 * 20 + 1 RETURNING *",
        false,
    ),
];

/// Works until it is told to stop; a server that goes away is waited for.
pub async fn work(database: TestDatabase, stop: Arc<AtomicBool>) {
    let mut session = None;
    let mut next = ROWS;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = session.as_mut() else {
            session = connect(&database).await;
            continue;
        };
        let (what, change, new) = fastrand::choice(&CHANGES).unwrap();
        let id = if *new {
            next += 1;
            next
        } else {
            fastrand::i64(1..=ROWS)
        };
        if change_row(open, what, change, id).await.is_err() {
            session = None;
        }
    }
}

async fn connect(database: &TestDatabase) -> Option<PgConnection> {
    let options: PgConnectOptions = database.url.parse().unwrap();
    let session = options.connect().await.ok();
    if session.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    session
}

async fn change_row(
    session: &mut PgConnection,
    what: &str,
    change: &str,
    id: i64,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "WITH changed AS ({change})
         INSERT INTO journal (id, at, note, gone, what) SELECT id, at, note, $2 = 'deleted', $2 FROM changed"
    );
    let changed = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .bind(what)
        .execute(session)
        .await;
    match changed {
        // It was killed after the row was committed and before the service heard of it.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(()),
        changed => changed.map(drop),
    }
}

/// Whether an archive was made.
pub async fn has_archive(database: &TestDatabase) -> bool {
    database
        .scalar("SELECT to_regclass('attic.logs') IS NOT NULL")
        .await
}

/// At this moment every row is, as the service left it, in the table or in the archive, and in one of them only; in the archive
/// are rows that have expired.
pub async fn assert_every_row_once(database: &TestDatabase) {
    let mut session = database.connect().await;
    let row = sqlx::query(
        "WITH latest AS (SELECT DISTINCT ON (id) id, at, note, gone FROM journal ORDER BY id, seq DESC),
         expected AS (
           SELECT id, at, note FROM before WHERE NOT EXISTS (SELECT FROM latest WHERE latest.id = before.id)
           UNION ALL SELECT id, at, note FROM latest WHERE NOT gone),
         now AS (SELECT id, at, note FROM logs UNION ALL SELECT id, at, note FROM attic.logs)
         SELECT (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE now) d),
                (SELECT count(*) FROM (TABLE now EXCEPT ALL TABLE expected) d),
                (SELECT count(*) - count(DISTINCT id) FROM attic.logs),
                (SELECT count(*) FROM attic.logs WHERE at >= now() - interval '30 days')",
    )
    .fetch_one(&mut session)
    .await
    .unwrap();
    let counts: (i64, i64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(
        counts,
        (0, 0, 0, 0),
        "rows lost, rows too many, archived twice, archived and not expired"
    );
}

/// At this moment the ledger has of every sweep as many rows as the archive has from it.
pub async fn assert_ledger(database: &TestDatabase) {
    let differing: i64 = database
        .scalar(
            "SELECT count(*) FROM
               (SELECT sweep_id, sum(rows_archived)::int8 AS archived, sum(rows_deleted)::int8 AS deleted
                FROM retention_operator.sweep_rule GROUP BY sweep_id) l
             FULL JOIN (SELECT retention_sweep_id AS sweep_id, count(*) AS rows FROM attic.logs GROUP BY 1) a USING (sweep_id)
             WHERE (coalesce(archived, 0), coalesce(deleted, 0)) <> (coalesce(rows, 0), coalesce(rows, 0))",
        )
        .await;
    assert_eq!(differing, 0, "sweeps whose count is not that of their rows");
}

/// Expired rows that are still in the table.
pub async fn expired(database: &TestDatabase) -> i64 {
    database
        .scalar("SELECT count(*) FROM logs WHERE at < now() - interval '30 days'")
        .await
}

/// Asserts that the service did its part, and says what it did.
pub async fn assert_worked(database: &TestDatabase) -> String {
    let least: i64 = database
        .scalar("SELECT min(n)::int8 FROM (SELECT count(*) AS n FROM journal GROUP BY what) c")
        .await;
    let done: String = database
        .scalar("SELECT string_agg(n || ' ' || what, ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM journal GROUP BY what) c")
        .await;
    assert!(least > 2, "{done}");
    done
}
