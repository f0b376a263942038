//! The controller: a thin shell around the pure parts. Watches policies, reads Secrets, starts and stops audits and sweeps,
//! publishes what they found. Holds no SQL and no decision.

mod approval;
mod audit_task;
pub mod binding;
mod context;
mod controller;
mod database;
pub mod decide;
mod events;
mod guarded;
mod leader;
mod neighbours;
mod reconcile;
pub mod requests;
pub mod resolve;
mod served_crd;
mod server;
pub mod settings;
mod state;
mod sweep_task;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use kube::{
    Api, Client,
    runtime::events::{Recorder, Reporter},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{context::Context, guarded::Guarded, settings::Settings};
use crate::telemetry::metrics::Metrics;

/// What running audits and sweeps get to come to the end of their chunk and to publish it.
const GRACE: Duration = Duration::from_secs(45);

/// The controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no usable configuration for an API server.
    #[error("cannot reach a cluster: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The HTTP address is taken.
    #[error(transparent)]
    Listen(#[from] server::ListenError),
    /// The lease.
    #[error(transparent)]
    Leader(#[from] leader::LeaderError),
    /// Another instance leads now; this one must not go on.
    #[error("the lease was lost to another instance")]
    LeadershipLost,
    /// The operating system.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs the controller until SIGTERM or SIGINT. Running sweeps end at their next chunk and say in the status where they stand.
///
/// # Errors
/// See [`RunError`].
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let stopping = stop_on_signals()?;
    let client = Client::try_default()
        .await
        .map_err(|error| RunError::Client(Box::new(error)))?;
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let serving = CancellationToken::new();
    server::serve(
        settings.listen,
        metrics.clone(),
        ready.clone(),
        serving.clone(),
    )
    .await?;

    let election = if settings.leader_elect {
        let namespace = std::env::var("POD_NAMESPACE").ok();
        let (mut leads, task) = leader::elect(client.clone(), &settings, namespace).await?;
        // A standby is ready: it would take over.
        ready.store(true, Ordering::Relaxed);
        tracing::info!(lease = settings.lease_name, "waiting for the lease");
        let won = tokio::select! {
            won = leads.wait_for(|leads| *leads) => won.is_ok(),
            () = stopping.cancelled() => false,
        };
        if !won {
            drop(leads);
            let _ = task.await;
            serving.cancel();
            return if stopping.is_cancelled() {
                Ok(())
            } else {
                Err(RunError::LeadershipLost)
            };
        }
        Some((leads, task))
    } else {
        None
    };
    metrics.leader.set(1);

    let reporter = Reporter {
        controller: context::MANAGER.to_owned(),
        instance: std::env::var("POD_NAME").ok(),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut context = Context::new(client.clone(), settings, metrics, recorder);
    context.stopping = stopping.clone();
    tokio::select! {
        () = context.served_crd.look(&client) => {}
        () = stopping.cancelled() => {}
    }
    let context = Arc::new(context);

    let (controllers, readiness): (Vec<_>, Vec<_>) = apis(&client, &context.settings)
        .into_iter()
        .map(|api| controller::controller(context.clone(), api))
        .unzip();
    let listed = context.clone();
    tokio::spawn(async move {
        all_listed(&listed, readiness).await;
        ready.store(true, Ordering::Relaxed);
        tracing::info!("the policies have been listed");
        listed.look_at_all();
    });
    let lost = watch_lease(&context, election.as_ref().map(|(leads, _)| leads.clone()));
    join_all(controllers).await;
    finish(&context).await;
    serving.cancel();
    lost.abort();
    let leadership_lost = context.leadership_lost.is_cancelled();
    if let Some((leads, task)) = election {
        drop(leads);
        // Give the lease back, so that a successor need not wait for it to lapse.
        let _ = tokio::time::timeout(Duration::from_secs(3), task).await;
    }
    if leadership_lost {
        Err(RunError::LeadershipLost)
    } else {
        Ok(())
    }
}

fn apis(client: &Client, settings: &Settings) -> Vec<(String, Api<Guarded>)> {
    if settings.watch_namespaces.is_empty() {
        return vec![("all namespaces".to_owned(), Api::all(client.clone()))];
    }
    let namespaces: std::collections::BTreeSet<&String> =
        settings.watch_namespaces.iter().collect();
    namespaces
        .into_iter()
        .map(|namespace| {
            (
                namespace.clone(),
                Api::namespaced(client.clone(), namespace),
            )
        })
        .collect()
}

/// Waits until every watch has listed its policies, and says for which ones it waits where that takes long.
async fn all_listed(context: &Context, readiness: Vec<BoxFuture<'static, ()>>) {
    let mut listed = std::pin::pin!(join_all(readiness));
    let mut every = tokio::time::interval(neighbours::LISTS_TAKE);
    every.tick().await;
    loop {
        tokio::select! {
            _ = &mut listed => return,
            _ = every.tick() => {
                if let Some(waits) = context.neighbours.waits_for_lists() {
                    tracing::warn!("{waits}");
                    context.look_at_all();
                }
            }
        }
    }
}

/// Losing the lease stops all work at the next chunk, and then the process.
fn watch_lease(
    context: &Arc<Context>,
    leads: Option<tokio::sync::watch::Receiver<bool>>,
) -> tokio::task::JoinHandle<()> {
    let context = context.clone();
    tokio::spawn(async move {
        let Some(mut leads) = leads else { return };
        // An error means that the lease manager is gone: nobody renews the lease any more.
        let _ = leads.wait_for(|leads| !*leads).await;
        if !context.stopping.is_cancelled() {
            tracing::error!("the lease was lost");
            context.metrics.leader.set(0);
            context.leadership_lost.cancel();
            context.stopping.cancel();
        }
    })
}

async fn finish(context: &Context) {
    context.stopping.cancel();
    context.tasks.close();
    if tokio::time::timeout(GRACE, context.tasks.wait())
        .await
        .is_err()
    {
        tracing::error!(
            tasks = context.tasks.len(),
            "audits or sweeps did not end in time"
        );
    }
    tracing::info!("ended");
}

fn stop_on_signals() -> Result<CancellationToken, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let stopping = CancellationToken::new();
    let token = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending at the next chunk"),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending at the next chunk"),
        }
        token.cancel();
    });
    Ok(stopping)
}
