//! Reads the Secrets that a policy names, from its own namespace, each time anew: a rotated password is seen at the next
//! audit, sweep or failed login.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretString;

use super::{
    binding::{self, Binding, SecretData},
    settings::Settings,
};
use crate::{
    api::{self, Database, conditions::reason},
    engine::{DatabaseTarget, target::TlsMode},
    policy::check::{CheckedPolicy, Refusal},
};

/// A policy's database could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The policy or its Secret has to change, or the operator's administrator has to allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The API server did not answer as it should; worth another try.
    #[error(
        "cannot read Secret {name}: {}",
        super::served_crd::api_message(source)
    )]
    Api {
        /// The Secret.
        name: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
}

/// A database's address, and where it stands.
#[derive(Debug)]
pub struct Resolved {
    /// Where the database is and how to log in.
    pub target: DatabaseTarget,
    /// `Secret orders-db, key url,` for messages.
    pub source: String,
}

/// Resolves a policy's database address.
///
/// # Errors
/// See [`ResolveError`].
pub async fn resolve(
    client: &Client,
    namespace: &str,
    name: &str,
    database: &Database,
    policy: &CheckedPolicy,
) -> Result<Resolved, ResolveError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let (source, binding) = match (&database.url_from, &database.secret_ref) {
        (Some(url_from), None) => {
            let selector = &url_from.secret_key_ref;
            let data = read(&secrets, &selector.name).await?;
            let url = binding::value(&selector.name, &data, &selector.key)?;
            let binding = Binding {
                url: SecretString::from(url),
                tls_mode: None,
                tls_ca_pem: None,
            };
            (
                format!("Secret {}, key {},", selector.name, selector.key),
                binding,
            )
        }
        (None, Some(reference)) => {
            let data = read(&secrets, &reference.name).await?;
            (
                format!("Secret {}", reference.name),
                binding::from_secret(&reference.name, &data)?,
            )
        }
        _ => {
            return Err(Refusal::new(
                reason::INVALID_SPEC,
                "database: write exactly one of urlFrom and secretRef",
            )
            .into());
        }
    };
    binding::check_scheme(&source, &binding.url)?;
    let tls_ca_pem = match database
        .tls
        .as_ref()
        .and_then(|tls| tls.ca_secret_ref.as_ref())
    {
        Some(selector) => {
            let data = read(&secrets, &selector.name).await?;
            Some(binding::value(&selector.name, &data, &selector.key)?)
        }
        None => binding.tls_ca_pem,
    };
    let target = DatabaseTarget {
        url: binding.url,
        tls_mode: database
            .tls
            .as_ref()
            .map(|tls| tls_mode(tls.mode))
            .or(binding.tls_mode),
        tls_ca_pem,
        application_name: format!("retention-operator/{namespace}/{name}"),
        lock_timeout: policy.lock_timeout,
        statement_timeout: policy.statement_timeout,
        max_connections: policy.max_connections,
        allow_local_files: false,
    };
    Ok(Resolved { target, source })
}

/// May a policy name that host?
///
/// # Errors
/// When the administrator has listed hosts, and this is none of them.
pub fn check_host(settings: &Settings, host: &str) -> Result<(), Refusal> {
    if settings.allows_host(host) {
        return Ok(());
    }
    Err(Refusal::new(
        reason::NOT_ALLOWED,
        format!(
            "the address names host {host}, which the operator's --allow-hosts does not list: ask its administrator"
        ),
    ))
}

async fn read(secrets: &Api<Secret>, name: &str) -> Result<SecretData, ResolveError> {
    match secrets.get(name).await {
        Ok(secret) => Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Err(Refusal::new(
            reason::SECRET_NOT_FOUND,
            format!("Secret {name} does not exist in the policy's namespace"),
        )
        .into()),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Err(Refusal::new(
            reason::NOT_ALLOWED,
            format!("the operator may not read Secret {name}: its role needs get on secrets in this namespace"),
        )
        .into()),
        Err(error) => Err(ResolveError::Api {
            name: name.to_owned(),
            source: Box::new(error),
        }),
    }
}

/// The engine's word for the API's.
#[must_use]
pub fn tls_mode(mode: api::TlsMode) -> TlsMode {
    match mode {
        api::TlsMode::Disable => TlsMode::Disable,
        api::TlsMode::Prefer => TlsMode::Prefer,
        api::TlsMode::Require => TlsMode::Require,
        api::TlsMode::VerifyCa => TlsMode::VerifyCa,
        api::TlsMode::VerifyFull => TlsMode::VerifyFull,
    }
}
