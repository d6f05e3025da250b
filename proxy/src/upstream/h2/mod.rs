//! HTTP/2 to endpoints: one stream of a shared connection, shown as an HTTP/1.1 connection.
