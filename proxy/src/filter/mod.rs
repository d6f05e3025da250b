//! What a route makes of requests and responses besides forwarding them: cross-origin rules,
//! rewritten paths, security fields, the edge's own error pages, maintenance. Pure: data in, data
//! out.

pub mod accept;
pub mod cors;
pub mod maintenance;
pub mod page;
pub mod pages;
pub mod rewrite;
pub mod security;
