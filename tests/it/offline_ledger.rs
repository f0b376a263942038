//! The ledger as the offline verbs use it: two policies on one database, a killed sweep, the switch in the database, least rights.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::operator::tables::{Reference, fill, rule, slow};
use crate::support::operator::{Ended, Operator, offline};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{FOREIGN, Postgres, TestDatabase, connect};
use crate::support::process::{run_dir, unique};
use crate::support::wait::eventually;

/// A database with 20,000 rows in `logs`, of which 8,400 have expired.
async fn database() -> TestDatabase {
    let database = Postgres::shared().database("book").await;
    fill(&database, "logs", 20_000).await;
    database
}

/// A file with a policy over `logs` that asks for a ledger, `spec` merged over it.
fn file(name: &str, spec: Value) -> PathBuf {
    let mut policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}, "ledger": "Auto"},
            "rules": [rule("logs", "logs")],
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        policy["spec"][field] = value.clone();
    }
    let file = run_dir().join(unique("policy", '-')).with_extension("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    file
}

fn verb(url: &str, verb: &str, name: &str, spec: Value, more: &[&str]) -> Ended {
    let file = file(name, spec);
    let arguments = [&[verb, "-f", file.to_str().unwrap()], more].concat();
    offline(url, &arguments)
}

fn sweep(database: &TestDatabase, name: &str, spec: Value, more: &[&str]) -> Ended {
    verb(&database.url, "sweep", name, spec, more)
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

async fn rows(database: &TestDatabase) -> i64 {
    database.scalar("SELECT count(*) FROM logs").await
}

async fn recorded(database: &TestDatabase) -> i64 {
    database
        .scalar("SELECT coalesce(sum(rows_deleted), 0)::int8 FROM retention_operator.sweep_rule")
        .await
}

async fn started(database: &TestDatabase, name: &str, spec: Value, below: i64) -> Operator {
    let file = file(name, spec);
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);
    eventually(Duration::from_secs(30), "some rows to go", async || {
        let rows = rows(database).await;
        if rows < below {
            Ok(())
        } else {
            Err((rows, sweep.stderr()))
        }
    })
    .await;
    sweep
}

fn held(filter: &str) -> Value {
    json!([{"name": "case-4711", "table": "logs", "where": filter, "reason": "litigation"}])
}

/// A policy that has a hold on `logs` and a rule elsewhere.
async fn holder(database: &TestDatabase, holds: Value) -> Ended {
    let exists: bool = database
        .scalar("SELECT to_regclass('public.other') IS NOT NULL")
        .await;
    if !exists {
        fill(database, "other", 10).await;
    }
    let spec = json!({"rules": [rule("other", "other")], "holds": holds});
    sweep(database, "holder", spec, &[])
}

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

#[tokio::test]
async fn a_second_policy_does_not_get_a_table_that_a_first_one_has() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE parts (at timestamptz) PARTITION BY RANGE (at); CREATE TABLE part PARTITION OF parts DEFAULT;
             INSERT INTO parts SELECT now() - interval '90 days' FROM generate_series(1, 10)",
        )
        .await;
    let both = json!({"rules": [rule("logs", "logs"), rule("parts", "parts")]});
    assert_eq!(sweep(&database, "first", both, &[]).code, Some(0));
    database
        .execute("INSERT INTO parts SELECT now() - interval '90 days' FROM generate_series(1, 10)")
        .await;
    let mine = json!({"rules": [rule("mine", "logs"), rule("part", "part")]});

    let swept = sweep(&database, "second", mine.clone(), &["-o", "json"]);
    let audited = verb(&database.url, "audit", "second", mine.clone(), &[]);
    let planned = verb(&database.url, "plan", "second", mine.clone(), &[]);

    assert_eq!(swept.code, Some(1), "{swept:?}");
    for rule in report(&swept)["status"]["rules"].as_array().unwrap() {
        assert_eq!(rule["reason"], "TableClaimed", "{rule}");
        assert!(
            rule["message"].as_str().unwrap().contains("shop/first"),
            "{rule}"
        );
    }
    assert!(audited.stdout.contains("TableClaimed"), "{audited:?}");
    assert!(planned.stdout.contains("TableClaimed"), "{planned:?}");
    let left: i64 = database.scalar("SELECT count(*) FROM parts").await;
    assert_eq!(left, 10);

    // The first one gives the table back.
    let other = json!({"rules": [rule("parts", "parts")]});
    assert_eq!(sweep(&database, "first", other, &[]).code, Some(0));
    let mine = json!({"rules": [rule("mine", "logs")]});
    assert_eq!(sweep(&database, "second", mine, &[]).code, Some(0));
}

