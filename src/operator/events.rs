//! Events on a policy. Publishing one may fail; nothing depends on it.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    core::ObjectMeta,
    runtime::events::{Event, EventType},
};

use super::{context::Context, served_crd::api_message};
use crate::api::{API_VERSION, KIND, conditions::shorten};

/// Longest note that the API server takes.
const MAX_NOTE_BYTES: usize = 1024;

/// How long an answer of the API server is waited for.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Publishes an event on the policy that `meta` names.
pub async fn publish(context: &Context, meta: &ObjectMeta, kind: Kind, reason: &str, note: &str) {
    let reference = ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(KIND.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    };
    let event = Event {
        type_: match kind {
            Kind::Normal => EventType::Normal,
            Kind::Warning => EventType::Warning,
        },
        reason: reason.to_owned(),
        note: Some(shorten(note, MAX_NOTE_BYTES)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    match tokio::time::timeout(
        PUBLISH_TIMEOUT,
        context.recorder.publish(&event, &reference),
    )
    .await
    {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error = api_message(&error);
            tracing::warn!(error, reason, "the event could not be published");
        }
        Err(_) => tracing::warn!(reason, "the event could not be published in time"),
    }
}
