//! The offline verbs: the same engine, told by a file, answered by exit codes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::operator::tables::{Reference, fill, rule, slow};
use crate::support::operator::{Ended, Operator, offline};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::{run_dir, unique};
use crate::support::wait::eventually;

/// A database with 20,000 rows in `logs`, of which 42 % have expired.
async fn database() -> TestDatabase {
    let database = Postgres::shared().database("offline").await;
    fill(&database, "logs", 20_000).await;
    database
}

/// A file with a policy over `logs`, `spec` merged over it.
pub(crate) fn file(spec: Value) -> PathBuf {
    let mut policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "logs", "namespace": "shop"},
        "spec": {
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}},
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

fn verb(database: &TestDatabase, verb: &str, spec: Value, more: &[&str]) -> Ended {
    let file = file(spec);
    let arguments = [&[verb, "-f", file.to_str().unwrap()], more].concat();
    offline(&database.url, &arguments)
}

async fn rows(database: &TestDatabase) -> i64 {
    database.scalar("SELECT count(*) FROM logs").await
}

fn limited() -> Value {
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": 8000});
    json!({"rules": [logs]})
}

#[rstest]
#[case::violated(json!({"mode": "Audit"}), 2)]
#[case::violated_though_enforced(json!({}), 2)]
#[case::compliant(json!({"rules": [{"name": "logs", "table": "logs", "column": "at", "expireAfter": "10y", "action": "Delete"}]}), 0)]
#[case::hygiene_alone(json!({"mode": "Audit", "rules": []}), 0)]
#[case::refused_rule(json!({"rules": [rule("logs", "logz")]}), 1)]
#[case::refused_policy(json!({"timeZone": "Mars/Base"}), 1)]
#[tokio::test]
async fn an_audits_exit_code_is_its_verdict(#[case] spec: Value, #[case] code: i32) {
    let database = database().await;

    let table = verb(&database, "audit", spec.clone(), &[]);
    let report = verb(&database, "audit", spec.clone(), &["-o", "json"]);

    assert_eq!(table.code, Some(code), "{table:?}");
    assert!(table.stdout.contains("Ready="), "{table:?}");
    assert_eq!(report.code, Some(code), "{report:?}");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let mut fields: Vec<&String> = report.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        ["apiVersion", "findings", "kind", "policy", "status"]
    );
    assert_eq!(report["apiVersion"], "retention-operator.io/v1alpha1");
    assert_eq!(report["kind"], "Report");
    assert_eq!(
        report["policy"],
        json!({"namespace": "shop", "name": "logs"})
    );
    assert!(report["findings"].is_array());
    assert_eq!(report["status"]["database"]["name"], database.name);
    let rules = spec
        .get("rules")
        .map_or(1, |rules| rules.as_array().unwrap().len());
    assert_eq!(
        report["status"]["rules"].as_array().map_or(0, Vec::len),
        rules
    );
    assert_eq!(rows(&database).await, 20_000);
}

#[tokio::test]
async fn a_plan_counts_exactly_and_changes_nothing() {
    let database = database().await;

    let fine = verb(&database, "plan", json!({}), &["-o", "json"]);
    let blocked = verb(&database, "plan", limited(), &[]);
    let refused = verb(
        &database,
        "plan",
        json!({"rules": [rule("logs", "logz")]}),
        &[],
    );

    assert_eq!(fine.code, Some(0), "{fine:?}");
    let plan: Value = serde_json::from_str(&fine.stdout).unwrap();
    assert_eq!(plan["kind"], "Plan");
    assert_eq!(plan["rules"][0]["expiredRows"], 8400);
    assert_eq!(plan["rules"][0]["rows"], 20_000);
    assert_eq!(plan["settings"]["maxDuty"], 25);
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert!(
        blocked.stdout.contains("8,400 of 20,000 would go"),
        "{blocked:?}"
    );
    assert!(blocked.stdout.contains("sweep --approve "), "{blocked:?}");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stdout.contains("table logz does not exist"),
        "{refused:?}"
    );
    assert_eq!(rows(&database).await, 20_000);
}

