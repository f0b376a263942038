//! What limits are percentages of: counted rows, or those that the statistics are sure of.

use super::*;

fn percent(percent: u8) -> Limits {
    Limits {
        max_rows: None,
        max_percent: Some(percent),
    }
}

/// A thousand expired rows among so many others; of so many in all the statistics are sure.
fn among(others: u64, rows_at_least: u64) -> Fake {
    let fake = Fake::new(ordered(100, 0));
    fake.with(|table| {
        table.others = others;
        table.rows_at_least = rows_at_least;
    });
    fake
}

#[tokio::test]
async fn a_percentage_of_what_the_statistics_are_sure_of_needs_no_count() {
    let fake = among(3_000, 3_500);

    let report = sweep(&fake, percent(50), Some(900), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 0 }),
        "{:?}",
        report.end
    );
    assert_eq!(fake.with(|table| table.row_counts), 0);
    assert_eq!(report.progress.rows_at_start, None, "nobody counted them");
}

#[tokio::test]
async fn a_percentage_of_what_nobody_knows_is_counted_before_anything_is_deleted() {
    let fake = among(500, 0);

    let report = sweep(&fake, percent(50), Some(900), &Watcher::default()).await;

    let RuleEnd::Blocked { reason, .. } = &report.end else {
        panic!("{:?}", report.end);
    };
    assert!(reason.contains("66 % of 1500"), "{reason}");
    assert_eq!((report.rows_deleted, fake.left()), (0, 1_000));
}

#[tokio::test]
async fn statistics_that_know_too_few_rows_stop_no_sweep() {
    let fake = among(3_000, 1_000);

    // The estimate is within half of what is sure, the rows are not.
    let report = sweep(&fake, percent(50), Some(400), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 0 }),
        "{:?}",
        report.end
    );
    assert_eq!(fake.left(), 0);
    assert_eq!(fake.with(|table| table.row_counts), 1);
    assert_eq!(report.progress.rows_at_start, Some(4_000));
}

#[tokio::test]
async fn a_limit_that_is_reached_is_a_percentage_of_what_was_there_at_the_start() {
    let fake = among(100, 800);

    let report = sweep(&fake, percent(50), Some(300), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Blocked { .. }),
        "{:?}",
        report.end
    );
    assert_eq!(report.progress.rows_at_start, Some(1_100));
    assert!(report.rows_deleted <= 550, "{}", report.rows_deleted);
}

#[tokio::test]
async fn a_table_that_is_not_known_to_be_small_has_the_default_percentage() {
    let fake = Fake::new(ordered(1_200, 0));
    let limits = Limits::default();

    let report = sweep(&fake, limits, Some(100), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Blocked { .. }),
        "{:?}",
        report.end
    );
    assert!(report.rows_deleted <= 6_000, "{}", report.rows_deleted);
}
