//! What requests met at an endpoint: failures in a row eject it for a growing, bounded time.
