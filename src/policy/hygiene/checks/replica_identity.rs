//! `replica-identity`: a publication publishes a table's deletes, and nothing tells its rows apart for the subscribers. The server
//! then refuses every DELETE and UPDATE, of sweeps too: grave for a table of a rule, worth knowing elsewhere.

use std::collections::HashMap;

use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, Severity,
        facts::{Identity, Table},
        sql_name,
        tree::Trees,
        words,
    },
    table::quoted,
};

/// So many statements are printed; those for further partitions look the same.
const STATEMENTS: usize = 20;

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    let mut rules: HashMap<u32, &str> = HashMap::new();
    for ruled in &context.ruled {
        let Some(table) = facts.tables.get(&ruled.table) else {
            continue;
        };
        for member in trees.family(table) {
            for leaf in trees.leaves(member) {
                rules.insert(leaf.id, &ruled.rule);
            }
        }
    }
    for head in trees.heads() {
        let leaves = trees.leaves(head);
        let mute: Vec<&Table> = leaves
            .iter()
            .copied()
            .filter(|leaf| leaf.detail.published.is_some())
            .collect();
        let Some(first) = mute.first() else {
            continue;
        };
        let at = if mute.len() == 1 { first } else { head };
        let rule = mute.iter().find_map(|leaf| rules.get(&leaf.id)).copied();
        findings.push(finding(facts, at, &mute, leaves.len(), rule));
    }
}

fn finding(facts: &Facts, at: &Table, mute: &[&Table], of: usize, rule: Option<&str>) -> Finding {
    let publication = mute
        .first()
        .and_then(|table| table.detail.published.as_deref())
        .unwrap_or_default();
    let mut evidence = format!(
        "publication {publication} publishes its deletes, and it has no replica identity (catalog): the server refuses them"
    );
    if of > 1 {
        let names: Vec<String> = mute.iter().map(|table| table.object()).collect();
        evidence.push_str(&format!(
            "; {} of {of} partitions: {}",
            mute.len(),
            words::some(&names, 3)
        ));
    }
    if let Some(rule) = rule {
        evidence.push_str(&format!("; rule {rule} cannot delete from it"));
    }
    let severity = if rule.is_some() {
        Severity::Critical
    } else {
        Severity::Info
    };
    Finding::new(
        Check::ReplicaIdentity,
        severity,
        at.object(),
        evidence,
        advice(facts, mute),
    )
}

fn advice(facts: &Facts, mute: &[&Table]) -> Advice {
    let (mut apply, mut undo, mut whole_rows) = (Vec::new(), Vec::new(), false);
    for table in mute.iter().take(STATEMENTS) {
        let name = sql_name(&table.schema, &table.name);
        let key = facts
            .total_keys
            .iter()
            .filter(|key| key.table == table.id && key.immediate)
            .min_by(|one, other| one.name.cmp(&other.name));
        let has_primary = facts
            .indexes
            .iter()
            .any(|index| index.table == table.id && index.primary && index.valid);
        let identity = match key {
            _ if has_primary && table.detail.identity != Identity::Default => "DEFAULT".to_owned(),
            Some(key) => format!("USING INDEX {}", quoted(&key.name)),
            None => {
                whole_rows = true;
                "FULL".to_owned()
            }
        };
        apply.push(format!("ALTER TABLE {name} REPLICA IDENTITY {identity};"));
        if let Some(before) = table.detail.identity.keyword() {
            undo.push(format!("ALTER TABLE {name} REPLICA IDENTITY {before};"));
        }
    }
    let text = if whole_rows {
        "give it a primary key; until then FULL works, at the price of whole old rows in the write-ahead log and of a search for each on the subscriber"
    } else {
        "let the primary or the unique key be the replica identity"
    };
    let undo = (!undo.is_empty()).then(|| undo.join("\n"));
    Advice::run(text, apply.join("\n"), undo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        RuledColumn,
        checks::made_up::*,
        facts::{Index, TotalKey},
    };

    fn published(mut table: Table) -> Table {
        table.detail.published = Some("all".to_owned());
        table
    }

    fn rule_on(table: u32) -> Context {
        Context {
            ruled: vec![RuledColumn {
                rule: "r".to_owned(),
                table,
                ..RuledColumn::default()
            }],
            ..Context::default()
        }
    }

    #[test]
    fn grave_for_a_table_of_a_rule_and_information_elsewhere() {
        let facts = tables([published(table(1, "ruled")), published(table(2, "other"))]);

        let findings = run(check, &facts, &rule_on(1));

        let found: Vec<_> = findings
            .iter()
            .map(|finding| (finding.object.as_str(), finding.severity))
            .collect();
        assert_eq!(
            found,
            [
                ("public.other", Severity::Info),
                ("public.ruled", Severity::Critical)
            ]
        );
        assert_eq!(
            findings[1].advice.apply.as_deref(),
            Some(r#"ALTER TABLE "public"."ruled" REPLICA IDENTITY FULL;"#)
        );
        assert_eq!(
            findings[1].advice.undo.as_deref(),
            Some(r#"ALTER TABLE "public"."ruled" REPLICA IDENTITY DEFAULT;"#)
        );
    }

    #[test]
    fn a_unique_key_over_columns_that_are_never_null_is_proposed() {
        let mut facts = tables([published(table(1, "t"))]);
        facts.total_keys = vec![TotalKey {
            table: 1,
            name: "t_a".to_owned(),
            immediate: true,
            ..TotalKey::default()
        }];

        let findings = run(check, &facts, &Context::default());

        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"ALTER TABLE "public"."t" REPLICA IDENTITY USING INDEX "t_a";"#)
        );
    }

    #[test]
    fn a_primary_key_that_is_there_is_used_again() {
        let mut silent = published(table(1, "t"));
        silent.detail.identity = Identity::Nothing;
        let mut facts = tables([silent]);
        facts.indexes = vec![Index {
            table: 1,
            primary: true,
            valid: true,
            ..Index::default()
        }];

        let findings = run(check, &facts, &Context::default());

        let advice = &findings[0].advice;
        assert_eq!(
            (advice.apply.as_deref(), advice.undo.as_deref()),
            (
                Some(r#"ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT;"#),
                Some(r#"ALTER TABLE "public"."t" REPLICA IDENTITY NOTHING;"#)
            )
        );
    }

    #[test]
    fn partitions_are_one_finding_and_the_only_one_is_named() {
        let mut facts = tables([
            parent(1, "p"),
            published(partition(2, "p1", 1)),
            published(partition(3, "p2", 1)),
        ]);
        assert_eq!(
            ids(&run(check, &facts, &rule_on(1))),
            ["replica-identity:public.p"]
        );

        facts.tables.insert(3, partition(3, "p2", 1));
        assert_eq!(
            ids(&run(check, &facts, &rule_on(1))),
            ["replica-identity:public.p1"]
        );
    }

    #[test]
    fn a_table_that_is_not_published_is_left_alone() {
        assert_eq!(run(check, &tables([table(1, "t")]), &rule_on(1)), []);
    }
}
