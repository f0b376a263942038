//! The conditions, from everything that is known.

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{
        RetentionPolicyStatus, RuleStatus, annotation,
        conditions::{
            ABNORMAL, APPROVAL_REQUIRED, COMPLIANT, CRD_OUTDATED, ConditionStatus,
            DATABASE_REACHABLE, MAX_MESSAGE_BYTES, READY, RECONCILING, STALLED, SWEEPING, reason,
            remove_condition, set_condition, shorten,
        },
    },
    audit::{AuditReport, Measured, Method, RuleAudit},
    policy::check::{CheckedPolicy, Refusal},
};

/// What keeps the operator from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody answers; tried again with backoff.
    Unreachable {
        /// The condition's reason.
        reason: &'static str,
        /// What happened.
        message: String,
    },
    /// The policy, its Secret or the role has to change.
    Refused(Refusal),
}

/// What the conditions are made of.
#[derive(Debug)]
pub struct Known<'a> {
    /// The spec, read.
    pub policy: &'a CheckedPolicy,
    /// Its generation.
    pub generation: i64,
    /// The operator's clock.
    pub now: Timestamp,
    /// The last audit of this generation.
    pub audit: Option<&'a AuditReport>,
    /// What keeps the operator from the database.
    pub trouble: Option<&'a Trouble>,
    /// A sweep is running.
    pub sweeping: bool,
    /// The CRD in the cluster is older than the operator: what to do about it.
    pub crd_outdated: Option<&'a str>,
    /// Policies that have not been listed yet keep the operator from its work: which ones.
    pub unlisted: Option<&'a str>,
}

/// Sets the conditions of `status`, whose other fields must be up to date.
pub fn conditions(status: &mut RetentionPolicyStatus, known: &Known<'_>) {
    let mut setter = Setter {
        status,
        generation: known.generation,
        now: known.now,
    };
    ready(&mut setter, known);
    compliant(&mut setter, known);
    reachable(&mut setter, known);
    if known.sweeping {
        setter.set(
            SWEEPING,
            ConditionStatus::True,
            reason::SWEEP_RUNNING,
            "a sweep is running",
        );
    } else {
        setter.remove(SWEEPING);
    }
    match known.crd_outdated {
        Some(message) => setter.set(
            CRD_OUTDATED,
            ConditionStatus::True,
            reason::FIELDS_MISSING,
            message,
        ),
        None => setter.remove(CRD_OUTDATED),
    }
    let blocked = setter.status.pending_approval.as_ref().map(|pending| {
        let rules: Vec<String> = pending
            .rules
            .iter()
            .map(|rule| match &rule.reason {
                Some(why) => format!("{}: {why}", rule.name),
                None => rule.name.clone(),
            })
            .collect();
        let hash = pending.plan_hash.as_deref().unwrap_or_default();
        // What has to be written is said whole, whatever there is to say of the rules.
        let how = format!(" (annotate {}={hash})", annotation::APPROVED_PLAN);
        let room = MAX_MESSAGE_BYTES.saturating_sub(how.len());
        format!("{}{how}", shorten(&rules.join("; "), room))
    });
    match blocked {
        Some(message) => setter.set(
            APPROVAL_REQUIRED,
            ConditionStatus::True,
            reason::LIMIT_EXCEEDED,
            &message,
        ),
        None => setter.remove(APPROVAL_REQUIRED),
    }
}

struct Setter<'a> {
    status: &'a mut RetentionPolicyStatus,
    generation: i64,
    now: Timestamp,
}

impl Setter<'_> {
    fn set(&mut self, type_: &str, status: ConditionStatus, reason: &str, message: &str) {
        let generation = Some(self.generation);
        set_condition(
            &mut self.status.conditions,
            type_,
            status,
            reason,
            message,
            generation,
            self.now,
        );
    }

    fn remove(&mut self, type_: &str) {
        debug_assert!(ABNORMAL.contains(&type_));
        remove_condition(&mut self.status.conditions, type_);
    }
}