/// Tokens that hold the second of their own end, and visits whose time is a text, each with three that mean no time.
async fn encoded() -> (TestDatabase, Value) {
    let database = Postgres::shared().database("encoded").await;
    database
        .execute(
            "SET timezone = 'Europe/Berlin';
             CREATE TABLE tokens (id int, ends bigint); CREATE TABLE visits (id int, at text);
             INSERT INTO tokens SELECT n, extract(epoch FROM now())::bigint + (n - 500.5) * 3600 FROM generate_series(1, 1000) n;
             INSERT INTO visits SELECT n, to_char(now() - n * interval '1 day', 'YYYY-MM-DD HH24:MI:SS') FROM generate_series(1, 100) n;
             INSERT INTO tokens VALUES (1001, 0), (1002, -1), (1003, 0), (1004, NULL);
             INSERT INTO visits VALUES (101, 'yesterday'), (102, ''), (103, '2020-02-30'), (104, NULL); ANALYZE",
        )
        .await;
    let rules = json!({"rules": [
        {"name": "tokens", "table": "tokens", "column": "ends", "encoding": "EpochSeconds", "expireAfter": "0s", "action": "Delete"},
        {"name": "visits", "table": "visits", "column": "at", "encoding": "Iso8601", "columnTimeZone": "Europe/Berlin",
         "expireAfter": "30d", "action": "Delete"},
    ]});
    (database, rules)
}

#[tokio::test]
async fn times_in_numbers_and_texts_expire_and_what_means_no_time_stays_and_is_counted() {
    let (database, rules) = encoded().await;
    let statuses = |ended: &Ended| {
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        report["status"]["rules"].as_array().unwrap().clone()
    };

    let audit = verb(&database, "audit", rules.clone(), &["-o", "json"]);
    let plan = verb(&database, "plan", rules.clone(), &["-o", "json"]);
    let printed = verb(&database, "plan", rules.clone(), &[]);
    let swept = verb(&database, "sweep", rules.clone(), &["-o", "json"]);
    let again = verb(&database, "sweep", rules, &[]);

    for rule in statuses(&audit) {
        let estimate = rule["unreadableRows"]["value"].as_i64().unwrap();
        assert!((1..20).contains(&estimate), "{rule}");
        assert_eq!(rule["unreadableRows"]["method"], "Histogram", "{rule}");
        assert!(rule["oldest"]["value"].is_string(), "{rule}");
    }
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    for (rule, expired) in [(0, 500), (1, 71)] {
        let rule = &plan["rules"][rule];
        assert_eq!(
            (&rule["expiredRows"], &rule["unreadableRows"]),
            (&json!(expired), &json!(3)),
            "{rule}"
        );
    }
    assert!(
        printed.stdout.contains("3 rows, which never expire"),
        "{printed:?}"
    );
    assert_eq!(swept.code, Some(0), "{swept:?}");
    for rule in statuses(&swept) {
        assert_eq!(rule["expiredRows"]["value"], 0, "{rule}");
        assert_eq!(rule["unreadableRows"]["value"], 3, "{rule}");
        assert_eq!(rule["unreadableRows"]["method"], "Count", "{rule}");
    }
    assert!(again.stdout.contains("3 rows are unreadable"), "{again:?}");
    let left: String = database
        .scalar(
            "SELECT concat_ws(' ', (SELECT min(id) FROM tokens), (SELECT count(*) FROM tokens),
               (SELECT max(id) FILTER (WHERE id < 101) FROM visits), (SELECT count(*) FROM visits))",
        )
        .await;
    assert_eq!(
        left, "501 504 29 33",
        "one token ends as the sweep begins, or just after"
    );
}

#[tokio::test]
async fn a_unit_by_which_every_value_is_of_1970_is_told_and_swept_with_an_approval_only() {
    let database = Postgres::shared().database("unit").await;
    database
        .execute(
            "CREATE TABLE logs (id int, at bigint);
             INSERT INTO logs SELECT n, extract(epoch FROM now())::bigint - n FROM generate_series(1, 1000) n; ANALYZE",
        )
        .await;
    let stated = |encoding: &str| json!({"rules": [{"name": "logs", "table": "logs", "column": "at", "encoding": encoding, "expireAfter": "30d", "action": "Delete"}]});
    let words = "every value of column at of public.logs is a time before 1980: state the unit that its values have";

    let right = verb(&database, "plan", stated("EpochSeconds"), &[]);
    let audit = verb(&database, "audit", stated("EpochMillis"), &[]);
    let plan = verb(&database, "plan", stated("EpochMillis"), &["-o", "json"]);
    let blocked = verb(&database, "sweep", stated("EpochMillis"), &[]);
    let left = rows(&database).await;

    assert_eq!(right.code, Some(0), "{right:?}");
    assert!(!right.stdout.contains("1980"), "{right:?}");
    assert_eq!(audit.code, Some(2), "{audit:?}");
    assert!(
        audit.stdout.contains(&format!(
            "rule logs is doubtful: by encoding EpochMillis {words}"
        )),
        "{audit:?}"
    );
    assert_eq!(plan.code, Some(3), "{plan:?}");
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let reason = plan["rules"][0]["blocked"].as_str().unwrap();
    assert!(reason.contains(words), "{plan}");
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert!(blocked.stdout.contains(words), "{blocked:?}");
    assert_eq!(left, 1000);

    let hash = plan["planHash"].as_str().unwrap();
    let approved = verb(
        &database,
        "sweep",
        stated("EpochMillis"),
        &["--approve", hash],
    );

    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 0);
}

