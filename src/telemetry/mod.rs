//! What the operator tells about itself: logs and metrics. Names of policies and tables, never a secret.

pub mod logs;
pub mod metrics;
