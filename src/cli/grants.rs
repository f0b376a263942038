//! `grants -f`: the least rights that a role needs for a policy, as SQL.

use clap::Args;

use super::{
    Ending,
    input::{self, Input},
    offline, output,
};
use crate::{
    api::{DependentHandling, Mode, RetentionPolicy, RetentionRule},
    engine::{
        Engine,
        postgres::{
            GrantRequest, GrantedTable, PostgresEngine, Rights, grants, reads_all_stats, revokes,
        },
    },
    policy::{
        check::check,
        defaults::defaults,
        dependents::{Dependents, goes_too_far, reached},
        table::{TableFacts, TableName},
    },
};

/// Arguments of `grants`. DATABASE_URL is not needed: with it partitions are looked up and the database is named.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: Input,

    /// The role that the policy's Secret names. Default: the user of DATABASE_URL.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    /// Print what takes the rights away again.
    #[arg(long)]
    revoke: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<Ending, String> {
    let policy = input::read(&arguments.input)?;
    let named = tables(&policy)?;
    if arguments.input.is_sqlite() {
        output::say!(
            "-- SQLite has no roles: whoever may write to the file and to its folder may sweep it, and there is nothing to grant or to revoke."
        );
        return Ok(Ending::Ok);
    }
    let (request, missing) = match arguments.input.database_url {
        None => {
            let role = arguments
                .role
                .ok_or("name the role: --role NAME, or set DATABASE_URL")?;
            (by_name(&policy, role, &named), Vec::new())
        }
        Some(_) => look_up(&arguments.input, &policy, arguments.role, &named).await?,
    };
    check_role(&request.role)?;
    output::say!(
        "-- {} by policy {}. Run as the owner of the tables; every statement may be run again.",
        if arguments.revoke {
            "No longer needed"
        } else {
            "Needed"
        },
        output::full_name(&policy)
    );
    if arguments.revoke {
        let revokes = revokes(&request);
        say_all(&revokes.own);
        output::say!("-- Only where no other policy of this database uses this role:");
        say_all(&revokes.shared);
    } else {
        say_all(&grants(&request));
    }
    let enforced = policy.spec.mode == Mode::Enforce;
    let lag = policy
        .spec
        .pace
        .as_ref()
        .and_then(|pace| pace.max_replica_lag.as_ref());
    if enforced && lag.is_some() {
        let statement = reads_all_stats(&request.role, arguments.revoke);
        output::say!(
            "-- By a superuser: without it nobody may see how far replicas are behind (pace.maxReplicaLag)."
        );
        output::say!("{statement};");
    }
    if !arguments.revoke {
        notes(&arguments.input, &missing);
    }
    Ok(Ending::Ok)
}

fn say_all(statements: &[String]) {
    for statement in statements {
        output::say!("{statement};");
    }
}

/// PostgreSQL reads these words as no role also between quotes.
fn check_role(role: &str) -> Result<(), String> {
    match role {
        "" => Err("the role has no name: write --role NAME".to_owned()),
        "public" => Err(
            "the role public is everybody in PostgreSQL: name a role of the policy's own"
                .to_owned(),
        ),
        "none" => Err("none is no role in PostgreSQL: name one".to_owned()),
        _ => Ok(()),
    }
}

fn notes(input: &Input, missing: &[String]) {
    for rule in missing {
        output::say!("-- rule {rule}: its table does not exist yet; run this again when it does.");
    }
    if input.database_url.is_none() {
        output::say!(
            "-- Partitions and inheritance children need the same rights as their parent, and SELECT is needed on tables that refer to the"
        );
        output::say!(
            "-- table of a rule with dependents: Skip or Cascade. Set DATABASE_URL to have them listed."
        );
    }
    output::say!(
        "-- SELECT is on whole tables, because rows are walked by their physical place. Of use and not needed: UPDATE on one column of a"
    );
    output::say!(
        "-- table (rows that the service has locked are found in one step); pg_read_all_stats (a sweep sees how busy others are)."
    );
}

/// A table that a rule names.
struct Named {
    rule: String,
    table: TableName,
    rights: Rights,
    dependents: Dependents,
}

