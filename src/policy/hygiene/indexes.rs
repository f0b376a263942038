//! What indexes are to each other, to partitions and to foreign keys: which are the same, which goes without which.

use std::collections::{HashMap, HashSet};

use super::facts::{Facts, ForeignKey, Index, IndexKey, Kind, Table};
use crate::policy::usage::Usage;

/// Bytes of a page. A server that was built with other pages is rare, and then only sizes are off.
pub(super) const PAGE: u64 = 8192;
/// So many B-trees are looked at: the statistics of a column cost some 50 µs.
const TREES: usize = 1000;
/// `INDOPTION_DESC | INDOPTION_NULLS_FIRST`: both turned around, an index read backwards gives the same order.
const REVERSED: i16 = 3;

/// The indexes of a database, by what one looks for them.
#[derive(Debug)]
pub(super) struct Indexes<'a> {
    pub(super) facts: &'a Facts,
    by_table: HashMap<u32, Vec<&'a Index>>,
    attached: HashMap<u32, Vec<&'a Index>>,
    partitions: HashMap<u32, Vec<&'a Table>>,
}

impl<'a> Indexes<'a> {
    pub(super) fn new(facts: &'a Facts) -> Self {
        let mut all = Self {
            facts,
            by_table: HashMap::new(),
            attached: HashMap::new(),
            partitions: HashMap::new(),
        };
        for index in &facts.indexes {
            all.by_table.entry(index.table).or_default().push(index);
            if let Some(parent) = index.attached_to {
                all.attached.entry(parent).or_default().push(index);
            }
        }
        for table in facts.tables.values() {
            if let Some(parent) = table.partition_of {
                all.partitions.entry(parent).or_default().push(table);
            }
        }
        for partitions in all.partitions.values_mut() {
            partitions
                .sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
        }
        all
    }

    /// The indexes of each table.
    pub(super) fn tables(&self) -> impl Iterator<Item = &[&'a Index]> {
        self.by_table.values().map(Vec::as_slice)
    }

    /// The indexes of a table.
    pub(super) fn of(&self, table: u32) -> &[&'a Index] {
        self.by_table.get(&table).map_or(&[], Vec::as_slice)
    }

    /// The indexes of partitions that are attached to it.
    pub(super) fn attached(&self, index: u32) -> &[&'a Index] {
        self.attached.get(&index).map_or(&[], Vec::as_slice)
    }

    /// The partitions directly below a table, by name.
    pub(super) fn partitions(&self, table: u32) -> &[&'a Table] {
        self.partitions.get(&table).map_or(&[], Vec::as_slice)
    }

    /// It is the index of a partitioned table: the rows are in those that are attached to it.
    pub(super) fn is_partitioned(&self, index: &Index) -> bool {
        let table = self.facts.tables.get(&index.table);
        table.is_some_and(|table| table.kind == Kind::Partitioned)
    }

    /// Its pages, with those that are attached to it.
    pub(super) fn pages(&self, index: &Index) -> u64 {
        let attached = self.attached(index.id).iter();
        index.pages + attached.map(|part| self.pages(part)).sum::<u64>()
    }

    /// How many indexes hold its entries.
    pub(super) fn leaf_parts(&self, index: &Index) -> usize {
        if !self.is_partitioned(index) {
            return 1;
        }
        let attached = self.attached(index.id).iter();
        attached.map(|part| self.leaf_parts(part)).sum()
    }

    /// Its bytes, likewise.
    pub(super) fn bytes(&self, index: &Index) -> u64 {
        self.pages(index).saturating_mul(PAGE)
    }

