//! Where a database is and how to log in, as resolved from a Secret or `DATABASE_URL`.

use std::time::Duration;

use secrecy::SecretString;

/// How strictly the connection is encrypted. Same meaning as libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the server offers it.
    Prefer,
    /// Always, without checking the certificate.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Like `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// Everything that is needed to open connections. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct DatabaseTarget {
    /// `postgres://…`: the whole URL with its password.
    pub url: SecretString,
    /// Wins over the URL's `sslmode`.
    pub tls_mode: Option<TlsMode>,
    /// Certificate authorities, PEM; wins over the URL's `sslrootcert`.
    pub tls_ca_pem: Option<String>,
    /// Shown in `pg_stat_activity`: `retention-operator/<namespace>/<policy>`.
    pub application_name: String,
    /// For a chunk's row locks.
    pub lock_timeout: Duration,
    /// For every statement.
    pub statement_timeout: Duration,
    /// Open sessions at most.
    pub max_connections: u32,
    /// The URL may name files of this machine (a socket's folder, `sslrootcert`, `sslcert`, `sslkey`), and `PG…` variables
    /// may fill what it leaves out: for the offline verbs. The operator never lends its own disk or environment to a policy.
    pub allow_local_files: bool,
}
