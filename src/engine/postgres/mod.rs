//! PostgreSQL 14 and newer, directly or through a connection pooler in transaction mode.

/// temp
pub struct Address {
    /// temp
    pub host: String,
}
impl Address {
    /// temp
    pub fn of(_: &str) -> Result<Self, super::EngineError> {
        todo!()
    }
}
impl std::fmt::Display for Address {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
/// temp
pub struct PostgresEngine;
impl PostgresEngine {
    /// temp
    pub fn new(_: super::DatabaseTarget) -> Result<Self, super::EngineError> {
        todo!()
    }
}
#[async_trait::async_trait]
impl super::Engine for PostgresEngine {
    async fn facts(&self) -> Result<super::DatabaseFacts, super::EngineError> {
        todo!()
    }
    async fn tables(
        &self,
        _: &[crate::policy::table::TableName],
    ) -> Result<Vec<Option<crate::policy::table::TableFacts>>, super::EngineError> {
        todo!()
    }
    async fn statistics(
        &self,
        _: &crate::policy::table::TableFacts,
        _: &str,
    ) -> Result<super::TableStatistics, super::EngineError> {
        todo!()
    }
    async fn count_rows(
        &self,
        _: &crate::policy::table::TableFacts,
    ) -> Result<u64, super::EngineError> {
        todo!()
    }
    async fn count_expired(
        &self,
        _: &crate::policy::plan::RulePlan,
    ) -> Result<u64, super::EngineError> {
        todo!()
    }
    async fn check_plan(
        &self,
        _: &crate::policy::plan::RulePlan,
    ) -> Result<(), super::EngineError> {
        todo!()
    }
    async fn open_sweep(
        &self,
        _: &crate::policy::plan::RulePlan,
        _: Option<super::Cursor>,
    ) -> Result<Box<dyn super::TableSweep>, super::EngineError> {
        todo!()
    }
    async fn close(&self) {
        todo!()
    }
}
