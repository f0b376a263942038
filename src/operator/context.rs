//! What all reconciliations share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    guarded::Guarded,
    neighbours::Neighbourhood,
    served_crd::{ServedCrd, api_message},
    settings::Settings,
    state::{PolicyState, Tracked},
};
use crate::{
    api::{API_VERSION, KIND, RetentionPolicy, RetentionPolicyStatus},
    telemetry::metrics::Metrics,
};

/// Field manager of everything that the operator writes.
pub const MANAGER: &str = "retention-operator.io/controller";

/// How long an answer of the API server is waited for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A status is written over what others do to the rest of the object; so often that is tried at once.
const WRITE_ATTEMPTS: u32 = 5;

/// What all reconciliations share.
pub struct Context {
    /// Talks to the API server.
    pub client: Client,
    /// What the administrator decided.
    pub settings: Settings,
    /// What the operator counts.
    pub metrics: Arc<Metrics>,
    /// Writes Events; holds the cache that joins equal ones.
    pub recorder: Recorder,
    /// The policies beside each other.
    pub neighbours: Neighbourhood,
    /// What the CRD in the cluster lacks.
    pub served_crd: ServedCrd,
    /// Cancelled when the process ends or another instance leads.
    pub stopping: CancellationToken,
    /// Why `stopping` was cancelled: set before it is.
    pub leadership_lost: CancellationToken,
    /// Audits and sweeps.
    pub tasks: TaskTracker,
    /// Sweeps that may run at once.
    pub sweep_slots: Arc<Semaphore>,
    /// Audits that may run at once.
    pub audit_slots: Arc<Semaphore>,
    databases: Mutex<HashMap<String, Arc<Slots>>>,
    policies: Mutex<HashMap<ObjectRef<Guarded>, Arc<Tracked>>>,
}

/// Sessions on one database, shared by its policies; the smallest `maxConnections` wins.
#[derive(Debug)]
struct Slots {
    semaphore: Arc<Semaphore>,
    size: Mutex<u32>,
}

impl Context {
    /// Nothing tracked yet.
    #[must_use]
    pub fn new(
        client: Client,
        settings: Settings,
        metrics: Arc<Metrics>,
        recorder: Recorder,
    ) -> Self {
        let sweeps = usize::try_from(settings.max_sweeps).unwrap_or(1);
        Self {
            client,
            settings,
            metrics,
            recorder,
            neighbours: Neighbourhood::default(),
            served_crd: ServedCrd::default(),
            stopping: CancellationToken::new(),
            leadership_lost: CancellationToken::new(),
            tasks: TaskTracker::new(),
            sweep_slots: Arc::new(Semaphore::new(sweeps)),
            audit_slots: Arc::new(Semaphore::new(8)),
            databases: Mutex::default(),
            policies: Mutex::default(),
        }
    }

    /// The sessions of a database.
    #[must_use]
    pub fn database_slots(&self, address: &str, max_connections: u32) -> Arc<Semaphore> {
        let mut databases = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let slots = databases.entry(address.to_owned()).or_insert_with(|| {
            Arc::new(Slots {
                semaphore: Arc::new(Semaphore::new(
                    usize::try_from(max_connections).unwrap_or(1),
                )),
                size: Mutex::new(max_connections),
            })
        });
        let mut size = slots.size.lock().unwrap_or_else(PoisonError::into_inner);
        if max_connections < *size {
            let surplus = usize::try_from(*size - max_connections).unwrap_or(0);
            let forgotten = slots.semaphore.forget_permits(surplus);
            *size -= u32::try_from(forgotten).unwrap_or(0);
        }
        slots.semaphore.clone()
    }

    /// The policy's memory; a re-created policy gets a new one.
    ///
    /// # Errors
    /// When the policy's status cannot be read.
    pub async fn tracked(
        &self,
        object: &ObjectRef<Guarded>,
        policy: &RetentionPolicy,
        store: &Store<Guarded>,
        again: &Trigger,
    ) -> Result<Arc<Tracked>, kube::Error> {
        let uid = policy.meta().uid.clone().unwrap_or_default();
        if let Some(tracked) = self.lookup(object).filter(|tracked| tracked.uid == uid) {
            return Ok(tracked);
        }
        // The watch may lag behind what an earlier process wrote last; what a sweep goes on with must be the latest.
        let live = self.api(object).get_status(&object.name).await?;
        let base = Base::of(&live);
        let status: Option<RetentionPolicyStatus> =
            serde_json::from_value(base.status.clone()).map_err(kube::Error::SerdeError)?;
        let mut state = PolicyState::from_status(
            live.metadata.generation.unwrap_or_default(),
            status.unwrap_or_default(),
            Timestamp::now(),
        );
        state.base = base;
        let tracked = Arc::new(Tracked::new(
            object.clone(),
            uid,
            store.clone(),
            again.clone(),
            state,
        ));
        self.policies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(object.clone(), tracked.clone());
        Ok(tracked)
    }