#[tokio::test]
async fn a_column_of_two_units_is_told_and_swept_with_an_approval_only() {
    let database = Postgres::shared().database("units").await;
    // Half of it in milliseconds, of which every second row has expired; then seconds of today.
    database
        .execute(
            "CREATE TABLE logs (id int, at bigint);
             INSERT INTO logs SELECT n, extract(epoch FROM now() - n % 2 * interval '90 days')::bigint * 1000 FROM generate_series(1, 500) n;
             INSERT INTO logs SELECT n, extract(epoch FROM now())::bigint FROM generate_series(501, 1000) n; ANALYZE",
        )
        .await;
    let patch = json!({"rules": [{"name": "logs", "table": "logs", "column": "at", "encoding": "EpochMillis", "expireAfter": "30d",
        "limits": {"maxPercent": 100}, "action": "Delete"}]});
    let words = "some values of column at of public.logs are of the first weeks of 1970";

    let audit = verb(&database, "audit", patch.clone(), &[]);
    let plan = verb(&database, "plan", patch.clone(), &["-o", "json"]);
    let blocked = verb(&database, "sweep", patch.clone(), &[]);
    let left = rows(&database).await;

    assert!(audit.stdout.contains(words), "{audit:?}");
    assert_eq!((plan.code, blocked.code), (Some(3), Some(3)), "{blocked:?}");
    assert!(blocked.stdout.contains(words), "{blocked:?}");
    assert_eq!(left, 1000);

    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let hash = plan["planHash"].as_str().unwrap();
    let approved = verb(&database, "sweep", patch.clone(), &["--approve", hash]);
    let kept = rows(&database).await;
    let next = verb(&database, "sweep", patch, &[]);

    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(kept, 250, "the young ones");
    assert_eq!(next.code, Some(0), "nothing is doubtful any more: {next:?}");
}

