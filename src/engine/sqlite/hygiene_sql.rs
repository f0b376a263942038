//! The queries behind the checks of a whole database. Each is about all tables at once: the schema is read from memory.

macro_rules! of_tables {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM pragma_table_list AS l ",
            $rest,
            " WHERE l.schema = 'main' AND l.type = 'table' \
               AND substr(lower(l.name), 1, 7) <> 'sqlite_' AND substr(l.name, 1, 19) <> 'retention_operator_' "
        )
    };
}

macro_rules! of_tables_ordered {
    ($columns:literal, $rest:literal, $order:literal) => {
        concat!(of_tables!($columns, $rest), "ORDER BY ", $order)
    };
}

/// Virtual tables, their shadows and views are of other types.
pub(super) const TABLES: &str = of_tables!("l.name, l.wr AS without_rowid", "");

/// Virtual tables, with the names of the modules that this program has.
pub(super) const VIRTUAL: &str = "
    SELECT name, sql, (SELECT group_concat(lower(m.name), ' ') FROM pragma_module_list AS m) AS modules
    FROM main.sqlite_schema WHERE type = 'table' AND rootpage = 0 AND typeof(sql) = 'text'";

/// Generated ones too.
pub(super) const COLUMNS: &str = of_tables_ordered!(
    "l.name AS table_name, x.cid, x.name, x.pk",
    "JOIN pragma_table_xinfo(l.name, 'main') AS x",
    "l.name, x.cid"
);

/// One row a column.
pub(super) const INDEXES: &str = of_tables_ordered!(
    "l.name AS table_name, i.name, i.\"unique\", i.origin, i.partial, s.sql, \
     x.cid, x.coll, x.\"desc\", x.key, \
     (SELECT count(*) FROM pragma_index_xinfo(i.name, 'main') AS e WHERE e.cid = -2 AND e.key = 1) AS expressions",
    "JOIN pragma_index_list(l.name, 'main') AS i JOIN pragma_index_xinfo(i.name, 'main') AS x \
     LEFT JOIN main.sqlite_schema AS s ON s.name = i.name AND s.type = 'index'",
    "l.name, i.seq, x.seqno"
);

/// One row a column.
pub(super) const FOREIGN_KEYS: &str = of_tables_ordered!(
    "l.name AS table_name, f.id, f.\"table\" AS referred, f.\"from\"",
    "JOIN pragma_foreign_key_list(l.name, 'main') AS f",
    "l.name, f.id, f.seq"
);

/// The table is made with the first table that has AUTOINCREMENT.
pub(super) const HAS_SEQUENCES: &str = "
    SELECT count(*) AS there FROM main.sqlite_schema WHERE type = 'table' AND name = 'sqlite_sequence'";

/// Anybody may write into that table; only whole numbers count.
pub(super) const SEQUENCES: &str = "
    SELECT name, seq AS last FROM main.sqlite_sequence WHERE typeof(name) = 'text' AND typeof(seq) = 'integer'";

/// The first number is that of the rows.
pub(super) const STATISTICS: &str = "
    SELECT tbl, stat FROM main.sqlite_stat1 WHERE typeof(tbl) = 'text' AND typeof(stat) = 'text'";
