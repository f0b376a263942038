//! How far a table is walked.

use super::*;

#[tokio::test]
async fn a_count_that_finds_nothing_spares_the_rest_of_the_walk() {
    let fake = Fake::new(ordered(2_000, 400_000));

    let report = sweep(&fake, unlimited(), Some(20_000), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 0 }),
        "{:?}",
        report.end
    );
    assert_eq!((report.rows_deleted, fake.left()), (20_000, 0));
    fake.with(|table| {
        assert_eq!(table.counts, 1, "the count is the proof, too");
        assert!(table.walked.len() < 2_500, "{}", table.walked.len());
    });
}

#[tokio::test]
async fn a_count_that_finds_something_lets_the_walk_go_on_to_its_end() {
    let mut pages = ordered(2_000, 400_000);
    pages[401_000] = 3;
    let fake = Fake::new(pages);

    let report = sweep(&fake, unlimited(), Some(20_000), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Complete { remaining: 0 }),
        "{:?}",
        report.end
    );
    assert_eq!((report.rows_deleted, fake.left()), (20_003, 0));
    fake.with(|table| {
        assert_eq!(table.counts, 2, "once in between, once as the proof");
        assert_eq!(table.walked.last(), Some(&401_999));
        let mut once = table.walked.clone();
        once.dedup();
        assert_eq!(once.len(), table.walked.len(), "no page is walked twice");
    });
}

#[tokio::test]
async fn an_estimate_of_nothing_walks_all_the_same() {
    let fake = Fake::new(ordered(0, 1_000).into_iter().chain([5]).collect());

    let report = sweep(&fake, unlimited(), Some(0), &Watcher::default()).await;

    assert_eq!((report.rows_deleted, fake.left()), (5, 0));
}

#[tokio::test]
async fn rows_of_a_part_that_came_under_way_are_for_a_new_plan() {
    let fake = Fake::new(vec![10; 3]);
    fake.with(|table| table.attached = 5);

    let report = sweep(&fake, unlimited(), Some(35), &Watcher::default()).await;

    assert!(
        matches!(report.end, RuleEnd::Stopped(StopReason::PartsChanged)),
        "{:?}",
        report.end
    );
    assert_eq!((report.rows_deleted, report.progress.done), (30, false));
}
