//! A connection to an endpoint for one question, as requests are made: its transport's PROXY
//! header and TLS, or another port of the same host.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::failure::{Failure, Reason};
use crate::upstream::endpoint::{Endpoint, Target};
use crate::upstream::proxy_protocol;
use crate::upstream::transport::Transport;

/// A byte stream of whatever kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub type Connection = Box<dyn Io>;

/// What the connection will carry: what TLS offers by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak {
    Http1,
    Http2,
}

/// Connects; `port` in place of the endpoint's own (a unix socket has none).
pub async fn connect(
    endpoint: &Endpoint,
    port: Option<u16>,
    transport: &Transport,
    speak: Speak,
) -> Result<Connection, Failure> {
    let tls = match transport.client(endpoint) {
        None => None,
        Some(Ok(tls)) => Some(tls),
        Some(Err(rejection)) => return Err(unusable(transport, rejection.detail)),
    };
    let mut socket = socket(&endpoint.target, port).await.map_err(|why| refused(&why))?;
    if let Some(version) = transport.proxy_protocol {
        // No client: the edge asks for itself.
        let header = proxy_protocol::header(version, None);
        socket.write_all(&header).await.map_err(|why| refused(&why))?;
    }
    match tls {
        None => Ok(socket),
        Some((config, name)) => handshake(config, name, socket, speak).await,
    }
}

/// TLS on a stream that is connected.
pub async fn handshake(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    socket: Connection,
    speak: Speak,
) -> Result<Connection, Failure> {
    let alpn: &[u8] = match speak {
        Speak::Http1 => b"http/1.1",
        Speak::Http2 => b"h2",
    };
    let connector = TlsConnector::from(config);
    let connector = connector.with_alpn(vec![alpn.to_vec()]);
    let failed = |why: &dyn fmt::Display| Failure::new(Reason::TlsFailed, format!("TLS: {why}"));
    let stream = connector.connect(name, socket).await.map_err(|why| failed(&why))?;
    match stream.get_ref().1.alpn_protocol() {
        None if speak == Speak::Http2 => Err(failed(&"the endpoint does not speak HTTP/2")),
        Some(other) if other != alpn => Err(failed(&"another protocol was chosen")),
        _ => Ok(Box::new(stream)),
    }
}

fn unusable(transport: &Transport, detail: &str) -> Failure {
    let why = transport.problem().unwrap_or(detail);
    Failure::new(Reason::TlsFailed, format!("TLS cannot be used: {why}"))
}

async fn socket(target: &Target, port: Option<u16>) -> io::Result<Connection> {
    match target {
        Target::Tcp(address) => {
            let port = port.unwrap_or(address.port());
            let stream = TcpStream::connect(SocketAddr::new(address.ip(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

fn refused(why: &io::Error) -> Failure {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    let ours = matches!(why.raw_os_error(), Some(EMFILE | ENFILE))
        || why.kind() == io::ErrorKind::AddrNotAvailable;
    let reason = if ours { Reason::Local } else { Reason::ConnectFailed };
    Failure::new(reason, format!("connect: {}", why.kind()))
}
