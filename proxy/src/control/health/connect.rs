//! A connection to an endpoint for one question, as requests are made: its transport's PROXY
//! header and TLS, or another port of the same host.

use std::io;
use std::net::SocketAddr;

use config::model::ProxyProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::failure::{Failure, Reason};
use crate::upstream::endpoint::{Endpoint, Target};
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
    _speak: Speak,
) -> Result<Connection, Failure> {
    let mut socket = socket(&endpoint.target, port).await.map_err(|why| refused(&why))?;
    if let Some(version) = transport.proxy_protocol {
        socket.write_all(proxy_header(version)).await.map_err(|why| refused(&why))?;
    }
    Ok(socket)
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

/// The edge speaks for itself here: UNKNOWN, LOCAL (proxy-protocol.txt §2.1, §2.2).
fn proxy_header(version: ProxyProtocolVersion) -> &'static [u8] {
    match version {
        ProxyProtocolVersion::V1 => b"PROXY UNKNOWN\r\n",
        ProxyProtocolVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
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
