//! The TLS side of a listener: one `ServerConfig` per policy, all on the same certificate table
//! and the same ticket keys (design.md #6), and one for the CA that validates a name by TLS.

use std::io;
use std::sync::Arc;

use acme::challenge::{ALPN_PROTOCOL, Challenges};
use config::model::{TlsPolicy, TlsVersion};
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::cert_table::{CertTable, ListenerCerts};

/// Plaintext that rustls holds for a client that does not read.
pub const MAX_TLS_BUFFER: usize = 32 * 1024;

/// A fresh set of ticket keys: made once per process.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

/// A listener's handshakes.
pub struct ListenerTls {
    /// Everybody's.
    pub ordinary: Arc<ServerConfig>,
    /// A validating CA's, which offers `acme-tls/1` and nothing else (RFC 8737 §3).
    pub challenge: Arc<ServerConfig>,
}

/// The configurations of a listener's handshakes.
pub fn listener_tls(
    policy: &TlsPolicy,
    http2: bool,
    certs: &Arc<CertTable>,
    challenges: &Arc<Challenges>,
    ticketer: &Arc<dyn ProducesTickets>,
) -> ListenerTls {
    ListenerTls {
        ordinary: Arc::new(ordinary(policy, http2, certs, ticketer)),
        challenge: Arc::new(challenge(policy, challenges)),
    }
}

fn ordinary(
    policy: &TlsPolicy,
    http2: bool,
    certs: &Arc<CertTable>,
    ticketer: &Arc<dyn ProducesTickets>,
) -> ServerConfig {
    let resolver = ListenerCerts {
        table: certs.clone(),
        default: policy.default_certificate.as_ref().map(|name| name.as_str().to_owned()),
    };
    let mut config = builder(policy).with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = match http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    config.ticketer = ticketer.clone();
    // Two would only serve clients that open connections in parallel, and cost every handshake.
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

/// No session of it can be taken up again: the next handshake proves anew.
fn challenge(policy: &TlsPolicy, challenges: &Arc<Challenges>) -> ServerConfig {
    let resolver = ChallengeCerts(challenges.clone());
    let mut config = builder(policy).with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

fn builder(policy: &TlsPolicy) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let versions: &[&rustls::SupportedProtocolVersion] = match policy.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    // The provider has suites for both versions; a build without them would not have got here.
    match ServerConfig::builder_with_provider(provider).with_protocol_versions(versions) {
        Ok(builder) => builder,
        Err(_) => ServerConfig::builder_with_protocol_versions(rustls::DEFAULT_VERSIONS),
    }
}

/// The certificates of names that are being validated, for the CA only.
#[derive(Debug)]
struct ChallengeCerts(Arc<Challenges>);

impl ResolvesServerCert for ChallengeCerts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !only_validation(&hello) {
            return None;
        }
        self.0.alpn_certificate(hello.server_name()?)
    }
}

/// One handshake. A stream that [`is_validation`] is closed already.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &ListenerTls,
    challenges: &Challenges,
    io: S,
) -> io::Result<TlsStream<S>> {
    if challenges.alpn_pending() {
        // Boxed: rare, and larger than what every handshake needs.
        return Box::pin(accept_any(tls, challenges, io)).await;
    }
    TlsAcceptor::from(tls.ordinary.clone()).accept(io).await
}

/// The same while some name is being validated: the hello says whose handshake it is.
async fn accept_any<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &ListenerTls,
    challenges: &Challenges,
    io: S,
) -> io::Result<TlsStream<S>> {
    let begun = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
    let config = match validates(&begun.client_hello(), challenges) {
        true => &tls.challenge,
        // A CA that asks for a name that is not under way is refused there: no common protocol.
        false => &tls.ordinary,
    };
    let mut stream = begun.into_stream(config.clone()).await?;
    if is_validation(&stream) {
        // The certificate was the answer (RFC 8737 §3). The CA may be gone already.
        let _ = stream.shutdown().await;
    }
    Ok(stream)
}

fn validates(hello: &ClientHello<'_>, challenges: &Challenges) -> bool {
    only_validation(hello)
        && hello.server_name().is_some_and(|name| challenges.alpn_certificate(name).is_some())
}

/// Whether the client offers `acme-tls/1` and nothing else.
fn only_validation(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| {
        offered.next() == Some(ALPN_PROTOCOL) && offered.next().is_none()
    })
}

/// Whether a CA has validated a name by this connection, which is of no other use.
pub fn is_validation<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_PROTOCOL)
}

#[cfg(test)]
mod tests;
