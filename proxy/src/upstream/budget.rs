//! How many requests may be tried again.