    /// Whether anybody uses it. A partitioned index is used where one of its parts is, and unused as long as the part that was used
    /// last.
    pub(super) fn usage(&self, index: &Index) -> Usage {
        if !self.is_partitioned(index) {
            return index.usage.clone();
        }
        let parts = self.attached(index.id).iter();
        let worst = parts
            .map(|part| self.usage(part))
            .min_by_key(|usage| match usage {
                Usage::Used { .. } => 0,
                Usage::Unknown(_) => 1,
                Usage::Unused { days, .. } => 2 + u64::from(*days),
            });
        worst.unwrap_or(Usage::Unknown("no partition has it"))
    }
}

/// Queries may use it, and will tomorrow.
pub(super) fn is_sound(index: &Index) -> bool {
    index.valid && index.ready && !index.dropping
}

/// The first keys of `longer` are all of `shorter`: columns, operator classes and collations, in the same order or wholly turned
/// around. Expressions are told apart by the caller.
fn begins_with(longer: &[IndexKey], shorter: &[IndexKey]) -> bool {
    let same = |turn: i16| {
        longer.len() >= shorter.len()
            && longer.iter().zip(shorter).all(|(long, short)| {
                let turned = IndexKey {
                    options: short.options ^ turn,
                    ..*short
                };
                *long == turned
            })
    };
    same(0) || same(REVERSED)
}

fn has_expression_keys(keys: &[IndexKey]) -> bool {
    keys.iter().any(|key| key.column == 0)
}

/// Both hold the same entries in the same order: all but what they enforce.
pub(super) fn are_alike(one: &Index, other: &Index) -> bool {
    let carried = |index: &Index| index.included().iter().copied().collect::<HashSet<i16>>();
    let ordered = &*one.method == "btree";
    one.table == other.table
        && one.method == other.method
        && one.keys.len() == other.keys.len()
        && if ordered {
            begins_with(&one.keys, &other.keys)
        } else {
            one.keys == other.keys && one.parameters() == other.parameters()
        }
        && one.expressions() == other.expressions()
        && one.predicate == other.predicate
        && carried(one) == carried(other)
}

/// Whatever `index` enforces, `keeper`, which [is alike](are_alike), enforces too.
pub(super) fn enforces_no_less(keeper: &Index, index: &Index) -> bool {
    if index.exclusion {
        return false;
    }
    !index.unique
        || keeper.unique
            && keeper.deferrable == index.deferrable
            && keeper.nulls_not_distinct == index.nulls_not_distinct
}

/// Every search of `shorter` is one of `longer` too, which holds more: `shorter` is the beginning of it.
pub(super) fn covers(longer: &Index, shorter: &Index) -> bool {
    let holds = |column: &i16| {
        longer.included().contains(column) || longer.keys.iter().any(|key| key.column == *column)
    };
    let holds_more = longer.keys.len() > shorter.keys.len()
        || shorter.included().iter().collect::<HashSet<_>>().len()
            < longer.included().iter().collect::<HashSet<_>>().len();
    let same_expressions = !has_expression_keys(&shorter.keys)
        || longer.expressions() == shorter.expressions()
            && !has_expression_keys(longer.keys.get(shorter.keys.len()..).unwrap_or_default());
    longer.table == shorter.table
        && longer.id != shorter.id
        && &*longer.method == "btree"
        && &*shorter.method == "btree"
        && begins_with(&longer.keys, &shorter.keys)
        && holds_more
        && same_expressions
        && longer.predicate == shorter.predicate
        && shorter.included().iter().all(holds)
}

/// The index finds the rows of a foreign key: its first column is one of the key's (in `columns`, as its table numbers them), and
/// its predicate leaves out only rows that refer to nothing.
pub(super) fn serves(index: &Index, key: &ForeignKey, columns: &[i16]) -> bool {
    let Some(first) = index.keys.first() else {
        return false;
    };
    let Some(place) = columns.iter().position(|column| *column == first.column) else {
        return false;
    };
    let collation = key.collations.get(place).copied().unwrap_or(0);
    let total = match (&index.predicate, index.not_null()) {
        (None, _) => true,
        (Some(_), Some(not_null)) => not_null.iter().all(|column| columns.contains(column)),
        (Some(_), None) => false,
    };
    // The blocks to which a BRIN index leads are read whole.
    is_sound(index)
        && total
        && &*index.method != "brin"
        && (first.collation == 0 || collation == 0 || first.collation == collation)
}

