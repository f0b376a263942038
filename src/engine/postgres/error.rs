//! From what the server or the network said to an [`EngineError`] that a policy's author understands.

use std::io;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::connect::Server;
use crate::engine::EngineError;

/// SQLSTATE of a statement that waited too long for a lock.
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE of the transaction that the server chose to end a deadlock.
pub(super) const DEADLOCK: &str = "40P01";

/// SQLSTATE of a statement that waited for a row's lock while somebody moved the row to another partition: at READ COMMITTED too, the
/// one case in which that raises a serialization failure.
pub(super) const MOVED: &str = "40001";

/// SQLSTATE of the end of a session whose transaction took too long, from version 17 on.
const TRANSACTION_TIMEOUT: &str = "25P04";

/// The SQLSTATE, if the server said anything.
pub(super) fn code(error: &sqlx::Error) -> Option<&str> {
    server_error(error).map(PgDatabaseError::code)
}

/// Schema and table that a broken constraint belongs to, if that is what the server said.
pub(super) fn constraint_of(error: &sqlx::Error) -> Option<(String, String)> {
    let said = server_error(error).filter(|said| said.code().starts_with("23"))?;
    Some((said.schema()?.to_owned(), said.table()?.to_owned()))
}

/// A foreign key of whatever table is broken, or a domain takes no such value: the server itself says so, and no function of a user's.
pub(super) fn is_of_a_key_or_domain(error: &sqlx::Error) -> bool {
    server_error(error).is_some_and(|said| match said.code() {
        // The second is that of RESTRICT from version 18 on.
        "23503" | "23001" => said.table().is_some() && said.constraint().is_some(),
        "23502" | "23514" => said.table().is_none() && said.data_type().is_some(),
        _ => false,
    })
}

fn server_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
}

/// The server answered with an error and goes on serving this session.
pub(super) fn session_survives(error: &sqlx::Error) -> bool {
    server_error(error)
        .is_some_and(|error| !matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// The session is gone: a network failure, or a server that ended it.
pub(super) fn session_lost(error: &sqlx::Error) -> bool {
    match server_error(error) {
        Some(error) => {
            matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
                || error.code().starts_with("08")
        }
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)),
    }
}

/// What the server said, or the network.
pub(super) fn said(error: &sqlx::Error) -> String {
    server_error(error).map_or_else(|| error.to_string(), words)
}

/// What the server said, with its hint; never the statement.
fn words(error: &PgDatabaseError) -> String {
    // Other details may hold the values of rows; that of a publication which does not fit its table says why.
    let detail = error.detail().filter(|_| error.code() == "42P10");
    match error.hint().or(detail) {
        Some(more) => format!("{} ({more})", error.message()),
        None => error.message().to_owned(),
    }
}

/// An error while a connection was being opened.
pub(super) fn connecting(server: &Server, error: &sqlx::Error) -> EngineError {
    if let Some(error) = server_error(error) {
        return refused(server, error.code(), words(error));
    }
    match error {
        sqlx::Error::Tls(reason) => tls(server, reason.to_string()),
        sqlx::Error::Io(reason) if is_tls(reason) => tls(server, reason.to_string()),
        sqlx::Error::Io(reason) => unreachable(server, network_words(reason)),
        sqlx::Error::Configuration(_) => {
            EngineError::Target("the database URL or its certificates cannot be used".to_owned())
        }
        other => unreachable(server, format!("no PostgreSQL answers there: {other}")),
    }
}

/// What a refusal at login means, by its SQLSTATE.
fn refused(server: &Server, code: &str, reason: String) -> EngineError {
    match code {
        // Starting up, shutting down, too many connections: true a minute later no more.
        "57P03" | "57P01" | "57P02" | "53300" => unreachable(server, reason),
        _ if code.starts_with("08") && code != "08P01" => unreachable(server, reason),
        _ => EngineError::Refused {
            host: server.address.clone(),
            user: server.user.clone(),
            database: server.database.clone(),
            reason,
        },
    }
}

fn tls(server: &Server, reason: String) -> EngineError {
    EngineError::Tls {
        host: server.address.clone(),
        reason,
    }
}

/// Nobody (usable) answers at the address.
pub(super) fn unreachable(server: &Server, reason: String) -> EngineError {
    EngineError::Unreachable {
        host: server.address.clone(),
        reason,
    }
}

/// rustls reports a failed handshake as invalid data.
fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
        || error
            .get_ref()
            .is_some_and(|inner| inner.to_string().contains("certificate"))
}

fn network_words(error: &io::Error) -> String {
    let words = error.to_string();
    if words.contains("failed to lookup address") {
        format!("the host name cannot be resolved: {words}")
    } else {
        words
    }
}

