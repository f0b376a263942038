//! Chunks of tables whose costs are known.

use proptest::prelude::*;

use super::*;

const TARGET: Duration = Duration::from_millis(20);

/// A table as a sweep meets it: what its pages give and what the server needs for them.
struct Server {
    page: f64,
    row: f64,
    fixed: f64,
    noise: f64,
    random: u64,
}

impl Server {
    fn new(seed: u64, noise: f64) -> Self {
        Self {
            page: 10e-6,
            row: 1e-6,
            fixed: 0.5e-3,
            noise,
            random: seed.wrapping_mul(2).wrapping_add(1),
        }
    }

    /// Uniform in -1..1 (xorshift: the runs must be repeatable).
    fn noise(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % 20_001) as f64 / 10_000.0 - 1.0
    }

    fn chunk(&mut self, pages: u32, rows: u64) -> Duration {
        let seconds = self.fixed + self.page * f64::from(pages) + self.row * rows as f64;
        Duration::from_secs_f64(seconds * (1.0 + self.noise * self.noise()))
    }

    /// Walks `pages` pages of which each gives `density` rows; the chunks' lengths.
    fn walk(&mut self, sizer: &mut ChunkSizer, pages: u32, density: f64) -> Vec<Duration> {
        let mut left = pages;
        let mut lengths = Vec::new();
        while left > 0 {
            let pages = sizer.next_pages().min(left);
            let rows = (f64::from(pages) * density) as u64;
            let took = self.chunk(pages, rows);
            sizer.observe(pages, rows, took);
            lengths.push(took);
            left -= pages;
        }
        lengths
    }
}

fn longest(lengths: &[Duration]) -> Duration {
    lengths.iter().copied().max().unwrap()
}

fn mean_over_target(lengths: &[Duration]) -> f64 {
    lengths.iter().sum::<Duration>().as_secs_f64() / lengths.len() as f64 / TARGET.as_secs_f64()
}

fn sizers() -> [ChunkSizer; 2] {
    let plain = ChunkSizer::new(TARGET);
    [plain.clone(), plain.with_rows_per_page(75.0)]
}

#[test]
fn a_chunk_that_took_too_long_is_tried_again_smaller_and_grows_back() {
    let mut sizer = ChunkSizer::new(TARGET);
    let first = sizer.next_pages();

    sizer.give_way(first, None);
    let second = sizer.next_pages();
    sizer.give_way(second, None);

    assert_eq!((first, second, sizer.next_pages()), (8, 2, 1));
    sizer.observe(1, 10, Duration::from_micros(50));
    assert!(sizer.next_pages() > 1);
}

#[test]
fn a_page_that_took_too_long_is_tried_again_in_parts_down_to_a_row() {
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(60.0);
    let mut rows = Vec::new();

    assert!(sizer.give_way(1, None));
    while rows.last() != Some(&1) {
        rows.extend(sizer.next_rows());
        sizer.give_way(1, sizer.next_rows());
    }

    assert_eq!(rows, [15, 3, 1]);
    assert!(sizer.is_at_its_least());
    assert!(!sizer.give_way(1, Some(1)));
    let mut whole = ChunkSizer::new(TARGET).with_whole_pages();
    assert!(!whole.give_way(1, None));
    assert!(whole.is_at_its_least());
    assert_eq!(whole.next_rows(), None);
}

#[test]
fn slow_rows_are_taken_as_many_at_a_time_as_fit_into_the_target() {
    let row = Duration::from_millis(4);
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(60.0);
    assert_eq!(sizer.next_rows(), None);

    sizer.observe(1, 60, 60 * row);
    for _ in 0..10 {
        let rows = sizer.next_rows().unwrap();
        sizer.observe_part(rows, u64::from(rows), rows * row);
    }

    assert_eq!((sizer.next_pages(), sizer.next_rows()), (1, Some(5)));
    assert!(sizer.fixed < 1e-6);
    // The rows are quick again.
    for _ in 0..10 {
        let Some(rows) = sizer.next_rows() else { break };
        sizer.observe_part(rows, u64::from(rows), Duration::from_millis(1));
    }
    assert_eq!((sizer.next_pages(), sizer.next_rows()), (1, None));
}

