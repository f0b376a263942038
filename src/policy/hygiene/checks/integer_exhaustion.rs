//! `integer-exhaustion`: the numbers that a sequence gives, or that the columns which hold them can hold, run out. Then every
//! INSERT fails.
//!
//! The end is that of the sequence or of the narrowest column that it feeds, whichever comes first: by identity, by ownership
//! (also where the application calls `nextval`), by a default, or by the name of its table where the catalog knows of no column. A
//! narrower column that refers to a fed one has a finding of its own. A sequence that cycles within what its columns hold never
//! ends. Numbers that an application gives out itself are known by the statistics: see [`integer_keys`](super::integer_keys).

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{FedColumn, Feed, Sequence, Table},
    figures, object, part, sql_name,
};

/// Percent of the numbers from which on there is little time left to widen a column of a large table, which takes weeks to plan.
const WARNING: u8 = 70;
/// Percent from which on a burst, or a job that burns numbers in rolled back inserts, can reach the end.
const CRITICAL: u8 = 90;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    for sequence in &facts.sequences {
        for (last, column) in ends(facts, sequence) {
            findings.extend(finding(facts, sequence, last, column));
        }
    }
    super::integer_keys::check(facts, findings);
}

/// The check says something of a sequence.
pub(in crate::policy::hygiene) fn is_near_an_end(facts: &Facts, sequence: &Sequence) -> bool {
    ends(facts, sequence).any(|(last, column)| {
        let way = Way::new(sequence, last, column);
        way.is_some_and(|way| severity(way.percent).is_some())
    })
}

/// How far a sequence is, and what may end: the narrowest of its columns, and each that refers to one.
fn ends<'s>(
    facts: &Facts,
    sequence: &'s Sequence,
) -> impl Iterator<Item = (i64, Option<&'s FedColumn>)> {
    let columns = sequence.columns.iter();
    let (referring, fed): (Vec<_>, Vec<_>) =
        columns.partition(|column| column.by == Feed::Reference);
    let narrowest = fed.into_iter().min_by_key(|column| rank(facts, column));
    let all = std::iter::once(narrowest).chain(referring.into_iter().map(Some));
    let all = sequence
        .last
        .map(|last| all.map(move |column| (last, column)));
    all.into_iter().flatten()
}

/// By whole percent of the numbers that are used; `None`: there is time.
pub(super) fn severity(percent: u8) -> Option<Severity> {
    match percent {
        CRITICAL.. => Some(Severity::Critical),
        WARNING.. => Some(Severity::Warning),
        _ => None,
    }
}

/// The narrowest first, then whom the sequence belongs to, then a table before its partitions, then by name.
fn rank(facts: &Facts, column: &FedColumn) -> (i64, bool, bool, String) {
    let table = facts.tables.get(&column.table);
    (
        column.max.unwrap_or(i64::MAX),
        column.by == Feed::Default,
        table.is_some_and(|table| table.partition_of.or(table.inherits).is_some()),
        table.map_or_else(String::new, |table| {
            part(&table.schema, &table.name, &column.name)
        }),
    )
}

/// How far a sequence is on the way to an end.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    /// The last number that fits.
    end: i64,
    /// Whole percent of the way.
    percent: u8,
    /// Numbers that are left.
    left: u64,
    /// It is the column that ends there, perhaps together with its sequence.
    by_column: bool,
}

impl Way {
    fn new(sequence: &Sequence, last: i64, column: Option<&FedColumn>) -> Option<Self> {
        let widest = column.and_then(|column| column.max).unwrap_or(i64::MAX);
        let is_bounded = column.is_some_and(|column| column.max.is_some());
        let down = sequence.increment < 0;
        let (start, end, by_column) = if down {
            let widest = -widest - 1;
            let by_column = is_bounded && widest >= sequence.min;
            (sequence.max, sequence.min.max(widest), by_column)
        } else {
            let by_column = is_bounded && widest <= sequence.max;
            (sequence.min, sequence.max.min(widest), by_column)
        };
        let cycles_before = if down {
            sequence.min >= end
        } else {
            sequence.max <= end
        };
        if sequence.cycles && cycles_before {
            return None;
        }
        let gone = |to: i64| {
            let way = i128::from(to) - i128::from(start);
            if down { -way } else { way }
        };
        let (span, done) = (gone(end), gone(last));
        let percent = if done >= span {
            100
        } else {
            u8::try_from(done.max(0) * 100 / span).unwrap_or(100)
        };
        Some(Self {
            end,
            percent,
            left: u64::try_from((span - done).max(0)).unwrap_or(u64::MAX)
                / sequence.increment.unsigned_abs().max(1),
            by_column,
        })
    }
}

