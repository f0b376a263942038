//! Which table or index of today is the one that was watched before.

use super::*;

#[test]
fn counters_that_fell_break_the_window_of_their_thing_alone() {
    let mut memory = quiet(99);

    let observed = look(
        &mut memory,
        &facts(node(100), counters(7, 2), counters(5, 0)),
    );

    assert_eq!(table(&observed), &Usage::Unknown(Break::Decrease.reason()));
    assert!(matches!(index(&observed), Usage::Unused { .. }));
}

#[test]
fn a_table_made_anew_under_its_name_is_another_one() {
    let mut memory = quiet(99);
    let mut anew = facts(node(100), counters(7, 3), counters(5, 0));
    let mut table = anew.tables.remove(&TABLE).unwrap();
    table.id = 101;
    anew.tables.insert(101, table);
    anew.counters.insert(101, counters(7, 3));
    anew.indexes[0].table = 101;

    let observed = look(&mut memory, &anew);

    assert_eq!(
        observed.tables[&101].usage,
        Usage::Unknown(Break::Recreated.reason())
    );
}

#[test]
fn an_index_that_was_rebuilt_concurrently_keeps_its_window() {
    let mut memory = quiet(99);
    let mut rebuilt = facts(node(100), counters(7, 3), counters(5, 0));
    rebuilt.counters.insert(201, counters(5, 0));
    rebuilt.indexes[0].id = 201;

    let observed = look(&mut memory, &rebuilt);

    assert_eq!(
        observed.indexes[&201],
        Usage::Unused {
            since: at(0),
            days: 100
        }
    );
}

#[test]
fn an_index_of_another_definition_is_another_one_and_the_old_one_is_forgotten() {
    let mut memory = quiet(99);
    let mut other = facts(node(100), counters(7, 3), counters(5, 0));
    other.indexes[0].predicate = Some("{OPEXPR :opno 96 :location 40}".into());

    let observed = look(&mut memory, &other);

    assert_eq!(index(&observed), &Usage::Unknown(Break::FirstSeen.reason()));
    assert_eq!(memory.windows.len(), 2);
    let mut copied = facts(node(101), counters(7, 3), counters(5, 0));
    copied.indexes[0].predicate = Some("{OPEXPR :opno 96 :location -1}".into());
    look(&mut memory, &copied);
    assert_eq!(memory.windows.len(), 2);
}

#[test]
fn a_renamed_table_is_seen_first_and_its_index_goes_on() {
    let mut memory = quiet(99);
    let mut renamed = facts(node(100), counters(7, 3), counters(5, 0));
    renamed.tables.get_mut(&TABLE).unwrap().name = "u".to_owned();

    let observed = look(&mut memory, &renamed);

    assert_eq!(table(&observed), &Usage::Unknown(Break::FirstSeen.reason()));
    assert!(matches!(index(&observed), Usage::Unused { .. }));
}
