//! What the operator's own sweeps do to the counters is nobody's use.

use super::*;

/// A sweep that ended then, and knows what it added.
fn known(until: Timestamp) -> Swept {
    Swept {
        until,
        unclear_until: None,
    }
}

/// Looked at once a day for 100 days; the operator sweeps the table without counting what it adds, and its counters rise only with
/// that.
fn swept(roots: &[u32], change: impl Fn(&mut Facts)) -> Observed {
    let mut memory = Memory::default();
    let mut observed = Observed::default();
    for day in 0..=100 {
        memory.swept = roots
            .iter()
            .map(|id| {
                let until = at(day) - SignedDuration::from_hours(3);
                let swept = Swept {
                    until,
                    unclear_until: Some(until),
                };
                (*id, swept)
            })
            .collect();
        let mut facts = facts(node(day), counters(day, day), counters(2 * day, 0));
        change(&mut facts);
        observed = look(&mut memory, &facts);
    }
    observed
}

#[test]
fn what_rises_only_while_the_operator_sweeps_is_neither_used_nor_unused() {
    let observed = swept(&[TABLE], |_| ());

    for usage in [table(&observed), index(&observed)] {
        let Usage::Unknown(why) = usage else {
            panic!("{usage:?}");
        };
        assert!(why.contains("the operator itself swept"), "{why}");
    }
    assert_eq!(observed.tables[&TABLE].coverage_since, Some(at(100)));
}

#[test]
fn a_sweep_goes_to_partitions_and_to_the_tables_that_refer_to_it() {
    let parent = |facts: &mut Facts| {
        let whole = Table {
            id: 1,
            kind: Kind::Partitioned,
            ..Table::default()
        };
        facts.tables.insert(1, whole);
        facts.tables.get_mut(&TABLE).unwrap().partition_of = Some(1);
    };
    assert!(matches!(table(&swept(&[1], parent)), Usage::Unknown(_)));

    let referred = |facts: &mut Facts| {
        facts.foreign_keys.push(ForeignKey {
            table: TABLE,
            referred: 2,
            ..ForeignKey::default()
        });
    };
    assert!(matches!(table(&swept(&[2], referred)), Usage::Unknown(_)));
}

#[test]
fn an_index_that_sweeps_leave_alone_is_unused_although_its_table_is_swept() {
    let observed = swept(&[TABLE], |facts| {
        facts.counters.insert(INDEX, counters(0, 0));
    });

    assert!(matches!(index(&observed), Usage::Unused { days: 100, .. }));
}

#[test]
fn a_use_between_two_sweeps_is_a_use() {
    let mut memory = quiet(99);
    memory.swept.insert(TABLE, known(at(98)));

    let observed = look(
        &mut memory,
        &facts(node(100), counters(8, 3), counters(5, 0)),
    );

    assert_eq!(
        table(&observed),
        &Usage::Used {
            last: Some(at(100))
        }
    );
}

/// The operator's part as a ledger has it.
fn own(reads: i64, writes: i64) -> OwnUse {
    OwnUse {
        reads,
        writes,
        at: None,
    }
}

/// Swept each night for `days` days: each sweep scans the table twice and its index three times, and deletes ten rows. `others`:
/// what others read of the table up to that day.
fn swept_nightly(
    memory: &mut Memory,
    days: std::ops::RangeInclusive<i64>,
    others: impl Fn(i64) -> i64,
) -> Observed {
    let mut observed = Observed::default();
    for day in days {
        memory
            .swept
            .insert(TABLE, known(at(day) - SignedDuration::from_hours(3)));
        memory.own.insert(TABLE, own(2 * day, 10 * day));
        memory.own.insert(INDEX, own(3 * day, 0));
        observed = look(
            memory,
            &facts(
                node(day),
                counters(7 + 2 * day + others(day), 10 * day),
                counters(5 + 3 * day, 0),
            ),
        );
    }
    observed
}

#[test]
fn what_only_the_operators_sweeps_touch_is_unused_with_full_coverage() {
    let observed = swept_nightly(&mut Memory::default(), 0..=100, |_| 0);

    let unused = Usage::Unused {
        since: at(0),
        days: 100,
    };
    assert_eq!([table(&observed), index(&observed)], [&unused, &unused]);
    assert_eq!(observed.tables[&TABLE].coverage_percent, Some(100));
}

#[test]
fn one_read_of_others_among_many_of_our_own_is_a_use_of_that_day() {
    let read_on_day_95 = |day| i64::from(day >= 95);

    let observed = swept_nightly(&mut Memory::default(), 0..=100, read_on_day_95);

    assert_eq!(table(&observed), &Usage::Used { last: Some(at(95)) });
    assert!(matches!(index(&observed), Usage::Unused { .. }));
}

#[test]
fn a_sweep_that_does_not_know_what_it_added_breaks_the_window_and_a_new_one_grows() {
    let mut memory = Memory::default();
    swept_nightly(&mut memory, 0..=95, |_| 0);
    // Killed on day 96: the server counted what no ledger knows.
    let killed = at(96) - SignedDuration::from_hours(3);
    let unclear = Swept {
        until: killed,
        unclear_until: Some(killed),
    };
    memory.swept.insert(TABLE, unclear);

    let late = |day, table: i64| facts(node(day), counters(table, 950), counters(290, 0));
    let observed = look(&mut memory, &late(96, 198));

    let Usage::Unknown(why) = table(&observed) else {
        panic!("{observed:?}");
    };
    assert!(why.contains("how much of its use was its own"), "{why}");
    // The index was not touched by it.
    assert!(matches!(index(&observed), Usage::Unused { .. }));

    for day in 97..186 {
        let observed = look(&mut memory, &late(day, 198));
        assert!(matches!(table(&observed), Usage::Unknown(_)), "day {day}");
    }
    let observed = look(&mut memory, &late(186, 198));
    assert_eq!(
        table(&observed),
        &Usage::Unused {
            since: at(96),
            days: 90
        }
    );
}