fn finding(
    facts: &Facts,
    sequence: &Sequence,
    last: i64,
    column: Option<&FedColumn>,
) -> Option<Finding> {
    let way = Way::new(sequence, last, column)?;
    let severity = severity(way.percent)?;
    let own_name = object(&sequence.schema, &sequence.name);
    let table = column.and_then(|column| Some((facts.tables.get(&column.table)?, column)));
    let name = table.map_or_else(
        || own_name.clone(),
        |(table, column)| part(&table.schema, &table.name, &column.name),
    );
    let left = match way.left {
        0 => "none is left".to_owned(),
        left => format!("about {} are left", figures::about(left)),
    };
    let how = match column.map(|column| column.by) {
        Some(Feed::Reference) => ", to whose numbers the column refers",
        Some(Feed::Identity) => " of the identity column",
        Some(Feed::Owner) => " that the column owns",
        Some(Feed::Default) => " in the column's default",
        Some(Feed::Name) => {
            ", which no column takes its default from and which has the name of this table"
        }
        None => "",
    };
    let evidence = format!(
        "{} % of the numbers as far as {} are used, {left}: by the last value of sequence {own_name}{how}; the end is that of {}",
        way.percent,
        way.end,
        if way.by_column {
            "the column's type"
        } else {
            "the sequence"
        },
    );
    let advice = match table {
        Some((table, column)) if way.by_column => match no_simple_way(facts, table, column) {
            Some(why) => Advice::words(why),
            None => widen(sequence, &sql_name(&table.schema, &table.name), column),
        },
        _ => lengthen(sequence, &way),
    };
    Some(Finding::new(
        Check::IntegerExhaustion,
        severity,
        name,
        evidence,
        advice,
    ))
}

/// Why one statement cannot widen a column.
fn no_simple_way(facts: &Facts, table: &Table, column: &FedColumn) -> Option<String> {
    if column.max == Some(i64::MAX) {
        return None;
    }
    let type_name = &column.type_name;
    let parent = |id: &u32| facts.tables.get(id).and_then(|table| table.partition_of);
    let is_below = |part: u32| std::iter::successors(Some(part), parent).any(|id| id == table.id);
    let mut keys = facts.partition_keys.iter();
    if keys.any(|(part, keys)| keys.contains(&column.name) && is_below(*part)) {
        return Some(
            "the table is partitioned by the column, and the server does not let its type be changed: make a table with a bigint column beside it, \
             fill it in batches beside a trigger, and change the two over"
                .to_owned(),
        );
    }
    (!matches!(type_name.as_str(), "smallint" | "integer")).then(|| {
        format!(
            "the column's type is the domain {type_name}, and its rules would be gone with it: make a domain over bigint with the same rules, and give the \
             column that one with ALTER TABLE … ALTER COLUMN … TYPE, which rewrites the table"
        )
    })
}

/// What stands around a column that is widened.
pub(super) const AROUND: &str =
    "views and generated columns that use it have to be dropped before and made again after";

