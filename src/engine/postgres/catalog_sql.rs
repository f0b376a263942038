//! The catalog's queries: set-based over arrays of oids, no `information_schema`, no name resolved by a cast.

/// `$1`, `$2`: schemas and names. One row for each that exists; `n` is its place, from 1.
pub(super) const RESOLVE: &str = "\
SELECT want.n::int8 AS n, c.oid AS id, n.nspname::text AS schema, c.relname::text AS name, \
  c.relkind::text AS kind, c.relpersistence::text AS persistence, \
  n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator') OR EXISTS ( \
    SELECT FROM pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS system \
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS want(schema, name, n) \
JOIN pg_namespace n ON n.nspname = want.schema \
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.name";

/// `$1`: roots. Each root itself and everything below it, partitioned ones included.
pub(super) const TREE: &str = "\
WITH RECURSIVE tree(root, id, pending) AS ( \
  SELECT r, r, false FROM unnest($1::oid[]) AS r \
  UNION \
  SELECT tree.root, i.inhrelid, tree.pending OR i.inhdetachpending FROM tree JOIN pg_inherits i ON i.inhparent = tree.id) \
SELECT tree.root, c.oid AS id, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, \
  c.relpersistence::text AS persistence, bool_or(tree.pending) AS pending, c.reltuples::float8 AS rows, c.relpages::int8 AS rows_of_pages, \
  greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) IS NOT NULL AS counted, \
  pg_stat_get_mod_since_analyze(c.oid)::int8 AS changed, pg_stat_get_live_tuples(c.oid)::int8 AS live, \
  coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false) AS may_select, \
  coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'DELETE'), false) AS may_delete, \
  coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'UPDATE'), false) AS may_lock, \
  row_security_active(c.oid) AS row_security \
FROM tree JOIN pg_class c ON c.oid = tree.id JOIN pg_namespace n ON n.oid = c.relnamespace \
GROUP BY tree.root, c.oid, n.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.reltuples, c.relpages";

/// `$1`: tables. Sizes; `exact` is false for one that somebody locks against everybody (the size functions would wait
/// for VACUUM FULL to end), whose numbers are then those of the last VACUUM or ANALYZE.
pub(super) const SIZES: &str = "\
WITH locked AS MATERIALIZED ( \
  SELECT DISTINCT l.relation FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
  WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND d.datname = current_database()) \
SELECT c.oid AS id, l.relation IS NULL AS exact, \
  CASE WHEN l.relation IS NULL THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE c.relpages::int8 END AS pages, \
  CASE WHEN l.relation IS NULL THEN pg_total_relation_size(c.oid) \
       ELSE c.relpages::int8 * current_setting('block_size')::int8 END AS bytes \
FROM pg_class c LEFT JOIN locked l ON l.relation = c.oid WHERE c.oid = ANY ($1)";

/// `$1`: tables. Their columns in order, domains followed down to what they are made of.
pub(super) const COLUMNS: &str = "\
WITH RECURSIVE base(start, id) AS ( \
  SELECT DISTINCT a.atttypid, a.atttypid FROM pg_attribute a WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped \
  UNION ALL \
  SELECT base.start, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.id WHERE t.typtype = 'd') \
SELECT a.attrelid AS root, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type_name, t.oid AS base, \
  t.typtype = 'e' AS is_enum, t.typtype = 'c' AS has_fields, coalesce(l.collisdeterministic, true) AS deterministic \
FROM pg_attribute a JOIN base ON base.start = a.atttypid JOIN pg_type t ON t.oid = base.id AND t.typtype <> 'd' \
LEFT JOIN pg_collation l ON l.oid = a.attcollation \
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

/// `$1`: tables. Foreign keys that refer to them, with the clones that partitioning makes; `off` is a trigger that should do what the
/// key says of deletes and does not fire, `enforced` a column that 18 brought.
pub(super) const INCOMING: &str = "\
SELECT k.oid AS id, k.conparentid AS parent, k.conname::text AS name, k.confrelid AS referred, k.conrelid AS referrer, \
  n.nspname::text AS schema, c.relname::text AS table_name, c.relkind = 'p' AS partitioned, k.confdeltype::text AS on_delete, \
  coalesce((to_jsonb(k) ->> 'conenforced')::bool, true) AS enforced, rn.nspname::text AS off_schema, r.relname::text AS referred_name, \
  (SELECT min(t.tgname::text) FROM pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgrelid = k.confrelid \
     AND (t.tgtype & 8) <> 0 AND t.tgenabled NOT IN ('O', 'A')) AS off \
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace \
WHERE k.contype = 'f' AND k.confrelid = ANY ($1) ORDER BY k.oid";

