//! A primary that dies between a COMMIT and its answer, and a standby in its place that is behind.

use std::time::Duration;

use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine};
use rstest::rstest;
use sqlx::Executor;

use super::relay::{Relay, asked};
use super::{engine, filled, plan, run};
use crate::support::postgres::{Postgres, SUPERUSER, connect};
use crate::support::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(30);
/// Sessions of the operator that ask what became of a chunk.
const ASKING: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'retention-operator%' \
    OR (backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'tests')";

async fn says(url: &str, sql: &str, answer: &str) {
    eventually(PATIENCE, sql, async || {
        let said = asked(url, sql).await;
        if said == answer { Ok(()) } else { Err(said) }
    })
    .await;
}

#[rstest]
#[case::it_has_the_commit_and_has_not_applied_it(true)]
#[case::the_commit_never_reached_it(false)]
#[tokio::test]
async fn a_standby_that_is_behind_is_not_believed_about_a_commit(#[case] received: bool) {
    let mut primary = Postgres::start_own(&[("autovacuum", "off")]);
    let database = primary.database("lagging").await;
    let standby = Postgres::standby_of(&primary, &[("autovacuum", "off")]);
    database.execute(&filled("t", 2_000)).await;
    let url = |port: u16| {
        let name = &database.name;
        format!("postgres://{SUPERUSER}:{SUPERUSER}@127.0.0.1:{port}/{name}")
    };
    let there = url(standby.port());
    let written = "SELECT pg_current_wal_lsn()::text";
    let before: String = database.scalar(written).await;
    let applied = format!("SELECT (pg_last_wal_replay_lsn() >= '{before}')::text");
    says(&there, &applied, "true").await;
    let mut second = connect(&there).await;
    if received {
        second
            .execute("SELECT pg_wal_replay_pause()")
            .await
            .unwrap();
        says(&there, "SELECT pg_get_wal_replay_pause_state()", "paused").await;
    } else {
        for statement in [
            "ALTER SYSTEM SET primary_conninfo = ''",
            "SELECT pg_reload_conf()",
        ] {
            second.execute(statement).await.unwrap();
        }
        let streams = "SELECT count(*)::text FROM pg_stat_replication";
        says(&database.url, streams, "0").await;
    }
    let relay = Relay::start(primary.port()).await;
    let engine = engine(&url(relay.port));
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let chunk = sweep.delete_next(ChunkTarget::pages(5)).await;
    let rows = chunk.unwrap().unwrap().rows;
    relay.lead_to(standby.port());
    relay.swallow_answers();

    let (outcome, ()) = tokio::join!(sweep.commit(), async {
        let gone = format!("SELECT (count(*) = {})::text FROM t", 2_000 - rows);
        says(&database.url, &gone, "true").await;
        if received {
            let committed: String = database.scalar(written).await;
            let got = format!("SELECT (pg_last_wal_receive_lsn() >= '{committed}')::text");
            says(&there, &got, "true").await;
        }
        primary.kill9();
        // It is asked, and knows nothing of the commit.
        eventually(PATIENCE, "the standby to be asked", async || {
            match asked(&there, ASKING).await.as_str() {
                "0" => Err(()),
                _ => Ok(()),
            }
        })
        .await;
        let rows = asked(&there, "SELECT count(*)::text FROM t").await;
        assert_eq!(rows, "2000");
        if received {
            second
                .execute("SELECT pg_wal_replay_resume()")
                .await
                .unwrap();
        }
        second.execute("SELECT pg_promote()").await.unwrap();
    });
    sweep.close().await;

    match outcome {
        Err(error) => assert_eq!(error.category(), "connection_lost", "{error}"),
        // So it is on the server that is left, which may know it once it is promoted.
        Ok(outcome) => assert_eq!((outcome, received), (CommitOutcome::RolledBack, false)),
    }
    let left = asked(&there, "SELECT count(*)::text FROM t").await;
    let expected = if received { 2_000 - rows } else { 2_000 };
    assert_eq!(left, expected.to_string());
    // The new primary is swept like any other.
    let rest = run(&engine, &plan, 5).await.unwrap();
    assert_eq!(rest.rows, expected - 1_000);
}
