//! Made-up databases for the tests of the checks about indexes.

use std::sync::Arc;

use crate::policy::hygiene::facts::{Definition, Facts, Index, IndexKey, Kind, Rare, Table};

/// The number of `public.t`.
pub(super) const TABLE: u32 = 100;
/// The number of the partitioned `public.p`.
pub(super) const PARENT: u32 = 200;
/// The number of its partition `public.p_1`; `public.p_2` follows.
pub(super) const PARTITION: u32 = 201;

/// A valid B-tree of `public.t` over those columns.
pub(super) fn index(id: u32, name: &str, columns: &[i16]) -> Index {
    Index {
        id,
        table: TABLE,
        schema: "public".into(),
        name: name.into(),
        method: "btree".into(),
        valid: true,
        ready: true,
        keys: columns
            .iter()
            .map(|column| IndexKey {
                column: *column,
                ..IndexKey::default()
            })
            .collect(),
        ..Index::default()
    }
}

/// The keys of an index, to be changed.
pub(super) fn keys_of(index: &mut Index) -> &mut [IndexKey] {
    Arc::make_mut(&mut index.keys)
}

/// That an index has such expressions, and nothing else that is rare.
pub(super) fn expressions(tree: &str) -> Option<Box<Rare>> {
    Rare {
        expressions: Some(tree.to_owned()),
        ..Rare::default()
    }
    .boxed()
}

/// That an index is made by a statement alone.
pub(super) fn made_by(statement: &str) -> Option<Box<Definition>> {
    Some(Box::new(Definition {
        statement: statement.to_owned(),
        ..Definition::default()
    }))
}

/// A table of that number and name.
pub(super) fn table(id: u32, name: &str) -> Table {
    Table {
        id,
        schema: "public".to_owned(),
        name: name.to_owned(),
        pages: 10,
        rows: Some(100.0),
        ..Table::default()
    }
}

/// `public.t` with indexes.
pub(super) fn with(indexes: Vec<Index>) -> Facts {
    Facts {
        tables: [(TABLE, table(TABLE, "t"))].into(),
        indexes,
        ..Facts::default()
    }
}

/// `public.p` with the partitions `p_1` and `p_2`, and indexes of those names over the same columns; each has 10 pages in each
/// partition.
pub(super) fn partitioned(names: &[&str], columns: &[i16]) -> Facts {
    let mut facts = Facts::default();
    let parent = Table {
        kind: Kind::Partitioned,
        pages: 0,
        ..table(PARENT, "p")
    };
    facts.tables.insert(PARENT, parent);
    for number in 0..2 {
        let id = PARTITION + number;
        let partition = Table {
            partition_of: Some(PARENT),
            ..table(id, &format!("p_{}", number + 1))
        };
        facts.tables.insert(id, partition);
    }
    for (name, id) in names.iter().zip((300..).step_by(10)) {
        facts.indexes.push(Index {
            table: PARENT,
            ..index(id, name, columns)
        });
        for number in 0..2 {
            facts.indexes.push(Index {
                table: PARTITION + number,
                attached_to: Some(id),
                pages: 10,
                ..index(id + 1 + number, &format!("{name}_{}", number + 1), columns)
            });
        }
    }
    facts
}
