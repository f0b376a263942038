//! Everything that a policy's author can get wrong: the status names it, nothing is done, and nothing is told that must not be.

use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{LATER, Rig, SOON, condition, is};
use super::tables::rule;
use crate::support::process::free_port;
use crate::support::wait::eventually;

const PASSWORD: &str = "Tr0ub4dor";
const WRONG_PASSWORD: &str = "Wr0ngH0rse";

/// A policy with one mistake.
struct Mistake {
    name: &'static str,
    spec: Value,
    /// The condition beside `Ready: False`: `Stalled` waits for somebody, `Reconciling` for better times.
    beside: &'static str,
    /// What the message names.
    names: Vec<String>,
}

fn stalled(name: &'static str, spec: Value, names: &[&str]) -> Mistake {
    Mistake {
        name,
        spec,
        beside: "Stalled",
        names: names.iter().map(|&text| text.to_owned()).collect(),
    }
}

fn unreachable(name: &'static str, secret: &str, names: &[&str]) -> Mistake {
    Mistake {
        beside: "Reconciling",
        ..stalled(
            name,
            database(json!({"secretRef": {"name": secret}})),
            names,
        )
    }
}

/// An enforcing policy with `logs` swept, its rule and its spec changed by merging.
fn spec(in_rule: Value, in_spec: Value) -> Value {
    let mut rule = rule("logs", "logs");
    merge(&mut rule, in_rule);
    let mut spec = json!({
        "mode": "Enforce",
        "audit": {"interval": "1h"},
        "database": {"secretRef": {"name": "app"}},
        "rules": [rule],
    });
    merge(&mut spec, in_spec);
    spec
}

fn database(database: Value) -> Value {
    spec(json!({}), json!({"database": database}))
}

fn merge(into: &mut Value, fields: Value) {
    for (name, value) in fields.as_object().unwrap() {
        into[name] = value.clone();
    }
}

fn filter(filter: &str) -> Value {
    spec(json!({"where": filter}), json!({}))
}

fn secret(name: &str) -> Value {
    database(json!({"secretRef": {"name": name}}))
}

