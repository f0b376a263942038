//! How many pages a B-tree of PostgreSQL would have if it were built anew, from the statistics of its columns.
//!
//! The sizes are those of the server's source (`nbtsort.c`, `nbtdedup.c`): an entry is a header of 8 bytes, its values, all rounded up to 8,
//! and a pointer of 4; equal keys become lists of 6 bytes a row, as long as such a list stays below a tenth of a page; a leaf is
//! filled to the fill factor, an inner page to 70 %. How many different keys there are is a sample's guess, often far too low: so
//! there are two answers, the likely one and one that holds also where there are ten times as many. Of several columns it is taken to be the
//! product of what each has, which is too many where their values go together, so that the tree looks fuller than it is: extended
//! statistics say better, where there are some.

use super::facts::{Btree, BtreeColumn, Index};

/// Bytes of a page between its header and the B-tree's own part.
const USABLE: f64 = 8152.0;
const PAGE: f64 = 8192.0;
const HEADER: f64 = 8.0;
/// Header and bitmap of NULLs, rounded up.
const HEADER_WITH_NULLS: f64 = 16.0;
const POINTER: f64 = 4.0;
const ROW: f64 = 6.0;
/// Most bytes of a list of rows in a build.
const LIST: f64 = 812.0;
/// Inner pages are filled to 70 %.
const INNER: f64 = USABLE - PAGE * 0.3;
/// Wider values are compressed before they are entered (from 508 bytes on), who knows how well.
const WIDEST: f64 = 400.0;
/// A part of the entries so small is not looked at by itself.
const RARE: f64 = 0.002;
/// From so many rows of a key on, by chance, all keys have about as many.
const EVEN: f64 = 30.0;
/// More rows than that hardly any key has by chance, if it has less than that many on the average.
const MOST_OF_A_KEY: u32 = 100;
/// So many times more different keys there may be than the sample says.
const DOUBT: f64 = 10.0;

/// Pages of a B-tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// What it has, as the catalog remembers it.
    pub pages: u64,
    /// What it likely needs.
    pub needed: u64,
    /// What it needs at most, if there are many more different keys than the statistics say.
    pub needed_at_most: u64,
}

impl Estimate {
    /// The part of its pages that it likely does not need, 0 to 1.
    #[must_use]
    pub fn bloat(&self) -> f64 {
        part(self.pages, self.needed)
    }

    /// The part that it does not need in any case, 0 to 1.
    #[must_use]
    pub fn bloat_at_least(&self) -> f64 {
        part(self.pages, self.needed_at_most)
    }
}

#[expect(clippy::cast_precision_loss, reason = "pages are far below 2^53")]
fn part(pages: u64, needed: u64) -> f64 {
    if pages == 0 {
        return 0.0;
    }
    pages.saturating_sub(needed) as f64 / pages as f64
}

/// What `index` needs; `None` where the statistics do not say enough. `rows` are those of its table.
#[must_use]
pub fn estimate(index: &Index, tree: &Btree, rows: Option<f64>) -> Option<Estimate> {
    let rows = rows?;
    let known = tree.columns.len() == index.keys.len() + index.included().len()
        && tree
            .columns
            .iter()
            .all(|column| column.fixed || column.width <= WIDEST);
    if !known || tree.entries < 0.0 {
        return None;
    }
    let partial = index.predicate.is_some();
    // A vacuum that found little to do leaves the count of the index as it was.
    let entries = if partial {
        tree.entries
    } else {
        tree.entries.max(rows)
    };
    let columns: Vec<BtreeColumn> = tree
        .columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let number = index.keys.get(place).map(|key| key.column);
            let never_null = index
                .not_null()
                .into_iter()
                .flatten()
                .any(|column| Some(*column) == number);
            BtreeColumn {
                null_fraction: if never_null {
                    0.0
                } else {
                    column.null_fraction
                },
                ..*column
            }
        })
        .collect();
    let entry = entry(&columns);
    let (likely, at_most) = if tree.deduplicates && columns.len() > 1 {
        let bytes = |doubt: f64| {
            by_nulls(&columns)
                .iter()
                .map(|(share, present)| {
                    let unique = index.unique && present.len() == columns.len();
                    let certain = unique || partial && doubt > 1.0;
                    let nulls = present.len() < columns.len();
                    let doubt = if certain { f64::INFINITY } else { doubt };
                    let keys = Keys {
                        doubt,
                        seen: tree.different_keys,
                    };
                    several_bytes(entries * share, rows, present, nulls, &keys)
                })
                .sum::<f64>()
        };
        (bytes(1.0), bytes(DOUBT))
    } else if tree.deduplicates {
        let keys = different_keys(&columns, rows).clamp(1.0, entries.max(1.0));
        let doubted = if partial || index.unique {
            entries.max(1.0)
        } else {
            (keys * DOUBT).min(entries.max(1.0))
        };
        let keys = if index.unique { entries.max(1.0) } else { keys };
        let common = if partial { None } else { common(&columns) };
        (
            leaves_bytes(entries, keys, entry, common),
            leaves_bytes(entries, doubted, entry, common),
        )
    } else {
        let bytes = entries * (entry.size + POINTER);
        (bytes, bytes)
    };
    let pages = |bytes: f64| all_pages(bytes, entries, entry.size, f64::from(tree.fillfactor));
    Some(Estimate {
        pages: index.pages,
        needed: pages(likely),
        needed_at_most: pages(at_most.max(likely)),
    })
}

