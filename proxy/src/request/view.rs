//! What the pure steps read of a request head, whichever protocol brought it.

use std::borrow::Cow;

use super::cause::Rejection;
use super::grpc::is_grpc;
use crate::http1::field::FieldId;
use crate::http1::fields::{Fields, Twice};
use crate::http1::framing::BodyLength;
use crate::http1::head::{Expect, RequestHead};

/// A field is there twice that decides something.
const TWICE: Rejection = Rejection::bad("field_twice");

/// Access to the fields of a head; monomorphised per protocol.
pub trait FieldSource {
    /// Calls `each` for every field in order.
    fn each(&self, each: impl FnMut(FieldId, &[u8], &[u8]));

    /// The first field of a known kind.
    fn get(&self, id: FieldId) -> Option<&[u8]>;

    /// The first field of this lower-case name.
    fn find(&self, name: &str) -> Option<&[u8]>;

    /// The field of this lower-case name, which is of this kind, if it is there once; an error
    /// where it is there more often: of two, nobody knows which one others read.
    fn only(&self, id: FieldId, name: &str) -> Result<Option<&[u8]>, Rejection> {
        let mut count = 0u8;
        self.each(|other, written, _| {
            let same = other == id && written.eq_ignore_ascii_case(name.as_bytes());
            count = count.saturating_add(u8::from(same));
        });
        match count {
            0 => Ok(None),
            1 => Ok(self.find(name)),
            _ => Err(TWICE),
        }
    }

    /// Whether a Connection field nominates this field name.
    fn nominated(&self, name: &[u8]) -> bool;
}

/// An admitted request: every part checked, the host normalised.
pub struct HeadView<'a, F> {
    pub method: &'a str,
    /// Lower-case, without port and trailing dot.
    pub host: Cow<'a, str>,
    /// The authority as the client wrote it: what the endpoint gets as Host.
    pub authority: &'a [u8],
    /// Origin-form path and query, or `*` for OPTIONS.
    pub target: Cow<'a, [u8]>,
    pub http10: bool,
    pub body: BodyLength,
    pub expect: Expect,
    /// A WebSocket upgrade that may be passed on.
    pub websocket: bool,
    pub fields: F,
}

impl<F: FieldSource> HeadView<'_, F> {
    /// A gRPC call.
    pub fn is_grpc(&self) -> bool {
        self.fields.get(FieldId::ContentType).is_some_and(is_grpc)
    }
}

impl<F> HeadView<'_, F> {
    pub fn path(&self) -> &[u8] {
        split_target(&self.target).0
    }
}

/// Path and query (with its `?`, or empty).
pub fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'?', target) {
        Some(at) => target.split_at(at),
        None => (target, &[]),
    }
}

impl<'b, 's> FieldSource for Fields<'b, 's> {
    fn each(&self, mut each: impl FnMut(FieldId, &[u8], &[u8])) {
        for (id, name, value) in self.iter() {
            each(id, name.as_bytes(), value);
        }
    }

    fn get(&self, id: FieldId) -> Option<&[u8]> {
        Fields::get(self, id)
    }

    fn find(&self, name: &str) -> Option<&[u8]> {
        Fields::find(self, name)
    }

    fn only(&self, id: FieldId, name: &str) -> Result<Option<&[u8]>, Rejection> {
        Fields::only(self, id, name).map_err(|Twice| TWICE)
    }

    fn nominated(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| Fields::nominated(self, name))
    }
}

/// What is left of a request head after admission that the HTTP/1.1 driver needs itself.
pub fn wants_keep_alive(head: &RequestHead<'_, '_>) -> bool {
    if head.http10 { head.connection.keep_alive } else { !head.connection.close }
}
