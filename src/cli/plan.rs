//! `plan -f`: what a sweep would do, counted exactly, with every default shown.

mod effects;

use clap::Args;
use serde_json::{Value, json};

use super::{
    Ending,
    input::Input,
    offline::{self, Format, Offline},
    output,
};
use crate::{
    audit::{self, Book, Planned},
    engine::{Counted, EngineError, WalkPage},
    policy::{
        approval::{BlockedRule, plan_hash, removed_holds, table_identity},
        check::CheckedPolicy,
        dependents::{Dependents, OnDelete, goes_too_far, in_words, reached},
        limits::Verdict,
        pace::{EASED_CHUNK, EASED_DUTY},
        plan::{ArchiveState, RulePlan, check_deletable},
        side_effects::SideEffects,
    },
    sweep,
};

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: Input,

    /// How the plan is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One rule's part of the plan.
struct Entry {
    planned: Planned,
    /// Counted; `None` for a refused rule.
    counts: Option<Counts>,
    /// What its deletes set off.
    effects: SideEffects,
}

struct Counts {
    rows: u64,
    expired: u64,
    /// Rows of other tables, and unexpired ones of the same, that would go along.
    along: u64,
    /// Expired rows that stay because others refer to them; `None`: nobody counted, or nothing is kept.
    kept: Option<u64>,
    /// With those that are undecided.
    unreadable: Option<u64>,
    /// Of which nobody knows whether they are of the `where`, or held.
    undecided: u64,
    /// The stated unit is hardly the column's.
    doubt: Option<String>,
    blocked: Option<String>,
}

impl Counts {
    /// Rows of the table that would go.
    fn would_go(&self) -> u64 {
        self.expired.saturating_sub(self.kept.unwrap_or(0))
    }

