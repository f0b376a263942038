//! `constraint-not-validated`: a constraint that new rows keep and old ones were never held to. The planner does not believe it,
//! and rows that break it stay unseen.
//!
//! What a parent hands down is counted at the parent; the same key added to each partition by itself is counted once. A
//! constraint that is `NOT ENFORCED` cannot be validated and is left alone.

use std::collections::BTreeMap;

use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, Severity,
        facts::{ConstraintKind, Table, Unvalidated},
        part, sql_name,
        tree::Trees,
        words,
    },
    table::quoted,
};

/// So many statements are printed; those for further partitions look the same.
const STATEMENTS: usize = 20;

type Member<'a> = (&'a Table, &'a Unvalidated);

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    // The same constraint on several partitions of one table has a name of its own on each.
    let mut groups: BTreeMap<(u32, &'static str, Option<u32>), Vec<Member<'_>>> = BTreeMap::new();
    for constraint in &facts.unvalidated {
        let Some(table) = facts.tables.get(&constraint.table) else {
            continue;
        };
        let head = trees.head(table);
        if head.id == table.id {
            findings.push(finding(facts, table, &[(table, constraint)]));
        } else {
            groups
                .entry((head.id, constraint.kind.words(), constraint.referred))
                .or_default()
                .push((table, constraint));
        }
    }
    for ((head, _, _), mut members) in groups {
        members.sort_by(|one, other| {
            (&one.0.schema, &one.0.name, &one.1.name).cmp(&(
                &other.0.schema,
                &other.0.name,
                &other.1.name,
            ))
        });
        match (facts.tables.get(&head), members.as_slice()) {
            (Some(head), [_, _, ..]) => findings.push(finding(facts, head, &members)),
            (_, [(table, _)]) => findings.push(finding(facts, table, &members)),
            _ => {}
        }
    }
}

fn finding(facts: &Facts, at: &Table, members: &[Member<'_>]) -> Finding {
    let name = members.first().map_or("", |(_, first)| first.name.as_str());
    let kind = members
        .first()
        .map_or(ConstraintKind::Check, |(_, first)| first.kind);
    let referred = members
        .first()
        .and_then(|(_, first)| facts.tables.get(&first.referred?));
    let mut evidence = format!("{} added NOT VALID (catalog)", kind.words());
    if let Some(referred) = referred {
        evidence.push_str(&format!(", refers to {}", referred.object()));
    }
    if let [_, _, ..] = members {
        let tables: Vec<String> = members.iter().map(|(table, _)| table.object()).collect();
        evidence.push_str(&format!(
            "; on {} partitions: {}",
            members.len(),
            words::some(&tables, 3)
        ));
    }
    let statements: Vec<String> = members
        .iter()
        .take(STATEMENTS)
        .map(|(table, constraint)| {
            format!(
                "ALTER TABLE {} VALIDATE CONSTRAINT {};",
                sql_name(&table.schema, &table.name),
                quoted(&constraint.name)
            )
        })
        .collect();
    Finding::new(
        Check::ConstraintNotValidated,
        Severity::Warning,
        part(&at.schema, &at.name, name),
        evidence,
        Advice::run(
            "let the server check the old rows: it reads the table once, reads and writes go on meanwhile. Where a row breaks the constraint it says so and changes nothing. There is nothing to undo",
            statements.join("\n"),
            None,
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::checks::made_up::*;

    fn key(table: u32, name: &str, kind: ConstraintKind) -> Unvalidated {
        Unvalidated {
            table,
            name: name.to_owned(),
            kind,
            referred: (kind == ConstraintKind::ForeignKey).then_some(9),
        }
    }

    #[test]
    fn each_constraint_of_a_table_is_a_finding_with_its_statement() {
        let mut facts = tables([table(1, "t")]);
        facts.unvalidated = vec![
            key(1, "a check", ConstraintKind::Check),
            key(1, "t_fk", ConstraintKind::ForeignKey),
        ];

        let findings = run(check, &facts, &Context::default());

        assert_eq!(
            ids(&findings),
            [
                "constraint-not-validated:public.t.a check",
                "constraint-not-validated:public.t.t_fk"
            ]
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"ALTER TABLE "public"."t" VALIDATE CONSTRAINT "a check";"#)
        );
    }

    #[test]
    fn the_same_key_on_every_partition_is_one_finding() {
        let mut facts = tables([parent(1, "p"), partition(2, "p1", 1), partition(3, "p2", 1)]);
        facts.unvalidated = vec![
            key(3, "p2_fk", ConstraintKind::ForeignKey),
            key(2, "p1_fk", ConstraintKind::ForeignKey),
        ];

        let findings = run(check, &facts, &Context::default());

        assert_eq!(ids(&findings), ["constraint-not-validated:public.p.p1_fk"]);
        let apply = findings[0].advice.apply.as_deref().unwrap();
        assert_eq!(apply.lines().count(), 2, "{apply}");
    }

    #[test]
    fn the_only_partition_with_such_a_key_is_named() {
        let mut facts = tables([parent(1, "p"), partition(2, "p1", 1), partition(3, "p2", 1)]);
        facts.unvalidated = vec![key(3, "p2_fk", ConstraintKind::ForeignKey)];

        let findings = run(check, &facts, &Context::default());

        assert_eq!(ids(&findings), ["constraint-not-validated:public.p2.p2_fk"]);
    }
}
