//! A sweep takes exactly the expired rows, and the status proves it.

use serde_json::{Value, json};

use super::rig::{LATER, Rig, SOON, condition, is};
use super::tables::{Reference, fill, rule, slow};
use crate::support::postgres::TestDatabase;
use crate::support::wait::eventually;

/// Rows of every age in a table with a time column of `type_`: 4,000 with a time, of which 42 % are older than 30 days, and a
/// few without a usable one.
async fn fill_all_ages(database: &TestDatabase, table: &str, definition: &str, type_: &str) {
    database
        .execute(&format!(
            "CREATE TABLE {table} (id int NOT NULL, at {type_}, note text, customer int) {definition};
             CREATE TABLE IF NOT EXISTS ages AS SELECT n, now() - interval '30 days' * n / 2320 AS at
             FROM generate_series(1, 4000) AS n"
        ))
        .await;
    if definition.contains("PARTITION") {
        database
            .execute(&format!(
                "CREATE TABLE {table}_old PARTITION OF {table} FOR VALUES FROM (MINVALUE) TO (now() - interval '35 days');
                 CREATE TABLE {table}_now PARTITION OF {table} FOR VALUES FROM (now() - interval '35 days') TO (now() - interval '5 days')
                     PARTITION BY HASH (customer);
                 CREATE TABLE {table}_now_0 PARTITION OF {table}_now FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE TABLE {table}_now_1 PARTITION OF {table}_now FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                 CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT"
            ))
            .await;
    }
    database
        .execute(&format!(
            "INSERT INTO {table} SELECT n, at, CASE WHEN n % 7 = 0 THEN 'keep' WHEN n % 11 <> 0 THEN 'note ' || n END, n % 100
             FROM ages ORDER BY random();
             INSERT INTO {table} VALUES (5001, NULL, 'never', 1), (5002, 'infinity', 'never', 1), (5003, '-infinity', 'long ago', 1);
             ANALYZE {table}"
        ))
        .await;
}