#[tokio::test]
async fn a_hold_of_one_policy_binds_the_rules_of_another() {
    let database = database().await;
    let held_rows =
        "SELECT count(*) FROM logs WHERE id % 10 = 3 AND at < now() - interval '30 days'";
    let before: i64 = database.scalar(held_rows).await;
    assert_eq!(holder(&database, held("id % 10 = 3")).await.code, Some(0));

    let swept = sweep(&database, "logs", json!({}), &["-o", "json"]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    let after: i64 = database.scalar(held_rows).await;
    assert!(before > 500 && before == after, "{before} {after}");
    assert_eq!(rows(&database).await, 20_000 - 8_400 + before);
}

#[tokio::test]
async fn a_hold_that_was_removed_needs_an_approval() {
    let database = database().await;
    holder(&database, held("id % 10 = 3")).await;
    sweep(&database, "logs", json!({}), &[]);
    let kept = rows(&database).await;
    holder(&database, json!([])).await;

    let planned = verb(&database.url, "plan", "logs", json!({}), &["-o", "json"]);
    let blocked = sweep(&database, "logs", json!({}), &["-o", "json"]);

    assert_eq!(planned.code, Some(3), "{planned:?}");
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert_eq!(rows(&database).await, kept);
    let message = report(&blocked)["status"]["lastSweep"]["message"].clone();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("case-4711 of policy shop/holder was removed"),
        "{message}"
    );

    let hash = report(&blocked)["planHash"].as_str().unwrap().to_owned();
    let approved = sweep(&database, "logs", json!({}), &["--approve", &hash]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 20_000 - 8_400);
    let recorded: String = database
        .scalar(
            "SELECT string_agg(plan_hash || ' ' || policy, ',') FROM retention_operator.approval",
        )
        .await;
    assert_eq!(recorded, format!("{hash} shop/logs"));
    let after = sweep(&database, "logs", json!({}), &[]);
    assert_eq!(after.code, Some(0), "the question was answered: {after:?}");
}

#[tokio::test]
async fn an_approval_of_before_a_hold_was_removed_does_not_let_its_rows_go() {
    let database = database().await;
    holder(&database, held("id % 10 = 3")).await;
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": 100});
    let spec = json!({"rules": [logs]});
    let limited = sweep(&database, "logs", spec.clone(), &["-o", "json"]);
    let before = report(&limited)["planHash"].as_str().unwrap().to_owned();
    holder(&database, json!([])).await;

    let refused = sweep(&database, "logs", spec.clone(), &["--approve", &before]);

    assert_eq!(limited.code, Some(3), "{limited:?}");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("is not the plan that is blocked now"),
        "{refused:?}"
    );
    assert_eq!(rows(&database).await, 20_000);
    let planned = verb(&database.url, "plan", "logs", spec.clone(), &["-o", "json"]);
    let now = report(&planned)["planHash"].as_str().unwrap().to_owned();
    let approved = sweep(&database, "logs", spec, &["--approve", &now]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 20_000 - 8_400);
}

#[rstest]
#[case::whole_table(json!([{"name": "all", "table": "logs"}]), 0, "")]
#[case::dropped_table(json!([{"name": "lost", "table": "other"}]), 1, "hold lost of policy shop/holder: table other does not exist")]
#[tokio::test]
async fn what_another_policy_holds_is_never_guessed(
    #[case] holds: Value,
    #[case] code: i32,
    #[case] says: &str,
) {
    let database = database().await;
    holder(&database, holds).await;
    database.execute("DROP TABLE other").await;

    let swept = sweep(&database, "logs", json!({}), &[]);

    assert_eq!(rows(&database).await, 20_000, "{swept:?}");
    assert_eq!(swept.code, Some(code), "{swept:?}");
    assert!(swept.stdout.contains(says), "{swept:?}");
}

