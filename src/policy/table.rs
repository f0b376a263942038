//! What the policy calls a table, and what the database's catalog says about it.

use std::fmt;

use super::encoding::Storage;

pub use super::dependents::{IncomingKey, OnDelete, Part};

/// A table as a rule names it: `[schema.]table`, spelled exactly as the database does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    /// `None`: the engine's default schema (PostgreSQL: `public`).
    pub schema: Option<String>,
    /// The table's own name, unquoted.
    pub name: String,
}

/// What kind of relation a name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// An ordinary table, with or without inheritance children.
    Ordinary,
    /// A partitioned table: rows live in its leaves only.
    Partitioned,
    /// Something that rules cannot work on; the word says what (`view`, `foreign table`, …).
    Unsupported(String),
}

/// How a column's values are compared with a cutoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDomain {
    /// An instant (PostgreSQL `timestamptz`).
    Instant,
    /// A wall-clock time without a zone (PostgreSQL `timestamp`).
    Local,
    /// A calendar date.
    Date,
}

/// One column as the catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// Unquoted name.
    pub name: String,
    /// The type as the database prints it, for messages.
    pub type_name: String,
    /// Set where the column can be compared with a cutoff as it is.
    pub time_domain: Option<TimeDomain>,
    /// How the column stores what an encoding may hold; `None`: no encoding fits its type.
    pub storage: Option<Storage>,
    /// The type is the system's own (or an enum), so that only the system's operators apply to it in a predicate.
    pub safe_in_predicates: bool,
    /// Its values have fields (PostgreSQL: composite types and domains over them): `IS NULL` and `IS NOT NULL` ask for each of them.
    pub has_fields: bool,
    /// The type holds dates or times: words such as `now` mean the current time to it.
    pub is_temporal: bool,
}

/// One table that really holds rows: the table itself, a leaf partition or an inheritance child.
#[derive(Clone, Debug, PartialEq)]
pub struct LeafFacts {
    /// The database's own number of the table (PostgreSQL: oid).
    pub id: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// Set where rows of this leaf cannot be deleted by a rule (`foreign table`), with the reason.
    pub unsupported: Option<String>,
    /// Estimated rows of the catalog; `None` where the table was never analysed.
    pub rows: Option<f64>,
    /// Rows that it has at the least: what limits may rest on without a count. 0 where nothing is sure.
    pub rows_at_least: u64,
    /// Pages (blocks) of the main fork, exact.
    pub pages: u64,
}

/// Everything that the catalog says about one table that matters to a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct TableFacts {
    /// The database's own number of the table (PostgreSQL: oid).
    pub id: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// It belongs to the database system itself, or to an extension.
    pub system: bool,
    /// Its columns in their order, dropped ones left out.
    pub columns: Vec<ColumnFacts>,
    /// The tables that hold its rows, at least one for a supported kind (a partitioned table may have none).
    pub leaves: Vec<LeafFacts>,
    /// Foreign keys that refer to it or to one of its leaves.
    pub incoming: Vec<IncomingKey>,
    /// Row-level security hides rows from this role.
    pub row_security_active: bool,
    /// The table is published without a replica identity: every DELETE would fail. The publication's name.
    pub published_without_identity: Option<String>,
    /// An `ON DELETE` rewrite rule changes what a DELETE does. The rule's name.
    pub delete_rule: Option<String>,
    /// Enabled user triggers that fire on DELETE, for the plan.
    pub delete_triggers: Vec<String>,
    /// Why every DELETE fails, whatever the rows, and what to do about it.
    pub delete_fails: Option<String>,
    /// The role may read the table.
    pub may_select: bool,
    /// The role may delete from every leaf.
    pub may_delete: bool,
    /// The part that the role may not read, or else whose rows are hidden, or else from which it may not delete, `schema.table`; `None`:
    /// the table itself, or none.
    pub hindered_part: Option<String>,
    /// An index, valid and total, leads with the named columns (first columns of each index).
    pub leading_index_columns: Vec<String>,
    /// Valid, total b-trees of the table and its parts, each with the column that it begins with.
    pub leading_indexes: Vec<(u32, String)>,
    /// Bytes of the table with its indexes and TOAST, over all leaves; 0 where there are rows: not known.
    pub total_bytes: i64,
}

