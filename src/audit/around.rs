//! What others have to say about a policy's tables: the ledger, and the other policies of the same operator.

use std::sync::Arc;

use crate::{
    engine::{
        Engine, EngineError,
        ledger::{Entry, Ledger, LedgerAccess, LedgerHold, LedgerView, OwnHold, Party},
    },
    policy::{
        check::{CheckedHold, CheckedPolicy, Refusal, reason},
        claims::{self, Claimed, LedgerMode, Wanted},
        predicate::Predicate,
        table::{TableFacts, TableName},
    },
};

/// Whose policy it is, and who else is there.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The policy.
    pub party: Party,
    /// Claims and holds are entered into the ledger, and a ledger is made where the policy wants one. Otherwise the ledger is
    /// read only.
    pub enters: bool,
    /// Other policies of the same operator.
    pub neighbours: Vec<Neighbour>,
}

impl Surroundings {
    /// A policy, `namespace/name`, that nobody else is known to be beside.
    #[must_use]
    pub fn alone(policy: impl Into<String>) -> Self {
        Self {
            party: Party {
                policy: policy.into(),
                ..Party::default()
            },
            ..Self::default()
        }
    }
}

/// Another policy of the same operator.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// `namespace/name`.
    pub policy: String,
    /// The database that it was seen to be on; `None`: nobody has seen it yet.
    pub identity: Option<String>,
    /// It can be on no other: its spec is still the one with which it was seen there.
    pub settled: bool,
    /// It is older: where no ledger decides, its tables are its own.
    pub older: bool,
    /// Its claims are not in the ledger, whatever there is.
    pub outside: bool,
    /// The tables of its rules.
    pub tables: Vec<TableName>,
    /// The tables that its holds name; `None`: that cannot be told.
    pub held: Option<Vec<TableName>>,
    /// Its holds, or why they cannot be read.
    pub holds: Result<Vec<CheckedHold>, Refusal>,
}

impl Neighbour {
    /// It was seen on that database.
    pub(super) fn is_on(&self, identity: &str) -> bool {
        self.identity.as_deref() == Some(identity)
    }

    /// It was not seen there, and may be there all the same.
    fn may_be_on(&self, identity: &str) -> bool {
        !self.settled && !self.is_on(identity)
    }
}

/// A removed hold whose rows a sweep may take only with an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedHold {
    /// Its number in the ledger.
    pub id: i64,
    /// In words: name and policy.
    pub label: String,
    /// The policy was asked about it.
    pub asked: bool,
    pub(super) table: TableName,
}

/// The ledger, as far as a policy uses it.
#[derive(Clone, Default)]
pub struct Book {
    /// The ledger; `None`: there is none, or the policy uses none.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// What it says.
    pub view: LedgerView,
    /// What people should know of it.
    pub note: Option<String>,
    /// Why nothing may be deleted.
    pub(super) forbids: Option<Refusal>,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book")
            .field("ledger", &self.ledger.is_some())
            .field("view", &self.view)
            .field("note", &self.note)
            .field("forbids", &self.forbids)
            .finish()
    }
}

impl Book {
    /// Opens the ledger, enters what the policy wants where it may, and reads what it says.
    pub(super) async fn open(
        engine: &dyn Engine,
        policy: &CheckedPolicy,
        around: &Surroundings,
        wanted: &[Wanted],
    ) -> Result<Self, EngineError> {
        let ledger = match engine.ledger(policy.ledger, around.enters).await? {
            LedgerAccess::Absent { note } => {
                let forbids = if engine.needs_ledger() {
                    required(policy.ledger, around.enters, note.as_deref())
                } else {
                    None
                };
                return Ok(Self {
                    note,
                    forbids,
                    ..Self::default()
                });
            }
            LedgerAccess::Unusable(why) => {
                return Ok(Self {
                    forbids: Some(Refusal::new(reason::LEDGER_REQUIRED, why.clone())),
                    note: Some(why),
                    ..Self::default()
                });
            }
            LedgerAccess::Usable(ledger) => ledger,
        };
        let mut book = Self::default();
        let view = match ledger.writable() {
            Err(why) => {
                book.forbids = Some(Refusal::new(reason::LEDGER_REQUIRED, why.clone()));
                book.note = Some(why);
                ledger.view(&around.party.policy).await?
            }
            Ok(()) if around.enters => match enter(ledger.as_ref(), policy, around, wanted).await {
                // Whatever the rights say, this session only reads: an audit can do with that.
                Err(
                    error @ (EngineError::ReadOnly(_)
                    | EngineError::NotPrimary(_)
                    | EngineError::Permission(_)),
                ) => {
                    let why = format!("the ledger cannot be written to: {error}");
                    let reason = match error {
                        EngineError::NotPrimary(_) => reason::NOT_PRIMARY,
                        _ => reason::LEDGER_REQUIRED,
                    };
                    book.forbids = Some(Refusal::new(reason, why.clone()));
                    book.note = Some(why);
                    ledger.view(&around.party.policy).await?
                }
                entered => entered?,
            },
            Ok(()) => ledger.view(&around.party.policy).await?,
        };
        book.view = view;
        book.ledger = Some(ledger);
        Ok(book)
    }

