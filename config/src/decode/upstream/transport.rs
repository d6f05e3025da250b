//! How endpoints are spoken to: `protocol`, `tls`, `proxy_protocol`.

use super::super::{At, Cx, keys};
use crate::model::{ClientCertificate, ProxyProtocolVersion, UpstreamProtocol, UpstreamTls};
use crate::node::Node;
use crate::value::Name;

impl Cx<'_> {
    pub(super) fn upstream_protocol(
        &mut self,
        node: &Node,
        at: &At<'_>,
    ) -> Option<UpstreamProtocol> {
        let words = [("http1", UpstreamProtocol::Http1), ("http2", UpstreamProtocol::Http2)];
        self.word_or(node, at, &words, |text| match text.to_ascii_lowercase().as_str() {
            "h2" | "h2c" | "grpc" | "2" | "http/2" | "http2.0" | "http/2.0" => {
                Some("write `http2`; with `tls` it is HTTP/2 over TLS, else h2c")
            }
            "http" | "h1" | "1" | "1.1" | "http/1.1" | "http1.1" => Some("write `http1`"),
            "https" => Some("write `tls: {}` beside `endpoints`"),
            "grpcs" => Some("write `http2`, and `tls: {}` beside `endpoints`"),
            "ws" | "wss" | "websocket" => Some("WebSocket needs no switch: remove it"),
            "h3" | "http3" | "quic" => Some("endpoints are spoken to in HTTP/1.1 or HTTP/2"),
            _ => None,
        })
    }

    pub(super) fn upstream_tls(
        &mut self,
        upstream: &Name,
        node: &Node,
        at: &At<'_>,
    ) -> Option<UpstreamTls> {
        self.mapping(node, at, "write `{}`; plaintext has no `tls`")?;
        let fields = self.fields(node, at, &keys::UPSTREAM_TLS)?;
        let ca = self.field(&fields, "ca", Self::absolute_path);
        let certificate = self.field(&fields, "certificate", Self::client_certificate);
        let server_name = self.field(&fields, "server_name", Self::server_name);
        let insecure = self.field(&fields, "insecure", Self::boolean).unwrap_or(false);
        if insecure && fields.has("ca") {
            let message = "`ca` verifies certificates, `insecure: true` does not";
            let help = "remove `insecure`";
            self.error(fields.pos_of("insecure"), &at.key("insecure"), message, Some(help.into()));
        } else if insecure {
            let message = format!(
                "certificates of `{upstream}` are not verified: who is in between can read and \
                 change everything"
            );
            let help = "name the CA instead: `ca: /etc/ca.pem`";
            self.warn(fields.pos_of("insecure"), &at.key("insecure"), message, Some(help.into()));
        }
        Some(UpstreamTls { ca, certificate, server_name, insecure })
    }

    fn client_certificate(&mut self, node: &Node, at: &At<'_>) -> Option<ClientCertificate> {
        self.mapping(node, at, "write `{ chain: /etc/c.pem, key: /etc/c.key }`")?;
        let fields = self.fields(node, at, &keys::CLIENT_CERTIFICATE)?;
        let chain = self.required(&fields, "chain", Self::absolute_path);
        let key = self.required(&fields, "key", Self::absolute_path);
        Some(ClientCertificate { chain: chain?, key: key? })
    }

    /// A DNS name, or an address without brackets.
    fn server_name(&mut self, node: &Node, at: &At<'_>) -> Option<String> {
        let host = self.exact_host(node, at)?;
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        Some(address.unwrap_or(&host).to_owned())
    }

    /// `proxy_protocol` of an upstream: the version that is sent.
    pub(super) fn proxy_header(
        &mut self,
        node: &Node,
        at: &At<'_>,
    ) -> Option<ProxyProtocolVersion> {
        let words = [("v1", ProxyProtocolVersion::V1), ("v2", ProxyProtocolVersion::V2)];
        self.word_or(node, at, &words, |text| match text {
            "1" => Some("write `v1`"),
            "2" => Some("write `v2`"),
            "true" | "on" | "yes" => Some("write `v2` (binary), or `v1` (text)"),
            "false" | "off" | "no" => Some("remove it"),
            _ => None,
        })
    }
}
