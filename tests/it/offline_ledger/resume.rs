//! What the ledger counts, and how a sweep goes on that was killed.

use std::time::Duration;

use serde_json::json;

use super::{database, file, recorded, report, rows, started, sweep, verb};
use crate::operator::tables::{Reference, rule, slow};
use crate::support::operator::Operator;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_ledger_is_made_where_the_policy_asks_for_it_and_counts_what_went() {
    let database = database().await;
    let reference = Reference::of(&database, "logs").await;

    let planned = verb(&database.url, "plan", "logs", json!({}), &[]);
    let before: bool = database
        .scalar("SELECT to_regnamespace('retention_operator') IS NULL")
        .await;
    let swept = sweep(&database, "logs", json!({}), &["-o", "json"]);
    let again = sweep(&database, "logs", json!({}), &["-o", "json"]);

    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(before, "a plan makes nothing");
    assert_eq!(swept.code, Some(0), "{swept:?}");
    let cutoff = report(&swept)["status"]["rules"][0]["cutoff"].clone();
    let expired = reference
        .delete(&format!("at < '{}'", cutoff.as_str().unwrap()))
        .await;
    reference.assert_equal().await;
    assert_eq!(recorded(&database).await, expired);
    assert_eq!(report(&swept)["status"]["totals"]["rowsDeleted"], expired);
    assert_eq!(
        report(&again)["status"]["totals"]["rowsDeleted"],
        expired,
        "totals are of all sweeps"
    );
    let ends: String = database
        .scalar("SELECT string_agg(outcome || ' ' || (ended_at IS NOT NULL), ',') FROM retention_operator.sweep")
        .await;
    assert_eq!(ends, "Succeeded true,Succeeded true");
}

#[tokio::test]
async fn without_a_word_of_it_no_ledger_is_made_and_an_existing_one_is_used() {
    let database = database().await;
    let existing = json!({"database": {"secretRef": {"name": "db"}}});

    sweep(&database, "logs", existing.clone(), &[]);
    let none: bool = database
        .scalar("SELECT to_regnamespace('retention_operator') IS NULL")
        .await;
    sweep(&database, "logs", json!({}), &[]);
    sweep(&database, "logs", existing, &[]);
    let off = json!({"database": {"secretRef": {"name": "db"}, "ledger": "Off"}});
    sweep(&database, "logs", off, &[]);

    let sweeps: i64 = database
        .scalar("SELECT count(*) FROM retention_operator.sweep")
        .await;
    assert!(none);
    assert_eq!(sweeps, 2);
}

#[tokio::test]
async fn after_a_sigkill_the_next_sweep_goes_on_and_knows_what_it_took() {
    let database = database().await;
    let reference = Reference::of(&database, "logs").await;
    let mut killed = started(&database, "logs", json!({"pace": slow(2000)}), 19_000).await;
    killed.kill9();
    // What the killed process had under way is rolled back as soon as the server sees that it is gone.
    eventually(
        Duration::from_secs(20),
        "the end of its session",
        async || {
            let open = database.foreign_sessions().await;
            if open == 0 { Ok(()) } else { Err(open) }
        },
    )
    .await;
    let gone = 20_000 - rows(&database).await;
    assert_eq!(recorded(&database).await, gone);

    let resumed = sweep(&database, "logs", json!({}), &["-o", "json"]);

    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(
        resumed.stderr.contains("going on with sweep"),
        "{resumed:?}"
    );
    assert!(
        !resumed.stderr.contains("another sweep"),
        "the machine knows that its process is gone: {resumed:?}"
    );
    let status = report(&resumed)["status"].clone();
    let cutoff = status["rules"][0]["cutoff"].as_str().unwrap();
    let expired = reference.delete(&format!("at < '{cutoff}'")).await;
    reference.assert_equal().await;
    assert_eq!(status["lastSweep"]["rowsDeleted"], expired);
    assert_eq!(status["totals"]["rowsDeleted"], expired);
    let sweeps: i64 = database
        .scalar("SELECT count(*) FROM retention_operator.sweep")
        .await;
    assert_eq!(sweeps, 1);
}

#[tokio::test]
async fn the_lease_of_a_process_that_may_run_elsewhere_is_waited_for() {
    let database = database().await;
    let mut killed = started(&database, "logs", json!({"pace": slow(2000)}), 19_000).await;
    killed.kill9();
    database
        .execute("UPDATE retention_operator.lease SET owner = regexp_replace(owner, '^offline/[0-9a-f-]+/', 'offline/another-machine/')")
        .await;
    let owner: String = database
        .scalar("SELECT owner FROM retention_operator.lease")
        .await;
    assert!(owner.starts_with("offline/another-machine/"), "{owner}");
    let before = rows(&database).await;

    let file = file("logs", json!({"pace": slow(2000)}));
    let arguments = ["sweep", "-f", file.to_str().unwrap()];
    let second = Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);
    eventually(Duration::from_secs(30), "it to wait", async || {
        let said = second.stderr();
        if said.contains("failures=3") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;

    assert!(second.stderr().contains("another sweep works on"));
    assert_eq!(rows(&database).await, before);
}

#[tokio::test]
async fn limits_hold_over_a_sigkill() {
    let database = database().await;
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": 5000});
    database.execute("DELETE FROM logs WHERE id > 16600").await;
    let spec = json!({"rules": [logs], "pace": slow(2000)});
    let mut killed = started(&database, "logs", spec.clone(), 15_800).await;
    killed.kill9();
    database
        .execute("UPDATE retention_operator.lease SET beat = beat - interval '1 hour'")
        .await;

    let resumed = sweep(&database, "logs", spec, &["-o", "json"]);

    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(rows(&database).await, 16_600 - 5_000);
    assert_eq!(recorded(&database).await, 5_000);
}

#[tokio::test]
async fn a_sweep_of_another_spec_is_not_gone_on_with() {
    let database = database().await;
    let mut killed = started(&database, "logs", json!({"pace": slow(2000)}), 19_800).await;
    killed.kill9();
    database
        .execute("UPDATE retention_operator.lease SET beat = beat - interval '1 hour'")
        .await;
    let mut longer = rule("logs", "logs");
    longer["expireAfter"] = json!("40d");

    let other = sweep(
        &database,
        "logs",
        json!({"rules": [longer]}),
        &["-o", "json"],
    );

    assert_eq!(other.code, Some(0), "{other:?}");
    let kept: i64 = database
        .scalar("SELECT count(*) FROM logs WHERE at < now() - interval '31 days' AND at > now() - interval '39 days'")
        .await;
    assert!(kept > 1000, "{kept}: rows that the policy keeps now");
}