    /// Why nothing may be deleted, whatever the rules say.
    #[must_use]
    pub fn forbids(&self) -> Option<&Refusal> {
        self.forbids.as_ref()
    }

    /// Claims of other policies.
    pub(super) fn claims(
        &self,
        around: &Surroundings,
        identity: &str,
        look_up: impl Fn(&TableName) -> Option<TableFacts>,
    ) -> Vec<Claimed> {
        let mut claims = self.view.claims.clone();
        let decides = |neighbour: &&Neighbour| {
            neighbour.is_on(identity)
                && neighbour.older
                && (neighbour.outside || self.ledger.is_none())
        };
        for neighbour in around.neighbours.iter().filter(decides) {
            for facts in neighbour.tables.iter().filter_map(&look_up) {
                claims.push(Claimed {
                    policy: neighbour.policy.clone(),
                    rule: String::new(),
                    cluster: around.party.cluster.clone().or(Some(String::new())),
                    table_id: facts.id,
                    table: spelled(&facts),
                    parts: facts.parts(),
                });
            }
        }
        claims
    }

    /// Holds of other policies, or why one of them cannot be read.
    pub(super) fn holds(
        &self,
        around: &Surroundings,
        identity: &str,
    ) -> Result<Vec<CheckedHold>, Refusal> {
        let me = &around.party.policy;
        let mut holds = Vec::new();
        for hold in &self.view.holds {
            if !hold.removed && hold.policy != *me {
                holds.push(read(hold)?);
            }
        }
        for neighbour in &around.neighbours {
            let unknown = neighbour.may_be_on(identity) && neighbour.held.is_none();
            if !unknown && !neighbour.is_on(identity) {
                continue;
            }
            match &neighbour.holds {
                Ok(theirs) => holds.extend(theirs.iter().map(|hold| CheckedHold {
                    name: label(&hold.name, &neighbour.policy),
                    ..hold.clone()
                })),
                Err(refusal) => {
                    return Err(Refusal::new(
                        reason::HOLD_UNRESOLVED,
                        format!("policy {}: {}", neighbour.policy, refusal.message),
                    ));
                }
            }
        }
        Ok(holds)
    }

    /// Tables that are held here if policies whose database nobody has seen are on this one.
    pub(super) fn perhaps_held<'a>(
        around: &'a Surroundings,
        identity: &'a str,
    ) -> impl Iterator<Item = &'a TableName> {
        let others = around.neighbours.iter();
        others
            .filter(|it| it.may_be_on(identity))
            .flat_map(|it| it.held.iter().flatten())
    }

    /// Holds of policies that may be on this database: they bind wherever there is a table of that name. Where one of them does
    /// not fit that table, or cannot be read, the whole table stays until it is known where its policy is.
    pub(super) fn perhaps_holds<'a>(
        around: &Surroundings,
        identity: &str,
        look_up: impl Fn(&TableName) -> Option<&'a TableFacts>,
    ) -> Vec<CheckedHold> {
        let mut holds = Vec::new();
        for neighbour in around.neighbours.iter().filter(|it| it.may_be_on(identity)) {
            match &neighbour.holds {
                Ok(theirs) => holds.extend(theirs.iter().filter_map(|hold| {
                    let table = look_up(&hold.table)?;
                    let fits = |filter: &&Predicate| filter.check(table).is_ok();
                    let filter = hold.filter.as_ref().filter(fits).cloned();
                    Some(CheckedHold {
                        name: label(&hold.name, &neighbour.policy),
                        source: hold.source.clone().filter(|_| filter.is_some()),
                        filter,
                        ..hold.clone()
                    })
                })),
                Err(_) => {
                    let tables = neighbour.held.iter().flatten();
                    holds.extend(
                        tables
                            .filter(|table| look_up(table).is_some())
                            .map(|table| CheckedHold {
                                name: format!("(unreadable) of policy {}", neighbour.policy),
                                table: table.clone(),
                                filter: None,
                                source: None,
                                reason: None,
                            }),
                    );
                }
            }
        }
        holds
    }

    /// Holds that their policies do not have any more: as the ledger says, or as the policy at hand says of its own.
    pub(super) fn removed_holds(
        &self,
        around: &Surroundings,
        policy: &CheckedPolicy,
    ) -> Vec<RemovedHold> {
        let has = |hold: &LedgerHold| {
            policy.holds.iter().any(|own| {
                (own.name.as_str(), own.table.to_string(), &own.source)
                    == (hold.name.as_str(), hold.table.clone(), &hold.predicate)
            })
        };
        let removed = self
            .view
            .holds
            .iter()
            .filter(|hold| hold.removed || (hold.policy == around.party.policy && !has(hold)));
        removed
            .filter_map(|hold| {
                Some(RemovedHold {
                    id: hold.id,
                    label: label(&hold.name, &hold.policy),
                    asked: hold.asked,
                    table: hold.table.parse().ok()?,
                })
            })
            .collect()
    }
}

