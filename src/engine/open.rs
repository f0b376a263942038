//! From an address to the engine that speaks to it.

use secrecy::ExposeSecret;

use super::{DatabaseTarget, Engine, EngineError, postgres::PostgresEngine, sqlite::SqliteEngine};

/// The engine for a target, by the scheme of its URL; opens no connection yet.
///
/// # Errors
/// [`EngineError::Target`]: the URL cannot be used; the message does not repeat it.
pub fn open(target: DatabaseTarget) -> Result<Box<dyn Engine>, EngineError> {
    let scheme = scheme(target.url.expose_secret());
    match scheme.as_deref() {
        Some("sqlite") => Ok(Box::new(SqliteEngine::new(target)?)),
        Some("postgres" | "postgresql") => Ok(Box::new(PostgresEngine::new(target)?)),
        Some(known @ ("mysql" | "mariadb")) => Err(EngineError::Target(format!(
            "databases of the scheme {known}:// are not supported yet: this version speaks postgres:// and sqlite://"
        ))),
        // What stands before the colon may be anything, a password too.
        _ => Err(EngineError::Target(
            "the database URL's scheme is unknown: write postgres://user:password@host:5432/database or sqlite:///path/file.db"
                .to_owned(),
        )),
    }
}

fn scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.trim().split_once(':')?;
    Some(scheme.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    fn open_url(url: &str) -> Result<Box<dyn Engine>, EngineError> {
        open(DatabaseTarget {
            url: url.to_owned().into(),
            tls_mode: None,
            tls_ca_pem: None,
            application_name: "retention-operator/test/open".to_owned(),
            lock_timeout: Duration::from_millis(100),
            statement_timeout: Duration::from_secs(30),
            max_connections: 2,
            allow_local_files: true,
        })
    }

    #[rstest]
    #[case("postgres://u:p@h/d")]
    #[case("PostgreSQL://u:p@h/d")]
    #[case("sqlite:///tmp/x.db")]
    #[case("sqlite://x.db")]
    fn a_scheme_leads_to_its_engine(#[case] url: &str) {
        assert!(open_url(url).is_ok());
    }

    #[rstest]
    #[case("mysql://u:geheim@h/d", "mysql:// are not supported yet")]
    #[case(
        "geheim:x",
        "postgres://user:password@host:5432/database or sqlite:///path/file.db"
    )]
    #[case("geheim", "scheme is unknown")]
    #[case("", "scheme is unknown")]
    fn another_scheme_is_refused_with_those_that_there_are(#[case] url: &str, #[case] says: &str) {
        let Err(error) = open_url(url) else {
            panic!("refused");
        };

        assert_eq!(error.category(), "target");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}
