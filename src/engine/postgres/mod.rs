//! PostgreSQL 14 and newer, directly or through a connection pooler in transaction mode.