#[tokio::test]
async fn exactly_the_expired_rows_go_and_the_status_proves_it() {
    let rig = Rig::start("sweep").await;
    let database = &rig.database;
    database
        .execute(&format!(
            r#"CREATE SCHEMA "odd.schema"; ALTER DATABASE "{}" SET timezone = 'Asia/Kolkata'"#,
            database.name
        ))
        .await;
    let odd = r#""odd.schema"."Odd ""Table""#;
    // Name of the rule, table, what else defines it, type of the column, zone of the column.
    let tables = [
        ("instants", "instants", "", "timestamptz", None),
        (
            "locals",
            "locals",
            "",
            "timestamp",
            Some("America/Los_Angeles"),
        ),
        ("days", "days", "", "date", None),
        (
            "parts",
            "parts",
            "PARTITION BY RANGE (at)",
            "timestamptz",
            None,
        ),
        ("odd", odd, "", "timestamptz", None),
    ];
    let mut rules = Vec::new();
    for (name, table, definition, type_, zone) in tables {
        fill_all_ages(database, table, definition, type_).await;
        let mut rule = rule(name, table);
        rule["where"] = json!("note <> 'keep'");
        if let Some(zone) = zone {
            rule["columnTimeZone"] = json!(zone);
        }
        rules.push(rule);
    }
    fill_all_ages(database, "reported", "", "timestamptz").await;
    rules.push(json!({"name": "reported", "mode": "Audit", "table": "reported", "column": "at", "expireAfter": "30d", "action": "Delete"}));
    fill_all_ages(database, "held", "", "timestamptz").await;
    rules.push(rule("held", "held"));
    let mut references = Vec::new();
    for (_, table, ..) in tables {
        references.push(Reference::of(database, table).await);
    }
    let mut holds: Vec<Value> = tables
        .iter()
        .enumerate()
        .map(|(index, (_, table, ..))| {
            json!({"name": format!("case-{index}"), "table": table, "where": "customer = 99"})
        })
        .collect();
    holds.push(json!({"name": "all", "table": "held"}));

    rig.apply(
        "all",
        json!({"mode": "Enforce", "rules": rules, "holds": holds}),
    )
    .await;
    rig.status("all", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    let request = rig.request_sweep("all").await;
    rig.swept("all", None).await;
    let audits = "retention_operator_audits_total";
    eventually(SOON, "the audit after the sweep", async || {
        let audited = rig.metric(audits, "ok").await;
        if audited >= 2.0 { Ok(()) } else { Err(audited) }
    })
    .await;
    let status = rig
        .status("all", SOON, "to be settled", |it| is(it, "Ready", "True"))
        .await;

    let mut deleted = 0;
    for (index, (name, table, _, type_, zone)) in tables.into_iter().enumerate() {
        let rule = &status["rules"][index];
        let cutoff = rule["cutoff"].as_str().unwrap();
        let ideal = match (type_, zone) {
            ("date", _) => "((now() - interval '30 days') AT TIME ZONE 'UTC')::date".to_owned(),
            (_, Some(zone)) => format!("(now() - interval '30 days') AT TIME ZONE '{zone}'"),
            _ => "now() - interval '30 days'".to_owned(),
        };
        let seconds: f64 = database
            .scalar(&format!(
                "SELECT extract(epoch FROM ({ideal})::timestamptz - '{cutoff}'::{type_}::timestamptz)::float8"
            ))
            .await;
        assert!(
            (0.0..90.0).contains(&seconds),
            "{name}: {cutoff} is {seconds} s old"
        );
        let gone = references[index]
            .delete(&format!(
                "at < '{cutoff}'::{type_} AND (note <> 'keep') IS TRUE AND (customer = 99) IS NOT TRUE"
            ))
            .await;
        references[index].assert_equal().await;
        assert!(gone > 1000, "{name}: {gone}");
        deleted += gone;

        assert_eq!(rule["rowsDeleted"], gone, "{name}");
        let left = &rule["expiredRows"];
        assert_eq!(
            (&left["value"], &left["method"], &left["exact"]),
            (&json!(0), &json!("Count"), &json!(true)),
            "{name}"
        );
        assert!(rule["blockedRows"].is_null());
        let kept = format!("SELECT count(*) FROM {table} WHERE id IN (5001, 5002)");
        assert_eq!(database.scalar::<i64>(&kept).await, 2);
        let start = status["lastSweep"]["startTime"].as_str().unwrap();
        let watermark = rule["watermark"].as_str().unwrap();
        let behind: f64 = database
            .scalar(&format!(
                "SELECT extract(epoch FROM '{watermark}'::timestamptz - '{start}'::timestamptz)::float8"
            ))
            .await;
        assert!((-2.0..30.0).contains(&behind), "{watermark} {start}");
    }
    for table in ["reported", "held"] {
        let rows = format!("SELECT count(*) FROM {table}");
        assert_eq!(database.scalar::<i64>(&rows).await, 4003, "{table}");
    }
    let sweep = &status["lastSweep"];
    assert_eq!(sweep["outcome"], "Succeeded", "{sweep}");
    assert_eq!(sweep["trigger"], "Request");
    assert_eq!(sweep["rowsDeleted"], deleted);
    assert_eq!(status["totals"]["rowsDeleted"], deleted);
    assert!(sweep["chunks"].as_i64().unwrap() >= 5);
    assert_eq!(status["lastHandledSweepRequest"], request);
    assert!(status["unfinishedSweep"].is_null() && status["currentSweep"].is_null());
    assert!(condition(&status, "Sweeping").is_none());
    // The rule that only reports still holds its expired rows.
    assert_eq!(
        condition(&status, "Compliant").unwrap(),
        (
            "False",
            "ExpiredRows",
            "1 of 7 rules holds rows past their age"
        )
    );
    rig.event("all SweepStarted").await;
    rig.event("all SweepSucceeded").await;
    for (metric, label, expected) in [
        ("retention_operator_sweeps_total", "Succeeded", 1),
        ("retention_operator_rows_deleted_total", "", deleted),
        (
            "retention_operator_chunk_seconds_count",
            "",
            sweep["chunks"].as_i64().unwrap(),
        ),
        ("retention_operator_policy_compliant", "all", 0),
    ] {
        let page = rig.http("/metrics").await.unwrap();
        assert!(page.contains(metric), "{metric} in {page}");
        let counted = rig.metric(metric, label).await;
        assert!(
            (counted - expected as f64).abs() < 0.5,
            "{metric}: {counted}"
        );
    }
    // The audit after the sweep may change both, one after the other.
    eventually(SOON, "the gauge to say what the status says", async || {
        let said = rig.get("all").await["status"]["expiredRows"]
            .as_i64()
            .unwrap();
        let gauge = rig
            .metric("retention_operator_policy_expired_rows", "all")
            .await;
        if (gauge - said as f64).abs() < 0.5 {
            Ok(())
        } else {
            Err((gauge, said))
        }
    })
    .await;
    for probe in ["/healthz", "/readyz"] {
        let answer = rig.http(probe).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{probe}: {answer}");
    }

    let without = status["rules"].as_array().unwrap().len() - 2;
    let mut rest = json!({"mode": "Enforce", "rules": rules[..without], "holds": holds});
    rest["audit"] = json!({"interval": "1h"});
    rig.apply("all", rest).await;
    let status = rig
        .status("all", SOON, "to be compliant without that rule", |it| {
            it["observedGeneration"] == 2 && is(it, "Compliant", "True")
        })
        .await;
    assert_eq!(status["expiredRows"], 0);
}

#[tokio::test]
async fn requests_act_once_and_only_where_they_may() {
    let mut rig = Rig::start("requests").await;
    fill(&rig.database, "logs", 1000).await;
    let spec = json!({"mode": "Enforce", "rules": [rule("logs", "logs")]});
    let expired = "SELECT count(*) FROM logs WHERE at < now() - interval '30 days'";

    rig.apply("logs", json!({"rules": [rule("logs", "logs")]}))
        .await;
    rig.request_sweep("logs").await;
    rig.event("logs RequestRefused: retention-operator.io/sweep-requested-at is not acted on: the policy's mode is Audit")
        .await;
    rig.annotate("logs", "sweep-requested-at", "2020-01-01T00:00:00Z")
        .await;
    rig.event("StaleRequest: retention-operator.io/sweep-requested-at \"2020-01-01T00:00:00Z\" is older than 24 hours")
        .await;
    // What was refused in Audit mode does not act when the mode changes.
    rig.apply("logs", spec.clone()).await;
    rig.status("logs", SOON, "to be ready to enforce", |it| {
        it["observedGeneration"] == 2 && is(it, "Ready", "True")
    })
    .await;
    rig.annotate("logs", "sweep-requested-at", "2999-01-01T00:00:00Z")
        .await;
    rig.event("\"2999-01-01T00:00:00Z\" is in the future").await;
    rig.annotate("logs", "sweep-requested-at", "soon").await;
    rig.event("\"soon\" is not an RFC 3339 instant").await;
    assert_eq!(rig.database.scalar::<i64>(expired).await, 420);

    let request = rig.request_sweep("logs").await;
    let first = rig.swept("logs", None).await;
    assert_eq!(first["lastSweep"]["rowsDeleted"], 420);
    rig.database
        .execute("INSERT INTO logs SELECT n, now() - interval '40 days' FROM generate_series(5001, 5100) AS n")
        .await;
    rig.kill_and_restart();
    // The status tells whole seconds only, so that the new process' audit may show no difference there.
    eventually(SOON, "an audit by the new process", async || {
        let said = rig.operator.stderr();
        if said.contains("audited") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    let status = rig.get("logs").await["status"].clone();
    assert_eq!(status["lastSweep"]["id"], first["lastSweep"]["id"]);
    assert_eq!(status["lastHandledSweepRequest"], request);
    assert_eq!(rig.database.scalar::<i64>(expired).await, 100);

    // A new one acts; what it was asked with stays in the totals.
    rig.request_sweep("logs").await;
    let second = rig.swept("logs", first["lastSweep"]["id"].as_str()).await;
    assert_eq!(second["lastSweep"]["rowsDeleted"], 100);
    assert_eq!(second["totals"]["rowsDeleted"], 520);
    assert_eq!(rig.database.scalar::<i64>(expired).await, 0);
}

#[tokio::test]
async fn a_sweep_over_its_limits_waits_for_the_approval_of_that_plan() {
    let rig = Rig::start("limits").await;
    fill(&rig.database, "logs", 20_000).await;
    fill(&rig.database, "small", 100).await;
    let count = "SELECT count(*) FROM logs";
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": 8000});
    let spec = json!({"mode": "Enforce", "rules": [logs, rule("small", "small")]});

    rig.apply("logs", spec.clone()).await;
    rig.request_sweep("logs").await;
    let blocked = rig.swept("logs", None).await;

    assert_eq!(blocked["lastSweep"]["outcome"], "Blocked");
    assert_eq!(rig.database.scalar::<i64>(count).await, 20_000);
    // A blocked rule does not stop a good one.
    assert_eq!(blocked["lastSweep"]["rowsDeleted"], 42);
    let pending = &blocked["pendingApproval"];
    let rule = &pending["rules"][0];
    assert_eq!(
        (&rule["name"], &rule["rows"], &rule["percent"]),
        (&json!("logs"), &json!(8400), &json!(42))
    );
    let reason = rule["reason"].as_str().unwrap();
    assert!(
        reason.contains("the limit is 8000 rows (maxRows)"),
        "{reason}"
    );
    assert!(pending["expiresAt"].as_str() > pending["requestedAt"].as_str());
    let hash = pending["planHash"].as_str().unwrap().to_owned();
    assert!(is(&blocked, "ApprovalRequired", "True"));
    let ready = rig
        .status("logs", SOON, "to be ready, though blocked", |it| {
            condition(it, "Ready").is_some_and(|it| it.1 == "Blocked")
        })
        .await;
    assert!(is(&ready, "Ready", "True"));
    rig.event("logs SweepBlocked").await;

    // Another plan's approval approves nothing; the next request, which is handled after it, is blocked as the first one was.
    rig.annotate("logs", "approved-plan", "0123456789abcdef")
        .await;
    rig.request_sweep("logs").await;
    let again = rig.swept("logs", blocked["lastSweep"]["id"].as_str()).await;
    assert_eq!(again["lastSweep"]["outcome"], "Blocked");
    assert_eq!(again["pendingApproval"]["planHash"], hash.as_str());
    assert_eq!(
        again["pendingApproval"]["requestedAt"],
        pending["requestedAt"]
    );
    assert_eq!(rig.database.scalar::<i64>(count).await, 20_000);

    rig.annotate("logs", "approved-plan", &hash).await;
    let done = rig.swept("logs", again["lastSweep"]["id"].as_str()).await;
    assert_eq!(
        done["lastSweep"]["outcome"], "Succeeded",
        "{}",
        done["lastSweep"]
    );
    assert_eq!(done["lastSweep"]["trigger"], "Approval");
    assert_eq!(done["lastSweep"]["rowsDeleted"], 8400);
    assert_eq!(done["lastApproval"]["planHash"], hash.as_str());
    assert!(done["pendingApproval"].is_null());
    assert!(condition(&done, "ApprovalRequired").is_none());
    assert_eq!(rig.database.scalar::<i64>(count).await, 11_600);
}

#[tokio::test]
async fn sweeps_run_at_ticks_and_stop_with_their_window() {
    let rig = Rig::start("ticks").await;
    fill(&rig.database, "quick", 1000).await;
    fill(&rig.database, "slow", 40_000).await;
    let count = "SELECT count(*) FROM slow";
    let every_minute = json!({"cron": "* * * * *"});

    rig.apply(
        "quick",
        json!({"mode": "Enforce", "schedule": every_minute, "rules": [rule("quick", "quick")]}),
    )
    .await;
    rig.apply(
        "slow",
        json!({"mode": "Enforce", "schedule": {"cron": "* * * * *", "window": "10s"},
               "pace": slow(600), "rules": [rule("slow", "slow")]}),
    )
    .await;
    let armed = rig
        .status("quick", SOON, "to know its next tick", |it| {
            it["nextSweepTime"].is_string()
        })
        .await;
    let tick = armed["nextSweepTime"].as_str().unwrap();

    let quick = rig.swept("quick", None).await;
    assert_eq!(quick["lastSweep"]["trigger"], "Schedule");
    assert_eq!(quick["lastSweep"]["outcome"], "Succeeded");
    assert_eq!(quick["lastSweep"]["rowsDeleted"], 420);
    let start = quick["lastSweep"]["startTime"].as_str().unwrap();
    assert!(start >= tick, "{start} {tick}");
    assert!(quick["nextSweepTime"].as_str().unwrap() > start);
    assert_eq!(
        rig.database
            .scalar::<i64>("SELECT count(*) FROM quick")
            .await,
        580
    );

    let stopped = rig.swept("slow", None).await;
    rig.disconnected().await;
    let sweep = &stopped["lastSweep"];
    let left: i64 = rig.database.scalar(count).await;
    assert_eq!(sweep["outcome"], "Partial", "{sweep}");
    assert!(
        sweep["message"]
            .as_str()
            .unwrap()
            .contains("the window closed"),
        "{sweep}"
    );
    assert_eq!(sweep["rowsDeleted"], 40_000 - left);
    assert!((1..16_800).contains(&(40_000 - left)), "{left}");
    assert_eq!(stopped["unfinishedSweep"]["id"], sweep["id"]);
    // At the next tick it goes on where it stopped, as the same sweep.
    let resumed = rig
        .status("slow", LATER, "to go on", |it| {
            it["currentSweep"]["rowsDone"].as_i64() > sweep["rowsDeleted"].as_i64()
        })
        .await;
    assert_eq!(resumed["currentSweep"]["id"], sweep["id"]);
    rig.event("slow SweepResumed").await;
}
