//! `invalid-index`.

use super::{findings, ids};
use crate::support::postgres::Postgres;

#[tokio::test]
async fn an_index_that_a_failed_build_left_is_found_and_a_good_one_is_not() {
    let database = Postgres::shared().database("invalid_index").await;
    database
        .execute("CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL); INSERT INTO t VALUES (1, 7), (2, 7)")
        .await;
    let mut connection = database.connect().await;
    let failed = sqlx::raw_sql("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)")
        .execute(&mut connection)
        .await;
    assert!(failed.is_err());

    let findings = findings(&database.url).await;

    let invalid: Vec<&str> = ids(&findings)
        .into_iter()
        .filter(|id| id.starts_with("invalid-index:"))
        .collect();
    assert_eq!(invalid, ["invalid-index:public.t.t_a"]);
}