/// The column's type is the end.
fn widen(sequence: &Sequence, table: &str, column: &FedColumn) -> Advice {
    if column.max == Some(i64::MAX) {
        return Advice::words(
            "no wider whole number is to be had: see what sets the sequence so far, and begin again where numbers are free",
        );
    }
    let name = crate::policy::table::quoted(&column.name);
    let to = |type_name: &str| format!("ALTER TABLE {table} ALTER COLUMN {name} TYPE {type_name};");
    let (mut apply, mut undo) = (to("bigint"), to(&column.type_name));
    // An identity column takes its sequence along.
    if matches!(column.by, Feed::Owner | Feed::Default) && bounded_by_type(sequence) {
        let (longer, shorter) = longer(sequence);
        apply.push_str(&format!("\n{longer}"));
        undo.push_str(&format!("\n{shorter}"));
    }
    Advice::run(
        format!(
            "widen the column, and the columns that refer to it: the statement rewrites the table and locks it meanwhile; {AROUND}; where that takes \
             too long, add a bigint column, fill it in batches beside a trigger, and change the two over. The way back rewrites it once more, \
             as long as no larger number is in it"
        ),
        apply,
        Some(undo),
    )
}

/// The sequence is the end.
fn lengthen(sequence: &Sequence, way: &Way) -> Advice {
    if way.end == i64::MAX || way.end == i64::MIN {
        return Advice::words(
            "no wider whole number is to be had: see what sets the sequence so far, and begin again where numbers are free",
        );
    }
    let (apply, undo) = longer(sequence);
    Advice::run(
        "lengthen the sequence, if whatever takes its numbers can hold more",
        apply,
        Some(undo),
    )
}

/// What makes a sequence as long as whole numbers go, and what takes that back.
fn longer(sequence: &Sequence) -> (String, String) {
    let name = sql_name(&sequence.schema, &sequence.name);
    let bound = if sequence.increment < 0 {
        "MINVALUE"
    } else {
        "MAXVALUE"
    };
    // A sequence of the wide type may have been given the bound of a narrower one.
    let wider = if bounded_by_type(sequence) {
        " AS bigint"
    } else {
        ""
    };
    (
        format!("ALTER SEQUENCE {name}{wider} NO {bound};"),
        format!(
            "ALTER SEQUENCE {name} AS {} MINVALUE {} MAXVALUE {};",
            sequence.type_name, sequence.min, sequence.max
        ),
    )
}

