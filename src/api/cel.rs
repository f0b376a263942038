//! The CEL rules that the API server and the offline verbs enforce on single values.
//!
//! A rule is a CEL expression and not a schema `pattern`, because the API server answers a failed pattern with nothing but
//! the regular expression, and a failed rule with a sentence that says what to write instead. Every string that a rule
//! looks at also has a `maxLength` in the schema: without one the API server refuses the whole CRD for its estimated cost.

use kube::core::{Message, Rule};

/// An age: numbers with the units y, mo, w, d and h, or `0s`. The number of digits is bounded so that no age leaves the
/// range of years that databases can store.
pub const AGE_PATTERN: &str = concat!(
    "^(0s|([1-9][0-9]{0,2}y|[1-9][0-9]{0,3}mo|[1-9][0-9]{0,3}w|[1-9][0-9]{0,4}d|[1-9][0-9]{0,4}h)",
    "( ([1-9][0-9]{0,2}y|[1-9][0-9]{0,3}mo|[1-9][0-9]{0,3}w|[1-9][0-9]{0,4}d|[1-9][0-9]{0,4}h))*)$"
);

/// A duration: one number of at most six digits and one of the units ms, s, m and h.
pub const DURATION_PATTERN: &str = "^[1-9][0-9]{0,5}(ms|s|m|h)$";

/// A DNS label (RFC 1123).
pub const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Five cron fields. The first two hold figures only, so that prose and `@daily` are refused; whether the figures make
/// sense (minute 99) is told by the schedule's own parser.
pub const CRON_PATTERN: &str =
    "^[0-9*][0-9*/,-]* +[0-9*][0-9*/,-]* +[0-9*?LW/,-]+ +[0-9A-Za-z*/,-]+ +[0-9A-Za-z*/,#?-]+$";

/// An IANA time zone name: a region and at most two more parts, without an offset in front.
pub const TIME_ZONE_PATTERN: &str = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$";

/// A rule that `self` matches `pattern`, whose message reads `<field> '<value>' <complaint>`.
fn matching(field: &str, pattern: &str, complaint: &str) -> Rule {
    refusing(field, &format!("self.matches(r'{pattern}')"), complaint)
}

/// A rule on a string, whose message reads `<field> '<value>' <complaint>`.
fn refusing(field: &str, rule: &str, complaint: &str) -> Rule {
    quoting(field, rule, "self", complaint)
}

/// A rule whose message reads `<field> '<value>' <complaint>`; `value` is a CEL expression. A line break in the value
/// would make the API server show the rule in the place of its message.
fn quoting(field: &str, rule: &str, value: &str, complaint: &str) -> Rule {
    Rule::new(rule).message(Message::Expression(format!(
        r#""{field} '" + {value}.replace("\n", " ") + "' {complaint}""#
    )))
}

/// An age that may be `0s`.
pub(super) fn age(field: &str) -> Rule {
    matching(
        field,
        AGE_PATTERN,
        "is not an age: write for example 90d, 1y 6mo or 12h; no leading zero, and at most 999y, 9999mo, 9999w, 99999d or 99999h a part",
    )
}

/// An age that is longer than nothing.
pub(super) fn positive_age(field: &str) -> Rule {
    refusing(
        field,
        &format!("self != '0s' && self.matches(r'{AGE_PATTERN}')"),
        "is not an age: write for example 90d, 1y 6mo or 12h; no leading zero, and at most 999y, 9999mo, 9999w, 99999d or 99999h a part",
    )
}

/// A duration from `least` to `most`, both written as CEL durations.
pub(super) fn duration(field: &str, least: &str, most: &str, example: &str) -> Rule {
    refusing(
        field,
        &format!(
            "self.matches(r'{DURATION_PATTERN}') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
        ),
        &format!("is not a duration from {least} to {most}: write for example {example}"),
    )
}

/// The name of a rule or of a hold.
pub(super) fn label(what: &str) -> Rule {
    matching(
        what,
        LABEL_PATTERN,
        "is not a DNS label: write lower case letters, digits and hyphens, for example activity-logs",
    )
}

