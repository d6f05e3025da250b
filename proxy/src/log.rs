//! Access-log sink: a bounded queue and one thread that writes to stdout. A worker never waits.

/// Handle for workers; cheap to share by reference.
pub struct Sink {}
