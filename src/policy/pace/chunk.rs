//! The size of the next chunk, from what the last ones cost.

use std::time::Duration;

/// Pages that no chunk exceeds, whatever it may cost: 1 GiB of 8 KiB pages.
const MAX_PAGES: f64 = 131_072.0;

/// The first chunk has this many pages at most: a cold disk may need milliseconds for each.
const FIRST_PAGES: f64 = 8.0;

/// A chunk is at most this many times as long as the longest so far.
const GROWTH: f64 = 4.0;

/// A chunk aims a little under its target, so that noise does not carry every second one over it.
const AIM: f64 = 0.9;

/// If every page turned out as full of expired rows as any was seen to be, a chunk would still take at most this many times its target.
const WORST: f64 = 1.5;

/// A page that takes this many times the target is taken in parts: below that, more transactions would cost more than they spare.
const SLOW_PAGE: f64 = 4.0;

/// After so many parts of one size in a row one of twice that size is tried.
const STEADY: u32 = 16;

/// Seconds that a page and a row are taken to cost before anything was seen: much for a row, little for a page. Where chunks
/// have many rows the two cannot be told apart, and what is wrongly put down to pages would be missed as soon as pages without
/// rows are followed by full ones; what is wrongly put down to rows only makes chunks shorter. Pages that cost far more are met
/// by `FIRST_PAGES` and `GROWTH`.
const UNSEEN_PAGE: f64 = 5e-6;
const UNSEEN_ROW: f64 = 4e-6;

/// Seconds that a transaction is taken to cost before anything was seen, whatever it does: its statements' way to the server and
/// back, and its commit.
const UNSEEN_FIXED: f64 = 3e-4;

/// A chunk that is this part of another one and took this part of its time shows what a transaction costs.
const MUCH_SMALLER: f64 = 0.25;
const HARDLY_LESS: f64 = 0.6;

/// After so many smaller chunks the largest one is forgotten: it may have been of another time.
const REMEMBERED: u32 = 32;

/// Rows of a full page of narrow rows, where the table's density is not known.
const UNSEEN_ROWS_PER_PAGE: f64 = 100.0;

/// Sizes chunks so that the next one, at its worst, stays near the target.
///
/// A chunk costs its transaction, its pages walked and its rows deleted. The three costs are moving averages; how many rows a page will give is
/// not known beforehand, so the sizer keeps what the last chunks gave (the likely case) and the most that a page may give (the worst one).
#[derive(Clone, Debug)]
pub struct ChunkSizer {
    /// Seconds.
    target: f64,
    /// Rows that a chunk may take at most.
    max_rows: Option<f64>,
    /// Seconds per page walked.
    page_cost: f64,
    /// Seconds per row deleted.
    row_cost: f64,
    /// Rows per page of the last chunks: rises at once, falls slowly.
    likely_density: Option<f64>,
    /// The most rows that a page is thought to give.
    full_density: f64,
    /// What `full_density` falls back to: pages with few expired rows show nothing about how full the others are.
    assumed_density: f64,
    /// Pages that the growth bound allows.
    ceiling: f64,
    /// Chunks seen, to learn fast in the beginning.
    seen: u32,
    /// Chunks in a row that took much longer than expected.
    slow_streak: u32,
    /// How many times longer than expected the last chunk took, where that was an outlier; else 1.
    caution: f64,
    /// Rows of the next chunk, where a whole page is too much.
    part: Option<f64>,
    /// Pages are never taken in parts.
    whole: bool,
    /// Rows and seconds of the last chunk of at most a page.
    last_small: Option<(f64, f64)>,
    /// The largest of the last chunks of whole pages, and how many came after it.
    largest: Option<(Seen, u32)>,
    /// Seconds that a chunk takes whatever its pages and rows: what a transaction costs, its commit above all.
    fixed: f64,
    /// Parts of the same size in a row.
    steady: u32,
}

/// What a chunk was and took.
#[derive(Clone, Copy, Debug)]
struct Seen {
    pages: f64,
    rows: f64,
    /// Seconds.
    took: f64,
}

impl Seen {
    /// The other one's pages gave about as many rows as these.
    fn is_as_dense_as(self, other: Self) -> bool {
        let (this, other) = (self.rows * other.pages, other.rows * self.pages);
        this <= 1.5 * other && other <= 1.5 * this
    }
}

