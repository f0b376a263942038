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

/// Which server, and which of its timelines, an xid belongs to.
const LIFE: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' || \
    (SELECT timeline_id::text FROM pg_control_checkpoint()) AS life";
/// Changes with every crash of the server, whose statistics begin anew with it, also where the postmaster itself lives on, and
/// does not with a restart, which forgets no number. It changes, too, when somebody resets the statistics.
const RECOVERY: &str = "SELECT extract(epoch FROM \
    coalesce((SELECT stats_reset FROM pg_stat_bgwriter), pg_postmaster_start_time()))::text AS recovery";
const STATUS: &str = "SELECT pg_xact_status($1::text::xid8) AS status";
/// SQLSTATE of a question for a transaction that has not begun yet.
const NOT_BEGUN: &str = "22023";
/// The status of such a transaction.
const FUTURE: &str = "future";
/// Ends the backend that holds the transaction.
const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid))::int8 AS n FROM pg_stat_activity \
    WHERE backend_xid = ($1::text::xid8)::xid AND pid <> pg_backend_pid()";

/// While it is the same, a transaction's number means the same transaction.
///
/// A crash takes what was not written down yet, the numbers of transactions as well: they are given again.
#[derive(Clone, Debug)]
pub(super) struct Era {
    life: Option<String>,
    recovery: String,
}

/// The era in which a sweep opens.
pub(super) async fn era(session: &mut Session) -> Result<Era, sqlx::Error> {
    Ok(Era {
        life: life(session).await?,
        recovery: session
            .row(sql::constant(RECOVERY))
            .await?
            .try_get("recovery")?,
    })
}

/// The server and its timeline; `None` where the role may not read them.
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