/// The connection broke in the middle of something.
pub(super) fn lost(server: &Server, reason: impl Into<String>) -> EngineError {
    EngineError::ConnectionLost {
        host: server.address.clone(),
        reason: reason.into(),
    }
}

/// What a statement was about, for the message of its error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing<'a> {
    /// In the words of a sentence: `reading the catalog`.
    pub(super) what: &'a str,
    /// The table, `schema.table`, if there is one.
    pub(super) table: Option<&'a str>,
    /// What would give the missing right, if a right is missing.
    pub(super) grant: Option<&'a str>,
    /// The statement timeout in force.
    pub(super) statement_timeout: std::time::Duration,
}

/// An error of a statement.
pub(super) fn running(server: &Server, doing: Doing<'_>, error: &sqlx::Error) -> EngineError {
    if code(error) == Some(TRANSACTION_TIMEOUT) {
        // The session is gone, too; but what was too much once is so again.
        return EngineError::StatementTimeout {
            what: doing.table.unwrap_or(doing.what).to_owned(),
            limit: "the role's transaction_timeout".to_owned(),
        };
    }
    if session_lost(error) {
        let reason = server_error(error).map_or_else(|| error.to_string(), words);
        return lost(server, reason);
    }
    let Some(said) = server_error(error) else {
        return EngineError::Database {
            what: doing.what.to_owned(),
            message: error.to_string(),
            code: "-".to_owned(),
        };
    };
    let subject = || doing.table.unwrap_or(doing.what).to_owned();
    match said.code() {
        LOCK_NOT_AVAILABLE | DEADLOCK => EngineError::LockTimeout { what: subject() },
        "57014" => EngineError::StatementTimeout {
            what: subject(),
            limit: format!("{:?} (database.statementTimeout)", doing.statement_timeout),
        },
        "42501" => EngineError::Permission(permission(doing, said.message())),
        "25006" => EngineError::ReadOnly(format!(
            "{} does not accept writes: {}",
            server.address,
            said.message()
        )),
        "23503" => EngineError::Dependents(format!(
            "rows of {} are referred to: {}",
            subject(),
            said.message()
        )),
        "42P01" | "42703" | "42704" | "42883" | "3F000"
            if said
                .r#where()
                .is_some_and(|place| place.contains("function ")) =>
        {
            EngineError::Database {
                what: doing.what.to_owned() + " " + &subject(),
                message: format!(
                    "in a function of a trigger, {}: a sweep's search_path is pg_catalog; write the schema before the name there, or ALTER FUNCTION … SET search_path",
                    words(said)
                ),
                code: said.code().to_owned(),
            }
        }
        "42P01" | "42703" | "3F000" | "42P17" if doing.table.is_some() => {
            EngineError::TableChanged {
                table: subject(),
                reason: said.message().to_owned(),
            }
        }
        code => EngineError::Database {
            what: match doing.table {
                Some(table) => format!("{} {table}", doing.what),
                None => doing.what.to_owned(),
            },
            message: words(said),
            code: code.to_owned(),
        },
    }
}

fn permission(doing: Doing<'_>, message: &str) -> String {
    match doing.grant {
        Some(grant) => format!("{message}; run: {grant}"),
        None => format!("{}: {message}", doing.what),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn server() -> Server {
        Server {
            host: "db".into(),
            address: "db.example:5432".to_owned(),
            user: "app".to_owned(),
            database: "shop".to_owned(),
        }
    }

    #[rstest]
    #[case("28P01", "refused")]
    #[case("3D000", "refused")]
    #[case("42501", "refused")]
    #[case("08P01", "refused")]
    #[case("57P03", "unreachable")]
    #[case("53300", "unreachable")]
    #[case("08006", "unreachable")]
    fn a_refused_login_is_told_from_a_server_that_is_not_ready(
        #[case] code: &str,
        #[case] category: &str,
    ) {
        let error = refused(&server(), code, "no".to_owned());

        assert_eq!(error.category(), category);
        assert!(error.to_string().contains("db.example:5432"));
    }

    #[test]
    fn a_name_that_does_not_resolve_is_unreachable_and_says_so() {
        let error = sqlx::Error::Io(io::Error::other(
            "failed to lookup address information: Name or service not known",
        ));

        let mapped = connecting(&server(), &error);

        assert_eq!(mapped.category(), "unreachable");
        assert!(mapped.to_string().contains("cannot be resolved"));
    }

    #[test]
    fn a_broken_socket_in_the_middle_is_a_lost_connection() {
        let doing = Doing {
            what: "reading",
            table: None,
            grant: None,
            statement_timeout: std::time::Duration::from_secs(1),
        };
        let error = sqlx::Error::Io(io::Error::from(io::ErrorKind::UnexpectedEof));

        assert_eq!(
            running(&server(), doing, &error).category(),
            "connection_lost"
        );
        assert!(!session_survives(&error));
    }
}
