//! Condition types, their reasons, and how a condition is set and removed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::status::whole_seconds;

/// Longest message of a condition, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 256;

/// The operator does what the spec says.
pub const READY: &str = "Ready";
/// No rule holds rows that the last due tick should have taken.
pub const COMPLIANT: &str = "Compliant";
/// The database answers.
pub const DATABASE_REACHABLE: &str = "DatabaseReachable";
/// The operator is still working towards the spec. Exists only while true.
pub const RECONCILING: &str = "Reconciling";
/// The policy needs a human. Exists only while true.
pub const STALLED: &str = "Stalled";
/// A sweep is running. Exists only while true.
pub const SWEEPING: &str = "Sweeping";
/// A sweep is blocked until somebody approves it. Exists only while true.
pub const APPROVAL_REQUIRED: &str = "ApprovalRequired";
/// The CRD in the cluster is older than the operator. Exists only while true.
pub const CRD_OUTDATED: &str = "CrdOutdated";

/// Conditions that exist only while they are true.
pub const ABNORMAL: [&str; 5] = [
    RECONCILING,
    STALLED,
    SWEEPING,
    APPROVAL_REQUIRED,
    CRD_OUTDATED,
];

/// Reasons of conditions, as users read and match them.
pub mod reason {
    /// Ready: everything that the spec asks for is done or planned.
    pub const RECONCILED: &str = "Reconciled";
    /// Ready: `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
    /// Ready: a sweep waits for an approval.
    pub const BLOCKED: &str = "Blocked";
    /// The operator has not finished its first look, or a look at a changed spec.
    pub const PROGRESSING: &str = "Progressing";
    /// The policies of a watched namespace could not be listed: their holds and claims are not known.
    pub const NOT_LISTED: &str = "NotListed";
    /// One or more rules are refused; their entries in the status say why.
    pub const RULES_REFUSED: &str = "RulesRefused";
    /// A hold cannot be resolved, which stops every rule.
    pub const HOLD_UNRESOLVED: &str = "HoldUnresolved";
    /// A Secret that the policy names does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A Secret lacks a key, or holds no usable value.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// The spec cannot be carried out.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The policy uses something that this version or this engine does not do.
    pub const NOT_SUPPORTED: &str = "NotSupported";
    /// The operator's administrator does not allow what the policy asks for.
    pub const NOT_ALLOWED: &str = "NotAllowed";
    /// DatabaseReachable: the database answers.
    pub const CONNECTED: &str = "Connected";
    /// DatabaseReachable: the database does not answer.
    pub const CONNECTION_FAILED: &str = "ConnectionFailed";
    /// DatabaseReachable: the database refuses the role or its password.
    pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
    /// The role lacks a right that the policy needs.
    pub const PERMISSION_DENIED: &str = "PermissionDenied";
    /// The audit failed.
    pub const AUDIT_FAILED: &str = "AuditFailed";
    /// The clocks of database and operator differ by more than five minutes.
    pub const CLOCK_SKEW: &str = "ClockSkew";
    /// Compliant: no rule holds rows past their age.
    pub const NO_EXPIRED_ROWS: &str = "NoExpiredRows";
    /// Compliant: at least one rule holds rows past their age.
    pub const EXPIRED_ROWS: &str = "ExpiredRows";
    /// Compliant: it could not be measured.
    pub const NOT_MEASURED: &str = "NotMeasured";
    /// Sweeping: a sweep is running.
    pub const SWEEP_RUNNING: &str = "SweepRunning";
    /// ApprovalRequired: the sweep would take more than the limits allow.
    pub const LIMIT_EXCEEDED: &str = "LimitExceeded";
    /// ApprovalRequired: a hold was removed since the last sweep.
    pub const HOLD_REMOVED: &str = "HoldRemoved";
    /// CrdOutdated: the CRD in the cluster lacks fields that the operator writes.
    pub const FIELDS_MISSING: &str = "FieldsMissing";
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl ConditionStatus {
    /// The text that Kubernetes uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Sets the condition `type_`. `lastTransitionTime` moves to `now` only when the status changes. A message of more than
/// [`MAX_MESSAGE_BYTES`] is cut at a character's border.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) {
    let fresh = Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: shorten(message, MAX_MESSAGE_BYTES),
        observed_generation,
        last_transition_time: whole_seconds(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        None => conditions.push(fresh),
        Some(old) => {
            let last_transition_time = if old.status == fresh.status {
                old.last_transition_time.clone()
            } else {
                fresh.last_transition_time.clone()
            };
            *old = Condition {
                last_transition_time,
                ..fresh
            };
        }
    }
}

/// Removes the condition `type_` where it exists.
pub fn remove_condition(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|c| c.type_ != type_);
}

/// The condition `type_`.
#[must_use]
pub fn find_condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition `type_` exists and is true.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find_condition(conditions, type_).is_some_and(|c| c.status == "True")
}

/// `text` in at most `max_bytes`, which must be 3 or more; what is cut off is replaced by an ellipsis.
#[must_use]
pub fn shorten(text: &str, max_bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max_bytes.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a timestamp")
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set_condition(
            &mut conditions,
            READY,
            ConditionStatus::False,
            "A",
            "first",
            Some(1),
            at(10),
        );

        set_condition(
            &mut conditions,
            READY,
            ConditionStatus::False,
            "B",
            "second",
            Some(2),
            at(20),
        );
        let unchanged = conditions.clone();
        set_condition(
            &mut conditions,
            READY,
            ConditionStatus::True,
            "C",
            "third",
            Some(2),
            at(30),
        );

        assert_eq!(unchanged.len(), 1);
        assert_eq!(unchanged[0].last_transition_time.0, at(10));
        assert_eq!(
            (unchanged[0].reason.as_str(), unchanged[0].message.as_str()),
            ("B", "second")
        );
        assert_eq!(unchanged[0].observed_generation, Some(2));
        assert_eq!(conditions[0].last_transition_time.0, at(30));
        assert!(is_true(&conditions, READY));
    }

    #[test]
    fn a_removed_condition_is_gone_and_the_others_stay() {
        let mut conditions = Vec::new();
        set_condition(
            &mut conditions,
            READY,
            ConditionStatus::True,
            "A",
            "",
            None,
            at(1),
        );
        set_condition(
            &mut conditions,
            SWEEPING,
            ConditionStatus::True,
            "A",
            "",
            None,
            at(1),
        );

        remove_condition(&mut conditions, SWEEPING);
        remove_condition(&mut conditions, STALLED);

        assert!(find_condition(&conditions, SWEEPING).is_none());
        assert!(find_condition(&conditions, READY).is_some());
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let mut conditions = Vec::new();

        set_condition(
            &mut conditions,
            READY,
            ConditionStatus::True,
            "A",
            &"ä".repeat(200),
            None,
            at(1),
        );

        let message = &conditions[0].message;
        assert!(
            message.len() <= MAX_MESSAGE_BYTES,
            "{} bytes",
            message.len()
        );
        assert!(message.len() >= MAX_MESSAGE_BYTES - 1);
        assert!(message.ends_with('…'));
    }
}
