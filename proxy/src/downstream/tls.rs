//! The TLS side of a listener: one `ServerConfig` per policy, all on the same certificate table
//! and the same ticket keys (design.md #6).

use std::sync::Arc;

use config::model::{TlsPolicy, TlsVersion};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ProducesTickets;

use super::cert_table::{CertTable, ListenerCerts};

/// Plaintext that rustls holds for a client that does not read.
pub const MAX_TLS_BUFFER: usize = 32 * 1024;

/// A fresh set of ticket keys: made once per process.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

/// The configuration of a listener's handshakes.
pub fn server_config(
    policy: &TlsPolicy,
    http2: bool,
    certs: &Arc<CertTable>,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Arc<ServerConfig> {
    let versions: &[&rustls::SupportedProtocolVersion] = match policy.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let resolver = ListenerCerts {
        table: certs.clone(),
        default: policy.default_certificate.as_ref().map(|name| name.as_str().to_owned()),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
    // The provider has suites for both versions; a build without them would not have got here.
    let builder = match builder {
        Ok(builder) => builder,
        Err(_) => ServerConfig::builder_with_protocol_versions(rustls::DEFAULT_VERSIONS),
    };
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = match http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    config.ticketer = ticketer.clone();
    // Two would only serve clients that open connections in parallel, and cost every handshake.
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Arc::new(config)
}
