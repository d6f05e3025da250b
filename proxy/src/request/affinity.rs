//! What binds a request to one endpoint: the hash key or the sticky cookie that its upstream asks
//! for.

use std::net::IpAddr;

use config::model::{self, Balance, HashKey};

use super::plan::Affinity;
use super::view::{FieldSource, HeadView};
use crate::http1::field::FieldId;
use crate::upstream::balance::key;
use crate::upstream::balance::sticky::StickyId;

/// `origin`: where the request really comes from.
pub fn affinity<F: FieldSource>(
    upstream: &model::Upstream,
    view: &HeadView<'_, F>,
    origin: IpAddr,
) -> Affinity {
    let sticky = upstream.sticky.as_ref().and_then(|sticky| {
        let value =
            cookie(&view.fields, sticky.name.as_bytes(), |value| StickyId::try_from(value).ok());
        value.flatten()
    });
    let key = match &upstream.balance {
        Balance::Hash(HashKey::ClientIp) => Some(match origin {
            IpAddr::V4(v4) => key(&v4.octets()),
            IpAddr::V6(v6) => key(&v6.octets()),
        }),
        Balance::Hash(HashKey::Path) => Some(key(view.path())),
        Balance::Hash(HashKey::Header(name)) => view.fields.find(name).map(key),
        Balance::Hash(HashKey::Cookie(name)) => cookie(&view.fields, name.as_bytes(), key),
        Balance::RoundRobin | Balance::LeastRequest | Balance::PeakEwma => None,
    };
    Affinity { key, sticky }
}

/// The value of the first cookie of this name (RFC 6265 §5.4; names are case-sensitive).
pub fn cookie<T>(fields: &impl FieldSource, name: &[u8], read: impl Fn(&[u8]) -> T) -> Option<T> {
    let mut found = None;
    fields.each(|id, _, list| {
        if id != FieldId::Cookie || found.is_some() {
            return;
        }
        found = list.split(|b| *b == b';').find_map(|pair| {
            let pair = pair.trim_ascii();
            let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
            Some(read(value))
        });
    });
    found
}
