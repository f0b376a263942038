//! A table in which the service writes down what it used, as evidence in audits of a SQLite file.

use rstest::rstest;
use serde_json::{Value, json};

use super::Database;
use super::offline::{verb, with};

/// Ten rows and a log.
async fn database(log: &str) -> Database {
    Database::new(&format!("{} {log}", super::filled("logs", 10))).await
}

const LOG: &str = "CREATE TABLE access_log (id INTEGER PRIMARY KEY, at TEXT, object TEXT); CREATE INDEX access_log_at ON access_log (at);";

/// What the status says of the rule's table.
async fn last_used(database: &Database) -> Value {
    let before = std::fs::read(&database.path).unwrap();
    let spec = with(json!({"usage": {"table": "access_log", "column": "at", "object": "object"}}));

    let ended = verb(&database.url(), "audit", spec, &["-o", "json"]);

    assert_eq!(
        std::fs::read(&database.path).unwrap(),
        before,
        "an audit changes nothing"
    );
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    report["status"]["rules"][0]["lastUsed"].clone()
}

#[rstest]
#[case::bare("logs", "datetime('now', '-2 hours')")]
#[case::with_its_schema("main.logs", "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-3 days')")]
#[case::with_a_zone("logs", "strftime('%Y-%m-%dT%H:%M:%S+02:00', 'now', '-1 day')")]
#[case::a_day("logs", "date('now')")]
#[tokio::test]
async fn a_recent_entry_is_evidence_of_use(#[case] name: &str, #[case] at: &str) {
    let database = database(&format!(
        "{LOG} INSERT INTO access_log (at, object) VALUES ({at}, '{name}'), (datetime('now'), 'other'), ('n/a', '{name}'), (NULL, '{name}'), (7, '{name}')"
    ))
    .await;

    let used = last_used(&database).await;

    assert_eq!(used["state"], "Used", "{used}");
    let expected = database
        .texts(&format!("SELECT strftime('%Y-%m-%d', {at})"))
        .await;
    let zoned = at.contains("+02:00");
    assert!(
        zoned
            || used["since"]
                .as_str()
                .unwrap_or_default()
                .starts_with(&expected[0]),
        "{used} {expected:?}"
    );
}

/// `{s}`: whole seconds since 1970.
#[rstest]
#[case::seconds("INTEGER", "{s}")]
#[case::seconds_beside_another_unit("INTEGER", "{s}), (({s} - 864000000) * 1000000")]
#[case::milliseconds("BIGINT", "{s} * 1000")]
#[case::microseconds("INTEGER", "{s} * 1000000")]
#[case::with_a_fraction("REAL", "{s} + 0.25")]
#[case::a_julian_day("REAL", "julianday({s}, 'unixepoch')")]
#[case::fourteen_digits("INTEGER", "strftime('%Y%m%d%H%M%S', {s}, 'unixepoch')")]
#[case::without_a_type("", "{s}")]
#[case::a_julian_day_without_a_type("", "julianday({s}, 'unixepoch')")]
#[case::seconds_as_text("TEXT", "{s}")]
#[case::milliseconds_as_text("TEXT", "{s} * 1000")]
#[case::microseconds_as_text_without_a_type("", "CAST({s} * 1000000 AS TEXT)")]
#[case::fourteen_digits_as_text("TEXT", "strftime('%Y%m%d%H%M%S', {s}, 'unixepoch')")]
#[case::text_beside_numbers_of_another_kind("", "datetime({s}, 'unixepoch')), (17")]
#[case::a_uuid(
    "TEXT",
    "substr(printf('%012x', {s} * 1000), 1, 8) || '-' || substr(printf('%012x', {s} * 1000), 9) || '-7cc3-98c4-dc0c0c07398f'"
)]
#[case::a_uuid_in_capitals(
    "TEXT",
    "upper(substr(printf('%012x', {s} * 1000), 1, 8) || '-' || substr(printf('%012x', {s} * 1000), 9) || '-7cc3-98c4-dc0c0c07398f')"
)]
#[tokio::test]
async fn times_are_read_in_every_encoding_that_rules_know(
    #[case] declared: &str,
    #[case] value: &str,
) {
    let two_hours = jiff::SignedDuration::from_hours(2);
    let then = jiff::Timestamp::now().as_second() - two_hours.as_secs();
    let entries = |seconds: i64| {
        let value = value.replace("{s}", &seconds.to_string());
        let values = format!("({value})").replace("), (", ", 'logs'), (");
        format!(
            "INSERT INTO access_log (at, object) VALUES {}, 'logs')",
            values.strip_suffix(')').unwrap()
        )
    };
    let log = format!(
        "CREATE TABLE access_log (at {declared}, object TEXT); CREATE INDEX access_log_at ON access_log (at);"
    );
    let recent = database(&format!("{log} {}", entries(then))).await;
    let old = database(&format!("{log} {}", entries(then - 200 * 86_400))).await;
    let future = database(&format!("{log} {}", entries(then + 86_400))).await;

    let used = last_used(&recent).await;

    assert_eq!(used["state"], "Used", "{used}");
    // A status says the day.
    let day = jiff::Timestamp::from_second(then).unwrap().strftime("%F");
    assert_eq!(used["since"], format!("{day}T00:00:00Z"));
    for database in [old, future] {
        let used = last_used(&database).await;
        assert_eq!(used["state"], "Unknown", "{used}");
        let reason = used["reason"].as_str().unwrap_or_default();
        assert_eq!(
            reason.contains("usage log"),
            value.contains("(17"),
            "{used}"
        );
    }
}

