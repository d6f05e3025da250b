//! A new connection to an endpoint: socket, PROXY header, TLS handshake, all within the one
//! deadline that the caller has set.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::{Endpoint, Target};
use super::io::UpstreamIo;
use super::proxy_protocol::{self, ProxySource};
use super::socket::Socket;
use super::tls::TlsEnd;
use super::transport::Transport;
use crate::request::cause::{Cause, Rejection};
use crate::state::Shared;
use crate::timer::{Fired, Timer};

/// What is spoken on a connection: offered by ALPN where there is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak {
    Http1,
    Http2,
}

/// Connects for HTTP/1.1. The wait ends with the timer, which the caller has set. `source` is sent
/// where the transport wants a PROXY header.
pub async fn dial(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    transport: &Transport,
    source: Option<&ProxySource>,
    timer: &Timer,
) -> Result<UpstreamIo, Rejection> {
    dial_for(Speak::Http1, shared, endpoint, transport, source, timer).await
}

/// Connects for the given protocol; its own handshake, if it has one, is not begun.
pub async fn dial_for(
    speak: Speak,
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    transport: &Transport,
    source: Option<&ProxySource>,
    timer: &Timer,
) -> Result<UpstreamIo, Rejection> {
    // A transport that cannot work makes no connections.
    let tls = transport.client(endpoint).transpose()?;
    within(timer, async {
        let mut socket = connect(&endpoint.target).await.map_err(|error| connect_error(&error))?;
        if let Some(version) = transport.proxy_protocol {
            let header = proxy_protocol::header(version, source);
            socket.write_all(&header).await.map_err(|error| connect_error(&error))?;
        }
        let proxied = transport.proxy_protocol.is_some();
        let Some((config, name)) = tls else { return Ok(UpstreamIo::plaintext(socket, proxied)) };
        let stream = handshake(TlsConnector::from(config), name, socket, speak).await?;
        Ok(UpstreamIo::tls(TlsEnd::new(shared, stream), proxied))
    })
    .await
}

/// Runs `step` until it is done or the timer fires.
pub async fn within<T>(
    timer: &Timer,
    step: impl Future<Output = Result<T, Rejection>>,
) -> Result<T, Rejection> {
    let mut step = std::pin::pin!(step);
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = step.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        match timer.check(cx) {
            Some(Fired::Deadline) => Poll::Ready(Err(Cause::ConnectTimeout.into())),
            Some(_) => Poll::Ready(Err(Cause::Draining.into())),
            None => Poll::Pending,
        }
    })
    .await
}

async fn connect(target: &Target) -> io::Result<Socket> {
    match target {
        Target::Tcp(address) => {
            let io = TcpStream::connect(address).await?;
            io.set_nodelay(true)?;
            crate::io::keep_alive(&SockRef::from(&io))?;
            Ok(Socket::Tcp(io))
        }
        Target::Unix(path) => unix(path).await.map(Socket::Unix),
    }
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

async fn handshake(
    connector: TlsConnector,
    name: ServerName<'static>,
    socket: Socket,
    speak: Speak,
) -> Result<TlsStream<Socket>, Rejection> {
    let alpn: &[u8] = match speak {
        Speak::Http1 => b"http/1.1",
        Speak::Http2 => b"h2",
    };
    let connecting = connector.with_alpn(vec![alpn.to_vec()]).connect(name, socket);
    let stream = connecting.await.map_err(|error| tls_failed(tls_detail(&error)))?;
    let agreed = stream.get_ref().1.alpn_protocol();
    // Who knows no ALPN speaks HTTP/1.1 (RFC 7301 §3.2 leaves it to us); HTTP/2 must be agreed on
    // (RFC 9113 §3.3).
    match (speak, agreed) {
        (Speak::Http2, None) => Err(tls_failed("alpn")),
        (_, Some(agreed)) if agreed != alpn => Err(tls_failed("alpn")),
        _ => Ok(stream),
    }
}

fn tls_failed(detail: &'static str) -> Rejection {
    Rejection { cause: Cause::UpstreamTlsFailed, detail }
}

/// Why a handshake failed, from a closed set.
fn tls_detail(error: &io::Error) -> &'static str {
    use AlertDescription as Alert;
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "closed"
            }
            _ => "handshake",
        };
    };
    match error {
        TlsError::InvalidCertificate(error) => certificate_detail(error),
        TlsError::NoApplicationProtocol | TlsError::AlertReceived(Alert::NoApplicationProtocol) => {
            "alpn"
        }
        TlsError::AlertReceived(Alert::UnrecognisedName) => "server_name",
        TlsError::AlertReceived(Alert::ProtocolVersion) | TlsError::PeerIncompatible(_) => {
            "version"
        }
        TlsError::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => "client_certificate",
        TlsError::InvalidMessage(_) => "not_tls",
        _ => "handshake",
    }
}

fn certificate_detail(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not_yet_valid"
        }
        CertificateError::UnknownIssuer => "unknown_issuer",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "name_mismatch"
        }
        CertificateError::Revoked => "revoked",
        _ => "bad_certificate",
    }
}

fn connect_error(error: &io::Error) -> Rejection {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    let failed = |detail| Rejection { cause: Cause::ConnectFailed, detail };
    match error.kind() {
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => {
            Rejection { cause: Cause::OverCapacity, detail: "file_descriptors" }
        }
        ErrorKind::AddrNotAvailable => {
            Rejection { cause: Cause::OverCapacity, detail: "local_ports" }
        }
        ErrorKind::TimedOut => Cause::ConnectTimeout.into(),
        ErrorKind::ConnectionRefused => failed("refused"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => failed("unreachable"),
        // A unix socket: there is none, or not for us.
        ErrorKind::NotFound => failed("no_socket"),
        ErrorKind::PermissionDenied => failed("permission"),
        // A unix socket whose backlog is full.
        ErrorKind::WouldBlock => failed("backlog"),
        _ => Cause::ConnectFailed.into(),
    }
}
