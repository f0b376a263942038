//! The other policies: whose tables are whose where no ledger says so, whose holds bind whom, and who is not there any more.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    context::{Context, Guarded},
    state::Tracked,
};
use crate::{
    api::{LedgerMode, RetentionPolicy},
    audit::{Neighbour, Surroundings},
    engine::ledger::Party,
    policy::{
        check::read_holds,
        claims::{Living, is_older},
    },
};

/// What the operator knows of its policies beside each other.
pub struct Neighbourhood {
    /// Tells this process from another where the cluster cannot be told.
    instance: String,
    stores: Mutex<Vec<Store<Guarded>>>,
    listed: AtomicBool,
    /// By policy: the database that its last audit saw, and its holds then.
    seen: Mutex<HashMap<ObjectRef<Guarded>, (String, String)>>,
    holds: AtomicU64,
}

impl Default for Neighbourhood {
    fn default() -> Self {
        Self {
            instance: format!("{:016x}", fastrand::u64(..)),
            stores: Mutex::default(),
            listed: AtomicBool::new(false),
            seen: Mutex::default(),
            holds: AtomicU64::new(0),
        }
    }
}

impl Neighbourhood {
    /// Takes in the policies of one watch.
    pub fn watch(&self, store: Store<Guarded>) {
        self.stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(store);
    }

    /// Every watch has listed what is there: who is not among it is gone.
    pub fn all_listed(&self) {
        self.listed.store(true, Ordering::Release);
    }

    /// Notes that a policy was audited: its holds bind the others from now on.
    pub fn audited(&self, object: &ObjectRef<Guarded>, policy: &RetentionPolicy, identity: &str) {
        let holds = serde_json::json!(policy.spec.holds).to_string();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(object.clone(), (identity.to_owned(), holds.clone()));
        let changed = match before {
            Some((database, known)) => database != identity || known != holds,
            None => !policy.spec.holds.is_empty(),
        };
        if changed {
            self.holds.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Changes with every change of a policy's holds.
    pub fn holds(&self) -> u64 {
        self.holds.load(Ordering::Acquire)
    }

    fn policies(&self) -> Vec<std::sync::Arc<Guarded>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().flat_map(Store::state).collect()
    }

    /// The database of a policy, as it was seen last.
    fn identity(&self, policy: &RetentionPolicy, object: &ObjectRef<Guarded>) -> Option<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((identity, _)) = seen.get(object) {
            return Some(identity.clone());
        }
        policy.status.as_ref()?.database.as_ref()?.identity.clone()
    }
}

/// A policy's surroundings, as they are now.
pub fn around(context: &Context, tracked: &Tracked, policy: &RetentionPolicy) -> Surroundings {
    let all = &context.neighbours;
    let me = full_name(&policy.namespace().unwrap_or_default(), &policy.name_any());
    let cluster = context.served_crd.cluster();
    let policies = all.policies();
    let living = cluster
        .clone()
        .filter(|_| all.listed.load(Ordering::Acquire))
        .map(|cluster| Living {
            cluster,
            namespaces: context.settings.watch_namespaces.clone(),
            policies: policies
                .iter()
                .map(|it| ObjectRef::from_obj(it.as_ref()))
                .map(|it| full_name(it.namespace.as_deref().unwrap_or_default(), &it.name))
                .collect(),
        });
    let mine = (created(policy), me.as_str());
    let neighbours = policies
        .iter()
        .filter_map(|other| {
            let object = ObjectRef::from_obj(other.as_ref());
            if object == tracked.object {
                return None;
            }
            let other = other.0.as_ref().ok()?;
            let name = full_name(&other.namespace().unwrap_or_default(), &other.name_any());
            Some(Neighbour {
                identity: all.identity(other, &object)?,
                older: is_older((created(other), &name), mine),
                outside: other.spec.database.ledger == Some(LedgerMode::Off),
                tables: other
                    .spec
                    .rules
                    .iter()
                    .filter_map(|rule| rule.table.parse().ok())
                    .collect(),
                holds: read_holds(&other.spec),
                policy: name,
            })
        })
        .collect();
    Surroundings {
        party: Party {
            sweeper: format!("{}/{me}", cluster.as_deref().unwrap_or(&all.instance)),
            policy: me,
            cluster,
            living,
        },
        enters: !context.settings.read_only,
        neighbours,
    }
}

fn full_name(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Seconds since 1970.
fn created(policy: &RetentionPolicy) -> i64 {
    policy
        .meta()
        .creation_timestamp
        .as_ref()
        .map_or(i64::MAX, |time| time.0.as_second())
}
