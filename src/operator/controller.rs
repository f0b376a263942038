//! The watch and its queue: one controller for each watched namespace, or one for all.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, future::BoxFuture};
use kube::{
    Api, ResourceExt,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Action, Config},
        reflector, watcher,
    },
};

use super::{
    context::Context,
    guarded::Guarded,
    reconcile::{ReconcileError, reconcile},
};
use crate::telemetry::metrics::OutcomeLabel;

/// Policies looked at at once; no look waits for a database.
const CONCURRENCY: u16 = 16;
/// How often memory of policies that are gone is given back, and a CRD that was too old is looked at again.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(30);

/// A controller that runs until `context.stopping`, and a future that is ready when its first list is there.
pub fn controller(
    context: Arc<Context>,
    (namespace, api): (String, Api<Guarded>),
) -> (BoxFuture<'static, ()>, BoxFuture<'static, ()>) {
    let (store, writer) = reflector::store();
    let number = context.neighbours.watch(&namespace, store.clone());
    // managedFields are the larger half of a small object, and nobody here reads them.
    // The end of the first list is seen here and not by `Store::wait_until_ready`, which wakes one of several waiters only:
    // the controller itself is the one.
    let (listed, mut ready) = tokio::sync::watch::channel(false);
    let mut seen = listed.subscribe();
    let first = listed.subscribe();
    let noted = context.clone();
    let policies = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|policy| policy.managed_fields_mut().clear())
        .reflect(writer)
        // Here and not when the policy is looked at: a hold binds whether or not its policy can be read, or has a look of its own.
        .inspect_ok(move |event| match event {
            watcher::Event::Apply(policy) => noted.neighbours.noted(policy),
            watcher::Event::Delete(policy) => noted.neighbours.gone(policy),
            watcher::Event::InitDone => {
                noted.neighbours.listed(number);
                listed.send_replace(true);
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => {}
        })
        .applied_objects();
    let (again, triggers) = futures::channel::mpsc::unbounded();
    let ready = async move {
        // Fails only when the watch has ended: then there is nothing to be ready for.
        let _ = ready.wait_for(|listed| *listed).await;
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
    // A controller waits for its first list even when it is asked to end. Before that list nobody has looked at anything.
    let never_listed = {
        let stopping = context.stopping.clone();
        async move {
            stopping.cancelled().await;
            if *first.borrow() {
                std::future::pending::<()>().await;
            }
        }
    };
    let housekeeping = async move {
        if seen.wait_for(|listed| *listed).await.is_err() {
            return;
        }
        let mut every = tokio::time::interval(HOUSEKEEPING_EVERY);
        loop {
            every.tick().await;
            context.forget_gone();
            if context
                .served_crd
                .look_again_if_outdated(&context.client)
                .await
            {
                context.look_at_all();
            }
        }
    };
    let run = async move {
        tokio::select! {
            () = looks => {}
            () = housekeeping => {}
            () = never_listed => {}
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
