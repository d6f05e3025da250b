//! Every metric family in one struct.

pub struct Metrics {}
