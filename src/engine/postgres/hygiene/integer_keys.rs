//! Whole numbers that an application gives out itself: unique columns that no sequence feeds, as far as statistics know them.

use std::collections::HashSet;

use sqlx::Row;

use crate::{
    engine::postgres::{
        catalog::{oid, oids},
        session::Session,
        sql::constant,
    },
    policy::hygiene::facts::{Facts, IntegerKey, Kind},
};

/// Columns that are looked at, those of the largest tables first.
const COLUMNS: usize = 200;
/// A table with fewer rows cannot have used up a fifth of the shortest type's numbers as far as a warning.
const ROWS: f64 = 3_000.0;

/// `$1`: tables, `$2`: columns by their numbers. The ends of the histogram, or of the most common values where there is none. No
/// value but these leaves the server.
const ENDS: &str = "\
SELECT c.oid AS id, a.attname::text AS name, CASE a.atttypid WHEN 21 THEN 32767 ELSE 2147483647 END::int8 AS most, s.low, s.high \
FROM unnest($1::oid[], $2::int2[]) AS u(id, number) JOIN pg_class c ON c.oid = u.id JOIN pg_namespace n ON n.oid = c.relnamespace \
JOIN pg_attribute a ON a.attrelid = u.id AND a.attnum = u.number AND a.atttypid IN (21, 23) \
CROSS JOIN LATERAL (SELECT min(b.value) AS low, max(b.value) AS high FROM pg_stats s, \
    LATERAL unnest(s.histogram_bounds::text::int8[] || s.most_common_vals::text::int8[]) AS b(value) \
  WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited OFFSET 0) s \
WHERE s.high IS NOT NULL";

/// Reads them into `facts`, which hold tables, indexes, foreign keys and sequences already.
pub(super) async fn read(session: &mut Session, facts: &mut Facts) -> Result<(), sqlx::Error> {
    let candidates = candidates(facts);
    if candidates.is_empty() {
        return Ok(());
    }
    let fed: HashSet<(u32, &str)> = facts
        .sequences
        .iter()
        .flat_map(|sequence| &sequence.columns)
        .map(|column| (column.table, column.name.as_str()))
        .collect();
    let tables: Vec<u32> = candidates.iter().map(|(_, table, _)| *table).collect();
    let numbers: Vec<i16> = candidates.iter().map(|(.., column)| *column).collect();
    let ends = constant(ENDS).bind(oids(&tables)).bind(numbers);
    let mut keys = Vec::new();
    for row in session.rows(ends).await? {
        let table = oid(&row, "id")?;
        let name: String = row.try_get("name")?;
        if fed.contains(&(table, name.as_str())) {
            continue;
        }
        keys.push(IntegerKey {
            table,
            column: name,
            max: row.try_get("most")?,
            low: row.try_get("low")?,
            high: row.try_get("high")?,
        });
    }
    facts.integer_keys = keys;
    Ok(())
}

/// Unique columns of tables with many rows, those with the most first: rows, table, column. Left out: partitions and heirs, whose
/// columns cannot be widened alone, and columns that refer to others, which give no numbers out.
fn candidates(facts: &Facts) -> Vec<(f64, u32, i16)> {
    let referring: HashSet<(u32, i16)> = facts
        .foreign_keys
        .iter()
        .flat_map(|key| key.columns.iter().map(|column| (key.table, *column)))
        .collect();
    let mut candidates: Vec<(f64, u32, i16)> = facts
        .indexes
        .iter()
        .filter(|index| {
            index.unique && index.valid && index.predicate.is_none() && index.keys.len() == 1
        })
        .filter_map(|index| {
            let column = index.keys.first()?.column;
            let table = facts.tables.get(&index.table)?;
            let rows = table.rows.filter(|rows| *rows >= ROWS)?;
            let alone = table.partition_of.or(table.inherits).is_none();
            let gives_out = column > 0 && !referring.contains(&(index.table, column));
            (gives_out && alone && table.kind == Kind::Table).then_some((rows, index.table, column))
        })
        .collect();
    candidates.sort_by(|one, other| {
        let by_size = other.0.total_cmp(&one.0);
        by_size.then((one.1, one.2).cmp(&(other.1, other.2)))
    });
    candidates.dedup();
    candidates.truncate(COLUMNS);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::facts::{ForeignKey, Index, IndexKey, Table};

    /// A table with a unique column of that number.
    fn keyed(table: Table, column: i16, facts: &mut Facts) {
        facts.indexes.push(Index {
            id: table.id + 100,
            table: table.id,
            unique: true,
            valid: true,
            keys: [IndexKey {
                column,
                ..IndexKey::default()
            }]
            .into(),
            ..Index::default()
        });
        facts.tables.insert(table.id, table);
    }

    fn large(id: u32) -> Table {
        Table {
            id,
            rows: Some(30_000.0),
            ..Table::default()
        }
    }

    #[test]
    fn a_unique_column_of_a_large_table_is_looked_at() {
        let mut facts = Facts::default();
        keyed(large(1), 2, &mut facts);

        assert_eq!(candidates(&facts), [(30_000.0, 1, 2)]);
    }

    #[test]
    fn partitions_and_heirs_cannot_be_widened_alone_and_are_left_out() {
        let mut facts = Facts::default();
        let partition = Table {
            partition_of: Some(7),
            ..large(1)
        };
        let heir = Table {
            inherits: Some(7),
            ..large(2)
        };
        keyed(partition, 1, &mut facts);
        keyed(heir, 1, &mut facts);

        assert_eq!(candidates(&facts), []);
    }

    #[test]
    fn a_column_that_refers_to_another_table_gives_no_numbers_out() {
        let mut facts = Facts::default();
        keyed(large(1), 2, &mut facts);
        facts.foreign_keys.push(ForeignKey {
            table: 1,
            columns: vec![2],
            referred: 9,
            ..ForeignKey::default()
        });

        assert_eq!(candidates(&facts), []);
    }
}
