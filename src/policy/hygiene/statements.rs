//! Statements about indexes: what drops one, what makes the very same again, what builds one over all partitions of a table.

use std::collections::HashSet;

use super::{
    facts::{Dialect, Facts, Index, Kind, Table},
    indexes::Indexes,
    sql_name,
};
use crate::policy::table::quoted;

/// Bytes of a name: the server cuts what is longer.
const NAME: usize = 63;
/// So many parts of a partitioned index are made again by a statement each.
const PARTS: usize = 40;

impl Indexes<'_> {
    /// What drops it. A partitioned index cannot be dropped concurrently, and a constraint goes by its own name.
    pub(super) fn drop_sql(&self, index: &Index) -> String {
        let name = sql_name(&index.schema, &index.name);
        match (&index.constraint, self.facts.tables.get(&index.table)) {
            (Some(constraint), Some(table)) => format!(
                "ALTER TABLE {} DROP CONSTRAINT {};",
                sql_name(&table.schema, &table.name),
                quoted(constraint)
            ),
            _ if self.is_partitioned(index) => format!("DROP INDEX {name};"),
            _ => format!("DROP INDEX CONCURRENTLY {name};"),
        }
    }

    /// What makes it again, with all that it had; `None`: its definition was not read.
    pub(super) fn restore_sql(&self, index: &Index) -> Option<String> {
        let mut lines = Vec::new();
        if self.is_partitioned(index) && self.parts_to_define(index).is_none() {
            lines.push(self.remake_whole(index)?);
            lines.extend(marks(index));
        } else {
            self.remake(index, &mut lines)?;
        }
        Some(lines.join("\n"))
    }

    /// The parts below a partitioned index, whose definitions make it again; `None`: too many, the server names them anew.
    pub(super) fn parts_to_define(&self, index: &Index) -> Option<Vec<u32>> {
        let mut found: Vec<u32> = self.attached(index.id).iter().map(|part| part.id).collect();
        let mut next = 0;
        while let Some(id) = found.get(next).copied() {
            if found.len() > PARTS {
                return None;
            }
            found.extend(self.attached(id).iter().map(|part| part.id));
            next += 1;
        }
        Some(found)
    }

    /// A partitioned index in one statement, with parts that the server names.
    fn remake_whole(&self, index: &Index) -> Option<String> {
        if let Some(constraint) = &index.constraint {
            let table = self.facts.tables.get(&index.table)?;
            return Some(format!(
                "ALTER TABLE {} ADD CONSTRAINT {} {};",
                sql_name(&table.schema, &table.name),
                quoted(constraint),
                constraint_definition(index)?
            ));
        }
        Some(self.create(index, "", "")? + ";")
    }

    /// Part by part, the partitioned index first.
    fn remake(&self, index: &Index, lines: &mut Vec<String>) -> Option<()> {
        let table = self.facts.tables.get(&index.table)?;
        let name = sql_name(&table.schema, &table.name);
        let partitioned = self.is_partitioned(index);
        if !partitioned {
            lines.push(self.create(index, "CONCURRENTLY ", "")? + ";");
        } else if index.constraint.is_none() {
            lines.push(self.create(index, "", "ONLY ")? + ";");
        }
        if let Some(constraint) = &index.constraint {
            lines.push(format!(
                "ALTER TABLE {}{name} ADD CONSTRAINT {} {};",
                if partitioned { "ONLY " } else { "" },
                quoted(constraint),
                constraint_definition(index)?
            ));
        }
        for part in self.attached(index.id) {
            self.remake(part, lines)?;
            lines.push(format!(
                "ALTER INDEX {} ATTACH PARTITION {};",
                sql_name(&index.schema, &index.name),
                sql_name(&part.schema, &part.name)
            ));
        }
        lines.extend(marks(index));
        Some(())
    }

    fn create(&self, index: &Index, concurrently: &str, only: &str) -> Option<String> {
        if self.facts.dialect == Dialect::Sqlite {
            return Some(index.definition.as_ref()?.statement.clone());
        }
        let table = self.facts.tables.get(&index.table)?;
        Some(format!(
            "CREATE {}INDEX {concurrently}{} ON {only}{} {}",
            if index.unique { "UNIQUE " } else { "" },
            quoted(&index.name),
            sql_name(&table.schema, &table.name),
            definition_tail(index, table)?
        ))
    }

    /// What builds an index on a table, or on a partitioned one and all its partitions, those that hold rows without blocking
    /// writes, and what it is called. `parent`: an index to attach it to.
    pub(super) fn build(
        &self,
        made: &Made<'_>,
        table: &Table,
        parent: Option<&str>,
        names: &mut Names<'_>,
        lines: &mut Vec<String>,
    ) -> String {
        let name = names.free(&table.schema, &(made.wished)(table));
        let on = sql_name(&table.schema, &table.name);
        let (unique, tail) = (if made.unique { "UNIQUE " } else { "" }, made.tail);
        let exists = if made.may_exist { "IF NOT EXISTS " } else { "" };
        let partitioned = table.kind == Kind::Partitioned;
        match made.constraint {
            // Neither is an index of a partitioned table built concurrently, nor can a constraint take it over.
            Some(constraint) if partitioned => lines.push(format!(
                "ALTER TABLE ONLY {on} ADD CONSTRAINT {} {constraint};",
                quoted(&name)
            )),
            _ if partitioned => lines.push(format!(
                "CREATE {unique}INDEX {exists}{} ON ONLY {on} {tail};",
                quoted(&name)
            )),
            _ => lines.push(format!(
                "CREATE {unique}INDEX CONCURRENTLY {exists}{} ON {on} {tail};",
                quoted(&name)
            )),
        }
        if let (Some(constraint), false) = (made.constraint, partitioned) {
            let kind = if constraint.starts_with("PRIMARY") {
                "PRIMARY KEY"
            } else {
                "UNIQUE"
            };
            lines.push(format!(
                "ALTER TABLE {on} ADD CONSTRAINT {0} {kind} USING INDEX {0};",
                quoted(&name)
            ));
        }
        let own = sql_name(&table.schema, &name);
        for partition in self.partitions(table.id) {
            self.build(made, partition, Some(&own), names, lines);
        }
        if let Some(parent) = parent {
            lines.push(format!("ALTER INDEX {parent} ATTACH PARTITION {own};"));
        }
        name
    }
}