#[tokio::test]
async fn a_paused_database_is_not_swept_and_a_running_sweep_waits() {
    let database = database().await;
    let mut running = started(&database, "logs", json!({"pace": slow(2000)}), 19_800).await;

    database
        .execute("UPDATE retention_operator.control SET paused = true, reason = 'black friday'")
        .await;
    eventually(Duration::from_secs(10), "the sweep to wait", async || {
        let before = rows(&database).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = rows(&database).await;
        if before == after {
            Ok(())
        } else {
            Err((before, after))
        }
    })
    .await;
    let second = sweep(&database, "logs", json!({}), &[]);
    let standing = rows(&database).await;
    database
        .execute("UPDATE retention_operator.control SET paused = false")
        .await;
    let ended = running.wait(Duration::from_secs(30));

    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("black friday"), "{second:?}");
    assert!(standing > 11_600, "it had not ended before: {standing}");
    assert_eq!(ended.code(), Some(0), "{}", running.stderr());
    assert_eq!(rows(&database).await, 11_600);
}

#[tokio::test]
async fn two_sweeps_at_once_take_every_row_once() {
    let database = database().await;
    sweep(
        &database,
        "logs",
        json!({"rules": [], "mode": "Enforce"}),
        &[],
    );
    let file = file("logs", json!({"pace": slow(4000)}));
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut both = [
        Operator::start(&arguments, &environment),
        Operator::start(&arguments, &environment),
    ];

    for sweep in &mut both {
        assert_eq!(sweep.wait(Duration::from_secs(60)).code(), Some(0));
    }

    assert_eq!(rows(&database).await, 11_600);
    assert_eq!(recorded(&database).await, 8_400);
}

/// A process that is stopped in the middle of a chunk keeps its locks until the server ends its session.
#[rstest]
#[case::with_a_ledger("Auto")]
#[case::without("Off")]
#[tokio::test]
async fn the_service_waits_at_most_ten_seconds_for_rows_of_a_stopped_sweep(#[case] ledger: &str) {
    let database = database().await;
    // Rows that are slow to delete, so that a stop hits a chunk nearly always.
    database
        .execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0005); RETURN OLD; END';
             CREATE TRIGGER slow BEFORE DELETE ON logs FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let spec = json!({
        "database": {"secretRef": {"name": "db"}, "ledger": ledger},
        "pace": {"chunkDuration": "500ms", "maxDuty": 100},
    });
    let mut sweep = started(&database, "logs", spec, 20_000).await;
    let mut service = database.connect().await;
    let mut longest = Duration::ZERO;
    let mut mid_chunk = 0;

    for _ in 0..8 {
        while count(&mut service, "backend_xid IS NOT NULL").await == 0 {
            assert!(sweep.exited().is_none(), "it ended: {}", sweep.stderr());
        }
        sweep.signal("STOP");
        mid_chunk += count(&mut service, "backend_xid IS NOT NULL").await;
        let began = Instant::now();
        service
            .execute("UPDATE logs SET note = note || '.' WHERE at < now() - interval '29 days'")
            .await
            .unwrap();
        longest = longest.max(began.elapsed());
        sweep.signal("CONT");
        if mid_chunk >= 2 || sweep.exited().is_some() {
            break;
        }
    }

    let ended = sweep.wait(Duration::from_secs(180));
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    assert!(mid_chunk > 0, "no stop hit a chunk");
    assert!(
        longest > Duration::from_secs(4),
        "{longest:?}: it would have waited for ever"
    );
    assert!(ended.code().is_some(), "{}", sweep.stderr());
    if ledger == "Auto" {
        let gone = 20_000 - rows(&database).await;
        assert_eq!(recorded(&database).await, gone);
    }
}

/// Sessions of sweeps that are so.
async fn count(session: &mut sqlx::postgres::PgConnection, so: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {FOREIGN} AND {so}");
    let row = session.fetch_one(AssertSqlSafe(sql)).await.unwrap();
    row.get(0)
}

/// Runs SQL statement by statement, as psql does.
async fn apply(database: &TestDatabase, sql: &str) {
    let mut session = database.connect().await;
    for _ in 0..2 {
        session
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{error} in {sql}"));
    }
}

async fn fresh_role(database: &TestDatabase) -> (String, String) {
    let name = format!("{} O'Neil \"x\"", unique("grantee", '_'));
    let quoted = name.replace('"', "\"\"");
    database
        .execute(&format!(
            "CREATE ROLE \"{quoted}\" LOGIN PASSWORD 'secret';
             REVOKE CONNECT ON DATABASE \"{}\" FROM PUBLIC",
            database.name
        ))
        .await;
    let escaped: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    (name, database.url_as(&escaped, "secret"))
}