/// A disk whose commits take longer than a chunk should: fewer rows would not help.
#[test]
fn slow_commits_are_not_taken_for_slow_rows() {
    let commit = Duration::from_millis(25);
    let chunk = |rows: u64| commit + Duration::from_micros(5) * u32::try_from(rows).unwrap();
    let mut sizer = ChunkSizer::new(Duration::from_millis(5)).with_rows_per_page(60.0);
    let mut parts = 0;

    for _ in 0..1_000 {
        match sizer.next_rows() {
            Some(rows) => {
                parts += 1;
                sizer.observe_part(rows, u64::from(rows), chunk(u64::from(rows)));
            }
            None => {
                let pages = sizer.next_pages();
                let rows = u64::from(pages) * 60;
                sizer.observe(pages, rows, chunk(rows));
            }
        }
    }

    assert!(parts < 10, "{parts}");
}

#[test]
fn a_stall_does_not_keep_parts_small() {
    let chunk = |rows: u32| Duration::from_millis(40) + rows * Duration::from_millis(2);
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(60.0);
    sizer.observe(1, 60, chunk(60));
    let mut sizes = Vec::new();

    for n in 0..100 {
        let rows = sizer.next_rows().unwrap();
        let stall = Duration::from_millis(if n == 30 { 500 } else { 0 });
        sizer.observe_part(rows, u64::from(rows), chunk(rows) + stall);
        sizes.push(rows);
    }

    let small = sizes.iter().skip(50).filter(|rows| **rows < 10).count();
    assert!(small < 5, "{sizes:?}");
}

#[test]
fn slow_rows_beside_slow_commits_fill_a_third_of_a_chunk() {
    let commit = Duration::from_millis(40);
    let row = Duration::from_millis(2);
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(60.0);
    sizer.observe(1, 60, commit + 60 * row);

    for _ in 0..10 {
        let rows = sizer.next_rows().unwrap();
        sizer.observe_part(rows, u64::from(rows), commit + rows * row);
    }

    assert_eq!(sizer.next_rows(), Some(10));
}

#[test]
fn live_rows_followed_by_expired_ones_make_no_long_chunk() {
    for seed in 1..200 {
        for mut sizer in sizers() {
            let mut server = Server::new(seed, 0.2);
            let live = server.walk(&mut sizer, 40_000, 0.0);
            let expired = server.walk(&mut sizer, 20_000, 75.0);
            assert!(longest(&live) <= 2 * TARGET, "{:?}", longest(&live));
            assert!(longest(&expired) <= 2 * TARGET, "{:?}", longest(&expired));
        }
    }
}

#[test]
fn after_a_change_back_and_forth_no_chunk_is_long() {
    for seed in 1..100 {
        for mut sizer in sizers() {
            let mut server = Server::new(seed, 0.2);
            for density in [75.0, 0.0, 1.0, 75.0, 0.1, 0.0, 75.0, 30.0, 75.0] {
                let lengths = server.walk(&mut sizer, 30_000, density);
                assert!(
                    longest(&lengths) <= 2 * TARGET,
                    "{density}: {:?}",
                    longest(&lengths)
                );
            }
        }
    }
}

#[test]
fn steady_chunks_use_most_of_their_target() {
    for mut sizer in sizers() {
        let mut server = Server::new(7, 0.2);
        server.walk(&mut sizer, 60_000, 75.0);
        let steady = mean_over_target(&server.walk(&mut sizer, 60_000, 75.0));
        assert!((0.7..=1.0).contains(&steady), "{steady}");
    }
}

#[test]
fn scattered_rows_leave_room_for_a_run_of_full_pages() {
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(75.0);
    let mut server = Server::new(7, 0.2);
    server.walk(&mut sizer, 60_000, 32.0);
    let steady = mean_over_target(&server.walk(&mut sizer, 60_000, 32.0));
    assert!((0.6..=0.9).contains(&steady), "{steady}");
}

#[test]
fn learning_takes_few_chunks() {
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(75.0);
    let mut server = Server::new(3, 0.0);
    let lengths = server.walk(&mut sizer, 5_000, 75.0);
    assert!(
        mean_over_target(&lengths[12..20]) > 0.7,
        "{:?}",
        &lengths[..20]
    );
}

#[test]
fn a_slow_server_is_met_with_small_chunks() {
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(75.0);
    let mut server = Server::new(5, 0.2);
    server.page = 1e-3;
    server.row = 20e-6;
    let lengths = server.walk(&mut sizer, 2_000, 75.0);
    assert!(longest(&lengths[4..]) <= 2 * TARGET);
    let steady = mean_over_target(&lengths[100..]);
    assert!((0.7..=1.0).contains(&steady), "{steady}");
}