impl TableFacts {
    /// `schema.table`, for messages and status.
    #[must_use]
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The table's number, then those of the tables that hold its rows: two tables that share one have rows in common.
    #[must_use]
    pub fn parts(&self) -> Vec<u32> {
        std::iter::once(self.id)
            .chain(self.leaves.iter().map(|leaf| leaf.id))
            .collect()
    }

    /// Indexes of the table and its parts that begin with the column, by their numbers.
    pub fn indexes_by(&self, column: &str) -> impl Iterator<Item = u32> {
        let leading = self.leading_indexes.iter();
        leading
            .filter(move |(_, first)| first == column)
            .map(|(index, _)| *index)
    }

    /// The column of that exact name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// [`total_bytes`](Self::total_bytes), if it is known.
    #[must_use]
    pub fn known_bytes(&self) -> Option<i64> {
        let is_empty = self.leaves.iter().all(|leaf| leaf.pages == 0);
        Some(self.total_bytes).filter(|bytes| *bytes > 0 || is_empty)
    }

    /// Estimated rows over all leaves; `None` when a leaf that has pages was never analysed.
    #[must_use]
    pub fn rows(&self) -> Option<f64> {
        self.leaves
            .iter()
            .map(|leaf| {
                if leaf.pages == 0 {
                    Some(0.0)
                } else {
                    leaf.rows
                }
            })
            .sum()
    }

    /// Rows over all leaves at the least.
    #[must_use]
    pub fn rows_at_least(&self) -> u64 {
        let leaves = self.leaves.iter().map(|leaf| leaf.rows_at_least);
        leaves.fold(0, u64::saturating_add)
    }
}

/// Bytes that PostgreSQL keeps of a name; a longer one would silently name another table.
const MAX_NAME_BYTES: usize = 63;

/// The text is not a table's name; the message shows the right spelling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TableNameError(pub String);

impl fmt::Display for TableName {
    /// Parts are quoted only where they must be: what is written is read back as the same name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", spelled(schema))?;
        }
        f.write_str(&spelled(&self.name))
    }
}

impl std::str::FromStr for TableName {
    type Err = TableNameError;

    /// Reads `[schema.]table`. A part that holds a dot or a quote is quoted as in SQL; case counts as written.
    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let refuse = |message: String| Err(TableNameError(message));
        if text.contains('\0') {
            return refuse("a table's name cannot hold a NUL character".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = Some(text);
        while let Some(from) = rest {
            let (part, after) = take_part(text, from)?;
            parts.push(part);
            rest = after;
        }
        for part in &parts {
            if part.is_empty() {
                return refuse(format!(
                    "`{text}` has an empty part: write `table` or `schema.table`"
                ));
            }
            if part.len() > MAX_NAME_BYTES {
                return refuse(format!(
                    "`{part}` has {} bytes: a name has at most {MAX_NAME_BYTES}",
                    part.len()
                ));
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, None) => Ok(Self { schema: None, name }),
            (Some(schema), Some(name), None) => Ok(Self {
                schema: Some(schema),
                name,
            }),
            _ => refuse(format!(
                "`{text}` has more than two parts: write `schema.table`, without the database; \
                 a part that holds a dot is quoted: `{}`",
                quoted(text)
            )),
        }
    }
}

/// One part from the beginning of `from`, and what follows its dot. `text` is the whole name, for messages.
fn take_part<'a>(text: &str, from: &'a str) -> Result<(String, Option<&'a str>), TableNameError> {
    let Some(mut tail) = from.strip_prefix('"') else {
        let (part, after) = match from.split_once('.') {
            Some((part, after)) => (part, Some(after)),
            None => (from, None),
        };
        if part.contains('"') {
            return Err(TableNameError(format!(
                "`{text}` has a quote inside a part: quote the whole part and double the quotes in it: `{}`",
                quoted(part)
            )));
        }
        if part.trim() != part {
            return Err(TableNameError(format!(
                "`{text}` has blanks around a part: write `{}`, or `{}` if they belong to the name",
                part.trim(),
                quoted(part)
            )));
        }
        return Ok((part.to_owned(), after));
    };
    let mut part = String::new();
    loop {
        let Some((inside, after)) = tail.split_once('"') else {
            return Err(TableNameError(format!(
                "`{text}` opens a quote that is never closed: write `\"a part\"`, a quote inside it doubled"
            )));
        };
        part.push_str(inside);
        if let Some(next) = after.strip_prefix('"') {
            part.push('"');
            tail = next;
        } else if after.is_empty() {
            return Ok((part, None));
        } else if let Some(next) = after.strip_prefix('.') {
            return Ok((part, Some(next)));
        } else {
            return Err(TableNameError(format!(
                "`{text}` goes on after a closing quote: only a dot may follow it; a quote inside a part is doubled: `\"a\"\"b\"`"
            )));
        }
    }
}

