//! A server that takes no writes any more while a sweep runs: it lost a failover, or somebody set it read-only.

use std::time::Duration;

use retention_operator::engine::{ChunkTarget, Engine, EngineError};
use retention_operator::sweep::{Outcome, RuleEnd, StopReason, SweepError, SweepState};
use rstest::rstest;
use serde_json::json;

use super::resumed::{Policy, expired, rule};
use super::seen::Seen;
use super::{engine, filled, plan};
use crate::support::postgres::Postgres;

const ROWS: u32 = 20_000;

async fn policy(server: &Postgres, ledger: &str) -> Policy {
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": ROWS, "maxPercent": 100});
    let policy = Policy::on(server, ledger, json!([logs])).await;
    policy.database.execute(&expired("logs", ROWS)).await;
    policy
}

/// What a sweep has to keep when it goes on: its id, its cutoff, and what it was seen or may be thought to have taken.
fn kept(state: &SweepState) -> (String, String, u64) {
    let logs = &state.rules[0];
    (
        state.id.clone(),
        logs.cutoff.to_string(),
        logs.rows_done + logs.rows_unknown,
    )
}

#[rstest]
#[case::without_a_ledger("Off")]
#[case::with_a_ledger("Auto")]
#[tokio::test]
async fn a_failover_is_waited_out_and_the_sweep_goes_on(#[case] ledger: &str) {
    let mut server = Postgres::start_own(&[("autovacuum", "off")]);
    let mut policy = policy(&server, ledger).await;
    let database = policy.database.clone();
    let seen = Seen::with_rests_of(Duration::from_millis(500));

    let (report, ()) = tokio::join!(policy.part(&seen), async {
        seen.has_taken(1_000).await;
        server.demote();
        seen.has_waited_for("NotPrimary").await;
        database.execute("SELECT pg_promote()").await;
    });

    assert_eq!(report.outcome(), Outcome::Succeeded, "{report:#?}");
    assert_eq!(policy.rows("logs").await, 0);
    assert_eq!(kept(&policy.state).2, u64::from(ROWS));
}

#[rstest]
#[case::without_a_ledger("Off")]
#[case::with_a_ledger("Auto")]
#[tokio::test]
async fn a_sweep_that_a_long_failover_stopped_goes_on_as_the_same_sweep(#[case] ledger: &str) {
    let mut server = Postgres::start_own(&[("autovacuum", "off")]);
    let mut policy = policy(&server, ledger).await;
    let database = policy.database.clone();
    let seen = Seen::with_rests_of(Duration::from_millis(10));

    let (stopped, ()) = tokio::join!(policy.part(&seen), async {
        seen.has_taken(1_000).await;
        server.demote();
    });
    let before = kept(&policy.state);
    let on_a_standby = policy.try_part(&seen).await;
    let unchanged = kept(&policy.state);
    database.execute("SELECT pg_promote()").await;
    let went_on = policy.part(&seen).await;

    assert!(
        matches!(
            stopped.rules[0].end,
            RuleEnd::Stopped(StopReason::NotPrimary)
        ),
        "{stopped:#?}"
    );
    assert!(stopped.goes_on());
    match on_a_standby {
        Err(SweepError::Refused(refusal)) => assert_eq!(refusal.reason, "NotPrimary"),
        other => panic!("{other:?}"),
    }
    assert_eq!(before, unchanged);
    assert_eq!(went_on.outcome(), Outcome::Succeeded, "{went_on:#?}");
    let after = kept(&policy.state);
    assert_eq!((before.0, before.1), (after.0, after.1));
    assert_eq!(after.2, u64::from(ROWS));
    assert_eq!(policy.rows("logs").await, 0);
}

