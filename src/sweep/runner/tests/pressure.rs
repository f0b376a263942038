//! What the database tells under way: vetoes, failovers, waiters, a ledger that was made.

use super::*;

#[tokio::test]
async fn a_veto_is_waited_for_and_named() {
    let fake = Fake::new(ordered(40, 0));
    let vacuum = Pressure {
        table_is_maintained: true,
        ..Pressure::default()
    };
    fake.with(|table| table.pressures = vec![vacuum.clone(), vacuum]);
    let watcher = Watcher::default();

    let report = sweep(&fake, unlimited(), Some(400), &watcher).await;

    assert_eq!(report.rows_deleted, 400);
    assert_eq!(
        watcher.waited.lock().unwrap().as_slice(),
        ["AutovacuumOnTable", "AutovacuumOnTable"]
    );
}

#[tokio::test]
async fn a_sweep_that_waits_can_be_stopped_and_has_deleted_nothing() {
    let fake = Fake::new(ordered(40, 0));
    let old = Pressure {
        oldest_snapshot: Some(Duration::from_secs(3_600)),
        ..Pressure::default()
    };
    fake.with(|table| table.pressures = vec![old; 50]);
    let watcher = Watcher {
        stop_after: 10,
        ..Watcher::default()
    };

    let report = sweep(&fake, unlimited(), Some(400), &watcher).await;

    assert!(
        matches!(report.end, RuleEnd::Stopped(StopReason::Suspended)),
        "{:?}",
        report.end
    );
    assert_eq!(fake.left(), 400);
    assert!(
        watcher
            .waited
            .lock()
            .unwrap()
            .iter()
            .all(|why| why == "SnapshotHeld")
    );
}

fn standby() -> Pressure {
    Pressure {
        in_recovery: true,
        ..Pressure::default()
    }
}

#[tokio::test]
async fn a_failover_is_waited_for_and_named() {
    let fake = Fake::new(ordered(40, 0));
    fake.with(|table| table.pressures = vec![standby(); 3]);
    let watcher = Watcher::default();

    let report = sweep(&fake, unlimited(), Some(400), &watcher).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 0 }),
        "{:?}",
        report.end
    );
    assert_eq!(watcher.waited.lock().unwrap().as_slice(), ["NotPrimary"; 3]);
}

#[tokio::test]
async fn a_server_that_stays_a_standby_stops_the_sweep_which_can_go_on() {
    let fake = Fake::new(ordered(40, 0));
    fake.with(|table| table.pressures = vec![standby(); 100]);

    let rule = sweep(&fake, unlimited(), Some(400), &Watcher::default()).await;

    assert!(
        matches!(rule.end, RuleEnd::Stopped(StopReason::NotPrimary)),
        "{:?}",
        rule.end
    );
    assert_eq!(fake.left(), 400);
    let report = SweepReport {
        rules: vec![rule],
        ..SweepReport::default()
    };
    assert!(report.goes_on());
    assert_eq!(report.outcome(), Outcome::Cancelled);
}

fn read_only() -> EngineError {
    EngineError::ReadOnly("somebody set it so".to_owned())
}

#[tokio::test]
async fn a_database_that_is_set_read_only_under_way_stops_the_sweep_which_can_go_on() {
    let fake = Fake::new(ordered(4_000, 0));
    fake.with(|table| {
        table.commit_answers = vec![Ok(CommitOutcome::Committed)];
        table
            .commit_answers
            .extend((0..100).map(|_| Err(read_only())));
    });
    let watcher = Watcher::default();

    let report = sweep(&fake, unlimited(), Some(40_000), &watcher).await;

    assert!(
        matches!(report.end, RuleEnd::Stopped(StopReason::NotPrimary)),
        "{:?}",
        report.end
    );
    assert!(report.rows_deleted > 0 && fake.left() > 0);
    let waited = watcher.waited.lock().unwrap();
    assert!(waited.iter().all(|why| why == "NotPrimary"), "{waited:?}");
}

#[tokio::test]
async fn a_database_that_was_read_only_before_the_first_row_fails_the_rule() {
    let fake = Fake::new(ordered(40, 0));
    fake.with(|table| table.commit_answers = vec![Err(read_only())]);

    let report = sweep(&fake, unlimited(), Some(400), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Failed(EngineError::ReadOnly(_))),
        "{:?}",
        report.end
    );
}

/// Another rule of the sweep took rows: it goes on as that sweep.
#[tokio::test]
async fn a_rule_that_took_nothing_yet_waits_where_its_sweep_has_begun() {
    let fake = Fake::new(ordered(40, 0));
    fake.with(|table| table.commit_answers = (0..100).map(|_| Err(read_only())).collect());
    let plan = plan(&fake, unlimited());
    let turn = Turn {
        progress: RuleProgress::new("logs", plan.cutoff),
        estimate: Some(400),
        begun: true,
    };
    let watcher = Watcher::default();

    let pace = defaults().pace;
    let rule = sweep_rule(&fake, &plan, pace, turn, &watcher, Books::Off).await;

    assert!(
        matches!(rule.end, RuleEnd::Stopped(StopReason::NotPrimary)),
        "{:?}",
        rule.end
    );
    assert_eq!(fake.left(), 400);
    assert!(!watcher.waited.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whoever_waits_behind_a_chunk_gets_a_longer_rest() {
    let fake = Fake::new(ordered(40, 0));
    fake.with(|table| table.waiters = 1);
    let watcher = Watcher::default();

    sweep(&fake, unlimited(), Some(400), &watcher).await;

    let rests = watcher.rests.lock().unwrap();
    assert!(
        rests.iter().all(|rest| *rest >= Duration::from_millis(250)),
        "{rests:?}"
    );
    assert!(
        watcher
            .waited
            .lock()
            .unwrap()
            .iter()
            .all(|why| why == "WaitersBehindUs")
    );
}

fn beside_a_ledger() -> Fake {
    let fake = Fake::new(ordered(40, 0));
    fake.with(|table| {
        table.pressures = vec![Pressure {
            has_ledger: true,
            ..Pressure::default()
        }];
    });
    fake
}

#[tokio::test]
async fn a_ledger_that_somebody_made_stops_a_sweep_that_was_planned_without_one() {
    let fake = beside_a_ledger();

    let report = sweep(&fake, unlimited(), Some(400), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Stopped(StopReason::LedgerMade)),
        "{:?}",
        report.end
    );
    assert_eq!(fake.left(), 400);
}

#[tokio::test]
async fn a_policy_that_wants_no_ledger_is_swept_beside_one() {
    let fake = beside_a_ledger();
    let watcher = Watcher::default();

    let report = sweep_beside(&fake, unlimited(), Some(400), &watcher, Books::Off).await;

    assert!(matches!(report.end, RuleEnd::Complete { remaining: 0 }));
}
