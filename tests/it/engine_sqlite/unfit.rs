//! Databases that cannot be swept or read as they are: what stands in the way is said before anything is tried.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};

use super::Database;
use super::offline::{file, rows, verb, with};

/// What the table of a rule may refer to.
const OTHERS: &str =
    "CREATE TABLE users (id INTEGER PRIMARY KEY); CREATE TABLE child (id INTEGER PRIMARY KEY);
    INSERT INTO users VALUES (1);";

#[rstest]
#[case::of_the_table(
    "CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER, u INT REFERENCES users (id))",
    "Refuse",
    "main.logs refers to main.users, which does not exist"
)]
#[case::of_a_table_that_goes_along(
    "CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER); DROP TABLE child;
     CREATE TABLE child (l INT REFERENCES logs (id) ON DELETE CASCADE, u INT REFERENCES USERS (id))",
    "Cascade",
    "main.child refers to main.USERS, which does not exist"
)]
#[tokio::test]
async fn a_missing_table_without_which_nothing_is_deleted_is_named_by_the_plan(
    #[case] schema: &str,
    #[case] dependents: &str,
    #[case] says: &str,
) {
    let database = Database::new(&format!(
        "{OTHERS} {schema}; INSERT INTO logs (at) VALUES (1300000000)"
    ))
    .await;
    database
        .execute("PRAGMA legacy_alter_table = ON; DROP TABLE users")
        .await;
    let spec = with(json!({"dependents": dependents}));

    let plan = verb(&database.url(), "plan", spec.clone(), &[]);
    let sweep = verb(&database.url(), "sweep", spec.clone(), &[]);
    let kept = rows(&database).await;
    database
        .execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        .await;
    let again = verb(&database.url(), "sweep", spec, &[]);

    assert!(plan.stdout.contains(says), "{plan:?}");
    assert_eq!(sweep.code, Some(1), "{sweep:?}");
    assert!(format!("{sweep:?}").contains(says), "{sweep:?}");
    assert!(
        !format!("{sweep:?}").contains("has changed since"),
        "{sweep:?}"
    );
    assert_eq!(kept, 1);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(rows(&database).await, 0);
}

#[tokio::test]
async fn a_missing_table_that_no_delete_needs_does_not_matter() {
    let database = Database::new(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER); INSERT INTO logs (at) VALUES (1300000000);
         CREATE TABLE child (l INT REFERENCES logs (id) ON DELETE SET NULL, u INT REFERENCES users (id));
         CREATE TRIGGER come AFTER INSERT ON logs BEGIN DELETE FROM users; END",
    )
    .await;

    let sweep = verb(
        &database.url(),
        "sweep",
        with(json!({"dependents": "Cascade"})),
        &[],
    );

    assert_eq!(sweep.code, Some(0), "{sweep:?}");
    assert_eq!(rows(&database).await, 0);
}

#[rstest]
#[case("BEFORE DELETE", "BEFORE", "t before DELETE of each row")]
#[case("DELETE", "BEFORE", "t before DELETE of each row")]
#[case("AFTER DELETE", "AFTER", "t after DELETE of each row")]
#[tokio::test]
async fn a_plan_says_when_a_trigger_fires(
    #[case] event: &str,
    #[case] timing: &str,
    #[case] line: &str,
) {
    let database = Database::new(&format!(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER); INSERT INTO logs (at) VALUES (1300000000);
         CREATE TRIGGER t {event} ON logs BEGIN SELECT 1; END"
    ))
    .await;

    let printed = verb(&database.url(), "plan", json!({}), &[]);
    let report = verb(&database.url(), "plan", json!({}), &["-o", "json"]);

    assert!(printed.stdout.contains(line), "{printed:?}");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["rules"][0]["triggers"][0]["timing"], timing);
}

#[rstest]
#[case::no_encoding(json!({"encoding": null}), "state encoding: ", "timestamptz")]
#[case::other_case(json!({"column": "AT"}), "has no column AT: did you mean at?", "date or a time")]
#[case::far(json!({"column": "created"}), "has no column created: its columns are id, at", "date or a time")]
#[tokio::test]
async fn advice_fits_sqlite(#[case] rule: Value, #[case] says: &str, #[case] not: &str) {
    let database = Database::new("CREATE TABLE logs (id INTEGER PRIMARY KEY, at DATETIME)").await;

    let ended = verb(&database.url(), "plan", with(rule), &[]);

    assert!(ended.stdout.contains(says), "{ended:?}");
    assert!(!ended.stdout.contains(not), "{ended:?}");
}

#[tokio::test]
async fn a_blocked_plan_of_a_file_is_approved_by_the_next_sweep_alone() {
    let database = super::offline::database().await;

    let ended = verb(
        &database.url(),
        "plan",
        with(json!({"limits": {"maxRows": 8000}})),
        &[],
    );

    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stdout.contains("sweep --approve "), "{ended:?}");
    assert!(!ended.stdout.contains("cluster"), "{ended:?}");
}

#[rstest]
#[case("audit")]
#[case("plan")]
#[tokio::test]
async fn a_file_in_wal_mode_that_may_only_be_read_is_read_as_immutable(#[case] name: &str) {
    let database = Database::new(
        "PRAGMA journal_mode = WAL; CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER)",
    )
    .await;
    let policy = file(json!({}));
    set_permissions(&policy, Permissions::from_mode(0o444)).unwrap();
    set_permissions(&database.path, Permissions::from_mode(0o444)).unwrap();
    set_permissions(database.folder(), Permissions::from_mode(0o555)).unwrap();
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let run = |url: String| {
        // Root writes everywhere.
        let mut command = Command::new("setpriv");
        if is_root {
            command.args(["--reuid", "65534", "--clear-groups"]);
        }
        let output = command
            .args(["--", env!("CARGO_BIN_EXE_retention-operator"), name, "-f"])
            .arg(&policy)
            .env("DATABASE_URL", url)
            .output()
            .unwrap();
        format!("{output:?}")
    };

    let refused = run(database.url());
    let read = run(format!("{}?immutable=1", database.url()));
    set_permissions(database.folder(), Permissions::from_mode(0o755)).unwrap();

    assert!(refused.contains("add ?immutable=1"), "{refused}");
    assert!(!refused.contains("accept writes"), "{refused}");
    assert!(!read.contains("error: "), "{read}");
}
