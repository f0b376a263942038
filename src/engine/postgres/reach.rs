//! The tables of others that deletes may reach, as expressions: what must not change about them, and what went from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::sql::literal;

/// Bits of a trigger's type.
const DELETE: u32 = 8;
const UPDATE: u32 = 16;

/// The tables that deletes may reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// What must not have changed when a chunk is committed, as an expression.
    pub(super) shape: Option<String>,
    /// The parts of those tables as far as they matter, as an expression: not to have changed either, but a part that comes or goes is
    /// a reason to plan anew.
    pub(super) parts: Option<String>,
    /// Rows deleted from those tables in this transaction and, not yet reported by this session, before: an expression.
    pub(super) gone: Option<String>,
    /// The tables whose rows `gone` counts.
    pub(super) counted: BTreeSet<u32>,
}

pub(super) fn oid_array<'a>(ids: impl IntoIterator<Item = &'a u32>) -> String {
    let ids: Vec<String> = ids.into_iter().map(u32::to_string).collect();
    format!("ARRAY[{}]::oid[]", ids.join(", "))
}

/// Names and types of columns, whose rows the role sees, and what would be done to rows below: keys that refer to the tables whose
/// rows go along (`referred`) or, where a change goes further, to those whose rows are changed (`altered`), and the triggers that
/// carry them out.
pub(super) fn shape(
    columns: &BTreeMap<u32, BTreeSet<String>>,
    referred: &BTreeSet<u32>,
    altered: &BTreeSet<u32>,
) -> String {
    let of_table: Vec<String> = columns
        .iter()
        .map(|(id, names)| {
            let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
            format!(
                "(a.attrelid = {id}::oid AND a.attname::text = ANY (ARRAY[{}]::text[]))",
                names.join(", ")
            )
        })
        .collect();
    let mut out = format!(
        "pg_catalog.concat_ws('|', \
         (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, \
            pg_catalog.row_security_active(c.oid)), ',' ORDER BY c.oid) \
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ({})), \
         (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', a.attrelid, a.attnum, a.attname, a.atttypid), ',' ORDER BY a.attrelid, a.attnum) \
          FROM pg_catalog.pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped AND ({}))",
        oid_array(columns.keys()),
        of_table.join(" OR "),
    );
    if !(referred.is_empty() && altered.is_empty()) {
        let (below, further) = (oid_array(referred), oid_array(altered));
        let both = oid_array(referred.union(altered));
        // By what depends on the tables: constraints have no index by the table that they refer to, and a catalog may hold very many.
        // Triggers would not do, as a key that is not enforced has none.
        let _ = write!(
            out,
            ", (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', k.oid, k.conrelid, k.confdeltype, k.confupdtype), ',' ORDER BY k.oid) \
             FROM pg_catalog.pg_constraint k WHERE k.oid = ANY (ARRAY(SELECT d.objid FROM pg_catalog.pg_depend d \
               WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY ({both}) \
               AND d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass)) \
             AND k.contype = 'f' AND (k.confrelid = ANY ({below}) \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint up WHERE up.oid = k.conparentid AND up.confrelid = ANY ({below})) \
             OR k.confrelid = ANY ({further}) AND k.confupdtype NOT IN ('a', 'r')))"
        );
    }
    // One after the other, so that each is looked up by the table: a catalog may hold very many triggers.
    for (tables, event) in [(referred, DELETE), (altered, UPDATE)] {
        if !tables.is_empty() {
            let _ = write!(
                out,
                ", (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', t.tgrelid, t.tgconstraint, t.tgenabled), ',' ORDER BY t.oid) \
                 FROM pg_catalog.pg_trigger t WHERE t.tgrelid = ANY ({}) AND t.tgconstrrelid <> 0 AND (t.tgtype & {event}) <> 0)",
                oid_array(tables)
            );
        }
    }
    out.push(')');
    out
}

/// The parts of the tables whose rows go along or are changed, and of all partitioned ones those that are being detached: whose rows
/// nobody sees.
pub(super) fn parts(partitioned: &BTreeSet<u32>, changed: &BTreeSet<u32>) -> String {
    format!(
        "(WITH RECURSIVE tree(root, parent, id, pending) AS (SELECT r, 0::oid, r, false FROM pg_catalog.unnest({}) AS r \
         UNION ALL SELECT tree.root, i.inhparent, i.inhrelid, i.inhdetachpending FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id) \
         SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', parent, id, pending), ',' ORDER BY root, parent, id) FROM tree \
         WHERE pending OR root = ANY ({}))",
        oid_array(partitioned),
        oid_array(changed)
    )
}

/// Rows deleted from `roots` and, where they are partitioned, from all their partitions.
pub(super) fn gone(roots: &[u32]) -> String {
    format!(
        "(WITH RECURSIVE reach(id) AS (SELECT pg_catalog.unnest({}) \
         UNION SELECT i.inhrelid FROM reach JOIN pg_catalog.pg_class c ON c.oid = reach.id AND c.relkind = 'p' \
         JOIN pg_catalog.pg_inherits i ON i.inhparent = reach.id) \
         SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(reach.id)), 0)::int8 FROM reach)",
        oid_array(roots)
    )
}
