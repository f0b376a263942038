//! The other policies: whose tables are whose where no ledger says so, whose holds bind whom, and who is not there any more.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use serde_json::Value;

use super::{context::Context, guarded::Guarded, state::Tracked};
use crate::{
    api::RetentionPolicy,
    audit::{Neighbour, Surroundings},
    engine::ledger::Party,
    policy::{
        check::{Refusal, read_holds, reason},
        claims::{Living, is_older},
    },
};

/// A watch that has not listed its policies after this long is worth a word.
pub const LISTS_TAKE: Duration = Duration::from_secs(10);

/// What the operator knows of its policies beside each other.
pub struct Neighbourhood {
    /// Tells this process from another where the cluster cannot be told.
    instance: String,
    watches: Mutex<Vec<Watch>>,
    seen: Mutex<HashMap<ObjectRef<Guarded>, Seen>>,
    changes: AtomicU64,
    since: Instant,
}

/// The policies of a namespace, or of all.
struct Watch {
    namespace: String,
    store: Store<Guarded>,
    listed: bool,
}

/// What is remembered of a policy's place, and of its holds.
struct Seen {
    uid: Option<String>,
    place: Place,
    /// What it holds and where, as it was when it was looked at last.
    mark: Vec<Bond>,
}

/// Where a policy was seen to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The database of its last audit.
    identity: Option<String>,
    /// What its spec said then of the way there; `None`: its status is of another spec than the one that was seen first.
    way: Option<Value>,
}

impl Place {
    /// As the status says when the policy is seen for the first time.
    fn by_status(policy: &Guarded) -> Self {
        let (identity, present) = policy.seen();
        Self {
            way: (present && identity.is_some()).then(|| policy.database()),
            identity,
        }
    }

    /// It is where it was seen, and nowhere else.
    fn is_settled(&self, policy: &Guarded) -> bool {
        self.way.as_ref() == Some(&policy.database())
    }
}

/// A hold of another policy, as it binds the sweeps of a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bond {
    policy: String,
    hold: String,
    /// The policy was seen there; else it only may be there.
    there: bool,
}

/// The holds of other policies that a sweep was planned with.
pub struct Bound {
    me: ObjectRef<Guarded>,
    identity: String,
    bonds: BTreeSet<Bond>,
    /// How many changes there had been by then.
    changes: u64,
}

impl Default for Neighbourhood {
    fn default() -> Self {
        Self {
            instance: format!("{:016x}", fastrand::u64(..)),
            watches: Mutex::default(),
            seen: Mutex::default(),
            changes: AtomicU64::new(0),
            since: Instant::now(),
        }
    }
}

impl Neighbourhood {
    /// Takes in the policies of one watch, of a namespace or of all; returns its number.
    pub fn watch(&self, namespace: &str, store: Store<Guarded>) -> usize {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.push(Watch {
            namespace: namespace.to_owned(),
            store,
            listed: false,
        });
        watches.len() - 1
    }

