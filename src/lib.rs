//! retention-operator
