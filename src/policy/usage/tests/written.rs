//! How much of a look is written down.

use super::*;

#[test]
fn what_is_used_all_the_time_is_written_down_every_six_hours_and_never_late_by_more() {
    let mut memory = Memory::default();
    let mut written = 0;
    for quarter in 0..96 {
        let now = at(0) + SignedDuration::from_mins(15 * quarter);
        let node = Node { at: now, ..node(0) };
        let observed = look(
            &mut memory,
            &facts(node, counters(quarter, 0), counters(0, 0)),
        );
        assert!(quarter == 0 || *table(&observed) == Usage::Used { last: Some(now) });
        let change = memory
            .windows
            .iter()
            .filter(|(_, window)| window.counted == now);
        written += change.count();
    }
    // The table: once when it was new, once at its first use, then every six hours. The index: once.
    assert!(written <= 7, "{written}");
}

#[test]
fn without_a_use_nothing_but_the_time_of_the_sample_is_written() {
    let memory = quiet(99);

    let observed = observe(
        &facts(node(100), counters(7, 3), counters(5, 0)),
        Some(&memory),
        90,
    );

    let change = observed.change.unwrap();
    assert_eq!(change.windows, Vec::new());
    assert_eq!(change.gone, Vec::<i64>::new());
    assert_eq!(change.state.node.at, at(100));
}

#[test]
fn a_sample_right_after_another_one_is_not_written_down() {
    let memory = quiet(99);
    let soon = Node {
        at: at(99) + SignedDuration::from_mins(1),
        ..node(99)
    };

    let observed = observe(
        &facts(soon, counters(7, 3), counters(5, 0)),
        Some(&memory),
        90,
    );

    assert_eq!(observed.change, None);
    assert!(matches!(index(&observed), Usage::Unused { .. }));
}

#[test]
fn a_sample_that_was_overtaken_is_judged_by_what_is_remembered() {
    let memory = quiet(99);
    let late = Node {
        at: at(99) - SignedDuration::from_secs(2),
        ..node(99)
    };

    let observed = observe(
        &facts(late, counters(6, 3), counters(4, 0)),
        Some(&memory),
        90,
    );

    assert_eq!(observed.change, None);
    assert!(matches!(table(&observed), Usage::Unused { .. }));
}