impl ChunkSizer {
    /// Starts small: nothing is known of the table's cost yet.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        Self {
            target: target.as_secs_f64().max(1e-6),
            max_rows: None,
            page_cost: UNSEEN_PAGE,
            row_cost: UNSEEN_ROW,
            likely_density: None,
            full_density: UNSEEN_ROWS_PER_PAGE,
            assumed_density: UNSEEN_ROWS_PER_PAGE,
            ceiling: FIRST_PAGES,
            seen: 0,
            slow_streak: 0,
            caution: 1.0,
            part: None,
            whole: false,
            last_small: None,
            largest: None,
            fixed: UNSEEN_FIXED,
            steady: 0,
        }
    }

    /// Aims at another length from the next chunk on; what was learnt of the costs stays.
    pub fn retarget(&mut self, target: Duration) {
        self.target = target.as_secs_f64().max(1e-6);
    }

    /// With the rows that a full page of this table holds, as the catalog lets expect: better too many than too few, because a
    /// chunk of only such pages must still be short enough. Nonsense (zero, infinite, not a number) is ignored.
    #[must_use]
    pub fn with_rows_per_page(mut self, rows_per_page: f64) -> Self {
        if rows_per_page.is_finite() && rows_per_page > 0.0 {
            self.full_density = rows_per_page;
            self.assumed_density = rows_per_page;
        }
        self
    }

    /// For a walk whose pages are as small as they should be: none is taken in parts.
    #[must_use]
    pub fn with_whole_pages(mut self) -> Self {
        self.whole = true;
        self
    }

    /// With a cap on the rows that a chunk may take, so that a cap on rows per second is not overrun by one chunk.
    #[must_use]
    pub fn with_max_rows(mut self, rows: u64) -> Self {
        self.max_rows = Some(to_f64(rows.max(1)));
        self
    }

    /// Rows of the next chunk at most, at least one; `None`: whole pages.
    #[must_use]
    pub fn next_rows(&self) -> Option<u32> {
        self.part.map(to_pages)
    }

    /// Pages for the next chunk, at least one.
    #[must_use]
    pub fn next_pages(&self) -> u32 {
        if self.part.is_some() {
            return 1;
        }
        let mut pages = (self.room(AIM * self.target) / self.seconds_per_page(self.likely()))
            .min(self.room(WORST * self.target) / self.seconds_per_page(self.full_density))
            / self.caution;
        if let Some(rows) = self.max_rows {
            pages = pages.min(rows / self.full_density.max(1.0));
        }
        to_pages(pages.min(self.ceiling).min(MAX_PAGES))
    }

    /// Pages that take as long as the transaction around them: a smaller chunk is mostly overhead.
    #[must_use]
    pub fn least_worthwhile_pages(&self) -> u32 {
        to_pages(self.fixed / self.seconds_per_page(self.likely()))
    }

    /// Seconds of a chunk of this length that are for its pages and rows: at least a third, or most of the time would go into commits.
    fn room(&self, length: f64) -> f64 {
        (length - self.fixed).max(0.5 * length.max(self.fixed))
    }

    fn seconds_per_page(&self, density: f64) -> f64 {
        self.page_cost + density * self.row_cost
    }

    fn likely(&self) -> f64 {
        self.likely_density.unwrap_or(self.full_density)
    }

    /// Learns from a chunk.
    pub fn observe(&mut self, pages: u32, rows: u64, took: Duration) {
        let pages = f64::from(pages.max(1));
        let rows = to_f64(rows);
        self.learn_costs(Seen {
            pages,
            rows,
            took: took.as_secs_f64(),
        });
        self.learn_density(rows / pages);
        self.ceiling = self.ceiling.max(pages * GROWTH);
        self.seen = self.seen.saturating_add(1);
        let took = took.as_secs_f64();
        if self.whole || pages > 1.0 || rows <= 1.0 {
            return;
        }
        if took - self.fixed > SLOW_PAGE * self.target {
            self.part = Some((rows * self.target / took).floor().max(1.0));
        }
        self.last_small = Some((rows, took));
    }

    /// Learns from a chunk that took `rows` rows of the at most `most` that it was given, of one page: the next one takes as many
    /// as fit into the target, at most twice as many. What fewer rows do not make quicker is not theirs.
    pub fn observe_part(&mut self, most: u32, rows: u64, took: Duration) {
        let took = took.as_secs_f64();
        let most = f64::from(most);
        let taken = to_f64(rows);
        let mut fits = most * 2.0;
        if rows > 0 {
            let fixed = self.fixed;
            self.largest = None;
            self.learn_costs(Seen {
                pages: 1.0,
                rows: taken,
                took,
            });
            self.fixed = fixed;
            self.seen = self.seen.saturating_add(1);
            let row = match self.last_small.replace((taken, took)) {
                Some((rows, seconds)) if (rows - taken).abs() >= 1.0 => {
                    ((seconds - took) / (rows - taken)).clamp(0.0, took / taken)
                }
                _ => {
                    self.steady += 1;
                    (took - self.fixed).max(0.0) / taken
                }
            };
            self.fixed = took - row * taken;
            let room = self.room(self.target);
            // Now and then a larger part shows anew what is the rows' and what is not.
            if self.steady < STEADY {
                fits = fits.min(room / row.max(1e-9));
            } else {
                self.steady = 0;
            }
        }
        let part = fits.floor().max(1.0);
        // As many as a page may hold: whole pages again, from one on.
        if part >= self.full_density {
            self.ceiling = 1.0;
            self.part = None;
        } else {
            self.part = Some(part);
        }
    }

    /// A chunk did not come to its end in time: the next one is a quarter of it, and they grow again from there. Less than a page is
    /// so many `rows` of one. `false`: there is no smaller one.
    pub fn give_way(&mut self, pages: u32, rows: Option<u32>) -> bool {
        if pages > 1 {
            self.ceiling = (f64::from(pages) / GROWTH).floor().max(1.0);
            return true;
        }
        self.ceiling = 1.0;
        if self.whole {
            return false;
        }
        let rows = rows.map_or(self.full_density, f64::from);
        self.part = Some((rows / GROWTH).floor().max(1.0));
        rows > 1.0
    }

    /// The next chunk is the smallest that there is.
    #[must_use]
    pub fn is_at_its_least(&self) -> bool {
        match self.next_rows() {
            Some(rows) => rows == 1,
            None => self.whole && self.next_pages() == 1,
        }
    }

    /// Moves the costs towards what the chunk took, each by its share in the expected cost: a chunk without rows teaches
    /// nothing about rows, one that deleted every row on its pages little about pages, and a tiny one little but what a transaction costs.
    fn learn_costs(&mut self, chunk: Seen) {
        let for_pages = chunk.pages * self.page_cost;
        let for_rows = chunk.rows * self.row_cost;
        let expected = self.fixed + for_pages + for_rows;
        let ratio = chunk.took / expected;

        // A single stall (a checkpoint, a lock) says little about the next chunk: it makes that one small and hardly moves the
        // averages. Only when chunks stay slow are they believed.
        let slow = ratio > 2.5 && self.seen >= 4;
        self.slow_streak = if slow { self.slow_streak + 1 } else { 0 };
        self.caution = if slow { ratio.min(8.0) } else { 1.0 };
        let stall = slow && self.slow_streak < 3;
        let weight = if self.seen < 8 { 0.5 } else { 0.2 };
        if stall || !self.tell_apart(chunk) {
            let upper = if stall { 1.25 } else { 4.0 };
            let step = weight * (ratio.clamp(0.1, upper) - 1.0) / expected;
            self.fixed *= 1.0 + step * self.fixed;
            self.page_cost *= 1.0 + step * for_pages;
            self.row_cost *= 1.0 + step * for_rows;
        }
        let largest = self.largest.filter(|(largest, after)| {
            !stall && largest.pages > chunk.pages && *after < REMEMBERED
        });
        self.largest = match largest {
            Some((largest, after)) => Some((largest, after + 1)),
            None => (!stall).then_some((chunk, 0)),
        };
        self.fixed = self.fixed.min(chunk.took).max(1e-6);
        self.page_cost = self.page_cost.clamp(1e-8, 3600.0);
        self.row_cost = self.row_cost.clamp(1e-8, 3600.0);
    }

    /// Where a much smaller chunk took hardly less time than a larger one of the same kind, most of that time is neither pages' nor
    /// rows', but the transaction's. `false`: this one is no such chunk.
    fn tell_apart(&mut self, chunk: Seen) -> bool {
        let cost = |of: Seen| of.pages * self.page_cost + of.rows * self.row_cost;
        let Some((larger, _)) = self.largest.filter(|(it, _)| it.is_as_dense_as(chunk)) else {
            return false;
        };
        let (was, is) = (cost(larger), cost(chunk));
        if is > MUCH_SMALLER * was || chunk.took < HARDLY_LESS * larger.took {
            return false;
        }
        let slope = ((larger.took - chunk.took) / (was - is)).clamp(0.0, chunk.took / is);
        self.fixed = chunk.took - slope * is;
        let factor = slope.clamp(0.1, 1.0);
        self.page_cost *= factor;
        self.row_cost *= factor;
        true
    }

    fn learn_density(&mut self, density: f64) {
        let likely = self.likely_density.unwrap_or(density);
        self.likely_density = Some(density.max(likely + 0.2 * (density - likely)));
        let fallen = self.full_density + 0.005 * (self.assumed_density - self.full_density);
        self.full_density = density.max(fallen).max(self.assumed_density);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a chunk's rows are far below 2^52, and an estimate needs no more digits"
)]
fn to_f64(rows: u64) -> f64 {
    rows as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 1..=MAX_PAGES before"
)]
fn to_pages(pages: f64) -> u32 {
    pages.clamp(1.0, MAX_PAGES) as u32
}

#[cfg(test)]
mod tests;