/// As a policy would spell a table, with its schema.
pub(super) fn spelled(facts: &TableFacts) -> String {
    TableName {
        schema: Some(facts.schema.clone()),
        name: facts.name.clone(),
    }
    .to_string()
}

fn label(hold: &str, policy: &str) -> String {
    format!("{hold} of policy {policy}")
}

/// Why nothing may be deleted where sweeps need a ledger and there is none.
fn required(mode: LedgerMode, enters: bool, note: Option<&str>) -> Option<Refusal> {
    let why = match (mode, note) {
        (LedgerMode::Auto, Some(note)) => note.to_owned(),
        // The sweep makes it.
        (LedgerMode::Auto, None) if !enters => return None,
        (LedgerMode::Auto, None) => "it could not be made".to_owned(),
        (LedgerMode::Existing, _) => {
            "there is none: write database.ledger: Auto, and the sweep makes its tables".to_owned()
        }
        (LedgerMode::Off, _) => "database.ledger is \"Off\": write Auto".to_owned(),
    };
    Some(Refusal::new(
        reason::LEDGER_REQUIRED,
        format!("this database is swept only with the operator's ledger in it, and {why}"),
    ))
}

async fn enter(
    ledger: &dyn Ledger,
    policy: &CheckedPolicy,
    around: &Surroundings,
    wanted: &[Wanted],
) -> Result<LedgerView, EngineError> {
    let rules: Vec<String> = policy.rules.iter().map(|(name, _)| name.clone()).collect();
    let unreadable = policy
        .refusals
        .iter()
        .any(|refusal| refusal.reason == reason::HOLD_UNRESOLVED);
    let holds: Vec<OwnHold> = policy
        .holds
        .iter()
        .map(|hold| OwnHold {
            name: hold.name.clone(),
            table: hold.table.to_string(),
            predicate: hold.source.clone(),
            reason: hold.reason.clone(),
        })
        .collect();
    let entry = Entry {
        party: &around.party,
        rules: &rules,
        wanted,
        holds: (!unreadable).then_some(holds.as_slice()),
    };
    ledger.enter(&entry).await
}

/// A hold of the ledger, read as a policy's own.
fn read(hold: &LedgerHold) -> Result<CheckedHold, Refusal> {
    let name = label(&hold.name, &hold.policy);
    let refuse = |what: String| {
        Refusal::new(
            reason::HOLD_UNRESOLVED,
            format!("hold {name}: {what}; until it can be read no rule is swept"),
        )
    };
    Ok(CheckedHold {
        table: hold
            .table
            .parse()
            .map_err(|error| refuse(format!("table: {error}")))?,
        filter: hold
            .predicate
            .as_deref()
            .map(Predicate::parse)
            .transpose()
            .map_err(|error| refuse(format!("where: {error}")))?,
        source: hold.predicate.clone(),
        reason: None,
        name,
    })
}

/// The claim of another policy that stands against a table.
pub(super) fn claimed(
    around: &Surroundings,
    table: &TableFacts,
    claims: &[Claimed],
) -> Option<Refusal> {
    let claim = claims::owner(&around.party.policy, &table.parts(), claims)?;
    Some(claims::refusal(&spelled(table), claim))
}

