//! Settings and addresses.

use serde_json::json;

use super::table::{By, Input, in_rule, in_spec, secret, store};

/// Times, places and settings.
pub fn settings() -> Vec<Input> {
    use By::Status;
    vec![
        in_spec(
            Status,
            "cron",
            json!({"schedule": {"cron": "99 3 * * *"}}),
            "schedule.cron: `99 3 * * *` is not cron (Component error: Number out of bounds.); write five fields: minute hour day-of-month month day-of-week, such as `0 3 * * *`",
        ),
        in_spec(
            Status,
            "cron-never",
            json!({"schedule": {"cron": "0 0 30 2 *"}}),
            "schedule.cron: `0 0 30 2 *` never fires: no such date comes; write five fields: minute hour day-of-month month day-of-week, such as `0 3 * * *`",
        ),
        in_spec(
            Status,
            "time-zone",
            json!({"timeZone": "Europe/Berlim"}),
            "timeZone: there is no time zone `Europe/Berlim`: did you mean `Europe/Berlin`?",
        ),
        store(
            Status,
            "archive",
            json!({"url": "s3://archive/logs"}),
            "this version cannot carry out archive.objectStore: remove it, nothing is done halfway",
        ),
        in_rule(
            Status,
            "archive-cascade",
            json!({"action": "Archive", "archive": {"table": {"name": "old_logs"}}, "dependents": "Cascade"}),
            "action: Archive does not archive the rows of other tables that dependents: Cascade takes along: write dependents: Skip, or archive those tables by rules of their own first",
        ),
        in_rule(
            Status,
            "partitions",
            json!({"partitions": "Drop"}),
            "this version cannot carry out partitions: Drop: remove it, nothing is done halfway",
        ),
        in_spec(
            Status,
            "workers",
            json!({"pace": {"workers": 2}}),
            "this version cannot carry out pace.workers: remove it, nothing is done halfway",
        ),
        in_spec(
            Status,
            "reindex",
            json!({"optimize": {"reindex": "Auto"}}),
            "this version cannot carry out optimize.reindex: Auto: remove it, nothing is done halfway",
        ),
    ]
}
/// Addresses, and what the server says to them.
pub fn addresses() -> Vec<Input> {
    use By::{Address, Nobody, Secret};
    let keyed = json!({"database": {"urlFrom": {"secretKeyRef": {"name": "app", "key": "dsn"}}}});
    let address = |name, at, says| secret(Address(at), name, at, says);
    let nobody = |name, at, says| secret(Nobody(at), name, at, says);
    vec![
        in_spec(
            Secret("app", None),
            "secret-key",
            keyed,
            "Secret app has no key dsn; its keys: uri",
        ),
        secret(
            Secret("nothing", None),
            "secret",
            "nothing",
            "Secret nothing does not exist in the policy's namespace",
        ),
        secret(
            Secret("empty", None),
            "secret-empty",
            "empty",
            "Secret empty: key uri is empty",
        ),
        secret(
            Secret("incomplete", None),
            "secret-incomplete",
            "incomplete",
            "Secret incomplete has neither uri nor host (or hostname): write uri, or host, port, dbname, username and password",
        ),
        secret(
            Secret("bad-port", None),
            "secret-port",
            "bad-port",
            "Secret bad-port: key port is not a port number: write for example 5432",
        ),
        secret(
            Secret(
                "prose",
                Some(
                    "the database URL's scheme is unknown: write postgres://user:password@host:5432/database or sqlite:///path/file.db",
                ),
            ),
            "secret-prose",
            "prose",
            "Secret prose does not hold a database address: write postgres://user:password@host:5432/database",
        ),
        secret(
            Secret(
                "mysql",
                Some(
                    "databases of the scheme mysql:// are not supported yet: this version speaks postgres:// and sqlite://",
                ),
            ),
            "secret-mysql",
            "mysql",
            "Secret mysql holds a mysql:// address; this version speaks postgres:// only",
        ),
        secret(
            Secret(
                "unparsable",
                Some("the database URL's port is not a number from 1 to 65535"),
            ),
            "secret-unparsable",
            "unparsable",
            "Secret unparsable holds no usable address: the database URL's port is not a number from 1 to 65535",
        ),
        address(
            "password",
            "wrong-password",
            r#"{address} refused user "{role}" on database "{database}": password authentication failed for user "{role}""#,
        ),
        address(
            "user",
            "no-user",
            r#"{address} refused user "nobody_here" on database "{database}": password authentication failed for user "nobody_here""#,
        ),
        address(
            "database",
            "no-database",
            r#"{address} refused user "{role}" on database "no_such_database": database "no_such_database" does not exist"#,
        ),
        nobody(
            "host",
            "no-host",
            "cannot reach no-such-host.invalid:5432: the host name cannot be resolved: failed to lookup address information: Name or service not known",
        ),
        nobody(
            "port",
            "no-port",
            "cannot reach {closed}: Connection refused (os error 111)",
        ),
    ]
}
