//! Clients: raw HTTP/1.1 over TCP and TLS with chosen SNI and ALPN.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::wire::{Body, End, Framing, Head, PATIENCE, Stream, Wire};

/// An answer, complete or cut.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    pub body: Body,
    /// 1xx heads before it.
    pub interim: Vec<Head>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The answer was made by the edge, with this status and cause.
    #[track_caller]
    pub fn assert_cause(&self, status: u16, cause: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let told = self.header("proxy-status").unwrap_or_default();
        assert!(told.contains(cause), "Proxy-Status {told:?} does not name {cause}");
    }

    #[track_caller]
    pub fn assert_ok(&self, body: &str) {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.body.cut, None, "{self:?}");
        assert_eq!(self.text(), body);
    }
}

/// A blocking HTTP/1.1 connection.
pub struct Client {
    pub wire: Wire,
}

impl Client {
    pub fn plain(addr: SocketAddr) -> Client {
        let tcp = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        Client { wire: Wire::new(Stream::Plain(tcp)) }
    }

    /// From a chosen local address.
    pub fn from(local: IpAddr, addr: SocketAddr) -> Client {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(local, 0).into()).unwrap();
        socket.connect_timeout(&addr.into(), PATIENCE).unwrap();
        Client { wire: Wire::new(Stream::Plain(socket.into())) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes);
    }

    /// `GET path` with this Host on a kept connection.
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response()
    }

    pub fn response(&mut self) -> Response {
        self.response_to("GET").unwrap_or_else(|end| panic!("no answer: {end:?}"))
    }

    /// The final answer to a request of this method.
    pub fn response_to(&mut self, method: &str) -> Result<Response, End> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.wire.head()?;
            match head.status() {
                101 => break head,
                100..200 => interim.push(head),
                _ => break head,
            }
        };
        let status = head.status();
        let bodyless = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let framing = if bodyless {
            Framing::Length(0)
        } else {
            Framing::of(&head, Framing::UntilClose).ok_or(End::Garbage)?
        };
        let body = self.wire.body(framing);
        Ok(Response { status, head, body, interim })
    }

    /// Nothing but the end of the connection is left.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let (bytes, end) = self.wire.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert!(bytes.is_empty(), "unexpected bytes: {text:?}");
        assert_ne!(end, End::Timeout, "the connection stays open");
    }

    /// The connection is still good for a request.
    #[track_caller]
    pub fn assert_usable(&mut self, host: &str) {
        assert_eq!(self.get(host, "/").status, 200);
    }
}

/// How a TLS client greets.
#[derive(Clone)]
pub struct Tls {
    pub addr: SocketAddr,
    pub config: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the CA at `ca`; ALPN http/1.1.
    pub fn new(addr: SocketAddr, ca: &Path) -> Tls {
        let roots = CertificateDer::pem_file_iter(ca).unwrap().map(Result::unwrap);
        Tls::trusting(addr, roots, rustls::ALL_VERSIONS)
    }

    pub fn trusting(
        addr: SocketAddr,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Tls {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).unwrap();
        }
        let provider = Arc::new(default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Tls { addr, config: Arc::new(config) }
    }

    /// Believes any certificate.
    pub fn blind(addr: SocketAddr) -> Tls {
        let mut tls = Tls::trusting(addr, [], rustls::ALL_VERSIONS);
        let verifier = Arc::new(AnyCertificate);
        Arc::make_mut(&mut tls.config).dangerous().set_certificate_verifier(verifier);
        tls
    }

    /// Every handshake is a full one and shows the certificate.
    pub fn without_resumption(mut self) -> Tls {
        Arc::make_mut(&mut self.config).resumption = rustls::client::Resumption::disabled();
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Tls {
        let list = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::make_mut(&mut self.config).alpn_protocols = list;
        self
    }

    pub fn without_sni(mut self) -> Tls {
        Arc::make_mut(&mut self.config).enable_sni = false;
        self
    }

    /// A finished handshake; the error is the alert or the end of the connection.
    pub fn try_connect(&self, sni: &str) -> Result<Client, std::io::Error> {
        self.try_connect_after(b"", sni)
    }

    /// The same behind these bytes, which go out together with the hello.
    pub fn try_connect_after(&self, opening: &[u8], sni: &str) -> Result<Client, std::io::Error> {
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let mut conn = ClientConnection::new(self.config.clone(), name).unwrap();
        let mut tcp = TcpStream::connect_timeout(&self.addr, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let mut first = opening.to_vec();
        conn.write_tls(&mut first)?;
        tcp.write_all(&first)?;
        while conn.is_handshaking() {
            conn.complete_io(&mut tcp)?;
        }
        let stream = Stream::Tls(Box::new(StreamOwned::new(conn, tcp)));
        Ok(Client { wire: Wire::new(stream) })
    }

    pub fn connect(&self, sni: &str) -> Client {
        self.try_connect(sni).unwrap_or_else(|e| panic!("handshake with {sni}: {e}"))
    }
}

impl Client {
    /// The TLS side of the connection.
    pub fn tls(&self) -> &ClientConnection {
        match &self.wire.stream {
            Stream::Tls(tls) => &tls.conn,
            Stream::Plain(_) => panic!("not a TLS connection"),
        }
    }

    /// The certificate that was shown.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.tls().peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// Whether anything comes within `wait`.
    pub fn is_silent_for(&mut self, wait: Duration) -> bool {
        self.wire.peek(wait).is_empty()
    }
}

/// For those that look at the certificate themselves.
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
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