    /// Forgets what is remembered of a policy that somebody else works on, too: the next look reads it anew.
    pub fn forget(&self, tracked: &Arc<Tracked>) {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if policies
            .get(&tracked.object)
            .is_some_and(|known| Arc::ptr_eq(known, tracked))
        {
            policies.remove(&tracked.object);
        }
    }

    fn lookup(&self, object: &ObjectRef<Guarded>) -> Option<Arc<Tracked>> {
        self.policies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(object)
            .cloned()
    }

    /// Asks for another look at every policy.
    pub fn look_at_all(&self) {
        let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        policies.values().for_each(|tracked| tracked.look_again());
    }

    /// Forgets policies that are gone, and their metrics.
    pub fn forget_gone(&self) {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        policies.retain(|object, tracked| {
            let present = tracked.store.get(object).is_some();
            if !present {
                self.metrics.forget(
                    object.namespace.as_deref().unwrap_or_default(),
                    &object.name,
                );
            }
            present
        });
    }

    /// Policies as the API server has them, whatever this version can read of them.
    fn api(&self, object: &ObjectRef<Guarded>) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.client.clone(),
            object.namespace.as_deref().unwrap_or_default(),
            &ApiResource::erase::<RetentionPolicy>(&()),
        )
    }

    /// Writes a policy's whole status by server-side apply, over the one in `base` and no other. A policy that is gone is no
    /// error.
    ///
    /// A write of somebody else to the rest of the object is none to the status. One to the status itself means that another
    /// instance works on the policy, or did: what is remembered here is out of date.
    ///
    /// # Errors
    /// [`PublishError::Superseded`] when somebody else wrote the status; else when the API server does not take it.
    pub async fn write_status(
        &self,
        tracked: &Tracked,
        status: &RetentionPolicyStatus,
        base: &mut Base,
    ) -> Result<(), PublishError> {
        let mut status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        self.served_crd.prune(&mut status);
        self.metrics.status_writes.inc();
        for attempt in 1.. {
            let conflict = match self.write_over(tracked, &status, base).await {
                Ok(()) => return Ok(()),
                Err(kube::Error::Api(said)) if said.is_not_found() => return Ok(()),
                Err(kube::Error::Api(said)) if said.is_conflict() && attempt < WRITE_ATTEMPTS => {
                    kube::Error::Api(said)
                }
                Err(error) => {
                    if api_message(&error).contains("not declared in schema") {
                        self.served_crd.look(&self.client).await;
                    }
                    return Err(error.into());
                }
            };
            let api = self.api(&tracked.object);
            let live = match in_time(api.get_status(&tracked.object.name)).await {
                Ok(live) => live,
                Err(kube::Error::Api(said)) if said.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if live.metadata.uid.as_deref() != Some(tracked.uid.as_str()) {
                // Deleted and created anew.
                return Err(conflict.into());
            }
            if !base.is_status_of(&live) {
                tracked.supersede();
                return Err(PublishError::Superseded);
            }
            base.version = live.metadata.resource_version;
        }
        Ok(())
    }

    async fn write_over(
        &self,
        tracked: &Tracked,
        status: &serde_json::Value,
        base: &mut Base,
    ) -> Result<(), kube::Error> {
        // The uid makes the write fail when the policy was deleted and created anew, the version when anybody wrote to it since.
        let body = serde_json::json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": tracked.object.name, "uid": tracked.uid, "resourceVersion": base.version,
            },
            "status": status,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let api = self.api(&tracked.object);
        let patch = Patch::Apply(&body);
        // An answer that never comes must not hold the policy for ever.
        match in_time(api.patch_status(&tracked.object.name, &parameters, &patch)).await {
            Ok(written) => {
                *base = Base::of(&written);
                Ok(())
            }
            Err(error) => {
                let refused = matches!(&error, kube::Error::Api(said) if said.code < 500);
                if !refused {
                    base.sent.push(status.clone());
                }
                Err(error)
            }
        }
    }
}

/// An answer of the API server, if it comes in time.
async fn in_time<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    tokio::time::timeout(WRITE_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| {
            Err(kube::Error::Service(
                "the API server did not answer in time".into(),
            ))
        })
}

/// The status that is known to be in the cluster: only over this one is another written.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// The object's version; `None`: not known, and any will do.
    version: Option<String>,
    status: serde_json::Value,
    /// Sent since, without an answer: each may have been written.
    sent: Vec<serde_json::Value>,
}

impl Base {
    fn of(object: &DynamicObject) -> Self {
        Self {
            version: object.metadata.resource_version.clone(),
            status: object.data["status"].clone(),
            sent: Vec::new(),
        }
    }

    /// Nobody else has written the status of `live`.
    fn is_status_of(&self, live: &DynamicObject) -> bool {
        let status = &live.data["status"];
        *status == self.status || self.sent.contains(status)
    }
}

/// A status was not written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The API server does not take it, or does not answer.
    #[error("{}", api_message(.0))]
    Api(#[from] kube::Error),
    /// Somebody else wrote the status: another instance works on the policy.
    #[error("somebody else wrote the status: another instance works on the policy")]
    Superseded,
}

/// Asks for another reconciliation.
pub type Trigger = futures::channel::mpsc::UnboundedSender<ObjectRef<Guarded>>;