/// The operator does what the spec says: Ready, with Reconciling or Stalled beside it where it does not.
fn ready(setter: &mut Setter<'_>, known: &Known<'_>) {
    let (state, word, message, beside) = readiness(setter.status, known);
    setter.set(READY, state, word, &message);
    for type_ in [RECONCILING, STALLED] {
        if beside == Some(type_) {
            setter.set(type_, ConditionStatus::True, word, &message);
        } else {
            setter.remove(type_);
        }
    }
}

type Readiness = (ConditionStatus, &'static str, String, Option<&'static str>);

fn readiness(status: &RetentionPolicyStatus, known: &Known<'_>) -> Readiness {
    if known.policy.suspended {
        let message = "spec.suspend is true: no audit and no sweep".to_owned();
        return (ConditionStatus::True, reason::SUSPENDED, message, None);
    }
    if let Some(message) = known.unlisted {
        return (
            ConditionStatus::False,
            reason::NOT_LISTED,
            message.to_owned(),
            Some(RECONCILING),
        );
    }
    match known.trouble {
        Some(Trouble::Unreachable { reason, message }) => {
            return (
                ConditionStatus::False,
                reason,
                message.clone(),
                Some(RECONCILING),
            );
        }
        Some(Trouble::Refused(refusal)) => {
            return (
                ConditionStatus::False,
                refusal.reason,
                refusal.message.clone(),
                Some(STALLED),
            );
        }
        None => {}
    }
    if let Some(refusal) = known.policy.refusals.first() {
        return (
            ConditionStatus::False,
            refusal.reason,
            refusal.message.clone(),
            Some(STALLED),
        );
    }
    let Some(audit) = known.audit else {
        let message = "the first audit of this spec is on its way".to_owned();
        return (
            ConditionStatus::False,
            reason::PROGRESSING,
            message,
            Some(RECONCILING),
        );
    };
    let refused: Vec<(&str, &Refusal)> = audit
        .rules
        .iter()
        .filter_map(|rule| Some((rule.name.as_str(), rule.result.as_ref().err()?)))
        .collect();
    if let Some((name, refusal)) = refused.first() {
        let more = match refused.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("rule {name}: {}{more}", refusal.message);
        return (
            ConditionStatus::False,
            reason::RULES_REFUSED,
            message,
            Some(STALLED),
        );
    }
    let rules = match audit.rules.len() {
        1 => "1 rule".to_owned(),
        n => format!("{n} rules"),
    };
    if status.pending_approval.is_some() {
        let message = format!("{rules}, a sweep waits for an approval");
        return (ConditionStatus::True, reason::BLOCKED, message, None);
    }
    let next = match (&status.next_sweep_time, known.policy.enforced) {
        (Some(next), _) => format!("next sweep {}", next.0),
        (None, true) => "sweeps on request".to_owned(),
        (None, false) => "audit only".to_owned(),
    };
    let paused = audit.paused.as_ref().map(|why| match why.as_str() {
        "" => "; sweeps are paused in the database's ledger".to_owned(),
        why => format!("; sweeps are paused in the database's ledger: {why}"),
    });
    let note = audit.note.as_ref().map(|note| format!("; {note}"));
    (
        ConditionStatus::True,
        reason::RECONCILED,
        format!(
            "{rules}, {next}{}{}",
            paused.unwrap_or_default(),
            note.unwrap_or_default()
        ),
        None,
    )
}

