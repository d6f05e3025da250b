//! HTTP/2 to endpoints, against a real server in the same process.
