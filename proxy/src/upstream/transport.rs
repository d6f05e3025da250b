//! How the endpoints of an upstream are spoken to: protocol, TLS, PROXY protocol. Compiled once
//! per configuration on the control thread, which may read files.

use config::model;

/// Compiled from `protocol`, `tls` and `proxy_protocol`.
pub struct Transport {
    pub protocol: model::UpstreamProtocol,
    pub proxy_protocol: Option<model::ProxyProtocolVersion>,
}

impl Transport {
    pub fn compile(spec: &model::Upstream) -> Transport {
        Transport { protocol: spec.protocol, proxy_protocol: spec.proxy_protocol }
    }
}