/// Which columns have a value, and in which part of the entries: as if the columns had theirs independently.
fn by_nulls(columns: &[BtreeColumn]) -> Vec<(f64, Vec<BtreeColumn>)> {
    let mut parts = vec![(1.0, Vec::new())];
    for column in columns {
        let null = column.null_fraction.clamp(0.0, 1.0);
        let mut next = Vec::with_capacity(parts.len() * 2);
        for (share, present) in parts {
            // What hardly ever occurs is left out, so that many columns do not make very many parts.
            if share * null >= RARE {
                next.push((share * null, present.clone()));
            }
            if share * (1.0 - null) >= RARE {
                let mut present = present;
                present.push(BtreeColumn {
                    null_fraction: 0.0,
                    ..*column
                });
                next.push((share * (1.0 - null), present));
            }
        }
        parts = next;
    }
    let known: f64 = parts.iter().map(|(share, _)| share).sum();
    for (share, _) in &mut parts {
        *share /= known.max(RARE);
    }
    parts
}

/// How many different keys several columns have.
struct Keys {
    /// So many times as many as the statistics say, but never more than entries.
    doubt: f64,
    /// What was seen of all columns together.
    seen: Option<f64>,
}

/// Bytes of entries in which just these columns have a value.
fn several_bytes(
    entries: f64,
    rows: f64,
    present: &[BtreeColumn],
    with_nulls: bool,
    keys: &Keys,
) -> f64 {
    if entries < 1.0 {
        return 0.0;
    }
    let mut size = entry(present).size;
    if with_nulls {
        size += HEADER_WITH_NULLS - HEADER;
    }
    let all_pairs = different_keys(present, rows);
    let seen = keys.seen.filter(|seen| *seen < all_pairs);
    let keys = seen.unwrap_or(all_pairs) * keys.doubt;
    let each = entries / keys;
    // Keys that were seen have rows, each of them.
    if present.len() < 2 || seen.is_some() || each > EVEN {
        let keys = keys.clamp(1.0, entries);
        return keys * key_bytes(entries / keys, size);
    }
    // Not every pair of values occurs, and some do more often than others: as if rows fell on them by chance.
    if each < RARE {
        return entries * key_bytes(1.0, size);
    }
    let mut chance = (-each).exp();
    (1..MOST_OF_A_KEY)
        .map(|number| {
            chance *= each / f64::from(number);
            keys * chance * key_bytes(f64::from(number), size)
        })
        .sum()
}

/// One entry on the average.
#[derive(Clone, Copy)]
struct Entry {
    /// Bytes, rounded up.
    size: f64,
    /// Bytes of an entry without any value.
    null_size: f64,
}

