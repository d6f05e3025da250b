//! Ids of endpoints for the sticky cookie: they say which endpoint without showing its address.

use aws_lc_rs::digest;

use crate::upstream::endpoint::{Endpoint, Member};

/// Hex digits of an id.
pub const ID_LEN: usize = 16;

/// What stands in the cookie.
pub type StickyId = [u8; ID_LEN];

/// The first 16 hex digits of SHA-256 over the upstream's name, a zero byte and the endpoint's
/// text: the same on every node, another one in every upstream.
pub fn sticky_id(upstream: &str, endpoint: &Endpoint) -> [u8; ID_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(upstream.as_bytes());
    context.update(&[0]);
    context.update(endpoint.text.as_bytes());
    let digest = context.finish();
    let mut id = [0; ID_LEN];
    for (digits, byte) in id.chunks_exact_mut(2).zip(digest.as_ref()) {
        for (digit, half) in digits.iter_mut().zip([byte >> 4, byte & 0xf]) {
            *digit = if half < 10 { b'0' + half } else { b'a' + half - 10 };
        }
    }
    id
}

/// All ids of a set with positions, in order.
pub fn ids(upstream: &str, members: &[Member]) -> Box<[([u8; ID_LEN], u32)]> {
    let id = |(at, member): (usize, &Member)| (sticky_id(upstream, &member.endpoint), at as u32);
    let mut ids: Vec<_> = members.iter().enumerate().map(id).collect();
    ids.sort_unstable();
    ids.into()
}

/// The position of the endpoint with this id.
pub fn find(ids: &[([u8; ID_LEN], u32)], id: &[u8]) -> Option<usize> {
    let found = ids.binary_search_by(|(one, _)| one.as_slice().cmp(id)).ok()?;
    ids.get(found).map(|(_, at)| *at as usize)
}