#[rstest]
#[case::of_something_else("(datetime('now'), 'other'), (datetime('now'), 'LOGS2')")]
#[case::long_ago("(datetime('now', '-200 days'), 'logs')")]
#[case::in_the_future("(datetime('now', '+2 days'), 'logs')")]
#[case::none("(NULL, NULL)")]
#[tokio::test]
async fn without_one_nothing_is_said(#[case] rows: &str) {
    let database = database(&format!(
        "{LOG} INSERT INTO access_log (at, object) VALUES {rows}"
    ))
    .await;

    let used = last_used(&database).await;

    assert_eq!(used["state"], "Unknown", "{used}");
    assert!(
        !used["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("usage log"),
        "{used}"
    );
}

#[rstest]
#[case::no_table("", "table access_log does not exist")]
#[case::a_view(
    "CREATE VIEW access_log AS SELECT 'x' AS at, 'logs' AS object",
    "is a view"
)]
#[case::no_column(
    "CREATE TABLE access_log (at TEXT); CREATE INDEX i ON access_log (at)",
    "no column object"
)]
#[case::no_index(
    "CREATE TABLE access_log (at TEXT, object TEXT)",
    "no index of main.access_log begins with at"
)]
#[case::a_partial_index(
    "CREATE TABLE access_log (at TEXT, object TEXT); CREATE INDEX i ON access_log (at) WHERE object = 'x'",
    "no index"
)]
#[case::of_no_known_unit(
    "CREATE TABLE access_log (at INTEGER, object TEXT); CREATE INDEX i ON access_log (at); INSERT INTO access_log VALUES (unixepoch() * 1000000000, 'logs')",
    "column at of main.access_log holds no times that can be read: write seconds, milliseconds or microseconds since 1970"
)]
#[case::counted(
    "CREATE TABLE access_log (at INTEGER, object TEXT); CREATE INDEX i ON access_log (at); INSERT INTO access_log VALUES (1, 'logs'), (2, 'logs')",
    "holds no times that can be read"
)]
#[case::bytes(
    "CREATE TABLE access_log (at, object TEXT); CREATE INDEX i ON access_log (at); INSERT INTO access_log VALUES (x'31', 'logs')",
    "holds no times that can be read"
)]
#[case::letters_of_another_alphabet(
    "CREATE TABLE access_log (at, object TEXT); CREATE INDEX i ON access_log (at); INSERT INTO access_log VALUES (CAST(x'ff' AS TEXT), 'logs')",
    "holds no times that can be read"
)]
#[case::unreadable_where_it_would_matter(
    "CREATE TABLE access_log (at, object TEXT); CREATE INDEX i ON access_log (at); INSERT INTO access_log VALUES (unixepoch(), 'other'), ('yesterday', 'logs')",
    "they prove nothing"
)]
#[case::another_form(
    "CREATE TABLE access_log (at TEXT, object TEXT); CREATE INDEX i ON access_log (at); INSERT INTO access_log VALUES ('31.01.2099', 'logs')",
    "ISO 8601"
)]
#[tokio::test]
async fn a_log_that_cannot_be_read_is_named_and_stops_nothing(
    #[case] log: &str,
    #[case] says: &str,
) {
    let database = database(log).await;

    let used = last_used(&database).await;

    assert_eq!(used["state"], "Unknown", "{used}");
    let reason = used["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("usage log") && reason.contains(says),
        "{used}"
    );
}

/// What is to be swept may be empty.
#[tokio::test]
async fn an_empty_table_of_a_rule_is_no_finding_whether_the_rule_is_good_or_not() {
    let database = Database::new("CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER)").await;

    for spec in [json!({}), with(json!({"column": "gone"}))] {
        let ended = verb(&database.url(), "audit", spec, &["-o", "json"]);

        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(report["findings"], json!([]), "{ended:?}");
    }
}