/// No rule holds rows that the last due tick should have taken.
fn compliant(setter: &mut Setter<'_>, known: &Known<'_>) {
    let unknown = |message: &str| {
        (
            ConditionStatus::Unknown,
            reason::NOT_MEASURED,
            message.to_owned(),
        )
    };
    let (state, word, message) = match known.audit {
        None if known.policy.suspended => return,
        None => unknown("not audited yet"),
        Some(audit) => {
            let verdicts: Vec<Option<bool>> = audit
                .rules
                .iter()
                .map(|rule| violated(&setter.status.rules, rule, known.policy, known.now))
                .collect();
            let violated = verdicts
                .iter()
                .filter(|verdict| **verdict == Some(true))
                .count();
            let unmeasured = verdicts.iter().filter(|verdict| verdict.is_none()).count();
            let all = verdicts.len();
            match (violated, unmeasured) {
                (0, 0) => (
                    ConditionStatus::True,
                    reason::NO_EXPIRED_ROWS,
                    "no rule holds rows past their age".to_owned(),
                ),
                (0, n) => unknown(&format!("{n} of {all} rules could not be measured")),
                (n, _) => (
                    ConditionStatus::False,
                    reason::EXPIRED_ROWS,
                    format!(
                        "{n} of {all} rules {} rows past their age",
                        if n == 1 { "holds" } else { "hold" }
                    ),
                ),
            }
        }
    };
    setter.set(COMPLIANT, state, word, &message);
}

/// Whether a rule's table holds rows that the last due tick should have taken; `None`: unknown. `rules` are the entries of the
/// status.
#[must_use]
pub fn violated(
    rules: &[RuleStatus],
    rule: &RuleAudit,
    policy: &CheckedPolicy,
    now: Timestamp,
) -> Option<bool> {
    let status = rules.iter().find(|status| status.name == rule.name);
    let overdue = rule.result.as_ref().ok()?.overdue;
    let tick = policy.schedule.as_ref().filter(|_| rule.enforced);
    let tick = tick.and_then(|schedule| schedule.last_at(now));
    holds_overdue_rows(status, overdue, tick)
}

/// Clocks of database and operator may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// After a sweep whose cutoffs are of the last due tick, or later, its exact count decides, else the estimate. `None`:
/// unknown.
///
/// Without a tick everything that has expired by now counts: what was counted, and what the statistics say has expired since.
fn holds_overdue_rows(
    status: Option<&RuleStatus>,
    overdue: Option<Measured>,
    tick: Option<Timestamp>,
) -> Option<bool> {
    if let Some((counted, since)) = status.and_then(counted) {
        let clock = status
            .and_then(|status| status.watermark.as_deref())
            .and_then(|watermark| watermark.parse::<Timestamp>().ok());
        match (tick, clock) {
            _ if counted > 0 && tick.is_none() => return Some(true),
            (None, _) => {
                return match since {
                    Since::Nothing => Some(false),
                    Since::Some => Some(true),
                    Since::AtMost => None,
                };
            }
            (Some(tick), Some(clock))
                if clock.checked_add(SKEW).is_ok_and(|clock| clock >= tick) =>
            {
                return Some(counted > 0);
            }
            (Some(_), _) => {}
        }
    }
    match overdue? {
        Measured { value: 0, .. } => Some(false),
        Measured {
            method: Method::UpperBound,
            ..
        } => None,
        _ => Some(true),
    }
}

/// What has expired since a sweep counted.
#[derive(Clone, Copy)]
enum Since {
    Nothing,
    Some,
    AtMost,
}

/// What the last sweep counted, and whether more has expired since; `None`: statistics are newer, or nothing was counted.
fn counted(status: &RuleStatus) -> Option<(i64, Since)> {
    let rows = status.expired_rows.as_ref()?;
    let since = match rows.method.as_str() {
        method if method == Method::Count.as_str() => return Some((rows.value, Since::Nothing)),
        method if method == Method::CountAndHistogram.as_str() => Since::Some,
        method if method == Method::CountAndUpperBound.as_str() => Since::AtMost,
        _ => return None,
    };
    Some((status.last_count.as_ref()?.value, since))
}

