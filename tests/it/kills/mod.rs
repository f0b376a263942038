//! Promise 3: SIGKILL of the operator, of PostgreSQL, of one of its processes, or of all at once, at random moments of a sweep
//! that archives into a table while the service writes. No row is lost, and none is archived twice.

mod controller;
mod offline;
mod service;

use serde_json::{Value, json};

use crate::operator::rig::LATER;
use crate::operator::tables::rule;
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::wait::eventually;
use service::ROWS;

/// Rows that have expired at the start.
const EXPIRED: i64 = ROWS * 4 / 10;

/// The walk may be over while so many are left: those that the service moved or inserted behind it.
const HARDLY_ANY: i64 = 500;

/// What is done to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// The operator's process is killed.
    Operator,
    /// All processes of the server are killed.
    Server,
    /// One of the server's processes is killed; it recovers by itself.
    Backend,
    /// The server and the operator are killed.
    Both,
}

impl Blow {
    /// Each of them in turn, so that few blows hold all of them.
    fn number(n: u32) -> Self {
        match n % 4 {
            0 => Self::Operator,
            1 => Self::Server,
            2 => Self::Backend,
            _ => Self::Both,
        }
    }

    fn hits_operator(self) -> bool {
        matches!(self, Self::Operator | Self::Both)
    }

    /// What it does to the server, which accepts connections again afterwards.
    async fn strike(self, postgres: &mut Postgres, database: &TestDatabase) {
        match self {
            Self::Operator => {}
            Self::Server | Self::Both => {
                postgres.kill9();
                postgres.restart();
            }
            Self::Backend => {
                postgres.kill9_one();
                database.answers().await;
            }
        }
    }
}

/// A server on which a commit takes long enough to be hit, and its database with rows that are slow to delete: the walk over
/// those that have expired takes two seconds for each blow.
async fn server(prefix: &str, blows: u32) -> (Postgres, TestDatabase) {
    let postgres = Postgres::start_own(&[
        ("autovacuum", "off"),
        // A killed process may leave a page half written.
        ("full_page_writes", "on"),
        // Only where it is on, commits are delayed: by 40 ms.
        ("fsync", "on"),
        ("commit_delay", "40000"),
        ("commit_siblings", "0"),
    ]);
    let database = postgres.database(prefix).await;
    let seconds = 2.0 * f64::from(blows) / 12_000.0;
    database
        .execute(&format!(
            "{};
             CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep({seconds}); RETURN OLD; END';
             CREATE TRIGGER slow BEFORE DELETE ON logs FOR EACH ROW EXECUTE FUNCTION slow()",
            service::tables()
        ))
        .await;
    (postgres, database)
}

/// The policy's spec, but for the way to its database.
fn spec(ledger: &str) -> Value {
    let mut logs = rule("logs", "logs");
    logs["action"] = json!("Archive");
    logs["archive"] = json!({"table": {"name": "attic.logs"}});
    logs["limits"] = json!({"maxPercent": 100});
    json!({
        "mode": "Enforce",
        "database": {"ledger": ledger},
        "pace": {"chunkDuration": "20ms", "maxDuty": 100},
        "rules": [logs],
    })
}

/// Waits until some more rows were archived, or hardly any are left. `watched` is asked again and again for what to say
/// should it take too long.
async fn progress(
    database: &TestDatabase,
    rows: i64,
    blow: Blow,
    mut watched: impl FnMut() -> String,
) {
    let before = archived(database).await;
    let what = format!("{rows} rows to go before {blow:?}");
    eventually(LATER, &what, async || {
        let said = watched();
        let now = archived(database).await;
        if now >= before + rows || service::expired(database).await < HARDLY_ANY {
            Ok(())
        } else {
            Err((before, now, said))
        }
    })
    .await;
}

async fn archived(database: &TestDatabase) -> i64 {
    if service::has_archive(database).await {
        database.scalar("SELECT count(*) FROM attic.logs").await
    } else {
        0
    }
}

/// What was seen when the blows fell.
#[derive(Debug, Default)]
struct Seen {
    /// Rows in the archive after each blow.
    archived: Vec<i64>,
}

impl Seen {
    /// Looks after a blow: whatever was under way, every row is in one place, and the ledger's counts are those of the rows.
    async fn look(&mut self, database: &TestDatabase, ledger: bool) {
        if service::has_archive(database).await {
            service::assert_every_row_once(database).await;
            if ledger {
                service::assert_ledger(database).await;
            }
            self.archived.push(archived(database).await);
        }
    }

    /// Asserts that blows fell in the middle.
    fn assert_midway(&self, blows: u32) {
        let midway = self
            .archived
            .iter()
            .filter(|rows| (1..EXPIRED).contains(*rows))
            .count();
        assert!(
            midway > usize::try_from(blows / 2).unwrap(),
            "of {blows} blows {midway} fell in the middle: {:?}",
            self.archived
        );
    }
}