/// It ends where the whole numbers of its type do.
fn bounded_by_type(sequence: &Sequence) -> bool {
    let end = if sequence.increment < 0 {
        // -1 - n, which overflows for none.
        !sequence.min
    } else {
        sequence.max
    };
    end == i64::from(i32::MAX) || end == i64::from(i16::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::policy::hygiene::{checks::made_up, facts::Kind};

    const INT2: i64 = i16::MAX as i64;
    const INT4: i64 = i32::MAX as i64;
    const INT8: i64 = i64::MAX;

    fn type_of(max: Option<i64>) -> &'static str {
        match max {
            Some(INT2) => "smallint",
            Some(INT4) => "integer",
            Some(_) => "bigint",
            None => "numeric",
        }
    }

    fn sequence(max: i64, last: i64) -> Sequence {
        Sequence {
            schema: "public".to_owned(),
            name: "t_id_seq".to_owned(),
            min: 1,
            max,
            increment: 1,
            type_name: type_of(Some(max)).to_owned(),
            cycles: false,
            last: Some(last),
            columns: Vec::new(),
        }
    }

    fn feeding(mut sequence: Sequence, max: Option<i64>, by: Feed) -> Sequence {
        sequence.columns.push(FedColumn {
            table: 1,
            name: "id".to_owned(),
            type_name: type_of(max).to_owned(),
            max,
            by,
        });
        sequence
    }

    fn found(sequence: Sequence) -> Vec<Finding> {
        let tables = ["t", "child"].iter().zip(1..).map(|(name, id)| {
            let table = Table {
                id,
                schema: "public".to_owned(),
                name: (*name).to_owned(),
                ..Table::default()
            };
            (id, table)
        });
        let facts = Facts {
            tables: tables.collect(),
            sequences: vec![sequence],
            ..Facts::default()
        };
        let mut findings = Vec::new();
        check(&facts, &Context::default(), &mut findings);
        findings
    }

    fn ids(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.id.as_str()).collect()
    }

    #[rstest]
    #[case(INT4, 1_503_238_553, None)]
    #[case(INT4, 1_503_238_554, Some(Severity::Warning))]
    #[case(INT4, 1_932_735_282, Some(Severity::Warning))]
    #[case(INT4, 1_932_735_283, Some(Severity::Critical))]
    #[case(INT4, INT4, Some(Severity::Critical))]
    #[case(INT2, 30_000, Some(Severity::Critical))]
    #[case(INT8, INT4, None)]
    #[case(INT8, INT8 / 10 * 8, Some(Severity::Warning))]
    fn an_identity_column_is_found_by_the_share_of_its_type_that_is_used(
        #[case] max: i64,
        #[case] last: i64,
        #[case] severity: Option<Severity>,
    ) {
        let findings = found(feeding(sequence(max, last), Some(max), Feed::Identity));

        let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, Vec::from_iter(severity));
    }

    #[test]
    fn what_one_statement_cannot_widen_gets_words() {
        let column = |name: &str, type_name: &str, max| FedColumn {
            table: 1,
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            max: Some(max),
            ..FedColumn::default()
        };
        let mut facts = made_up::tables([
            made_up::parent(1, "t"),
            Table {
                kind: Kind::Partitioned,
                ..made_up::partition(2, "t_1", 1)
            },
        ]);
        facts.partition_keys = [(1, vec!["at".to_owned()]), (2, vec!["id".to_owned()])].into();
        let why = |column: FedColumn| no_simple_way(&facts, &facts.tables[&1], &column);

        let by_key = why(column("id", "integer", INT4));
        let of_domain = why(column("other", "small_id", INT4));

        assert!(by_key.is_some_and(|why| why.contains("partitioned by the column")));
        assert!(of_domain.is_some_and(|why| why.contains("the domain small_id")));
        assert_eq!(why(column("other", "smallint", INT2)), None);
        assert_eq!(why(column("id", "bigint", INT8)), None);
    }

    #[test]
    fn of_the_widest_numbers_none_wider_is_proposed() {
        let findings = found(feeding(
            sequence(INT8, INT8 / 10 * 8),
            Some(INT8),
            Feed::Identity,
        ));

        let advice = &findings[0].advice;
        assert!(
            advice.text.starts_with("no wider whole number"),
            "{}",
            advice.text
        );
    }

    #[rstest]
    #[case(sequence(INT4, 1_503_238_553), Some(INT4), 0)]
    #[case(sequence(INT4, 1_503_238_554), Some(INT4), 1)]
    // The column ends before its sequence.
    #[case(sequence(INT8, 30_000), Some(INT2), 1)]
    #[case(Sequence { last: None, ..sequence(INT4, 0) }, Some(INT4), 0)]
    fn only_sequences_of_which_nothing_is_said_are_left_out(
        #[case] sequence: Sequence,
        #[case] max: Option<i64>,
        #[case] kept: usize,
    ) {
        for by in [Feed::Identity, Feed::Reference] {
            let sequence = feeding(sequence.clone(), max, by);
            let mut facts = Facts {
                sequences: vec![sequence.clone()],
                ..Facts::default()
            };

            crate::policy::hygiene::lighten(&mut facts);

            assert_eq!(facts.sequences.len(), kept);
            assert_eq!(found(sequence).is_empty(), kept == 0);
        }
    }

    #[test]
    fn a_narrow_column_ends_before_its_wide_sequence() {
        let findings = found(feeding(
            sequence(INT8, 1_700_000_000),
            Some(INT4),
            Feed::Owner,
        ));

        assert_eq!(ids(&findings), ["integer-exhaustion:public.t.id"]);
        assert_eq!(
            findings[0].evidence,
            "79 % of the numbers as far as 2147483647 are used, about 440 million are left: by the last value of sequence \
             public.t_id_seq that the column owns; the end is that of the column's type"
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"ALTER TABLE "public"."t" ALTER COLUMN "id" TYPE bigint;"#)
        );
    }

    #[test]
    fn a_narrow_sequence_ends_before_its_wide_column() {
        let findings = found(feeding(
            sequence(INT4, 1_700_000_000),
            Some(INT8),
            Feed::Owner,
        ));

        assert_eq!(ids(&findings), ["integer-exhaustion:public.t.id"]);
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"ALTER SEQUENCE "public"."t_id_seq" AS bigint NO MAXVALUE;"#)
        );
    }

    #[test]
    fn a_serial_column_is_widened_together_with_its_sequence() {
        let findings = found(feeding(
            sequence(INT4, 1_700_000_000),
            Some(INT4),
            Feed::Owner,
        ));

        let apply = findings[0].advice.apply.as_deref().unwrap();
        assert!(
            apply.ends_with(r#"ALTER SEQUENCE "public"."t_id_seq" AS bigint NO MAXVALUE;"#),
            "{apply}"
        );
    }

    #[test]
    fn a_sequence_of_no_column_is_found_under_its_own_name_with_its_own_end() {
        let findings = found(sequence(1_000, 950));

        assert_eq!(ids(&findings), ["integer-exhaustion:public.t_id_seq"]);
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"ALTER SEQUENCE "public"."t_id_seq" NO MAXVALUE;"#)
        );
        assert_eq!(
            findings[0].advice.undo.as_deref(),
            Some(r#"ALTER SEQUENCE "public"."t_id_seq" AS bigint MINVALUE 1 MAXVALUE 1000;"#)
        );
    }

    #[test]
    fn numbers_that_go_into_a_text_end_with_the_sequence_only() {
        assert!(found(feeding(sequence(INT8, 9_000_000_000), None, Feed::Default)).is_empty());
    }

    #[test]
    fn a_sequence_that_cycles_within_its_column_is_no_finding() {
        let mut cyclic = feeding(sequence(1_000, 999), Some(INT4), Feed::Owner);
        cyclic.cycles = true;

        assert!(found(cyclic).is_empty());
    }

    #[test]
    fn a_sequence_that_cycles_beyond_its_column_is_found() {
        let mut cyclic = feeding(sequence(INT8, INT4 - 5), Some(INT4), Feed::Owner);
        cyclic.cycles = true;

        assert_eq!(ids(&found(cyclic)), ["integer-exhaustion:public.t.id"]);
    }

    #[rstest]
    #[case(-1_000_000, None)]
    #[case(-1_700_000_000, Some("integer-exhaustion:public.t.id"))]
    fn a_descending_sequence_ends_below(#[case] last: i64, #[case] id: Option<&str>) {
        let descending = Sequence {
            min: -INT8,
            max: -1,
            increment: -1,
            ..sequence(-1, last)
        };

        let findings = found(feeding(descending, Some(INT4), Feed::Owner));

        assert_eq!(ids(&findings), Vec::from_iter(id));
    }

    #[test]
    fn a_sequence_that_began_at_the_smallest_number_has_used_half_at_zero() {
        let halfway = Sequence {
            min: -INT4 - 1,
            ..sequence(INT4, 0)
        };

        assert!(found(feeding(halfway, Some(INT4), Feed::Identity)).is_empty());
    }

    #[test]
    fn a_sequence_that_gave_no_number_yet_is_no_finding() {
        let mut fresh = feeding(sequence(1, 1), Some(INT4), Feed::Owner);
        fresh.last = None;

        assert!(found(fresh).is_empty());
    }

    #[test]
    fn of_several_columns_the_narrowest_counts_and_the_owner_before_a_partition() {
        let mut shared = feeding(sequence(INT8, 1_700_000_000), Some(INT8), Feed::Owner);
        for (table, max) in [(2, INT4), (1, INT4)] {
            shared.columns.push(FedColumn {
                table,
                name: "number".to_owned(),
                max: Some(max),
                by: Feed::Default,
                ..FedColumn::default()
            });
        }

        assert_eq!(
            ids(&found(shared)),
            ["integer-exhaustion:public.child.number"]
        );
    }

    #[test]
    fn a_narrower_column_that_refers_to_a_wide_one_has_its_own_finding() {
        let mut wide = feeding(sequence(INT8, 1_700_000_000), Some(INT8), Feed::Identity);
        wide.columns.push(FedColumn {
            table: 2,
            name: "t_id".to_owned(),
            max: Some(INT4),
            by: Feed::Reference,
            ..FedColumn::default()
        });

        assert_eq!(ids(&found(wide)), ["integer-exhaustion:public.child.t_id"]);
    }
}