/// An index that is to be built.
pub(super) struct Made<'m> {
    /// What it should be called on a table.
    pub(super) wished: &'m dyn Fn(&Table) -> String,
    /// What stands behind the table's name.
    pub(super) tail: &'m str,
    /// It lets no two equal keys in.
    pub(super) unique: bool,
    /// The constraint that it carries out, as `ADD CONSTRAINT name` of a partitioned table takes it.
    pub(super) constraint: Option<&'m str>,
    /// Another finding proposes the same one.
    pub(super) may_exist: bool,
}

/// Names that are free, each given out once.
pub(super) struct Names<'a> {
    facts: &'a Facts,
    taken: Option<HashSet<(&'a str, &'a str)>>,
    given: HashSet<(String, String)>,
}

impl<'a> Names<'a> {
    pub(super) fn new(facts: &'a Facts) -> Self {
        Self {
            facts,
            taken: None,
            given: HashSet::new(),
        }
    }

    /// A name that nothing of the schema has, made of `wished`.
    pub(super) fn free(&mut self, schema: &str, wished: &str) -> String {
        let facts = self.facts;
        let taken = self.taken.get_or_insert_with(|| {
            let indexes = facts.indexes.iter();
            let indexes = indexes.map(|index| (&*index.schema, &*index.name));
            let tables = facts.tables.values();
            let tables = tables.map(|table| (table.schema.as_str(), table.name.as_str()));
            let others = facts.other_names.iter();
            let others = others.map(|(schema, name)| (schema.as_str(), name.as_str()));
            indexes.chain(tables).chain(others).collect()
        });
        let mut name = cut(wished, "");
        let mut number = 0_u32;
        while taken.contains(&(schema, name.as_str()))
            || self.given.contains(&(schema.to_owned(), name.clone()))
        {
            number += 1;
            name = cut(wished, &number.to_string());
        }
        self.given.insert((schema.to_owned(), name.clone()));
        name
    }

    /// What was given out is free again: another finding's statements begin.
    pub(super) fn begin_anew(&mut self) {
        self.given.clear();
    }
}

/// The constraint that an index carries out, as `ADD CONSTRAINT name` takes it.
pub(super) fn constraint_definition(index: &Index) -> Option<&str> {
    index.definition.as_ref()?.constraint.as_deref()
}

/// What gives an index that was made anew what its definition does not hold.
fn marks(index: &Index) -> impl Iterator<Item = String> {
    let definition = index.definition.iter();
    definition.flat_map(|definition| definition.marks.iter().cloned())
}

/// What stands behind the table's name in the statement that makes an index.
pub(super) fn definition_tail<'i>(index: &'i Index, table: &Table) -> Option<&'i str> {
    let definition = &index.definition.as_ref()?.statement;
    // The server quotes a name only where it must.
    let spelled = |name: &str| [name.to_owned(), quoted(name)];
    let [schema, quoted_schema] = spelled(&table.schema);
    let [name, quoted_name] = spelled(&table.name);
    [
        format!(" {schema}.{name} USING "),
        format!(" {schema}.{quoted_name} USING "),
        format!(" {quoted_schema}.{name} USING "),
        format!(" {quoted_schema}.{quoted_name} USING "),
    ]
    .iter()
    .filter_map(|on| Some((definition.find(on)?, on.len())))
    .min()
    .and_then(|(at, length)| definition.get(at + length - "USING ".len()..))
}

/// `wished` and `tail`, as far as a name goes.
pub(super) fn cut(wished: &str, tail: &str) -> String {
    let mut end = wished.len().min(NAME - tail.len());
    while !wished.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &wished[..end])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::policy::hygiene::facts::Definition;

    #[test]
    fn a_long_name_is_cut_between_letters_and_given_out_once() {
        let facts = Facts::default();
        let mut names = Names::new(&facts);

        let first = names.free("public", &"ü".repeat(40));
        let second = names.free("public", &"ü".repeat(40));

        assert_eq!(first, "ü".repeat(31));
        assert_eq!(second, "ü".repeat(31) + "1");
    }

    #[rstest]
    #[case("CREATE INDEX i ON public.t USING btree (a)", "public", "t")]
    #[case(
        r#"CREATE INDEX i ON ONLY public."a USING b" USING btree (a)"#,
        "public",
        "a USING b"
    )]
    #[case(r#"CREATE INDEX "x USING y" ON "S".t USING btree (a)"#, "S", "t")]
    #[case(
        r#"CREATE UNIQUE INDEX " INDEX x ON ONLY y USING " ON "S"."q""q" USING btree (a)"#,
        "S",
        r#"q"q"#
    )]
    fn a_definition_goes_on_behind_its_table_whatever_names_there_are(
        #[case] definition: &str,
        #[case] schema: &str,
        #[case] name: &str,
    ) {
        let index = Index {
            definition: Some(Box::new(Definition {
                statement: definition.to_owned(),
                ..Definition::default()
            })),
            ..Index::default()
        };
        let table = Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
            ..Table::default()
        };

        assert_eq!(definition_tail(&index, &table), Some("USING btree (a)"));
    }
}
