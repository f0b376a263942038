//! What the offline verbs print, and what they refuse before they connect to anything.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rstest::rstest;
use serde_json::json;

use crate::engine_sqlite::Database;
use crate::support::operator::{Ended, offline};
use crate::support::process::{run_dir, unique};

const FULL: &str = "/dev/full";

fn policy() -> PathBuf {
    let policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "logs", "namespace": "shop"},
        "spec": {
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}, "ledger": "Auto"},
            "rules": [{"name": "logs", "table": "logs", "column": "at", "encoding": "EpochSeconds",
                       "expireAfter": "10y", "action": "Delete"}],
        },
    });
    let file = run_dir().join(unique("output", '-')).with_extension("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    file
}

async fn database() -> Database {
    Database::new(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER); INSERT INTO logs VALUES (1, 5)",
    )
    .await
}

fn run(url: &str, arguments: &[&str], stdout: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_retention-operator"))
        .args(arguments)
        .env("DATABASE_URL", url)
        .env("KUBECONFIG", "/dev/null")
        .stdout(stdout)
        .output()
        .unwrap()
}

/// Without a database: its URL leads nowhere.
fn alone(arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_retention-operator"))
        .args(arguments)
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[rstest]
#[case::audit(&["audit"])]
#[case::audit_as_json(&["audit", "-o", "json"])]
#[case::audit_as_sarif(&["audit", "-o", "sarif"])]
#[case::audit_as_junit(&["audit", "-o", "junit"])]
#[case::plan(&["plan"])]
#[case::plan_as_json(&["plan", "-o", "json"])]
#[case::sweep(&["sweep"])]
#[case::grants(&["grants"])]
#[case::crd(&["crd"])]
#[case::help(&["--help"])]
#[tokio::test]
async fn output_that_cannot_be_written_is_an_error(#[case] verb: &[&str]) {
    let database = database().await;
    let file = policy();
    let mut arguments = verb.to_vec();
    if !matches!(verb[0], "crd" | "--help") {
        arguments.extend(["-f", file.to_str().unwrap()]);
    }
    let full = File::options().write(true).open(FULL).unwrap();

    let ended = run(&database.url(), &arguments, full.into());

    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("the output cannot be written: "),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);

    let ended = run("", &["crd"], writer.into());

    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stderr, b"");
}

#[rstest]
#[case("", "has no name")]
#[case("public", "is everybody")]
#[case("none", "is no role")]
fn a_role_that_is_none_is_granted_nothing(#[case] role: &str, #[case] says: &str) {
    let file = policy();

    let ended = alone(&["grants", "-f", file.to_str().unwrap(), "--role", role]);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(says), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

#[test]
fn what_other_policies_may_need_is_revoked_under_a_warning() {
    let file = policy();

    let ended = alone(&[
        "grants",
        "-f",
        file.to_str().unwrap(),
        "--role",
        "r",
        "--revoke",
    ]);

    let (own, shared) = ended
        .stdout
        .split_once("-- Only where no other policy of this database uses this role:\n")
        .expect("a warning");
    assert!(
        own.contains("REVOKE SELECT, DELETE ON \"public\".\"logs\""),
        "{own}"
    );
    for what in [
        "retention_operator",
        "USAGE ON SCHEMA",
        "CONNECT ON DATABASE",
    ] {
        assert!(!own.contains(what), "{own}");
        assert!(shared.contains(what), "{shared}");
    }
}

#[rstest]
#[case("debu")]
#[case("retention_operator")]
fn a_level_that_is_none_mutes_nothing(#[case] level: &str) {
    let ended = alone(&["crd", "--log-level", level]);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("is not a level or filter"),
        "{ended:?}"
    );
}

#[rstest]
#[case("postgres://retention:S3@cret?pw@127.0.0.1:1/shop")]
#[case("postgres://retention:S3@cret/pw@127.0.0.1:1/shop")]
#[case("postgres://retention:S3@cret#pw@127.0.0.1:1/shop")]
fn no_part_of_a_password_is_taken_for_the_host(#[case] url: &str) {
    let file = policy();

    let ended = offline(url, &["audit", "-f", file.to_str().unwrap()]);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("`?` as %3F"), "{ended:?}");
    assert!(!ended.stderr.contains("cret"), "{ended:?}");
    assert!(!ended.stdout.contains("cret"), "{ended:?}");
}
