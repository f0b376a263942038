//! Where expired rows go before they are deleted.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cel;
use super::secret::{SecretKeySelector, SecretReference};

/// Where expired rows go: exactly one of an object store and a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.objectStore) != has(self.table)")
        .message("archive needs exactly one place: write either objectStore or table"),
)]
pub struct Archive {
    /// An object store. Needs the ledger. Exactly one of objectStore and table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStore>,
    /// A table of the same database. Exactly one of objectStore and table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<ArchiveTable>,
}

/// A table of the same database that takes the archived rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveTable {
    /// The table, [schema.]table, exactly as the database spells it. Created where it is missing and the role may.
    /// Example: archive.activity_logs.
    #[schemars(length(max = 256))]
    #[x_kube(validation = cel::not_blank("archive.table.name", "write [schema.]table as the database spells it, for example archive.activity_logs"))]
    pub name: String,
}

/// An object store that takes the archived rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.url.startsWith('s3://') || !(has(self.endpoint) || has(self.region) || has(self.pathStyle) || has(self.caSecretRef) || has(self.serverSideEncryption))")
        .message("endpoint, region, pathStyle, caSecretRef and serverSideEncryption are for S3: remove them, or write a url that begins with s3://"),
    validation = Rule::new("!self.url.startsWith('file://') || !has(self.secretRef)")
        .message("a file:// archive takes no credentials: remove secretRef"),
    validation = Rule::new("!has(self.caSecretRef) || (has(self.endpoint) && self.endpoint.startsWith('https://'))")
        .message("caSecretRef checks the certificate of an endpoint: add an endpoint that begins with https://, or remove caSecretRef"),
)]
pub struct ObjectStore {
    /// Bucket and prefix: s3://, gs://, az:// or file://. Example: s3://archive/orders.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = cel::object_store_url())]
    pub url: String,
    /// A Secret in the policy's own namespace that holds the credentials. Default: the operator's own identity, where its
    /// administrator allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Format of the objects. Default: Parquet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ArchiveFormat")]
    pub format: Option<ArchiveFormat>,
    /// Address of an S3-compatible server. Default: Amazon S3. Example: https://minio.storage:9000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = cel::endpoint())]
    pub endpoint: Option<String>,
    /// Region of the bucket. Default: what the Secret says, else us-east-1. Example: eu-central-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = cel::region())]
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a request instead of the host name. Default: true where endpoint is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// A Secret key that holds the PEM certificates of the endpoint's authority. Default: the authorities that the
    /// operator's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeySelector>,
    /// How the store encrypts the objects. Default: as the bucket is set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
}

/// How an S3-compatible store encrypts the objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.kmsKeyId) || self.algorithm != 'Aes256'")
        .message("kmsKeyId does not fit algorithm Aes256: write algorithm: Kms, or remove kmsKeyId"),
)]
pub struct ServerSideEncryption {
    /// Aes256: keys that the store manages; Kms: a key of the key service; KmsDsse: two layers with such a key.
    pub algorithm: EncryptionAlgorithm,
    /// Key of the key service. Default: the store's own key. Example: arn:aws:kms:eu-central-1:111122223333:key/orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = cel::not_blank("kmsKeyId", "write the id of a key, or remove it"))]
    pub kms_key_id: Option<String>,
}

/// The format of archive objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ArchiveFormat {
    /// Apache Parquet.
    #[default]
    Parquet,
    /// One JSON object a line.
    #[serde(rename = "NDJSON")]
    Ndjson,
    /// Comma-separated values.
    #[serde(rename = "CSV")]
    Csv,
}

/// Who holds the key that a store encrypts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EncryptionAlgorithm {
    /// The store itself.
    Aes256,
    /// The key service.
    Kms,
    /// The key service, in two layers.
    KmsDsse,
}
