//! From a policy to an engine that speaks to its database.

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    context::Context,
    resolve::{self, ResolveError, Resolved},
};
use crate::{
    api::{RetentionPolicy, conditions::reason},
    engine::{Engine, EngineError, postgres::PostgresEngine},
    policy::check::{CheckedPolicy, Refusal},
    report::Trouble,
};

/// An engine, and the right to hold a session.
pub struct Connected {
    /// Speaks to the database.
    pub engine: Arc<dyn Engine>,
    _session: OwnedSemaphorePermit,
}

/// The database could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Its Secret.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The database itself.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The operator is ending.
    #[error("the operator is ending")]
    Ending,
    /// The spec changed, or the policy went, while the task waited for its turn.
    #[error("the policy changed before its turn came")]
    Outdated,
    /// The task broke off.
    #[error("the operator's own work broke off: its log says where")]
    Broken,
}

/// Reads the policy's Secrets anew and waits for a free session on its database.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn connect(
    context: &Context,
    policy: &RetentionPolicy,
    checked: &CheckedPolicy,
) -> Result<Connected, DatabaseError> {
    let namespace = policy.namespace().unwrap_or_default();
    let database = &policy.spec.database;
    let Resolved { target, source } = resolve::resolve(
        &context.client,
        &namespace,
        &policy.name_any(),
        database,
        checked,
    )
    .await?;
    let engine = PostgresEngine::new(target).map_err(|error| unusable(&source, error))?;
    resolve::check_host(&context.settings, engine.host()).map_err(ResolveError::Refused)?;
    let slots = context.database_slots(&engine.address(), checked.max_connections);
    let session = slots
        .acquire_owned()
        .await
        .map_err(|_| DatabaseError::Ending)?;
    Ok(Connected {
        engine: Arc::new(engine),
        _session: session,
    })
}

/// An address that cannot be used is the Secret's fault: its message names it.
fn unusable(source: &str, error: EngineError) -> DatabaseError {
    match error {
        EngineError::Target(message) => {
            let message = format!("{source} holds no usable address: {message}");
            ResolveError::Refused(Refusal::new(reason::SECRET_INVALID, message)).into()
        }
        other => other.into(),
    }
}

impl DatabaseError {
    /// A bounded word for metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Resolve(ResolveError::Refused(_)) => "refused",
            Self::Resolve(ResolveError::Api { .. }) => "secret",
            Self::Engine(error) => error.category(),
            Self::Ending => "ending",
            Self::Outdated => "outdated",
            Self::Broken => "broken",
        }
    }

    /// What the conditions say of it.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Resolve(ResolveError::Refused(refusal)) => Trouble::Refused(refusal.clone()),
            Self::Resolve(error) => Trouble::Unreachable {
                reason: reason::SECRET_INVALID,
                message: error.to_string(),
            },
            Self::Engine(error) => engine_trouble(error),
            Self::Ending | Self::Outdated | Self::Broken => Trouble::Unreachable {
                reason: reason::AUDIT_FAILED,
                message: self.to_string(),
            },
        }
    }
}

/// What the conditions say of an engine's error.
#[must_use]
pub fn engine_trouble(error: &EngineError) -> Trouble {
    let message = error.to_string();
    match error {
        EngineError::Target(_) => Trouble::Refused(Refusal::new(reason::SECRET_INVALID, message)),
        EngineError::Refused { .. } => {
            Trouble::Refused(Refusal::new(reason::AUTHENTICATION_FAILED, message))
        }
        EngineError::Permission(_) => {
            Trouble::Refused(Refusal::new(reason::PERMISSION_DENIED, message))
        }
        EngineError::Unreachable { .. }
        | EngineError::ConnectionLost { .. }
        | EngineError::Tls { .. } => Trouble::Unreachable {
            reason: reason::CONNECTION_FAILED,
            message,
        },
        _ => Trouble::Unreachable {
            reason: reason::AUDIT_FAILED,
            message,
        },
    }
}

/// The longest wait after failures, but for a tenth.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// 5, 10, 20 … 300 seconds, a tenth more or less so that policies do not move in step.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let seconds = 5_u64
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_BACKOFF.as_secs());
    jittered(Duration::from_secs(seconds))
}

/// A tenth more or less.
#[must_use]
pub fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + fastrand::f64() * 0.2)
}

/// The most that [`jittered`] makes of it.
#[must_use]
pub fn jitter_at_most(duration: Duration) -> Duration {
    duration.mul_f64(1.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tried_again_ever_more_rarely_up_to_five_minutes() {
        for (failures, seconds) in [(1, 5.0), (2, 10.0), (4, 40.0), (7, 300.0), (60, 300.0)] {
            let wait = backoff(failures).as_secs_f64();
            assert!(
                (seconds * 0.89..=seconds * 1.11).contains(&wait),
                "{failures}: {wait}"
            );
        }
    }

    #[test]
    fn a_wrong_password_needs_somebody_and_a_silent_host_needs_time() {
        let refused = EngineError::Refused {
            host: "db:5432".into(),
            user: "u".into(),
            database: "d".into(),
            reason: "password authentication failed".into(),
        };
        assert!(matches!(engine_trouble(&refused), Trouble::Refused(_)));
        let silent = EngineError::Unreachable {
            host: "db:5432".into(),
            reason: "refused".into(),
        };
        assert!(matches!(
            engine_trouble(&silent),
            Trouble::Unreachable { .. }
        ));
    }
}
