//! From a [`DatabaseTarget`] to the driver's options. Whatever is not understood is refused, never guessed; no message shows the URL.

use std::{path::Path, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgConnection, PgSslMode},
};

use super::{
    error,
    url::{self, PostgresUrl},
};
use crate::engine::{DatabaseTarget, EngineError, target::TlsMode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom we speak to, for messages.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// The host alone, or the socket's folder.
    pub(super) host: String,
    /// `host:port`, or the socket's folder.
    pub(super) address: String,
    /// The role.
    pub(super) user: String,
    /// The database.
    pub(super) database: String,
}

/// Opens connections to one server.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    options: PgConnectOptions,
    timeout: Duration,
    /// Whom we speak to.
    pub(super) server: Server,
}

impl Connector {
    /// Reads the target; opens nothing.
    pub(super) fn new(target: &DatabaseTarget) -> Result<Self, EngineError> {
        let url = url::parse(target.url.expose_secret()).map_err(EngineError::Target)?;
        let tls = tls_mode(target, &url)?;
        check_environment(target)?;
        let user = url.user.clone().ok_or_else(|| {
            EngineError::Target(
                "the database URL names no user: write postgres://user:password@host/database"
                    .to_owned(),
            )
        })?;
        let database = url.database.clone().unwrap_or_else(|| user.clone());
        // Takes what it finds in the environment; all of it is overwritten below, or refused by `check_environment`. It states no
        // name: a pooler would leave it to clients that state none themselves. Each transaction names itself.
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(url.port)
            .username(&user)
            .database(&database)
            .ssl_mode(tls)
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        options = place(options, target, &url)?;
        options = match &url.password {
            Some(password) => options.password(password),
            None if target.allow_local_files => options,
            None => options.password(""),
        };
        options = certificates(options, target, &url)?;
        let address = match &url.socket {
            Some(folder) => folder.clone(),
            None if url.host.contains(':') => format!("[{}]:{}", url.host, url.port),
            None => format!("{}:{}", url.host, url.port),
        };
        Ok(Self {
            options,
            timeout: url
                .connect_timeout
                .map_or(CONNECT_TIMEOUT, |t| t.min(CONNECT_TIMEOUT)),
            server: Server {
                host: url.socket.unwrap_or(url.host),
                address,
                user,
                database,
            },
        })
    }

    /// Opens a connection.
    pub(super) async fn open(&self) -> Result<PgConnection, EngineError> {
        match tokio::time::timeout(self.timeout, PgConnection::connect_with(&self.options)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(reason)) => Err(error::connecting(&self.server, &reason)),
            Err(_) => Err(error::unreachable(
                &self.server,
                format!("no answer within {:?}", self.timeout),
            )),
        }
    }
}

/// A TCP address, or a socket's folder where files of this machine may be used.
fn place(
    options: PgConnectOptions,
    target: &DatabaseTarget,
    url: &PostgresUrl,
) -> Result<PgConnectOptions, EngineError> {
    match &url.socket {
        None => Ok(options.host(&url.host)),
        Some(folder) if target.allow_local_files => Ok(options.socket(folder)),
        Some(_) => Err(local("a socket's folder")),
    }
}

fn local(what: &str) -> EngineError {
    EngineError::Target(format!(
        "the database URL names {what} of the operator's own machine, which it does not lend: use a host name, and give certificates by database.tls"
    ))
}

fn certificates(
    mut options: PgConnectOptions,
    target: &DatabaseTarget,
    url: &PostgresUrl,
) -> Result<PgConnectOptions, EngineError> {
    let files = [&url.root_cert, &url.client_cert, &url.client_key];
    if !target.allow_local_files && files.iter().any(|file| file.is_some()) {
        return Err(local("a certificate file"));
    }
    if let Some(pem) = &target.tls_ca_pem {
        options = options.ssl_root_cert_from_pem(pem.clone().into_bytes());
    } else if let Some(path) = &url.root_cert {
        options = options.ssl_root_cert(Path::new(path));
    }
    if let Some(path) = &url.client_cert {
        options = options.ssl_client_cert(Path::new(path));
    }
    if let Some(path) = &url.client_key {
        options = options.ssl_client_key(Path::new(path));
    }
    Ok(options)
}