fn tables(policy: &RetentionPolicy) -> Result<Vec<Named>, String> {
    let mut named = Vec::new();
    for rule in &policy.spec.rules {
        let enforced = policy.spec.mode == Mode::Enforce && rule.mode != Some(Mode::Audit);
        let parse = |text: &str| {
            text.parse::<TableName>()
                .map_err(|error| format!("rule {}: {error}", rule.name))
        };
        named.push(Named {
            rule: rule.name.clone(),
            table: parse(&rule.table)?,
            rights: match (enforced, dependents(rule)) {
                (false, _) => Rights::Audit,
                (true, Dependents::Skip) => Rights::SweepLocked(rule.column.clone()),
                (true, Dependents::Cascade) if !policy.spec.holds.is_empty() => {
                    Rights::SweepLocked(rule.column.clone())
                }
                (true, _) => Rights::Sweep,
            },
            dependents: if enforced {
                dependents(rule)
            } else {
                Dependents::Refuse
            },
        });
        let archive = rule.archive.as_ref().and_then(|to| to.table.as_ref());
        if let (Some(archive), true) = (archive, enforced) {
            named.push(Named {
                rule: rule.name.clone(),
                table: parse(&archive.name)?,
                rights: Rights::Make,
                dependents: Dependents::Refuse,
            });
        }
    }
    Ok(named)
}

fn dependents(rule: &RetentionRule) -> Dependents {
    match rule.dependents.unwrap_or_default() {
        DependentHandling::Refuse => Dependents::Refuse,
        DependentHandling::Skip => Dependents::Skip,
        DependentHandling::Cascade => Dependents::Cascade,
    }
}

fn by_name(policy: &RetentionPolicy, role: String, named: &[Named]) -> GrantRequest {
    GrantRequest {
        role,
        database: None,
        tables: named
            .iter()
            .map(|named| GrantedTable {
                schema: schema(&named.table),
                name: named.table.name.clone(),
                rights: named.rights.clone(),
            })
            .collect(),
        ledger: policy.spec.database.ledger.unwrap_or(defaults().ledger),
    }
}

/// PostgreSQL's default.
fn schema(table: &TableName) -> String {
    table.schema.clone().unwrap_or_else(|| "public".to_owned())
}

/// With the tables' parts; and the rules whose table is not there.
async fn look_up(
    input: &Input,
    policy: &RetentionPolicy,
    role: Option<String>,
    named: &[Named],
) -> Result<(GrantRequest, Vec<String>), String> {
    let target = offline::target(input, policy, &check(&policy.spec))?;
    let engine = PostgresEngine::new(target).map_err(|error| format!("DATABASE_URL: {error}"))?;
    let names: Vec<TableName> = named.iter().map(|named| named.table.clone()).collect();
    let found = if names.is_empty() {
        Ok(Vec::new())
    } else {
        engine.tables(&names).await
    };
    let (user, database) = (engine.user().to_owned(), engine.database().to_owned());
    engine.close().await;
    let found = found.map_err(|error| error.to_string())?;
    let mut request = by_name(policy, role.unwrap_or(user), &[]);
    request.database = Some(database);
    let mut missing = Vec::new();
    for (named, facts) in named.iter().zip(&found) {
        match facts {
            Some(facts) => {
                request.tables.extend(parts(facts, &named.rights));
                let locks = named.dependents == Dependents::Cascade
                    && (!policy.spec.holds.is_empty()
                        || goes_too_far(&facts.incoming, named.dependents));
                for key in reached(&facts.incoming, named.dependents) {
                    request.tables.push(GrantedTable {
                        schema: key.schema.clone(),
                        name: key.relation.clone(),
                        rights: if locks { Rights::Lock } else { Rights::Audit },
                    });
                }
            }
            None if named.rights == Rights::Make => request.tables.push(GrantedTable {
                schema: schema(&named.table),
                name: named.table.name.clone(),
                rights: Rights::Make,
            }),
            None => missing.push(named.rule.clone()),
        }
    }
    Ok((request, missing))
}

fn parts(facts: &TableFacts, rights: &Rights) -> Vec<GrantedTable> {
    let granted = |schema: &str, name: &str, rights: &Rights| GrantedTable {
        schema: schema.to_owned(),
        name: name.to_owned(),
        rights: rights.clone(),
    };
    if *rights == Rights::Make {
        return vec![granted(&facts.schema, &facts.name, &Rights::Fill)];
    }
    // What holds no rows is only looked at.
    let itself = facts.leaves.iter().any(|leaf| leaf.id == facts.id);
    let mut parts = vec![granted(
        &facts.schema,
        &facts.name,
        if itself { rights } else { &Rights::Audit },
    )];
    for leaf in facts.leaves.iter().filter(|leaf| leaf.id != facts.id) {
        parts.push(granted(&leaf.schema, &leaf.name, rights));
    }
    parts
}
