//! Chunks, pages and rows that take longer than a statement may.

use rstest::rstest;

use super::*;

#[rstest]
#[case::chunks_become_smaller(3, 0)]
#[case::a_single_page_is_taken_in_parts(1, 3)]
#[tokio::test]
async fn what_takes_too_long_is_taken_in_less(#[case] pages: u32, #[case] rows: u32) {
    let fake = Fake::new(ordered(30, 0));
    fake.with(|table| (table.slow_from, table.slow_rows) = (pages, rows));

    let report = sweep(&fake, unlimited(), None, &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 0 }),
        "{:?}",
        report.end
    );
    assert_eq!((report.rows_deleted, fake.left()), (300, 0));
}

#[tokio::test]
async fn a_single_row_that_takes_too_long_is_given_up_soon() {
    let fake = Fake::new(ordered(30, 0));
    fake.with(|table| (table.slow_from, table.slow_rows) = (1, 1));

    let report = sweep(&fake, unlimited(), None, &Watcher::default()).await;

    let RuleEnd::Failed(error) = report.end else {
        panic!("{:?}", report.end);
    };
    assert_eq!(error.category(), "statement_timeout");
    fake.with(|table| {
        let single = table.slow.iter().filter(|slow| slow.rows == Some(1));
        assert_eq!(single.count(), 5, "{:?}", table.slow);
        assert!(table.slow.len() > 7, "from larger ones down");
    });
}

/// Pages of ten rows, and on some of them rows that take too long, each alone.
fn stuck(rows: Vec<u64>) -> Fake {
    let fake = Fake::new(ordered(rows.len(), 0));
    fake.with(|table| table.stuck = rows);
    fake
}

#[tokio::test]
async fn a_single_row_that_takes_too_long_is_left_and_named_and_the_walk_goes_on() {
    let fake = stuck(vec![0, 0, 1, 0, 2, 0]);

    let report = sweep(&fake, unlimited(), None, &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 3 }),
        "{:?}",
        report.end
    );
    assert_eq!((report.rows_deleted, report.blocked_rows), (60, 3));
    let report = SweepReport {
        rules: vec![report],
        ..SweepReport::default()
    };
    assert_eq!(report.outcome(), Outcome::Succeeded);
    assert_eq!(
        report.message(),
        "logs: 3 expired rows are still there, 3 of them because deleting one takes longer than 30s"
    );
}

#[tokio::test]
async fn a_row_is_left_as_a_single_one_only_and_after_a_second_try() {
    let fake = stuck(vec![1]);

    sweep(&fake, unlimited(), None, &Watcher::default()).await;

    fake.with(|table| {
        let single = table.slow.iter().filter(|slow| slow.rows == Some(1));
        assert_eq!(single.count(), 2, "{:?}", table.slow);
        assert!(table.slow.len() > 2, "from larger ones down");
    });
}

#[tokio::test]
async fn where_row_after_row_takes_too_long_the_rule_fails() {
    let fake = stuck(vec![100, 0]);

    let report = sweep(&fake, unlimited(), None, &Watcher::default()).await;

    assert_eq!((report.rows_deleted, report.blocked_rows), (0, 16));
    let RuleEnd::Failed(error) = report.end else {
        panic!("{:?}", report.end);
    };
    assert_eq!(error.category(), "statement_timeout");
}

#[tokio::test]
async fn rows_that_take_too_long_here_and_there_are_no_reason_to_fail() {
    let fake = stuck(vec![8, 0, 8, 0, 8]);

    let report = sweep(&fake, unlimited(), None, &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 24 }),
        "{:?}",
        report.end
    );
    assert_eq!(report.rows_deleted, 50);
}