/// The policy's tables, for its claims.
pub(super) fn wanted(rule: &str, table: &TableFacts) -> Wanted {
    Wanted {
        rule: rule.to_owned(),
        table: spelled(table),
        parts: table.parts(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::table::{ColumnFacts, TableKind};

    fn logs() -> TableFacts {
        TableFacts {
            id: 1,
            schema: "public".to_owned(),
            name: "logs".to_owned(),
            kind: TableKind::Ordinary,
            system: false,
            columns: vec![ColumnFacts {
                name: "id".to_owned(),
                type_name: "bigint".to_owned(),
                time_domain: None,
                storage: None,
                safe_in_predicates: true,
                has_fields: false,
                is_temporal: false,
            }],
            leaves: vec![],
            incoming: vec![],
            row_security_active: false,
            published_without_identity: None,
            delete_rule: None,
            delete_triggers: vec![],
            delete_fails: None,
            may_select: true,
            may_delete: true,
            hindered_part: None,
            leading_index_columns: vec![],
            leading_indexes: Vec::new(),
            total_bytes: 0,
        }
    }

    fn names(tables: &[&str]) -> Vec<TableName> {
        let tables = tables.iter();
        tables.map(|name| name.parse().expect("a name")).collect()
    }

    fn hold(table: &str, filter: &str) -> CheckedHold {
        CheckedHold {
            name: "case".to_owned(),
            table: table.parse().expect("a name"),
            filter: Some(Predicate::parse(filter).expect("a predicate")),
            source: Some(filter.to_owned()),
            reason: None,
        }
    }

    fn neighbour(
        identity: Option<&str>,
        settled: bool,
        held: Option<Vec<TableName>>,
        holds: Result<Vec<CheckedHold>, Refusal>,
    ) -> Surroundings {
        Surroundings {
            neighbours: vec![Neighbour {
                policy: "shop/legal".to_owned(),
                identity: identity.map(str::to_owned),
                settled,
                older: false,
                outside: false,
                tables: Vec::new(),
                held,
                holds,
            }],
            ..Surroundings::default()
        }
    }

    fn unreadable() -> Result<Vec<CheckedHold>, Refusal> {
        Err(Refusal::new(reason::HOLD_UNRESOLVED, "it cannot be read"))
    }

    /// Tables and conditions that perhaps are held on database `here`, which has the table `logs` alone.
    fn perhaps(around: &Surroundings) -> Vec<(String, Option<String>)> {
        let logs = logs();
        let look_up = |name: &TableName| (name.name == "logs").then_some(&logs);
        let holds = Book::perhaps_holds(around, "here", look_up);
        let holds = holds.into_iter();
        holds
            .map(|hold| (hold.table.to_string(), hold.source))
            .collect()
    }

    fn is_stopped(around: &Surroundings) -> bool {
        Book::default().holds(around, "here").is_err()
    }

    #[test]
    fn a_policy_that_may_be_anywhere_holds_what_its_names_find_and_no_more() {
        let theirs = || {
            vec![
                hold("logs", "id = 1"),
                hold("logs", "customer_id = 99"),
                hold("orders", "id = 1"),
            ]
        };
        let held = || Some(names(&["logs", "logs", "orders"]));
        let anywhere = neighbour(None, false, held(), Ok(theirs()));
        let logs = "logs".to_owned();
        assert_eq!(
            perhaps(&anywhere),
            [(logs.clone(), Some("id = 1".to_owned())), (logs, None)],
            "where a condition does not fit, the whole table stays"
        );
        assert!(!is_stopped(&anywhere));

        let moved = neighbour(Some("elsewhere"), false, held(), Ok(theirs()));
        assert_eq!(perhaps(&moved).len(), 2);
        for known in ["here", "elsewhere"] {
            let settled = neighbour(Some(known), true, held(), Ok(theirs()));
            assert_eq!(perhaps(&settled), []);
        }
    }

    #[test]
    fn a_policy_that_cannot_be_read_stops_its_database_and_elsewhere_keeps_the_tables_that_it_names()
     {
        let held = || Some(names(&["logs", "orders"]));
        let here = neighbour(Some("here"), true, held(), unreadable());
        assert!(is_stopped(&here));
        let elsewhere = neighbour(Some("elsewhere"), true, held(), unreadable());
        assert!(!is_stopped(&elsewhere));
        assert_eq!(perhaps(&elsewhere), []);

        let anywhere = neighbour(None, false, held(), unreadable());
        assert!(!is_stopped(&anywhere));
        assert_eq!(perhaps(&anywhere), [("logs".to_owned(), None)]);
        let unnamed = neighbour(None, false, None, unreadable());
        assert!(is_stopped(&unnamed), "what it holds nobody can tell");
    }
}
