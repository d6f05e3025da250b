//! How the endpoints of an upstream are spoken to: protocol, TLS, PROXY protocol. Compiled on the
//! control thread, which may read files; workers only read it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use config::model::{self, ProxyProtocolVersion, UpstreamProtocol, UpstreamTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::accept_any::AcceptAnyCertificate;
use super::endpoint::Endpoint;
use crate::request::cause::{Cause, Rejection};

/// Compiled from `protocol`, `tls` and `proxy_protocol`.
pub struct Transport {
    pub protocol: UpstreamProtocol,
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    tls: Option<Result<Tls, String>>,
    made_of: MadeOf,
}

/// A TLS client with its session cache, for all endpoints of the upstream.
struct Tls {
    config: Arc<ClientConfig>,
    /// `None`: each endpoint's own host.
    server_name: Option<ServerName<'static>>,
}

/// What a transport was compiled from: the same again is the same transport.
#[derive(PartialEq, Eq)]
struct MadeOf {
    tls: Option<UpstreamTls>,
    /// SHA-256 of the files, or of why they could not be read.
    files: Vec<u8>,
}

impl Transport {
    /// Reads the files of the spec. `previous` is returned where neither the spec nor the contents
    /// of its files have changed, so that sessions and connections stay. A file that cannot be
    /// used is no error here: it is logged, [`Transport::problem`] tells it, and every connection
    /// fails with `upstream_tls_failed`.
    pub fn compile(spec: &model::Upstream, previous: Option<&Arc<Transport>>) -> Arc<Transport> {
        let contents: Vec<Content> =
            Transport::files(spec).into_iter().map(Content::read).collect();
        let made_of = MadeOf { tls: spec.tls.clone(), files: fingerprint(&contents) };
        if let Some(previous) = previous
            && (previous.protocol, previous.proxy_protocol) == (spec.protocol, spec.proxy_protocol)
            && previous.made_of == made_of
        {
            return previous.clone();
        }
        let tls = spec.tls.as_ref().map(|tls| compile_tls(tls, &contents));
        if let Some(Err(problem)) = &tls {
            tracing::error!(upstream = %spec.name, %problem, "endpoints cannot be reached");
        }
        Arc::new(Transport {
            protocol: spec.protocol,
            proxy_protocol: spec.proxy_protocol,
            tls,
            made_of,
        })
    }

    /// The files that the spec names, for the watcher.
    pub fn files(spec: &model::Upstream) -> Vec<PathBuf> {
        spec.tls.as_ref().map(files).unwrap_or_default()
    }

    /// Why no TLS connection can be made; shown by `check` and the admin page. Holds paths, no
    /// contents.
    pub fn problem(&self) -> Option<&str> {
        match &self.tls {
            Some(Err(problem)) => Some(problem),
            _ => None,
        }
    }

    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// `:scheme` of requests.
    pub fn scheme(&self) -> http::uri::Scheme {
        if self.has_tls() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP }
    }

    /// The TLS client and the name in the endpoint's certificate; `None`: plaintext.
    #[allow(clippy::type_complexity)]
    pub fn client(
        &self,
        endpoint: &Endpoint,
    ) -> Option<Result<(Arc<ClientConfig>, ServerName<'static>), Rejection>> {
        let failed = |detail| Rejection { cause: Cause::UpstreamTlsFailed, detail };
        Some(match self.tls.as_ref()? {
            Err(_) => Err(failed("configuration")),
            Ok(tls) => match &tls.server_name {
                Some(name) => Ok((tls.config.clone(), name.clone())),
                None => ServerName::try_from(endpoint.host.to_string())
                    .map(|name| (tls.config.clone(), name))
                    .map_err(|_| failed("server_name")),
            },
        })
    }
}

/// A TLS client for whoever is no endpoint.
///
/// # Errors
/// A file cannot be used, or the system has no CA certificates.
pub fn tls_client(spec: &UpstreamTls) -> Result<Arc<ClientConfig>, String> {
    let contents: Vec<Content> = files(spec).into_iter().map(Content::read).collect();
    compile_tls(spec, &contents).map(|tls| tls.config)
}

fn files(tls: &UpstreamTls) -> Vec<PathBuf> {
    let pair = tls.certificate.iter().flat_map(|pair| [&pair.chain, &pair.key]);
    tls.ca.iter().chain(pair).cloned().collect()
}

/// Of a bundle of CAs: those of all browsers are a quarter of it.
const MOST_BYTES: u64 = 1024 * 1024;

/// A file as it was found.
struct Content {
    path: PathBuf,
    bytes: Result<Vec<u8>, String>,
}

impl Content {
    fn read(path: PathBuf) -> Content {
        let mut bytes = Vec::new();
        let read = config::open_regular(&path)
            .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
        let bytes = read.map(|_| bytes).map_err(|error| error.to_string());
        Content { path, bytes }
    }
}

fn fingerprint(contents: &[Content]) -> Vec<u8> {
    let mut all = digest::Context::new(&digest::SHA256);
    for content in contents {
        let (kind, bytes) = match &content.bytes {
            Ok(bytes) => (0u8, bytes.as_slice()),
            Err(error) => (1u8, error.as_bytes()),
        };
        all.update(&[kind]);
        all.update(digest::digest(&digest::SHA256, bytes).as_ref());
    }
    all.finish().as_ref().to_vec()
}

fn compile_tls(spec: &UpstreamTls, contents: &[Content]) -> Result<Tls, String> {
    let provider = Arc::new(provider::default_provider());
    let verifier = verifier(spec, contents, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &spec.certificate {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = certificates(contents, &pair.chain)?;
            let key = PrivateKeyDer::from_pem_slice(found(contents, &pair.key)?)
                .map_err(|_| unusable(&pair.key, "no private key in it"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable(&pair.chain, &error.to_string()))?
        }
    };
    // Each connection says what it wants; this is what `dial` falls back on.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server_name = spec
        .server_name
        .as_ref()
        .map(|name| ServerName::try_from(name.clone()))
        .transpose()
        .map_err(|_| "server_name is neither a host name nor an address".to_owned())?;
    Ok(Tls { config: Arc::new(config), server_name })
}

fn verifier(
    spec: &UpstreamTls,
    contents: &[Content],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if spec.insecure {
        return Ok(Arc::new(AcceptAnyCertificate(provider.clone())));
    }
    let roots = match &spec.ca {
        Some(path) => roots_in(contents, path)?,
        None => roots_of_the_system()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    verifier.map(|verifier| verifier as Arc<dyn ServerCertVerifier>).map_err(|e| e.to_string())
}

fn roots_in(contents: &[Content], path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(contents, path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// Read once per process, when the first upstream wants them.
fn roots_of_the_system() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err("this system has no CA certificates; set `ca`".to_owned()),
        false => Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone()),
    }
}

/// At least one.
fn certificates(contents: &[Content], path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(found(contents, path)?).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unusable(path, "no certificate in it")),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn found<'c>(contents: &'c [Content], path: &Path) -> Result<&'c [u8], String> {
    match contents.iter().find(|content| content.path == path).map(|content| &content.bytes) {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(error)) => Err(unusable(path, error)),
        None => Err(unusable(path, "not read")),
    }
}

fn unusable(path: &Path, why: &str) -> String {
    format!("{}: {why}", path.display())
}
