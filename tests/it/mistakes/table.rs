//! The table: one entry an input, who refuses it, and the words in which the API server or the status, and every offline verb, do.

use serde_json::{Value, json};

use super::expressions::expressions;
use super::others::{addresses, settings};
use super::schema::schema;
use super::tables::tables;
use crate::operator::tables::rule;

/// A policy with one mistake.
pub struct Input {
    /// The policy's name.
    pub name: &'static str,
    pub spec: Value,
    pub by: By,
    /// What is said, word for word, and of the API server where; `{…}` in it are filled in by [`World`](super::world::World).
    pub says: &'static str,
}

/// Who refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The API server; nothing is stored.
    Server,
    /// The operator: `Ready` is False, `Stalled` stands beside it, and this is the rule's message or the whole condition's.
    Status,
    /// The operator, of what the policy's Secret is or holds. Offline no Secret is read: where it holds an address, these are the
    /// words about the same one in `DATABASE_URL`.
    Secret(&'static str, Option<&'static str>),
    /// The server at the address in that Secret; as [`By::Status`].
    Address(&'static str),
    /// Nobody at the address in that Secret: `Reconciling` stands beside `Ready`.
    Nobody(&'static str),
}

pub fn input(by: By, name: &'static str, spec: Value, says: &'static str) -> Input {
    Input {
        name,
        spec,
        by,
        says,
    }
}

/// An enforcing policy with `logs` swept, its rule and its spec changed by merging.
pub fn spec(in_rule: Value, in_spec: Value) -> Value {
    let mut rule = rule("logs", "logs");
    merge(&mut rule, in_rule);
    let mut spec = json!({
        "mode": "Enforce",
        "audit": {"interval": "1h"},
        "database": {"secretRef": {"name": "app"}},
        "rules": [rule],
    });
    merge(&mut spec, in_spec);
    spec
}

fn merge(into: &mut Value, fields: Value) {
    for (name, value) in fields.as_object().unwrap() {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(name)),
            value => into[name] = value.clone(),
        }
    }
}

pub fn in_rule(by: By, name: &'static str, fields: Value, says: &'static str) -> Input {
    input(by, name, spec(fields, json!({})), says)
}

pub fn in_spec(by: By, name: &'static str, fields: Value, says: &'static str) -> Input {
    input(by, name, spec(json!({}), fields), says)
}

pub fn filter(name: &'static str, filter: &str, says: &'static str) -> Input {
    in_rule(By::Status, name, json!({"where": filter}), says)
}

pub fn hold(name: &'static str, hold: Value, says: &'static str) -> Input {
    let mut whole = json!({"name": "case-1", "table": "logs"});
    merge(&mut whole, hold);
    in_spec(By::Status, name, json!({"holds": [whole]}), says)
}

/// `table` archived into `archive`.
pub fn archived(name: &'static str, archive: &str, says: &'static str) -> Input {
    let archive = json!({"table": {"name": archive}});
    in_rule(
        By::Status,
        name,
        json!({"action": "Archive", "archive": archive}),
        says,
    )
}

pub fn store(by: By, name: &'static str, store: Value, says: &'static str) -> Input {
    let archive = json!({"objectStore": store});
    in_rule(
        by,
        name,
        json!({"action": "Archive", "archive": archive}),
        says,
    )
}

/// `app` is the only Secret that leads to the whole database.
pub fn secret(by: By, name: &'static str, secret: &str, says: &'static str) -> Input {
    let database = json!({"secretRef": {"name": secret}});
    in_spec(by, name, json!({"database": database}), says)
}

/// All of them.
pub fn inputs() -> Vec<Input> {
    [schema(), tables(), expressions(), settings(), addresses()]
        .into_iter()
        .flatten()
        .collect()
}