fn entry(columns: &[BtreeColumn]) -> Entry {
    let varies = columns.iter().any(|column| !column.fixed);
    let round = |bytes: f64| {
        // Where lengths vary, so does what is added, between nothing and 7.
        if varies {
            bytes + 3.5
        } else {
            (bytes / 8.0).ceil() * 8.0
        }
    };
    let mut whole = 0.0;
    let mut average = 0.0;
    let mut without_nulls = 1.0;
    for column in columns {
        if column.fixed {
            let alignment = f64::from(column.alignment.max(1));
            whole = (whole / alignment).ceil() * alignment;
        }
        whole += column.width;
        average += column.width * (1.0 - column.null_fraction);
        without_nulls *= 1.0 - column.null_fraction;
    }
    let with_nulls = 1.0 - without_nulls;
    let mut size = round(HEADER + whole) * without_nulls;
    if with_nulls > 0.0 {
        let values = ((average - whole * without_nulls) / with_nulls).max(0.0);
        let values = if values < 1.0 { 0.0 } else { round(values) };
        size += (HEADER_WITH_NULLS + values) * with_nulls;
    }
    Entry {
        size,
        null_size: HEADER_WITH_NULLS,
    }
}

/// Different keys: at most the product of what the columns have each.
fn different_keys(columns: &[BtreeColumn], rows: f64) -> f64 {
    let keys = columns.iter().map(|column| {
        let values = if column.distinct < 0.0 {
            -column.distinct * rows
        } else {
            column.distinct
        };
        values.max(1.0) + if column.null_fraction > 0.0 { 1.0 } else { 0.0 }
    });
    keys.product()
}

/// The statistics of the only column, which tell common keys from others.
fn common(columns: &[BtreeColumn]) -> Option<&BtreeColumn> {
    match columns {
        [only] => Some(only),
        _ => None,
    }
}

/// Bytes of the entries of all leaves, equal keys in lists.
fn leaves_bytes(entries: f64, keys: f64, entry: Entry, common: Option<&BtreeColumn>) -> f64 {
    let Some(column) = common else {
        return keys * key_bytes(entries / keys, entry.size);
    };
    let nulls = column.null_fraction * entries;
    let common_keys = f64::from(column.common_values);
    let of_common_keys = column.common_fraction * entries;
    let other_keys = (keys - common_keys).max(0.0);
    let others = (entries - nulls - of_common_keys).max(0.0);
    let size = if column.null_fraction < 1.0 {
        ((entry.size - entry.null_size * column.null_fraction) / (1.0 - column.null_fraction))
            .max(HEADER)
    } else {
        entry.size
    };
    let mut bytes = 0.0;
    if nulls >= 1.0 {
        bytes += key_bytes(nulls, entry.null_size);
    }
    if common_keys > 0.0 && of_common_keys > 0.0 {
        bytes += common_keys * key_bytes(of_common_keys / common_keys, size);
    }
    if others >= 1.0 {
        let keys = other_keys.clamp(1.0, others);
        bytes += keys * key_bytes(others / keys, size);
    }
    bytes
}

/// Bytes of the entries of one key that `rows` rows have.
fn key_bytes(rows: f64, size: f64) -> f64 {
    let alone = size + POINTER;
    if rows <= 1.0 {
        return alone;
    }
    let list = |rows: f64| ((size + ROW * rows) / 8.0).ceil() * 8.0 + POINTER;
    if rows < 2.0 {
        // Some keys have one row, others two.
        return alone + (list(2.0) - alone) * (rows - 1.0);
    }
    let fits = ((LIST - size) / ROW).floor().max(2.0);
    let full = (rows / fits).floor();
    let rest = rows - full * fits;
    let rest = if rest < 1.0 {
        rest * alone
    } else if rest < 2.0 {
        alone + (list(2.0) - alone) * (rest - 1.0)
    } else {
        list(rest)
    };
    full * list(fits) + rest
}

