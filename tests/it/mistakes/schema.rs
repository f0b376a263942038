//! What the API server refuses by the schema and its rules, and the offline verbs by the same ones.

use serde_json::json;

use super::table::{By, Input, in_rule, in_spec, store};

/// What the API server refuses by schema and rules.
pub fn schema() -> Vec<Input> {
    use By::Server;
    vec![
        in_spec(
            Server,
            "no-database",
            json!({"database": null}),
            "spec.database: Required value",
        ),
        in_spec(
            Server,
            "two-addresses",
            json!({"database": {"secretRef": {"name": "app"}, "urlFrom": {"secretKeyRef": {"name": "app", "key": "uri"}}}}),
            "spec.database: database needs exactly one address: write either urlFrom or secretRef",
        ),
        in_spec(
            Server,
            "an-address-in-the-open",
            json!({"database": {"url": "postgres://app:Tr0ub4dor@db/shop"}}),
            "spec.database.url: unknown field",
        ),
        in_spec(
            Server,
            "mode-unknown",
            json!({"mode": "Delete"}),
            r#"spec.mode: Unsupported value: "Delete": supported values: "Audit", "Enforce""#,
        ),
        in_spec(
            Server,
            "nothing-to-enforce",
            json!({"rules": []}),
            "spec: mode Enforce has nothing to enforce: add an entry to rules, or write mode: Audit",
        ),
        in_spec(
            Server,
            "a-field-that-is-not",
            json!({"holdz": []}),
            "spec.holdz: unknown field",
        ),
        in_spec(
            Server,
            "suspend-text",
            json!({"suspend": "yes"}),
            "spec.suspend: must be of type boolean",
        ),
        in_spec(
            Server,
            "zone-offset",
            json!({"timeZone": "+02:00"}),
            "spec.timeZone: timeZone '+02:00' is not an IANA time zone: write for example Europe/Berlin or UTC",
        ),
        in_spec(
            Server,
            "cron-macro",
            json!({"schedule": {"cron": "@daily"}}),
            "spec.schedule.cron: cron '@daily' is not a cron expression of five fields (minute hour day month weekday): write for example 0 3 * * *",
        ),
        in_spec(
            Server,
            "window-alone",
            json!({"schedule": {"window": "4h"}}),
            "spec.schedule: schedule has no cron: write for example cron: 0 3 * * *, or remove schedule to sweep only on request",
        ),
        in_spec(
            Server,
            "interval-short",
            json!({"audit": {"interval": "1s"}}),
            "spec.audit.interval: interval '1s' is not a duration from 10s to 24h: write for example 15m",
        ),
        in_spec(
            Server,
            "duty-of-zero",
            json!({"pace": {"maxDuty": 0}}),
            "spec.pace.maxDuty: should be greater than or equal to 1",
        ),
        in_spec(
            Server,
            "chunk-long",
            json!({"pace": {"chunkDuration": "11s"}}),
            "spec.pace.chunkDuration: chunkDuration '11s' is not a duration from 1ms to 10s: write for example 20ms",
        ),
        in_spec(
            Server,
            "wal-prose",
            json!({"pace": {"maxWalBytesPerSecond": "fast"}}),
            "spec.pace.maxWalBytesPerSecond: maxWalBytesPerSecond 'fast' is not a quantity from 64Ki to 1Ti: write for example 16Mi",
        ),
        in_spec(
            Server,
            "waits-never-end",
            json!({"database": {"secretRef": {"name": "app"}, "lockTimeout": "20s", "statementTimeout": "10s"}}),
            "spec.database: lockTimeout is longer than statementTimeout and would never end a wait: write a shorter lockTimeout",
        ),
        in_spec(
            Server,
            "full-without-window",
            json!({"optimize": {"vacuum": "Full"}}),
            "spec: optimize.vacuum Full locks the table and runs only inside a window: add schedule.window, or write vacuum: Auto",
        ),
        in_spec(
            Server,
            "hold-without-table",
            json!({"holds": [{"name": "case-1"}]}),
            "spec.holds[0].table: Required value",
        ),
        in_spec(
            Server,
            "hold-of-nothing",
            json!({"holds": [{"name": "case-1", "table": "logs", "where": ""}]}),
            "spec.holds[0].where: where is empty: write a condition such as customer_id = 99, or remove it to hold the whole table",
        ),
        in_rule(
            Server,
            "age-in-minutes",
            json!({"expireAfter": "6m"}),
            "spec.rules[0].expireAfter: expireAfter '6m' is not an age: write for example 90d, 1y 6mo or 12h",
        ),
        in_rule(
            Server,
            "age-negative",
            json!({"expireAfter": "-90d"}),
            "spec.rules[0].expireAfter: expireAfter '-90d' is not an age: write for example 90d, 1y 6mo or 12h",
        ),
        in_rule(
            Server,
            "age-iso",
            json!({"expireAfter": "P90D"}),
            "spec.rules[0].expireAfter: expireAfter 'P90D' is not an age: write for example 90d, 1y 6mo or 12h",
        ),
        in_rule(
            Server,
            "age-number",
            json!({"expireAfter": 90}),
            "spec.rules[0].expireAfter: must be of type string",
        ),
        in_rule(
            Server,
            "action-missing",
            json!({"action": null}),
            "spec.rules[0].action: Required value",
        ),
        in_rule(
            Server,
            "action-unknown",
            json!({"action": "Truncate"}),
            r#"spec.rules[0].action: Unsupported value: "Truncate": supported values: "Delete", "Archive""#,
        ),
        in_rule(
            Server,
            "table-empty",
            json!({"table": ""}),
            "spec.rules[0].table: table is empty: write [schema.]table as the database spells it, for example public.activity_logs",
        ),
        in_rule(
            Server,
            "column-blank",
            json!({"column": " "}),
            "spec.rules[0].column: column is empty: write the name of the column that says how old a row is, for example created_at",
        ),
        in_rule(
            Server,
            "where-blank",
            json!({"where": " "}),
            "spec.rules[0].where: where is empty: write a condition such as status <> 'open', or remove it",
        ),
        in_rule(
            Server,
            "encoding-guessed",
            json!({"encoding": "Epoch"}),
            r#"spec.rules[0].encoding: Unsupported value: "Epoch": supported values: "EpochSeconds", "EpochMillis", "EpochMicros", "UuidV7", "Ulid", "Iso8601", "Compact14""#,
        ),
        in_rule(
            Server,
            "zone-for-instants",
            json!({"encoding": "UuidV7", "columnTimeZone": "Europe/Berlin"}),
            "spec.rules[0]: columnTimeZone does not fit encoding UuidV7, whose values are instants in themselves: remove columnTimeZone",
        ),
        in_rule(
            Server,
            "percent-over-all",
            json!({"limits": {"maxPercent": 101}}),
            "spec.rules[0].limits.maxPercent: should be less than or equal to 100",
        ),
        in_rule(
            Server,
            "rows-of-zero",
            json!({"limits": {"maxRows": 0}}),
            "spec.rules[0].limits.maxRows: should be greater than or equal to 1",
        ),
        in_rule(
            Server,
            "deletes-and-archives",
            json!({"archive": {"table": {"name": "old_logs"}}}),
            "spec.rules[0]: action Delete archives nothing: write action: Archive, or remove archive",
        ),
        in_rule(
            Server,
            "archives-nowhere",
            json!({"action": "Archive"}),
            "spec.rules[0]: action Archive needs a place to archive to: add archive.objectStore or archive.table, or write action: Delete",
        ),
        in_rule(
            Server,
            "archives-into-itself",
            json!({"action": "Archive", "archive": {"table": {"name": "logs"}}}),
            "spec.rules[0]: archive.table is the rule's own table: write the name of another table",
        ),
        store(
            Server,
            "store-with-a-password",
            json!({"url": "s3://key:Tr0ub4dor@archive/logs"}),
            "spec.rules[0].archive.objectStore.url: url is not the address of an object store: write for example s3://bucket/prefix, gs://…, az://… or file:///path, without credentials",
        ),
        store(
            Server,
            "store-on-the-web",
            json!({"url": "http://archive/logs"}),
            "spec.rules[0].archive.objectStore.url: url is not the address of an object store: write for example s3://bucket/prefix, gs://…, az://… or file:///path, without credentials",
        ),
    ]
}
