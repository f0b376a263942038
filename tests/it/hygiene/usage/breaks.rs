//! What breaks a window on a real server, so that nothing is called unused where nobody could know it.

use std::process::Command;
use std::time::Duration;

use retention_operator::policy::usage::Usage;
use serde_json::json;

use super::{SCHEMA, audited, audited_by, looked, of_rule, policy, watched};
use crate::support::postgres::Postgres;
use crate::support::process::found_by;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_reset_of_the_counters_is_no_disuse() {
    let database = watched(Postgres::shared(), "usage_reset").await;

    database.execute("SELECT pg_stat_reset()").await;
    let report = audited(&database.url).await;

    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown("not watched for long enough since the database's counters were reset")
    );
    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_reset_of_one_index_is_no_disuse() {
    let database = watched(Postgres::shared(), "usage_single").await;

    database
        .execute("SELECT pg_stat_reset_single_table_counters('t_a'::regclass)")
        .await;
    audited(&database.url).await;

    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_crash_is_no_disuse_and_a_clean_restart_breaks_nothing() {
    let mut server = Postgres::start_own(&[("autovacuum", "off")]);
    let database = watched(&server, "usage_crash").await;

    server.stop();
    server.restart();
    audited(&database.url).await;
    let restarted = looked(&database.url).await;
    assert!(matches!(restarted.index("t_a"), Usage::Unused { .. }));
    assert!(matches!(restarted.table("t"), Usage::Unused { .. }));

    server.crash();
    server.restart();
    looked(&database.url).await.assert_nothing_is_unused();
    let report = audited(&database.url).await;
    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown(
            "not watched for long enough since the server lost its counters, as in a crash"
        )
    );
    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_backend_that_was_killed_takes_the_counters_with_it_and_that_is_no_disuse() {
    let server = Postgres::start_own(&[("autovacuum", "off")]);
    let database = watched(&server, "usage_kill").await;
    let mut connection = database.connect().await;
    let pid: i32 = sqlx::Row::get(
        &sqlx::query("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .unwrap(),
        0,
    );

    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    drop(connection);
    let options: sqlx::postgres::PgConnectOptions = database.url.parse().unwrap();
    eventually(Duration::from_secs(60), "the server recovers", async || {
        match sqlx::ConnectOptions::connect(&options).await {
            Ok(mut again) => {
                let reset =
                    "SELECT (SELECT stats_reset FROM pg_stat_wal) > pg_postmaster_start_time()";
                sqlx::query(reset)
                    .fetch_one(&mut again)
                    .await
                    .map_err(|error| error.to_string())
                    .and_then(|row| match sqlx::Row::get::<bool, _>(&row, 0) {
                        true => Ok(()),
                        false => Err("not yet".to_owned()),
                    })
            }
            Err(error) => Err(error.to_string()),
        }
    })
    .await;

    audited(&database.url).await;
    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_standby_says_what_it_is_and_its_promotion_is_no_disuse() {
    let primary = Postgres::start_own(&[("autovacuum", "off")]);
    let database = watched(&primary, "usage_standby").await;
    let standby = Postgres::standby_of(&primary, &[("autovacuum", "off")]);
    let promoted = standby.existing(&database.name);
    let there = promoted.url.clone();

    let report = audited(&there).await;
    assert!(matches!(of_rule(&report).usage, Usage::Unknown(_)));
    assert!(
        of_rule(&report)
            .note
            .as_deref()
            .unwrap()
            .contains("this node only"),
        "{:?}",
        of_rule(&report)
    );
    assert!(report.unseen.iter().any(|it| it.contains("this node only")));
    looked(&there).await.assert_nothing_is_unused();

    eventually(
        Duration::from_secs(30),
        "the primary knows its standby",
        async || {
            let note = of_rule(&audited(&database.url).await).note.clone();
            note.filter(|note| note.contains("this node only"))
                .ok_or("no note")
        },
    )
    .await;

    let mut connection = promoted.connect().await;
    sqlx::query("SELECT pg_promote()")
        .execute(&mut connection)
        .await
        .unwrap();
    let report = audited(&there).await;
    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown("not watched for long enough since another node became the primary")
    );
    looked(&there).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_restored_dump_and_a_copied_database_are_other_ones() {
    let database = watched(Postgres::shared(), "usage_restore").await;

    let copy = format!("{}_copy", database.name);
    let maintenance = Postgres::shared().existing("postgres");
    eventually(Duration::from_secs(30), "no session is left", async || {
        let left: i64 = maintenance
            .scalar(&format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'",
                database.name
            ))
            .await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    maintenance
        .execute(&format!(
            r#"CREATE DATABASE "{copy}" TEMPLATE "{}""#,
            database.name
        ))
        .await;
    let copied = database.url.replace(&database.name, &copy);
    audited(&copied).await;
    looked(&copied).await.assert_nothing_is_unused();

    let other = Postgres::start_own(&[("autovacuum", "off")]);
    let restored = other.database("restored").await;
    let bin = found_by("postgres.sh", &["pg_basebackup"]);
    let dump = Command::new(bin.join("pg_dump"))
        .arg(&database.url)
        .output()
        .unwrap();
    assert!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let file = std::env::temp_dir().join(format!("{}.sql", database.name));
    std::fs::write(&file, dump.stdout).unwrap();
    let load = Command::new(bin.join("psql"))
        .args(["--quiet", "--set=ON_ERROR_STOP=1", "--file"])
        .arg(&file)
        .arg(&restored.url)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(
        load.status.success(),
        "{}",
        String::from_utf8_lossy(&load.stderr)
    );
    looked(&restored.url).await.assert_nothing_is_unused();
    let report = audited(&restored.url).await;
    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown(
            "not watched for long enough since the database was restored on another server"
        )
    );
    looked(&restored.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn an_index_rebuilt_concurrently_keeps_its_window_and_a_renamed_table_leaves_it_alone() {
    let database = watched(Postgres::shared(), "usage_reindex").await;
    let before: sqlx::postgres::types::Oid = database.scalar("SELECT 't_e'::regclass::oid").await;

    database.execute("REINDEX INDEX CONCURRENTLY t_a").await;
    database.execute("REINDEX INDEX CONCURRENTLY t_e").await;
    database.execute("ALTER TABLE t RENAME TO u").await;
    let after: sqlx::postgres::types::Oid = database.scalar("SELECT 't_e'::regclass::oid").await;
    assert_ne!(before, after);

    let mut rule = policy("Auto", json!({"table": "u"}));
    rule.unused_after_days = 90;
    let report = audited_by(&database.url, &rule).await;
    assert!(matches!(of_rule(&report).usage, Usage::Unknown(_)));
    let looked = looked(&database.url).await;
    assert!(matches!(looked.index("t_a"), Usage::Unused { .. }));
    assert!(matches!(looked.index("t_e"), Usage::Unused { .. }));
}

#[tokio::test]
async fn a_table_made_anew_is_another_one() {
    let database = watched(Postgres::shared(), "usage_anew").await;

    database.execute("DROP TABLE t").await;
    database.execute(SCHEMA).await;
    audited(&database.url).await;

    let looked = looked(&database.url).await;
    assert!(matches!(looked.table("t"), Usage::Unknown(_)));
}

#[tokio::test]
async fn an_index_made_anew_for_other_rows_or_on_another_table_is_another_one() {
    let database = watched(Postgres::shared(), "usage_index_anew").await;
    database
        .execute("DROP INDEX t_e; CREATE INDEX t_e ON t (abs(a - 1))")
        .await;
    database
        .execute("DROP INDEX t_a; CREATE TABLE u (LIKE t); CREATE INDEX t_a ON u (a)")
        .await;

    audited(&database.url).await;

    let looked = looked(&database.url).await;
    for name in ["t_a", "t_e"] {
        let usage = looked.index(name);
        assert!(matches!(usage, Usage::Unknown(_)), "{name}: {usage:?}");
    }
}
