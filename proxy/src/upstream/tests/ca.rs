//! A CA of its own, and a TLS server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::model::{EndpointAddress, UpstreamTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::lab::Lab;
use crate::request::cause::Rejection;
use crate::upstream::dial::{Speak, dial_for};
use crate::upstream::io::UpstreamIo;

pub const SECONDS: Duration = Duration::from_secs(20);

/// A CA, with its files.
pub struct Ca {
    pub issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Ca {
    pub fn new(name: &str) -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Ca { issuer, dir }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for `name`.
    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate, key }
    }

    pub fn trusting(&self) -> UpstreamTls {
        UpstreamTls {
            ca: Some(self.file("ca.pem")),
            certificate: None,
            server_name: None,
            insecure: false,
        }
    }
}

pub struct Leaf {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
}

/// A TLS server of one certificate.
pub struct Server {
    pub listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Server {
    pub async fn new(leaf: &Leaf, clients: Option<&Ca>, alpn: &[&str]) -> Server {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.issuer.der().clone()).unwrap();
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
        let mut config =
            builder.with_single_cert(vec![leaf.certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Server { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub fn lab(&self, tls: UpstreamTls) -> Lab {
        let address = EndpointAddress::Ip(self.listener.local_addr().unwrap());
        Lab::new(address, |spec| spec.tls = Some(tls))
    }

    pub async fn accept(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let (io, _) = self.listener.accept().await.unwrap();
        self.acceptor.accept(io).await
    }

    /// Both ends of one connection.
    pub async fn join(
        &self,
        lab: &Lab,
        speak: Speak,
    ) -> (Result<UpstreamIo, Rejection>, std::io::Result<TlsStream<TcpStream>>) {
        let timer = lab.timer(SECONDS);
        let shared = &lab.local.shared;
        let dialling = dial_for(speak, shared, &lab.endpoint, &lab.transport, None, &timer);
        tokio::join!(dialling, self.accept())
    }
}
