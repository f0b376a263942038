//! Tables and their parts: what partitions and heirs have in common is counted once, at the top.

use std::collections::HashMap;

use super::facts::{Facts, Kind, Table};

/// All tables of the facts, with what hangs below each.
pub(super) struct Trees<'a> {
    facts: &'a Facts,
    partitions: HashMap<u32, Vec<&'a Table>>,
    heirs: HashMap<u32, Vec<&'a Table>>,
}

impl<'a> Trees<'a> {
    pub(super) fn of(facts: &'a Facts) -> Self {
        let mut tables: Vec<&Table> = facts.tables.values().collect();
        tables.sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
        let (mut partitions, mut heirs) = (HashMap::new(), HashMap::new());
        for table in tables {
            if let Some(parent) = table.partition_of {
                partitions
                    .entry(parent)
                    .or_insert_with(Vec::new)
                    .push(table);
            } else if let Some(parent) = table.inherits {
                heirs.entry(parent).or_insert_with(Vec::new).push(table);
            }
        }
        Self {
            facts,
            partitions,
            heirs,
        }
    }

    /// Tables that are no partition of another one, by name.
    pub(super) fn heads(&self) -> Vec<&'a Table> {
        let mut heads: Vec<&Table> = self
            .facts
            .tables
            .values()
            .filter(|table| self.is_head(table))
            .collect();
        heads.sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
        heads
    }

    /// Tables that are no partition of another one, nor its heir, by name.
    pub(super) fn tops(&self) -> Vec<&'a Table> {
        let mut tops = self.heads();
        tops.retain(|table| {
            table
                .inherits
                .is_none_or(|parent| !self.facts.tables.contains_key(&parent))
        });
        tops
    }

    /// The tables that hold its rows, by partitioning or by inheritance: what a query of it reads.
    pub(super) fn holders(&self, table: &'a Table) -> Vec<&'a Table> {
        self.family(table)
            .into_iter()
            .flat_map(|member| self.leaves(member))
            .collect()
    }

    fn is_head(&self, table: &Table) -> bool {
        table
            .partition_of
            .is_none_or(|parent| !self.facts.tables.contains_key(&parent))
    }

    /// The partitioned table at the top; a table that is no partition is its own.
    pub(super) fn head(&self, table: &'a Table) -> &'a Table {
        let mut head = table;
        while let Some(parent) = head
            .partition_of
            .and_then(|parent| self.facts.tables.get(&parent))
        {
            head = parent;
        }
        head
    }

    /// Itself, and all partitions below it, partitioned ones included.
    pub(super) fn parts(&self, table: &'a Table) -> Vec<&'a Table> {
        below(&self.partitions, table)
    }

    /// The tables that hold its rows, by partitioning: itself, or the last partitions.
    pub(super) fn leaves(&self, table: &'a Table) -> Vec<&'a Table> {
        let mut parts = self.parts(table);
        parts.retain(|part| part.kind != Kind::Partitioned);
        parts
    }

    /// Itself, and all that inherit from it.
    pub(super) fn family(&self, table: &'a Table) -> Vec<&'a Table> {
        below(&self.heirs, table)
    }

    /// All tables that hold its rows are known.
    pub(super) fn is_whole(&self, table: &'a Table) -> bool {
        let parts = self.parts(table);
        let hidden = parts.iter().any(|part| part.detail.foreign_children);
        // Who has two parents is known as the heir of the first one only.
        let unknown_heirs = table.kind != Kind::Partitioned
            && table.detail.has_children
            && !self.heirs.contains_key(&table.id);
        !hidden && !unknown_heirs
    }
}

fn below<'a>(children: &HashMap<u32, Vec<&'a Table>>, table: &'a Table) -> Vec<&'a Table> {
    let mut found = vec![table];
    let mut next = 0;
    while let Some(at) = found.get(next) {
        found.extend(children.get(&at.id).into_iter().flatten());
        next += 1;
    }
    found
}
