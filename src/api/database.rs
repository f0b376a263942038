//! Where the service's database is, and how the operator may use it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel;
use super::secret::{SecretKeySelector, SecretReference, SecretSource};

/// The database of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.urlFrom) != has(self.secretRef)")
        .message("database needs exactly one address: write either urlFrom or secretRef"),
    validation = cel::lock_timeout_within_statement_timeout(),
)]
pub struct Database {
    /// A Secret key that holds a URL: postgres://, mysql://, mariadb:// or sqlite://. Exactly one of urlFrom and secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// A binding Secret: uri, or host, port, dbname|database, username|user and password, and optionally sslmode and
    /// ca.crt. Exactly one of urlFrom and secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Encryption of the connection. Wins over what the URL or the Secret says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DatabaseTls>,
    /// The operator's own schema in this database. Existing: use it where it is; Auto: create it where the role may;
    /// Off: never. Default: Existing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LedgerMode")]
    pub ledger: Option<LedgerMode>,
    /// Connections that the operator may hold at once, 1 to 32. Shared by all policies on the database: the smallest
    /// wins. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub max_connections: Option<i32>,
    /// Longest wait for a row lock in a chunk, 1ms to 30s. Changes of tables wait up to 2s. Default: 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = cel::duration("lockTimeout", "1ms", "30s", "100ms"))]
    pub lock_timeout: Option<String>,
    /// Longest run of one statement, 100ms to 1h. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = cel::duration("statementTimeout", "100ms", "1h", "30s"))]
    pub statement_timeout: Option<String>,
    /// A Secret key that holds a direct URL, for VACUUM, REINDEX and DETACH where the other address goes through a
    /// connection pooler. Default: the same address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_url_from: Option<SecretSource>,
}

/// Encryption of the connection to the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.caSecretRef) || self.mode in ['VerifyCa', 'VerifyFull']")
        .message(Message::Expression(r#""tls.mode " + self.mode + " does not check caSecretRef: write mode: VerifyFull, or remove caSecretRef""#.into())),
)]
pub struct DatabaseTls {
    /// Disable: never encrypt; Prefer: encrypt when the server can; Require: always encrypt; VerifyCa: and check who
    /// signed the certificate; VerifyFull: and check the host name.
    pub mode: TlsMode,
    /// A Secret key that holds the PEM certificates of the authority, for VerifyCa and VerifyFull. Default: the
    /// authorities that the operator's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeySelector>,
}

/// How the connection is encrypted and whom it trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// Never encrypt.
    Disable,
    /// Encrypt when the server can.
    Prefer,
    /// Always encrypt, trust anybody.
    Require,
    /// Encrypt, and check who signed the server's certificate.
    VerifyCa,
    /// Encrypt, check who signed the certificate, and check the host name.
    VerifyFull,
}

/// Whether the operator keeps a ledger in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LedgerMode {
    /// Use the ledger where it exists; create nothing.
    #[default]
    Existing,
    /// Create the ledger where the role may.
    Auto,
    /// Use no ledger.
    Off,
}