/// `$1`: foreign keys that set columns when a row is deleted. Those whose change of a column goes further: another key that refers to
/// the column, or to one that is generated, has an `ON UPDATE`, or should keep it from being changed and is switched off; or the column
/// decides about the row's partition: a row that moves is deleted where it was, with whatever refers to it there. 15 brought lists of
/// columns to be set.
pub(super) const SPREADING: &str = "\
SELECT k.oid AS id FROM pg_constraint k CROSS JOIN LATERAL (SELECT coalesce( \
  (SELECT array_agg(c::int2) FROM jsonb_array_elements_text(nullif(to_jsonb(k) -> 'confdelsetcols', 'null'::jsonb)) AS c), \
  k.conkey) AS columns) AS s \
WHERE k.oid = ANY ($1) AND (EXISTS ( \
  SELECT FROM pg_constraint u WHERE u.confrelid = k.conrelid AND u.contype = 'f' \
    AND (u.confkey && s.columns OR EXISTS (SELECT FROM pg_attribute g \
      WHERE g.attrelid = k.conrelid AND g.attnum = ANY (u.confkey) AND g.attgenerated <> '')) \
    AND (u.confupdtype NOT IN ('a', 'r') OR EXISTS (SELECT FROM pg_trigger t \
      WHERE t.tgconstraint = u.oid AND t.tgrelid = u.confrelid AND (t.tgtype & 16) <> 0 AND t.tgenabled NOT IN ('O', 'A')))) \
  OR EXISTS (SELECT FROM pg_partition_ancestors(k.conrelid) AS a JOIN pg_partitioned_table p ON p.partrelid = a.relid \
    WHERE 0 = ANY (p.partattrs) OR EXISTS ( \
      SELECT FROM pg_attribute c JOIN pg_attribute d ON d.attrelid = p.partrelid AND d.attname = c.attname \
      WHERE c.attrelid = k.conrelid AND c.attnum = ANY (s.columns) AND d.attnum = ANY (p.partattrs))))";

macro_rules! published {
    ($by_schema:literal) => {
        concat!(
            "WITH RECURSIVE up(leaf, id) AS ( \
               SELECT l, l FROM unnest($1::oid[]) AS l \
               UNION \
               SELECT up.leaf, i.inhparent FROM up JOIN pg_class c ON c.oid = up.id AND c.relispartition \
               JOIN pg_inherits i ON i.inhrelid = up.id) \
             SELECT up.leaf, min(p.pubname::text) AS publication \
             FROM up JOIN pg_class a ON a.oid = up.id JOIN pg_class c ON c.oid = up.leaf \
             JOIN pg_publication p ON p.pubdelete AND (p.puballtables \
               OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = up.id)",
            $by_schema,
            ") WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.relreplident <> 'f' \
               AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisvalid AND x.indisunique AND x.indimmediate \
                 AND ((c.relreplident = 'd' AND x.indisprimary) OR (c.relreplident = 'i' AND x.indisreplident))) \
             GROUP BY up.leaf"
        )
    };
}

/// `$1`: leaves. Those whose deletes are published without a replica identity, by themselves or by a table above them.
pub(super) const PUBLISHED_14: &str = published!("");
/// As [`PUBLISHED_14`], with the publications of whole schemas that 15 brought.
pub(super) const PUBLISHED_15: &str = published!(
    " OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = a.relnamespace)"
);

/// `$1`: tables. Rules that change what a DELETE does.
pub(super) const DELETE_RULES: &str = "\
SELECT r.ev_class AS id, min(r.rulename::text) AS name FROM pg_rewrite r \
WHERE r.ev_class = ANY ($1) AND r.ev_type = '4' AND r.ev_enabled <> 'D' GROUP BY r.ev_class";

