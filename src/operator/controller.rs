//! The watch and its queue: one controller for each watched namespace, or one for all.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture};
use kube::{
    Api, ResourceExt,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Action, Config},
        reflector, watcher,
    },
};

use super::{
    context::{Context, Guarded},
    reconcile::{ReconcileError, reconcile},
};
use crate::telemetry::metrics::OutcomeLabel;

/// Policies looked at at once; no look waits for a database.
const CONCURRENCY: u16 = 16;
/// How often memory of policies that are gone is given back.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// A controller that runs until `context.stopping`, and a future that is ready when its first list is there.
pub fn controller(
    context: Arc<Context>,
    api: Api<Guarded>,
) -> (BoxFuture<'static, ()>, BoxFuture<'static, ()>) {
    let (store, writer) = reflector::store();
    // managedFields are the larger half of a small object, and nobody here reads them.
    let policies = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|policy| policy.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects();
    let (again, triggers) = futures::channel::mpsc::unbounded();
    let ready = {
        let store = store.clone();
        async move {
            // Fails only when the watch has ended: then there is nothing to be ready for.
            let _ = store.wait_until_ready().await;
        }
    };
    let stopping = context.stopping.clone();
    let looks = {
        let store = store.clone();
        Controller::for_stream(policies, store.clone())
            .with_config(Config::default().concurrency(CONCURRENCY))
            .reconcile_on(triggers)
            .graceful_shutdown_on(async move { stopping.cancelled().await })
            .run(
                move |policy, context: Arc<Context>| {
                    let (store, again) = (store.clone(), again.clone());
                    async move {
                        let result = reconcile(context.clone(), policy, store, again).await;
                        count(&context, &result);
                        result
                    }
                },
                |policy, error, _| {
                    tracing::warn!(policy = policy.name_any(), %error, "the look at the policy failed");
                    Action::requeue(Duration::from_secs(5))
                },
                context.clone(),
            )
            .for_each(|result| async move {
                if let Err(error) = result {
                    tracing::debug!(%error, "queue");
                }
            })
    };
    let forgetting = async move {
        let mut every = tokio::time::interval(FORGET_EVERY);
        loop {
            every.tick().await;
            if store.wait_until_ready().await.is_err() {
                return;
            }
            context.forget_gone();
        }
    };
    let run = async move {
        tokio::select! {
            () = looks => {}
            () = forgetting => {}
        }
    };
    (Box::pin(run), Box::pin(ready))
}

fn count(context: &Context, result: &Result<Action, ReconcileError>) {
    let outcome = match result {
        Ok(_) => "ok",
        Err(error) => error.category(),
    };
    context
        .metrics
        .reconciles
        .get_or_create(&OutcomeLabel { outcome })
        .inc();
}
