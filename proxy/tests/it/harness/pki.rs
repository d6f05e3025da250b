//! A CA of a test's own and certificates of it.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::Lab;

pub struct Pki {
    lab: Arc<Lab>,
    name: &'static str,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// PEM of the CA.
    pub ca: PathBuf,
}

/// A certificate in files.
pub struct Leaf {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Pki {
    pub fn new(lab: &Arc<Lab>, name: &'static str) -> Pki {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = lab.write(&format!("{name}.pem"), issuer.pem());
        Pki { lab: lab.clone(), name, issuer, ca }
    }

    /// For these names and addresses.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let file = format!("{}-{}", self.name, names.first().map_or("leaf", |name| name));
        let made = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        Leaf {
            chain: self.lab.write(&format!("{file}.pem"), made.pem()),
            key: self.lab.write(&format!("{file}.key"), key.serialize_pem()),
        }
    }

    /// A server with this certificate; `clients`: only those with a certificate of this CA.
    pub fn server(&self, leaf: &Leaf, alpn: &[&str], clients: Option<&Pki>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(pki) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(&pki.ca).unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_file_iter(&leaf.chain).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(&leaf.key).unwrap();
        let mut config = builder.with_single_cert(chain.collect(), key).unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