/// A part as it is written: quoted where it would be read differently otherwise.
pub(super) fn spelled(part: &str) -> String {
    if part.is_empty() || part.contains(['.', '"']) || part.trim() != part {
        quoted(part)
    } else {
        part.to_owned()
    }
}

pub(super) fn quoted(part: &str) -> String {
    format!("\"{}\"", part.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("orders", None, "orders")]
    #[case("Orders", None, "Orders")]
    #[case("shop.orders", Some("shop"), "orders")]
    #[case("order items", None, "order items")]
    #[case(r#""odd.schema"."Odd ""Table""#, Some("odd.schema"), r#"Odd "Table"#)]
    #[case(r#"shop."a.b""#, Some("shop"), "a.b")]
    #[case(r#""plain""#, None, "plain")]
    #[case(r#"" x ""#, None, " x ")]
    fn reads_what_the_database_spells(
        #[case] text: &str,
        #[case] schema: Option<&str>,
        #[case] name: &str,
    ) {
        let parsed: TableName = text.parse().unwrap();
        assert_eq!(parsed.schema.as_deref(), schema);
        assert_eq!(parsed.name, name);
    }

    #[rstest]
    #[case("", "empty part")]
    #[case(".", "empty part")]
    #[case("shop.", "empty part")]
    #[case(".orders", "empty part")]
    #[case(r#""""#, "empty part")]
    #[case("db.shop.orders", r#"`"db.shop.orders"`"#)]
    #[case(r#"a"b"#, r#"`"a""b"`"#)]
    #[case(r#""a"#, "never closed")]
    #[case(r#""a""#.trim_end_matches('"'), "never closed")]
    #[case(r#""a"b"#, "only a dot may follow")]
    #[case(" orders", "blanks around")]
    #[case("a\0b", "NUL")]
    #[case("éééééééééééééééééééééééééééééééé", "64 bytes")]
    fn refuses_with_the_right_spelling(#[case] text: &str, #[case] says: &str) {
        let error = text.parse::<TableName>().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn a_name_of_63_bytes_is_the_longest() {
        assert!("a".repeat(63).parse::<TableName>().is_ok());
        assert!("a".repeat(64).parse::<TableName>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_back(
            schema in proptest::option::of("[a-zA-Z. \"é\n]{1,12}"),
            name in "[a-zA-Z. \"é\n]{1,12}",
        ) {
            let table = TableName { schema, name };
            prop_assert_eq!(table.to_string().parse::<TableName>(), Ok(table));
        }

        #[test]
        fn what_is_read_means_the_same_when_displayed(text in "[a-b.\" ]{0,10}|\\PC{0,20}") {
            if let Ok(table) = text.parse::<TableName>() {
                prop_assert_eq!(table.to_string().parse::<TableName>(), Ok(table));
            }
        }
    }
}
