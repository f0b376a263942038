//! `never-analyzed`: a table with rows of whose values the planner knows nothing, so that its plans are guesses. So are the
//! figures of this audit.
//!
//! Autovacuum analyses tables, never a partitioned one as a whole: that ranks lower. An index that was built on a table tells the
//! catalog its rows and nothing else, as after a restore: then the absence of statistics counts, where the role may see them.

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{Kind, Table},
    sql_name,
    tree::Trees,
};

/// Below both, guesses of the planner cost nothing: autovacuum comes at 50 changed rows, and plans over few pages are alike.
const ROWS: u64 = 1_000;
const PAGES: u64 = 32;
/// So many statements are printed; those for further heirs look the same.
const STATEMENTS: usize = 20;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    for head in trees.tops() {
        let holders = trees.holders(head);
        let never: Vec<&Table> = holders
            .iter()
            .copied()
            .filter(|holder| is_never_analyzed(facts, holder))
            .collect();
        let Some(first) = never.first() else {
            let pages: u64 = holders.iter().map(|holder| holder.pages).sum();
            if head.kind == Kind::Partitioned && head.rows.is_none() && pages >= PAGES {
                let evidence = "its partitions were analysed, the partitioned table as a whole never (rows -1 in the catalog): autovacuum does not do that".to_owned();
                findings.push(finding(head, &[head], Severity::Info, evidence));
            }
            continue;
        };
        let mut evidence = evidence(first);
        if holders.len() > 1 {
            evidence = format!(
                "{} of the {} tables that hold its rows have no statistics, such as {}: {evidence}",
                never.len(),
                holders.len(),
                first.object()
            );
        }
        // ANALYZE of a partitioned table reaches the partitions, that of a parent does not reach its heirs.
        let reached = if head.kind == Kind::Partitioned {
            vec![head]
        } else {
            never
        };
        findings.push(finding(head, &reached, Severity::Warning, evidence));
    }
}

fn is_never_analyzed(facts: &Facts, table: &Table) -> bool {
    let detail = &table.detail;
    let pages = table.pages.max(detail.file_pages.unwrap_or(0));
    let is_worth_it = pages >= PAGES || detail.counters.live >= ROWS;
    if !is_worth_it || detail.analyzed_at.is_some() {
        return false;
    }
    if table.rows.is_none() {
        return true;
    }
    // Statistics that the role may not see are not absent.
    let may_see = detail.may_read && !detail.row_security;
    let columns = facts.columns.get(&table.id).map_or(&[][..], Vec::as_slice);
    let mut live = columns
        .iter()
        .filter(|column| !column.dropped && !column.is_virtual)
        .peekable();
    may_see && live.peek().is_some() && live.all(|column| column.sample.is_none())
}

fn evidence(table: &Table) -> String {
    let detail = &table.detail;
    let pages = table.pages.max(detail.file_pages.unwrap_or(0));
    let known = if table.rows.is_none() {
        "the catalog knows no number of rows (-1)"
    } else {
        "the catalog has no statistics of its columns, and no ANALYZE is recorded"
    };
    if pages > 0 {
        format!("{known}; {pages} pages")
    } else {
        known.to_owned()
    }
}

fn finding(table: &Table, reached: &[&Table], severity: Severity, evidence: String) -> Finding {
    let statements: Vec<String> = reached
        .iter()
        .take(STATEMENTS)
        .map(|table| format!("ANALYZE {};", sql_name(&table.schema, &table.name)))
        .collect();
    Finding::new(
        Check::NeverAnalyzed,
        severity,
        table.object(),
        evidence,
        Advice::run(
            "analyse it: a sample is read, reads and writes go on; then see why autovacuum did not (switched off, its counters lost in a crash, a table that was only just loaded)",
            statements.join("\n"),
            None,
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        checks::made_up::*,
        facts::{Column, Sample},
    };

    fn filled(mut table: Table) -> Table {
        table.detail.file_pages = Some(400);
        table.detail.may_read = true;
        table
    }

    fn column(sample: Option<Sample>) -> Column {
        Column {
            sample,
            ..Column::default()
        }
    }

    fn found(facts: &Facts) -> Vec<(String, Severity)> {
        run(check, facts, &Context::default())
            .into_iter()
            .map(|finding| (finding.object, finding.severity))
            .collect()
    }

    #[test]
    fn a_table_with_pages_that_was_never_analysed_is_found() {
        let facts = tables([filled(table(1, "t"))]);

        assert_eq!(found(&facts), [("public.t".to_owned(), Severity::Warning)]);
    }

    #[test]
    fn an_empty_or_small_table_is_not() {
        let mut small = table(2, "small");
        small.detail.file_pages = Some(1);

        assert_eq!(found(&tables([table(1, "empty"), small])), []);
    }

    #[test]
    fn a_restored_table_whose_index_counted_its_rows_has_no_statistics_all_the_same() {
        let mut restored = filled(table(1, "t"));
        restored.rows = Some(50_000.0);
        restored.pages = 400;
        let mut facts = tables([restored]);
        facts.columns.insert(1, vec![column(None), column(None)]);
        assert_eq!(found(&facts), [("public.t".to_owned(), Severity::Warning)]);

        facts
            .columns
            .insert(1, vec![column(None), column(Some(Sample::default()))]);
        assert_eq!(found(&facts), []);
    }

    #[test]
    fn statistics_that_the_role_may_not_see_are_not_missing() {
        for row_security in [true, false] {
            let mut hidden = filled(table(1, "t"));
            hidden.rows = Some(50_000.0);
            hidden.pages = 400;
            hidden.detail.row_security = row_security;
            hidden.detail.may_read = row_security;
            let mut facts = tables([hidden]);
            facts.columns.insert(1, vec![column(None)]);

            assert_eq!(found(&facts), []);
        }
    }

    #[test]
    fn a_partitioned_table_whose_partitions_were_analysed_ranks_lower() {
        let analysed = |mut table: Table| {
            table.rows = Some(10_000.0);
            table.pages = 100;
            table.detail.analyzed_at = Some("2026-11-20T00:00:00Z".parse().unwrap());
            table
        };
        let mut facts = tables([
            parent(1, "p"),
            analysed(partition(2, "p1", 1)),
            analysed(partition(3, "p2", 1)),
        ]);
        assert_eq!(found(&facts), [("public.p".to_owned(), Severity::Info)]);

        facts.tables.get_mut(&1).unwrap().rows = Some(20_000.0);
        assert_eq!(found(&facts), []);
    }

    #[test]
    fn heirs_are_counted_once_and_analysed_each() {
        let heir = |id, name| Table {
            inherits: Some(1),
            ..filled(table(id, name))
        };
        let facts = tables([table(1, "old"), heir(2, "old1"), heir(3, "old2")]);

        let findings = run(check, &facts, &Context::default());

        assert_eq!(ids(&findings), ["never-analyzed:public.old"]);
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some("ANALYZE \"public\".\"old1\";\nANALYZE \"public\".\"old2\";")
        );
    }

    #[test]
    fn partitions_are_counted_once() {
        let facts = tables([
            parent(1, "p"),
            filled(partition(2, "p1", 1)),
            filled(partition(3, "p2", 1)),
        ]);

        assert_eq!(found(&facts), [("public.p".to_owned(), Severity::Warning)]);
    }
}