/// The target's mode, else the URL's, else libpq's default. As in libpq, an authority that is given is also asked.
fn tls_mode(target: &DatabaseTarget, url: &PostgresUrl) -> Result<PgSslMode, EngineError> {
    let has_authority = target.tls_ca_pem.is_some() || url.root_cert.is_some();
    let mode = match (target.tls_mode, url.sslmode.as_deref()) {
        (Some(mode), _) => Some(mode),
        (None, Some(word)) => Some(match word {
            "disable" => TlsMode::Disable,
            "prefer" | "allow" => TlsMode::Prefer,
            "require" => TlsMode::Require,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" => TlsMode::VerifyFull,
            _ => {
                return Err(EngineError::Target(
                    "the database URL's sslmode is unknown: write disable, prefer, require, verify-ca or verify-full".to_owned(),
                ));
            }
        }),
        (None, None) => None,
    };
    Ok(match mode {
        None if has_authority => PgSslMode::VerifyFull,
        Some(TlsMode::Require) if has_authority => PgSslMode::VerifyCa,
        None | Some(TlsMode::Prefer) => PgSslMode::Prefer,
        Some(TlsMode::Disable) => PgSslMode::Disable,
        Some(TlsMode::Require) => PgSslMode::Require,
        Some(TlsMode::VerifyCa) => PgSslMode::VerifyCa,
        Some(TlsMode::VerifyFull) => PgSslMode::VerifyFull,
    })
}

/// Variables that the driver would read by itself and that cannot be overwritten.
fn check_environment(target: &DatabaseTarget) -> Result<(), EngineError> {
    let lent: &[&str] = if target.allow_local_files {
        &["PGOPTIONS", "PGAPPNAME"]
    } else {
        &[
            "PGOPTIONS",
            "PGAPPNAME",
            "PGSSLROOTCERT",
            "PGSSLCERT",
            "PGSSLKEY",
        ]
    };
    match lent.iter().find(|name| std::env::var_os(name).is_some()) {
        Some(name) => Err(EngineError::Target(format!(
            "the environment variable {name} would change every connection: unset it"
        ))),
        None => Ok(()),
    }
}

/// At most 63 bytes of harmless letters: the name is also written into `SET LOCAL`.
pub(super) fn application_name(wanted: &str) -> String {
    wanted
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '/' | '-' | '_' | '.' => c,
            _ => '_',
        })
        .take(63)
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn target(url: &str) -> DatabaseTarget {
        DatabaseTarget {
            url: url.to_owned().into(),
            tls_mode: None,
            tls_ca_pem: None,
            application_name: "retention-operator/shop/orders".to_owned(),
            lock_timeout: Duration::from_millis(100),
            statement_timeout: Duration::from_secs(30),
            max_connections: 2,
            allow_local_files: false,
        }
    }

    #[test]
    fn a_url_is_read_with_its_escapes() {
        let connector = Connector::new(&target(
            "postgresql://us%40er:p%2Fw@db.example:6432/my%20db",
        ))
        .unwrap();

        assert_eq!(connector.server.address, "db.example:6432");
        assert_eq!(connector.server.user, "us@er");
        assert_eq!(connector.server.database, "my db");
        assert_eq!(
            connector.options.get_application_name(),
            None,
            "a pooler would leave it to others"
        );
    }

    #[rstest]
    #[case("postgres://u:p@h/d", None, false, PgSslMode::Prefer)]
    #[case("postgres://u:p@h/d?sslmode=require", None, false, PgSslMode::Require)]
    #[case("postgres://u:p@h/d?sslmode=require", None, true, PgSslMode::VerifyCa)]
    #[case("postgres://u:p@h/d", None, true, PgSslMode::VerifyFull)]
    #[case(
        "postgres://u:p@h/d?sslmode=verify-full",
        Some(TlsMode::Disable),
        false,
        PgSslMode::Disable
    )]
    fn the_targets_tls_mode_wins_and_an_authority_is_asked(
        #[case] url: &str,
        #[case] mode: Option<TlsMode>,
        #[case] authority: bool,
        #[case] expected: PgSslMode,
    ) {
        let mut target = target(url);
        target.tls_mode = mode;
        target.tls_ca_pem = authority.then(|| "PEM".to_owned());

        let connector = Connector::new(&target).unwrap();

        assert_eq!(
            format!("{:?}", connector.options.get_ssl_mode()),
            format!("{expected:?}")
        );
    }

    #[rstest]
    #[case("postgres://u:geheim@h/d?sslmode=yes")]
    #[case("postgres://u:geheim@h1,h2/d")]
    #[case("postgres://u:geheim@h/d?options=-c%20x")]
    #[case("postgres://u:geheim@h/d?sslrootcert=/etc/geheim.pem")]
    #[case("postgres://u:geheim@%2Frun%2Fpostgresql/d")]
    #[case("mysql://u:geheim@h/d")]
    #[case("geheim")]
    fn what_cannot_be_used_is_refused_without_showing_the_secret(#[case] url: &str) {
        let error = Connector::new(&target(url)).unwrap_err();

        assert_eq!(error.category(), "target");
        assert!(!error.to_string().contains("geheim"), "{error}");
        assert!(!format!("{error:?}").contains("geheim"));
    }

    #[test]
    fn an_application_name_keeps_only_harmless_letters() {
        assert_eq!(application_name("a'b\\c\u{e9}/d-1"), "a_b_c_/d-1");
        assert_eq!(application_name(&"x".repeat(90)).len(), 63);
    }
}
