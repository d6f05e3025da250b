//! HTTP/2 to endpoints, against a real server in the same process.

mod bodies;
mod connections;
mod exchanges;
mod server;
mod websocket;
