//! The audit's findings on real servers: what each check finds, and what it must leave alone.

mod bloated_index;
mod bloated_table;
mod cost;
mod indexes;
mod invalid_index;
mod own_use;
mod pages;
mod policy;
mod policys_own;
mod real;
mod server;
mod sqlite;
mod statements;
mod statistics;
mod tables;
mod trend;
mod usage;

use std::time::Duration;

use retention_operator::{
    engine::{DatabaseTarget, Engine, postgres::PostgresEngine},
    policy::hygiene::{Context, Finding, find},
};

/// What all checks find in a database, as a policy without rules sees it.
async fn findings(url: &str) -> Vec<Finding> {
    findings_for(url, &Context::default()).await
}

/// What all checks find, in the order of the report.
async fn findings_for(url: &str, context: &Context) -> Vec<Finding> {
    let engine = PostgresEngine::new(target(url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    engine.close().await;
    find(&facts, context)
}

/// The ids alone.
fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

fn target(url: &str) -> DatabaseTarget {
    DatabaseTarget {
        url: url.to_owned().into(),
        tls_mode: None,
        tls_ca_pem: None,
        application_name: "retention-operator/test/hygiene".to_owned(),
        lock_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_secs(30),
        max_connections: 2,
        allow_local_files: false,
    }
}