#[test]
fn while_a_sweep_is_at_it_nothing_is_learned_and_afterwards_everything() {
    let mut memory = quiet(100);
    memory.swept.insert(TABLE, known(at(101)));

    // The server shows a part of what the sweep adds, and the ledger nothing yet.
    let during = look(
        &mut memory,
        &facts(node(101), counters(9, 23), counters(8, 0)),
    );
    assert_eq!(
        table(&during),
        &Usage::Unused {
            since: at(0),
            days: 100
        }
    );
    assert_eq!(during.tables[&TABLE].coverage_percent, Some(99));

    memory.own.insert(TABLE, own(4, 40));
    memory.own.insert(INDEX, own(6, 0));
    let ours_alone = facts(node(102), counters(11, 43), counters(11, 0));
    let after = observe(&ours_alone, Some(&memory), 90);
    assert_eq!(
        table(&after),
        &Usage::Unused {
            since: at(0),
            days: 102
        }
    );

    let one_more = facts(node(102), counters(12, 43), counters(11, 0));
    let after = observe(&one_more, Some(&memory), 90);
    assert_eq!(
        table(&after),
        &Usage::Used {
            last: Some(at(102))
        }
    );
}

#[test]
fn a_sweep_that_goes_on_for_days_leaves_it_open_whether_others_read() {
    let mut memory = quiet(100);
    for day in 101..=105 {
        memory.swept.insert(TABLE, known(at(day)));
        let rising = facts(node(day), counters(7 + day, 3), counters(5, 0));
        look(&mut memory, &rising);
    }
    memory.swept.insert(TABLE, known(at(106)));

    let observed = look(
        &mut memory,
        &facts(node(106), counters(113, 3), counters(5, 0)),
    );

    assert!(matches!(table(&observed), Usage::Unknown(why) if why.contains("sweeps the table")));
}

#[test]
fn what_is_first_seen_while_a_sweep_is_at_it_is_watched_from_its_end_on() {
    let mut memory = Memory::default();
    memory.swept.insert(TABLE, known(at(0)));
    let sweeping = facts(node(0), counters(9, 23), counters(8, 0));
    look(&mut memory, &sweeping);

    // The ledger's sums are complete one day later.
    memory.own.insert(TABLE, own(9, 23));
    for day in 1..=90 {
        let observed = look(
            &mut memory,
            &facts(node(day), counters(9, 23), counters(8, 0)),
        );
        assert!(matches!(table(&observed), Usage::Unknown(_)), "day {day}");
    }
    let observed = look(
        &mut memory,
        &facts(node(91), counters(9, 23), counters(8, 0)),
    );
    assert_eq!(
        table(&observed),
        &Usage::Unused {
            since: at(1),
            days: 90
        }
    );
}

#[test]
fn counts_that_were_written_down_a_moment_ago_wait_for_the_servers() {
    let mut memory = quiet(100);
    // An audit has read the table as a usage log, and the server does not show it yet.
    let own = OwnUse {
        at: Some(at(101) - SignedDuration::from_secs(60)),
        ..own(1, 0)
    };
    memory.own.insert(TABLE, own);
    let early = look(
        &mut memory,
        &facts(node(101), counters(7, 3), counters(5, 0)),
    );
    assert!(matches!(table(&early), Usage::Unused { days: 100, .. }));

    let later = observe(
        &facts(node(102), counters(8, 3), counters(5, 0)),
        Some(&memory),
        90,
    );

    assert_eq!(
        table(&later),
        &Usage::Unused {
            since: at(0),
            days: 102
        }
    );
}

#[test]
fn our_part_goes_along_with_an_index_that_is_rebuilt_concurrently() {
    let mut memory = Memory::default();
    swept_nightly(&mut memory, 0..=99, |_| 0);
    let mut rebuilt = facts(node(100), counters(7 + 198, 990), counters(0, 0));
    rebuilt.counters.remove(&INDEX);
    rebuilt.counters.insert(999, counters(5 + 297, 0));
    rebuilt.indexes[0].id = 999;

    let observed = look(&mut memory, &rebuilt);

    assert_eq!(
        observed.indexes[&999],
        Usage::Unused {
            since: at(0),
            days: 100
        }
    );
    let change = observed.change.expect("a sample");
    assert_eq!(change.renumbered, vec![(INDEX, 999)]);
}

#[test]
fn counters_that_were_lost_under_a_sweep_are_no_disuse() {
    let mut memory = Memory::default();
    swept_nightly(&mut memory, 0..=99, |_| 0);
    memory.own.insert(TABLE, own(2 * 100, 10 * 100));

    // Somebody reset the table's counters before the last sweep: fewer than what is ours alone.
    let observed = look(
        &mut memory,
        &facts(node(100), counters(2, 10), counters(5 + 297, 0)),
    );

    assert!(matches!(table(&observed), Usage::Unknown(_)));
}
