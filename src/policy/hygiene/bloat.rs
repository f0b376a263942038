//! How many pages the rows of a table need: from the widths and NULLs that ANALYZE saw, laid out as the server lays rows out.

use super::facts::{BLOCK, Column, Table};

/// Bytes at a page's beginning.
const PAGE_HEADER: f64 = 24.0;
/// Bytes of a row's place in the page's directory.
const LINE_POINTER: f64 = 4.0;
/// Bytes of a row's header before its map of NULLs.
const ROW_HEADER: u32 = 23;
/// Rows and their data begin at multiples of so many bytes.
const WORD: usize = 8;
/// A longer value of differing length has a header of four bytes and is aligned; a shorter one has one byte and is not.
const SHORT: f64 = 127.0;
/// No page holds more rows: directory and headers alone would fill it.
const MOST_ROWS: f64 = 291.0;
/// Pieces of a long value on a page.
const CHUNKS_PER_PAGE: f64 = 4.0;

/// What a table holds and what it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bloat {
    /// Pages that it holds.
    pub pages: u64,
    /// Pages that its rows need.
    pub needed: u64,
}

impl Bloat {
    /// Bytes that are not needed.
    #[must_use]
    pub fn wasted_bytes(&self) -> u64 {
        self.pages.saturating_sub(self.needed).saturating_mul(BLOCK)
    }

    /// The part that is not needed, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.pages == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
        let share = self.pages.saturating_sub(self.needed) as f64 / self.pages as f64;
        share
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            pages: self.pages + other.pages,
            needed: self.needed + other.needed,
        }
    }
}

/// The main part of a table; `None`: a column was never analysed, or the role may not see what it holds.
#[must_use]
pub fn of_rows(table: &Table, columns: &[Column]) -> Option<Bloat> {
    let rows = table.rows.filter(|rows| *rows >= 0.0)?;
    let live: Vec<(&Column, f64, f64)> = columns
        .iter()
        .filter(|column| !column.dropped)
        .map(|column| {
            if column.is_virtual {
                return Some((column, 0.0, 0.0));
            }
            let sample = column.sample.as_ref()?;
            let present = 1.0 - sample.null_fraction.clamp(0.0, 1.0);
            Some((column, present, sample.width.max(0.0)))
        })
        .collect::<Option<_>>()?;
    let row = row_bytes(table.detail.attributes, columns, &live);
    let fill = f64::from(table.detail.fill_factor.unwrap_or(100).clamp(10, 100)) / 100.0;
    #[expect(clippy::cast_precision_loss, reason = "8192")]
    let block = BLOCK as f64;
    let room = (block * fill - PAGE_HEADER).max(0.0);
    // One row finds its place on every empty page.
    let per_page = (room / (row + LINE_POINTER)).floor().clamp(1.0, MOST_ROWS);
    Some(Bloat {
        pages: table.pages,
        needed: whole(rows / per_page),
    })
}

/// The long values of a table: at most what full pages of whole pieces need, so that the waste is at least what is said.
/// `None`: never vacuumed, or there are none.
#[must_use]
pub fn of_toast(table: &Table) -> Option<Bloat> {
    let toast = table.detail.toast.as_ref()?;
    Some(Bloat {
        pages: toast.pages,
        needed: whole(toast.chunks? / CHUNKS_PER_PAGE),
    })
}

/// Bytes of an average row, its header included, up to where the next one may begin.
fn row_bytes(attributes: u32, columns: &[Column], live: &[(&Column, f64, f64)]) -> f64 {
    let complete: f64 = live.iter().map(|(_, present, _)| present).product();
    // Rows that were written after a column was dropped hold a NULL for it.
    let dropped = columns.iter().any(|column| column.dropped);
    let with_map = if dropped { 1.0 } else { 1.0 - complete };
    let plain = f64::from(ROW_HEADER.next_multiple_of(8));
    let mapped = f64::from((ROW_HEADER + attributes.div_ceil(8)).next_multiple_of(8));
    let mut row = Row::begin(plain + (mapped - plain) * with_map);
    for (column, present, width) in live {
        row.add(column, *present, *width);
    }
    row.end()
}

/// A row while it is laid out: its bytes so far, and how likely each remainder by a word is at its end. What is padded depends on
/// nothing else.
struct Row {
    bytes: f64,
    at: [f64; WORD],
}

impl Row {
    fn begin(header: f64) -> Self {
        let mut at = [0.0; WORD];
        at[0] = 1.0;
        Self { bytes: header, at }
    }

    fn add(&mut self, column: &Column, present: f64, width: f64) {
        let varies = column.length.is_none();
        let alignment = if varies && width < SHORT {
            1
        } else {
            usize::from(column.alignment).clamp(1, WORD)
        };
        let mut next = [0.0; WORD];
        let mut padding = 0.0;
        for (place, chance) in self.at.iter().enumerate() {
            let aligned = place.next_multiple_of(alignment);
            padding += chance * as_float(aligned - place);
            match column.length {
                Some(length) => {
                    let end = (aligned + usize::from(length)) % WORD;
                    if let Some(slot) = next.get_mut(end) {
                        *slot += chance;
                    }
                }
                None => {
                    for slot in &mut next {
                        *slot += chance / as_float(WORD);
                    }
                }
            }
        }
        let width = column.length.map_or(width, f64::from);
        self.bytes += present * (padding + width);
        for (old, new) in self.at.iter_mut().zip(next) {
            *old = *old * (1.0 - present) + new * present;
        }
    }

