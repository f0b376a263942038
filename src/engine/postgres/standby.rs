//! A server that takes no writes: told apart is the one that became a standby, where a sweep waits for the next primary, and the one
//! that somebody set read-only. Both say so with the same SQLSTATE.

use sqlx::Row;

use super::{Settings, connect::Server, session::Session, sql::constant};
use crate::engine::EngineError;

/// The server can only be read until it is promoted.
pub(super) fn not_primary(server: &Server) -> EngineError {
    EngineError::NotPrimary(format!(
        "{} is a standby, which can only be read: point the policy at the primary",
        server.address
    ))
}

/// What `error` means, where it may mean that the server is a standby: that is asked over `session`, which is in no transaction.
/// Connections that may not write are not kept: after a failover the same address may lead to another server.
pub(super) async fn told(
    session: &mut Session,
    settings: &Settings,
    error: EngineError,
) -> EngineError {
    if !refuses_writes(&error) {
        return error;
    }
    let standby = is_standby(session, settings).await;
    // Somebody may have set the database read-only, and back: that holds for connections that are made afterwards.
    if standby || matches!(error, EngineError::ReadOnly(_)) {
        session.forget_all().await;
    }
    if standby {
        not_primary(session.server())
    } else {
        error
    }
}

/// A standby answers to what only a primary can do with one of these; so do others, for other reasons.
fn refuses_writes(error: &EngineError) -> bool {
    match error {
        EngineError::ReadOnly(_) => true,
        EngineError::Database { code, .. } => matches!(code.as_str(), "0A000" | "55000"),
        _ => false,
    }
}

/// `false` also where nobody answers: then the error stays what it is.
async fn is_standby(session: &mut Session, settings: &Settings) -> bool {
    if !session.is_open() && session.reconnect().await.is_err() {
        return false;
    }
    if session.begin(&settings.read()).await.is_err() {
        return false;
    }
    let asked = session
        .row(constant("SELECT pg_is_in_recovery() AS standby"))
        .await;
    session.end().await;
    asked
        .and_then(|row| row.try_get("standby"))
        .unwrap_or(false)
}
