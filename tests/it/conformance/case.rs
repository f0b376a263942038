//! What a case is made of.

use retention_operator::sweep::StopReason;
use serde_json::{Map, Value, json};

/// A world, a policy, and what a sweep of it must leave.
///
/// SQL may hold `{old}` and `{new}` (times 400 and 10 days ago, between which every rule's 365 days lie), `{schema}` (the
/// case's own, quoted, first in the search path) and, once the sweep has begun, `{cutoff}` as text.
pub struct Case {
    /// Makes the world.
    pub setup: String,
    /// Makes it on SQLite, where that takes other words.
    pub sqlite: Option<String>,
    /// Settings of the database, extensions or publications: it must not be shared.
    pub own_database: bool,
    /// The sweep's role owns nothing and has these rights; `{role}` is its name. `None`: the superuser.
    pub grants: Option<String>,
    /// The policy's rules, with what becomes of them.
    pub rules: Vec<Rule>,
    /// The policy's holds.
    pub holds: Vec<Value>,
    /// Done to the ledger, which is made first: `{ledger}` before its tables' names, `{table}` and `{table_id}` for `t`, `{now}`.
    pub ledger: Option<String>,
    /// More fields of the policy's spec.
    pub spec: Map<String, Value>,
    /// Run by the service once the cutoffs are fixed, before the first chunk.
    pub meanwhile: Vec<String>,
    /// Run by the service after the first chunk.
    pub after_first_chunk: Vec<String>,
    /// A transaction of the service that stays open while the sweep runs.
    pub open_transaction: Option<String>,
    /// A query for the rows, one text each.
    pub rows: String,
    /// The rows that must be left, divided by blanks; `None`: the same as before.
    pub stays: Option<String>,
    /// What a second sweep must leave, once the open transaction has ended.
    pub then_stays: Option<String>,
    /// Majors below this one cannot run it.
    pub since: u32,
}

/// A rule of a case.
pub struct Rule {
    /// As in the policy.
    pub document: Value,
    /// What becomes of it.
    pub end: End,
    /// Rows whose value is not of the encoding; `None`: not said.
    pub unreadable: Option<u64>,
}

/// What must become of a rule.
#[derive(Clone, Debug)]
pub enum End {
    /// Swept to its end.
    Swept {
        /// Rows reported as deleted; `None`: as many as are gone.
        deleted: Option<u64>,
        /// Rows passed over because of a lock.
        blocked: u64,
        /// Expired rows that are still there.
        left: u64,
    },
    /// Swept to its end; how much of it was done is not said.
    Ended,
    /// Refused before anything is looked at.
    Refused {
        /// `status.rules[].reason`.
        reason: &'static str,
        /// In the message.
        words: &'static str,
    },
    /// The database refused in the middle.
    Failed {
        /// The error's category.
        category: &'static str,
        /// In the message.
        words: &'static str,
    },
    /// Stopped under way, and then there was no plan for it any more.
    Stopped {
        /// Why.
        reason: StopReason,
    },
    /// A limit forbids it.
    Limited {
        /// In the reason.
        words: &'static str,
    },
    /// Neither refused nor swept.
    Untouched,
}

impl Case {
    /// A world. Unless the case says otherwise there is one rule: rows of `t` whose `at` is older than 365 days go.
    pub fn of(setup: &str) -> Self {
        Self {
            setup: setup.to_owned(),
            sqlite: None,
            own_database: false,
            grants: None,
            rules: Vec::new(),
            holds: Vec::new(),
            ledger: None,
            spec: Map::new(),
            meanwhile: Vec::new(),
            after_first_chunk: Vec::new(),
            open_transaction: None,
            rows: "SELECT CAST(id AS text) FROM t".to_owned(),
            stays: None,
            then_stays: None,
            since: 0,
        }
    }

    /// A rule: YAML, merged over `{name: r1, table: t, column: at, expireAfter: 365d, action: Delete}`.
    pub fn rule(mut self, yaml: &str) -> Self {
        let mut document = json!({
            "name": format!("r{}", self.rules.len() + 1),
            "table": "t", "column": "at", "expireAfter": "365d", "action": "Delete",
        });
        merge(&mut document, yaml);
        self.rules.push(Rule {
            document,
            end: End::Swept {
                deleted: None,
                blocked: 0,
                left: 0,
            },
            unreadable: None,
        });
        self
    }

    /// More fields of the last rule: YAML.
    pub fn rule_is(mut self, yaml: &str) -> Self {
        if let Some(rule) = self.rules.last_mut() {
            merge(&mut rule.document, yaml);
        }
        self
    }

    /// The last rule's sweep reports so many rows whose value is not of the encoding.
    pub fn unreadable(mut self, rows: u64) -> Self {
        if let Some(rule) = self.rules.last_mut() {
            rule.unreadable = Some(rows);
        }
        self
    }

    /// A hold: YAML, merged over `{name: h1, table: t}`.
    pub fn hold(mut self, yaml: &str) -> Self {
        let mut document = json!({"name": format!("h{}", self.holds.len() + 1), "table": "t"});
        merge(&mut document, yaml);
        self.holds.push(document);
        self
    }

    /// More fields of the spec: YAML.
    pub fn policy(mut self, yaml: &str) -> Self {
        let mut spec = Value::Object(std::mem::take(&mut self.spec));
        merge(&mut spec, yaml);
        if let Value::Object(spec) = spec {
            self.spec = spec;
        }
        self
    }

    /// The rows that must be left, divided by blanks.
    pub fn stays(mut self, rows: &str) -> Self {
        self.stays = Some(rows.to_owned());
        self
    }

