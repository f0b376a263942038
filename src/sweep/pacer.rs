//! The pace of one rule's sweep: how large the next chunk is, how long the rest after it, and whether to go on at all just now.

use std::time::{Duration, Instant};

use super::{
    Control, StopReason,
    runner::{Tally, rest, rounded},
};
use crate::{
    engine::{Chunk, ChunkTarget, EngineError, TableSweep, WalkPage},
    policy::{
        pace::{ChunkSizer, Openness, Pace, Throttle, Veto, Work, veto},
        table::TableFacts,
    },
};

/// How often the database is asked how it feels.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While something forbids to go on, it is looked for anew this often.
const WAIT: Duration = Duration::from_secs(2);
/// The least rest after a chunk that kept somebody waiting.
const REST_FOR_WAITERS: Duration = Duration::from_millis(250);
/// Pages that give less than this part of what pages gave so far, once what was expected is done: a look whether anything is
/// left is worth its cost, as the count proves the sweep in any case.
const THIN: f64 = 0.5;
/// Once what was expected is done but for this part, or over it by so much, a chunk is a probe of …
const NEARLY: u64 = 50;
/// … this part of a chunk: where rows lie in the order of their times nothing follows, which a whole chunk would walk for nothing.
const PROBE: u32 = 8;
/// Room in the chunk before for an estimate that is a little low, in parts of a chunk.
const MARGIN: u32 = 16;

pub(super) struct Pacer {
    pace: Pace,
    sizer: ChunkSizer,
    throttle: Throttle,
    openness: Openness,
    /// When the database was looked at last; `None`: not yet.
    looked: Option<Instant>,
    /// Transactions that the sweep ended since then.
    transactions: u64,
    /// The most rows that a page gave so far, or that the catalog knows of one.
    rows_per_page: f64,
    /// Rows that are expected to go; `None`: not known, or it was looked already whether the sweep is done before its walk is.
    estimate: Option<u64>,
    /// Pages walked, and rows that they gave.
    pages: u64,
    rows: u64,
    /// The last chunk's pages gave much less than the ones before.
    thin: bool,
    /// A ledger that comes up ends the sweep.
    looks_for_ledger: bool,
}

/// Rows of an average page; `None`: unknown.
fn density(table: &TableFacts) -> Option<f64> {
    let pages: u64 = table.leaves.iter().map(|leaf| leaf.pages).sum();
    let rows = table.rows().filter(|_| pages > 0)?;
    Some(rows / to_f64(pages))
}

impl Pacer {
    /// For a table of which about `estimate` rows are to go.
    pub(super) fn new(
        pace: Pace,
        table: &TableFacts,
        page: WalkPage,
        estimate: Option<u64>,
    ) -> Self {
        let openness = Openness::default();
        let mut sizer = ChunkSizer::new(openness.chunk_duration(&pace));
        let mut rows_per_page = 1.0;
        if let Some(density) = page.rows.map(f64::from).or_else(|| density(table)) {
            rows_per_page = density;
            sizer = sizer.with_rows_per_page(density);
        }
        if page.rows.is_some() {
            sizer = sizer.with_whole_pages();
        }
        if let Some(rows) = pace.max_rows_per_second {
            sizer = sizer.with_max_rows(rows);
        }
        Self {
            pace,
            sizer,
            throttle: Throttle::new(pace),
            openness,
            looked: None,
            transactions: 0,
            rows_per_page,
            estimate: estimate.filter(|rows| *rows > 0),
            pages: 0,
            rows: 0,
            thin: false,
            looks_for_ledger: false,
        }
    }

    /// The sweep was planned without a ledger, and must not miss one.
    pub(super) fn look_for_a_ledger(&mut self) {
        self.looks_for_ledger = true;
    }

    /// Waits while the database forbids to go on. `Some`: the sweep has to stop.
    pub(super) async fn wait(
        &mut self,
        sweep: &mut dyn TableSweep,
        control: &dyn Control,
        tally: &mut Tally,
    ) -> Result<Option<StopReason>, EngineError> {
        loop {
            if let Some(reason) = control.stop() {
                return Ok(Some(reason));
            }
            let since = self.looked.map(|looked| looked.elapsed());
            if since.is_some_and(|since| since < LOOK_EVERY) {
                return Ok(None);
            }
            let pressure = sweep.pressure().await?;
            if self.looks_for_ledger && pressure.has_ledger {
                return Ok(Some(StopReason::LedgerMade));
            }
            self.openness
                .observe(&pressure, self.transactions, since.unwrap_or_default());
            self.looked = Some(Instant::now());
            // The look itself is counted by the next one.
            self.transactions = 1;
            self.sizer
                .retarget(self.openness.chunk_duration(&self.pace));
            match veto(&pressure, &self.pace) {
                None => return Ok(None),
                Some(Veto::NotPrimary) => {
                    // The same address may lead to the new primary soon, but not over this connection.
                    self.looked = None;
                    return Err(EngineError::NotPrimary(
                        "the server became a standby: point the policy at the primary".to_owned(),
                    ));
                }
                Some(veto) => {
                    control.waits(&tally.report.progress, veto.as_str());
                    rest(control, tally, WAIT).await;
                    self.looked = None;
                }
            }
        }
    }