/// As a sweep makes them near the end of what it expects.
#[test]
fn what_a_tiny_chunk_takes_is_not_put_down_to_its_rows() {
    let target = Duration::from_millis(4);
    let mut sizer = ChunkSizer::new(target).with_rows_per_page(52.0);
    let mut server = Server::new(7, 0.1);
    server.fixed = 1e-3;
    server.walk(&mut sizer, 6_000, 52.0);
    let before = sizer.next_pages();
    for _ in 0..300 {
        let took = server.chunk(1, 52);
        sizer.observe(1, 52, took);
    }

    let after = sizer.next_pages();
    let live = server.walk(&mut sizer, 20_000, 0.0);

    assert!(after > before / 2, "{after} of {before}");
    assert!(
        live.len() < 2 * 20_000 / before as usize,
        "{} chunks",
        live.len()
    );
    let worth = f64::from(sizer.least_worthwhile_pages());
    assert!((60.0..=200.0).contains(&worth), "{worth}");
}

#[test]
fn commits_that_take_longer_than_a_chunk_should_are_not_multiplied_by_tiny_chunks() {
    let mut sizer = ChunkSizer::new(Duration::from_millis(5)).with_rows_per_page(75.0);
    let mut server = Server::new(7, 0.1);
    server.fixed = 25e-3;
    server.walk(&mut sizer, 2_000, 75.0);

    let lengths = server.walk(&mut sizer, 10_000, 75.0);

    assert!(lengths.len() < 200, "{} chunks", lengths.len());
    assert!(longest(&lengths) < Duration::from_millis(50));
}

#[test]
fn one_stall_is_forgotten_at_once() {
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(75.0);
    let mut server = Server::new(9, 0.0);
    server.walk(&mut sizer, 20_000, 75.0);
    let before = sizer.next_pages();

    let rows = u64::from(before) * 75;
    let stalled = 10 * server.chunk(before, rows);
    sizer.observe(before, rows, stalled);

    assert!(sizer.next_pages() < before / 4, "careful right after it");
    server.walk(&mut sizer, before, 75.0);
    assert!(
        sizer.next_pages() > before * 8 / 10,
        "and back after a few chunks: {} of {before}",
        sizer.next_pages()
    );
}

#[test]
fn a_server_that_stays_slow_is_believed() {
    let mut sizer = ChunkSizer::new(TARGET).with_rows_per_page(75.0);
    let mut server = Server::new(9, 0.0);
    server.walk(&mut sizer, 20_000, 75.0);
    server.page *= 6.0;
    server.row *= 6.0;
    let lengths = server.walk(&mut sizer, 20_000, 75.0);
    assert!(
        longest(&lengths[1..12]) <= 2 * TARGET,
        "{:?}",
        &lengths[..12]
    );
    let steady = mean_over_target(&lengths[40..]);
    assert!((0.7..=1.0).contains(&steady), "{steady}");
}

#[test]
fn the_first_chunk_is_small_and_growth_is_bounded() {
    let mut sizer = ChunkSizer::new(Duration::from_secs(3600));
    assert_eq!(sizer.next_pages(), 8);
    let mut last = 8;
    for _ in 0..20 {
        sizer.observe(last, 0, Duration::ZERO);
        let next = sizer.next_pages();
        assert!(next <= last * 4 && next <= 131_072);
        last = next;
    }
    assert_eq!(last, 131_072);
}

#[test]
fn a_cap_on_rows_caps_the_pages() {
    let mut sizer = ChunkSizer::new(TARGET)
        .with_rows_per_page(75.0)
        .with_max_rows(1_000);
    let mut server = Server::new(1, 0.0);
    server.walk(&mut sizer, 5_000, 75.0);
    assert_eq!(sizer.next_pages(), 13);
    assert_eq!(
        ChunkSizer::new(TARGET).with_max_rows(0).next_pages(),
        1,
        "one page is the least"
    );
}

proptest! {
    #[test]
    fn any_observation_leaves_a_usable_size(
        target: Duration,
        density in any::<f64>(),
        observations in prop::collection::vec((any::<u32>(), any::<u64>(), any::<Duration>()), 0..30),
    ) {
        let mut sizer = ChunkSizer::new(target).with_rows_per_page(density);
        for (pages, rows, took) in observations {
            sizer.observe(pages, rows, took);
            prop_assert!((1..=131_072).contains(&sizer.next_pages()));
        }
    }
}
