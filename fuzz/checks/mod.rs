//! What every input must satisfy, as plain functions: the fuzz targets call them, and proxy's
//! tests call them on the committed corpus (this folder is included there by path).

#![allow(clippy::panic)] // A panic is how a check fails.

pub mod basic_auth;
pub mod ca_answer;
pub mod certificate;
pub mod chunked;
pub mod config_file;
pub mod decide;
pub mod import;
pub mod proxy_protocol;
pub mod request_head;
pub mod response_head;
pub mod rewrite;
pub mod tenants;

/// One fuzz target.
pub type Check = fn(&[u8]);

/// Every target by the name of its corpus folder.
pub const ALL: [(&str, Check); 12] = [
    ("basic_auth", basic_auth::check),
    ("ca_answer", ca_answer::check),
    ("certificate", certificate::check),
    ("chunked", chunked::check),
    ("config_file", config_file::check),
    ("decide", decide::check),
    ("import", import::check),
    ("proxy_protocol", proxy_protocol::check),
    ("request_head", request_head::check),
    ("response_head", response_head::check),
    ("rewrite", rewrite::check),
    ("tenants", tenants::check),
];
