//! The ledger as the offline verbs use it: two policies on one database, a killed sweep, the switch in the database, least rights.

mod meanwhile;
mod neighbours;
mod resume;
mod rights;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::operator::tables::{fill, rule};
use crate::support::operator::{Ended, Operator, offline};
use crate::support::postgres::{Postgres, TestDatabase};
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
