//! retention-operator
fn main() {}
