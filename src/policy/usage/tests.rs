//! Each way in which a window breaks, and that nothing is called unused where it did.

mod identity;
mod own;
mod written;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::*;
use crate::policy::hygiene::{
    Facts,
    facts::{ForeignKey, Index, IndexKey, Kind, Table},
};

const DAY: i64 = 86_400;
const TABLE: u32 = 100;
const INDEX: u32 = 200;
/// The look at which the database was seen first.
const START: i64 = 1_700_000_000;

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(START + days * DAY).unwrap()
}

fn node(days: i64) -> Node {
    Node {
        at: at(days),
        server: "7000-5".to_owned(),
        timeline: "00000001".to_owned(),
        started: at(-10),
        reset: None,
        epoch: "1/2".to_owned(),
        counting: true,
        standby: false,
        has_standbys: false,
    }
}

fn counters(reads: i64, writes: i64) -> Counters {
    Counters {
        reads,
        writes,
        last_read: None,
    }
}

/// One table with one index, as often used as the counters say.
fn facts(node: Node, table: Counters, index: Counters) -> Facts {
    let mut facts = Facts {
        node: Some(node),
        ..Facts::default()
    };
    facts.tables.insert(
        TABLE,
        Table {
            id: TABLE,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            ..Table::default()
        },
    );
    facts.indexes.push(Index {
        id: INDEX,
        table: TABLE,
        schema: "public".into(),
        name: "t_a".into(),
        method: "btree".into(),
        keys: [IndexKey::default()].into(),
        ..Index::default()
    });
    facts.counters.insert(TABLE, table);
    facts.counters.insert(INDEX, index);
    facts
}

/// What a ledger would hold after the look.
fn remembered(memory: &Memory, observed: &Observed) -> Memory {
    let mut memory = memory.clone();
    let change = observed.change.as_ref().expect("a sample to write down");
    memory.state = Some(change.state.clone());
    let kept = memory.windows.iter();
    let kept = kept.filter(|(key, _)| {
        let is_new = change.windows.iter().any(|(new, _)| new == key);
        !is_new && !change.gone.contains(key)
    });
    let kept = kept.map(|(key, window)| (key, window.clone()));
    let windows: Vec<(i64, Window)> = kept.chain(change.windows.clone()).collect();
    memory.windows = windows.into();
    memory
}

fn look(memory: &mut Memory, facts: &Facts) -> Observed {
    let observed = observe(facts, Some(memory), 90);
    *memory = remembered(memory, &observed);
    observed
}

/// Looked at once a day from day 0 on, and never used in that time; the last look is on `days`.
fn quiet(days: i64) -> Memory {
    let mut memory = Memory::default();
    for day in 0..=days {
        look(
            &mut memory,
            &facts(node(day), counters(7, 3), counters(5, 0)),
        );
    }
    memory
}

fn table(observed: &Observed) -> &Usage {
    &observed.tables[&TABLE].usage
}

fn index(observed: &Observed) -> &Usage {
    &observed.indexes[&INDEX]
}

#[test]
fn an_unbroken_window_that_is_long_enough_says_unused() {
    let mut memory = quiet(99);

    let observed = look(
        &mut memory,
        &facts(node(100), counters(7, 3), counters(5, 0)),
    );

    let unused = Usage::Unused {
        since: at(0),
        days: 100,
    };
    assert_eq!(table(&observed), &unused);
    assert_eq!(index(&observed), &unused);
    let observation = &observed.tables[&TABLE];
    assert_eq!(observation.coverage_since, Some(at(0)));
    assert_eq!(observation.coverage_percent, Some(100));
}

#[test]
fn a_window_that_is_too_short_says_unknown() {
    let mut memory = quiet(88);

    let observed = look(
        &mut memory,
        &facts(node(89), counters(7, 3), counters(5, 0)),
    );

    assert_eq!(
        index(&observed),
        &Usage::Unknown("not watched for long enough yet")
    );
}

#[test]
fn a_scan_is_a_use_and_ninety_quiet_days_later_there_was_none() {
    let mut memory = quiet(99);

    let observed = look(
        &mut memory,
        &facts(node(100), counters(7, 3), counters(6, 0)),
    );
    assert_eq!(
        index(&observed),
        &Usage::Used {
            last: Some(at(100))
        }
    );
    // A scan of an index is one of its table, too.
    assert_eq!(
        table(&observed),
        &Usage::Used {
            last: Some(at(100))
        }
    );

    for day in 101..190 {
        look(
            &mut memory,
            &facts(node(day), counters(7, 3), counters(6, 0)),
        );
    }
    let observed = look(
        &mut memory,
        &facts(node(190), counters(7, 3), counters(6, 0)),
    );
    assert_eq!(
        index(&observed),
        &Usage::Unused {
            since: at(100),
            days: 90
        }
    );
}

#[test]
fn a_write_is_a_use_of_the_table_and_not_of_its_index() {
    let mut memory = quiet(99);

    let observed = look(
        &mut memory,
        &facts(node(100), counters(7, 4), counters(5, 0)),
    );

    assert!(matches!(table(&observed), Usage::Used { .. }));
    assert!(matches!(index(&observed), Usage::Unused { .. }));
}

