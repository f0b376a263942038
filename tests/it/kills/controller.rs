//! The controller in a cluster: it goes on by itself, whatever was killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;

use super::service::{assert_every_row_once, assert_ledger, assert_worked, expired, work};
use super::{Blow, EXPIRED, Seen, progress, server, spec};
use crate::operator::rig::{LATER, Rig};
use crate::support::process::kills;

#[rstest]
#[case::with_a_ledger("Auto")]
#[case::without_a_ledger("Off")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_every_row_is_in_one_place(#[case] ledger: &str) {
    let blows = kills(4);
    let (mut postgres, database) = server("kills", blows).await;
    let mut rig = Rig::start_on("kills", database.clone()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let service = tokio::spawn(work(database.clone(), stop.clone()));
    let mut spec = spec(ledger);
    spec["database"]["urlFrom"] = json!({"secretKeyRef": {"name": "db", "key": "url"}});
    rig.apply("logs", spec).await;
    rig.request_sweep("logs").await;
    let began = Instant::now();

    let mut seen = Seen::default();
    let step = EXPIRED / (2 * i64::from(blows) + 2);
    for number in 0..blows {
        let blow = Blow::number(number);
        let rows = fastrand::i64(1..step);
        progress(&database, rows, blow, || rig.logs()).await;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..150_000))).await;
        if blow.hits_operator() {
            rig.operator.kill9();
        }
        blow.strike(&mut postgres, &database).await;
        if blow.hits_operator() {
            rig.replace();
        }
        seen.look(&database, ledger == "Auto").await;
    }
    stop.store(true, Ordering::Relaxed);
    service.await.unwrap();
    let status = sweep_to_the_end(&rig).await;

    assert_every_row_once(&database).await;
    seen.assert_midway(blows);
    assert_eq!(expired(&database).await, 0, "{status}");
    let archived: i64 = database.scalar("SELECT count(*) FROM attic.logs").await;
    let said = status["totals"]["rowsArchived"].as_i64().unwrap();
    if ledger == "Auto" {
        assert_ledger(&database).await;
        assert_eq!(said, archived, "{status}");
    } else {
        assert!((1..=archived).contains(&said), "{said} of {archived}");
    }
    let done = assert_worked(&database).await;
    println!(
        "{blows} blows in {:?}, ledger {ledger}: {archived} rows archived, {said} of them reported; the service: {done}",
        began.elapsed()
    );
}

/// What the service wrote behind the walk is another sweep's.
async fn sweep_to_the_end(rig: &Rig) -> serde_json::Value {
    let status = ended(rig).await;
    if expired(&rig.database).await == 0 {
        return status;
    }
    let request = rig.request_sweep("logs").await;
    rig.status("logs", LATER, "to see the request", |status| {
        status["lastHandledSweepRequest"] == request.as_str()
    })
    .await;
    ended(rig).await
}

async fn ended(rig: &Rig) -> serde_json::Value {
    rig.status("logs", LATER, "to have swept", |status| {
        status["lastSweep"]["outcome"] == "Succeeded"
            && status["currentSweep"].is_null()
            && status["unfinishedSweep"].is_null()
    })
    .await
}
