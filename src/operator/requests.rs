//! Requests and approvals written as annotations: acted on once, never when stale.

use std::time::Duration;

use jiff::Timestamp;

/// Older requests are not acted on, so that a value kept in Git does not replay.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks differ a little.
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);

/// What an annotation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing new.
    None,
    /// Act, and record the value.
    Act(String),
    /// Do not act; record the value, and say why.
    Refuse {
        /// The annotation's value.
        value: String,
        /// Why.
        why: String,
    },
}

/// Reads a request annotation's value against the one that was handled last.
#[must_use]
pub fn read(value: Option<&str>, handled: Option<&str>, now: Timestamp) -> Request {
    let Some(value) = value.filter(|value| Some(*value) != handled) else {
        return Request::None;
    };
    let refuse = |why: &str| Request::Refuse {
        value: value.to_owned(),
        why: why.to_owned(),
    };
    let Ok(requested) = value.parse::<Timestamp>() else {
        return refuse(
            "is not an RFC 3339 instant: write for example the output of date -u +%Y-%m-%dT%H:%M:%SZ",
        );
    };
    if requested.duration_until(now) > jiff::SignedDuration::try_from(MAX_AGE).unwrap_or_default() {
        return refuse("is older than 24 hours");
    }
    if now.duration_until(requested) > jiff::SignedDuration::try_from(MAX_AHEAD).unwrap_or_default()
    {
        return refuse("is in the future");
    }
    Request::Act(value.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::absent(None, None, "none")]
    #[case::handled(Some("2026-11-22T10:00:00Z"), Some("2026-11-22T10:00:00Z"), "none")]
    #[case::fresh(Some("2026-11-22T10:00:00Z"), Some("2026-11-21T10:00:00Z"), "act")]
    #[case::other_zone(Some("2026-11-22T12:00:00+02:00"), None, "act")]
    #[case::a_little_ahead(Some("2026-11-22T10:04:00Z"), None, "act")]
    #[case::ahead(Some("2026-11-22T11:00:00Z"), None, "future")]
    #[case::stale(Some("2026-11-21T09:00:00Z"), None, "24 hours")]
    #[case::not_an_instant(Some("now"), None, "RFC 3339")]
    fn a_request_is_acted_on_once_and_only_when_fresh(
        #[case] value: Option<&str>,
        #[case] handled: Option<&str>,
        #[case] expected: &str,
    ) {
        let now = "2026-11-22T10:00:30Z".parse().expect("an instant");
        let read = match read(value, handled, now) {
            Request::None => "none".to_owned(),
            Request::Act(_) => "act".to_owned(),
            Request::Refuse { why, .. } => why,
        };
        assert!(read.contains(expected), "{read}");
    }
}