#[rstest]
#[case::restored_on_another_server(Node { server: "7001-5".to_owned(), ..node(100) }, Break::OtherServer)]
#[case::restored_as_another_database(Node { server: "7000-6".to_owned(), ..node(100) }, Break::OtherServer)]
#[case::promoted(Node { timeline: "00000002".to_owned(), started: at(50), ..node(100) }, Break::Failover)]
#[case::crashed(Node { epoch: "3/3".to_owned(), started: at(99), ..node(100) }, Break::Crash)]
#[case::crashed_without_a_new_postmaster(Node { epoch: "3/3".to_owned(), ..node(100) }, Break::Crash)]
#[case::reset(Node { reset: Some(at(99)), ..node(100) }, Break::Reset)]
#[case::a_sample_missed(node(103), Break::Missed)]
#[case::a_clock_set_back(node(90), Break::Missed)]
fn what_breaks_all_windows_makes_everything_unknown(#[case] now: Node, #[case] broken_by: Break) {
    // Also where the counters look as if nothing had happened.
    for counts in [(7, 3, 5), (0, 0, 0), (70, 30, 50)] {
        let mut memory = quiet(99);
        let (reads, writes, scans) = counts;

        let observed = look(
            &mut memory,
            &facts(now.clone(), counters(reads, writes), counters(scans, 0)),
        );

        assert_eq!(table(&observed), &Usage::Unknown(broken_by.reason()));
        assert_eq!(index(&observed), &Usage::Unknown(broken_by.reason()));
        assert_eq!(observed.tables[&TABLE].coverage_since, Some(now.at));
    }
}

#[test]
fn after_a_break_a_use_is_seen_again_and_a_new_window_grows() {
    let mut memory = quiet(99);
    let crashed = |day| Node {
        epoch: "3/3".to_owned(),
        ..node(day)
    };
    look(
        &mut memory,
        &facts(crashed(100), counters(0, 0), counters(0, 0)),
    );

    let observed = look(
        &mut memory,
        &facts(crashed(101), counters(1, 0), counters(0, 0)),
    );
    assert_eq!(
        table(&observed),
        &Usage::Used {
            last: Some(at(101))
        }
    );

    for day in 102..191 {
        look(
            &mut memory,
            &facts(crashed(day), counters(1, 0), counters(0, 0)),
        );
    }
    let observed = look(
        &mut memory,
        &facts(crashed(191), counters(1, 0), counters(0, 0)),
    );
    assert_eq!(
        index(&observed),
        &Usage::Unused {
            since: at(100),
            days: 91
        }
    );
}

#[test]
fn a_reset_that_is_forgotten_again_is_a_break_too() {
    let mut memory = Memory::default();
    let reset = |day, reset| Node { reset, ..node(day) };
    for day in 0..100 {
        let node = reset(day, Some(at(-5)));
        look(&mut memory, &facts(node, counters(0, 0), counters(0, 0)));
    }

    let observed = look(
        &mut memory,
        &facts(reset(100, None), counters(0, 0), counters(0, 0)),
    );

    assert_eq!(index(&observed), &Usage::Unknown(Break::Reset.reason()));
}

#[test]
fn a_clean_restart_breaks_nothing() {
    let mut memory = quiet(99);
    let restarted = Node {
        started: at(99),
        ..node(100)
    };

    let observed = look(
        &mut memory,
        &facts(restarted, counters(7, 3), counters(5, 0)),
    );

    assert!(matches!(index(&observed), Usage::Unused { .. }));
}

#[test]
fn a_restart_of_which_nobody_can_say_that_it_was_clean_is_a_crash() {
    let mut memory = Memory::default();
    let nameless = |day| Node {
        epoch: String::new(),
        ..node(day)
    };
    for day in 0..100 {
        look(
            &mut memory,
            &facts(nameless(day), counters(0, 0), counters(0, 0)),
        );
    }
    let restarted = Node {
        started: at(99),
        ..nameless(100)
    };

    let observed = look(
        &mut memory,
        &facts(restarted, counters(0, 0), counters(0, 0)),
    );

    assert_eq!(index(&observed), &Usage::Unknown(Break::Crash.reason()));
}

#[test]
fn the_servers_own_record_of_the_last_scan_counts_from_the_first_look_on() {
    let mut memory = Memory::default();
    let scanned = Counters {
        last_read: Some(at(-3)),
        ..counters(5, 0)
    };

    let observed = look(&mut memory, &facts(node(0), counters(0, 0), scanned));

    assert_eq!(index(&observed), &Usage::Used { last: Some(at(-3)) });
    assert_eq!(table(&observed), &Usage::Used { last: Some(at(-3)) });
}