    /// Rows that an approval is of, as a sweep asks for it.
    fn to_approve(&self) -> u64 {
        match self.would_go().saturating_add(self.along) {
            0 => self.expired,
            rows => rows,
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<Ending, String> {
    let offline = offline::open(&arguments.input)?;
    let result = make(&offline).await;
    offline.engine.close().await;
    let (identity, entries, book) = result.map_err(|error| error.to_string())?;
    let blocked: Vec<&Entry> = entries
        .iter()
        .filter(|entry| {
            entry
                .counts
                .as_ref()
                .is_some_and(|counts| counts.blocked.is_some())
        })
        .collect();
    let hash = (!blocked.is_empty()).then(|| hash(&offline, &blocked, &identity));
    match arguments.output {
        Format::Json => output::print_json(&as_json(&offline, &entries, hash.as_deref()))?,
        Format::Table => {
            let is_sqlite = arguments.input.is_sqlite();
            print(&offline, &entries, hash.as_deref(), is_sqlite);
            print_ledger(&book);
        }
    }
    Ok(
        if entries.iter().any(|entry| entry.planned.plan.is_err())
            || !offline.checked.refusals.is_empty()
        {
            Ending::Error
        } else if hash.is_some() {
            Ending::Blocked
        } else {
            Ending::Ok
        },
    )
}

async fn make(offline: &Offline) -> Result<(String, Vec<Entry>, Book), EngineError> {
    let around = offline.around(false);
    let plan = audit::plan(offline.engine.as_ref(), &offline.checked, &around).await?;
    let mut entries = Vec::with_capacity(plan.rules.len());
    for planned in plan.rules {
        let counts = match &planned.plan {
            Err(_) => None,
            Ok(plan) => {
                let rows = offline.engine.count_rows(&plan.table).await?;
                let Counted {
                    expired,
                    unreadable,
                    undecided,
                    ..
                } = if plan.held_by.is_some() {
                    Counted::default()
                } else {
                    offline.engine.count_expired(plan).await?
                };
                // A rule that could not be enforced may not even be allowed to read what refers to its table.
                let (along, free) = if plan.held_by.is_some() || check_deletable(plan).is_err() {
                    (0, None)
                } else {
                    let engine = offline.engine.as_ref();
                    (
                        engine.count_along(plan).await?,
                        sweep::free(engine, plan).await?,
                    )
                };
                let kept = free.map(|free| expired.saturating_sub(free));
                let all = expired
                    .saturating_sub(kept.unwrap_or(0))
                    .saturating_add(along);
                let doubt = match expired.saturating_add(along) {
                    0 => None,
                    _ => sweep::doubts(offline.engine.as_ref(), plan).await?,
                };
                let removed = planned.removed_holds.first();
                let blocked = match plan.limits.allowance(rows).admits(0, all) {
                    _ if !planned.enforced => None,
                    Verdict::Block { reason } => Some(reason),
                    _ => removed
                        .map(|hold| format!("hold {} was removed since the last sweep", hold.label))
                        .or_else(|| doubt.clone()),
                };
                Some(Counts {
                    rows,
                    expired,
                    along,
                    kept,
                    unreadable,
                    undecided,
                    doubt,
                    blocked,
                })
            }
        };
        let effects = match &planned.plan {
            Ok(plan) if plan.held_by.is_none() => offline.engine.side_effects(plan).await?,
            _ => SideEffects::default(),
        };
        entries.push(Entry {
            planned,
            counts,
            effects,
        });
    }
    Ok((plan.facts.identity, entries, plan.book))
}

fn hash(offline: &Offline, blocked: &[&Entry], identity: &str) -> String {
    let removed: Vec<Option<String>> = blocked
        .iter()
        .map(|entry| {
            let holds = entry.planned.removed_holds.iter();
            removed_holds(holds.map(|hold| hold.label.as_str()))
        })
        .collect();
    let rules: Vec<BlockedRule<'_>> = blocked
        .iter()
        .zip(&removed)
        .map(|(entry, removed)| BlockedRule {
            name: &entry.planned.name,
            rows: entry
                .counts
                .as_ref()
                .map_or(0, |counts| counts.to_approve()),
            removed_holds: removed.as_deref(),
        })
        .collect();
    let tables: Vec<String> = blocked
        .iter()
        .filter_map(|entry| entry.planned.plan.as_ref().ok())
        .map(|plan| table_identity(&plan.table.qualified(), Some(i64::from(plan.table.id))))
        .collect();
    plan_hash(&offline.policy.spec, &rules, &tables, Some(identity))
}

/// How the rows are found, in words.
fn technique(page: WalkPage, plan: &RulePlan) -> String {
    if page.rows.is_some() {
        return "DELETE by ranges of keys, every row looked at once".to_owned();
    }
    let leaves = plan.table.leaves.len();
    let mut words = match &plan.archive {
        Some(_) => "DELETE by physical ranges, INSERT into the archive table in the same statement",
        None => "DELETE by physical ranges",
    }
    .to_owned();
    if leaves > 1 {
        words.push_str(&format!(", one of {leaves} tables after the other"));
    }
    match plan.dependents {
        Dependents::Skip if !plan.table.incoming.is_empty() => {
            words.push_str(", of rows that were locked first and that no row refers to");
        }
        Dependents::Cascade if goes_too_far(&plan.table.incoming, plan.dependents) => words.push_str(
            ", of rows that were locked first and below which nothing is held or lies farther than keys are followed",
        ),
        Dependents::Cascade if !plan.held_tables.is_empty() => {
            words.push_str(", of rows that were locked first and below which nothing is held");
        }
        _ => {}
    }
    words
}

/// The tables of rows that go along.
fn whose_rows(plan: &RulePlan) -> &'static str {
    let keys = reached(&plan.table.incoming, plan.dependents);
    let cascades = |own: bool| {
        let mut keys = keys.iter();
        keys.any(|key| key.own == own && key.on_delete == OnDelete::Cascade)
    };
    match (cascades(true), cascades(false)) {
        (true, true) => "the same table, which have not expired, and of other tables",
        (true, false) => "the same table, which have not expired,",
        _ => "other tables",
    }
}

/// Where the rows go; `None`: nowhere.
fn archive(plan: &RulePlan) -> Option<String> {
    let archive = plan.archive.as_ref()?;
    let name = &archive.table;
    Some(match &archive.state {
        ArchiveState::Fits => format!("into table {name}, which is there"),
        ArchiveState::Missing(statement) => {
            format!("into table {name}, which the sweep creates: {statement}")
        }
        ArchiveState::Unknown | ArchiveState::Refused(_) => format!("into table {name}"),
    })
}

/// What happens to rows that refer to the table's; `None`: there are none.
fn dependents(plan: &RulePlan) -> Option<String> {
    if plan.table.incoming.is_empty() {
        return None;
    }
    let keys: Vec<String> = match plan.dependents {
        Dependents::Refuse => plan.table.incoming.iter().map(in_words).collect(),
        dependents => reached(&plan.table.incoming, dependents)
            .into_iter()
            .map(in_words)
            .collect(),
    };
    let effect = match plan.dependents {
        Dependents::Refuse => "must be empty",
        Dependents::Skip => "their rows keep the ones that they refer to",
        Dependents::Cascade => "rows go along where the key says so, and count against the limits",
    };
    Some(format!(
        "{}: {}; {effect}",
        plan.dependents.as_str(),
        keys.join(", ")
    ))
}

/// Bytes that the walk reads, every page of the table once; `None`: not known.
fn bytes_to_read(page: WalkPage, plan: &RulePlan) -> Option<i64> {
    let pages: u64 = plan.table.leaves.iter().map(|leaf| leaf.pages).sum();
    let bytes = pages.saturating_mul(page.bytes?);
    Some(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn action(page: WalkPage, planned: &Planned, plan: &RulePlan) -> String {
    if let Some(hold) = &plan.held_by {
        return format!("nothing: hold {hold} keeps the whole table");
    }
    if !planned.enforced {
        return "nothing: audit only".to_owned();
    }
    technique(page, plan)
}

/// Why the rows are found that way; `None`: none are.
fn why(page: WalkPage, planned: &Planned, plan: &RulePlan) -> Option<&'static str> {
    if plan.held_by.is_some() || !planned.enforced {
        return None;
    }
    Some(if page.rows.is_some() {
        "keys have an order that no change moves, and each row is visited once"
    } else {
        "that needs no index and no key, reads each page once, and cannot go in circles where a trigger keeps rows"
    })
}

fn as_json(offline: &Offline, entries: &[Entry], hash: Option<&str>) -> Value {
    let page = offline.engine.walk_page();
    let rules: Vec<Value> = entries
        .iter()
        .map(|entry| match &entry.planned.plan {
            Err(refusal) => json!({
                "name": entry.planned.name, "reason": refusal.reason, "message": refusal.message,
            }),
            Ok(plan) => json!({
                "name": entry.planned.name,
                "table": plan.table.qualified(),
                "enforced": entry.planned.enforced,
                "technique": action(page, &entry.planned, plan),
                "cutoff": plan.cutoff.to_string(),
                "rows": entry.counts.as_ref().map(|counts| counts.rows),
                "expiredRows": entry.counts.as_ref().map(|counts| counts.expired),
                "keptRows": entry.counts.as_ref().and_then(|counts| counts.kept),
                "cascadedRows": entry.counts.as_ref().map(|counts| counts.along),
                "unreadableRows": entry.counts.as_ref().and_then(|counts| counts.unreadable),
                "undecidedRows": entry.counts.as_ref().map(|counts| counts.undecided),
                "techniqueReason": why(page, &entry.planned, plan),
                "bytesToRead": bytes_to_read(page, plan),
                "doubt": entry.counts.as_ref().and_then(|counts| counts.doubt.clone()),
                "blocked": entry.counts.as_ref().and_then(|counts| counts.blocked.clone()),
                "tables": plan.table.leaves.iter().map(|leaf| format!("{}.{}", leaf.schema, leaf.name)).collect::<Vec<_>>(),
                "archive": archive(plan),
                "dependents": plan.dependents.as_str(),
                "referredToBy": dependents(plan),
                "deleteTriggers": plan.table.delete_triggers,
                "triggers": effects::triggers(&entry.effects),
                "publications": effects::publications(&entry.effects),
                "missingIndexes": effects::missing_indexes(&entry.effects),
                "obstacle": check_deletable(plan).err().map(|refusal| refusal.message),
            }),
        })
        .collect();
    json!({
        "apiVersion": crate::api::API_VERSION,
        "kind": "Plan",
        "policy": output::name(&offline.policy),
        "settings": settings(&offline.checked),
        "refusals": offline.checked.refusals.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "planHash": hash,
        "rules": rules,
    })
}

/// What counts, defaults included.
fn settings(policy: &CheckedPolicy) -> Value {
    json!({
        "chunkDurationMillis": u64::try_from(policy.pace.chunk_duration.as_millis()).unwrap_or(u64::MAX),
        "maxDuty": policy.pace.max_duty,
        "easesOff": policy.pace.eases,
        "maxRowsPerSecond": policy.pace.max_rows_per_second,
        "lockTimeoutMillis": u64::try_from(policy.lock_timeout.as_millis()).unwrap_or(u64::MAX),
        "statementTimeoutSeconds": policy.statement_timeout.as_secs(),
        "maxConnections": policy.max_connections,
        "ledger": format!("{:?}", policy.ledger),
        "partitions": "Rows",
    })
}

fn print_ledger(book: &Book) {
    if let Some(why) = &book.view.paused {
        output::say!("{}", EngineError::Paused(why.clone()));
    }
    match (&book.note, &book.ledger) {
        (Some(note), _) => output::say!("ledger: {note}"),
        (None, Some(_)) => output::say!("ledger: it is there and is used"),
        (None, None) => {}
    }
}

fn print(offline: &Offline, entries: &[Entry], hash: Option<&str>, is_sqlite: bool) {
    let page = offline.engine.walk_page();
    for refusal in &offline.checked.refusals {
        output::say!("refused: {refusal}");
    }
    for entry in entries {
        output::say!("rule {}", entry.planned.name);
        let plan = match &entry.planned.plan {
            Err(refusal) => {
                output::say!("  refused    {}: {}\n", refusal.reason, refusal.message);
                continue;
            }
            Ok(plan) => plan,
        };
        output::say!(
            "  table      {}  ({})",
            plan.table.qualified(),
            plan.table
                .known_bytes()
                .map_or_else(|| "size not known".to_owned(), output::bytes)
        );
        let encoding = plan
            .encoding
            .map_or_else(String::new, |encoding| format!(" ({})", encoding.as_str()));
        output::say!(
            "  expired    before {} in {}{encoding}",
            plan.cutoff,
            plan.column
        );
        if let Some(counts) = &entry.counts {
            let signed = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
            let keeps = plan.dependents == Dependents::Skip && !plan.table.incoming.is_empty();
            output::say!(
                "  rows       {}{} of {} would go",
                if keeps && counts.kept.is_none() {
                    "at most "
                } else {
                    ""
                },
                output::grouped(signed(counts.would_go())),
                output::grouped(signed(counts.rows))
            );
            if let Some(kept) = counts.kept.filter(|rows| *rows > 0) {
                output::say!(
                    "             and {} expired ones stay, as rows of other tables refer to them",
                    output::grouped(signed(kept))
                );
            }
            if plan.dependents == Dependents::Cascade {
                output::say!(
                    "             and {} of {} with them",
                    output::grouped(signed(counts.along)),
                    whose_rows(plan)
                );
            }
            let unreadable = counts.unreadable.unwrap_or(0);
            let unreadable = unreadable.saturating_sub(counts.undecided);
            if unreadable > 0 {
                output::say!(
                    "  unreadable {} rows, which never expire",
                    output::grouped(signed(unreadable))
                );
            }
            if counts.undecided > 0 {
                output::say!(
                    "  undecided  {} expired rows, which stay: {}",
                    output::grouped(signed(counts.undecided)),
                    output::UNDECIDED
                );
            }
        }
        output::say!("  technique  {}", action(page, &entry.planned, plan));
        if let Some(why) = why(page, &entry.planned, plan) {
            output::say!("             as {why}");
        }
        if let Some(bytes) = bytes_to_read(page, plan) {
            output::say!("  reads      {}", output::bytes(bytes));
        }
        if let Some(words) = archive(plan) {
            output::say!("  archives   {words}");
        }
        if let Some(words) = dependents(plan) {
            output::say!("  dependents {words}");
        }
        if let Some(doubt) = entry
            .counts
            .as_ref()
            .and_then(|counts| counts.doubt.as_ref())
        {
            output::say!("  doubtful   {doubt}");
        }
        effects::print(&entry.effects);
        if let Some(obstacle) = check_deletable(plan).err() {
            output::say!("  obstacle   {}: {}", obstacle.reason, obstacle.message);
        }
        if let Some(reason) = entry
            .counts
            .as_ref()
            .and_then(|counts| counts.blocked.as_ref())
        {
            output::say!("  blocked    {reason}");
        }
        output::say!("");
    }
    let policy = &offline.checked;
    output::say!(
        "pace: chunks of {} ms, {} % duty{}{}; row locks waited for {} ms, statements for {} s; {} connections",
        policy.pace.chunk_duration.as_millis(),
        policy.pace.max_duty,
        if policy.pace.eases {
            format!(
                " ({} ms, {EASED_DUTY} % while the service is at work)",
                EASED_CHUNK.as_millis()
            )
        } else {
            String::new()
        },
        policy
            .pace
            .max_rows_per_second
            .map_or_else(String::new, |rows| format!(", {rows} rows/s")),
        policy.lock_timeout.as_millis(),
        policy.statement_timeout.as_secs(),
        policy.max_connections,
    );
    if let Some(hash) = hash {
        output::say!("to approve the blocked rules: sweep --approve {hash}");
        // The operator's question has a hash of its own; a file is nothing that an operator in a cluster sweeps.
        if !is_sqlite {
            output::say!(
                "in a cluster: annotate retention-operator.io/approved-plan with status.pendingApproval.planHash"
            );
        }
    }
}
