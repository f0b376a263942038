//! One result of an audit: what it is called, how grave it is, what it rests on, and what to do about it.

use std::{cmp::Ordering, fmt};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Costs something every day, or will.
    Warning,
    /// Endangers the service.
    Critical,
}

impl Severity {
    /// As status and reports write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The one that is written so.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Info, Self::Warning, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! checks {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal),+ $(,)?) => {
        /// What is looked for. The names begin the ids of findings: a contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $(#[doc = $doc] $variant,)+
        }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As ids write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_ascii(),)+
                }
            }
        }
    };
}

checks! {
    /// Nobody reads through the index.
    UnusedIndex = "unused-index",
    /// Another index is the same.
    DuplicateIndex = "duplicate-index",
    /// Another index begins with the same columns.
    RedundantIndex = "redundant-index",
    /// The index was not finished.
    InvalidIndex = "invalid-index",
    /// The index holds much more space than its entries need.
    BloatedIndex = "bloated-index",
    /// A delete in the referred table scans the referring one.
    ForeignKeyWithoutIndex = "foreign-key-without-index",
    /// Nothing tells one row from another.
    NoPrimaryKey = "no-primary-key",
    /// Old rows were never checked.
    ConstraintNotValidated = "constraint-not-validated",
    /// Nobody reads or writes the table.
    UnusedTable = "unused-table",
    /// The table holds nothing.
    EmptyTable = "empty-table",
    /// The planner knows nothing of the table.
    NeverAnalyzed = "never-analyzed",
    /// The table holds much more space than its rows need.
    BloatedTable = "bloated-table",
    /// The numbers of a sequence or a column run out.
    IntegerExhaustion = "integer-exhaustion",
    /// Transaction ids run out.
    FreezeAge = "freeze-age",
    /// A snapshot keeps dead rows from being removed.
    OldSnapshot = "old-snapshot",
    /// A replication slot keeps write-ahead log.
    SlotHoldingWal = "slot-holding-wal",
    /// Every row has the same value.
    ConstantColumn = "constant-column",
    /// The table grows, and no rule of the policy bounds it.
    TableWithoutRetention = "table-without-retention",
    /// Whole partitions are past their age.
    PartitionsExpired = "partitions-expired",
    /// A rule's time column has no index, or statistics show that it would help.
    RuleColumnWithoutIndex = "rule-column-without-index",
    /// Row-level security hides rows of a rule's table.
    RowSecurity = "row-security",
    /// A published table refuses every DELETE.
    ReplicaIdentity = "replica-identity",
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do about a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// In a sentence.
    pub text: String,
    /// SQL, or YAML of a policy, that does it.
    pub apply: Option<String>,
    /// SQL that takes it back.
    pub undo: Option<String>,
}

impl Advice {
    /// Only words.
    #[must_use]
    pub fn words(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Words, what to run, and what takes it back.
    #[must_use]
    pub fn run(text: impl Into<String>, apply: impl Into<String>, undo: Option<String>) -> Self {
        Self {
            text: text.into(),
            apply: Some(apply.into()),
            undo,
        }
    }
}

/// One result of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable: check, colon, object. Rests on names only, never on numbers that the server gives out anew.
    pub id: String,
    /// What was looked for.
    pub check: Check,
    /// What it is about, as [`object`](super::object) or [`part`](super::part) spells it.
    pub object: String,
    /// How grave it is.
    pub severity: Severity,
    /// The figures that it rests on, with method and age.
    pub evidence: String,
    /// Bytes that could be won, estimated.
    pub estimated_bytes: Option<u64>,
    /// What to do.
    pub advice: Advice,
}

impl Finding {
    /// A finding about `object`.
    #[must_use]
    pub fn new(
        check: Check,
        severity: Severity,
        object: impl Into<String>,
        evidence: impl Into<String>,
        advice: Advice,
    ) -> Self {
        let object = object.into();
        Self {
            id: format!("{check}:{object}"),
            check,
            object,
            severity,
            evidence: evidence.into(),
            estimated_bytes: None,
            advice,
        }
    }

    /// With the bytes that could be won.
    #[must_use]
    pub fn winning(mut self, bytes: u64) -> Self {
        self.estimated_bytes = Some(bytes);
        self
    }
}

/// The gravest first, then what wins most, then by id: equal findings keep their places.
#[must_use]
pub fn order(one: &Finding, other: &Finding) -> Ordering {
    other
        .severity
        .cmp(&one.severity)
        .then_with(|| other.estimated_bytes.cmp(&one.estimated_bytes))
        .then_with(|| one.id.cmp(&other.id))
}