/// The name of a Secret.
pub(super) fn secret_name() -> Rule {
    matching(
        "Secret name",
        "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "is not the name of a Secret: write the name of one in the policy's own namespace, for example orders-db",
    )
}

/// A key of a Secret.
pub(super) fn secret_key() -> Rule {
    matching(
        "Secret key",
        "^[-._a-zA-Z0-9]+$",
        "is not a key of a Secret: write letters, digits, hyphens, dots and underscores, for example url",
    )
}

/// A five-field cron expression.
pub(super) fn cron() -> Rule {
    matching(
        "cron",
        CRON_PATTERN,
        "is not a cron expression of five fields (minute hour day month weekday): write for example 0 3 * * *",
    )
}

/// An IANA time zone name.
pub(super) fn time_zone(field: &str) -> Rule {
    matching(
        field,
        TIME_ZONE_PATTERN,
        "is not an IANA time zone: write for example Europe/Berlin or UTC",
    )
}

/// A text that is more than white space.
pub(super) fn not_blank(field: &str, advice: &str) -> Rule {
    Rule::new(r"self.matches(r'\S')")
        .message(Message::Message(format!("{field} is empty: {advice}")))
}

/// The address of an object store. The message does not repeat the value, which may hold a password.
pub(super) fn object_store_url() -> Rule {
    Rule::new(
        r"self.matches(r'^((s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[^?#@\s]*)?|file:///[^?#\s]+)$')",
    )
    .message(
        "url is not the address of an object store: write for example s3://bucket/prefix, gs://…, az://… or file:///path, without credentials",
    )
}

/// The address of an S3-compatible server. The message does not repeat the value, which may hold a password.
pub(super) fn endpoint() -> Rule {
    Rule::new(r"self.matches(r'^https?://[^/?#@\s]+(/[^?#@\s]*)?$')").message(
        "endpoint is not an address: write for example https://minio.storage:9000, without credentials",
    )
}

/// A lock timeout that ends before the statement timeout does. Says nothing where one of them is no duration: that has a
/// rule of its own.
pub(super) fn lock_timeout_within_statement_timeout() -> Rule {
    Rule::new(format!(
        "!has(self.lockTimeout) || !has(self.statementTimeout) || \
         ![self.lockTimeout, self.statementTimeout].all(t, t.matches(r'{DURATION_PATTERN}')) || \
         duration(self.lockTimeout) <= duration(self.statementTimeout)"
    ))
    .message(
        "lockTimeout is longer than statementTimeout and would never end a wait: write a shorter lockTimeout",
    )
}

/// The name of a cloud region.
pub(super) fn region() -> Rule {
    matching(
        "region",
        "^[A-Za-z0-9][A-Za-z0-9-]*$",
        "is not a region: write for example eu-central-1",
    )
}

/// A list of ids of audit findings.
pub(super) fn finding_ids(field: &str) -> Rule {
    let is_id = "id.matches(r'^[a-z][a-z0-9-]*:.+$')";
    quoting(
        &format!("{field} entry"),
        &format!("self.all(id, {is_id})"),
        &format!("self.filter(id, !{is_id})[0]"),
        "is not the id of a finding: write it as status.findings shows it, for example unused-index:public.orders.orders_note_idx",
    )
}

/// A number of bytes per second, as a Kubernetes quantity that may be a number or a string.
pub(super) fn byte_rate(field: &str) -> Rule {
    quoting(
        field,
        concat!(
            "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('64Ki')) >= 0",
            " && quantity(string(self)).compareTo(quantity('1Ti')) <= 0"
        ),
        "string(self)",
        "is not a quantity from 64Ki to 1Ti: write for example 16Mi",
    )
}

/// List entries whose `name` is unique.
pub(super) fn unique_names(what: &str) -> Rule {
    Rule::new("self.all(x, self.exists_one(y, y.name == x.name))").message(Message::Message(
        format!("two {what} have the same name: write another name for one of them"),
    ))
}
