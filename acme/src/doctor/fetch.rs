//! One GET as a validating CA makes it: to a given address, through redirects, certificates
//! unchecked, no proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Context;
use super::dns::Dns;
use super::target::Target;

/// Let's Encrypt's number.
const MAX_REDIRECTS: usize = 10;
/// Bytes of a body that are read: an answer has about 90.
const MAX_BODY: usize = 1024;
/// Characters of a foreign answer that are shown.
const SHOWN: usize = 60;

/// How it ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The expected answer, after these redirects.
    Ours { redirects: Vec<String> },
    /// No connection to the first address.
    NoConnection(io::Error),
    /// Connected, and then nothing useful in time.
    Silent,
    /// An answer, but not the expected one.
    Foreign { answer: String, redirects: Vec<String> },
    /// A redirect that leads nowhere.
    LostRedirect { why: String },
    /// The connection broke, or what came is no HTTP.
    Broken(String),
}

/// Asks `address` for the challenge; within [`Context::patience`].
pub(super) async fn fetch(
    start: &Target,
    address: IpAddr,
    expected: &str,
    context: &Context,
    dns: &Dns,
) -> Outcome {
    let deadline = tokio::time::Instant::now() + context.patience;
    let connecting = connect(start, address, context);
    let first = match tokio::time::timeout_at(deadline, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Outcome::NoConnection(e),
        Err(_) => return Outcome::NoConnection(io::ErrorKind::TimedOut.into()),
    };
    let asking = Box::pin(ask(start, address, first, expected, context, dns));
    tokio::time::timeout_at(deadline, asking).await.unwrap_or(Outcome::Silent)
}

async fn ask(
    start: &Target,
    address: IpAddr,
    first: TcpStream,
    expected: &str,
    context: &Context,
    dns: &Dns,
) -> Outcome {
    let mut target = start.clone();
    let mut stream = Some(first);
    let mut redirects = Vec::new();
    loop {
        let tcp = match stream.take() {
            Some(tcp) => tcp,
            None => match reconnect(&target, start, address, context, dns).await {
                Ok(tcp) => tcp,
                Err(why) => return lost(&target, &why),
            },
        };
        let reply = match request(&target, tcp).await {
            Ok(reply) => reply,
            Err(why) if redirects.is_empty() => return Outcome::Broken(why),
            Err(why) => return lost(&target, &why),
        };
        if !reply.status().is_redirection() {
            return read_answer(reply, expected, redirects).await;
        }
        let location = reply.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        let Some(location) = location else {
            return Outcome::LostRedirect { why: "it redirects without saying where".to_owned() };
        };
        if redirects.len() == MAX_REDIRECTS {
            let why = format!("more than {MAX_REDIRECTS} redirects, the last to {target}");
            return Outcome::LostRedirect { why };
        }
        target = match target.follow(location) {
            Ok(next) => next,
            Err(why) => {
                let why = format!("it redirects to {} ({why})", printable(location.as_bytes()));
                return Outcome::LostRedirect { why };
            }
        };
        redirects.push(printable(target.to_string().as_bytes()));
    }
}

fn lost(target: &Target, why: &str) -> Outcome {
    let target = printable(target.to_string().as_bytes());
    Outcome::LostRedirect { why: format!("it redirects to {target}, and there: {why}") }
}

/// The same host keeps its address; another one has its own.
async fn reconnect(
    target: &Target,
    start: &Target,
    address: IpAddr,
    context: &Context,
    dns: &Dns,
) -> Result<TcpStream, String> {
    let address = if target.host == start.host {
        address
    } else {
        let found = dns.first_address(&target.host).await;
        found.ok_or_else(|| format!("DNS has no address of {}", target.host))?
    };
    connect(target, address, context).await.map_err(|e| e.to_string())
}

async fn connect(target: &Target, address: IpAddr, context: &Context) -> io::Result<TcpStream> {
    let port = if target.port == 443 { context.https_port } else { context.http_port };
    TcpStream::connect(SocketAddr::new(address, port)).await
}

async fn request(target: &Target, tcp: TcpStream) -> Result<Response<Incoming>, String> {
    if !target.tls {
        return exchange(target, tcp).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
    let connector = TlsConnector::from(Arc::new(tls_config()?));
    let tls = connector.connect(name, tcp).await.map_err(|e| format!("TLS: {e}"))?;
    exchange(target, tls).await
}

async fn exchange<S>(target: &Target, stream: S) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Ends with the response, which owns the other half.
    tokio::spawn(connection);
    let request = Request::get(&target.path)
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("openclaw-edge/", env!("CARGO_PKG_VERSION"), " check"))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    sender.send_request(request).await.map_err(|e| match std::error::Error::source(&e) {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    })
}

async fn read_answer(reply: Response<Incoming>, expected: &str, redirects: Vec<String>) -> Outcome {
    let status = reply.status();
    let server = reply.headers().get(header::SERVER).map(|value| printable(value.as_bytes()));
    let mut body = reply.into_body();
    let mut read = Vec::new();
    while read.len() < MAX_BODY {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(&data[..data.len().min(MAX_BODY - read.len())]);
        }
    }
    // RFC 8555 §8.3: blanks at the end are ignored.
    if status.is_success() && read.trim_ascii_end() == expected.as_bytes() {
        return Outcome::Ours { redirects };
    }
    let mut answer = format!("status {}", status.as_u16());
    if let Some(server) = server {
        answer += &format!(", Server: {server}");
    }
    if !read.is_empty() {
        answer += &format!(", {:?}", printable(&read));
    }
    Outcome::Foreign { answer, redirects }
}

/// The first characters of foreign bytes, without what a terminal would act on.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN).collect()
}

fn tls_config() -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// A CA checks no certificate on the way to a challenge: there may be none that is good yet.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
