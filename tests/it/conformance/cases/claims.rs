//! One policy per table, the holds of others, and the switch, as the ledger has them.

use crate::conformance::case::Case;

/// `t` with rows 1 (expired) and 3, in a database whose ledger another policy has written to.
fn table(more: &'static str) -> Case {
    Case::of("CREATE TABLE t (id int, at timestamptz); INSERT INTO t VALUES (1, {old}), (3, {new})")
        .own_database()
        .policy("{database: {secretRef: {name: db}, ledger: Auto}}")
        .with_ledger(more)
}

const OTHERS: &str = "INSERT INTO {ledger}claim (table_id, table_name, policy, rule, since) VALUES ({table_id}, '{table}', 'shop/other', 'logs', {now})";
const OWN: &str = "INSERT INTO {ledger}claim (table_id, table_name, policy, rule, since) VALUES ({table_id}, '{table}', 'conformance/case', 'r1', {now})";
const HOLD: &str = "INSERT INTO {ledger}hold (policy, name, table_name, since) VALUES ('shop/other', 'all', '{table}', {now})";
const HOLD_OF_ROWS: &str = "INSERT INTO {ledger}hold (policy, name, table_name, predicate, since) VALUES ('shop/other', 'one', '{table}', 'id = 1', {now})";
const BROKEN_HOLD: &str = "INSERT INTO {ledger}hold (policy, name, table_name, predicate, since) VALUES ('shop/other', 'one', '{table}', 'id +', {now})";

cases_everywhere! {
    a_table_of_another_policy: table(OTHERS).refused("TableClaimed", "shop/other");
    a_table_of_its_own: table(OWN).reported(1, 0, 0).stays("3");
    rows_that_another_policy_holds: table(HOLD_OF_ROWS).reported(0, 0, 0);
    a_table_that_another_policy_holds: table(HOLD).untouched();
    a_hold_of_another_policy_that_cannot_be_read: table(BROKEN_HOLD).refused("HoldUnresolved", "one of policy shop/other");
    a_ledger_of_another_version: table("UPDATE {ledger}meta SET version = 9").refused("LedgerRequired", "version 9");
    a_ledger_that_lacks_a_table: table("DROP TABLE {ledger}hold").refused("LedgerRequired", "drop");
    a_ledger_with_a_trigger_or_a_default: table("ALTER TABLE {ledger}lease ADD COLUMN more int DEFAULT 1").refused("LedgerRequired", "operator makes");
    a_ledger_with_nothing_in_it: table("").reported(1, 0, 0).stays("3");
}
