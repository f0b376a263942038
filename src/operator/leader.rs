//! Leader election. The lease only says who should work; what keeps two operators apart is the lock in the database.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;

use super::settings::Settings;

/// The lease could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// Nobody said where it should be.
    #[error(
        "--leader-elect needs a namespace for the lease: set --lease-namespace or POD_NAMESPACE"
    )]
    NoNamespace,
    /// The API server did not take it.
    #[error("cannot use lease {name}: {source}")]
    Lease {
        /// The lease.
        name: String,
        /// What the lease manager said.
        source: Box<LeaseManagerError>,
    },
}

/// Takes part in the election; the receiver says whether this instance leads. Dropping it gives the lease back.
///
/// # Errors
/// See [`LeaderError`].
pub async fn elect(
    client: Client,
    settings: &Settings,
    own_namespace: Option<String>,
) -> Result<(watch::Receiver<bool>, tokio::task::JoinHandle<()>), LeaderError> {
    let namespace = settings
        .lease_namespace
        .clone()
        .or(own_namespace)
        .ok_or(LeaderError::NoNamespace)?;
    let name = settings.lease_name.clone();
    let manager = LeaseManagerBuilder::new(client, name.clone())
        .with_namespace(namespace)
        .with_field_manager(super::context::MANAGER)
        .with_duration(Duration::from_secs(20).as_secs())
        .with_grace(Duration::from_secs(5).as_secs())
        .build()
        .await
        .map_err(|source| LeaderError::Lease {
            name,
            source: Box::new(source),
        })?;
    let (leads, task) = manager.watch().await;
    let task = tokio::spawn(async move {
        if let Ok(Err(error)) = task.await {
            tracing::warn!(%error, "the lease was not given back");
        }
    });
    Ok((leads, task))
}