#[rstest]
#[case::without_a_ledger("Off")]
#[case::with_a_ledger("Auto")]
#[tokio::test]
async fn a_database_that_is_set_read_only_under_way_is_swept_on_once_it_may_be(
    #[case] ledger: &str,
) {
    let server = Postgres::shared();
    let mut policy = policy(server, ledger).await;
    let database = policy.database.clone();
    let set = |to: &str| {
        format!(
            "ALTER DATABASE \"{}\" SET default_transaction_read_only = {to}",
            database.name
        )
    };
    let seen = Seen::with_rests_of(Duration::from_millis(10));
    let elsewhere = server.existing("postgres");

    let (stopped, ()) = tokio::join!(policy.part(&seen), async {
        seen.has_taken(1_000).await;
        elsewhere.execute(&set("on")).await;
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            database.name
        );
        elsewhere.execute(&end).await;
    });
    let before = kept(&policy.state);
    let meanwhile = policy.try_part(&seen).await;
    let unchanged = kept(&policy.state);
    elsewhere.execute(&set("off")).await;
    let went_on = policy.part(&seen).await;

    assert!(
        matches!(
            stopped.rules[0].end,
            RuleEnd::Stopped(StopReason::NotPrimary)
        ),
        "{stopped:#?}"
    );
    // What becomes of a sweep that is told so is for whoever runs it to know: it has begun.
    match &meanwhile {
        Ok(report) => assert!(report.goes_on() || report.barred.is_some(), "{report:#?}"),
        Err(error) => assert!(
            matches!(error, SweepError::Engine(EngineError::ReadOnly(_))),
            "{error:?}"
        ),
    }
    assert!(policy.state.rules[0].has_begun());
    assert_eq!(before, unchanged);
    assert_eq!(went_on.outcome(), Outcome::Succeeded, "{went_on:#?}");
    let after = kept(&policy.state);
    assert_eq!((before.0, before.1), (after.0, after.1));
    assert_eq!(after.2, u64::from(ROWS));
    assert_eq!(policy.rows("logs").await, 0);
}

/// A rule has nothing to lose, but the sweep has: another of its rules took rows.
#[rstest]
#[case::without_a_ledger("Off")]
#[case::with_a_ledger("Auto")]
#[tokio::test]
async fn a_rule_that_took_nothing_yet_is_swept_on_with_the_sweep_it_belongs_to(
    #[case] ledger: &str,
) {
    let server = Postgres::shared();
    let all = json!({"maxPercent": 100});
    let (mut first, mut second) = (rule("first", "first"), rule("second", "second"));
    first["limits"] = all.clone();
    second["limits"] = all;
    let mut policy = Policy::on(server, ledger, json!([first, second])).await;
    let database = policy.database.clone();
    database.execute(&expired("first", 100)).await;
    database.execute(&expired("second", ROWS)).await;
    let elsewhere = server.existing("postgres");
    let seen = Seen::with_rests_of(Duration::from_secs(1));
    // New sessions are as it says, and there are no old ones.
    let set = async |to: &str| {
        let name = &database.name;
        let set = format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = {to}");
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        elsewhere.execute(&set).await;
        elsewhere.execute(&end).await;
    };

    let (stopped, ()) = tokio::join!(policy.part(&seen), async {
        // The rest after the first rule's only chunk.
        seen.has_taken(100).await;
        set("on").await;
    });
    let before = policy.state.clone();
    set("off").await;
    let went_on = policy
        .part(&Seen::with_rests_of(Duration::from_millis(10)))
        .await;

    let [first, second] = &stopped.rules[..] else {
        panic!("{stopped:#?}");
    };
    assert!(
        matches!(first.end, RuleEnd::Complete { remaining: 0 }),
        "{first:#?}"
    );
    assert!(
        matches!(second.end, RuleEnd::Stopped(StopReason::NotPrimary)),
        "{second:#?}"
    );
    assert!(stopped.goes_on());
    assert_eq!(policy.rows("second").await, 0);
    assert_eq!(went_on.outcome(), Outcome::Succeeded, "{went_on:#?}");
    assert_eq!(before.id, policy.state.id);
    assert_eq!(before.rules[1].cutoff, policy.state.rules[1].cutoff);
}

/// The server says that it takes no writes with a code that has other meanings, too.
#[tokio::test]
async fn a_chunk_that_meets_a_standby_names_it_and_deletes_nothing() {
    let mut server = Postgres::start_own(&[("autovacuum", "off")]);
    let database = server.database("demoted").await;
    database.execute(&filled("t", 2_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    server.demote();

    let mut chunk = sweep.delete_next(ChunkTarget::pages(5)).await;
    if chunk
        .as_ref()
        .is_err_and(|it| it.category() == "connection_lost")
    {
        // The session that was open went with the server's former life.
        chunk = sweep.delete_next(ChunkTarget::pages(5)).await;
    }

    let error = chunk.unwrap_err();
    assert_eq!(error.category(), "not_primary", "{error}");
    assert!(error.is_transient());
    let rows: i64 = database.scalar("SELECT count(*) FROM t").await;
    assert_eq!(rows, 2_000);
}