fn granted(database_url: Option<&str>, role: &str, spec: Value, more: &[&str]) -> String {
    let file = file("logs", spec);
    let arguments = [
        &["grants", "-f", file.to_str().unwrap(), "--role", role],
        more,
    ]
    .concat();
    let mut verb = match database_url {
        Some(url) => Operator::start(&arguments, &[("DATABASE_URL", url)]),
        None => Operator::start(&arguments, &[]),
    };
    let ended = verb.wait(Duration::from_secs(30));
    assert_eq!(ended.code(), Some(0), "{}", verb.stderr());
    verb.stdout()
}

#[rstest]
#[case::by_name(false, "Auto")]
#[case::looked_up(true, "Auto")]
#[case::without_a_ledger(false, "Off")]
#[case::with_one_that_may_come(false, "Existing")]
#[tokio::test]
async fn what_grants_prints_is_enough_for_a_sweep_and_for_nothing_else(
    #[case] looked_up: bool,
    #[case] ledger: &str,
) {
    let database = database().await;
    fill(&database, "seen", 100).await;
    fill(&database, "other", 100).await;
    let mut seen = rule("seen", "seen");
    seen["mode"] = json!("Audit");
    let spec = json!({
        "database": {"secretRef": {"name": "db"}, "ledger": ledger},
        "rules": [rule("logs", "logs"), seen],
    });
    let (role, url) = fresh_role(&database).await;
    let before = verb(&url, "audit", "logs", spec.clone(), &[]);
    let admin = looked_up.then_some(database.url.as_str());

    apply(&database, &granted(admin, &role, spec.clone(), &[])).await;
    let swept = verb(&url, "sweep", "logs", spec.clone(), &["-o", "json"]);

    assert_eq!(before.code, Some(1), "{before:?}");
    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!(rows(&database).await, 11_600);
    let made: bool = database
        .scalar("SELECT to_regnamespace('retention_operator') IS NOT NULL")
        .await;
    assert_eq!(made, ledger == "Auto");
    let mut session = connect(&url).await;
    for forbidden in [
        "DELETE FROM seen",
        "DELETE FROM other",
        "SELECT FROM other",
        "UPDATE logs SET note = ''",
        "INSERT INTO logs VALUES (1, now(), '')",
        "TRUNCATE logs",
        "CREATE SCHEMA mine",
        "DROP SCHEMA retention_operator CASCADE",
    ] {
        let refused = session.execute(forbidden).await;
        assert!(refused.is_err(), "{forbidden} with {ledger}");
    }
    drop(session);

    apply(
        &database,
        &granted(admin, &role, spec.clone(), &["--revoke"]),
    )
    .await;
    let after = verb(&url, "audit", "logs", spec, &[]);
    assert_eq!(after.code, Some(1), "{after:?}");
}

#[tokio::test]
async fn partitions_are_listed_where_the_database_can_be_asked() {
    let database = Postgres::shared().database("parts").await;
    database
        .execute(
            "CREATE TABLE p (at timestamptz) PARTITION BY RANGE (at); CREATE TABLE \"p \"\"1\" PARTITION OF p DEFAULT",
        )
        .await;
    let spec = json!({"rules": [rule("p", "p")]});

    let named = granted(None, "r", spec.clone(), &[]);
    let listed = granted(Some(&database.url), "r", spec, &[]);

    assert!(named.contains("GRANT SELECT, DELETE ON \"public\".\"p\" TO \"r\";"));
    assert!(named.contains("Set DATABASE_URL"), "{named}");
    assert!(
        listed.contains("GRANT SELECT ON \"public\".\"p\" TO \"r\";"),
        "{listed}"
    );
    assert!(
        listed.contains("GRANT SELECT, DELETE ON \"public\".\"p \"\"1\" TO \"r\";"),
        "{listed}"
    );
}

#[rstest]
#[case::skip("Skip", 20_000 - 8_400 + 100)]
#[case::cascade("Cascade", 20_000 - 8_400)]
#[tokio::test]
async fn what_dependents_need_is_granted_too_and_what_goes_along_is_counted(
    #[case] dependents: &str,
    #[case] left: i64,
) {
    let database = database().await;
    let effect = if dependents == "Skip" {
        ""
    } else {
        "ON DELETE CASCADE"
    };
    database
        .execute(&format!(
            "CREATE TABLE child (log bigint REFERENCES logs {effect}); CREATE INDEX ON child (log);
             INSERT INTO child SELECT id FROM logs WHERE at < now() - interval '31 days' ORDER BY id LIMIT 100; ANALYZE child"
        ))
        .await;
    let mut logs = rule("logs", "logs");
    logs["dependents"] = json!(dependents);
    let spec = json!({"rules": [logs]});
    let (role, url) = fresh_role(&database).await;
    apply(
        &database,
        &granted(Some(&database.url), &role, spec.clone(), &[]),
    )
    .await;

    let swept = verb(&url, "sweep", "logs", spec, &["-o", "json"]);

    assert_eq!(rows(&database).await, left, "{swept:?}");
    let children: i64 = database.scalar("SELECT count(*) FROM child").await;
    assert_eq!(
        recorded(&database).await,
        (20_000 - left) + (100 - children),
        "{swept:?}"
    );
    let status = report(&swept)["status"].clone();
    assert_eq!(status["totals"]["rowsDeleted"], recorded(&database).await);
}