    /// A watch has listed what is there: who is not among it is gone.
    pub fn listed(&self, watch: usize) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watches.get_mut(watch) {
            watch.listed = true;
        }
        drop(watches);
        let all = self.policies();
        self.seen().retain(|object, _| {
            all.iter()
                .any(|policy| ObjectRef::from_obj(policy.as_ref()) == *object)
        });
        for policy in all {
            self.noted(&policy);
        }
    }

    /// The watched namespaces whose policies have not been listed yet.
    pub fn unlisted(&self) -> Vec<String> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let unlisted = watches.iter().filter(|watch| !watch.listed);
        unlisted.map(|watch| watch.namespace.clone()).collect()
    }

    /// Every watch has listed what is there.
    pub fn all_listed(&self) -> bool {
        self.unlisted().is_empty()
    }

    /// What to say of a watch that has not listed its policies in a time in which it should have.
    pub fn waits_for_lists(&self) -> Option<String> {
        let unlisted = self.unlisted();
        (!unlisted.is_empty() && self.since.elapsed() >= LISTS_TAKE).then(|| {
            format!(
                "no audit and no sweep: the policies of {} could not be listed yet, and their holds are not known; \
                 does the operator have the right to list them?",
                unlisted.join(", ")
            )
        })
    }

    /// Takes note of a policy as it is now: its holds bind the others from now on, audited or not.
    pub fn noted(&self, policy: &Guarded) {
        let object = ObjectRef::from_obj(policy);
        let uid = policy.meta().uid.clone();
        let mut all = self.seen();
        let fresh = || Seen {
            uid: uid.clone(),
            place: Place::by_status(policy),
            mark: Vec::new(),
        };
        let seen = all.entry(object).or_insert_with(fresh);
        if seen.uid != uid {
            *seen = fresh();
        }
        let there = seen.place.is_settled(policy);
        let mark: Vec<Bond> = policy
            .holds()
            .into_iter()
            .map(|hold| Bond {
                policy: seen.place.identity.clone().unwrap_or_default(),
                hold,
                there,
            })
            .collect();
        if seen.mark != mark {
            seen.mark = mark;
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A policy was deleted.
    pub fn gone(&self, policy: &Guarded) {
        self.seen().remove(&ObjectRef::from_obj(policy));
    }

    /// Notes which database a policy's audit has seen.
    pub fn audited(&self, object: &ObjectRef<Guarded>, policy: &RetentionPolicy, identity: &str) {
        if let Some(seen) = self.seen().get_mut(object)
            && seen.uid == policy.metadata.uid
        {
            seen.place = Place {
                identity: Some(identity.to_owned()),
                way: Some(serde_json::json!(policy.spec.database)),
            };
        }
        let current = self
            .policies()
            .into_iter()
            .find(|policy| ObjectRef::from_obj(policy.as_ref()) == *object);
        if let Some(current) = current {
            self.noted(&current);
        }
    }

    /// Takes down the holds that bind a policy's sweep of a database. The sweep is to be planned after that.
    pub fn bind(&self, me: &ObjectRef<Guarded>, identity: String) -> Bound {
        // In this order: a change that comes in between is seen as one that came after.
        let changes = self.changes.load(Ordering::Acquire);
        Bound {
            me: me.clone(),
            bonds: self.bonds(me, &identity),
            identity,
            changes,
        }
    }

    /// There is a hold that did not bind when that was taken down. One that went is not looked for: its rows stay.
    pub fn bind_more(&self, bound: &mut Bound) -> bool {
        let changes = self.changes.load(Ordering::Acquire);
        if changes == bound.changes {
            return false;
        }
        let more = !self
            .bonds(&bound.me, &bound.identity)
            .is_subset(&bound.bonds);
        if !more {
            bound.changes = changes;
        }
        more
    }

    fn bonds(&self, me: &ObjectRef<Guarded>, identity: &str) -> BTreeSet<Bond> {
        let mut bonds = BTreeSet::new();
        for policy in self.policies() {
            let object = ObjectRef::from_obj(policy.as_ref());
            if object == *me {
                continue;
            }
            let (seen_at, settled) = self.place(&object, &policy);
            let there = seen_at.as_deref() == Some(identity);
            if there || !settled {
                bonds.extend(policy.holds().into_iter().map(|hold| Bond {
                    policy: object.to_string(),
                    hold,
                    there,
                }));
            }
        }
        bonds
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectRef<Guarded>, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policies(&self) -> Vec<std::sync::Arc<Guarded>> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches
            .iter()
            .flat_map(|watch| watch.store.state())
            .collect()
    }

    /// The database of a policy, as it was seen last, and whether it can be nowhere else.
    fn place(&self, object: &ObjectRef<Guarded>, policy: &Guarded) -> (Option<String>, bool) {
        let all = self.seen();
        let known = all
            .get(object)
            .filter(|seen| seen.uid == policy.meta().uid)
            .map_or_else(|| Place::by_status(policy), |seen| seen.place.clone());
        let settled = known.is_settled(policy);
        (known.identity, settled)
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
        .filter(|_| all.all_listed())
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
            (object != tracked.object).then(|| {
                let (identity, settled) = all.place(&object, other);
                neighbour(other, identity, settled, mine)
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

fn neighbour(
    other: &Guarded,
    identity: Option<String>,
    settled: bool,
    mine: (i64, &str),
) -> Neighbour {
    let name = full_name(&other.namespace().unwrap_or_default(), &other.name_any());
    let held = other.held();
    let holds = match &other.0 {
        Ok(policy) => read_holds(&policy.spec),
        Err(_) if held.as_ref().is_some_and(Vec::is_empty) => Ok(Vec::new()),
        Err(unreadable) => Err(Refusal::new(
            reason::HOLD_UNRESOLVED,
            format!(
                "this operator cannot read it, and it has holds; until it can be read no rule is swept: {}",
                unreadable.error
            ),
        )),
    };
    Neighbour {
        identity,
        settled,
        older: is_older((created(other), &name), mine),
        outside: other.is_outside(),
        tables: other.tables(),
        held,
        holds,
        policy: name,
    }
}

fn full_name(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Seconds since 1970.
fn created(policy: &impl Resource) -> i64 {
    let time: Option<Timestamp> = policy.meta().creation_timestamp.as_ref().map(|it| it.0);
    time.map_or(i64::MAX, Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    use super::*;

    /// A neighbourhood, and the watch that feeds it.
    struct Street {
        all: Neighbourhood,
        writer: reflector::store::Writer<Guarded>,
        watch: usize,
    }

    impl Street {
        fn new() -> Self {
            let (store, mut writer) = reflector::store();
            let all = Neighbourhood::default();
            let watch = all.watch("shop", store);
            writer.apply_watcher_event(&watcher::Event::Init);
            writer.apply_watcher_event(&watcher::Event::InitDone);
            all.listed(watch);
            Self { all, writer, watch }
        }

        fn apply(&mut self, policy: &Guarded) {
            let event = watcher::Event::Apply(policy.clone());
            self.writer.apply_watcher_event(&event);
            self.all.noted(policy);
        }

        /// A sweep that is planned now.
        fn sweep(&self, identity: &str) -> Bound {
            let me = ObjectRef::new("me").within("shop");
            self.all.bind(&me, identity.to_owned())
        }

        fn stops(&self, mut sweep: Bound) -> bool {
            self.all.bind_more(&mut sweep)
        }

        fn audited(&self, policy: &Guarded, identity: &str) {
            let read = policy.0.as_ref().expect("a readable policy");
            self.all
                .audited(&ObjectRef::from_obj(policy), read, identity);
        }
    }

    fn policy(patch: Value) -> Guarded {
        let object = json!({
            "apiVersion": "retention-operator.io/v1alpha1", "kind": "RetentionPolicy",
            "metadata": {"name": "legal", "namespace": "shop", "uid": "1", "generation": 1},
            "spec": {"database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}, "rules": []},
        });
        serde_json::from_value(patched(object, patch)).expect("a policy")
    }

    fn patched(mut object: Value, patch: Value) -> Value {
        match patch {
            Value::Object(patch) => {
                for (key, value) in patch {
                    let old = object[&key].take();
                    object[&key] = patched(old, value);
                }
                object
            }
            patch => patch,
        }
    }

    fn hold(table: &str) -> Value {
        json!([{"name": "case", "table": table}])
    }

    fn here() -> Value {
        json!({"observedGeneration": 1, "database": {"identity": "here"}})
    }

    #[test]
    fn a_hold_stops_the_sweeps_of_its_own_database_as_soon_as_it_is_written_also_into_a_suspended_policy()
     {
        let mut street = Street::new();
        street.apply(&policy(json!({"status": here()})));
        let (here_too, elsewhere) = (street.sweep("here"), street.sweep("elsewhere"));

        street.apply(&policy(json!({
            "metadata": {"generation": 2}, "spec": {"suspend": true, "holds": hold("logs")}, "status": here(),
        })));

        assert!(street.stops(here_too));
        assert!(!street.stops(elsewhere));
        assert!(
            !street.stops(street.sweep("here")),
            "one that was planned with it goes on"
        );
    }

    #[test]
    fn what_is_written_again_without_another_hold_is_no_change() {
        let mut street = Street::new();
        let held = json!({"spec": {"holds": hold("logs")}, "status": here()});
        street.apply(&policy(held.clone()));
        street.audited(&policy(held.clone()), "here");
        let before = street.all.changes.load(Ordering::Acquire);

        let again =
            json!({"status": {"observedGeneration": 2}, "spec": {"audit": {"interval": "1h"}}});
        let again = policy(patched(held, again));
        street.apply(&again);
        street.audited(&again, "here");
        street.all.listed(street.watch);

        assert_eq!(street.all.changes.load(Ordering::Acquire), before);
    }

    #[test]
    fn a_hold_that_goes_stops_nobody_and_one_that_comes_after_it_does() {
        let mut street = Street::new();
        street.apply(&policy(
            json!({"spec": {"holds": hold("logs")}, "status": here()}),
        ));
        let mut sweep = street.sweep("here");

        street.apply(&policy(json!({"status": here()})));
        assert!(!street.all.bind_more(&mut sweep));
        street.apply(&policy(
            json!({"spec": {"holds": hold("mails")}, "status": here()}),
        ));

        assert!(street.stops(sweep));
    }

    #[test]
    fn a_policy_whose_database_nobody_has_seen_may_be_anywhere_until_it_is_audited() {
        let mut street = Street::new();
        let (first, other) = (street.sweep("here"), street.sweep("elsewhere"));
        let never_audited = policy(json!({"spec": {"holds": hold("logs")}}));
        street.apply(&never_audited);
        assert!(street.stops(first));
        assert!(street.stops(other));
        let (second, other) = (street.sweep("here"), street.sweep("elsewhere"));

        street.audited(&never_audited, "here");

        assert!(street.stops(second), "from now on its holds must fit");
        assert!(!street.stops(other));
        assert_eq!(street.sweep("elsewhere").bonds, BTreeSet::new());
    }

    #[test]
    fn a_policy_that_is_sent_to_another_database_may_be_anywhere_until_it_is_audited_there() {
        let mut street = Street::new();
        let there = policy(json!({"spec": {"holds": hold("logs")}, "status": here()}));
        street.apply(&there);
        let elsewhere = street.sweep("elsewhere");

        street.apply(&policy(json!({
            "metadata": {"generation": 2},
            "spec": {"holds": hold("logs"), "database": {"urlFrom": {"secretKeyRef": {"name": "other", "key": "url"}}}},
            "status": here(),
        })));

        assert!(street.stops(elsewhere));
        // An audit of the old spec that ends late says nothing of the new one.
        street.audited(&there, "here");
        assert_eq!(street.sweep("elsewhere").bonds.len(), 1);
    }

    #[test]
    fn one_that_cannot_be_read_any_more_stops_its_own_database_and_names_itself() {
        let mut street = Street::new();
        let held = json!({"spec": {"holds": hold("logs")}, "status": here()});
        street.apply(&policy(held.clone()));
        let (sweep, elsewhere) = (street.sweep("here"), street.sweep("elsewhere"));

        let newer = json!({"metadata": {"generation": 2}, "spec": {"mode": "Observe"}});
        let newer = policy(patched(held, newer));
        street.apply(&newer);

        assert!(street.stops(sweep));
        assert!(!street.stops(elsewhere));
        let (identity, settled) = street.all.place(&ObjectRef::from_obj(&newer), &newer);
        let neighbour = neighbour(&newer, identity, settled, (0, "shop/me"));
        assert_eq!(
            (neighbour.identity.as_deref(), neighbour.settled),
            (Some("here"), true)
        );
        let refusal = neighbour.holds.expect_err("holds that nobody can read");
        assert_eq!(refusal.reason, reason::HOLD_UNRESOLVED);
        assert_eq!(neighbour.policy, "shop/legal");
    }
}