    fn end(self) -> f64 {
        let padding: f64 = self
            .at
            .iter()
            .enumerate()
            .map(|(place, chance)| chance * as_float(place.next_multiple_of(WORD) - place))
            .sum();
        self.bytes + padding
    }
}

fn as_float(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(0.0, f64::from)
}

fn whole(pages: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a table has at most 2^32 pages"
    )]
    let pages = pages.max(0.0).ceil() as u64;
    pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::facts::{Sample, TableDetail, Toast};

    fn fixed(length: u16) -> Column {
        Column {
            length: Some(length),
            alignment: u8::try_from(length).unwrap(),
            sample: Some(Sample {
                width: f64::from(length),
                ..Sample::default()
            }),
            ..Column::default()
        }
    }

    fn text(width: f64) -> Column {
        Column {
            length: None,
            alignment: 4,
            sample: Some(Sample {
                width,
                ..Sample::default()
            }),
            ..Column::default()
        }
    }

    fn table(rows: f64, attributes: u32) -> Table {
        Table {
            rows: Some(rows),
            pages: 1_000,
            detail: TableDetail {
                attributes,
                ..TableDetail::default()
            },
            ..Table::default()
        }
    }

    fn row(columns: &[Column]) -> f64 {
        let live: Vec<_> = columns
            .iter()
            .filter(|column| !column.dropped)
            .map(|column| {
                let sample = column.sample.unwrap();
                (column, 1.0 - sample.null_fraction, sample.width)
            })
            .collect();
        row_bytes(u32::try_from(columns.len()).unwrap(), columns, &live)
    }

    #[test]
    fn columns_are_padded_in_their_order() {
        // 24, 8, 4, and 4 up to the next word.
        assert_eq!(row(&[fixed(8), fixed(4)]), 40.0);
        // 24, 4, 4 of padding, 8.
        assert_eq!(row(&[fixed(4), fixed(8)]), 40.0);
        // 24, 2, 6 of padding, 8, 2, 6 of padding.
        assert_eq!(row(&[fixed(2), fixed(8), fixed(2)]), 48.0);
        assert_eq!(row(&[fixed(4), fixed(4), fixed(8)]), 40.0);
    }

    #[test]
    fn a_text_leaves_the_next_number_half_a_word_of_padding_on_average() {
        let row = row(&[text(20.0), fixed(8)]);
        assert_eq!(row, 24.0 + 20.0 + 3.5 + 8.0);
    }

    #[test]
    fn nulls_take_no_room_but_a_map_where_the_header_has_none_to_spare() {
        let mut columns: Vec<Column> = (0..9).map(|_| fixed(8)).collect();
        assert_eq!(row(&columns), 24.0 + 72.0);
        for column in &mut columns[..8] {
            column.sample = Some(Sample {
                null_fraction: 1.0,
                width: 8.0,
                ..Sample::default()
            });
        }
        assert_eq!(row(&columns), 32.0 + 8.0);
    }

    #[test]
    fn a_dropped_column_needs_nothing_but_its_place_in_the_map() {
        let mut columns: Vec<Column> = (0..9).map(|_| fixed(8)).collect();
        columns[0].dropped = true;
        assert_eq!(row(&columns), 32.0 + 64.0);
    }

    #[test]
    fn a_fill_factor_is_no_waste() {
        // 226 rows of 32 + 4 bytes a page.
        let mut table = table(226_000.0, 1);
        let full = of_rows(&table, &[fixed(8)]).unwrap();
        table.detail.fill_factor = Some(50);
        let half = of_rows(&table, &[fixed(8)]).unwrap();

        assert_eq!((full.needed, full.wasted_bytes()), (1_000, 0));
        assert_eq!(half.needed, 2_000);
        assert_eq!(half.wasted_bytes(), 0);
    }

    #[test]
    fn rows_that_left_are_waste() {
        let bloat = of_rows(&table(22_600.0, 1), &[fixed(8)]).unwrap();

        assert_eq!(bloat.needed, 100);
        assert_eq!(bloat.wasted_bytes(), 900 * BLOCK);
        assert!((bloat.share() - 0.9).abs() < 1e-9);
    }

    #[test]
    fn a_row_larger_than_half_a_page_has_one_to_itself() {
        let bloat = of_rows(&table(1_000.0, 1), &[text(5_000.0)]).unwrap();

        assert_eq!(bloat.needed, 1_000);
    }

    #[test]
    fn without_the_statistics_of_a_column_nothing_is_said() {
        let unknown = Column {
            sample: None,
            ..text(5.0)
        };
        assert_eq!(of_rows(&table(1_000.0, 2), &[fixed(8), unknown]), None);
        let mut never = table(0.0, 1);
        never.rows = None;
        assert_eq!(of_rows(&never, &[fixed(8)]), None);
    }

    #[test]
    fn long_values_need_a_quarter_of_a_page_for_each_piece_at_most() {
        let mut table = table(1.0, 1);
        assert_eq!(of_toast(&table), None);
        table.detail.toast = Some(Toast {
            name: "pg_toast_7".to_owned(),
            pages: 1_000,
            chunks: Some(1_000.0),
        });

        assert_eq!(of_toast(&table).unwrap().needed, 250);
    }
}