fn reachable(setter: &mut Setter<'_>, known: &Known<'_>) {
    match (known.trouble, known.audit) {
        (Some(Trouble::Unreachable { reason, message }), _) => {
            setter.set(DATABASE_REACHABLE, ConditionStatus::False, reason, message);
        }
        (Some(Trouble::Refused(refusal)), _) => {
            let refused_login = refusal.reason == reason::AUTHENTICATION_FAILED;
            let state = if refused_login {
                ConditionStatus::False
            } else {
                ConditionStatus::Unknown
            };
            setter.set(DATABASE_REACHABLE, state, refusal.reason, &refusal.message);
        }
        (None, Some(audit)) => {
            let message = format!("{} {}", audit.facts.engine, audit.facts.version);
            setter.set(
                DATABASE_REACHABLE,
                ConditionStatus::True,
                reason::CONNECTED,
                &message,
            );
        }
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{CountedRows, MeasuredRows, whole_seconds};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn measured(value: i64, method: Method) -> Option<Measured> {
        Some(Measured {
            value,
            method,
            exact: false,
            as_of: None,
        })
    }

    fn counted(value: i64, second: i64) -> RuleStatus {
        RuleStatus {
            expired_rows: Some(MeasuredRows {
                value,
                method: "Count".into(),
                exact: true,
                as_of: Some(whole_seconds(at(second))),
            }),
            watermark: Some(at(second).to_string()),
            ..RuleStatus::default()
        }
    }

    /// Of `counted` rows then and `value` rows now.
    fn grown(counted: i64, value: i64, method: Method, second: i64) -> RuleStatus {
        RuleStatus {
            expired_rows: Some(MeasuredRows {
                value,
                method: method.as_str().to_owned(),
                exact: false,
                as_of: None,
            }),
            last_count: Some(CountedRows {
                value: counted,
                cutoff: None,
                as_of: Some(whole_seconds(at(second))),
            }),
            watermark: Some(at(second).to_string()),
            ..RuleStatus::default()
        }
    }

    #[rstest]
    #[case::what_expired_since_counts_where_no_tick_is_due(
        grown(0, 7, Method::CountAndHistogram, 200),
        None,
        Some(true)
    )]
    #[case::a_tick_asks_for_what_had_expired_by_then(
        grown(0, 7, Method::CountAndHistogram, 200),
        Some(100),
        Some(false)
    )]
    #[case::rows_that_the_sweep_left_are_overdue_at_the_tick(
        grown(2, 9, Method::CountAndHistogram, 200),
        Some(100),
        Some(true)
    )]
    #[case::at_most_some_proves_nothing(grown(0, 7, Method::CountAndUpperBound, 200), None, None)]
    #[case::rows_that_were_counted_are_there(
        grown(2, 9, Method::CountAndUpperBound, 200),
        None,
        Some(true)
    )]
    fn what_has_expired_since_a_count_is_overdue_as_of_now_and_not_as_of_the_tick(
        #[case] status: RuleStatus,
        #[case] tick: Option<i64>,
        #[case] expected: Option<bool>,
    ) {
        let nothing = measured(0, Method::Histogram);
        assert_eq!(
            holds_overdue_rows(Some(&status), nothing, tick.map(at)),
            expected
        );
    }

    #[rstest]
    #[case::swept_after_the_tick(
        Some(counted(0, 200)),
        measured(9, Method::Histogram),
        Some(100),
        Some(false)
    )]
    #[case::blocked_rows_count(
        Some(counted(3, 200)),
        measured(0, Method::Histogram),
        Some(100),
        Some(true)
    )]
    #[case::not_swept_since_the_tick(
        Some(counted(0, 50)),
        measured(9, Method::Histogram),
        Some(1000),
        Some(true)
    )]
    #[case::estimate(None, measured(9, Method::Histogram), None, Some(true))]
    #[case::nothing_overdue(None, measured(0, Method::UpperBound), None, Some(false))]
    #[case::an_upper_bound_proves_nothing(None, measured(9, Method::UpperBound), None, None)]
    #[case::not_measured(None, None, None, None)]
    fn a_rule_is_judged_by_the_exact_count_first(
        #[case] status: Option<RuleStatus>,
        #[case] overdue: Option<Measured>,
        #[case] tick: Option<i64>,
        #[case] expected: Option<bool>,
    ) {
        assert_eq!(
            holds_overdue_rows(status.as_ref(), overdue, tick.map(at)),
            expected
        );
    }
}