/// Read as seconds, milliseconds lie in a far future.
#[tokio::test]
async fn rows_of_a_larger_unit_than_the_stated_one_stay_and_stop_nothing() {
    let database = Postgres::shared().database("larger").await;
    database
        .execute(
            "CREATE TABLE logs (id int, at bigint);
             INSERT INTO logs SELECT n, extract(epoch FROM now() - interval '90 days')::bigint * CASE n % 2 WHEN 0 THEN 1000 ELSE 1 END
               FROM generate_series(1, 100) n; ANALYZE",
        )
        .await;
    let patch = json!({"rules": [{"name": "logs", "table": "logs", "column": "at", "encoding": "EpochSeconds", "expireAfter": "30d", "action": "Delete"}]});

    let swept = verb(&database, "sweep", patch, &[]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!(rows(&database).await, 50);
}

#[tokio::test]
async fn a_sweep_takes_exactly_the_expired_rows() {
    let database = database().await;
    let reference = Reference::of(&database, "logs").await;

    let swept = verb(&database, "sweep", json!({}), &["-o", "json"]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    let report: Value = serde_json::from_str(&swept.stdout).unwrap();
    let status = &report["status"];
    let cutoff = status["rules"][0]["cutoff"].as_str().unwrap();
    let expired = reference.delete(&format!("at < '{cutoff}'")).await;
    reference.assert_equal().await;
    assert_eq!(expired, 8400);
    assert_eq!(report["kind"], "Report");
    assert_eq!(status["lastSweep"]["outcome"], "Succeeded");
    assert_eq!(status["lastSweep"]["rowsDeleted"], expired);
    assert_eq!(status["rules"][0]["expiredRows"]["value"], 0);
    let compliant = &status["conditions"].as_array().unwrap().iter();
    let compliant = compliant
        .clone()
        .find(|it| it["type"] == "Compliant")
        .unwrap();
    assert_eq!(compliant["status"], "True", "{status}");
    let again = verb(&database, "sweep", json!({}), &[]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let audit = verb(&database, "audit", json!({}), &[]);
    // The statistics are of before the sweep until somebody analyses the table.
    assert_eq!(audit.code, Some(2), "{audit:?}");
    database.execute("ANALYZE logs").await;
    let audit = verb(&database, "audit", json!({}), &[]);
    assert_eq!(audit.code, Some(0), "{audit:?}");
}

#[rstest]
#[case::audit_mode(json!({"mode": "Audit"}), "mode: Enforce")]
#[case::suspended(json!({"suspend": true}), "suspend: false")]
#[case::unreadable_schedule(json!({"schedule": {"cron": "99 3 * * *"}}), "99 3 * * *")]
#[tokio::test]
async fn a_sweep_needs_a_policy_that_enforces(#[case] spec: Value, #[case] advice: &str) {
    let database = database().await;

    let refused = verb(&database, "sweep", spec, &[]);

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(advice), "{refused:?}");
    assert_eq!(rows(&database).await, 20_000);
}

#[tokio::test]
async fn a_sweep_over_its_limits_runs_with_the_approval_of_that_plan_only() {
    let database = database().await;

    let blocked = verb(&database, "sweep", limited(), &[]);
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    let planned = verb(&database, "plan", limited(), &["-o", "json"]);
    let plan: Value = serde_json::from_str(&planned.stdout).unwrap();
    let hash = plan["planHash"].as_str().unwrap();
    assert!(blocked.stdout.contains(hash), "{hash} {blocked:?}");
    let wrong = verb(
        &database,
        "sweep",
        limited(),
        &["--approve", "0123456789abcdef"],
    );
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains(hash), "{wrong:?}");
    let mut other = limited();
    other["rules"][0]["expireAfter"] = json!("29d");
    let changed = verb(&database, "sweep", other, &["--approve", hash]);
    assert_eq!(changed.code, Some(1), "{changed:?}");
    assert_eq!(rows(&database).await, 20_000);

    let approved = verb(&database, "sweep", limited(), &["--approve", hash]);

    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 11_600);
}

/// 100 of the 8,400 expired rows have 100 items each.
async fn with_items() -> TestDatabase {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE items (log_id bigint CONSTRAINT item_of REFERENCES logs ON DELETE CASCADE);
             CREATE INDEX ON items (log_id);
             INSERT INTO items SELECT id FROM logs, generate_series(1, 100) WHERE id > 19900; ANALYZE items",
        )
        .await;
    database
}

fn cascading(max_rows: i64) -> Value {
    let mut logs = rule("logs", "logs");
    logs["dependents"] = json!("Cascade");
    logs["limits"] = json!({"maxRows": max_rows, "maxPercent": 100});
    json!({"rules": [logs]})
}

#[tokio::test]
async fn rows_that_go_along_count_against_the_limits_and_are_reported() {
    let database = with_items().await;

    // 8,400 rows with 10,000 items.
    let blocked = verb(&database, "sweep", cascading(9_000), &[]);
    let left: i64 = database
        .scalar("SELECT (SELECT count(*) FROM logs) + (SELECT count(*) FROM items)")
        .await;
    let swept = verb(&database, "sweep", cascading(20_000), &["-o", "json"]);

    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert!(
        blocked.stdout.contains("18400 rows would be"),
        "{blocked:?}"
    );
    assert!((21_000..30_000).contains(&left), "{left}");
    assert_eq!(swept.code, Some(0), "{swept:?}");
    let report: Value = serde_json::from_str(&swept.stdout).unwrap();
    let rest: i64 = database
        .scalar("SELECT (SELECT count(*) FROM logs) + (SELECT count(*) FROM items)")
        .await;
    assert_eq!(rest, 11_600);
    assert_eq!(report["status"]["lastSweep"]["rowsDeleted"], left - rest);
}