fn mistakes(closed_port: u16) -> Vec<Mistake> {
    let in_rule = |fields| spec(fields, json!({}));
    let in_spec = |fields| spec(json!({}), fields);
    vec![
        stalled("table", in_rule(json!({"table": "logz"})), &["table logz"]),
        stalled(
            "table-case",
            in_rule(json!({"table": "Logs"})),
            &["table Logs"],
        ),
        stalled(
            "schema",
            in_rule(json!({"table": "shop.logs"})),
            &["shop.logs"],
        ),
        stalled(
            "view",
            in_rule(json!({"table": "logs_view"})),
            &["public.logs_view is a view"],
        ),
        stalled(
            "system-table",
            in_rule(json!({"table": "pg_catalog.pg_class", "column": "relname"})),
            &["pg_catalog.pg_class"],
        ),
        stalled(
            "column",
            in_rule(json!({"column": "happened"})),
            &["no column happened", "at"],
        ),
        stalled(
            "column-type",
            in_rule(json!({"column": "note"})),
            &["column note", "text", "state encoding: ", "Iso8601"],
        ),
        stalled(
            "encoding-missing",
            in_rule(json!({"column": "n"})),
            &["column n", "integer", "state encoding: EpochSeconds"],
        ),
        stalled(
            "encoding-misfit",
            in_rule(json!({"column": "n", "encoding": "Ulid"})),
            &["column n", "integer", "encoding Ulid", "write EpochSeconds"],
        ),
        stalled(
            "encoding-of-times",
            in_rule(json!({"encoding": "Iso8601"})),
            &["column at", "timestamp with time zone", "remove encoding"],
        ),
        stalled(
            "column-zone",
            in_rule(json!({"columnTimeZone": "Europe/Berlin"})),
            &["columnTimeZone", "at"],
        ),
        stalled("where-syntax", filter("note = = 'x'"), &["where"]),
        stalled("where-column", filter("nosuch = 1"), &["where", "nosuch"]),
        stalled(
            "where-function",
            filter("pg_sleep(10) IS NULL"),
            &["where", "pg_sleep"],
        ),
        stalled(
            "where-subquery",
            filter("id IN (SELECT id FROM logs)"),
            &["where"],
        ),
        stalled("where-type", filter("n = 'abc'"), &["where", "abc"]),
        stalled(
            "where-statement",
            filter("true; DROP TABLE logs"),
            &["where"],
        ),
        stalled("where-not-boolean", filter("n + 1"), &["where"]),
        stalled(
            "hold-table",
            in_spec(json!({"holds": [{"name": "case-1", "table": "logz"}]})),
            &["hold case-1", "logz"],
        ),
        stalled(
            "hold-where",
            in_spec(json!({"holds": [{"name": "case-1", "table": "logs", "where": "nosuch = 1"}]})),
            &["hold case-1", "nosuch"],
        ),
        stalled(
            "referred-to",
            in_rule(json!({"table": "parent"})),
            &["public.parent", "public.child"],
        ),
        stalled(
            "may-not-read",
            in_rule(json!({"table": "private"})),
            &["SELECT", "public.private"],
        ),
        stalled(
            "may-not-delete",
            in_rule(json!({"table": "readable"})),
            &["DELETE", "public.readable"],
        ),
        stalled(
            "secret",
            secret("nothing"),
            &["Secret nothing does not exist"],
        ),
        stalled(
            "secret-key",
            database(json!({"urlFrom": {"secretKeyRef": {"name": "app", "key": "dsn"}}})),
            &["Secret app has no key dsn", "uri"],
        ),
        stalled("secret-empty", secret("empty"), &["Secret empty"]),
        stalled(
            "secret-incomplete",
            secret("incomplete"),
            &["Secret incomplete", "host"],
        ),
        stalled("secret-port", secret("bad-port"), &["port"]),
        stalled(
            "secret-prose",
            secret("prose"),
            &["Secret prose", "postgres://"],
        ),
        stalled(
            "secret-mysql",
            secret("mysql"),
            &["mysql://", "Secret mysql"],
        ),
        stalled(
            "secret-unparsable",
            secret("unparsable"),
            &["Secret unparsable", "port"],
        ),
        stalled(
            "password",
            secret("wrong-password"),
            &["refused user", "app_"],
        ),
        stalled("user", secret("no-user"), &["refused user", "nobody_here"]),
        stalled("database", secret("no-database"), &["no_such_database"]),
        unreachable("host", "no-host", &["no-such-host.invalid", "resolved"]),
        unreachable("port", "no-port", &[&format!("127.0.0.1:{closed_port}")]),
        stalled(
            "archive",
            in_rule(
                json!({"action": "Archive", "archive": {"objectStore": {"url": "s3://archive/logs"}}}),
            ),
            &["archive.objectStore"],
        ),
        stalled(
            "archive-cascade",
            in_rule(
                json!({"action": "Archive", "archive": {"table": {"name": "old_logs"}}, "dependents": "Cascade"}),
            ),
            &["dependents: Cascade", "dependents: Skip"],
        ),
        stalled(
            "partitions",
            in_rule(json!({"partitions": "Drop"})),
            &["partitions: Drop"],
        ),
        stalled(
            "workers",
            in_spec(json!({"pace": {"workers": 2}})),
            &["pace.workers"],
        ),
        stalled(
            "reindex",
            in_spec(json!({"optimize": {"reindex": "Auto"}})),
            &["optimize.reindex: Auto"],
        ),
        stalled(
            "cron",
            in_spec(json!({"schedule": {"cron": "99 3 * * *"}})),
            &["schedule.cron", "99 3 * * *"],
        ),
        stalled(
            "cron-never",
            in_spec(json!({"schedule": {"cron": "0 0 30 2 *"}})),
            &["schedule.cron", "never fires"],
        ),
        stalled(
            "time-zone",
            in_spec(json!({"timeZone": "Europe/Berlim"})),
            &["timeZone", "Europe/Berlim", "Europe/Berlin"],
        ),
        stalled(
            "column-zone-unknown",
            in_rule(json!({"columnTimeZone": "Mars/Base"})),
            &["columnTimeZone", "Mars/Base"],
        ),
    ]
}

