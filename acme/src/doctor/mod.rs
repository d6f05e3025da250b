//! Why HTTP-01 would fail for a host, in one sentence, or that it will work.
