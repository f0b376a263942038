//! How fast a sweep may go, and what it does with the space that it frees.

use std::fmt;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::cel;

/// How fast a sweep may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    /// Target length of one transaction, 1ms to 10s; the number of rows adapts to it. Default: 20ms, and
    /// 4ms while the service is at work, unless maxDuty is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = cel::duration("chunkDuration", "1ms", "10s", "20ms"))]
    pub chunk_duration: Option<String>,
    /// Percent of the time in which a sweep may work, 1 to 100; it opens up while the database is idle. Default: 25,
    /// and 5 while the service is at work, unless chunkDuration is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_duty: Option<i32>,
    /// Sessions per table, 1 to 16. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub workers: Option<i32>,
    /// Most rows per second and rule. Default: no limit. Example: 20000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_rows_per_second: Option<i64>,
    /// Longest lag of a replica before the sweep waits, 100ms to 24h. Default: no limit. Example: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = cel::duration("maxReplicaLag", "100ms", "24h", "10s"))]
    pub max_replica_lag: Option<String>,
    /// Most bytes of write-ahead log per second that the sweep may cause, 64Ki to 1Ti. Default: no limit. Example: 16Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantity")]
    #[x_kube(validation = cel::byte_rate("maxWalBytesPerSecond"))]
    pub max_wal_bytes_per_second: Option<Quantity>,
}

/// What a sweep does with the space that it frees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Optimize {
    /// Never: leave it to the database; Auto: VACUUM after a sweep that took much; Full: rebuild the table, which locks it,
    /// and only inside a window. Default: Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "VacuumMode")]
    pub vacuum: Option<VacuumMode>,
    /// Never: leave indexes alone; Auto: rebuild bloated ones, concurrently. Default: Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReindexMode")]
    pub reindex: Option<ReindexMode>,
}

/// When and how a swept table is vacuumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VacuumMode {
    /// Not by the operator.
    Never,
    /// After a sweep that took much.
    #[default]
    Auto,
    /// By rebuilding the table under a lock, only inside a window.
    Full,
}

/// When bloated indexes are rebuilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReindexMode {
    /// Not by the operator.
    #[default]
    Never,
    /// Concurrently, when they are bloated.
    Auto,
}

/// A Kubernetes quantity, written as a string (`16Mi`) or as a number (`16777216`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(String);

impl Quantity {
    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The quantity in whole units (bytes), rounded down. `None` when the text is no quantity, is negative, or does not
    /// fit.
    #[must_use]
    pub fn whole(&self) -> Option<u64> {
        let number_end = self
            .0
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+')
            .unwrap_or(self.0.len());
        let (number, suffix) = self.0.split_at(number_end);
        let number = number.strip_prefix('+').unwrap_or(number);
        let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{integer}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (base, power) = scale(suffix)?;
        let mantissa: u128 = digits.parse().ok()?;
        let scaled = if power >= 0 {
            mantissa.checked_mul(base.checked_pow(power.unsigned_abs())?)?
        } else {
            mantissa.checked_div(base.checked_pow(power.unsigned_abs())?)?
        };
        let divisor = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        u64::try_from(scaled.checked_div(divisor)?).ok()
    }
}

/// Base and power that a quantity's suffix stands for.
fn scale(suffix: &str) -> Option<(u128, i32)> {
    Some(match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        exponent => (10, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Number(number) => Self(number.to_string()),
            Written::Text(text) => Self(text),
        })
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("16Mi", Some(16 << 20))]
    #[case("16777216", Some(16 << 20))]
    #[case("1.5Gi", Some(3 << 29))]
    #[case("2M", Some(2_000_000))]
    #[case("0.5k", Some(500))]
    #[case("1e6", Some(1_000_000))]
    #[case("3E", Some(3_000_000_000_000_000_000))]
    #[case("1500m", Some(1))]
    #[case("99999E", None)]
    #[case("-1", None)]
    #[case("1.2.3", None)]
    #[case("16 Mi", None)]
    #[case("Mi", None)]
    fn a_quantity_is_read_as_kubernetes_reads_it(#[case] text: &str, #[case] whole: Option<u64>) {
        assert_eq!(Quantity::from(text).whole(), whole);
    }

    #[test]
    fn a_quantity_may_be_a_number_in_the_document() {
        let quantity: Quantity =
            serde_json::from_value(serde_json::json!(16_777_216)).expect("a number is a quantity");

        assert_eq!(quantity.as_str(), "16777216");
    }
}