async fn prepare(rig: &Rig, closed_port: u16) {
    rig.database
        .execute(
            "CREATE TABLE logs (id int PRIMARY KEY, at timestamptz, note text, n int);
             INSERT INTO logs SELECT n, now() - n * interval '1 day', 'note', n FROM generate_series(1, 100) AS n;
             CREATE VIEW logs_view AS SELECT * FROM logs;
             CREATE TABLE parent (id int PRIMARY KEY, at timestamptz);
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
             INSERT INTO parent SELECT id, at FROM logs; INSERT INTO child SELECT id, id FROM parent;
             CREATE TABLE private AS TABLE parent; CREATE TABLE readable AS TABLE parent; ANALYZE",
        )
        .await;
    let app = rig
        .database
        .role(
            "app",
            PASSWORD,
            "GRANT SELECT, DELETE ON logs, logs_view, parent, child TO {role}; GRANT SELECT ON readable TO {role}",
        )
        .await;
    let good = rig.database.url_as(&app.name, PASSWORD);
    let at = |from: &str, to: &str| good.replace(from, to);
    let name = rig.database.name.as_str();
    let address = good
        .split('@')
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    for (secret, data) in [
        ("app", [("uri", good.as_str())]),
        ("empty", [("uri", "")]),
        ("incomplete", [("password", PASSWORD)]),
        ("prose", [("uri", &format!("the password is {PASSWORD}"))]),
        (
            "mysql",
            [("uri", &format!("mysql://app:{PASSWORD}@127.0.0.1/shop"))],
        ),
        (
            "unparsable",
            [(
                "uri",
                &format!("postgres://app:{PASSWORD}@127.0.0.1:port/shop"),
            )],
        ),
        ("wrong-password", [("uri", &at(PASSWORD, WRONG_PASSWORD))]),
        ("no-user", [("uri", &at(&app.name, "nobody_here"))]),
        (
            "no-database",
            [("uri", &at(&format!("/{name}"), "/no_such_database"))],
        ),
        ("no-host", [("uri", &at(&address, "no-such-host.invalid"))]),
        (
            "no-port",
            [("uri", &at(&address, &format!("127.0.0.1:{closed_port}")))],
        ),
    ] {
        rig.secret(secret, &data).await;
    }
    rig.secret(
        "bad-port",
        &[
            ("host", "127.0.0.1"),
            ("port", "70000"),
            ("dbname", name),
            ("username", "app"),
            ("password", PASSWORD),
        ],
    )
    .await;
}