#[rstest]
#[case::made_by_the_role("old.logs", false)]
#[case::of_somebody_else("past", true)]
#[tokio::test]
async fn what_an_archive_table_needs_is_granted_too_and_what_is_archived_is_counted(
    #[case] archive: &str,
    #[case] exists: bool,
) {
    let database = database().await;
    if exists {
        database
            .execute(&format!("CREATE TABLE {archive} (LIKE logs)"))
            .await;
    }
    let mut logs = rule("logs", "logs");
    logs["action"] = json!("Archive");
    logs["archive"] = json!({"table": {"name": archive}});
    let spec = json!({"rules": [logs]});
    let (role, url) = fresh_role(&database).await;
    apply(
        &database,
        &granted(Some(&database.url), &role, spec.clone(), &[]),
    )
    .await;

    let swept = verb(&url, "sweep", "logs", spec, &["-o", "json"]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    let archived: i64 = database
        .scalar(&format!("SELECT count(*) FROM {archive}"))
        .await;
    assert_eq!((archived, rows(&database).await), (8_400, 11_600));
    let totals = report(&swept)["status"]["totals"].clone();
    assert_eq!(
        (&totals["rowsDeleted"], &totals["rowsArchived"]),
        (&json!(8_400), &json!(8_400))
    );
}

#[tokio::test]
async fn a_hold_of_another_policy_binds_what_would_go_along() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE child (log bigint REFERENCES logs ON DELETE CASCADE, name text); CREATE INDEX ON child (log);
             INSERT INTO child SELECT id, 'held' FROM logs WHERE at < now() - interval '31 days' ORDER BY id LIMIT 10; ANALYZE child",
        )
        .await;
    let holds = json!([{"name": "case", "table": "child", "where": "name = 'held'"}]);
    holder(&database, holds).await;
    let mut logs = rule("logs", "logs");
    logs["dependents"] = json!("Cascade");
    let spec = json!({"rules": [logs]});

    let swept = sweep(&database, "logs", spec.clone(), &[]);
    let kept = rows(&database).await;
    holder(&database, json!([])).await;
    let blocked = sweep(&database, "logs", spec, &[]);

    assert_eq!(kept, 11_600 + 10, "{swept:?}");
    assert_eq!(blocked.code, Some(3), "the hold was removed: {blocked:?}");
}

#[tokio::test]
async fn through_a_pooler_the_same_rights_are_enough_and_nothing_leaks() {
    let postgres = Postgres::shared();
    let database = database().await;
    let role = database.role("pooled", "secret", "").await;
    let spec = json!({});
    apply(&database, &granted(None, &role.name, spec.clone(), &[])).await;
    let pooler = PgBouncer::start(postgres, &[(&role.name, &role.password)]);
    let url = pooler.url(&database.name, &role.name, &role.password);

    let swept = verb(&url, "sweep", "logs", spec, &["-o", "json"]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!(recorded(&database).await, 8_400);
    let mut other = connect(&url).await;
    let row = sqlx::raw_sql(
        "SELECT current_setting('search_path') || current_setting('lock_timeout') AS s,
           (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS n",
    )
    .fetch_one(&mut other)
    .await
    .unwrap();
    assert_eq!(row.get::<String, _>("s"), "\"$user\", public0");
    assert_eq!(row.get::<i64, _>("n"), 0);
}

#[test]
fn grants_without_a_role_says_how_to_name_one() {
    let file = file("logs", json!({}));
    let mut verb = Operator::start(&["grants", "-f", file.to_str().unwrap()], &[]);

    assert_eq!(verb.wait(Duration::from_secs(10)).code(), Some(1));
    assert!(verb.stderr().contains("--role"), "{}", verb.stderr());
}