/// The referring tables that hold rows, with the numbers of the key's columns there.
pub(super) fn referring<'k>(facts: &Facts, key: &'k ForeignKey) -> Vec<(u32, &'k [i16])> {
    let holds_rows = |table: u32| {
        facts
            .tables
            .get(&table)
            .is_some_and(|table| table.kind != Kind::Partitioned)
    };
    let parts = key.parts.iter();
    let parts: Vec<_> = parts
        .filter(|part| holds_rows(part.table))
        .map(|part| (part.table, part.columns.as_slice()))
        .collect();
    if parts.is_empty() {
        vec![(key.table, key.columns.as_slice())]
    } else {
        parts
    }
}

/// Why the database refuses to drop an index that is no constraint of its own; `None`: it does not.
pub(super) fn held(facts: &Facts, index: &Index) -> Option<String> {
    if index.replica_identity {
        return Some("it is the table's replica identity".to_owned());
    }
    if !index.referred {
        return None;
    }
    let mut names: Vec<String> = facts
        .foreign_keys
        .iter()
        .filter(|key| key.relies_on == index.id)
        .filter_map(|key| {
            let table = facts.tables.get(&key.table)?;
            Some(super::part(&table.schema, &table.name, &key.name))
        })
        .collect();
    names.sort();
    Some(match names.first() {
        Some(first) if names.len() == 1 => format!("the foreign key {first} relies on it"),
        Some(first) => format!("{} foreign keys rely on it, such as {first}", names.len()),
        None => "a foreign key relies on it".to_owned(),
    })
}

/// The indexes whose definitions checks put into their advice, and that have none yet.
#[must_use]
pub fn to_define(facts: &Facts) -> Vec<u32> {
    super::checks::to_define(facts)
}

/// The largest B-trees that may be bloated, at most a thousand, the largest first.
#[must_use]
pub fn largest_btrees(facts: &Facts) -> Vec<u32> {
    let mut trees: Vec<&Index> = facts
        .indexes
        .iter()
        .filter(|index| {
            &*index.method == "btree"
                && is_sound(index)
                && index.pages >= super::checks::bloated_index::SMALLEST
        })
        .collect();
    trees.sort_by(|one, other| {
        (other.pages, &one.schema, &one.name).cmp(&(one.pages, &other.schema, &other.name))
    });
    trees.truncate(TREES);
    trees.into_iter().map(|index| index.id).collect()
}

/// `1.2 GiB`, rounded so that it does not change with every page.
pub(super) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "rounded to two figures anyway")]
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if size < 10.0 && unit != "bytes" {
        format!("{size:.1} {unit}")
    } else {
        format!("{size:.0} {unit}")
    }
}

/// `1,200,000`: two figures, so that it does not change with every row.
pub(super) fn about(number: f64) -> String {
    let number = number.max(0.0);
    let scale = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    let digits = format!("{:.0}", (number / scale).round() * scale);
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0.0, "0")]
    #[case(7.0, "7")]
    #[case(99.0, "99")]
    #[case(1234.0, "1,200")]
    #[case(999_999.0, "1,000,000")]
    #[case(1_234_567.0, "1,200,000")]
    fn numbers_are_rounded_to_two_figures(#[case] number: f64, #[case] text: &str) {
        assert_eq!(about(number), text);
    }

    #[rstest]
    #[case(0, "0 bytes")]
    #[case(8192, "8.0 KiB")]
    #[case(10 * 1024 * 1024, "10 MiB")]
    #[case(1_288_490_189, "1.2 GiB")]
    fn sizes_are_rounded(#[case] bytes: u64, #[case] text: &str) {
        assert_eq!(size(bytes), text);
    }
}