/// Of a `pg_trigger t`: the server did not make it for a constraint. Up to PostgreSQL 14 the triggers that a partition has from its
/// table are internal ones, too.
macro_rules! of_the_service {
    () => {
        "(NOT t.tgisinternal OR t.tgfoid NOT IN ('pg_catalog.unique_key_recheck'::pg_catalog.regproc, \
         'pg_catalog.\"RI_FKey_check_ins\"'::pg_catalog.regproc, 'pg_catalog.\"RI_FKey_check_upd\"'::pg_catalog.regproc, \
         'pg_catalog.\"RI_FKey_noaction_del\"'::pg_catalog.regproc, 'pg_catalog.\"RI_FKey_noaction_upd\"'::pg_catalog.regproc, \
         'pg_catalog.\"RI_FKey_restrict_del\"'::pg_catalog.regproc, 'pg_catalog.\"RI_FKey_restrict_upd\"'::pg_catalog.regproc, \
         'pg_catalog.\"RI_FKey_cascade_del\"'::pg_catalog.regproc, 'pg_catalog.\"RI_FKey_cascade_upd\"'::pg_catalog.regproc, \
         'pg_catalog.\"RI_FKey_setnull_del\"'::pg_catalog.regproc, 'pg_catalog.\"RI_FKey_setnull_upd\"'::pg_catalog.regproc, \
         'pg_catalog.\"RI_FKey_setdefault_del\"'::pg_catalog.regproc, 'pg_catalog.\"RI_FKey_setdefault_upd\"'::pg_catalog.regproc))"
    };
}
pub(super) use of_the_service;

/// `$1`: leaves. Triggers of users that fire on DELETE.
pub(super) const DELETE_TRIGGERS: &str = concat!(
    "SELECT t.tgrelid AS id, t.tgname::text AS name FROM pg_trigger t WHERE t.tgrelid = ANY ($1) AND ",
    of_the_service!(),
    " AND t.tgenabled IN ('O', 'A') AND (t.tgtype & 8) <> 0 ORDER BY t.tgname"
);

/// `$1`: tables. First columns of valid, total b-trees.
pub(super) const LEADING: &str = "\
SELECT x.indrelid AS id, x.indexrelid AS index, a.attname::text AS name FROM pg_index x \
JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam AND m.amname = 'btree' \
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] \
WHERE x.indrelid = ANY ($1) AND x.indisvalid AND x.indisready AND x.indpred IS NULL AND x.indkey[0] > 0 ORDER BY 3, 2";

/// The server's version as a number, such as 150018.
pub(super) const VERSION: &str = "SELECT current_setting('server_version_num')::int4 AS version";

/// `$1`: constraints. What their rows are compared by: the operator that the server itself uses for them, and what it needs to be
/// the same one in a statement of ours (types that differ from the operator's, collations that differ from each other).
pub(super) const KEY_COLUMNS: &str = "\
SELECT k.oid AS id, p.attname::text AS referred, f.attname::text AS referring, \
  os.nspname::text AS operator_schema, o.oprname::text AS operator, \
  CASE WHEN o.oprleft <> p.atttypid THEN ls.nspname::text END AS left_schema, l.typname::text AS left_type, \
  CASE WHEN o.oprright <> f.atttypid THEN rs.nspname::text END AS right_schema, r.typname::text AS right_type, \
  CASE WHEN p.attcollation <> f.attcollation THEN cs.nspname::text END AS collation_schema, c.collname::text AS collation \
FROM pg_constraint k \
CROSS JOIN LATERAL unnest(k.confkey, k.conkey, k.conpfeqop) WITH ORDINALITY AS u(referred, referring, operator, n) \
JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.referred \
JOIN pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = u.referring \
JOIN pg_operator o ON o.oid = u.operator JOIN pg_namespace os ON os.oid = o.oprnamespace \
JOIN pg_type l ON l.oid = o.oprleft JOIN pg_namespace ls ON ls.oid = l.typnamespace \
JOIN pg_type r ON r.oid = o.oprright JOIN pg_namespace rs ON rs.oid = r.typnamespace \
LEFT JOIN pg_collation d ON d.oid = p.attcollation \
LEFT JOIN pg_collation c ON c.oid = CASE WHEN d.collisdeterministic THEN f.attcollation ELSE p.attcollation END \
LEFT JOIN pg_namespace cs ON cs.oid = c.collnamespace \
WHERE k.oid = ANY ($1) ORDER BY k.oid, u.n";
