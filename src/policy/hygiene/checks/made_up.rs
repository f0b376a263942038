//! Made-up facts for the tests of single checks.

use super::Run;
use crate::policy::hygiene::{
    Context, Facts, Finding,
    facts::{Kind, Table},
    order,
};

pub(super) fn table(id: u32, name: &str) -> Table {
    Table {
        id,
        schema: "public".to_owned(),
        name: name.to_owned(),
        ..Table::default()
    }
}

pub(super) fn parent(id: u32, name: &str) -> Table {
    Table {
        kind: Kind::Partitioned,
        ..table(id, name)
    }
}

pub(super) fn partition(id: u32, name: &str, of: u32) -> Table {
    Table {
        partition_of: Some(of),
        ..table(id, name)
    }
}

pub(super) fn tables<const N: usize>(tables: [Table; N]) -> Facts {
    Facts {
        now: Some("2026-11-23T12:00:00Z".parse().unwrap()),
        tables: tables.into_iter().map(|table| (table.id, table)).collect(),
        ..Facts::default()
    }
}

/// What one check finds, by id.
pub(super) fn run(check: Run, facts: &Facts, context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    check(facts, context, &mut findings);
    findings.sort_by(|one, other| one.id.cmp(&other.id).then_with(|| order(one, other)));
    findings
}

pub(super) fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}
