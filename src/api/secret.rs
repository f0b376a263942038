//! References to Secrets. All of them are read from the policy's own namespace.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::cel;

/// One key of a Secret in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeySelector {
    /// Name of the Secret, in the policy's own namespace. Example: orders-db.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::secret_name())]
    pub name: String,
    /// Key in the Secret. Example: url.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::secret_key())]
    pub key: String,
}

/// A value that a key of a Secret holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// The key of a Secret that holds the value.
    pub secret_key_ref: SecretKeySelector,
}

/// A whole Secret in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret, in the policy's own namespace. Example: orders-app.
    #[schemars(length(max = 253))]
    #[x_kube(validation = cel::secret_name())]
    pub name: String,
}