    /// The query that gives the rows, one text each.
    pub fn rows(mut self, query: &str) -> Self {
        self.rows = query.to_owned();
        self
    }

    /// See [`Case::sqlite`](field@Case::sqlite).
    pub fn on_sqlite(mut self, setup: &str) -> Self {
        self.sqlite = Some(setup.to_owned());
        self
    }

    /// Puts `sql` before the rest of the set-up.
    pub fn setup_first(mut self, sql: &str) -> Self {
        self.setup = format!("{sql}; {}", self.setup);
        self
    }

    /// Puts `sql` after the rest of the set-up.
    pub fn setup_then(mut self, sql: &str) -> Self {
        self.setup = format!("{}; {sql}", self.setup);
        self.sqlite = self.sqlite.map(|setup| format!("{setup}; {sql}"));
        self
    }

    /// See [`Case::own_database`](field@Case::own_database).
    pub fn own_database(mut self) -> Self {
        self.own_database = true;
        self
    }

    /// See [`Case::grants`](field@Case::grants).
    pub fn with_rights(mut self, grants: &str) -> Self {
        self.grants = Some(grants.to_owned());
        self
    }

    /// See [`Case::ledger`](field@Case::ledger).
    pub fn with_ledger(mut self, sql: &str) -> Self {
        self.ledger = Some(sql.to_owned());
        self
    }

    /// See [`Case::meanwhile`](field@Case::meanwhile).
    pub fn meanwhile(mut self, sql: &str) -> Self {
        self.meanwhile.push(sql.to_owned());
        self
    }

    /// See [`Case::after_first_chunk`](field@Case::after_first_chunk).
    pub fn after_first_chunk(mut self, sql: &str) -> Self {
        self.after_first_chunk.push(sql.to_owned());
        self
    }

    /// See [`Case::open_transaction`](field@Case::open_transaction).
    pub fn while_open(mut self, sql: &str) -> Self {
        self.open_transaction = Some(sql.to_owned());
        self
    }

    /// See [`Case::then_stays`](field@Case::then_stays).
    pub fn then_stays(mut self, rows: &str) -> Self {
        self.then_stays = Some(rows.to_owned());
        self
    }

    /// See [`Case::since`](field@Case::since).
    pub fn since(mut self, major: u32) -> Self {
        self.since = major;
        self
    }

    /// The last rule is refused.
    pub fn refused(self, reason: &'static str, words: &'static str) -> Self {
        self.ends(End::Refused { reason, words })
    }

    /// The last rule's sweep fails.
    pub fn failed(self, category: &'static str, words: &'static str) -> Self {
        self.ends(End::Failed { category, words })
    }

    /// The last rule's sweep is stopped when partitions come, and by a new plan nothing of it may go any more.
    pub fn held_or_owned_since(self) -> Self {
        self.ends(End::Stopped {
            reason: StopReason::PartsChanged,
        })
    }

    /// A limit stops the last rule.
    pub fn limited(self, words: &'static str) -> Self {
        self.ends(End::Limited { words })
    }

    /// The last rule's sweep comes to its end, whatever it found.
    pub fn ended(self) -> Self {
        self.ends(End::Ended)
    }

    /// The last rule is neither refused nor swept.
    pub fn untouched(self) -> Self {
        self.ends(End::Untouched)
    }

    /// The last rule's sweep is reported to have deleted so many rows, passed over so many, and left so many.
    pub fn reported(self, deleted: u64, blocked: u64, left: u64) -> Self {
        self.ends(End::Swept {
            deleted: Some(deleted),
            blocked,
            left,
        })
    }

    fn ends(mut self, end: End) -> Self {
        if self.rules.is_empty() {
            self = self.rule("{}");
        }
        if let Some(rule) = self.rules.last_mut() {
            rule.end = end;
        }
        self
    }

    /// The policy as a document; tables without a schema are those of `schema`. `None`: the engine knows no schemas and no
    /// types of time, and wants to be told how a column holds its times.
    pub fn document(&self, schema: Option<&str>) -> Value {
        let mut rules: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| rule.document.clone())
            .collect();
        let mut holds = self.holds.clone();
        if schema.is_none() {
            for rule in rules.iter_mut().filter(|rule| rule["encoding"].is_null()) {
                rule["encoding"] = json!("Iso8601");
            }
        }
        let named = rules.iter_mut().chain(&mut holds);
        for (named, schema) in named.filter_map(|named| schema.map(|schema| (named, schema))) {
            qualify(&mut named["table"], schema);
            if let Some(archive) = named.pointer_mut("/archive/table/name") {
                qualify(archive, schema);
            }
        }
        let mut spec = json!({
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}},
            "rules": rules,
        });
        if !holds.is_empty() {
            spec["holds"] = json!(holds);
        }
        for (field, value) in &self.spec {
            spec[field] = value.clone();
        }
        json!({
            "apiVersion": "retention-operator.io/v1alpha1",
            "kind": "RetentionPolicy",
            "metadata": {"name": "case", "namespace": "conformance"},
            "spec": spec,
        })
    }
}

/// Writes the schema before a table's name that has none.
fn qualify(name: &mut Value, schema: &str) {
    if let Some(text) = name.as_str() {
        let outside_quotes: String = text.split('"').step_by(2).collect();
        if !outside_quotes.contains('.') {
            *name = json!(format!("\"{}\".{text}", schema.replace('"', "\"\"")));
        }
    }
}

fn merge(base: &mut Value, yaml: &str) {
    let over: Map<String, Value> =
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}, in: {yaml}"));
    for (field, value) in over {
        base[&field] = value;
    }
}
