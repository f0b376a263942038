//! Which values of a column are before the cutoff, as a condition that is true exactly for expired rows and that fails on no
//! stored value.
//!
//! For an encoded column it is made of two parts: what is readable, and what is before the cutoff. A value that is not readable
//! reaches no cast and no function that could refuse it: lengths are tested first, then a regular expression, and only then is
//! a part of it read. Texts are compared byte by byte.

use super::{
    sql::{identifier, literal},
    value::BoundCutoff,
};
use crate::policy::{
    encoding::{Encoding, Storage},
    plan::RulePlan,
    table::ColumnFacts,
};

/// The bound cutoff, as the statements read it: always in a subselect, so that the planner treats it as unknown, and does not
/// leave the range of tids for an index because of statistics that a sweep itself makes stale.
pub(super) struct Cutoff {
    parameter: String,
    guard: String,
}

impl Cutoff {
    /// `parameter` is `$n`, or a NULL where the statement never runs.
    pub(super) fn new(parameter: &str) -> Self {
        Self {
            parameter: parameter.to_owned(),
            guard: String::new(),
        }
    }

    /// NULL (before which nothing lies) if the leaf's name does not lead to the planned table: renaming a schema needs no lock
    /// on its tables, so the name could come to mean another one between two statements. Costs nothing per row.
    pub(super) fn guarded(self, leaf: &str, id: u32) -> Self {
        Self {
            guard: format!(" WHERE {}::pg_catalog.regclass = {id}::oid", literal(leaf)),
            ..self
        }
    }

    /// The parameter in its own type.
    fn typed(&self, kind: &str) -> String {
        format!(
            "(SELECT {}::pg_catalog.{kind}{})",
            self.parameter, self.guard
        )
    }

    /// The parameter, bound as text, read as another type.
    fn read_as(&self, kind: &str) -> String {
        self.derived(|text| format!("{text}::pg_catalog.{kind}"))
    }

    fn derived(&self, expression: impl FnOnce(&str) -> String) -> String {
        let text = format!("{}::pg_catalog.text", self.parameter);
        format!("(SELECT {}{})", expression(&text), self.guard)
    }
}

/// A column of that kind can be compared with the plan's cutoff.
pub(super) fn fits(plan: &RulePlan, column: &ColumnFacts) -> bool {
    match plan.encoding {
        None => BoundCutoff::of(plan).fits(column.time_domain),
        Some(encoding) => {
            column.time_domain.is_none()
                && matches!(
                    column.storage,
                    Some(
                        Storage::Integer
                            | Storage::Decimal
                            | Storage::Float
                            | Storage::Text
                            | Storage::Uuid
                    )
                )
                && column.storage.is_some_and(|storage| encoding.fits(storage))
        }
    }
}

/// True for expired rows.
pub(super) fn expired(plan: &RulePlan, cutoff: &Cutoff) -> String {
    let name = identifier(&plan.column);
    let Some(encoding) = plan.encoding else {
        let kind = BoundCutoff::of(plan).type_name();
        return format!("{name} < {}", cutoff.typed(kind));
    };
    let Some(encoded) = Encoded::new(plan, encoding) else {
        return "FALSE".to_owned();
    };
    encoded.expired(cutoff)
}

/// 2 for rows that are expired and for which `free` is true, 1 for the others whose value is readable, 0 for unreadable ones, NULL
/// for NULL; `None` for a column of a time type, whose values all mean a time.
pub(super) fn state(plan: &RulePlan, cutoff: &Cutoff, free: &str) -> Option<String> {
    let name = identifier(&plan.column);
    let Some(encoded) = Encoded::new(plan, plan.encoding?) else {
        return Some(format!("CASE WHEN {name} IS NOT NULL THEN 0 END"));
    };
    Some(format!(
        "CASE WHEN {name} IS NULL THEN NULL WHEN {} THEN CASE WHEN {} AND {free} THEN 2 ELSE 1 END ELSE 0 END",
        encoded.readable(),
        encoded.before(cutoff)
    ))
}

/// An encoded column in statements.
struct Encoded {
    encoding: Encoding,
    storage: Storage,
    /// The column, quoted.
    name: String,
    /// Its text, compared byte by byte. Padding blanks of `character(n)` are not part of it.
    text: String,
}

/// The longest text that is looked into. Longer ones are not even unpacked: their length is known without.
const LONGEST_EPOCH: u32 = 37;
const LONGEST_ISO: u32 = 35;

impl Encoded {
    /// `None`: the column is not what was planned; nothing of it is readable.
    fn new(plan: &RulePlan, encoding: Encoding) -> Option<Self> {
        let storage = plan
            .table
            .column(&plan.column)
            .filter(|column| fits(plan, column))?
            .storage?;
        let name = identifier(&plan.column);
        Some(Self {
            encoding,
            storage,
            text: format!("({name}::pg_catalog.text COLLATE pg_catalog.\"C\")"),
            name,
        })
    }

