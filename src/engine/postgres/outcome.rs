//! What became of a transaction whose COMMIT was not answered.

use std::time::{Duration, Instant};

use sqlx::Row;

use super::{
    Settings,
    connect::Server,
    error::{self, Doing},
    session::Session,
    sql,
};
use crate::engine::{CommitOutcome, EngineError};

/// How long the server may be away before the question is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// A transaction that is in progress that long after its client is gone is ended.
const IN_PROGRESS_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Which server, and which of its lives, an xid belongs to. A standby that was promoted writes on a new timeline at once, but its
/// control file names the old one until the next checkpoint: meanwhile it gives out the numbers of transactions again that the
/// old server had and it never saw.
const LIFE: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' || \
    CASE WHEN pg_is_in_recovery() THEN 'standby ' || (SELECT timeline_id::text FROM pg_control_checkpoint()) \
    ELSE pg_catalog.substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END AS life";
const STATUS: &str = "SELECT pg_xact_status($1::text::xid8) AS status";
/// Ends the backend that holds the transaction.
const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid))::int8 AS n FROM pg_stat_activity \
    WHERE backend_xid = ($1::text::xid8)::xid AND pid <> pg_backend_pid()";

/// The server's life, read when a sweep opens; `None` where the role may not read it.
pub(super) async fn life(session: &mut Session) -> Result<Option<String>, sqlx::Error> {
    let allowed: bool = session
        .row(sql::constant(
            "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') \
             AND has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE') AS allowed",
        ))
        .await?
        .try_get("allowed")?;
    if !allowed {
        return Ok(None);
    }
    session
        .row(sql::constant(LIFE))
        .await?
        .try_get("life")
        .map(Some)
}

/// Asks the server, on a new connection, until it knows. `life` is what [`life`] said when the sweep opened.
pub(super) async fn resolve(
    session: &mut Session,
    server: &Server,
    settings: &Settings,
    xid: &str,
    expected_life: Option<&str>,
) -> Result<CommitOutcome, EngineError> {
    let asked = Instant::now();
    loop {
        let answer = ask(session, settings, xid, expected_life, asked.elapsed()).await;
        match answer {
            Ok(Answer::Known(outcome)) => return Ok(outcome),
            Ok(Answer::OtherLife) => {
                return Err(error::lost(
                    server,
                    "the server was replaced by another one while a chunk was being committed: whether its rows are gone is unknown",
                ));
            }
            Ok(Answer::InProgress)
            | Err(EngineError::Unreachable { .. } | EngineError::ConnectionLost { .. })
                if asked.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Answer::InProgress) => {
                return Err(error::lost(
                    server,
                    "a chunk's transaction is still in progress and could not be ended: whether its rows are gone is unknown",
                ));
            }
            Err(reason) => return Err(reason),
        }
    }
}

enum Answer {
    Known(CommitOutcome),
    InProgress,
    OtherLife,
}

async fn ask(
    session: &mut Session,
    settings: &Settings,
    xid: &str,
    expected_life: Option<&str>,
    waited: Duration,
) -> Result<Answer, EngineError> {
    let server = session.server().clone();
    session.reconnect().await?;
    session.begin(&settings.read()).await?;
    let answer = read_status(session, xid, expected_life, waited).await;
    session.rollback().await;
    answer.map_err(|reason| {
        let doing = Doing {
            what: "asking what became of a chunk",
            table: None,
            grant: None,
            statement_timeout: settings.statement_timeout,
        };
        error::running(&server, doing, &reason)
    })
}

async fn read_status(
    session: &mut Session,
    xid: &str,
    expected_life: Option<&str>,
    waited: Duration,
) -> Result<Answer, sqlx::Error> {
    if let Some(expected) = expected_life
        && life(session).await?.as_deref() != Some(expected)
    {
        return Ok(Answer::OtherLife);
    }
    let status: Option<String> = session
        .row(sql::constant(STATUS).bind(xid.to_owned()))
        .await?
        .try_get("status")?;
    Ok(match status.as_deref() {
        Some("committed") => Answer::Known(CommitOutcome::Committed),
        Some("aborted") => Answer::Known(CommitOutcome::RolledBack),
        Some("in progress") => {
            if waited > IN_PROGRESS_PATIENCE {
                session
                    .row(sql::constant(TERMINATE).bind(xid.to_owned()))
                    .await?;
            }
            Answer::InProgress
        }
        // Too old to be known: impossible within a minute on the same server.
        _ => Answer::OtherLife,
    })
}