/// Asks the server, on a new connection, until it knows. `era` is what [`era`] said when the sweep opened.
pub(super) async fn resolve(
    session: &mut Session,
    server: &Server,
    settings: &Settings,
    xid: &str,
    era: &Era,
) -> Result<CommitOutcome, EngineError> {
    let asked = Instant::now();
    loop {
        let answer = ask(session, settings, xid, era, asked.elapsed()).await;
        match answer {
            Ok(Answer::Known(outcome)) => return Ok(outcome),
            Ok(Answer::OtherLife) => {
                return Err(error::lost(
                    server,
                    "the server was replaced by another one while a chunk was being committed: whether its rows are gone is unknown",
                ));
            }
            Ok(Answer::OtherTransaction) => {
                return Err(error::lost(
                    server,
                    "the server crashed while a chunk was being committed, and may have given the number of its transaction to another one: \
                     whether its rows are gone is unknown",
                ));
            }
            Ok(Answer::InProgress | Answer::Standby)
            | Err(EngineError::Unreachable { .. } | EngineError::ConnectionLost { .. })
                if asked.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Answer::Standby) => {
                return Err(error::lost(
                    server,
                    "the server is a standby now, which may not have heard of a chunk's commit yet: whether its rows are gone is unknown",
                ));
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Known(CommitOutcome),
    InProgress,
    /// The server is a standby: what it does not know of yet may have been committed all the same.
    Standby,
    /// Another server.
    OtherLife,
    /// Perhaps another transaction.
    OtherTransaction,
}

async fn ask(
    session: &mut Session,
    settings: &Settings,
    xid: &str,
    era: &Era,
    waited: Duration,
) -> Result<Answer, EngineError> {
    let server = session.server().clone();
    session.reconnect().await?;
    session.begin(&settings.read()).await?;
    let answer = read_status(session, xid, era, waited).await;
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
    then: &Era,
    waited: Duration,
) -> Result<Answer, sqlx::Error> {
    let in_recovery: bool = session
        .row(sql::constant("SELECT pg_is_in_recovery() AS in_recovery"))
        .await?
        .try_get("in_recovery")?;
    let now = era(session).await?;
    if let Some(answer) = judge_server(in_recovery, then, &now) {
        return Ok(answer);
    }
    let asked = session
        .row(sql::constant(STATUS).bind(xid.to_owned()))
        .await;
    let status: Option<String> = match asked {
        Ok(row) => row.try_get("status")?,
        Err(reason) if error::code(&reason) == Some(NOT_BEGUN) => Some(FUTURE.to_owned()),
        Err(reason) => return Err(reason),
    };
    let answer = judge(
        status.as_deref(),
        now.recovery == then.recovery,
        then.life.is_some(),
    );
    if answer == Answer::InProgress && waited > IN_PROGRESS_PATIENCE {
        session
            .row(sql::constant(TERMINATE).bind(xid.to_owned()))
            .await?;
    }
    Ok(answer)
}

/// Whether the server is one that can be asked; `Some`: it is not, and why.
fn judge_server(in_recovery: bool, then: &Era, now: &Era) -> Option<Answer> {
    if in_recovery {
        return Some(Answer::Standby);
    }
    (then.life.is_some() && now.life != then.life).then_some(Answer::OtherLife)
}

/// What a transaction's status says of the chunk. `same_era`: the number can be no other transaction's. `same_server`: it is
/// known to be the same server, whatever happened to it since.
fn judge(status: Option<&str>, same_era: bool, same_server: bool) -> Answer {
    let gone = Answer::Known(CommitOutcome::RolledBack);
    match status {
        Some("committed") if same_era => Answer::Known(CommitOutcome::Committed),
        Some("in progress") if same_era => Answer::InProgress,
        Some("aborted") if same_era => gone,
        // What a crash left of the chunk is its commit or nothing: had it been committed, its number would be nobody else's.
        Some("aborted" | FUTURE) if same_server && !same_era => gone,
        Some("committed" | "in progress" | "aborted") => Answer::OtherTransaction,
        // Too old to be known, or not begun: impossible within a minute on the same server.
        _ => Answer::OtherLife,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const COMMITTED: Answer = Answer::Known(CommitOutcome::Committed);
    const ROLLED_BACK: Answer = Answer::Known(CommitOutcome::RolledBack);

    #[rstest]
    #[case(Some("committed"), COMMITTED, Answer::OtherTransaction)]
    #[case(Some("aborted"), ROLLED_BACK, ROLLED_BACK)]
    #[case(Some("in progress"), Answer::InProgress, Answer::OtherTransaction)]
    #[case(Some(FUTURE), Answer::OtherLife, ROLLED_BACK)]
    #[case(None, Answer::OtherLife, Answer::OtherLife)]
    fn after_a_crash_a_number_may_be_another_transactions(
        #[case] status: Option<&str>,
        #[case] before: Answer,
        #[case] after: Answer,
    ) {
        assert_eq!(judge(status, true, true), before);
        assert_eq!(judge(status, false, true), after);
    }

    #[rstest]
    #[case::a_primary_of_the_same_life(false, Some("1/1"), None)]
    #[case::a_standby_that_may_be_behind(true, Some("1/1"), Some(Answer::Standby))]
    #[case::a_standby_of_which_nothing_is_known(true, None, Some(Answer::Standby))]
    #[case::another_server(false, Some("2/1"), Some(Answer::OtherLife))]
    fn a_server_that_may_not_have_heard_of_the_commit_is_not_believed(
        #[case] in_recovery: bool,
        #[case] life: Option<&str>,
        #[case] answer: Option<Answer>,
    ) {
        let era = |life: Option<&str>| Era {
            life: life.map(str::to_owned),
            recovery: "0".to_owned(),
        };

        let judged = judge_server(in_recovery, &era(Some("1/1")), &era(life));

        assert_eq!(judged, answer);
    }

    #[rstest]
    #[case("committed")]
    #[case("aborted")]
    #[case("in progress")]
    #[case(FUTURE)]
    fn nothing_is_concluded_from_a_server_that_may_be_another_one(#[case] status: &str) {
        assert!(!matches!(
            judge(Some(status), false, false),
            Answer::Known(_) | Answer::InProgress
        ));
    }
}
