//! What the offline verbs share: a policy from a file, its database from `DATABASE_URL`.

use clap::ValueEnum;
use jiff::Timestamp;
use kube::ResourceExt;
use secrecy::SecretString;

use super::{
    input::{self, Input},
    output,
};
use crate::{
    api::{self, RetentionPolicy, RetentionPolicyStatus},
    audit::{AuditReport, Surroundings},
    engine::{self, DatabaseTarget, Engine},
    operator::resolve,
    policy::check::{CheckedPolicy, check},
    report::{self, Known},
};

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
}

/// A policy, read and checked, and an engine that speaks to its database.
pub(super) struct Offline {
    pub(super) policy: RetentionPolicy,
    pub(super) checked: CheckedPolicy,
    pub(super) engine: Box<dyn Engine>,
}

impl Offline {
    /// The policy's surroundings: nobody else is known offline but whom the ledger knows. Only a sweep enters anything.
    pub(super) fn around(&self, enters: bool) -> Surroundings {
        let mut around = Surroundings::alone(output::full_name(&self.policy));
        around.party.sweeper = engine::sweeper::offline();
        around.enters = enters;
        around
    }

    /// Sets the conditions as the controller would. There is no object, and so no generation.
    pub(super) fn judge(
        &self,
        status: &mut RetentionPolicyStatus,
        audit: &AuditReport,
        now: Timestamp,
    ) {
        let schedule = self
            .checked
            .schedule
            .as_ref()
            .filter(|_| self.checked.enforced);
        status.next_sweep_time = schedule
            .and_then(|schedule| schedule.next_after(now))
            .map(api::whole_seconds);
        let known = Known {
            policy: &self.checked,
            generation: 0,
            now,
            audit: Some(audit),
            trouble: None,
            sweeping: false,
            unlisted: None,
            crd_outdated: None,
        };
        report::conditions(status, &known);
        for condition in &mut status.conditions {
            condition.observed_generation = None;
        }
        report::fit(status);
    }
}

pub(super) fn open(input: &Input) -> Result<Offline, String> {
    let policy = input::read(input)?;
    let checked = check(&policy.spec);
    let target = target(input, &policy, &checked)?;
    let engine = engine::open(target).map_err(|error| format!("DATABASE_URL: {error}"))?;
    Ok(Offline {
        policy,
        checked,
        engine,
    })
}

/// Where the policy's database is, as `DATABASE_URL` says.
pub(super) fn target(
    input: &Input,
    policy: &RetentionPolicy,
    checked: &CheckedPolicy,
) -> Result<DatabaseTarget, String> {
    let url = input.database_url.clone().ok_or(
        "set DATABASE_URL to the database's address: postgres://user:password@host:5432/database, or sqlite:///path/file.db",
    )?;
    let tls = policy.spec.database.tls.as_ref();
    if tls.is_some_and(|tls| tls.ca_secret_ref.is_some()) {
        return Err(
            "spec.database.tls.caSecretRef: Secrets are not read offline; add sslrootcert=FILE to DATABASE_URL and leave it out"
                .to_owned(),
        );
    }
    Ok(DatabaseTarget {
        url: SecretString::from(url),
        tls_mode: tls.map(|tls| resolve::tls_mode(tls.mode)),
        tls_ca_pem: None,
        application_name: format!(
            "retention-operator/{}/{}",
            policy.namespace().unwrap_or_else(|| "default".to_owned()),
            policy.name_any()
        ),
        lock_timeout: checked.lock_timeout,
        statement_timeout: checked.statement_timeout,
        max_connections: checked.max_connections,
        allow_local_files: true,
    })
}