/// Leaves, the pages above them, and the first page.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of pages, not negative"
)]
fn all_pages(bytes: f64, entries: f64, size: f64, fillfactor: f64) -> u64 {
    // A leaf ends when less than the rest is free; its last entry then moves on, and leaves its key as the upper bound.
    let average = (bytes / entries.max(1.0)).clamp(ROW, LIST);
    let room = USABLE - POINTER - PAGE * (100.0 - fillfactor.clamp(10.0, 100.0)) / 100.0;
    let room = (room - average.max(size) / 2.0).max(size);
    let mut level = (bytes / room).ceil().max(1.0);
    let mut pages = level + 1.0;
    let below = (INNER / (size + POINTER)).floor().max(2.0);
    while level > 1.0 {
        level = (level / below).ceil();
        pages += level;
    }
    pages as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::facts::IndexKey;

    fn fixed(width: f64, distinct: f64) -> BtreeColumn {
        BtreeColumn {
            width,
            fixed: true,
            alignment: 8,
            distinct,
            ..BtreeColumn::default()
        }
    }

    fn index(columns: usize, pages: u64) -> Index {
        Index {
            keys: vec![IndexKey::default(); columns].into(),
            pages,
            ..Index::default()
        }
    }

    fn tree(entries: f64, columns: Vec<BtreeColumn>) -> Btree {
        Btree {
            entries,
            fillfactor: 90,
            deduplicates: true,
            columns,
            ..Btree::default()
        }
    }

    #[test]
    fn columns_that_go_together_have_fewer_keys_where_that_was_seen() {
        let index = index(2, 10_000);
        let alone = tree(2e6, vec![fixed(8.0, 30_000.0), fixed(8.0, 50.0)]);
        let seen = |keys| Btree {
            different_keys: Some(keys),
            ..alone.clone()
        };
        let needed = |tree: &Btree| estimate(&index, tree, Some(2e6)).unwrap().needed;

        // Lists of 67 rows instead of nearly as many entries as rows.
        assert!(2 * needed(&seen(30_000.0)) < needed(&alone));
        // Never more than there are pairs.
        assert_eq!(needed(&seen(9e6)), needed(&alone));
    }

    /// Measured: 1,000,000 different bigints fill 2,745 pages of PostgreSQL 15.
    #[test]
    fn a_fresh_index_of_a_million_numbers_needs_what_it_has() {
        let tree = tree(1e6, vec![fixed(8.0, -1.0)]);

        let estimate = estimate(&index(1, 2745), &tree, Some(1e6)).unwrap();

        assert!(estimate.needed.abs_diff(2745) < 10, "{estimate:?}");
        assert!(estimate.bloat() < 0.01);
    }

    #[test]
    fn few_values_need_little_and_that_is_certain() {
        let tree = tree(1e6, vec![fixed(8.0, 5.0)]);

        let estimate = estimate(&index(1, 2745), &tree, Some(1e6)).unwrap();

        assert!(estimate.needed < 900, "{estimate:?}");
        assert!(estimate.bloat_at_least() > 0.65, "{estimate:?}");
    }

    #[test]
    fn a_number_of_values_that_may_be_wrong_is_doubted() {
        let tree = tree(1e6, vec![fixed(8.0, 100_000.0)]);

        let estimate = estimate(&index(1, 2745), &tree, Some(1e6)).unwrap();

        assert!(estimate.bloat() > 0.5, "{estimate:?}");
        assert!(estimate.bloat_at_least() < 0.1, "{estimate:?}");
    }

    #[test]
    fn without_lists_equal_keys_need_as_much_as_different_ones() {
        let tree = Btree {
            deduplicates: false,
            ..tree(1e6, vec![fixed(8.0, 5.0)])
        };

        let estimate = estimate(&index(1, 2745), &tree, Some(1e6)).unwrap();

        assert!(estimate.bloat() < 0.01, "{estimate:?}");
    }

    #[test]
    fn what_the_statistics_do_not_say_is_not_guessed() {
        let wide = BtreeColumn {
            width: 600.0,
            ..BtreeColumn::default()
        };
        let known = tree(1e6, vec![fixed(8.0, -1.0)]);

        assert_eq!(estimate(&index(1, 9000), &known, None), None);
        assert_eq!(estimate(&index(2, 9000), &known, Some(1e6)), None);
        assert_eq!(
            estimate(
                &index(1, 9000),
                &tree(-1.0, vec![fixed(8.0, 1.0)]),
                Some(1e6)
            ),
            None
        );
        assert_eq!(
            estimate(&index(1, 9000), &tree(1e6, vec![wide]), Some(1e6)),
            None
        );
        assert_eq!(
            estimate(&index(1, 9000), &tree(1e6, vec![]), Some(1e6)),
            None
        );
    }

    #[test]
    fn an_index_whose_rows_are_gone_needs_almost_nothing() {
        let estimate = estimate(
            &index(1, 9000),
            &tree(0.0, vec![fixed(8.0, -1.0)]),
            Some(0.0),
        );

        assert!(estimate.unwrap().bloat_at_least() > 0.99);
    }
}
