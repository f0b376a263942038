//! A watched policy that this version may not be able to read: one such object must neither end the watch of all the others nor
//! lose its holds.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use crate::{
    api::{LedgerMode, RetentionPolicy},
    policy::table::TableName,
};

/// A watched policy, or what can be told of one that cannot be read.
#[derive(Clone, Debug)]
pub struct Guarded(pub Result<RetentionPolicy, Box<Unreadable>>);

/// A policy that this version cannot read, for example because a newer one wrote it.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Why.
    pub error: String,
    /// Its metadata, which is of no version.
    pub metadata: ObjectMeta,
    spec: Value,
    identity: Option<String>,
    observed: Option<i64>,
}

impl<'de> Deserialize<'de> for Guarded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut raw = Value::deserialize(deserializer)?;
        let error = match RetentionPolicy::deserialize(&raw) {
            Ok(policy) => return Ok(Self(Ok(policy))),
            Err(error) => error.to_string(),
        };
        let metadata = ObjectMeta::deserialize(&raw["metadata"]).map_err(D::Error::custom)?;
        let status = &raw["status"];
        Ok(Self(Err(Box::new(Unreadable {
            error,
            metadata,
            identity: status["database"]["identity"].as_str().map(str::to_owned),
            observed: status["observedGeneration"].as_i64(),
            spec: raw["spec"].take(),
        }))))
    }
}

impl Resource for Guarded {
    type DynamicType = <RetentionPolicy as Resource>::DynamicType;
    type Scope = <RetentionPolicy as Resource>::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        RetentionPolicy::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        RetentionPolicy::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        RetentionPolicy::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        RetentionPolicy::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(policy) => policy.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(policy) => policy.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

impl Guarded {
    /// What the spec says of the way to the database, to be compared only.
    pub fn database(&self) -> Value {
        match &self.0 {
            Ok(policy) => serde_json::json!(policy.spec.database),
            Err(unreadable) => unreadable.spec["database"].clone(),
        }
    }

    /// The database that the last audit saw, as the status says, and whether that was of the present spec.
    pub fn seen(&self) -> (Option<String>, bool) {
        let (identity, observed) = match &self.0 {
            Ok(policy) => {
                let status = policy.status.as_ref();
                let database = status.and_then(|status| status.database.as_ref());
                (
                    database.and_then(|database| database.identity.clone()),
                    status.and_then(|status| status.observed_generation),
                )
            }
            Err(unreadable) => (unreadable.identity.clone(), unreadable.observed),
        };
        let present = observed.is_some() && observed == self.meta().generation;
        (identity, present)
    }

    /// Its holds one by one, to be compared only. One that this version cannot read is told by the whole of them.
    pub fn holds(&self) -> Vec<String> {
        match &self.0 {
            Ok(policy) => policy
                .spec
                .holds
                .iter()
                .map(|hold| serde_json::json!(hold).to_string())
                .collect(),
            Err(unreadable) if unreadable.held().is_some_and(|held| held.is_empty()) => Vec::new(),
            Err(unreadable) => vec![format!("unreadable {}", unreadable.spec["holds"])],
        }
    }

    /// The tables that its holds name; `None`: that cannot be told.
    pub fn held(&self) -> Option<Vec<TableName>> {
        match &self.0 {
            Ok(policy) => {
                let holds = policy.spec.holds.iter();
                holds.map(|hold| hold.table.parse().ok()).collect()
            }
            Err(unreadable) => unreadable.held(),
        }
    }

    /// The tables of its rules, as far as they can be read.
    pub fn tables(&self) -> Vec<TableName> {
        match &self.0 {
            Ok(policy) => {
                let rules = policy.spec.rules.iter();
                rules.filter_map(|rule| rule.table.parse().ok()).collect()
            }
            Err(unreadable) => {
                let rules = unreadable.spec["rules"].as_array();
                let names = rules.into_iter().flatten();
                names
                    .filter_map(|rule| rule["table"].as_str()?.parse().ok())
                    .collect()
            }
        }
    }

    /// It uses no ledger, whatever there is.
    pub fn is_outside(&self) -> bool {
        match &self.0 {
            Ok(policy) => policy.spec.database.ledger == Some(LedgerMode::Off),
            Err(unreadable) => {
                serde_json::json!(LedgerMode::Off) == unreadable.spec["database"]["ledger"]
            }
        }
    }
}

impl Unreadable {
    fn held(&self) -> Option<Vec<TableName>> {
        match &self.spec["holds"] {
            Value::Null => Some(Vec::new()),
            Value::Array(holds) => holds
                .iter()
                .map(|hold| hold["table"].as_str()?.parse().ok())
                .collect(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn guarded(spec: Value) -> Guarded {
        let object = json!({
            "apiVersion": "retention-operator.io/v1alpha1", "kind": "RetentionPolicy",
            "metadata": {"name": "legal", "namespace": "shop", "generation": 3},
            "spec": spec,
            "status": {"observedGeneration": 2, "database": {"identity": "7/16384"}},
        });
        serde_json::from_value(object).expect("a guarded object")
    }

    #[test]
    fn one_that_cannot_be_read_still_says_whose_it_is_where_it_was_and_what_it_holds() {
        let newer = guarded(json!({
            "database": {"ledger": "Off"},
            "rules": [{"name": "logs", "table": "logs", "column": "at", "expireAfter": "1d", "action": "Delete"}],
            "holds": [{"name": "case", "table": "orders", "where": "id = 1"}],
            "mode": "Observe",
        }));

        let unreadable = newer.0.as_ref().expect_err("a mode of a newer version");
        assert!(unreadable.error.contains("Observe"), "{}", unreadable.error);
        assert_eq!(newer.meta().name.as_deref(), Some("legal"));
        assert_eq!(newer.seen(), (Some("7/16384".to_owned()), false));
        let names =
            |tables: &[TableName]| tables.iter().map(TableName::to_string).collect::<Vec<_>>();
        assert_eq!(names(&newer.tables()), ["logs"]);
        assert_eq!(
            newer.held().as_deref().map(names),
            Some(vec!["orders".to_owned()])
        );
        assert_eq!(newer.holds().len(), 1);
        assert!(newer.is_outside());
    }

    #[test]
    fn holds_whose_tables_cannot_be_told_are_not_taken_for_none() {
        let database = json!({});
        for holds in [json!({"logs": "id = 1"}), json!([{"tables": ["logs"]}])] {
            let newer = guarded(json!({"mode": "Observe", "database": database, "holds": holds}));
            assert_eq!(newer.held(), None);
            assert_eq!(newer.holds().len(), 1);
        }
        let none = guarded(json!({"mode": "Observe", "database": database}));
        assert_eq!(none.held(), Some(Vec::new()));
        assert_eq!(none.holds(), Vec::<String>::new());
    }
}
