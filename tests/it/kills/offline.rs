//! `sweep -f`, begun again by whoever sees that it is gone.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::{Value, json};

use super::service::{assert_every_row_once, assert_ledger, assert_worked, expired, work};
use super::{Blow, EXPIRED, Seen, progress, server, spec};
use crate::support::operator::{Operator, offline};
use crate::support::process::{kills, run_dir, unique};

fn file(ledger: &str) -> PathBuf {
    let mut policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "logs", "namespace": "shop"},
        "spec": spec(ledger),
    });
    policy["spec"]["database"]["secretRef"] = json!({"name": "db"});
    let file = run_dir().join(unique("policy", '-')).with_extension("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    file
}

#[rstest]
#[case::with_a_ledger("Auto")]
#[case::without_a_ledger("Off")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_every_row_is_in_one_place(#[case] ledger: &str) {
    let blows = kills(4);
    let (mut postgres, database) = server("kills", blows).await;
    let stop = Arc::new(AtomicBool::new(false));
    let service = tokio::spawn(work(database.clone(), stop.clone()));
    let file = file(ledger);
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let start = || Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);
    let began = Instant::now();

    let mut seen = Seen::default();
    let mut sweep = start();
    let mut processes = 1;
    let step = EXPIRED / (2 * i64::from(blows) + 2);
    for number in 0..blows {
        let blow = Blow::number(number);
        let rows = fastrand::i64(1..step);
        progress(&database, rows, blow, || {
            // A crash while it plans ends it.
            if sweep.exited().is_some() {
                sweep = start();
                processes += 1;
            }
            sweep.stderr()
        })
        .await;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..150_000))).await;
        if blow.hits_operator() {
            sweep.kill9();
        }
        blow.strike(&mut postgres, &database).await;
        seen.look(&database, ledger == "Auto").await;
    }
    stop.store(true, Ordering::Relaxed);
    service.await.unwrap();
    let first = sweep.wait(Duration::from_secs(300));
    // What the service wrote behind the walk, and what a process that a crash ended left.
    let last = offline(&database.url, &arguments);

    assert_eq!(last.code, Some(0), "{last:?} after {first}");
    assert_every_row_once(&database).await;
    seen.assert_midway(blows);
    assert_eq!(expired(&database).await, 0);
    let archived: i64 = database.scalar("SELECT count(*) FROM attic.logs").await;
    if ledger == "Auto" {
        assert_ledger(&database).await;
        let report: Value = serde_json::from_str(&last.stdout).unwrap();
        assert_eq!(report["status"]["totals"]["rowsArchived"], archived);
    }
    let done = assert_worked(&database).await;
    println!(
        "{blows} blows in {:?}, ledger {ledger}: {processes} processes, {archived} rows archived; the service: {done}",
        began.elapsed()
    );
}