    /// The cutoff in the column's own type, where every value of that type can be compared with it.
    fn plain_bound(&self, cutoff: &Cutoff) -> Option<String> {
        match (self.encoding, self.storage) {
            (Encoding::Compact14, Storage::Integer) => Some(cutoff.read_as("int8")),
            // The first whole number that is not before the cutoff.
            (_, Storage::Integer) => Some(cutoff.derived(|text| {
                format!("pg_catalog.ceil({text}::pg_catalog.numeric)::pg_catalog.int8")
            })),
            (_, Storage::Decimal) => Some(cutoff.read_as("numeric")),
            (_, Storage::Float) => Some(cutoff.read_as("float8")),
            (_, Storage::Uuid) => Some(cutoff.read_as("uuid")),
            _ => None,
        }
    }

    /// True for readable values that are before the cutoff. What costs least and leaves most rows alone is asked first.
    fn expired(&self, cutoff: &Cutoff) -> String {
        if let Some(bound) = self.plain_bound(cutoff) {
            // The test of readability stands apart, and so that the planner does not look into it: it would take both for a
            // narrow range of an index and prefer that to the range of tids, and would probe the index's end for the first
            // value above 0 before every chunk.
            return format!(
                "{} < {bound} AND CASE WHEN {} THEN TRUE ELSE FALSE END",
                self.name,
                self.readable()
            );
        }
        let (form, before) = (self.form(), self.before(cutoff));
        let (first, then) = match self.encoding {
            Encoding::UuidV7 | Encoding::Ulid | Encoding::Compact14 => (before, form),
            Encoding::EpochSeconds | Encoding::EpochMillis | Encoding::EpochMicros => {
                (form, before)
            }
            Encoding::Iso8601 => (
                self.iso_perhaps_before(cutoff),
                format!("CASE WHEN {form} THEN {before} ELSE FALSE END"),
            ),
        };
        format!(
            "CASE WHEN {} THEN CASE WHEN {first} THEN {then} ELSE FALSE END ELSE FALSE END",
            self.sized()
        )
    }

    /// True for values of the encoding. Fails for none; not true for NULL.
    fn readable(&self) -> String {
        let name = &self.name;
        match (self.encoding, self.storage) {
            // Without a leading zero: a number of fewer digits is of another unit.
            (Encoding::Compact14, Storage::Integer) => format!(
                "CASE WHEN {name} BETWEEN 10000000000000 AND 99991231235959 THEN {} ELSE FALSE END",
                self.form()
            ),
            (_, Storage::Integer) => format!("{name} > 0"),
            // NaN is greater than infinity.
            (_, Storage::Decimal) => {
                format!("{name} > 0 AND {name} < 'Infinity'::pg_catalog.numeric")
            }
            (_, Storage::Float) => format!("{name} > 0 AND {name} < 'Infinity'::pg_catalog.float8"),
            (_, Storage::Uuid) => {
                let text = &self.text;
                format!(
                    "pg_catalog.substr({text}, 15, 1) = '7' AND pg_catalog.substr({text}, 20, 1) IN ('8', '9', 'a', 'b') \
                     AND {}",
                    self.begins_otherwise("00000000-0000")
                )
            }
            _ => format!(
                "CASE WHEN {} THEN {} ELSE FALSE END",
                self.sized(),
                self.form()
            ),
        }
    }

    /// The text has as many bytes as one of the encoding may have.
    fn sized(&self) -> String {
        let (least, most) = match self.encoding {
            Encoding::EpochSeconds | Encoding::EpochMillis | Encoding::EpochMicros => {
                (1, LONGEST_EPOCH)
            }
            Encoding::UuidV7 => (36, 36),
            Encoding::Ulid => (26, 26),
            Encoding::Iso8601 => (10, LONGEST_ISO),
            Encoding::Compact14 => (14, 14),
        };
        format!(
            "pg_catalog.octet_length({}) BETWEEN {least} AND {most}",
            self.text
        )
    }

