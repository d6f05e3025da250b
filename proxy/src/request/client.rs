//! Who is on the other end of a client connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::view::FieldSource;
use crate::downstream::cert_table::CertEntry;
use crate::exchange::paced::PacerShelf;
use crate::http1::field::{FieldId, members};
use crate::upstream::proxy_protocol::ProxySource;

/// One client connection, as every request on it sees it.
pub struct Client {
    pub listener: usize,
    pub peer: IpAddr,
    /// `peer` as text: formatted once per connection.
    pub peer_text: Box<str>,
    peer_port: u16,
    /// Our end of the connection, where it is known.
    local: Option<SocketAddr>,
    pub tls: Option<TlsInfo>,
    /// Of the routes with `pacing` that its requests took.
    pub pacers: PacerShelf,
}

pub struct TlsInfo {
    /// `TLSv1.3`.
    pub version: &'static str,
    pub server_name: Option<Box<str>>,
    /// The certificate that was shown.
    pub certificate: Option<Arc<CertEntry>>,
}

impl Client {
    pub fn new(listener: usize, peer: SocketAddr, tls: Option<TlsInfo>) -> Client {
        let (peer, peer_port) = (peer.ip().to_canonical(), peer.port());
        let peer_text = peer.to_string().into();
        let pacers = PacerShelf::default();
        Client { listener, peer, peer_text, peer_port, local: None, tls, pacers }
    }

    /// With our end of the connection.
    pub fn at(self, local: io::Result<SocketAddr>) -> Client {
        Client { local: local.ok(), ..self }
    }

    /// What endpoints are told in a PROXY header.
    pub fn proxy_source(&self) -> Option<ProxySource> {
        let client = SocketAddr::new(self.peer, self.peer_port);
        Some(ProxySource { client, local: self.local? })
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether HSTS may be sent (RFC 6797 §7.2: on TLS only). Not with a placeholder certificate:
    /// who clicked its warning away would be held to https that nobody trusts yet.
    pub fn hsts_allowed(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.certificate.as_ref().is_none_or(|shown| !shown.placeholder))
    }

    /// Whether the certificate shown is valid for the host; always so on plaintext.
    pub fn certificate_covers(&self, host: &str) -> bool {
        let Some(tls) = &self.tls else { return true };
        tls.server_name.as_deref() == Some(host)
            || tls.certificate.as_ref().is_some_and(|shown| shown.covers(host))
    }

    /// Whether the peer's forwarding fields are believed.
    pub fn trusted(&self, proxies: &[IpNet]) -> bool {
        proxies.iter().any(|net| net.contains(&self.peer))
    }

    /// The address the request really comes from: the peer, or behind trusted proxies the
    /// right-most hop of X-Forwarded-For that is not trusted itself.
    pub fn origin(&self, fields: &impl FieldSource, proxies: &[IpNet]) -> IpAddr {
        let mut hops: Vec<Option<IpAddr>> = Vec::new();
        fields.each(|id, _, list| {
            if id == FieldId::XForwardedFor {
                hops.extend(members(list).map(address));
            }
        });
        let mut origin = self.peer;
        // A hop that is no address was not written by a proxy that we trust.
        for hop in hops.into_iter().rev().map_while(|hop| hop) {
            origin = hop;
            if !proxies.iter().any(|net| net.contains(&origin)) {
                break;
            }
        }
        origin
    }
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}
