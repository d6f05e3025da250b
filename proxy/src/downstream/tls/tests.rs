//! Handshakes in memory: what a validating CA and what everybody else is shown.

use std::collections::HashMap;
use std::time::Duration;

use acme::challenge::alpn_certificate;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::super::cert_table::Certs;
use super::super::cert_table::testing::entry;
use super::*;

const HOST: &str = "app.openclaw.example";
const DIGEST: [u8; 32] = [42; 32];

/// A listener with an ordinary certificate for [`HOST`].
struct Server {
    tls: ListenerTls,
    challenges: Arc<Challenges>,
    certificate: Arc<CertifiedKey>,
}

impl Server {
    fn new() -> Server {
        let (certs, challenges) = (Arc::new(CertTable::new()), Arc::new(Challenges::default()));
        let entry = entry(HOST, false);
        let certificate = entry.key.clone();
        certs.publish(Certs::new([Arc::new(entry)]));
        let policy = TlsPolicy { min_version: TlsVersion::Tls12, default_certificate: None };
        let tls = listener_tls(&policy, true, &certs, &challenges, &ticketer().unwrap());
        Server { tls, challenges, certificate }
    }

    fn validate(&self, host: &str) -> Arc<CertifiedKey> {
        let certificate = Arc::new(alpn_certificate(host, DIGEST).unwrap());
        self.challenges.offer_alpn(host, certificate.clone()).unwrap();
        certificate
    }

    /// Both ends of one handshake for [`HOST`].
    async fn meet(&self, client: &ClientConfig) -> (io::Result<Near>, io::Result<Far>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from(HOST).unwrap();
        let connect = TlsConnector::from(Arc::new(client.clone())).connect(name, near);
        tokio::join!(connect, accept(&self.tls, &self.challenges, far))
    }

    /// A handshake that both sides finish.
    async fn met(&self, client: &ClientConfig) -> (Near, Far) {
        let (near, far) = self.meet(client).await;
        (near.unwrap(), far.unwrap())
    }
}

type Near = client::TlsStream<DuplexStream>;
type Far = TlsStream<DuplexStream>;

/// A CA looks at the certificate itself, which no chain leads to.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client(offered: &[&str], version: &'static SupportedProtocolVersion) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|p| p.as_bytes().to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

fn ca(version: &'static SupportedProtocolVersion) -> ClientConfig {
    client(&["acme-tls/1"], version)
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

fn shown(stream: &Near) -> &CertificateDer<'static> {
    &stream.get_ref().1.peer_certificates().unwrap()[0]
}

/// What comes until the other side closes. Fails if it does not.
async fn rest(stream: &mut Near) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
    bytes
}

fn refused(met: (io::Result<Near>, io::Result<Far>)) {
    let (near, far) = (met.0.unwrap_err(), met.1.unwrap_err());
    let inner = |error: &io::Error| error.get_ref().unwrap().downcast_ref::<Error>().cloned();
    let alert = AlertDescription::NoApplicationProtocol;
    assert_eq!(inner(&near), Some(Error::AlertReceived(alert)));
    assert_eq!(inner(&far), Some(Error::NoApplicationProtocol));
}

#[tokio::test]
async fn a_validating_ca_is_shown_its_certificate_and_then_the_door() {
    for version in VERSIONS {
        let server = Server::new();
        let certificate = server.validate(HOST);
        let (mut near, far) = server.met(&ca(version)).await;
        assert_eq!(near.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        assert_eq!(shown(&near), &certificate.cert[0]);
        assert!(is_validation(&far));
        assert_eq!(rest(&mut near).await, b"", "closed, with close_notify");
    }
}

#[tokio::test]
async fn a_validation_leaves_no_session_behind() {
    for version in VERSIONS {
        let server = Server::new();
        server.validate(HOST);
        for client in [ca(version), client(&["h2"], version)] {
            let kind = |stream: &Near| stream.get_ref().1.handshake_kind();
            let (mut near, far) = server.met(&client).await;
            drop(far);
            // Tickets are read with what follows the handshake.
            let _ = near.read_to_end(&mut Vec::new()).await;
            let (near, _far) = server.met(&client).await;
            let ordinary = client.alpn_protocols[0] == b"h2";
            assert_eq!(kind(&near) == Some(HandshakeKind::Resumed), ordinary, "{version:?}");
        }
    }
}

#[tokio::test]
async fn without_its_challenge_a_ca_is_refused_whatever_else_is_under_way() {
    for version in VERSIONS {
        let server = Server::new();
        refused(server.meet(&ca(version)).await);
        server.validate("api.openclaw.example");
        refused(server.meet(&ca(version)).await);
        server.validate(HOST);
        server.met(&ca(version)).await;
        server.challenges.done_alpn(HOST);
        refused(server.meet(&ca(version)).await);
    }
}

#[tokio::test]
async fn everybody_else_is_served_as_ever_meanwhile() {
    for version in VERSIONS {
        let server = Server::new();
        server.validate(HOST);
        for (offered, chosen) in [
            (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
            (&["http/1.1"], Some(b"http/1.1")),
            (&[], None),
            // No CA: it must offer one only.
            (&["acme-tls/1", "h2"], Some(b"h2")),
            (&["http/1.1", "acme-tls/1"], Some(b"http/1.1")),
        ] {
            let (near, far) = server.met(&client(offered, version)).await;
            assert_eq!(near.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
            assert_eq!(shown(&near), &server.certificate.cert[0], "{offered:?}");
            assert!(!is_validation(&far));
        }
    }
}

/// The deadline is around `accept` as a whole; nothing in it may end by itself on half a hello or
/// go on without its client.
#[tokio::test]
async fn half_a_hello_waits_and_a_lost_client_ends_it() {
    let server = Server::new();
    server.validate(HOST);
    let (mut near, far) = tokio::io::duplex(1024);
    let mut accepting = std::pin::pin!(accept(&server.tls, &server.challenges, far));
    near.write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(accepting.as_mut().poll(cx)));
    assert!(polled.await.is_pending());
    drop(near);
    assert!(accepting.await.is_err());
}

/// The resolver by itself, which nothing but the CA's hello may get past.
#[test]
fn the_challenge_configuration_resolves_for_a_ca_only() {
    let server = Server::new();
    server.validate(HOST);
    let hellos = HashMap::from([
        ("ca", (ca(VERSIONS[1]), true)),
        ("browser", (client(&["h2"], VERSIONS[1]), false)),
        ("both", (client(&["acme-tls/1", "h2"], VERSIONS[1]), false)),
    ]);
    for (who, (client, taken)) in hellos {
        let name = ServerName::try_from(HOST).unwrap();
        let mut near = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut far = rustls::ServerConnection::new(server.tls.challenge.clone()).unwrap();
        let mut hello = Vec::new();
        near.write_tls(&mut hello).unwrap();
        far.read_tls(&mut hello.as_slice()).unwrap();
        assert_eq!(far.process_new_packets().is_ok(), taken, "{who}");
    }
}