    /// The whole text is of the encoding's form; asked of a text of fitting length only.
    fn form(&self) -> String {
        let text = &self.text;
        let (form, and) = match self.encoding {
            Encoding::EpochSeconds | Encoding::EpochMillis | Encoding::EpochMicros => (
                "[0-9]{1,18}(?:[.][0-9]{1,18})?".to_owned(),
                format!("pg_catalog.ltrim({text}, '0.') <> ''"),
            ),
            Encoding::UuidV7 => {
                let hex = "[0-9a-fA-F]";
                (
                    format!("{hex}{{8}}-{hex}{{4}}-7{hex}{{3}}-[89abAB]{hex}{{3}}-{hex}{{12}}"),
                    self.begins_otherwise("00000000-0000"),
                )
            }
            Encoding::Ulid => (
                "[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}".to_owned(),
                self.begins_otherwise("0000000000"),
            ),
            Encoding::Iso8601 => (iso(), self.begins_otherwise("0000")),
            Encoding::Compact14 => (compact(), self.begins_otherwise("0000")),
        };
        format!("{text} ~ '^(?:{form})$' AND {and}")
    }

    /// The part that holds the time is not that of the beginning of time.
    fn begins_otherwise(&self, zero: &str) -> String {
        format!("pg_catalog.left({}, {}) <> '{zero}'", self.text, zero.len())
    }

    /// True for readable values that are before the cutoff; only readable ones may come here, or texts of fitting length where
    /// nothing is cast.
    fn before(&self, cutoff: &Cutoff) -> String {
        let text = &self.text;
        if let Some(bound) = self.plain_bound(cutoff) {
            return format!("{} < {bound}", self.name);
        }
        match self.encoding {
            Encoding::EpochSeconds | Encoding::EpochMillis | Encoding::EpochMicros => {
                format!("{text}::pg_catalog.numeric < {}", cutoff.read_as("numeric"))
            }
            Encoding::UuidV7 => format!("pg_catalog.lower({text}) < {}", cutoff.typed("text")),
            Encoding::Ulid => format!("pg_catalog.upper({text}) < {}", cutoff.typed("text")),
            Encoding::Compact14 => format!("{text} < {}", cutoff.typed("text")),
            Encoding::Iso8601 => self.iso_before(cutoff),
        }
    }

    /// False for most texts that are not before the cutoff, whatever their offset: those of two days later and after.
    fn iso_perhaps_before(&self, cutoff: &Cutoff) -> String {
        let latest = cutoff.derived(|text| {
            format!(
                "pg_catalog.to_char({} + pg_catalog.make_interval(days => 2), 'YYYY-MM-DD')",
                utc_time(text)
            )
        });
        format!("{} < {latest}", self.text)
    }

    /// A date is compared with the cutoff's date, a time without seconds with the cutoff's minute. The cutoff is moved to
    /// the value's offset; its fraction ends with its last digit that is not 0, so that a longer text of the same time is not
    /// less.
    fn iso_before(&self, cutoff: &Cutoff) -> String {
        let text = &self.text;
        let local = cutoff.derived(|text| format!("pg_catalog.split_part({text}, '|', 1)"));
        let utc = cutoff.derived(|text| format!("pg_catalog.split_part({text}, '|', 2)"));
        let utc_time = cutoff.derived(utc_time);
        // The value without its zone, and with a T.
        let value = format!(
            "(pg_catalog.left({text}, 10) || pg_catalog.split_part(pg_catalog.translate(pg_catalog.substr({text}, 11), ' Zz+', 'T---'), '-', 1))"
        );
        let precision =
            format!("CASE WHEN pg_catalog.substr({text}, 17, 1) = ':' THEN 26 ELSE 16 END");
        // What comes after the minute, with one sign for both.
        let rest = format!("pg_catalog.translate(pg_catalog.substr({text}, 17), '+', '-')");
        let offset = format!("pg_catalog.split_part({rest}, '-', 2)");
        let minutes = format!(
            "(CASE WHEN pg_catalog.strpos({text}, '+') > 0 THEN 1 ELSE -1 END \
             * (pg_catalog.left({offset}, 2)::pg_catalog.int4 * 60 \
             + CASE WHEN pg_catalog.octet_length({offset}) > 2 THEN pg_catalog.right({offset}, 2)::pg_catalog.int4 ELSE 0 END))"
        );
        let moved = format!(
            "pg_catalog.rtrim(pg_catalog.rtrim(pg_catalog.to_char({utc_time} + pg_catalog.make_interval(mins => {minutes}), \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US'), '0'), '.')"
        );
        format!(
            "CASE WHEN pg_catalog.octet_length({text}) = 10 THEN {text} < pg_catalog.left({local}, 10) \
             WHEN pg_catalog.right({text}, 1) IN ('Z', 'z') THEN {value} < pg_catalog.left({utc}, {precision}) \
             WHEN pg_catalog.strpos({rest}, '-') > 0 THEN {value} < pg_catalog.left({moved}, {precision}) \
             ELSE {value} < pg_catalog.left({local}, {precision}) END"
        )
    }
}

/// The second of the bound texts as a time; NULL if it is empty.
fn utc_time(text: &str) -> String {
    format!("NULLIF(pg_catalog.split_part({text}, '|', 2), '')::pg_catalog.timestamp")
}

