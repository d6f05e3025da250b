//! Keeps what is wanted: orders, renews, retries, publishes.