#[tokio::test]
async fn a_plan_names_what_refers_to_the_table_and_what_becomes_of_it() {
    let database = with_items().await;

    let refused = verb(&database, "plan", json!({}), &[]);
    let cascades = verb(&database, "plan", cascading(20_000), &[]);
    let too_many = verb(&database, "plan", cascading(18_399), &[]);

    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in [
        "public.items",
        "item_of",
        "about 10000 rows",
        "dependents: Skip",
    ] {
        assert!(refused.stdout.contains(part), "{refused:?}");
    }
    assert_eq!(cascades.code, Some(0), "{cascades:?}");
    assert!(
        cascades
            .stdout
            .contains("Cascade: public.items (item_of, ON DELETE CASCADE"),
        "{cascades:?}"
    );
    assert!(
        cascades
            .stdout
            .contains("and 10,000 of other tables with them"),
        "{cascades:?}"
    );
    assert_eq!(too_many.code, Some(3), "{too_many:?}");
    assert!(too_many.stdout.contains("-18400"), "{too_many:?}");
}

#[rstest]
#[case::interrupted("INT")]
#[case::terminated("TERM")]
#[tokio::test]
async fn a_signal_stops_a_sweep_at_its_next_chunk(#[case] signal: &str) {
    let database = database().await;
    let file = file(json!({"pace": slow(500)}));
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let mut sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);
    eventually(Duration::from_secs(30), "some rows to go", async || {
        let rows = rows(&database).await;
        if rows < 19_800 {
            Ok(())
        } else {
            Err((rows, sweep.stderr()))
        }
    })
    .await;

    sweep.signal(signal);
    let ended = sweep.wait(Duration::from_secs(10));

    assert_eq!(ended.code(), Some(1), "{}", sweep.stderr());
    let report: Value = serde_json::from_str(&sweep.stdout()).unwrap();
    let swept = &report["status"]["lastSweep"];
    let gone = 20_000 - rows(&database).await;
    assert!((200..8400).contains(&gone), "{gone}");
    assert_eq!(swept["outcome"], "Partial");
    assert_eq!(swept["rowsDeleted"], gone);
}

#[test]
fn an_unknown_field_is_refused_with_advice() {
    let file = file(json!({"holdz": []}));

    let ended = offline(
        "postgres://nobody@127.0.0.1:1/x",
        &["audit", "-f", file.to_str().unwrap()],
    );

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("spec.holdz: unknown field: did you mean holds?"),
        "{ended:?}"
    );
}

#[rstest]
#[case::no_such_file(&["audit", "-f", "/nonexistent/policy.yaml"], "/nonexistent/policy.yaml")]
#[case::no_file(&["plan"], "--filename")]
#[case::no_such_verb(&["purge"], "purge")]
#[case::no_such_flag(&["sweep", "--force"], "--force")]
fn wrong_usage_is_an_error(#[case] arguments: &[&str], #[case] names: &str) {
    let ended = offline("postgres://nobody@127.0.0.1:1/x", arguments);

    // 2 would say that a policy is violated.
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(names), "{ended:?}");
}

#[rstest]
#[case::audit("audit")]
#[case::plan("plan")]
#[case::sweep("sweep")]
fn a_database_that_cannot_be_had_is_an_error_that_keeps_the_password(#[case] verb: &str) {
    let file = file(json!({}));
    let postgres = Postgres::shared();
    let addresses = [
        "postgres://app:Tr0ub4dor@127.0.0.1:1/shop".to_owned(),
        format!(
            "postgres://app:Tr0ub4dor@127.0.0.1:{}/shop",
            postgres.port()
        ),
        "mysql://app:Tr0ub4dor@127.0.0.1/shop".to_owned(),
        "postgres://app:Tr0ub4dor@127.0.0.1:port/shop".to_owned(),
    ];

    for url in addresses {
        let ended = offline(
            &url,
            &[verb, "-f", file.to_str().unwrap(), "--log-level", "debug"],
        );
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("error: "), "{ended:?}");
        assert!(
            !ended.stderr.contains("Tr0ub4dor") && !ended.stdout.contains("Tr0ub4dor"),
            "{ended:?}"
        );
    }
}

#[test]
fn without_an_address_the_verb_says_how_to_give_one() {
    let file = file(json!({}));
    let mut audit = Operator::start(&["audit", "-f", file.to_str().unwrap()], &[]);

    let ended = audit.wait(Duration::from_secs(10));

    assert_eq!(ended.code(), Some(1));
    assert!(
        audit.stderr().contains("DATABASE_URL"),
        "{}",
        audit.stderr()
    );
}

#[test]
fn crd_prints_the_definition_that_is_installed() {
    let ended = offline("", &["crd"]);

    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/crds/retentionpolicies.retention-operator.io.yaml"
    );
    let installed: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let printed: Value = serde_saphyr::from_str(&ended.stdout).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(printed, installed);
}
