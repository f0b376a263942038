//! Tables whose rows lie in other tables: partitions and children.

use crate::conformance::case::Case;

/// `t` partitioned by `by`; `parts` makes its partitions; five rows, of which 1, 2 and 3 have expired.
fn partitioned(by: &str, parts: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int, at timestamptz, region text) PARTITION BY {by}; {parts};
         INSERT INTO t VALUES (1, {{old}}, 'eu'), (2, {{old}}, 'us'), (3, now() - interval '800 days', NULL), (4, {{new}}, 'eu'), (5, {{new}}, 'us')"
    ))
    .stays("4 5")
}

const BY_YEAR: &str = "DO $$ BEGIN
        EXECUTE format('CREATE TABLE t_old PARTITION OF t FOR VALUES FROM (%L) TO (%L)', now() - interval '500 days', now() - interval '100 days');
        EXECUTE format('CREATE TABLE t_new PARTITION OF t FOR VALUES FROM (%L) TO (%L)', now() - interval '100 days', now() + interval '9 days');
    END $$; CREATE TABLE t_rest PARTITION OF t DEFAULT";

/// `parent` with rows 1 (expired) and 2, its child `t` with 3 (expired) and 4.
const FAMILY: &str = "CREATE TABLE parent (id int, at timestamptz); CREATE TABLE t (extra text) INHERITS (parent);
    INSERT INTO parent VALUES (1, {old}), (2, {new}); INSERT INTO t VALUES (3, {old}, 'x'), (4, {new}, 'x')";

fn family() -> Case {
    Case::of(FAMILY).rows("SELECT id::text FROM parent")
}

