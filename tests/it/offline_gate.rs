//! `audit` as the gate of a pipeline: exit codes, baselines, and the formats that other programs read.

use std::fs;
use std::path::PathBuf;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::operator::{Ended, offline};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::{run_dir, unique};

const INVALID: &str = "invalid-index:public.t.t_a";

/// One index that a failed build left: a warning.
async fn database() -> TestDatabase {
    let database = Postgres::shared().database("gate").await;
    database
        .execute("CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, at timestamptz NOT NULL DEFAULT now());
                  INSERT INTO t VALUES (1, 7), (2, 7); ANALYZE t")
        .await;
    let mut connection = database.connect().await;
    let failed = sqlx::raw_sql("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)")
        .execute(&mut connection)
        .await;
    assert!(failed.is_err());
    database
}

fn path(extension: &str) -> PathBuf {
    run_dir()
        .join(unique("gate", '-'))
        .with_extension(extension)
}

fn policy(suppress: &[&str]) -> PathBuf {
    let policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "gate", "namespace": "shop"},
        "spec": {"database": {"secretRef": {"name": "db"}}, "audit": {"suppress": suppress}},
    });
    let file = path("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    file
}

fn audit(database: &TestDatabase, suppress: &[&str], more: &[&str]) -> Ended {
    let file = policy(suppress);
    let arguments = [&["audit", "-f", file.to_str().unwrap()], more].concat();
    offline(&database.url, &arguments)
}

#[rstest]
#[case::findings_alone_violate_nothing(&[], &[], 0)]
#[case::as_grave_as_the_gate(&[], &["--fail-on", "warning"], 2)]
#[case::less_grave_than_the_gate(&[], &["--fail-on", "critical"], 0)]
#[case::suppressed(&[INVALID], &["--fail-on", "warning"], 0)]
#[tokio::test]
async fn an_audits_exit_code_is_that_of_the_gate(
    #[case] suppress: &[&str],
    #[case] arguments: &[&str],
    #[case] code: i32,
) {
    let database = database().await;

    let ended = audit(&database, suppress, arguments);

    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.stdout.contains("findings:"), "{ended:?}");
}

#[tokio::test]
async fn with_a_baseline_only_what_is_new_fails() {
    let database = database().await;
    let baseline = path("json");
    fs::write(&baseline, audit(&database, &[], &["-o", "json"]).stdout).unwrap();
    let gate = [
        "--fail-on",
        "warning",
        "--baseline",
        baseline.to_str().unwrap(),
    ];

    let before = audit(&database, &[], &gate);
    database
        .execute("CREATE TABLE u (id int PRIMARY KEY, a int NOT NULL); INSERT INTO u VALUES (1, 7), (2, 7); ANALYZE u")
        .await;
    let mut connection = database.connect().await;
    sqlx::raw_sql("CREATE UNIQUE INDEX CONCURRENTLY u_a ON u (a)")
        .execute(&mut connection)
        .await
        .unwrap_err();
    let after = audit(&database, &[], &gate);

    assert_eq!(before.code, Some(0), "{before:?}");
    assert_eq!(after.code, Some(2), "{after:?}");
    assert!(
        after.stdout.contains("invalid-index:public.u.u_a  (new)"),
        "{after:?}"
    );
    assert!(!after.stdout.contains("t_a  (new)"), "{after:?}");
}

#[tokio::test]
async fn a_baseline_that_is_no_report_is_an_error_that_says_what_to_write() {
    let database = database().await;
    let file = path("json");
    fs::write(&file, "{}").unwrap();

    let no_report = audit(&database, &[], &["--baseline", file.to_str().unwrap()]);
    let missing = audit(&database, &[], &["--baseline", "/nowhere.json"]);

    assert_eq!(no_report.code, Some(1), "{no_report:?}");
    assert!(
        no_report.stderr.contains("audit --output json"),
        "{no_report:?}"
    );
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("/nowhere.json"), "{missing:?}");
}

#[tokio::test]
async fn every_format_holds_the_finding_and_ends_alike() {
    let database = database().await;
    let formats = ["table", "json", "junit", "sarif", "markdown"];

    let ended: Vec<Ended> = formats
        .iter()
        .map(|format| audit(&database, &[], &["--fail-on", "warning", "-o", format]))
        .collect();

    for (format, ended) in formats.iter().zip(&ended) {
        assert_eq!(ended.code, Some(2), "{format}: {ended:?}");
        let text = ended.stdout.replace("&#95;", "_");
        assert!(text.contains(INVALID), "{format}: {ended:?}");
    }
    let json: Value = serde_json::from_str(&ended[1].stdout).unwrap();
    let finding = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["id"] == INVALID)
        .unwrap();
    assert_eq!(finding["severity"], "warning");
    assert_eq!(
        json["status"]["findings"]["top"][0]["id"], INVALID,
        "{json}"
    );
}
