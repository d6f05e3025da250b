//! Sans-io HTTP/1.1: bytes in, bytes out. No sockets, no time, no allocation on the common path.
//!
//! Invariant: what leaves here is canonical (one Host, Content-Length xor `chunked`, CRLF only,
//! origin-form), whatever came in; whatever is ambiguous is an error, never a guess.

pub mod body;
pub mod chunked;
pub mod field;
pub mod fields;
pub mod framing;
pub mod head;
pub mod write;