cases! {
    by_range: partitioned("RANGE (at)", BY_YEAR);
    by_list: partitioned("LIST (region)", "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu'); CREATE TABLE t_rest PARTITION OF t DEFAULT");
    by_hash: partitioned("HASH (id)", "CREATE TABLE t_0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)");
    by_an_expression: partitioned("LIST ((id % 2))", "CREATE TABLE t_0 PARTITION OF t FOR VALUES IN (0); CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1)");
    on_two_levels: partitioned("LIST (region)", "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu') PARTITION BY HASH (id);
        CREATE TABLE t_eu_0 PARTITION OF t_eu FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE t_eu_1 PARTITION OF t_eu FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY LIST (region); CREATE TABLE t_none PARTITION OF t_rest FOR VALUES IN (NULL);
        CREATE TABLE t_rest_rest PARTITION OF t_rest DEFAULT");
    in_another_schema: partitioned("LIST (region)", "CREATE SCHEMA \"{schema_plain}.Other\"; CREATE TABLE \"{schema_plain}.Other\".\"T \"\"eu\"\"\" PARTITION OF t FOR VALUES IN ('eu');
        CREATE TABLE t_rest PARTITION OF t DEFAULT");
    attached_with_columns_in_another_order: partitioned("LIST (region)", "CREATE TABLE t_eu (region text, gone int, at timestamptz, id int);
        ALTER TABLE t_eu DROP gone; ALTER TABLE t ATTACH PARTITION t_eu FOR VALUES IN ('eu'); CREATE TABLE t_rest PARTITION OF t DEFAULT")
        .rule("{where: region = 'eu'}").stays("2 3 4 5");
    after_a_column_was_dropped: partitioned("LIST (region)", "ALTER TABLE t ADD gone int; CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu');
        ALTER TABLE t DROP gone; CREATE TABLE t_rest PARTITION OF t DEFAULT; ALTER TABLE t ADD late int DEFAULT 3")
        .rule("{where: late IS NULL}").setup_then("UPDATE t SET late = NULL WHERE id = 2").stays("1 3 4 5");
    without_partitions: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY RANGE (at)").stays("");
    with_empty_partitions: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2); INSERT INTO t VALUES (2, {old})").stays("");
    with_a_key_and_indexes: partitioned("LIST (id)", "CREATE TABLE t_a PARTITION OF t FOR VALUES IN (1, 2, 4); CREATE TABLE t_rest PARTITION OF t DEFAULT;
        ALTER TABLE t ADD PRIMARY KEY (id); CREATE INDEX ON t (at)");
    a_partition_alone: partitioned("LIST (region)", "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu'); CREATE TABLE t_rest PARTITION OF t DEFAULT")
        .rule("{table: t_eu}").stays("2 3 4 5");
    a_partitioned_part_alone: partitioned("LIST (region)", "CREATE TABLE part PARTITION OF t DEFAULT PARTITION BY LIST (region);
        CREATE TABLE t_eu PARTITION OF part FOR VALUES IN ('eu'); CREATE TABLE t_rest PARTITION OF part FOR VALUES IN ('us', NULL)")
        .rule("{table: part}").stays("4 5");
    a_hold_on_a_part_binds_a_rule_on_the_whole: partitioned("LIST (region)", "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu');
        CREATE TABLE t_rest PARTITION OF t DEFAULT").hold("{table: t_eu, where: id = 1}").stays("1 4 5");
    a_hold_on_the_whole_binds_a_rule_on_a_part: partitioned("LIST (region)", "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu');
        CREATE TABLE t_rest PARTITION OF t DEFAULT").rule("{table: t_eu}").hold("{where: id = 1}").stays("1 2 3 4 5");
    a_hold_on_a_sibling_binds_nothing: partitioned("LIST (region)", "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu');
        CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('us'); CREATE TABLE t_rest PARTITION OF t DEFAULT")
        .rule("{table: t_eu}").hold("{table: t_us}").stays("2 3 4 5");
    a_foreign_partition_refuses_the_rule: partitioned("LIST (region)", "CREATE TABLE t_rest PARTITION OF t DEFAULT").own_database()
        .setup_then("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
            CREATE FOREIGN TABLE t_far PARTITION OF t FOR VALUES IN ('far') SERVER files OPTIONS (filename '/dev/null')")
        .rows("SELECT id::text FROM t_rest").refused("NotSupported", "foreign table").stays("1 2 3 4 5");
    rights_on_the_whole_alone: partitioned("LIST (region)", "CREATE TABLE t_rest PARTITION OF t DEFAULT")
        .with_rights("GRANT SELECT, DELETE ON t TO {role}").refused("PermissionDenied", "t_rest, which holds rows of").stays("1 2 3 4 5");
    rights_that_lack_on_one_part: partitioned("LIST (region)", "CREATE TABLE t_rest PARTITION OF t DEFAULT")
        .with_rights("GRANT SELECT, DELETE ON t TO {role}; GRANT SELECT ON t_rest TO {role}").refused("PermissionDenied", "t_rest, which holds rows of").stays("1 2 3 4 5");
    row_security_of_one_part: partitioned("LIST (region)", "CREATE TABLE t_rest PARTITION OF t DEFAULT; ALTER TABLE t_rest ENABLE ROW LEVEL SECURITY")
        .with_rights("GRANT SELECT, DELETE ON t, t_rest TO {role}").refused("RowSecurity", "t_rest, which holds rows of").stays("1 2 3 4 5");
    rights_on_every_part: partitioned("LIST (region)", "CREATE TABLE t_rest PARTITION OF t DEFAULT")
        .with_rights("GRANT SELECT, DELETE ON t, t_rest TO {role}");

    a_parent_with_its_children: family().rule("{table: parent}").stays("2 4");
    a_child_without_its_parent: family().stays("1 2 4");
    a_grandchild_with_two_parents: family().setup_then("CREATE TABLE other (id int, at timestamptz); CREATE TABLE both_ () INHERITS (t, other);
        INSERT INTO both_ VALUES (5, {old}, 'x'), (6, {new}, 'x')").rule("{table: parent}").stays("2 4 6");
    a_child_without_its_parents_index: family().setup_then("CREATE INDEX ON parent (at); ANALYZE parent").rule("{table: parent}").stays("2 4");
    a_child_that_holds_are_on: family().rule("{table: parent}").hold("{where: extra = 'x'}")
        .refused("HoldUnresolved", "extra").stays("1 2 3 4");
    a_parent_that_holds_are_on: family().hold("{table: parent, where: id = 3}").stays("1 2 3 4");
    a_child_that_somebody_else_owns: family().rule("{table: parent}").with_rights("GRANT SELECT, DELETE ON parent TO {role}")
        .refused("PermissionDenied", "SELECT").stays("1 2 3 4");
    children_that_are_held_as_a_whole: family().rule("{table: parent}").hold("{}").untouched();
}