/// The days that there are, of years 0 to 9999, as a regular expression; `dash` stands between the parts.
fn date(dash: &str) -> String {
    let leap = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)";
    format!(
        "(?:[0-9]{{4}}{dash}(?:(?:0[13578]|1[02]){dash}(?:0[1-9]|[12][0-9]|3[01])\
         |(?:0[469]|11){dash}(?:0[1-9]|[12][0-9]|30)|02{dash}(?:0[1-9]|1[0-9]|2[0-8]))|{leap}{dash}02{dash}29)"
    )
}

const HOURS: &str = "(?:[01][0-9]|2[0-3])";
const SIXTY: &str = "[0-5][0-9]";

fn compact() -> String {
    format!("{}{HOURS}{SIXTY}{SIXTY}", date(""))
}

fn iso() -> String {
    format!(
        "{}(?:[T ]{HOURS}:{SIXTY}(?::{SIXTY}(?:[.][0-9]{{1,9}})?)?(?:[Zz]|[-+]{HOURS}(?::?{SIXTY})?)?)?",
        date("-")
    )
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};
    use rstest::rstest;

    use super::*;
    use crate::policy::{
        cutoff,
        limits::Limits,
        table::{TableFacts, TableKind, TimeDomain},
    };

    fn plan(
        encoding: Option<Encoding>,
        storage: Option<Storage>,
        time_domain: Option<TimeDomain>,
    ) -> RulePlan {
        let cutoff = cutoff::Cutoff::Instant(Timestamp::UNIX_EPOCH);
        RulePlan {
            rule: "logs".into(),
            table: TableFacts {
                id: 7,
                schema: "s".into(),
                name: "t".into(),
                kind: TableKind::Ordinary,
                system: false,
                columns: vec![ColumnFacts {
                    name: "a\"b".into(),
                    type_name: "whatever".into(),
                    time_domain,
                    storage,
                    safe_in_predicates: true,
                    has_fields: false,
                    is_temporal: time_domain.is_some(),
                }],
                leaves: Vec::new(),
                incoming: Vec::new(),
                row_security_active: false,
                published_without_identity: None,
                delete_rule: None,
                delete_triggers: Vec::new(),
                delete_fails: None,
                may_select: true,
                may_delete: true,
                hindered_part: None,
                leading_index_columns: Vec::new(),
                leading_indexes: Vec::new(),
                total_bytes: 0,
            },
            column: "a\"b".into(),
            encoding,
            column_zone: TimeZone::UTC,
            cutoff,
            overdue: cutoff,
            filter: None,
            holds: Vec::new(),
            held_by: None,
            archive: None,
            dependents: crate::policy::dependents::Dependents::default(),
            held_tables: Vec::new(),
            limits: Limits::default(),
        }
    }

    const STORAGES: [Storage; 7] = [
        Storage::Integer,
        Storage::Decimal,
        Storage::Float,
        Storage::Text,
        Storage::Uuid,
        Storage::Bytes,
        Storage::Any,
    ];

    #[test]
    fn wherever_the_cutoff_stands_it_is_null_for_another_table() {
        let guard = r#" WHERE '"s"."t"'::pg_catalog.regclass = 7::oid)"#;
        let native = plan(None, None, Some(TimeDomain::Instant));
        let encoded = Encoding::ALL.into_iter().flat_map(|encoding| {
            STORAGES
                .into_iter()
                .map(move |storage| plan(Some(encoding), Some(storage), None))
        });
        for plan in std::iter::once(native).chain(encoded) {
            let sql = expired(&plan, &Cutoff::new("$3").guarded(r#""s"."t""#, 7));

            let subselects = sql.matches("(SELECT ").count();
            assert_eq!(subselects, sql.matches(guard).count(), "{sql}");
            assert_eq!(subselects, sql.matches("$3").count(), "{sql}");
            assert_eq!(subselects == 0, sql == "FALSE", "{sql}");
        }
    }

    #[rstest]
    #[case::time_type(Some(Encoding::Iso8601), None, Some(TimeDomain::Local))]
    #[case::bytes(Some(Encoding::UuidV7), Some(Storage::Bytes), None)]
    #[case::misfit(Some(Encoding::Ulid), Some(Storage::Integer), None)]
    fn of_a_column_that_does_not_fit_nothing_is_expired(
        #[case] encoding: Option<Encoding>,
        #[case] storage: Option<Storage>,
        #[case] time_domain: Option<TimeDomain>,
    ) {
        let plan = plan(encoding, storage, time_domain);

        assert_eq!(expired(&plan, &Cutoff::new("$3")), "FALSE");
    }
}
