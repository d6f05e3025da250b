//! Integration tests against the real binary. One test binary: only here does Cargo give
//! `CARGO_BIN_EXE_openclaw-edge`, and one link is faster than twenty.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod access_log;
mod acme_mock;
mod acme_real;
mod admin;
mod attempts;
mod backup;
mod bodies;
mod bulk;
mod certs_cli;
mod challenge;
mod cli;
mod desync;
mod dns;
mod docs;
mod drain;
mod exact;
mod filters;
mod grpc;
mod harness;
mod harness_acme;
mod headers;
mod health;
mod healthcheck;
mod http2;
mod http2_attacks;
mod limits;
mod pacing;
mod proxy_protocol;
mod rate_limits;
mod reload;
mod routing;
mod selftest;
mod slow;
mod smuggling;
mod socket_activation;
mod sse;
mod systemd;
mod tenants;
mod timeouts;
mod tls;
mod upstreams;
mod upstreams_cli;
mod websocket;