    /// What the next chunk may take.
    pub(super) fn next(&self, rows_deleted: u64, progress: (u64, u64)) -> ChunkTarget {
        match self.sizer.next_rows() {
            Some(rows) => ChunkTarget {
                pages: 1,
                rows: Some(rows),
            },
            None => ChunkTarget::pages(self.next_pages(rows_deleted, progress)),
        }
    }

    /// Pages for the next chunk: fewer near the end of what is expected to go, while much of the walk lies ahead.
    fn next_pages(&self, rows_deleted: u64, progress: (u64, u64)) -> u32 {
        let pages = self.sizer.next_pages();
        let least = self.sizer.least_worthwhile_pages().min(pages);
        let Some(estimate) = self.estimate.filter(|_| is_much_ahead(progress)) else {
            return pages;
        };
        if rows_deleted.abs_diff(estimate) <= estimate / NEARLY {
            return (pages / PROBE).max(least);
        }
        let Some(ahead) = estimate.checked_sub(rows_deleted).filter(|_| self.rows > 0) else {
            return pages;
        };
        let needed = rounded(to_f64(ahead) * to_f64(self.pages) / to_f64(self.rows));
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        pages.min(needed.saturating_add(pages / MARGIN).max(least))
    }

    /// A chunk ran into the statement timeout. Whether the next one is smaller.
    pub(super) fn gave_way(&mut self, target: ChunkTarget) -> bool {
        self.sizer.give_way(target.pages, target.rows)
    }

    /// The chunks cannot become smaller.
    pub(super) fn is_at_its_least(&self) -> bool {
        self.sizer.is_at_its_least()
    }

    /// Rows that `pages` may give, with room to spare.
    pub(super) fn expected(&self, pages: u32) -> u64 {
        rounded(self.rows_per_page * f64::from(pages) * 1.25)
    }

    /// Learns from a committed chunk.
    pub(super) fn observe(&mut self, target: ChunkTarget, chunk: Chunk, took: Duration) {
        self.transactions += 1;
        let density = to_f64(chunk.taken()) / f64::from(chunk.pages.max(1));
        if let Some(most) = target.rows {
            self.sizer.observe_part(most, chunk.taken(), took);
        } else {
            self.sizer.observe(chunk.pages, chunk.taken(), took);
            self.thin = density * to_f64(self.pages) <= THIN * to_f64(self.rows);
        }
        self.pages += u64::from(chunk.pages);
        self.rows += chunk.taken();
        self.rows_per_page = self.rows_per_page.max(density);
        if chunk.waiters > 0 {
            self.openness.yield_to_waiters();
            self.sizer
                .retarget(self.openness.chunk_duration(&self.pace));
        }
    }

    /// How long to rest after it.
    pub(super) fn rest_after(&mut self, chunk: Chunk, took: Duration) -> Duration {
        let rest = self.throttle.rest_after(Work {
            rows: chunk.taken(),
            wal_bytes: chunk.wal_bytes,
            took,
            duty: self.openness.duty(&self.pace),
        });
        if chunk.waiters > 0 {
            rest.max(REST_FOR_WAITERS)
        } else {
            rest
        }
    }

    /// What was expected is done, much of the walk lies ahead, and there is little left on the pages. `progress` are the pages
    /// walked and those to walk in all.
    pub(super) fn is_perhaps_done(&self, rows_deleted: u64, progress: (u64, u64)) -> bool {
        let expected_done = self
            .estimate
            .is_some_and(|estimate| rows_deleted >= estimate - estimate / 10);
        expected_done && is_much_ahead(progress) && self.thin
    }

    /// A count has looked what is left: the rest is walked to its end.
    pub(super) fn has_looked(&mut self) {
        self.estimate = None;
    }
}

fn is_much_ahead((walked, pages): (u64, u64)) -> bool {
    pages.saturating_sub(walked) > pages / 8
}

#[expect(
    clippy::cast_precision_loss,
    reason = "densities and page counts need no more than 53 bits"
)]
fn to_f64(count: u64) -> f64 {
    count as f64
}