#[test]
fn a_server_that_records_the_last_scan_says_when_it_was() {
    let mut memory = quiet(99);
    let scanned = Counters {
        last_read: Some(at(100) - SignedDuration::from_hours(9)),
        ..counters(6, 0)
    };

    let observed = look(&mut memory, &facts(node(100), counters(7, 3), scanned));

    assert_eq!(
        index(&observed),
        &Usage::Used {
            last: scanned.last_read
        }
    );
}

#[test]
fn a_partitioned_table_is_used_as_its_partitions_are() {
    let with_parent = |day: i64, second: Counters| {
        let mut facts = facts(node(day), counters(7, 3), counters(5, 0));
        facts.tables.insert(
            1,
            Table {
                id: 1,
                name: "whole".to_owned(),
                kind: Kind::Partitioned,
                ..Table::default()
            },
        );
        facts.tables.get_mut(&TABLE).unwrap().partition_of = Some(1);
        facts.tables.insert(
            2,
            Table {
                id: 2,
                name: "other".to_owned(),
                partition_of: Some(1),
                ..Table::default()
            },
        );
        facts.counters.insert(2, second);
        facts
    };
    let mut memory = Memory::default();
    for day in 0..100 {
        look(&mut memory, &with_parent(day, counters(0, 0)));
    }

    let quiet = look(&mut memory, &with_parent(100, counters(0, 0)));
    let read = look(&mut memory, &with_parent(101, counters(1, 0)));

    assert!(matches!(quiet.tables[&1].usage, Usage::Unused { .. }));
    assert_eq!(
        read.tables[&1].usage,
        Usage::Used {
            last: Some(at(101))
        }
    );
}

#[test]
fn a_standby_never_says_unused_and_says_that_it_is_one_node() {
    let memory = quiet(99);
    let standby = Node {
        standby: true,
        timeline: String::new(),
        ..node(100)
    };

    let observed = observe(
        &facts(standby, counters(7, 3), counters(0, 0)),
        Some(&memory),
        90,
    );

    assert!(matches!(index(&observed), Usage::Unknown(_)));
    assert!(
        observed.tables[&TABLE]
            .note
            .as_deref()
            .unwrap()
            .contains("this node only")
    );
    assert_eq!(observed.change, None);
    assert_eq!(observed.notes.len(), 1);
}

#[test]
fn beside_standbys_unused_is_said_of_this_node_only() {
    let mut memory = quiet(99);
    let primary = Node {
        has_standbys: true,
        ..node(100)
    };

    let observed = look(&mut memory, &facts(primary, counters(7, 3), counters(5, 0)));

    assert!(matches!(index(&observed), Usage::Unused { .. }));
    assert!(
        observed.tables[&TABLE]
            .note
            .as_deref()
            .unwrap()
            .contains("this node only")
    );
}

#[test]
fn without_a_memory_counters_prove_use_and_never_disuse() {
    let observed = observe(&facts(node(100), counters(0, 0), counters(0, 0)), None, 90);
    assert!(matches!(table(&observed), Usage::Unknown(_)));

    let since = Node {
        reset: Some(at(0)),
        ..node(100)
    };
    let observed = observe(&facts(since, counters(1, 0), counters(0, 0)), None, 90);
    assert_eq!(table(&observed), &Usage::Used { last: None });
    assert_eq!(observed.tables[&TABLE].coverage_since, Some(at(0)));
}

#[rstest]
#[case::recent(Logged::Used(at(99)), Usage::Used { last: Some(at(99)) })]
#[case::too_old(Logged::Used(at(5)), Usage::Unused { since: at(0), days: 100 })]
#[case::nothing(Logged::NotFound, Usage::Unused { since: at(0), days: 100 })]
fn a_usage_log_is_evidence_of_use_only(#[case] logged: Logged, #[case] expected: Usage) {
    let unused = Observation {
        usage: Usage::Unused {
            since: at(0),
            days: 100,
        },
        ..Observation::default()
    };

    let seen = with_log(unused, &logged, at(100), 90);

    assert_eq!(seen.usage, expected);
}

#[test]
fn a_log_that_cannot_be_read_changes_nothing_and_says_so() {
    let unknown = Observation::unknown("not watched for long enough yet");

    let seen = with_log(
        unknown.clone(),
        &Logged::Unreadable("no index".to_owned()),
        at(100),
        90,
    );

    assert_eq!(seen.usage, unknown.usage);
    assert_eq!(seen.note.as_deref(), Some("usage log: no index"));
}

#[test]
fn a_server_that_does_not_count_calls_nothing_unused_however_long() {
    let mut memory = quiet(99);
    let mut observed = Observed::default();
    for day in 100..=300 {
        let off = Node {
            epoch: "off/1/2".to_owned(),
            counting: false,
            ..node(day)
        };
        observed = look(&mut memory, &facts(off, counters(7, 3), counters(5, 0)));
    }
    assert!(matches!(index(&observed), Usage::Unknown(why) if why.contains("track_counts")));

    let observed = look(
        &mut memory,
        &facts(node(301), counters(7, 3), counters(5, 0)),
    );
    assert_eq!(index(&observed), &Usage::Unknown(Break::Crash.reason()));
}