/// Everything in the database that a policy could have changed.
async fn contents(rig: &Rig) -> String {
    rig.database
        .scalar(
            "SELECT concat_ws(' ',
                 (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM logs t),
                 (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM parent t),
                 (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM child t),
                 (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM private t),
                 (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM readable t),
                 (SELECT string_agg(oid || ':' || relname || ':' || relkind::text || ':' || relfilenode, ',' ORDER BY oid) FROM pg_class WHERE oid >= 16384),
                 (SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_'))",
        )
        .await
}

#[tokio::test]
async fn every_mistake_is_named_and_harms_nobody() {
    let rig = Rig::start("mistakes").await;
    let closed_port = free_port();
    prepare(&rig, closed_port).await;
    let before = contents(&rig).await;

    let mistakes = mistakes(closed_port);
    let now = jiff::Timestamp::now().to_string();
    for mistake in &mistakes {
        let annotations = json!({"retention-operator.io/sweep-requested-at": now});
        rig.apply_annotated(mistake.name, mistake.spec.clone(), annotations)
            .await;
    }
    let mut surprises = Vec::new();
    for mistake in &mistakes {
        let status = rig
            .status(mistake.name, LATER, "to be judged", |it| {
                condition(it, "Ready").is_some_and(|it| it.1 != "Progressing")
            })
            .await;
        let (ready, reason, message) = condition(&status, "Ready").unwrap();
        let beside: Vec<&str> = ["Stalled", "Reconciling"]
            .into_iter()
            .filter(|type_| is(&status, type_, "True"))
            .collect();
        let unnamed: Vec<&String> = mistake
            .names
            .iter()
            .filter(|name| !message.contains(name.as_str()))
            .collect();
        if ready != "False"
            || beside != [mistake.beside]
            || !unnamed.is_empty()
            || message.len() > 256
        {
            surprises.push(format!(
                "{}: Ready={ready} {reason} beside {beside:?} (wanted {}), does not name {unnamed:?}:\n    {message}",
                mistake.name, mistake.beside
            ));
        }
    }
    assert!(
        surprises.is_empty(),
        "{} surprises:\n{}",
        surprises.len(),
        surprises.join("\n")
    );

    // Every requested sweep has ended, or waits for its database.
    eventually(SOON, "the sweeps to end", async || {
        let running = rig.metric("retention_operator_sweeps_running", "").await;
        if running.abs() < 0.5 {
            Ok(())
        } else {
            Err(running)
        }
    })
    .await;
    assert_no_hot_loop(&rig).await;
    assert_no_secret(&rig, &mistakes).await;
    let mut swept = Vec::new();
    for mistake in &mistakes {
        let status = rig.get(mistake.name).await["status"].take();
        if status["totals"]["rowsDeleted"].as_i64().unwrap_or(0) > 0 {
            swept.push(mistake.name);
        }
    }
    assert!(swept.is_empty(), "policies that deleted rows: {swept:?}");
    assert_eq!(contents(&rig).await, before);
}

/// Over ten seconds: a stretch of time is what is looked at here; no condition stands for it.
async fn assert_no_hot_loop(rig: &Rig) {
    let counters = async || {
        [
            rig.metric("retention_operator_audits_total", "").await,
            rig.metric("retention_operator_reconciles_total", "").await,
            rig.metric("retention_operator_status_writes_total", "")
                .await,
        ]
    };
    // Ended sweeps are followed by an audit each; those belong to the requests.
    eventually(LATER, "the audits after the sweeps to end", async || {
        let before = counters().await[0];
        tokio::time::sleep(Duration::from_secs(2)).await;
        let audits = counters().await[0] - before;
        if audits <= 1.0 { Ok(()) } else { Err(audits) }
    })
    .await;
    let before = counters().await;

    tokio::time::sleep(Duration::from_secs(10)).await;

    let after = counters().await;
    let grown = [0, 1, 2].map(|index: usize| after[index] - before[index]);
    // Two databases do not answer, and are asked again ever more rarely; nobody else is looked at.
    assert!(
        grown[0] <= 6.0 && grown[1] <= 20.0 && grown[2] <= 8.0,
        "audits, looks and status writes of ten seconds: {grown:?}"
    );
}

async fn assert_no_secret(rig: &Rig, mistakes: &[Mistake]) {
    let mut seen = vec![
        rig.logs(),
        rig.http("/metrics").await.unwrap(),
        rig.events().await.join("\n"),
    ];
    for mistake in mistakes {
        seen.push(rig.get(mistake.name).await.to_string());
    }
    for secret in [PASSWORD, WRONG_PASSWORD] {
        for text in &seen {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test]
async fn what_waits_for_somebody_is_looked_at_again_at_the_audits_interval() {
    let rig = Rig::start("repaired").await;
    rig.database
        .execute("CREATE TABLE logs (id int, at timestamptz); CREATE TABLE mails (id int, at timestamptz); ANALYZE")
        .await;
    let often = json!({"interval": "10s"});
    let late = json!({"secretRef": {"name": "late"}});
    rig.apply(
        "secret",
        json!({"audit": often, "database": late, "rules": [rule("mails", "mails")]}),
    )
    .await;
    rig.apply(
        "table",
        json!({"audit": often, "rules": [rule("orders", "orders"), rule("logs", "logs")]}),
    )
    .await;
    rig.status("secret", SOON, "to stall", |it| {
        condition(it, "Stalled").is_some_and(|it| it.1 == "SecretNotFound")
    })
    .await;
    let stalled = rig
        .status("table", SOON, "to stall", |it| {
            condition(it, "Stalled").is_some_and(|it| it.1 == "RulesRefused")
        })
        .await;
    // A good rule is not stopped by a bad one.
    assert_eq!(stalled["rules"][0]["reason"], "TableNotFound");
    assert!(stalled["rules"][1]["reason"].is_null());
    assert_eq!(stalled["rules"][1]["expiredRows"]["value"], 0);

    rig.secret("late", &[("uri", &rig.database.url)]).await;
    rig.database
        .execute("CREATE TABLE orders (id int, at timestamptz); ANALYZE orders")
        .await;

    for name in ["secret", "table"] {
        let status = rig
            .status(name, SOON, "to recover", |it| is(it, "Ready", "True"))
            .await;
        assert!(condition(&status, "Stalled").is_none());
        assert!(status["rules"][0]["reason"].is_null());
    }
}
