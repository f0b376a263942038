//! The catalog's queries. Most take the name of one table.

/// What a name is. Names are compared to the letter, as everywhere in a policy.
pub(super) const RESOLVE: &str = "
    SELECT l.type, l.wr AS without_rowid
      FROM pragma_table_list(?1) AS l
     WHERE l.schema = 'main' AND l.name = ?1";

/// Columns, generated and hidden ones too, and whether their table is STRICT.
pub(super) const COLUMNS: &str = "
    SELECT name, type, pk, hidden,
           EXISTS (SELECT 1 FROM pragma_table_list(?1) AS l WHERE l.schema = 'main' AND l.strict) AS strict
      FROM pragma_table_xinfo(?1, 'main') ORDER BY cid";

/// A relation of any kind; SQLite compares its name without regard to case.
pub(super) const RELATION: &str = "
    SELECT type, strict FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";

/// Columns of a table, generated ones too, with what a row without them would get.
pub(super) const ALL_COLUMNS: &str = "
    SELECT name, type, \"notnull\" AS not_null, (dflt_value IS NOT NULL OR pk <> 0) AS filled, hidden IN (2, 3) AS generated,
           pk <> 0 AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk') AS is_rowid
      FROM pragma_table_xinfo(?1, 'main') ORDER BY cid";

/// Columns of indexes, in their order; of an expression the name is NULL.
pub(super) const INDEXES: &str = "
    SELECT l.name AS index_name, l.origin, l.partial, x.name, x.coll, x.key, x.desc
      FROM pragma_index_list(?1, 'main') AS l JOIN pragma_index_xinfo(l.name, 'main') AS x
     ORDER BY l.seq, x.seqno";

/// Triggers; SQLite compares the table's name without regard to case.
pub(super) const TRIGGERS: &str = "
    SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY name";

/// The columns of all foreign keys, and whether the referred one is generated. One that names no column refers to the primary key, which
/// cannot be.
pub(super) const FOREIGN_KEYS: &str = "
    SELECT l.name AS child, f.id, f.\"table\" AS parent, f.\"from\" AS referring, f.on_delete, f.on_update,
           f.on_delete = 'CASCADE' AS cascades,
           EXISTS (SELECT 1 FROM main.sqlite_schema AS s WHERE s.type IN ('table', 'view') AND s.name = f.\"table\" COLLATE NOCASE) AS there,
           EXISTS (SELECT 1 FROM pragma_table_xinfo(f.\"table\", 'main') AS g
                    WHERE g.name = f.\"to\" COLLATE NOCASE AND g.hidden IN (2, 3)) AS generated,
           coalesce(f.\"to\", (SELECT x.name FROM pragma_table_info(f.\"table\", 'main') AS x WHERE x.pk = f.seq + 1)) AS referred
      FROM pragma_table_list AS l JOIN pragma_foreign_key_list(l.name, 'main') AS f
     WHERE l.schema = 'main' AND l.type = 'table' ORDER BY l.name, f.id, f.seq";

/// Which of its tables ANALYZE has made.
pub(super) const HAS_STATISTICS: &str = "
    SELECT count(*) FILTER (WHERE name = 'sqlite_stat1') AS rows, count(*) FILTER (WHERE name = 'sqlite_stat4') AS samples
      FROM main.sqlite_schema WHERE type = 'table'";

/// Its first number is the number of rows; of a partial index it is that of the index's rows.
pub(super) const STATISTICS: &str = "
    SELECT stat FROM main.sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE";

/// The same of one index, `?2`.
pub(super) const INDEX_STATISTICS: &str = "
    SELECT stat FROM main.sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE AND idx = ?2";

/// Samples of an index, `?2`; the numbers are those of its columns, the first ones of the first column.
pub(super) const SAMPLES: &str = "
    SELECT neq, nlt, CAST(sample AS BLOB) AS sample FROM main.sqlite_stat4 WHERE tbl = ?1 COLLATE NOCASE AND idx = ?2";

/// Facts about the database itself. Tables of SQLite's own and of the ledger are not counted.
pub(super) const FACTS: &str = "
    SELECT sqlite_version() AS version,
           CAST(round(unixepoch('subsec') * 1000.0) AS INTEGER) AS now,
           (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size) AS size,
           (SELECT count(*) FROM pragma_table_list
             WHERE schema = 'main' AND type = 'table'
               AND substr(lower(name), 1, 7) <> 'sqlite_' AND substr(name, 1, 19) <> 'retention_operator_') AS tables";
